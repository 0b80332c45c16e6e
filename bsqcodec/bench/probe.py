"""A quick look at a video or image before hours are spent on it: size, rate, number of pictures, whether it is whole.

The first picture is decoded; the rest is counted by its packets, and a YUV4MPEG2 file by its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition

from bsqcodec.bench.rawvideo import frame_bytes
from bsqcodec.errors import VideoError
from bsqcodec.frames import VideoInfo

MAX_Y4M_HEADER = 1024  # bytes
FRAME_MARK = b"FRAME\n"  # in front of a YUV4MPEG2 frame without parameters
REORDER = 32  # packets; more than any codec's B-frames delay a picture
UNRELIABLE = {"mpegts", "mpeg"}  # formats whose healthy packets FFmpeg flags as corrupt


@dataclass(frozen=True)
class Scan:
    """What a look at a file found.

    info: of the first picture, once it is 8-bit 4:2:0 (`source_format` names what it was). frames: pictures, at most
    the limit asked for. steady: one picture every 1/fps seconds. alone: nothing else is in the file, no sound either.
    """

    info: VideoInfo
    frames: int
    steady: bool
    alone: bool


def scan(path: Path, limit: int | None = None) -> Scan:
    """Look at a file that FFmpeg reads, counting at most `limit` pictures (None = all).

    Raises VideoError when it cannot be opened, when its first picture cannot be decoded, or when it is cut short.
    """
    from bsqcodec.video import open_video

    with open_video(path, limit=1, threads=1) as video:
        info = video.info
    frames = _count_y4m(path)
    if frames is not None:
        return Scan(info, min(frames, limit or frames), steady=True, alone=True)
    _check_whole(path)
    try:
        with av.open(f"file:{path}") as container:
            alone = len(container.streams) == 1
            ahead = None if limit is None else limit + REORDER
            times = sorted(islice(_times(container, path), ahead))[:limit]
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: is damaged ({error}); copy or download it again") from error
    if not times:
        raise VideoError(f"{path}: holds no picture; copy or download it again")
    return Scan(info, len(times), _is_steady(times, info.fps), alone)


def _times(container: InputContainer, path: Path) -> Iterator[Fraction]:
    """Seconds of every picture in file order; -1 where the file does not say."""
    stream = next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    for packet in container.demux(stream):
        if packet.is_corrupt and container.format.name not in UNRELIABLE:
            raise VideoError(f"{path}: is cut short or damaged; copy or download it again")
        if packet.size and not packet.is_discard:  # discarded: before the start that an edit list sets
            pts, base = packet.pts, packet.time_base
            yield Fraction(-1) if pts is None or base is None else pts * base


def _is_steady(times: list[Fraction], fps: Fraction) -> bool:
    """True when picture n of the sorted ones is shown at n / fps seconds, give or take less than half a picture."""
    return all(abs((time - times[0]) * fps - n) < Fraction(1, 2) for n, time in enumerate(times))


def _check_whole(path: Path) -> None:
    """Raise VideoError when the file is shorter than it says itself."""
    from bsqcodec.video.source import Source

    source = Source(path)
    source.container.close()
    short = source.is_cut_short(0, 0) if source.format != "yuv4mpegpipe" else False
    if path.suffix.lower() in (".jpg", ".jpeg"):
        short = short or _is_half_jpeg(path)
    if short:
        raise VideoError(f"{path}: is cut short; copy or download it again")


def _is_half_jpeg(path: Path) -> bool:
    """FFmpeg fills the missing half of a JPEG with grey and says nothing; Pillow tells."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return True
    return False


def _count_y4m(path: Path) -> int | None:
    """Frames of a YUV4MPEG2 file by its size, without reading it.

    None for other files, and for YUV4MPEG2 of other formats than 8-bit 4:2:0 or with parameters in frames.
    Raises VideoError when the file ends within a frame.
    """
    with path.open("rb") as file:
        head = file.read(MAX_Y4M_HEADER)
    line, newline, rest = head.partition(b"\n")
    if not head.startswith(b"YUV4MPEG2 ") or not newline or not rest.startswith(FRAME_MARK):
        return None
    fields = {token[:1]: token[1:].decode("ascii", "replace") for token in line.split()[1:]}
    if not re.fullmatch(r"420(jpeg|mpeg2|paldv)?", fields.get(b"C", "420")):
        return None
    width, height = int(fields[b"W"]), int(fields[b"H"])  # FFmpeg has read them, so they are numbers
    frame = len(FRAME_MARK) + frame_bytes(width, height)
    size = path.stat().st_size - len(line) - 1
    if size % frame:
        raise VideoError(
            f"{path}: is cut short, {size % frame} of {frame} bytes of frame {size // frame} are there; "
            "copy or download it again"
        )
    return size // frame
