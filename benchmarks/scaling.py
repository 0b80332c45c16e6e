"""How time and memory of encode and decode grow with frames, with pixels and with the groups coded at a time.

Each run is the command line tool in a process of its own, on a clip made here; runs of a table take turns, so that
what else the machine does falls on all of them. By hand: `python benchmarks/scaling.py --out scaling.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

POLL = 0.02  # seconds between two looks at the memory
SPEED = 2  # samples a frame that the texture moves by


@dataclass(frozen=True)
class Case:
    """One row: a clip's size in pixels and frames, frames in a group, groups at a time."""

    width: int
    height: int
    frames: int
    keyint: int
    jobs: int = 1

    @property
    def row(self) -> str:
        """The first columns of its line."""
        return f"{self.width}x{self.height} | {self.frames} | {self.keyint} | {self.jobs}"


@dataclass
class Figures:
    """Of the runs of a case: seconds of each, largest memory of all its processes together in bytes."""

    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def cases(width: int, height: int, frames: int, keyint: int, jobs: Sequence[int]) -> dict[str, list[Case]]:
    """The tables: frames, pixels and jobs doubled while the rest stays."""
    return {
        "Frames": [Case(width, height, frames * factor, keyint) for factor in (1, 2, 4)],
        "Pixels": [Case(width * factor, height * factor, frames, keyint) for factor in (1, 2, 4)],
        "Groups at a time": [Case(width, height, 4 * frames, keyint, count) for count in jobs],
    }


def write_clip(path: Path, case: Case) -> None:
    """A texture that moves, as YUV4MPEG2."""
    noise = np.random.default_rng(0).integers(40, 200, (case.height // 4 + 1, case.width // 4 + 1)).astype(np.uint8)
    texture = noise.repeat(4, 0).repeat(4, 1)[: case.height, : case.width]
    chroma = np.full((case.height // 2, case.width // 2), 128, np.uint8).tobytes()
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{case.width} H{case.height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(case.frames):
            file.write(b"FRAME\n" + np.roll(texture, SPEED * number, axis=1).tobytes() + 2 * chroma)


def measure(command: Sequence[str]) -> tuple[float, int]:
    """Seconds and largest memory of a command that must succeed."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        watch = Watch(process.pid)
        errors = process.communicate()[1]
        seconds, largest = time.perf_counter() - begin, watch.stop()
    if process.returncode:
        raise SystemExit(errors.decode().strip())
    return seconds, largest


class Watch:
    """The largest sum of the resident memory of a process and its descendants, by a look now and then (Linux)."""

    def __init__(self, pid: int) -> None:
        self._pid, self._largest, self._done = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Bytes."""
        self._done.set()
        self._thread.join()
        return self._largest

    def _look(self) -> None:
        while not self._done.wait(POLL):
            self._largest = max(self._largest, sum(map(resident, family(self._pid))))


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return
    for child in children:
        yield from family(int(child))


def resident(pid: int) -> int:
    """Bytes of memory of a process, 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def run_table(rows: Sequence[Case], rounds: int, options: Sequence[str]) -> list[tuple[Figures, Figures]]:
    """Figures of encode and decode for each row; the rows take turns."""
    found = [(Figures(), Figures()) for _ in rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, case in enumerate(rows):
            write_clip(folder / f"{number}.y4m", case)
        for _ in range(rounds):
            for number, (case, figures) in enumerate(zip(rows, found, strict=True)):
                source, coded, back = (str(folder / f"{number}{end}") for end in (".y4m", ".bsq", "-back.y4m"))
                common = ["--jobs", str(case.jobs), "-q", "-y", *options]
                for kind, words in enumerate(
                    (["encode", source, coded, "--keyint", str(case.keyint)], ["decode", coded, back])
                ):
                    seconds, memory = measure([sys.executable, "-m", "bsqcodec", *words, *common])
                    figures[kind].seconds.append(seconds)
                    figures[kind].memory.append(memory)
    return found


def table(title: str, rows: Sequence[Case], found: Sequence[tuple[Figures, Figures]]) -> str:
    """A table in Markdown: medians of seconds, largest memory."""
    lines = [
        f"### {title}",
        "",
        "| size | frames | keyint | jobs | encode, s | encode, MiB | decode, s | decode, MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case, pair in zip(rows, found, strict=True):
        cells = [cell for one in pair for cell in (f"{median(one.seconds):.1f}", f"{max(one.memory) / 2**20:.0f}")]
        lines.append(f"| {case.row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--keyint", type=int, default=16)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process")
    parser.add_argument("--weights", help="weights file instead of those that ship")
    parser.add_argument("--out", type=Path, help="file for the tables; standard output without it")
    arguments = parser.parse_args()
    if arguments.width % 4 or arguments.height % 4:
        parser.error("width and height must be multiples of 4")
    options = ["--threads", str(arguments.threads)]
    options += ["--weights", arguments.weights] if arguments.weights else []
    size = arguments.width, arguments.height, arguments.frames, arguments.keyint
    text = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n"
    for title, rows in cases(*size, arguments.jobs).items():
        text += "\n" + table(title, rows, run_table(rows, arguments.rounds, options))
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
