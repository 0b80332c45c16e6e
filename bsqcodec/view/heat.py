"""Bits as colours: the scale of the heat map, and one frame of it as a PNG."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bsqcodec.colour import to_rgb
from bsqcodec.frames import VideoInfo
from bsqcodec.outputs import AtomicOutput, StrPath
from bsqcodec.view.collect import Options, Seen, Viewing

if TYPE_CHECKING:
    from PIL.Image import Image

TOKEN = 8  # luma samples a token is wide and high
# Dark to light by rising lightness, readable without telling red from green: "inferno" of matplotlib at eighths.
STOPS = (
    (0, 0, 4),
    (31, 12, 72),
    (85, 15, 109),
    (136, 34, 106),
    (186, 54, 85),
    (227, 89, 51),
    (249, 140, 10),
    (249, 201, 50),
    (252, 255, 164),
)
COVER = (0.3, 0.55)  # of the heat over the picture, which is shown in grey: at place 0, and what place 1 adds
TICKS = (0, 1, 4, 16, 64, 256, 1024)  # bits a token
MIN_TOP = 16.0  # bits a token; the scale reaches at least this far
MIN_SIDE = 480  # px; smaller frames are enlarged by a whole number
MARGIN, BAR, LINE = 12, 14, 20  # px of the caption


def top_of(token_bits: npt.NDArray[np.float64]) -> float:
    """Where the scale ends: the dearest token."""
    return max(MIN_TOP, float(token_bits.max()))


def place(bits: npt.NDArray[np.float64], top: float) -> npt.NDArray[np.float64]:
    """Place of bits on the scale, 0..1, logarithmic so that cheap tokens can be told apart too."""
    places: npt.NDArray[np.float64] = np.log2(1 + np.clip(bits, 0, top)) / np.log2(1 + top)
    return places


def colours(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """RGB 0..255 [..., 3] of places 0..1."""
    at = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(places, at, [stop[i] for stop in STOPS]) for i in range(3)], axis=-1)


def heat_over(rgb: np.ndarray, token_bits: npt.NDArray[np.float64], top: float) -> np.ndarray:
    """The picture [H, W, 3] in grey under its heat, uint8 [H, W, 3]."""
    height, width, _ = rgb.shape
    places = place(token_bits, top).repeat(TOKEN, axis=0).repeat(TOKEN, axis=1)[:height, :width]
    cover = (COVER[0] + COVER[1] * places)[..., None]
    mixed: np.ndarray = np.rint(cover * colours(places) + (1 - cover) * rgb.mean(axis=-1, keepdims=True))
    return mixed.astype(np.uint8)


def heat_map(seen: Seen, info: VideoInfo) -> Image:
    """One frame under its heat, with a scale and what it cost below."""
    from PIL import Image, ImageDraw, ImageFont

    top = top_of(seen.token_bits)
    rgb = heat_over(to_rgb(seen.decoded.y, seen.decoded.u, seen.decoded.v, info), seen.token_bits, top)
    zoom = max(1, -(-MIN_SIDE // rgb.shape[1]))
    picture = Image.fromarray(rgb.repeat(zoom, axis=0).repeat(zoom, axis=1))
    width, height = picture.size
    canvas = Image.new("RGB", (width, height + 2 * MARGIN + BAR + 2 * LINE), "white")
    canvas.paste(picture, (0, 0))
    scale = np.rint(colours(np.linspace(0, 1, width - 2 * MARGIN))).astype(np.uint8)
    canvas.paste(Image.fromarray(np.tile(scale, (BAR, 1, 1))), (MARGIN, height + MARGIN))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for tick in (t for t in TICKS if t <= top):
        x = MARGIN + float(place(np.array(tick), top)) * (width - 2 * MARGIN - 1)
        draw.line((x, height + MARGIN + BAR, x, height + MARGIN + BAR + 3), "black")
        draw.text((x, height + MARGIN + BAR + 3), str(tick), "black", font, anchor="mt" if tick else "lt")
    draw.text((MARGIN, height + MARGIN + BAR + LINE), caption(seen), "black", font)
    return canvas


def caption(seen: Seen) -> str:
    """A frame's cost in a line."""
    tokens = float(seen.token_bits.sum())
    text = f"bits a token; frame {seen.number}: {tokens:,.0f} bits in tokens"
    return text + ("" if seen.first else f", {seen.motion_bits:,.0f} in motion")


def write_heat_map(src: StrPath, dst: Path, frame: int, options: Options, *, overwrite: bool = False) -> Seen:
    """Write the heat map of frame number `frame` as PNG; returns what it shows.

    Raises as `bsqcodec.open`; UsageError where there is no such frame, VideoError where `dst` cannot be written.
    """
    one = replace(options, skip=frame, limit=1)
    with AtomicOutput(dst, src=src, overwrite=overwrite) as output, Viewing(src, None, one) as viewing:
        seen = next(iter(viewing))
        heat_map(seen, viewing.info).save(output.part, "png")
    return seen
