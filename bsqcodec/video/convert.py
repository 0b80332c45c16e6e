"""Between PyAV's frames and ours: plane access, conversion to 8-bit 4:2:0, colour description.

Rules of the conversion (swscale: bicubic, accurate rounding, full chroma):
8-bit 4:2:0 planes are copied, never converted. Other YUV keeps its matrix and its range. RGB (and palettes)
becomes BT.709 limited range. Grey gets neutral chroma and keeps its range; untagged grey is full range.
Alpha is dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from threading import Lock

import av
import av.filter
import av.logging
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

NATIVE = {"yuv420p", "yuvj420p"}  # J: FFmpeg's old name for full range
LIMITED, FULL = int(ColorRange.MPEG), int(ColorRange.JPEG)
QUALITY = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
# AVChromaLocation in its order, as FFmpeg spells it
CHROMA_LOCATIONS = ("unspecified", "left", "center", "topleft", "top", "bottomleft", "bottom")
LEFT = 1  # where swscale puts the chroma samples that it makes
BT709 = 1  # H.273 matrix code point

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
_log_lock = Lock()


@dataclass(frozen=True)
class Colour:
    """Colour description of the converted frames: H.273 code points, range, AVChromaLocation."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool | None
    chroma_location: int


def plane_array(plane: VideoPlane, height: int, width: int) -> np.ndarray:
    """A view of the 8-bit samples of a plane: uint8 [height, width], writable where the frame is."""
    data: np.ndarray = np.frombuffer(memoryview(plane), np.uint8)
    return data[: height * plane.line_size].reshape(height, plane.line_size)[:, :width]


class Converter:
    """Turns decoded frames into 8-bit 4:2:0 planes; keeps swscale's state between frames."""

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads
        self.reformatter = VideoReformatter()

    def planes(self, frame: VideoFrame) -> Planes:
        """y uint8 [H, W], u and v uint8 [ceil(H/2), ceil(W/2)], contiguous copies."""
        if frame.format.name not in NATIVE:
            frame = self._convert(frame)
        height, width = frame.height, frame.width
        half = ((height + 1) // 2, (width + 1) // 2)
        y, u, v = frame.planes
        return plane_array(y, height, width).copy(), plane_array(u, *half).copy(), plane_array(v, *half).copy()

    def _convert(self, frame: VideoFrame) -> VideoFrame:
        rgb = is_rgb(frame)
        source_range = FULL if rgb or _full_range(frame) else LIMITED
        return self.reformatter.reformat(
            frame,
            format="yuv420p",
            interpolation=int(QUALITY),
            # the same matrix on both sides means: leave it alone
            src_colorspace=None if rgb else Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=source_range,
            dst_color_range=LIMITED if rgb else source_range,
            threads=self.threads,
        )


def is_rgb(frame: VideoFrame) -> bool:
    """True for formats whose samples are red, green and blue (palettes and sensor mosaics included)."""
    return frame.format.is_rgb or frame.format.has_palette or frame.format.is_bayer


def _full_range(frame: VideoFrame) -> bool:
    grey = len(frame.format.components) - ("a" in frame.format.name) <= 1
    return frame.color_range == FULL or frame.format.name.startswith("yuvj") or (grey and frame.color_range != LIMITED)


def describe_colour(frame: VideoFrame) -> Colour:
    """The colour description of the frame after conversion."""
    matrix, full_range = frame.colorspace, None
    if is_rgb(frame):
        matrix, full_range = BT709, False
    elif _full_range(frame):
        full_range = True
    elif frame.color_range == LIMITED:
        full_range = False
    location = chroma_location(frame)
    if location == 0 and frame.format.name not in NATIVE and "420" not in frame.format.name:
        location = LEFT
    return Colour(frame.color_primaries, frame.color_trc, matrix, full_range, location)


def chroma_location(frame: VideoFrame) -> int:
    """AVChromaLocation of a decoded frame, 0 when unspecified.

    PyAV has no attribute for it, so FFmpeg's `showinfo` filter is asked and its log line is read.
    """
    graph = av.filter.Graph()
    chain = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)),
        graph.add("sidedata", "mode=delete"),
        graph.add("showinfo", "checksum=0"),
        graph.add("buffersink"),
    ]
    for first, second in pairwise(chain):
        first.link_to(second)
    graph.configure()
    with _log_lock:  # the level is global
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            with av.logging.Capture() as lines:
                chain[0].push(frame)
                chain[-1].pull()
        finally:
            av.logging.set_level(level)
    match = re.search(r"\bcl:(\w+)", "".join(line[2] for line in lines))
    return CHROMA_LOCATIONS.index(match[1]) if match and match[1] in CHROMA_LOCATIONS else 0


def to_av_frame(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> VideoFrame:
    """A yuv420p PyAV frame with copies of the planes."""
    height, width = y.shape
    frame = VideoFrame(width, height, "yuv420p")
    for plane, samples in zip(frame.planes, (y, u, v), strict=True):
        plane_array(plane, *samples.shape)[:] = samples
    return frame
