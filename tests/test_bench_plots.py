"""Plots as files, and the charts of the report."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import report_samples as samples
from PIL import Image

from bsqcodec.bench import charts, plots, series
from bsqcodec.errors import UsageError


@pytest.fixture(scope="module")
def records():
    return samples.records()


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
    labels = [text.text for text in ElementTree.fromstring(svg).iter("text")]
    assert labels[:4] == ["0", "1", "2", "3"]  # frames have whole numbers
    assert heights[0] < heights[3] < heights[1] < heights[2] == 220 - charts.BOTTOM
    long = charts.bits_chart({"bsqcodec:psnr": [1.0, 2.0] * 500}, title="t", width=420, height=220)
    assert long.count("L") < 2 * charts.MAX_FRAMES + 10


def test_ticks_are_round_and_inside():
    assert charts.linear_ticks(33.2, 40.9, 6) == [34, 36, 38, 40]
    assert charts.linear_ticks(0.1, 0.45, 4) == [0.1, 0.2, 0.3, 0.4]
    assert charts.linear_ticks(5, 5, 4) == []
    assert charts.log_ticks(3, 150) == [5, 10, 20, 50, 100]
    assert charts.log_ticks(0.01, 90_000) == pytest.approx([0.01, 0.1, 1, 10, 100, 1000, 10000])
