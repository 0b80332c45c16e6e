"""The x264 anchor through PyAV: what `ffmpeg -preset medium [-bf 0] -crf N` makes, as a bare H.264 stream.

Nothing but preset, crf and bf is set, as on ffmpeg's command line: no tune, key frames at most 250 apart.
One thread (ffmpeg's `-threads 1`), so that the bytes are the same on every machine.

Bytes are those of the Annex B elementary stream (`-f h264`), parameter sets included, without the message of about
700 bytes in which x264 writes its own settings: no decoder needs it, and short clips would be charged for it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame

START_CODE = re.compile(rb"\x00\x00\x00?\x01")  # Annex B, in front of every NAL unit
SETTINGS_UUID = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")  # of x264's user-data message


@dataclass(frozen=True)
class H264:
    """data: Annex B stream; settings: x264's own account of its options; bframes: None = the preset's 3."""

    data: bytes
    settings: str
    crf: float
    bframes: int | None

    @property
    def command(self) -> str:
        """The ffmpeg options that this stands for."""
        bf = "" if self.bframes is None else f" -bf {self.bframes}"
        return f"-c:v libx264 -preset medium{bf} -crf {self.crf:g} -threads 1"


def read_frames(path: Path, limit: int | None = None) -> Iterator[Frame]:
    """The first `limit` frames of an 8-bit 4:2:0 video (None = all). Raises VideoError for any other pixel format."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        for index, picture in enumerate(itertools.islice(frames, limit)):
            if picture.format.name not in ("yuv420p", "yuvj420p"):
                raise VideoError(f"{path}: pixel format {picture.format.name}; the benchmark takes 8-bit 4:2:0 only")
            yield to_frame(picture, index)


def read_rate(path: Path) -> Fraction:
    """Nominal frames per second."""
    with av.open(str(path)) as container:
        return container.streams.video[0].average_rate or Fraction(25)


def to_frame(picture: av.VideoFrame, pts: int) -> Frame:
    """The planes of a decoded yuv420p picture, without their line padding."""
    y, u, v = (_unpadded(plane) for plane in picture.planes[:3])
    return Frame(y, u, v, pts)


def to_picture(frame: Frame) -> av.VideoFrame:
    """A PyAV picture of a frame with even sides."""
    height, width = frame.y.shape
    if height % 2 or width % 2:
        raise UsageError(f"x264 takes no {width}x{height} 4:2:0 video; use clips with even sides")
    packed = np.concatenate([frame.y.reshape(-1), frame.u.reshape(-1), frame.v.reshape(-1)])
    return av.VideoFrame.from_ndarray(packed.reshape(height * 3 // 2, width), format="yuv420p")


def encode(frames: Iterable[Frame], rate: Fraction, crf: float, *, bframes: int | None = 0) -> H264:
    """Encode with x264, preset medium; `bframes` None leaves the preset's B-frames on."""
    packets: list[bytes] = []
    context: av.VideoCodecContext | None = None
    for index, frame in enumerate(frames):
        options = {"crf": f"{crf:g}"} | ({} if bframes is None else {"bf": str(bframes)})
        context = context or encoder(frame, rate, options)
        picture = to_picture(frame)
        picture.pts, picture.time_base = index, 1 / rate
        packets += map(bytes, context.encode(picture))
    if context is None:
        raise UsageError("there is no frame to encode")
    packets += map(bytes, context.encode(None))
    data, settings = strip_settings(b"".join(packets))
    return H264(data, settings, crf, bframes)


def decode(data: bytes) -> Iterator[Frame]:
    """The frames of a bare H.264 stream, in display order."""
    context = av.CodecContext.create("h264", "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    pictures = (p for packet in [*context.parse(data), *context.parse(None), None] for p in context.decode(packet))
    for index, picture in enumerate(pictures):
        yield to_frame(picture, index)


def encode_to_size(frames: list[Frame], rate: Fraction, size: int, *, bframes: int | None = 0) -> H264:
    """The stream whose size is nearest to `size` bytes: bisection of the crf, which x264 takes to 0.01 or finer."""
    low, high = 1.0, 51.0
    best = None
    for _ in range(9):  # to 0.1 crf, about 1 % in size
        crf = round((low + high) / 2, 2)
        made = encode(frames, rate, crf, bframes=bframes)
        if best is None or abs(len(made.data) - size) < abs(len(best.data) - size):
            best = made
        if abs(len(made.data) - size) <= 0.01 * size:
            break
        low, high = (crf, high) if len(made.data) > size else (low, crf)
    assert best is not None
    return best


def strip_settings(data: bytes) -> tuple[bytes, str]:
    """Split an Annex B stream into itself without x264's settings message, and the text of that message."""
    starts = [match.start() for match in START_CODE.finditer(data)]
    kept, settings = [], ""
    for begin, end in itertools.pairwise([*starts, len(data)]):
        if SETTINGS_UUID in data[begin : min(end, begin + 32)]:
            settings = data[begin:end].split(SETTINGS_UUID, 1)[1].split(b"\x00", 1)[0].decode("ascii", "replace")
        else:
            kept.append(data[begin:end])
    return b"".join(kept), settings


def encoder(frame: Frame, rate: Fraction, options: dict[str, str]) -> av.VideoCodecContext:
    """x264, preset medium with options of FFmpeg's libx264, for frames like `frame`."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = frame.y.shape
    context.pix_fmt = "yuv420p"
    context.framerate, context.time_base = rate, 1 / rate
    context.thread_count = 1
    context.options = {"preset": "medium"} | options
    return context


def _unpadded(plane: av.video.plane.VideoPlane) -> np.ndarray:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return np.ascontiguousarray(rows[:, : plane.width])
