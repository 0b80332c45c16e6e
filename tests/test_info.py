"""`scan` and `inspect`: every byte is counted, damage is reported, nothing is decoded."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from container_samples import (
    AUDIO,
    HEADER,
    STATS,
    WHOLE,
    Pipe,
    chunks,
    regular_group,
)

from bsqcodec.container import StreamWriter, scan
from bsqcodec.errors import BitstreamError, BsqError, TruncatedError
from bsqcodec.frames import TrackPacket
from bsqcodec.info import inspect


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize("check", [False, True])
def test_scan_counts_every_byte(pipe: bool, check: bool) -> None:
    report = scan(Pipe(WHOLE) if pipe else io.BytesIO(WHOLE), check=check)  # type: ignore[arg-type]
    assert report.complete and report.damage is None
    assert report.size == len(WHOLE) == sum(report.bytes.values()) == 12 + sum(report.chunks.values())
    assert report.bytes["motion"] == 4 * 200 and report.bytes["tokens"] == 4 * 600
    assert report.bytes["audio"] >= 4 * 900 and report.bytes["subtitles"] == 4 * 5
    assert report.bytes["other"] == 0
    assert (report.stats, report.meta["title"], report.frames) == (STATS, "Größe", 128)
    assert [group.end_pts for group in report.groups] == [32 * 1001 * (n + 1) for n in range(4)]


def test_inspect(tmp_path: Path) -> None:
    path = tmp_path / "clip.bsq"
    path.write_bytes(WHOLE)
    summary = inspect(path, check=True)
    seconds = 128 * 1001 / 30000
    assert summary.complete and summary.damage is None and summary.frames == 128
    assert summary.duration == pytest.approx(seconds)
    assert summary.bits_per_pixel == pytest.approx(8 * len(WHOLE) / (640 * 360 * 128))
    assert summary.kbit_per_s == pytest.approx(8 * len(WHOLE) / seconds / 1000)
    assert summary.token_bits == {"1": 5000, "2": 2500} and summary.psnr == (33.125, math.inf, 40.0)
    assert summary.weights_id == "00010203" and summary.format_version == "2.0"
    plain = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert plain["video"]["fps"] == "30000/1001" and plain["psnr"][1] == "inf" and len(plain["groups"]) == 4
    text = "\n".join(summary.lines())
    for fact in ("640x360", "converted from yuv444p10le", "turned 270", "128 frames", "00010203", "33.125", "aac"):
        assert fact in text


def test_inspect_of_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "cut.bsq"
    cut = [offset for offset, kind, _ in chunks(WHOLE) if kind == b"GRUP"][2] + 100
    path.write_bytes(WHOLE[:cut])
    summary = inspect(path)
    assert not summary.complete and summary.damage is not None and "cut short" in summary.damage
    assert summary.frames == 64 and sum(summary.bytes.values()) == cut
    assert summary.to_dict()["damage_at"]["truncated"] is True
    assert any("CUT SHORT" in line for line in summary.lines())
    with pytest.raises(BsqError, match=r"missing.bsq: No such file"):
        inspect(tmp_path / "missing.bsq")
    path.write_bytes(b"")
    with pytest.raises(BitstreamError, match=r"not a .bsq file"):
        inspect(path)
    path.write_bytes(WHOLE[:20])
    with pytest.raises(TruncatedError):
        inspect(path)


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "hostile.bsq"
    with path.open("wb") as file:
        StreamWriter(file, replace(HEADER, model="\x1b[2Jevil\n")).close()
    text = inspect(path).lines()
    assert all(line.isprintable() for line in text) and any("?[2Jevil?" in line for line in text)


def test_a_last_frame_of_unknown_length_lasts_one_period(tmp_path: Path) -> None:
    path = tmp_path / "still.bsq"
    with path.open("wb") as file:
        writer = StreamWriter(file, HEADER)
        writer.write_group(replace(regular_group(0, 1), durations=(0,)))
        writer.close()
    assert inspect(path).duration == pytest.approx(1001 / 30000)


def test_a_long_file_is_inspected_quickly_and_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "long.bsq"
    with path.open("wb") as file:
        writer = StreamWriter(file, HEADER, [AUDIO])
        for n in range(1000):
            writer.write_packets([TrackPacket(0, b"x" * 2000, n, n, 1, True)])
            writer.write_group(regular_group(32 * n, words=2000))
        writer.close(STATS)
    started = time.perf_counter()
    assert inspect(path).frames == 32_000
    assert time.perf_counter() - started < 1.0  # 0.1 s alone on one core
    code = f"import sys, bsqcodec.info as i; i.inspect({str(path)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
