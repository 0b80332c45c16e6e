"""Every file in examples/ runs, and prints what it says it does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import clips
import pytest

import bsqcodec

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """in.y4m and two .bsq files of it in videos/."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "in.y4m").write_bytes(clips.y4m_bytes(9, 64, 48))
    (folder / "videos").mkdir()
    for name in "ab":
        bsqcodec.encode(folder / "in.y4m", folder / "videos" / f"{name}.bsq", keyint=4, device="cpu")
    return folder


def run(name: str, *args: Path) -> list[str]:
    """The lines that an example prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


def test_arrays(tmp_path):
    made, frame, memory = run("arrays.py", tmp_path / "out.bsq")
    assert numbers(made)[:2] == [12, (tmp_path / "out.bsq").stat().st_size] and numbers(made)[2] > 30
    assert frame.startswith("frame 7 at 0.28 s") and numbers(frame)[2] < 5
    assert memory.endswith(" 3 frames")


def test_tensors(folder, tmp_path):
    (line,) = run("tensors.py", folder / "videos" / "a.bsq", tmp_path / "out.bsq")
    assert line.startswith("9 frames on ")
    with bsqcodec.open(folder / "videos" / "a.bsq", device="cpu") as video:
        before = next(iter(video)).rgb.astype(int)
    with bsqcodec.open(tmp_path / "out.bsq", device="cpu") as video:
        after = next(iter(video)).rgb.astype(int)
    assert abs(after[::-1] - before).mean() < 12 < abs(after - before).mean()


def test_tokens(folder):
    shapes, whole, part = run("tokens.py", folder / "in.y4m")
    assert shapes.startswith("bits (3, 6, 8, 2304), packed (3, 6, 8, 288), ")
    assert numbers(whole)[-1] > numbers(part)[-1] > 15


def test_training(folder):
    first, *batches = run("training.py", folder / "videos")
    assert first == "4 clips of 4 frames"
    assert [line.partition(", loss")[0] for line in batches] == ["batch (2, 4, 3, 48, 64)"] * 2


def test_no_example_is_left_out():
    tested = {f"{name.removeprefix('test_')}.py" for name in globals() if name.startswith("test_")}
    assert {path.name for path in (ROOT / "examples").glob("*.py")} <= tested
