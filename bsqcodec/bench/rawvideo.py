"""Headerless 8-bit 4:2:0 video (.yuv): what its name says, how large it must be, its frames.

A frame is Y, then U, then V, without padding; the chroma of odd sides is rounded up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np

from bsqcodec.errors import VideoError
from bsqcodec.frames import Frame

MAX_RATE = 300  # frames per second that a name can mean
_SIZE = re.compile(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)")
_RATE = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d{1,3})?)(?:fps|hz)(?![a-z])")
_RATE_AFTER = re.compile(r"[_-](\d{1,3}(?:\.\d{1,3})?)p?(?=[_-]|$)")  # right behind the size: _352x288_30
_OTHER_FORMAT = re.compile(r"(?<!\d)(?:9|1[0-6])-?bits?|p1[0-6][lb]e|(?<![\dx])4(?:22|44)(?![\dx])|nv12|nv21|rgb24")
_NTSC = {"23.97": 24, "23.98": 24, "23.976": 24, "29.97": 30, "59.94": 60, "119.88": 120}  # times 1000/1001


@dataclass(frozen=True)
class RawName:
    """What a file's name says: luma samples, frames per second (None = not said)."""

    width: int
    height: int
    fps: Fraction | None


def parse_name(stem: str) -> RawName | None:
    """Size and rate in a name such as foo_1920x1080_30 or Beauty_1920x1080_120fps_420_8bit_YUV.

    None when no WIDTHxHEIGHT is in it.
    """
    stem = stem.lower()
    size = _SIZE.search(stem)
    if size is None:
        return None
    rate = _RATE.search(stem) or _RATE_AFTER.match(stem, size.end())
    return RawName(int(size[1]), int(size[2]), _rate(rate[1]) if rate else None)


def other_format(stem: str) -> str | None:
    """The part of a name that says that the file is not 8-bit 4:2:0; None = nothing does."""
    match = _OTHER_FORMAT.search(stem.lower())
    return match[0] if match else None


def frame_bytes(width: int, height: int) -> int:
    """Bytes of one frame."""
    return width * height + 2 * (-(-width // 2)) * (-(-height // 2))


def read_frames(path: Path, width: int, height: int, limit: int | None = None) -> Iterator[Frame]:
    """The first `limit` frames of a raw file (None = all), one at a time; pts counts them.

    Raises VideoError when the file cannot be read or ends within a frame.
    """
    size = frame_bytes(width, height)
    half = -(-height // 2), -(-width // 2)
    edges = [width * height, width * height + half[0] * half[1]]
    try:
        with path.open("rb") as file:
            for number in count():
                data = file.read(size) if limit is None or number < limit else b""
                if not data:
                    return
                if len(data) < size:
                    raise VideoError(f"{path}: ends within frame {number} of {width}x{height}; copy it again")
                y, u, v = np.split(np.frombuffer(data, np.uint8), edges)
                yield Frame(y.reshape(height, width), u.reshape(half), v.reshape(half), number)
    except OSError as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{path}: cannot be read ({error.strerror}); check the file and its rights") from error


def _rate(text: str) -> Fraction | None:
    if text in _NTSC:
        return Fraction(_NTSC[text] * 1000, 1001)
    value = Fraction(text)
    return value if 0 < value <= MAX_RATE else None
