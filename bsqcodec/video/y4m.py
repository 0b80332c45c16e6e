"""YUV4MPEG2 out: a text header, then raw planes; what pipes between video tools speak."""

from __future__ import annotations

from typing import BinaryIO

from bsqcodec.frames import Frame, VideoInfo

# AVChromaLocation -> the tag FFmpeg reads back as that; the others have none
CHROMA_TAGS = {1: "420mpeg2", 2: "420jpeg", 3: "420paldv"}


def y4m_header(info: VideoInfo) -> bytes:
    """The stream header. Rotation, colour code points and variable frame times have no place in it."""
    fields = [
        "YUV4MPEG2",
        f"W{info.width}",
        f"H{info.height}",
        f"F{info.fps.numerator}:{info.fps.denominator}",
        "Ip",  # progressive
        f"A{info.sample_aspect_ratio.numerator}:{info.sample_aspect_ratio.denominator}",
        f"C{CHROMA_TAGS.get(info.chroma_location, '420')}",
    ]
    if info.full_range is not None:
        fields.append(f"XCOLORRANGE={'FULL' if info.full_range else 'LIMITED'}")
    return " ".join(fields).encode() + b"\n"


def write_y4m_frame(file: BinaryIO, frame: Frame) -> None:
    """One frame, lossless."""
    file.write(b"FRAME\n")
    for plane in (frame.y, frame.u, frame.v):
        file.write(plane.tobytes())
