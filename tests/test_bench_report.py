"""The tables, plots, pictures and the page of a benchmark, from made-up records whose BD-rates are known."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import report_samples as samples
from PIL import Image

from bsqcodec.bench import charts, pictures, plots, series, tables
from bsqcodec.bench.contents import contents
from bsqcodec.bench.html import write_report
from bsqcodec.errors import UsageError
from bsqcodec.metrics import frame_psnr

NASTY = samples.CLIPS[2][0]
VOID = {"meta", "link", "img", "input", "br", "hr"}


@pytest.fixture(scope="module")
def records():
    return samples.records()


@pytest.fixture(scope="module")
def picture():
    frame = samples.frames(1)[0]
    coded = pictures.Coded("bsqcodec:psnr, crf 30", 12345, 0.0123), pictures.Coded("x265:paper <&>", 12300, 0.0122)
    worse = samples.coarser(frame, 8), samples.coarser(frame, 20)
    return pictures.make_picture(NASTY, 7, frame, *worse, ours_is=coded[0], other_is=coded[1])


def without(records, codec, clip, keep):
    """The records, with only `keep` points of one codec on one clip."""
    chosen = [r for r in records if series.codec_of(r) == codec and r["clip"]["name"] == clip]
    return [r for r in records if r not in chosen[keep:]]


# --- records and tables ---------------------------------------------------------------------------


def test_order_of_codecs_is_ours_then_the_anchors_from_plain_to_best(records):
    extra = [
        r | {"codec": r["codec"] | {"name": n, "setting": s}} for r in records[:1] for n, s in (("svtav1", "best"),)
    ]
    assert series.codecs_of([*reversed(records), *extra]) == [*samples.CODECS, "svtav1:best"]
    assert series.default_anchor(records) == "x264:paper"
    assert series.default_anchor([r for r in records if r["codec"]["name"] == "bsqcodec"]) is None


def test_every_codec_looks_different_without_its_colour():
    keys = [f"{name}:{s}" for name in ("x264", "x265", "svtav1") for s in ("paper", "lowdelay", "best")]
    looks = {(look.marker, look.filled, look.dash) for look in map(series.style, ["bsqcodec:psnr", *keys])}
    assert len(looks) == len(keys) + 1


def test_mean_curve_takes_only_settings_that_every_clip_has(records):
    whole = series.mean_curve(records, "x264:paper", "psnr_yuv")
    assert len(whole) == 5
    chosen = [r for r in records if series.codec_of(r) == "x264:paper" and r["quality"] == 27]
    expected = np.mean([r["bpp"] for r in chosen]), np.mean([r["metrics"]["psnr_yuv"]["mean"] for r in chosen])
    assert any(point == pytest.approx(expected) for point in whole)
    assert len(series.mean_curve(without(records, "x264:paper", "bee", 3), "x264:paper", "psnr_yuv")) == 3


def test_identical_video_is_no_point_of_a_curve(records):
    metrics = records[0]["metrics"] | {"psnr_yuv": {"mean": 100.0, "min": 100.0, "harmonic": 100.0, "frames": ["inf"]}}
    clip, codec = records[0]["clip"]["name"], series.codec_of(records[0])
    changed = [records[0] | {"metrics": metrics}, *records[1:]]
    assert len(series.curve_of(changed, clip, codec, "psnr_yuv")) == 4
    assert len(series.curve_of(changed, clip, codec, "psnr_rgb")) == 5


def test_csv_has_a_row_a_record_and_reads_back(records, tmp_path):
    path = tables.write_csv(tmp_path / "results.csv", records)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row["clip"] == record["clip"]["name"]
        assert float(row["bpp"]) == record["bpp"]
        assert float(row["psnr_yuv_min"]) == record["metrics"]["psnr_yuv"]["min"]
        assert (row["codec"], row["setting"], row["options"]) == tuple(
            record["codec"][key] for key in ("name", "setting", "options")
        )
        assert (row["fps"], row["vmaf_mean"]) == ("30000/1001", "")
    bare = [{"clip": {"name": "a"}, "codec": {"name": "x264", "setting": "paper"}, "metrics": {}}]
    header = tables.write_csv(tmp_path / "bare.csv", bare).read_text().splitlines()[0]
    assert header == path.read_text().splitlines()[0]  # the columns never depend on what was measured
    assert {p.name for p in tmp_path.iterdir()} == {"results.csv", "bare.csv"}


@pytest.mark.parametrize("metric", series.METRICS)
def test_bd_table_gives_the_factor_between_the_curves(records, metric):
    table = tables.bd_table(records, metric, "x264:paper")
    assert table.codecs == ("bsqcodec:psnr", "x265:paper", "x265:best")
    for codec in table.codecs:
        expected = (samples.CODECS[codec][0] - 1) * 100
        assert table.mean(codec) == pytest.approx(expected, abs=0.02)
        assert [table.cells[clip, codec].percent for clip in table.clips] == pytest.approx([expected] * 3, abs=0.02)
    assert table.mean_text("x265:paper") == "-28.0 %"
    assert table.refusals() == []


def test_bd_table_has_no_mean_when_a_clip_has_no_figure(records):
    table = tables.bd_table(without(records, "x265:best", "flower", 2), "psnr_yuv", "x264:paper")
    assert table.cells["flower", "x265:best"].percent is None
    assert (table.mean("x265:best"), table.mean_text("x265:best")) == (None, "2 of 3")
    assert [(clip, codec) for clip, codec, reason in table.refusals() if reason] == [("flower", "x265:best")]
    assert table.mean("bsqcodec:psnr") == pytest.approx(30, abs=0.02)


def test_bd_table_refuses_an_anchor_that_was_not_measured(records):
    with pytest.raises(UsageError, match=r"^anchor svtav1:best: not among .*x265:paper"):
        tables.bd_table(records, "psnr_yuv", "svtav1:best")


def test_speed_is_frames_over_seconds_and_the_largest_memory(records):
    chosen = [r for r in records if series.codec_of(r) == "x264:paper"]
    chosen[0] = chosen[0] | {"encode": {"seconds": 100.0, "fps": 0.32, "peak_mib": 500.0}}
    (row,) = tables.speed_table(chosen)
    seconds = sum(r["encode"]["seconds"] for r in chosen)
    assert row.encode_fps == pytest.approx(samples.FRAMES * len(chosen) / seconds)
    assert (row.encode_mib, row.decode_mib, row.threads, row.points) == (500.0, 60.0, (1,), 15)
    (row,) = tables.speed_table([{k: v for k, v in r.items() if k != "decode"} for r in chosen])
    assert (row.decode_fps, row.decode_mib) == (None, None)


def test_nearest_rate_is_nearest_as_a_ratio(records):
    rates = sorted(r["bpp"] for r in series.points_of(records, "bee", "x264:paper"))
    between = math.sqrt(rates[1] * rates[2])
    assert tables.nearest_rate(records, "bee", "x264:paper", between * 0.99)["bpp"] == rates[1]
    assert tables.nearest_rate(records, "bee", "x264:paper", between * 1.01)["bpp"] == rates[2]
    assert tables.nearest_rate(records, "bee", "svtav1:best", 0.1) is None


# --- plots and charts -----------------------------------------------------------------------------


def test_plots_are_four_readable_files_with_every_codec_in_them(records, tmp_path):
    made = plots.write_plots(tmp_path, records)
    assert [path.name for path in made] == ["rd_psnr.png", "rd_psnr.svg", "rd_ms_ssim.png", "rd_ms_ssim.svg"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made}
    image = np.asarray(Image.open(made[0]).convert("RGB"))
    assert image[0, 0].tolist() == [255, 255, 255]
    for codec in samples.CODECS:
        colour = [int(series.style(codec).colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (image == colour).all(axis=-1).sum() > 200
    root = ElementTree.parse(made[1]).getroot()
    assert root.tag.endswith("svg")
    again = plots.write_plots(tmp_path, records)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in made]


def test_plots_leave_out_a_metric_that_no_record_has(records, tmp_path):
    bare = [r | {"metrics": {"psnr_yuv": r["metrics"]["psnr_yuv"]}} for r in records if r["clip"]["name"] == "bee"]
    assert [path.name for path in plots.write_plots(tmp_path, bare)] == ["rd_psnr.png", "rd_psnr.svg"]


def test_plots_without_matplotlib_say_what_to_install(records, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"bsqcodec\[bench\]"):
        plots.write_plots(tmp_path, records)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.02, 0.45, 6, [0.025, 0.05, 0.1, 0.2, 0.4]),
        (0.0125, 0.2, 8, [0.0125, 0.025, 0.05, 0.1, 0.2]),
        (0.0125, 0.2, 3, [0.0125, 0.05, 0.2]),
        (0.11, 0.15, 6, [0.11, 0.15]),
    ],
)
def test_rate_ticks_double(low, high, most, expected):
    assert plots.rate_ticks(low, high, most) == pytest.approx(expected)


def marks(svg: str) -> list[tuple[float, float]]:
    """Centres of the markers of a chart drawn with circles."""
    found = re.findall(r'class="mark[^"]*" d="M([\d.]+) ([\d.]+)a', svg)
    return [(float(x) + charts.R, float(y)) for x, y in found]


def test_chart_places_points_by_the_logarithm_of_the_rate():
    points = [charts.Point(0.01 * 2**i, 30.0 + 2 * i, f"point {i} <&>") for i in range(4)]
    svg = charts.rd_chart({"bsqcodec:psnr": points}, title='a "b"', y_label="dB", width=420, height=310)
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'a "b"'
    assert [t.text for t in root.iter("title")] == [p.text for p in points]
    placed = marks(svg)
    steps = np.diff(placed, axis=0)
    assert steps[:, 0] == pytest.approx([steps[0, 0]] * 3, abs=0.11)  # the same ratio, the same distance
    assert steps[:, 1] == pytest.approx([steps[0, 1]] * 3, abs=0.11)
    assert steps[0, 0] > 50 > 0 > steps[0, 1]
    for x, y in placed:
        assert charts.LEFT < x < 420 - charts.RIGHT
        assert charts.TOP < y < 310 - charts.BOTTOM


@pytest.mark.parametrize("points", [[], [charts.Point(0.1, 30.0, "only")]])
def test_chart_of_one_point_or_none(points):
    svg = charts.rd_chart({"bsqcodec:psnr": points}, title="t", y_label="dB", width=420, height=310)
    assert len(marks(svg)) == len(points)
    assert ("no point" in svg) == (not points)
    assert "nan" not in svg


def test_bits_chart_steps_once_a_frame_and_survives_empty_frames():
    svg = charts.bits_chart({"bsqcodec:psnr": [100.0, 5.0, 0.0, 6.0]}, title="t", width=420, height=220)
    (path,) = re.findall(r'class="line" d="M([^"]+)"', svg)
    corners = [tuple(map(float, corner.split())) for corner in path.split("L")]
    assert len(corners) == 8
    heights = [y for _, y in corners[::2]]
    assert heights[0] < heights[3] < heights[1] < heights[2] == 220 - charts.BOTTOM
    long = charts.bits_chart({"bsqcodec:psnr": [1.0, 2.0] * 500}, title="t", width=420, height=220)
    assert long.count("L") < 2 * charts.MAX_FRAMES + 10


def test_ticks_are_round_and_inside():
    assert charts.linear_ticks(33.2, 40.9, 6) == [34, 36, 38, 40]
    assert charts.linear_ticks(0.1, 0.45, 4) == [0.1, 0.2, 0.3, 0.4]
    assert charts.linear_ticks(5, 5, 4) == []
    assert charts.log_ticks(3, 150) == [5, 10, 20, 50, 100]
    assert charts.log_ticks(0.01, 90_000) == pytest.approx([0.01, 0.1, 1, 10, 100, 1000, 10000])


# --- pictures -------------------------------------------------------------------------------------


def test_crop_is_where_the_pictures_differ_most():
    flat = np.full((200, 300), 128, np.uint8)
    other = flat.copy()
    other[60:70, 10:290] += 3  # a wide faint difference
    other[150:170, 200:220] += 60  # a small strong one
    x, y, width, height = pictures.find_crop(flat, other, (64, 48))
    assert (width, height) == (64, 48)
    assert x <= 200 and x + 64 >= 220 and y <= 150 and y + 48 >= 170
    assert other.astype(int)[y : y + 48, x : x + 64].sum() - 128 * 64 * 48 == 20 * 20 * 60


def test_crop_of_identical_pictures_is_where_the_detail_is():
    plane = np.full((200, 300), 128, np.uint8)
    plane[20:40:2, 30:50] = 255
    x, y, _, _ = pictures.find_crop(plane, plane, (64, 48))
    assert x <= 30 and x + 64 >= 50 and y <= 20 and y + 48 >= 40
    assert pictures.find_crop(plane[:20, :30], plane[:20, :30]) == (0, 0, 30, 20)  # no larger than the picture


def test_picture_knows_the_quality_of_its_frame(picture):
    frame = samples.frames(1)[0]
    assert picture.shots[0].psnr is None
    assert picture.shots[1].psnr == pytest.approx(frame_psnr(frame, samples.coarser(frame, 8)).yuv)
    assert picture.shots[1].facts == f"{picture.shots[1].psnr:.2f} dB, 0.0123 bpp, 12,345 bytes"
    assert picture.shots[1].psnr > picture.shots[2].psnr
    same = pictures.make_picture("a", 0, frame, frame, frame, ours_is=pictures.Coded("x"), other_is=pictures.Coded("y"))
    assert same.shots[1].facts == "identical"


def decoded(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_images_of_the_page_are_lossless_while_they_fit(picture):
    ((whole, *_),), lossless = pictures.page_images([picture], 2**30)
    assert lossless
    assert np.array_equal(decoded(whole), picture.shots[0].rgb)
    (rows,), lossless = pictures.page_images([picture], 1000)
    assert not lossless
    error = np.abs(decoded(rows[0]).astype(int) - picture.shots[0].rgb)
    assert 0 < error.mean() < 3
    x, y, width, height = picture.crop
    for uri, shot in zip(pictures.crop_images(picture), picture.shots, strict=True):
        assert np.array_equal(decoded(uri), shot.rgb[y : y + height, x : x + width])


def test_wide_pictures_are_made_smaller(picture):
    wide = np.repeat(np.repeat(picture.shots[0].rgb, 3, axis=0), 3, axis=1)[:90]
    shots = tuple(pictures.Shot(str(i), wide) for i in range(3))
    (rows,), _ = pictures.page_images([pictures.Picture("a", 0, shots, (0, 0, 8, 8))], 0)
    assert decoded(rows[0]).shape == (60, pictures.MAX_WIDTH, 3)


def test_sheet_shows_the_frames_and_the_enlarged_crop(picture):
    image = np.asarray(pictures.sheet(picture.shots, picture.crop))
    height, width = picture.shots[0].rgb.shape[:2]
    x, y, crop_width, crop_height = picture.crop
    top, left = 2 * pictures.CAPTION, width + pictures.GAP
    inside = image[top : top + y, left : left + width]
    assert np.array_equal(inside, picture.shots[1].rgb[:y])
    zoom = width // crop_width
    below = image[top + height + pictures.GAP :, left : left + crop_width * zoom]
    part = picture.shots[1].rgb[y : y + crop_height, x : x + crop_width]
    assert np.array_equal(below, part.repeat(zoom, 0).repeat(zoom, 1))


# --- the page -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags with their attributes, the visible text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


ABOUT = {
    "dataset": "mini <1>",
    "licence": "CC0 1.0",
    "command": 'bsqcodec bench --data "a & b"',
    "versions": {"PyAV": "18.1.0"},
    "failures": ["x265:paper, bee: <encoder> failed"],
    "notes": ["a remark"],
}


def page_of(tmp_path: Path, records, pictures=(), about=ABOUT) -> Page:
    path = write_report(tmp_path, records, pictures, about)
    assert path == tmp_path / "report.html"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def page(records, picture, tmp_path_factory):
    partial = without(records, "x265:best", "flower", 2)
    return page_of(tmp_path_factory.mktemp("report"), partial, [picture])


def test_page_asks_nobody_for_anything(page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
        assert not any(name.startswith("on") for name in attributes)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    text = (write_report.__globals__["PAGE"] / "report.css").read_text()
    assert "url(" not in text and "@import" not in text


def test_page_escapes_every_text(page):
    assert page.text.count(NASTY) >= 6
    bold = [t for t, _ in page.tags].count("b")
    assert bold == 2 * len(samples.CODECS) + 3  # of the legends and the crops, and none of the clip's name
    assert "mini <1>" in page.text and "<encoder> failed" in page.text and "x265:paper <&>" in page.text
    assert any(a.get("alt", "").startswith(NASTY) for t, a in page.tags if t == "img")


def test_page_is_sound(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    sections = {a["id"] for t, a in page.tags if t == "section"}
    links = {a["href"][1:] for t, a in page.tags if t == "a"}
    assert links == sections
    assert {"bd-rate", "curves", "pictures", "bits", "speed", "codecs", "conventions", "notes", "points"} == sections
    described = {a["aria-describedby"] for t, a in page.tags if t == "table"}
    assert described <= set(ids)
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert [t for t, _ in page.tags].count("h1") == 1


def test_page_tells_the_results(page):
    assert "Over 3 clips, bsqcodec:psnr needs 30.0\N{NO-BREAK SPACE}% more bits than x264:paper" in page.text
    assert "+30.0\N{NO-BREAK SPACE}%" in page.text and "\N{MINUS SIGN}28.0\N{NO-BREAK SPACE}%" in page.text
    assert "2 of 3" in page.text
    needed = f"4 are needed ({', '.join(series.METRICS.values())})"
    assert page.text.count(needed) == 3  # x265:best with each of the three others, told once for all metrics
    assert page.text.count("flower, ") == 3
    for text in ("CC0 1.0", 'bsqcodec bench --data "a & b"', "PyAV 18.1.0", "abc1234", "2026-11-23 00:10 UTC"):
        assert text in page.text
    for _, label, options, library in samples.CODECS.values():
        assert label in page.text and options in page.text and library in page.text


def test_page_has_a_table_and_charts_for_every_choice(page):
    panels = [a for t, a in page.tags if "data-panel" in a]
    assert len([a for a in panels if "data-anchor" in a]) == 3 * 3
    assert len([a for a in panels if "data-anchor" not in a]) == 3 * 3
    charts_shown = [a for t, a in page.tags if t == "svg" and a["class"] == "chart"]
    assert len(charts_shown) == 2 + 9 + 3  # mean, per clip, bits


def test_best_value_of_a_row_is_bold_unless_the_anchor_is_better(records):
    shown = contents(records, [], {})
    table = next(t for t in shown["bd_tables"] if (t["metric"], t["anchor"]) == ("psnr_yuv", "x264:paper"))
    assert [[c["best"] for c in row["cells"]] for row in table["rows"]] == [[False, False, True]] * 3
    table = next(t for t in shown["bd_tables"] if (t["metric"], t["anchor"]) == ("psnr_yuv", "x265:best"))
    assert not any(cell["best"] for row in table["rows"] for cell in row["cells"])


def test_quality_in_the_options_is_written_as_n(records):
    crf = [r | {"codec": r["codec"] | {"options": f"-preset medium -crf {r['quality']:g} -g 32"}} for r in records]
    shown = contents(crf, [], {})["codecs"]
    assert [codec["options"] for codec in shown] == [["-preset medium -crf N -g 32"]] * 4
    assert shown[1]["qualities"] == "17, 22, 27, 32, 37"


def test_codecs_are_listed_with_their_key_frames_and_their_own_words(records, tmp_path):
    changed = [
        r | {"keyint": None, "codec": r["codec"] | {"settings": f"x264 <core> crf={r['quality']:g}"}}
        if series.codec_of(r) == "x264:paper"
        else r
        for r in records
    ]
    ours, x264, *_ = contents(changed, [], {})["codecs"]
    assert (ours["keyint"], ours["said"]) == ("at most 32 frames apart", [])
    assert x264["keyint"] == "as far apart as the encoder's default lets them be"
    assert x264["said"] == [("17", "x264 <core> crf=17")]
    assert "x264 <core> crf=17" in page_of(tmp_path, changed, about={}).text


def test_records_of_several_machines_are_noted(records, tmp_path):
    other = records[0] | {"machine": records[0]["machine"] | {"cpu": "another", "commit": "fffffff"}}
    text = page_of(tmp_path, [other, *records[1:]], about={}).text
    assert "2 different machines" in text and "2 different commits: fffffff, abc1234" in text


@pytest.mark.parametrize("kept", [["bsqcodec:psnr"], ["x264:paper", "x265:best"], ["bsqcodec:psnr", "x265:best"]])
def test_page_of_some_codecs(records, tmp_path, kept):
    text = page_of(tmp_path, [r for r in records if series.codec_of(r) in kept], about={}).text
    both = "bsqcodec:psnr" in kept and len(kept) == 2
    assert ("there is nothing to compare" in text) == (not both)
    assert ("than x265:best" in text) == both


def test_page_of_one_unfinished_clip_without_ms_ssim(records, tmp_path):
    few = [r for r in records if r["clip"]["name"] == "bee"][:7]
    few = [r | {"metrics": {"psnr_yuv": r["metrics"]["psnr_yuv"]}, "frame_bits": []} for r in few]
    text = page_of(tmp_path, few, about={}).text
    assert "no mean BD-rate of bsqcodec:psnr against x264:paper can be given" in text
    assert "bee, bsqcodec:psnr against x264:paper: the anchor has 2 usable points" in text


def test_page_needs_records_a_known_anchor_and_jinja2(records, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no measured point"):
        write_report(tmp_path, [], [], {})
    with pytest.raises(UsageError, match="anchor vvc:best"):
        write_report(tmp_path, records, [], {"anchor": "vvc:best"})
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"Jinja2.*bsqcodec\[bench\]"):
        write_report(tmp_path, records, [], {})
    assert not list(tmp_path.iterdir())
