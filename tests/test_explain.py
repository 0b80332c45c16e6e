"""docs/how_it_works.md: its pictures are there, small, and what benchmarks/explain.py draws."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import clips
import numpy as np
import pytest
from PIL import Image

explain = pytest.importorskip("explain", reason="needs matplotlib")
ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
MAX_BYTES = 150_000


def test_every_picture_of_the_page_is_made_by_the_script_and_small(tmp_path):
    shown = re.findall(r"!\[[^\]]+\]\((images/[^)]+)\)", PAGE)
    assert explain.main([str(tmp_path)]) == 0
    assert {Path(name).name for name in shown} == {path.name for path in tmp_path.iterdir()}
    for name in shown:
        committed, made = Image.open(ROOT / "docs" / name), Image.open(tmp_path / Path(name).name)
        assert (ROOT / "docs" / name).stat().st_size < MAX_BYTES
        assert committed.size == made.size
        assert np.asarray(made.convert("L")).std() > 10  # not an empty sheet


def test_links_of_the_page_are_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert links and [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_planes_are_the_levels(tmp_path):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(2, 48, 32))
    frame = explain.coded(tmp_path / "in.y4m", 16.0)
    assert frame.rgb.shape == (32, 48, 3) and frame.levels.shape[:2] == frame.bits.shape[:2] == (4, 6)
    drawn = [axes.images[0].get_array() for axes in explain.bit_planes(frame).axes]
    levels = frame.levels[..., 0]
    wanted = [levels != 0, levels > 0, abs(levels) >= 2, abs(levels) >= 4]
    for plane, truth in zip(drawn[::4], wanted, strict=True):
        assert np.array_equal(plane, truth)
    assert wanted[0].any()


def test_the_curve_is_the_mean_of_the_results():
    with explain.RESULTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = {line.get_label(): line for line in explain.rate_distortion(rows).axes[0].lines}
    ours = [row for row in rows if row["codec"] == "bsqcodec"]
    finest = [row for row in ours if row["quality"] == min((r["quality"] for r in ours), key=float)]
    rates, values = lines[ours[0]["label"]].get_data()
    assert len(lines) == len({row["label"] for row in rows})
    assert rates[-1] == pytest.approx(np.mean([float(row["bpp"]) for row in finest]))
    assert values[-1] == pytest.approx(np.mean([float(row["psnr_yuv_mean"]) for row in finest]))
