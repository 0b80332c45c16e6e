"""Inputs that do not say what they are: `encode --format`, and what raw video needs besides."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

import av

from bsqcodec.errors import UsageError

ALIASES = {"raw": "rawvideo", "y4m": "yuv4mpegpipe", "mkv": "matroska", "ts": "mpegts"}
RAW = "rawvideo"
RAW_SUFFIXES = {".yuv", ".raw", ".rgb"}  # files that FFmpeg reads as raw video by their names
_SIZE = re.compile(r"(\d{1,5})[xX:](\d{1,5})")


@dataclass(frozen=True)
class InputFormat:
    """name: FFmpeg's, of a demuxer; options: the demuxer's."""

    name: str
    options: dict[str, str] = field(default_factory=dict)


def input_format(
    name: str | None, video_size: str | None, framerate: str | float | None, pix_fmt: str | None
) -> InputFormat | None:
    """What the options of an input say together; None = FFmpeg finds out. Raises UsageError where they make no sense.

    video_size: "WxH" in luma samples; framerate: frames per second, 25 without it; pix_fmt: FFmpeg's name, yuv420p
    without it. These three are for raw video, which says nothing about itself.
    """
    given = {"video_size": video_size, "framerate": framerate, "pix_fmt": pix_fmt}
    known = ALIASES.get(name or "", name)
    if known != RAW:
        extra = [option.replace("_", "-") for option, value in given.items() if value is not None]
        if extra:
            raise UsageError(f"--{extra[0]}: only raw video needs it; add --format raw")
        return None if known is None else InputFormat(_checked_name(known))
    if video_size is None:
        raise UsageError("--format raw: raw video does not say how large it is; add --video-size, such as 640x360")
    match = _SIZE.fullmatch(video_size)
    if match is None:
        raise UsageError(f"video size {video_size!r}: not a size; write 640x360")
    options = {"video_size": f"{match[1]}x{match[2]}", "framerate": str(_rate(framerate))}
    return InputFormat(RAW, options | {"pixel_format": _checked_pixels(pix_fmt or "yuv420p")})


def _rate(value: str | float | None) -> Fraction:
    try:
        rate = Fraction(str(25 if value is None else value))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise UsageError(f"frame rate {value!r}: not a rate; write 25, 29.97 or 30000/1001")
    return rate


def _checked_name(name: str) -> str:
    try:
        if av.ContainerFormat(name, "r").is_input:
            return name
    except ValueError:
        pass
    raise UsageError(f"format {name!r}: FFmpeg reads none of that name; write raw, y4m, mkv, mp4, h264, ...")


def _checked_pixels(name: str) -> str:
    try:
        return av.VideoFormat(name).name
    except ValueError:
        raise UsageError(
            f"pixel format {name!r}: FFmpeg knows none of that name; write yuv420p, nv12, rgb24, ..."
        ) from None
