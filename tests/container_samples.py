"""A small .bsq file made in memory, and what the tests of the container do with it."""

from __future__ import annotations

import io
import math
from fractions import Fraction

from bsqcodec.container import Gap, Group, SalvageReader, StreamHeader, StreamReader, StreamStats, StreamWriter, scan
from bsqcodec.container.chunks import PREAMBLE, pack_chunk
from bsqcodec.errors import BsqError
from bsqcodec.frames import Track, TrackPacket, VideoInfo

INFO = VideoInfo(
    640, 360, Fraction(1, 30000), Fraction(30000, 1001), Fraction(4, 3), 270, 9, 16, 9, True, 1, "yuv444p10le"
)
HEADER = StreamHeader(INFO, 32, "psnr", 27.35, bytes(range(32)), "bsq-test", tool="test 1.0")
AUDIO = Track("audio", "aac", Fraction(1, 44100), b"\x12\x10", "deu", 44100, 2, "stereo", 1024)
TITLES = Track("subtitle", "subrip", Fraction(1, 1000), b"", "eng")
STATS = StreamStats(1234, (("1", 5000), ("2", 2500)), (33.125, math.inf, 40.0))


def regular_group(first: int, frames: int = 32, words: int = 50) -> Group:
    pts = tuple(1001 * (first + i) for i in range(frames))
    qualities = (20,) + (24,) * (frames - 1)
    return Group(first, pts, (1001,) * frames, qualities, bytes(range(4)) * words, b"\xa5\x5a\x00\xff" * words * 3)


def packets(first: int, count: int) -> list[TrackPacket]:
    sound = [TrackPacket(0, bytes([i]) * 90, 1024 * i, 1024 * i, 1024, True) for i in range(first, first + count)]
    return [*sound, TrackPacket(1, b"Hello", 40 * first, None, 2000, True), TrackPacket(0, b"", None, None, 0, False)]


def write(groups: int = 4, close: bool = True) -> bytes:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, [AUDIO, TITLES])
    writer.write_meta({"title": "Größe", "": "empty key"})
    for number in range(groups):
        writer.write_packets(packets(10 * number, 10))
        writer.write_group(regular_group(32 * number))
    if close:
        writer.close(STATS)
    return file.getvalue()


WHOLE = write()


class Pipe(io.RawIOBase):
    """Bytes that come a few at a time and cannot be sought."""

    def __init__(self, data: bytes, step: int = 1000) -> None:
        self.data, self.step = data, step

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        piece, self.data = self.data[: min(size, self.step)], self.data[min(size, self.step) :]
        return piece


def read(data: bytes, pipe: bool = False) -> list[Group | list[TrackPacket]]:
    return list(StreamReader(Pipe(data) if pipe else io.BytesIO(data), name="x.bsq"))  # type: ignore[arg-type]


def chunks(data: bytes) -> list[tuple[int, bytes, int]]:
    """(offset, type, payload bytes) of every chunk."""
    found, offset = [], len(PREAMBLE)
    while offset < len(data):
        kind, length = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        found.append((offset, kind, length))
        offset += length + 12
    return found


def with_payload(data: bytes, wanted: bytes, payload: bytes, nth: int = 0) -> bytes:
    """The same file with the payload of one chunk replaced and its CRC right."""
    offset, kind, length = [chunk for chunk in chunks(data) if chunk[1] == wanted][nth]
    return data[:offset] + pack_chunk(kind, payload) + data[offset + length + 12 :]


def exercise(data: bytes) -> None:
    """Everything a user can do to a file; only BsqError may come out."""
    for action in (
        lambda: read(data),
        lambda: read(data, pipe=True),
        lambda: scan(io.BytesIO(data)),
        lambda: scan(io.BytesIO(data), check=True),
        lambda: scan(Pipe(data)),  # type: ignore[arg-type]
        lambda: indexed(data),
        lambda: salvaged(data),
    ):
        try:
            action()
        except BsqError as error:
            assert str(error) and "\n" not in str(error)


def indexed(data: bytes) -> None:
    reader = StreamReader(io.BytesIO(data))
    for entry in reader.index():
        reader.read_group(entry)


def salvaged(data: bytes) -> None:
    """What a salvage yields is in order, without holes that are not told."""
    reader = SalvageReader(io.BytesIO(data))
    due = 0
    for item in reader:
        if not isinstance(item, list):
            assert item.first_frame == due
            due += item.frames if isinstance(item, Gap) else len(item.pts)
    assert all("\n" not in loss.message and 0 <= loss.offset <= len(data) for loss in reader.losses)


SMALL = write(2)
