"""A long video through a Ray cluster of two workers, one killed in the middle: the same bytes as the local encode?

    python benchmarks/cluster_check.py [--seconds 120] [--preset fast] [--crf 28]

The video is the shipped clips, 640x360, forwards and backwards until it is long enough, at 24 frames a second. It is
encoded by `--jobs 2`, then by `--cluster auto`; when half of the frames are done, a worker process that is at work is
killed with SIGKILL. Prints both times and hashes; exit code 1 where they differ or no worker was there to be killed.
Needs Linux, and Ray: pip install 'bsqcodec[ray]'.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import x264

import bsqcodec
from bsqcodec.frames import Frame
from bsqcodec.progress import Progress
from bsqcodec.video import create_video, open_video

ROOT = Path(__file__).resolve().parent.parent
CLIPS = [ROOT / "bsqcodec" / "bench" / "data" / f"{name}_640x360.mp4" for name in ("bee", "butterfly", "flower")]
RATE = Fraction(24)
TASK = b"ray::_do"  # how Ray names a process that does a task of `bsqcodec.parallel.cluster`; its agents are others


def pictures() -> Iterator[Frame]:
    """The clips forwards and backwards, for ever."""
    clips = [list(x264.read_frames(path)) for path in CLIPS]
    for frames in itertools.cycle(clips):
        yield from frames
        yield from reversed(frames)


def write_video(path: Path, count: int) -> None:
    """A lossless video of `count` frames."""
    with open_video(CLIPS[0], limit=1) as clip:
        info = replace(clip.info, fps=RATE, time_base=1 / RATE)
    with create_video(path, info, codec="ffv1") as video:
        for number, frame in enumerate(itertools.islice(pictures(), count)):
            video.write(replace(frame, pts=number, duration=1))


def workers_at_work() -> list[int]:
    """Process ids of Ray's workers that code a group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:  # it has ended
            continue
        if name == TASK:
            found.append(int(folder.name))
    return found


class Killer:
    """Watches the progress of an encode, and kills one worker when half of it is done."""

    def __init__(self, frames: int) -> None:
        self.half, self.killed = frames // 2, 0

    def __call__(self, progress: Progress) -> None:
        if self.killed or progress.frames < self.half:
            return
        for process in workers_at_work()[:1]:
            os.kill(process, signal.SIGKILL)
            self.killed = process
            print(f"killed worker {process} after {progress.frames} frames", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="length of the video")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--crf", type=float, default=28.0)
    args = parser.parse_args(argv)
    frames, hashes = args.seconds * int(RATE), []
    killer = Killer(frames)
    with tempfile.TemporaryDirectory(prefix="bsqcodec-cluster-") as folder:
        source = Path(folder) / "in.mkv"
        write_video(source, frames)
        for name, options in (("local", {"jobs": 2}), ("cluster", {"cluster": "auto", "on_progress": killer})):
            out, begin = Path(folder) / f"{name}.bsq", time.perf_counter()
            bsqcodec.encode(source, out, crf=args.crf, preset=args.preset, device="cpu", threads=1, **options)
            seconds = time.perf_counter() - begin
            hashes.append(hashlib.sha256(out.read_bytes()).hexdigest())
            size = out.stat().st_size
            print(f"{name:8} {frames} frames in {seconds:.0f} s, {size:,} bytes, SHA-256 {hashes[-1][:16]}", flush=True)
    same = len(set(hashes)) == 1
    print("the same bytes" if same else "the files differ", "" if killer.killed else "(no worker was killed)")
    return 0 if same and killer.killed else 1


if __name__ == "__main__":
    sys.exit(main())
