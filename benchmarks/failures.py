"""Where the codec is weak, in pictures: grain, text, a fade and fast motion beside x264 at the same size.

    python benchmarks/failures.py [--out FOLDER]

Each case is made out of the shipped clip (or of nothing), 320x192, 24 frames, coded with --tune psnr at four crf; the
table has BD-rates against `x264 -preset medium -bf 0`. The picture shows a frame at crf 34: original, bsqcodec, x264 of
about the same size. Writes failures.png and prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import x264
from pictures import to_image
from PIL import Image, ImageDraw, ImageFont

import bsqcodec
from bsqcodec.bench.bd import bd_rate
from bsqcodec.bench.quality import ms_ssim_db
from bsqcodec.frames import Frame
from bsqcodec.metrics import Quality, compare

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "benchmarks" / "data" / "bee_640x360.mp4"
HEIGHT, WIDTH, FRAMES = 192, 320, 24
RATE = Fraction(25)
CRFS, SHOWN_CRF, SHOWN = (24.0, 28.0, 34.0, 40.0), 34.0, 13  # SHOWN: frame in the picture
PART = (60, 40, 200, 112)  # x, y, width, height in px of what is shown of it
CAPTION, GAP = 20, 4  # px
GRAIN = 10.0  # standard deviation in grey levels
PAN = 23  # px a frame
BLACK, GREY = 16, 128
LINE = "In the beginning every frame was whole. Then came motion, and with it the vector."

# y [HEIGHT, WIDTH]; u, v [HEIGHT / 2, WIDTH / 2]
Planes = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Row:
    """What came of a case. psnr, ms_ssim: BD-rates in %, None without overlap; shown: captions and pictures."""

    name: str
    psnr: float | None
    ms_ssim: float | None
    shown: list[tuple[str, Image.Image]]


def window(frame: Frame, x: int, y: int) -> Planes:
    """The part of a frame whose upper left corner is (x, y), both even."""
    luma = frame.y[y : y + HEIGHT, x : x + WIDTH]
    u, v = (plane[y // 2 : (y + HEIGHT) // 2, x // 2 : (x + WIDTH) // 2] for plane in (frame.u, frame.v))
    return luma, u, v


def plain(clip: list[Frame], t: int) -> Planes:
    """The clip itself."""
    return window(clip[t], 240, 60)


def grain(clip: list[Frame], t: int) -> Planes:
    """New noise in every frame."""
    y, u, v = plain(clip, t)
    noise = np.random.default_rng(t).normal(0.0, GRAIN, y.shape)
    return np.clip(np.rint(y + noise), 0, 255).astype(np.uint8), u, v


def text(_clip: list[Frame], t: int) -> Planes:
    """Small white lines on black, three samples up in a frame."""
    page = Image.new("L", (WIDTH, HEIGHT), BLACK)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for row in range(30):
        draw.text((12 + 5 * (row % 4), 14 * row - 3 * t), LINE[row % 7 :], fill=235, font=font)
    flat = np.full((HEIGHT // 2, WIDTH // 2), GREY, np.uint8)
    return np.asarray(page), flat, flat


def fade(clip: list[Frame], t: int) -> Planes:
    """To black, a little darker in every frame."""
    y, u, v = plain(clip, t)
    share = 1 - t / (FRAMES - 1)
    shades = [base + (plane - float(base)) * share for plane, base in ((y, BLACK), (u, GREY), (v, GREY))]
    luma, blue, red = (np.rint(plane).astype(np.uint8) for plane in shades)
    return luma, blue, red


def pan(clip: list[Frame], t: int) -> Planes:
    """A still picture, over which the camera turns to and fro."""
    reach = clip[0].y.shape[1] - WIDTH
    place = PAN * t % (2 * reach)
    return window(clip[0], min(place, 2 * reach - place) // 2 * 2, 60)


CASES: dict[str, Callable[[list[Frame], int], Planes]] = {
    "the clip as it is": plain,
    "grain": grain,
    "text": text,
    "fade": fade,
    "fast motion": pan,
}


def frames_of(make: Callable[[list[Frame], int], Planes], clip: list[Frame]) -> list[Frame]:
    """The frames of a case."""
    made = [[np.ascontiguousarray(plane) for plane in make(clip, t)] for t in range(FRAMES)]
    return [Frame(y, u, v, t) for t, (y, u, v) in enumerate(made)]


def measure(name: str, frames: list[Frame], crfs: Sequence[float]) -> Row:
    """Code a case with both codecs. The shown crf is the one of `crfs` that is nearest to SHOWN_CRF."""
    ours: list[tuple[int, Quality]] = []
    anchor: list[tuple[int, Quality]] = []
    shown = []
    nearest = min(crfs, key=lambda crf: abs(crf - SHOWN_CRF))
    for crf in crfs:
        data = bsqcodec.compress([(f.y, f.u, f.v) for f in frames], fps=RATE, crf=crf, device="cpu")
        made = x264.encode_to_size(frames, RATE, len(data))
        for curve, size, decoded in (
            (ours, len(data), list(bsqcodec.decompress(data, device="cpu"))),
            (anchor, len(made.data), list(x264.decode(made.data))),
        ):
            quality = compare(frames, decoded, ms_ssim=True)
            curve.append((size, quality))
            if crf == nearest:
                label = "bsqcodec" if curve is ours else "x264"
                caption = f"{label}: {size:,} bytes, {quality.psnr:.1f} dB"
                shown.append((caption, part(Frame(decoded[SHOWN].y, decoded[SHOWN].u, decoded[SHOWN].v, 0))))
    rates = []
    for metric in ("psnr", "ms_ssim"):
        curves = [[(float(size), decibels(quality, metric)) for size, quality in curve] for curve in (anchor, ours)]
        rates.append(bd_rate(*curves).percent)
    return Row(name, rates[0], rates[1], [(name, part(frames[SHOWN])), *shown])


def decibels(quality: Quality, metric: str) -> float:
    """PSNR (6Y+U+V)/8 or MS-SSIM of the luma, in dB."""
    if metric == "psnr":
        return quality.psnr
    assert quality.ms_ssim is not None
    return ms_ssim_db(quality.ms_ssim)


def part(frame: Frame) -> Image.Image:
    """What is shown of a frame."""
    x, y, width, height = PART
    return to_image(frame).crop((x, y, x + width, y + height))


def sheet(rows: list[Row]) -> Image.Image:
    """A row of pictures for each case, a caption above each."""
    _, _, width, height = PART
    columns = len(rows[0].shown)
    made = Image.new("RGB", (columns * (width + GAP) - GAP, len(rows) * (height + CAPTION)), "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size=11)
    for row, case in enumerate(rows):
        for column, (caption, picture) in enumerate(case.shown):
            left, top = column * (width + GAP), row * (height + CAPTION)
            draw.text((left + 2, top + 3), caption, fill="black", font=font)
            made.paste(picture, (left, top + CAPTION))
    return made


def table(rows: list[Row]) -> str:
    """BD-rates against x264 in Markdown."""
    lines = ["| case | PSNR, x264 | MS-SSIM, x264 |", "|---|--:|--:|"]
    for row in rows:
        cells = ["no overlap" if value is None else f"{value:+.1f} %" for value in (row.psnr, row.ms_ssim)]
        lines.append(f"| {row.name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for the picture")
    parser.add_argument("--crf", type=float, nargs="+", default=list(CRFS), help="four or more for BD-rates")
    args = parser.parse_args(argv)
    clip = list(x264.read_frames(CLIP, FRAMES))
    rows = [measure(name, frames_of(make, clip), args.crf) for name, make in CASES.items()]
    sheet(rows).save(args.out / "failures.png", optimize=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
