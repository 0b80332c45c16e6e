"""What the rooms hand each other: one frame of 8-bit YUV 4:2:0, and what is known about a video.

Shapes: H, W luma rows and columns; chroma planes are ceil(H/2) x ceil(W/2).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `--version` and `info` answer without numpy, which takes as long as all the rest
    import numpy as np


@dataclass(frozen=True)
class Frame:
    """One picture in 8-bit YUV 4:2:0.

    y: uint8 [H, W]; u, v: uint8 [ceil(H/2), ceil(W/2)].
    pts: presentation time in ticks of `VideoInfo.time_base`.
    duration: ticks this frame is shown, 0 when unknown.
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    pts: int
    duration: int = 0


@dataclass(frozen=True)
class VideoInfo:
    """What a stream header keeps about a video besides its pixels.

    Colour fields are ITU-T H.273 code points (2 = unspecified); `full_range` None = unspecified.
    `chroma_location` is FFmpeg's AVChromaLocation (0 = unspecified, 1 = left, 2 = centre, ...).
    `rotation` is the clockwise turn in degrees (0, 90, 180, 270) a player applies.
    `source_format` names the pixel format the frames were converted from ("yuv420p" = not converted).
    """

    width: int
    height: int
    time_base: Fraction = Fraction(1, 25)
    fps: Fraction = Fraction(25)  # nominal (average) rate, frames per second
    sample_aspect_ratio: Fraction = Fraction(1)
    rotation: int = 0
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool | None = None
    chroma_location: int = 0
    source_format: str = "yuv420p"


@dataclass(frozen=True)
class Track:
    """A stream that is carried over untouched (audio or subtitles).

    kind: "audio" or "subtitle"; codec: FFmpeg codec name; extradata: codec private bytes.
    For audio: sample_rate in Hz, channels, layout (FFmpeg name, e.g. "stereo"), frame_size in samples.
    """

    kind: str
    codec: str
    time_base: Fraction
    extradata: bytes = b""
    language: str = ""
    sample_rate: int = 0
    channels: int = 0
    layout: str = ""
    frame_size: int = 0


@dataclass(frozen=True)
class TrackPacket:
    """One packet of a `Track`; times in ticks of the track's time base (None = unknown)."""

    track: int
    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
