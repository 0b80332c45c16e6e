"""benchmarks/failures.py: its cases are what they are called, and the card shows its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

failures = pytest.importorskip("failures", reason="needs the benchmark's packages")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cases():
    clip = list(failures.x264.read_frames(failures.CLIP, failures.FRAMES))
    return {name: failures.frames_of(make, clip) for name, make in failures.CASES.items()}


def luma(frames, t):
    return frames[t].y.astype(float)


def test_every_case_is_a_video_of_its_size(cases):
    for frames in cases.values():
        assert len(frames) == failures.FRAMES
        assert {f.y.shape for f in frames} == {(failures.HEIGHT, failures.WIDTH)}
        assert {f.u.shape for f in frames} == {(failures.HEIGHT // 2, failures.WIDTH // 2)}


def test_cases_are_what_they_are_called(cases):
    plain, grain = cases["the clip as it is"], cases["grain"]
    noise = [luma(grain, t) - luma(plain, t) for t in (0, 1)]
    assert noise[0].std() == pytest.approx(failures.GRAIN, rel=0.1)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05
    assert np.array_equal(luma(cases["text"], 0)[3:], luma(cases["text"], 1)[:-3])
    assert set(np.unique(cases["fade"][-1].y)) == {failures.BLACK}
    pan = cases["fast motion"]
    assert np.array_equal(luma(pan, 0)[:, 22:], luma(pan, 1)[:, :-22])


def test_table_and_sheet_have_a_row_for_each_case():
    picture = Image.new("RGB", failures.PART[2:], "gray")
    rows = [failures.Row(name, -1.5, None, [(name, picture)] * 3) for name in failures.CASES]
    assert failures.table(rows).splitlines()[2:] == [f"| {name} | -1.5 % | no overlap |" for name in failures.CASES]
    made = failures.sheet(rows)
    assert made.size == (3 * 200 + 2 * failures.GAP, len(rows) * (112 + failures.CAPTION))
    assert "](docs/failures.png)" in (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert Image.open(ROOT / "docs" / "failures.png").size == made.size
