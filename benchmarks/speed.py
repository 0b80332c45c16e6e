"""Frames a second of encode and decode beside x265: whole commands and their processes, taking turns.

    python benchmarks/speed.py [--clip FILE] [--frames N] [--jobs N] [--rounds N]

The clip is played forwards and backwards until there are enough frames. bsqcodec runs with its default settings, a
thread for each process, x265 as the benchmark runs it (preset medium, no B-frames), on as many threads. Starting,
loading and reading count; beside that the rate without what the same command takes for a single frame. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import torch

from bsqcodec.frames import Frame
from bsqcodec.video import create_video, open_video

CLIP = Path(__file__).parent / "data" / "bee_640x360.mp4"
ANCHOR = "x265 medium, no B-frames"
X265 = """
import sys
from pathlib import Path
from bsqcodec.bench.anchors import ANCHORS
source, out, crf, threads = sys.argv[1:]
ANCHORS["x265:paper"].encode(Path(source), Path(out), float(crf), keyint=32, threads=int(threads))
"""


def write_source(clip: Path, path: Path, count: int) -> None:
    """`count` frames of a clip, forwards and backwards, as YUV4MPEG2."""
    with open_video(clip) as video:
        info = replace(video.info, time_base=1 / video.info.fps)
        frames = [item for item in video if isinstance(item, Frame)]
    there_and_back = frames + frames[-2:0:-1]
    with create_video(path, info) as out:
        for number, frame in enumerate(islice(cycle(there_and_back), count)):
            out.write(replace(frame, pts=number, duration=1))


def seconds(command: Sequence[str]) -> float:
    """Wall time of a command that must succeed."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return time.perf_counter() - begin


def commands(place: Path, arguments: argparse.Namespace) -> dict[str, list[str]]:
    """What is timed, by name, of the source in a folder."""
    source, stream, back, anchor = (str(place / name) for name in ("a.y4m", "a.bsq", "b.y4m", "a.hevc"))
    tool = [sys.executable, "-m", "bsqcodec"]
    common = ["--jobs", str(arguments.jobs), "--threads", "1", "-q", "-y"]
    search = ["--crf", arguments.crf, "--preset", arguments.preset]
    return {
        "encode": [*tool, "encode", source, stream, *search, *common],
        "decode": [*tool, "decode", stream, back, *common],
        ANCHOR: [sys.executable, "-c", X265, source, anchor, arguments.x265_crf, str(arguments.jobs)],
    }


def machine() -> str:
    """The instruction sets that speed hangs on."""
    sets = {"AVX-512": "_is_avx512_supported", "VNNI": "_is_vnni_supported", "BF16": "_is_avx512_bf16_supported"}
    sets["AMX"] = "_is_amx_tile_supported"
    found = [f"{'' if getattr(torch.cpu, name, bool)() else 'no '}{label}" for label, name in sets.items()]
    return f"{os.cpu_count()} cores, {', '.join(found)}, load {os.getloadavg()[0]:.1f} at the start"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--crf", default="28")
    parser.add_argument("--x265-crf", default="30", help="about the same quality as --crf, which follows x264's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="medium")
    arguments = parser.parse_args()
    print(f"{arguments.clip.name}, {arguments.frames} frames, {arguments.jobs} processes or threads; {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        folders = Path(folder) / "all", Path(folder) / "one"
        for place, count in zip(folders, (arguments.frames, 1), strict=True):
            place.mkdir()
            write_source(arguments.clip, place / "a.y4m", count)
        whole, start = (commands(place, arguments) for place in folders)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in whole}
        for _ in range(arguments.rounds):
            for name, found in times.items():
                found.append((seconds(whole[name]), seconds(start[name])))
        sizes = " beside ".join(f"{(folders[0] / name).stat().st_size / 1000:.1f} kB" for name in ("a.bsq", "a.hevc"))
    for name, found in times.items():
        rates = [arguments.frames / both for both, _ in found]
        bare = [(arguments.frames - 1) / (both - one) for both, one in found]
        print(
            f"{name:26} {median(rates):7.2f} frames/s ({min(rates):.2f} to {max(rates):.2f}), "
            f"without the start {median(bare):.2f} ({min(bare):.2f} to {max(bare):.2f})"
        )
    for name in ("encode", "decode"):
        ratio = median(a[0] / b[0] for a, b in zip(times[name], times[ANCHOR], strict=True))
        print(f"{name} takes {ratio:.1f} times x265's encode")
    print(f"file sizes: {sizes}")


if __name__ == "__main__":
    main()
