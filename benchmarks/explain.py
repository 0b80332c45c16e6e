"""The pictures of docs/how_it_works.md: the pipeline, tokens and bit planes of a real frame, a rate-distortion curve.

    python benchmarks/explain.py [FOLDER]

Writes pipeline.png, tokens.png, bit_planes.png and rd.png, to docs/images/ unless told otherwise. The frame is the
first of the shipped clip, coded by the shipped weights; the curve is that of the committed results.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import bsqcodec
from bsqcodec.bench.series import style
from bsqcodec.colour import to_rgb
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.outputs import AtomicOutput
from bsqcodec.tokens import TOKEN
from bsqcodec.video import open_video

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "benchmarks" / "data" / "bee_640x360.mp4"
RESULTS = ROOT / "benchmarks" / "results" / "2026-11-29_test_psnr-6_epyc-avx512" / "results.csv"
CROP = (slice(18, 36), slice(41, 59))  # token rows and columns shown enlarged
CRF = 28.0
FINE_CRF = 16.0  # for the bit planes, of which crf 28 leaves the upper ones nearly empty
DPI = 100
PLANES = ("level is not 0", "level is above 0", "|level| is 2 or more", "|level| is 4 or more")
MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "pentagon": "p"}
LOOK: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}

STEPS = (
    ("frames", "8-bit 4:2:0"),
    ("prediction", "frame before, moved;\nor a smaller size"),
    ("transform", "96 amplitudes for\neach 8x8 block"),
    ("BSQ", "amplitudes to\nlevels, in bits"),
    ("integer prior", "probability of\neach bit"),
    ("range coder", "bytes of a group"),
)
BACK = ((5, 4), (4, 3), (3, 2), (2, 1), (1, 0))  # the decoder's way: the same boxes from right to left


@dataclass(frozen=True, eq=False)
class Coded:
    """A frame and its tokens. rgb: uint8 [H, W, 3]; bits: uint8 [h, w, C, 24], h w token rows and columns."""

    rgb: npt.NDArray[np.uint8]
    levels: npt.NDArray[np.int16]
    bits: npt.NDArray[np.uint8]


def coded(clip: Path, crf: float) -> Coded:
    """The first frame of a clip through the tokenizer."""
    with open_video(clip, limit=1) as video:
        frame = next(item for item in video if isinstance(item, Frame))
        info: VideoInfo = video.info
    tokens = bsqcodec.Tokenizer(device="cpu").encode([frame], crf=crf)
    return Coded(to_rgb(frame.y, frame.u, frame.v, info), tokens.levels[0], tokens.bits[0])


def pipeline() -> Figure:
    """What happens to a frame, as boxes from left to right, and back."""
    figure = Figure(figsize=(11, 2.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(-0.45, len(STEPS) - 0.55), ylim=(-0.62, 0.62))
    axes.axis("off")
    for place, (name, text) in enumerate(STEPS):
        box = FancyBboxPatch((place - 0.38, -0.36), 0.76, 0.72, "round,pad=0.02", fc="#eef4fb", ec="#0969da")
        axes.add_patch(box)
        axes.text(place, 0.16, name, ha="center", va="center", weight="bold")
        axes.text(place, -0.12, text, ha="center", va="center", fontsize=8.5)
    for start, end in BACK:
        _arrow(axes, (end + 0.3, 0.46), (start - 0.3, 0.46), "#0969da")
        _arrow(axes, (start - 0.3, -0.46), (end + 0.3, -0.46), "#bc4c00")
    axes.text(-0.38, 0.46, "encode", color="#0969da", va="center")
    axes.text(-0.38, -0.46, "decode", color="#bc4c00", va="center")
    return figure


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.4})


def token_grid(frame: Coded) -> Figure:
    """A part of the frame under the grid of its tokens, and how many of each token's amplitudes are not 0."""
    rows, columns = CROP
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    pixels = frame.rgb[rows.start * TOKEN : rows.stop * TOKEN, columns.start * TOKEN : columns.stop * TOKEN]
    left.imshow(pixels, interpolation="nearest", extent=(0, columns.stop - columns.start, rows.stop - rows.start, 0))
    left.set_title(f"a part of the frame; a square is a token, {TOKEN}x{TOKEN} luma samples", fontsize=10)
    for line in range(columns.stop - columns.start + 1):
        left.axvline(line, color="white", lw=0.5, alpha=0.6)
    for line in range(rows.stop - rows.start + 1):
        left.axhline(line, color="white", lw=0.5, alpha=0.6)
    counts = (frame.levels[rows, columns] != 0).sum(axis=-1)
    picture = right.imshow(counts, cmap="inferno", extent=(0, counts.shape[1], counts.shape[0], 0))
    right.set_title("amplitudes of each token that are not 0", fontsize=10)
    figure.colorbar(picture, ax=right, shrink=0.8)
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
    return figure


def bit_planes(frame: Coded) -> Figure:
    """Four bits of each of the first channels of the whole frame: channels by rising frequency, planes by size."""
    channels = (0, 1, 4, 12)
    figure = Figure(figsize=(10, 6.1), layout="constrained")
    grid = figure.subplots(len(PLANES), len(channels))
    for row, title in enumerate(PLANES):
        for column, channel in enumerate(channels):
            plane = frame.bits[..., channel, row]
            axes = grid[row, column]
            axes.imshow(1 - plane if row == 0 else plane, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"channel {channel}", fontsize=10)
            if column == 0:
                axes.set_ylabel(title, fontsize=8.5)
    return figure


def rate_distortion(rows: Iterable[dict[str, str]]) -> Figure:
    """Mean rate and PSNR over the clips of a results.csv, at each quality setting of each codec."""
    points: dict[tuple[str, str], dict[float, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        codec = f"{row['codec']}:{row['setting']}"
        points[codec, row["label"]][float(row["quality"])].append((float(row["bpp"]), float(row["psnr_yuv_mean"])))
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for (codec, label), settings in points.items():
        means = sorted(tuple(np.mean(pairs, axis=0)) for pairs in settings.values())
        look = style(codec)
        rates, values = zip(*means, strict=True)
        line = axes.plot(rates, values, color=look.colour, marker=MARKERS[look.marker], markersize=5, label=label)[0]
        line.set(linewidth=look.width, markerfacecolor=look.colour if look.filled else "white")
        if look.dash:
            line.set_linestyle((0, tuple(length / look.width for length in look.dash)))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else f"{value:.3g}")
    axes.set(xlabel="rate in bit per pixel, logarithmic", ylabel="PSNR (6Y+U+V)/8 in dB")
    axes.grid(color="#d8dee4", lw=0.6)
    axes.legend(frameon=False, fontsize=9, handlelength=4)
    return figure


def figures() -> dict[str, Figure]:
    """Every picture by the name of its file."""
    with matplotlib.rc_context(LOOK):
        with RESULTS.open(newline="", encoding="utf-8") as file:
            curve = rate_distortion(csv.DictReader(file))
        return {
            "pipeline.png": pipeline(),
            "tokens.png": token_grid(coded(CLIP, CRF)),
            "bit_planes.png": bit_planes(coded(CLIP, FINE_CRF)),
            "rd.png": curve,
        }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "docs" / "images", help="folder for the pictures")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures().items():
        with AtomicOutput(out / name, overwrite=True) as output:
            figure.savefig(output.part, format="png", dpi=DPI)
        print(out / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
