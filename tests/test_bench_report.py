"""The page of a benchmark: whole, escaped, without requests, and true to the records."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_samples as samples

from bsqcodec.bench import series
from bsqcodec.bench.contents import contents
from bsqcodec.bench.html import write_report
from bsqcodec.errors import UsageError

NASTY = samples.CLIPS[2][0]
VOID = {"meta", "link", "img", "input", "br", "hr"}


@pytest.fixture(scope="module")
def records():
    return samples.records()


@pytest.fixture(scope="module")
def picture():
    return samples.picture()


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
    partial = samples.without(records, "x265:best", "flower", 2)
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
