"""How a benchmark talks: progress of its points and of a download, the table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from bsqcodec.bench.run import Step
from bsqcodec.bench.tables import bd_table, speed_table
from bsqcodec.cli.display import LINE_INTERVAL, clock, size_text
from bsqcodec.cli.terminal import Terminal

METRICS = {"psnr_yuv": "PSNR", "ms_ssim_y_db": "MS-SSIM"}
MIN_WIDTH = 100  # columns; a line is long rather than cut


class Steps:
    """Context manager; calling it with a `Step` shows it: a bar on a terminal, a line a point elsewhere, NDJSON."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._bar: RichProgress | None = None
        if terminal.console.is_terminal and terminal.verbosity >= 0 and not terminal.json:
            columns = (SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.fields[state]}"))
            self._bar = RichProgress(*columns, console=terminal.console, transient=True)
            self._task = self._bar.add_task("bench", total=None, state="measuring")

    def __call__(self, step: Step) -> None:
        eta = "" if step.eta is None or step.done == step.total else f", ETA {clock(step.eta)}"
        line = f"{step.done}/{step.total} {step.name}: {step.error or _figures(step.record)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step.done, total=step.total, state=f"{line}{eta}")
        elif self._terminal.json:
            self._terminal.data(_point(step))
        else:
            self._terminal.say(f"{line}{eta}")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _figures(record: dict[str, Any] | None) -> str:
    if record is None:
        return "done"
    psnr = record["metrics"].get("psnr_yuv", {}).get("mean")
    quality = "" if psnr is None else f", {psnr:.2f} dB"
    return f"{record['bpp']:.4f} bpp{quality}"


def _point(step: Step) -> dict[str, Any]:
    record = step.record or {}
    means = {name: values["mean"] for name, values in record.get("metrics", {}).items()}
    return {
        "type": "point",
        "name": step.name,
        "done": step.done,
        "total": step.total,
        "seconds": round(step.seconds, 3),
        "eta": None if step.eta is None else round(step.eta, 3),
        "error": step.error or None,
        "bpp": record.get("bpp"),
        "metrics": means,
    }


@contextmanager
def transfer_lines(terminal: Terminal) -> Iterator[Callable[[str, int, int | None], None]]:
    """A callback for `download` that says where each file is, every ten seconds and at its end."""
    last = {"": 0.0}

    def show(name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done != total and now - last.get(name, 0.0) < LINE_INTERVAL:
            return
        last[name] = now
        of = "" if total is None else f" of {size_text(total)}, {done / max(total, 1):.0%}"
        terminal.say(f"{name}: {size_text(done)}{of}")

    yield show


def summary(records: list[dict[str, Any]], anchor: str) -> dict[str, Any]:
    """Mean BD-rates in percent against an anchor by metric and codec; None where a clip has no figure."""
    tables = _tables(records, anchor)
    bd_rate = {metric: {codec: table.mean(codec) for codec in table.codecs} for metric, table in tables.items()}
    return {"anchor": _spec(anchor), "bd_rate": bd_rate}


def print_table(records: list[dict[str, Any]], anchor: str) -> None:
    """BD-rates of every clip and their mean, and the speeds, on stdout."""
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else MIN_WIDTH)
    for metric, table in _tables(records, anchor).items():
        console.print(f"BD-rate by {METRICS[metric]} against {_spec(anchor)} (negative = smaller)", markup=False)
        shown = Table()
        shown.add_column("clip")
        for codec in table.codecs:
            shown.add_column(codec, justify="right")
        for clip in table.clips:
            cells = (table.cells[clip, codec].percent for codec in table.codecs)
            shown.add_row(clip, *("-" if value is None else f"{value:+.1f} %" for value in cells))
        shown.add_section()
        shown.add_row("mean", *(table.mean_text(codec) for codec in table.codecs))
        console.print(shown)
        for clip, codec, reason in table.refusals():
            console.print(f"no figure for {codec} on {clip}: {reason}", markup=False)
    console.print("Speed and peak memory")
    speeds = Table("codec", "encode fps", "decode fps", "encode MiB", "decode MiB")
    for row in speed_table(records):
        values = (row.encode_fps, row.decode_fps, row.encode_mib, row.decode_mib)
        speeds.add_row(row.codec, *("-" if value is None else f"{value:.3g}" for value in values))
    console.print(speeds)


def _tables(records: list[dict[str, Any]], anchor: str) -> dict[str, Any]:
    measured = [metric for metric in METRICS if any(metric in record["metrics"] for record in records)]
    return {metric: bd_table(records, metric, _spec(anchor)) for metric in measured}


def _spec(anchor: str) -> str:
    return anchor if ":" in anchor else f"{anchor}:paper"
