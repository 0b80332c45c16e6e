"""How progress looks: a rich bar on a terminal, a plain line every 10 s elsewhere, NDJSON, or nothing."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from bsqcodec.cli.terminal import Terminal
from bsqcodec.progress import Progress

LINE_INTERVAL = 10.0  # s between plain lines
JSON_INTERVAL = 0.5  # s between NDJSON objects


def size_text(size: float) -> str:
    """Bytes with a decimal prefix: "1.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def output_name(dst: str) -> str:
    """What a message calls an output."""
    return "stdout" if dst == "-" else dst


def clock(seconds: float) -> str:
    """Seconds as "1:02" or "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(progress: Progress) -> str:
    """Everything that is known, in one line: frames, %, fps, kbit/s, expected size, ETA."""
    share = progress.fraction
    parts = [f"{progress.frames}/{progress.total} frames" if progress.total else f"{progress.frames} frames"]
    parts += [f"{share:.0%}"] if share is not None else []
    parts.append(f"{progress.fps:.3g} fps")
    parts += [f"{progress.kbps:.0f} kbit/s"] if progress.kbps is not None else []
    parts += [f"{size_text(progress.expected_bytes)} expected"] if progress.expected_bytes is not None else []
    parts += [f"ETA {clock(progress.eta)}"] if progress.eta is not None else []
    return ", ".join(parts)


class Display:
    """Context manager; calling it with a `Progress` shows it in the way that fits the terminal."""

    def __init__(self, terminal: Terminal, verb: str) -> None:
        self._terminal = terminal
        self._verb = verb
        self._last = time.monotonic()
        quiet = terminal.verbosity < 0
        self._bar = _bar(terminal) if terminal.console.is_terminal and not quiet and not terminal.json else None
        self._task: TaskID | None = None
        self._plain = not quiet and not terminal.json and self._bar is None

    def __call__(self, progress: Progress) -> None:
        if self._bar is not None:
            self._advance(self._bar, progress)
        elif self._terminal.json and self._due(JSON_INTERVAL):
            self._terminal.data({"type": "progress", **progress.to_dict()})
        elif self._plain and self._due(LINE_INTERVAL):
            self._terminal.say(f"{self._word(progress)} {describe(progress)}")

    def _word(self, progress: Progress) -> str:
        return "first pass:" if progress.stage == "samples" else self._verb

    def _due(self, interval: float) -> bool:
        now = time.monotonic()
        if now - self._last < interval:
            return False
        self._last = now
        return True

    def _advance(self, bar: RichProgress, progress: Progress) -> None:
        if self._task is None:
            self._task = bar.add_task(self._verb, total=progress.total, state="")
        bar.update(
            self._task,
            completed=progress.frames,
            total=progress.total,
            state=f"{self._word(progress)} {describe(progress)}",
        )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(terminal: Terminal) -> RichProgress:
    columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.fields[state]}"))
    return RichProgress(*columns, console=terminal.console, transient=True)
