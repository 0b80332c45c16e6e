"""Tables of a benchmark: curves, results.csv, BD-rates, speed; from made-up records whose BD-rates are known."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
import report_samples as samples

from bsqcodec.bench import series, tables
from bsqcodec.errors import UsageError


@pytest.fixture(scope="module")
def records():
    return samples.records()


def test_order_of_codecs_is_ours_then_the_anchors_from_plain_to_best(records):
    extra = [
        r | {"codec": r["codec"] | {"name": n, "setting": s}} for r in records[:1] for n, s in (("svtav1", "best"),)
    ]
    assert series.codecs_of([*reversed(records), *extra]) == [*samples.CODECS, "svtav1:best"]
    assert series.default_anchor(records) == "x264:paper"
    assert series.default_anchor([r for r in records if r["codec"]["name"] == "bsqcodec"]) is None


def test_every_codec_looks_different_without_its_colour():
    keys = [f"{name}:{s}" for name in ("x264", "x265", "svtav1") for s in ("paper", "lowdelay", "best")]
    keys += [f"bsqcodec:{tune}{preset}" for tune in ("psnr", "ms-ssim") for preset in ("", "-fast", "-slow")]
    looks = {(look.marker, look.filled, look.dash) for look in map(series.style, keys)}
    assert len(looks) == len(keys)


def test_mean_curve_takes_only_settings_that_every_clip_has(records):
    whole = series.mean_curve(records, "x264:paper", "psnr_yuv")
    assert len(whole) == 5
    chosen = [r for r in records if series.codec_of(r) == "x264:paper" and r["quality"] == 27]
    expected = np.mean([r["bpp"] for r in chosen]), np.mean([r["metrics"]["psnr_yuv"]["mean"] for r in chosen])
    assert any(point == pytest.approx(expected) for point in whole)
    assert len(series.mean_curve(samples.without(records, "x264:paper", "bee", 3), "x264:paper", "psnr_yuv")) == 3


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
    table = tables.bd_table(samples.without(records, "x265:best", "flower", 2), "psnr_yuv", "x264:paper")
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
