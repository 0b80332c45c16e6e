"""The quality of x264 at a crf, which is what crf means here: `ffmpeg -c:v libx264 -preset medium -crf N`."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from bsqcodec.frames import Frame
from bsqcodec.metrics import Quality, compare

RATE = Fraction(25)  # frames per second; only the rate control's look-ahead knows it


def x264_quality(frames: list[Frame], crf: float, *, ms_ssim: bool = False) -> Quality:
    """How well frames with even sides come out; B-frames as the preset has them."""
    context = _context("libx264", "w")
    context.height, context.width = frames[0].y.shape
    context.pix_fmt = "yuv420p"
    context.framerate, context.time_base = RATE, 1 / RATE
    context.thread_count = 1
    context.options = {"preset": "medium", "crf": f"{crf:g}"}
    packets = [packet for i, frame in enumerate(frames) for packet in context.encode(_picture(frame, i))]
    packets += context.encode(None)
    return compare(frames, _decode(packets), ms_ssim=ms_ssim)


def _decode(packets: list[av.Packet[Any]]) -> Iterator[Frame]:
    context = _context("h264", "r")
    context.thread_count = 1
    for packet in [*packets, None]:
        for picture in context.decode(packet):
            planes = picture.to_ndarray(format="yuv420p")
            rows, columns = picture.height, picture.width
            chroma = planes[rows:].reshape(2, rows // 2, columns // 2)
            yield Frame(planes[:rows], chroma[0], chroma[1], 0)


def _context(codec: str, mode: str) -> VideoCodecContext:
    context = av.CodecContext.create(codec, mode)  # type: ignore[call-overload]
    assert isinstance(context, VideoCodecContext)
    return context


def _picture(frame: Frame, index: int) -> av.VideoFrame:
    rows, columns = frame.y.shape
    packed = np.concatenate([frame.y.ravel(), frame.u.ravel(), frame.v.ravel()]).reshape(rows * 3 // 2, columns)
    picture = av.VideoFrame.from_ndarray(packed, format="yuv420p")
    picture.pts, picture.time_base = index, 1 / RATE
    return picture
