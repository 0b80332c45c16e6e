"""Side-by-side pictures of the same frame out of several codecs, with an enlarged crop under each."""

from __future__ import annotations

from dataclasses import dataclass

import x264
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageDraw, ImageFont

from bsqcodec.frames import Frame

CAPTION = 22  # px of the strip above a picture
GAP = 4  # px between pictures


@dataclass(frozen=True)
class Panel:
    """A frame with even sides and the one line above it."""

    caption: str
    frame: Frame


def to_image(frame: Frame) -> Image.Image:
    """RGB of a frame in BT.709, limited range (what the shipped clip is)."""
    picture = x264.to_picture(frame)
    rgb = picture.to_ndarray(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return Image.fromarray(rgb)


def side_by_side(panels: list[Panel], crop: tuple[int, int, int, int]) -> Image.Image:
    """One column per panel: caption, whole frame, then `crop` (x, y, width, height in px) enlarged to its width.

    Enlarged by nearest neighbour: the pixels are what is compared.
    """
    height, width = panels[0].frame.y.shape
    x, y, crop_width, crop_height = crop
    zoomed = crop_height * width // crop_width
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, CAPTION + height + GAP + zoomed), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for column, panel in enumerate(panels):
        left = column * (width + GAP)
        image = to_image(panel.frame)
        part = image.crop((x, y, x + crop_width, y + crop_height))
        draw.text((left + GAP, 2), panel.caption, fill="black", font=font)
        sheet.paste(image, (left, CAPTION))
        draw.rectangle((left + x, CAPTION + y, left + x + crop_width, CAPTION + y + crop_height), outline="white")
        sheet.paste(part.resize((width, zoomed), Image.Resampling.NEAREST), (left, CAPTION + height + GAP))
    return sheet
