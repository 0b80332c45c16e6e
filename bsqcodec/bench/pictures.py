"""The same frame out of several codecs: where they differ most, as a sheet and as data for a web page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bsqcodec.bench.quality import RgbConverter
from bsqcodec.errors import UsageError
from bsqcodec.metrics import Planes, frame_psnr

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_WIDTH = 1280  # px; wider pictures are made smaller for the page, crops never are
ZOOM = 3  # times that a crop is enlarged
CROP = (128, 96)  # px, width and height of a crop
LOSSY_QUALITY = 95  # of WebP, where lossless pictures would make a page too large
GAP, CAPTION = 4, 22  # px between the pictures of a sheet, and of the strip above each


@dataclass(frozen=True)
class Shot:
    """One frame as one codec shows it.

    rgb: uint8 [H, W, 3]; psnr: (6Y+U+V)/8 of this frame in dB, infinite when identical; bytes, bpp: of the whole
    stream it is from. None = not applicable (the original).
    """

    label: str
    rgb: np.ndarray
    psnr: float | None = None
    bytes: int | None = None
    bpp: float | None = None

    @property
    def facts(self) -> str:
        """What is known besides the label, "34.21 dB, 0.0123 bpp, 12,345 bytes"; "" when nothing is."""
        parts = [] if self.psnr is None else [psnr_text(self.psnr)]
        parts += [] if self.bpp is None else [f"{self.bpp:.4f} bpp"]
        parts += [] if self.bytes is None else [f"{self.bytes:,} bytes"]
        return ", ".join(parts)


@dataclass(frozen=True)
class Picture:
    """Frame `index` of a clip: the original, bsqcodec, and another codec at about the same rate, in this order.

    crop: (x, y, width, height) in px of what is worth enlarging.
    """

    clip: str
    index: int
    shots: tuple[Shot, Shot, Shot]
    crop: tuple[int, int, int, int]


@dataclass(frozen=True)
class Coded:
    """What a caption says about a stream: its codec ("x265:paper, crf 28.4"), its bytes and bits per pixel."""

    label: str
    bytes: int | None = None
    bpp: float | None = None


def make_picture(
    clip: str,
    index: int,
    original: Planes,
    ours: Planes,
    other: Planes,
    *,
    ours_is: Coded,
    other_is: Coded,
    matrix: int = 1,
    full_range: bool = False,
) -> Picture:
    """Picture of frame `index` in its original, decoded and another codec's version.

    original, ours, other: 8-bit 4:2:0 frames of one size; matrix: H.273 code point (1 = BT.709). RGB is that of the
    metrics (`bsqcodec.bench.quality`). Raises UsageError when the sizes differ.
    """
    converter = RgbConverter(matrix, full_range)
    shots = (
        Shot("original", converter.rgb(original)),
        _shot(converter, original, ours, ours_is),
        _shot(converter, original, other, other_is),
    )
    return Picture(clip, index, shots, find_crop(original.y, ours.y))


def _shot(converter: RgbConverter, original: Planes, frame: Planes, coded: Coded) -> Shot:
    psnr = frame_psnr(original, frame)
    psnr_yuv = math.inf if math.isinf(min(psnr.y, psnr.u, psnr.v)) else psnr.yuv
    return Shot(coded.label, converter.rgb(frame), psnr_yuv, coded.bytes, coded.bpp)


def find_crop(original: np.ndarray, decoded: np.ndarray, size: tuple[int, int] = CROP) -> tuple[int, int, int, int]:
    """Where the luma planes [H, W] differ most: (x, y, width, height) in px, at most as large as the picture.

    Identical planes: where the original has most detail. Of equal places the first.
    """
    height, width = original.shape
    crop_width, crop_height = min(size[0], width), min(size[1], height)
    activity = np.abs(original.astype(np.float64) - decoded)
    if not activity.any():
        rows, columns = np.gradient(original.astype(np.float64)) if min(original.shape) > 1 else (activity, activity)
        activity = np.abs(rows) + np.abs(columns)
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = activity.cumsum(0).cumsum(1)
    low, right = total[crop_height:, :], total[:-crop_height, :]
    sums = low[:, crop_width:] - low[:, :-crop_width] - right[:, crop_width:] + right[:, :-crop_width]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(x), int(y), crop_width, crop_height


def psnr_text(value: float) -> str:
    """PSNR for people: "34.21 dB", or "identical"."""
    return "identical" if math.isinf(value) else f"{value:.2f} dB"


def page_images(pictures: Sequence[Picture], budget: int) -> tuple[list[list[str]], bool]:
    """The whole frames of all pictures as data URIs, and whether they are lossless.

    At most `MAX_WIDTH` px wide. Lossless WebP when all of them together have at most `budget` bytes, else all of
    them WebP of `LOSSY_QUALITY`: codecs must not be compared through different pictures.
    """
    lossless: list[list[bytes]] = []
    size = 0
    for picture in pictures:
        lossless.append([_webp(shot.rgb, lossless=True) for shot in picture.shots])
        size += sum(map(len, lossless[-1]))
        if size > budget:
            return [[_uri(_webp(s.rgb, lossless=False)) for s in p.shots] for p in pictures], False
    return [[_uri(data) for data in row] for row in lossless], True


def crop_images(picture: Picture) -> list[str]:
    """The crop of each shot as a data URI, lossless and not enlarged: the page does that."""
    x, y, width, height = picture.crop
    return [_uri(_webp(shot.rgb[y : y + height, x : x + width], lossless=True)) for shot in picture.shots]


def _webp(rgb: np.ndarray, *, lossless: bool) -> bytes:
    from PIL.Image import Resampling

    image = _image(rgb)
    if image.width > MAX_WIDTH:
        image = image.resize((MAX_WIDTH, round(image.height * MAX_WIDTH / image.width)), Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "webp", lossless=lossless, quality=50 if lossless else LOSSY_QUALITY, method=4)
    return buffer.getvalue()


def _uri(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")


def _image(rgb: np.ndarray) -> Image:
    try:
        from PIL import Image
    except ImportError:
        raise UsageError("pictures need Pillow; install it with: pip install 'bsqcodec[bench]'") from None
    return Image.fromarray(np.ascontiguousarray(rgb))


def sheet(shots: Sequence[Shot], crop: tuple[int, int, int, int]) -> Image:
    """One column a shot: two lines of caption, the whole frame, then the crop enlarged to a whole number of pixels.

    shots: of one size; crop: (x, y, width, height) in px. Nearest neighbour: the pixels are what is compared.
    """
    first = _image(shots[0].rgb)  # says what to install when Pillow is missing
    from PIL import Image, ImageDraw, ImageFont

    x, y, crop_width, crop_height = crop
    zoom = max(1, first.width // crop_width)
    top, below = 2 * CAPTION, 2 * CAPTION + first.height + GAP
    size = (len(shots) * (first.width + GAP) - GAP, below + crop_height * zoom)
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    for column, shot in enumerate(shots):
        left = column * (first.width + GAP)
        image = _image(shot.rgb)
        part = image.crop((x, y, x + crop_width, y + crop_height))
        for line, text in enumerate((shot.label, shot.facts)):
            draw.text((left + GAP, 2 + line * CAPTION), _fitting(text, first.width - GAP, font), "black", font)
        canvas.paste(image, (left, top))
        draw.rectangle((left + x, top + y, left + x + crop_width - 1, top + y + crop_height - 1), outline="white")
        canvas.paste(part.resize((crop_width * zoom, crop_height * zoom), Image.Resampling.NEAREST), (left, below))
    return canvas


def sheet_of(
    coded: Sequence[tuple[Coded, Planes]], original: Planes, *, matrix: int = 1, full_range: bool = False
) -> Image:
    """The original's frame and those of some codecs side by side, with the place where the first one differs most.

    Raises UsageError when Pillow is missing.
    """
    converter = RgbConverter(matrix, full_range)
    shots = [Shot("original", converter.rgb(original)), *(_shot(converter, original, f, is_) for is_, f in coded)]
    return sheet(shots, find_crop(original.y, coded[0][1].y))


def _fitting(text: str, width: int, font: ImageFontLike) -> str:
    """The text, cut at its end until it is at most `width` px wide."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    ImageFontLike = FreeTypeFont | BitmapFont
