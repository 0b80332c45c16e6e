"""Rate-distortion plots as files: rd_psnr and rd_ms_ssim, each as .png and .svg, on white.

One wide panel with the mean over clips, then one panel a clip, two in a row, so that the picture can be read on a
phone. Rate is on a logarithmic axis whose ticks double.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsqcodec.bench.series import (
    METRICS,
    Curve,
    Record,
    clips_of,
    codecs_of,
    curve_of,
    label_of,
    mean_curve,
    style,
)
from bsqcodec.errors import UsageError
from bsqcodec.outputs import AtomicOutput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILES = {"rd_psnr": "psnr_yuv", "rd_ms_ssim": "ms_ssim_y_db"}
WIDTH = 6.4  # inches; 10-point text is then readable on a screen of 390 px
MEAN_HEIGHT, ROW_HEIGHT = 3.6, 2.3  # inches
DPI = 160
COLUMNS = 2
TICK = 0.1  # bpp; the other ticks are this, doubled or halved
# matplotlib's shapes for the names in `series.Style`
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "pentagon": "p"}


def write_plots(out: Path, records: Sequence[Record]) -> list[Path]:
    """Write rd_psnr.png, rd_psnr.svg, rd_ms_ssim.png and rd_ms_ssim.svg into the folder `out`.

    A metric that no record has is left out (MS-SSIM of small pictures), so fewer files may come back.
    Raises UsageError without matplotlib, VideoError when a file cannot be written.
    """
    written = []
    for name, metric in FILES.items():
        if any(metric in record["metrics"] for record in records):
            with _settings():
                figure = _figure(list(records), metric)
                for suffix in (".png", ".svg"):
                    path = out / f"{name}{suffix}"
                    with AtomicOutput(path, overwrite=True) as output:
                        # a date would make two plots of the same records differ
                        metadata: dict[str, Any] = {"Date": None} if suffix == ".svg" else {}
                        figure.savefig(output.part, format=suffix[1:], dpi=DPI, metadata=metadata)
                    written.append(path)
    return written


@contextmanager
def _settings() -> Iterator[None]:
    """The look of the plots, for the length of a block: the caller's settings stay as they are."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("plots need matplotlib; install it with: pip install 'bsqcodec[bench]'") from None
    look: dict[Any, Any] = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#57606a",
        "axes.grid": True,
        "grid.color": "#d8dee4",
        "grid.linewidth": 0.6,
        "svg.hashsalt": "bsqcodec",
        "text.parse_math": False,  # a clip may be called "a$b"
    }
    with matplotlib.rc_context(look):
        yield


def _figure(records: list[Record], metric: str) -> Figure:
    from matplotlib.figure import Figure

    clips, codecs = clips_of(records), codecs_of(records)
    rows = -(-len(clips) // COLUMNS)
    legend_height = 0.22 * -(-len(codecs) // COLUMNS) + 0.35
    height = legend_height + MEAN_HEIGHT + ROW_HEIGHT * rows
    figure = Figure(figsize=(WIDTH, height), facecolor="white", layout="constrained")
    grid = figure.add_gridspec(rows + 1, COLUMNS, height_ratios=[MEAN_HEIGHT] + [ROW_HEIGHT] * rows)
    panels = [("Mean over clips, per quality setting", {c: mean_curve(records, c, metric) for c in codecs})]
    panels += [(clip, {c: curve_of(records, clip, c, metric) for c in codecs}) for clip in clips]
    for number, (title, curves) in enumerate(panels):
        place = grid[0, :] if number == 0 else grid[(number - 1) // COLUMNS + 1, (number - 1) % COLUMNS]
        _panel(figure.add_subplot(place), shortened(title, 40), curves, most=4 if number else 8)
    figure.supxlabel("rate in bit per pixel, logarithmic; BD-rates are per clip, not from the mean curve", fontsize=10)
    figure.supylabel(f"{METRICS[metric]} in dB", fontsize=10)
    handles = [_handle(codec, shortened(f"{codec} \N{EN DASH} {label_of(records, codec)}", 90)) for codec in codecs]
    figure.legend(handles=handles, loc="outside upper left", ncols=1, frameon=False, fontsize=9)
    return figure


def _panel(axes: Axes, title: str, curves: dict[str, Curve], most: int) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_title(title, fontsize=10, loc="left")
    for codec, curve in curves.items():
        if curve:
            axes.plot(*zip(*curve, strict=True), **_look(codec))
    rates = [rate for curve in curves.values() for rate, _ in curve]
    if not rates:
        axes.text(0.5, 0.5, "no point", transform=axes.transAxes, ha="center", color="#57606a")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(rate_ticks(min(rates), max(rates), most)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:.3g}"))


def _look(codec: str) -> dict[str, Any]:
    look = style(codec)
    # matplotlib counts dashes in line widths
    dashes: Any = (0, tuple(length / look.width for length in look.dash)) if look.dash else "solid"
    return {
        "color": look.colour,
        "linewidth": look.width,
        "linestyle": dashes,
        "marker": _MARKERS[look.marker],
        "markersize": 5.5,
        "markerfacecolor": look.colour if look.filled else "white",
        "markeredgewidth": 1.2,
    }


def _handle(codec: str, text: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=text, **_look(codec))


def shortened(text: str, most: int) -> str:
    """The text, or its first `most` characters with an ellipsis as the last."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def rate_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks for rates low..high: 0.1 bpp doubled and halved, every second, third, ... when there were more than `most`.

    A range that holds no such rate gets its two ends.
    """
    first, last = math.ceil(math.log2(low / TICK) - 1e-9), math.floor(math.log2(high / TICK) + 1e-9)
    step = max(1, -(-(last - first + 1) // most))
    return [TICK * 2.0**power for power in range(first, last + 1, step)] or [low, high]
