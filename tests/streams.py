"""Small .bsq streams without a codec: groups whose words only say which frames they hold, with packets beside them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from bsqcodec.container import Group, StreamHeader, StreamReader, StreamStats, StreamWriter
from bsqcodec.frames import Track, TrackPacket, VideoInfo

TICK = Fraction(1, 100)  # s
STEP = 4  # ticks of a frame
AUDIO = Track("audio", "flac", Fraction(1, 1000), b"priv", "deu", 8000, 1, "mono", 0)
LENGTH = 30  # ticks of an audio packet
INFO = VideoInfo(64, 48, TICK, Fraction(25))
HEADER = StreamHeader(INFO, 8, "psnr", 28.0, bytes(range(32)), "bsq-test", tool="test")
STATS = StreamStats(100, (("1", 50),), (30.0, 40.0, 50.0))


def group(first: int, frames: int, start: int = 0, size: int = 4, step: int = STEP) -> Group:
    """Frames `first` .. of a video that begins at `start` ticks; `size` words tell them apart."""
    pts = tuple(start + step * (first + i) for i in range(frames))
    qualities = tuple((first + i) % 256 for i in range(frames))
    return Group(first, pts, (step,) * frames, qualities, b"", first.to_bytes(4, "little") * size)


def sound(begin: float, end: float) -> list[TrackPacket]:
    """The packets that begin in [begin, end) seconds; their data is their time."""
    times = range(-LENGTH, round(1000 * end), LENGTH)
    wanted = [time for time in times if 1000 * begin <= time]
    return [TrackPacket(0, str(time).encode(), time, time, LENGTH, True) for time in wanted]


def stream(
    sizes: Sequence[int],
    *,
    start: int = 0,
    audio: bool = True,
    header: StreamHeader = HEADER,
    tracks: Sequence[Track] = (AUDIO,),
    words: int = 4,
    stats: StreamStats | None = STATS,
) -> bytes:
    """A file with groups of so many frames, and the audio stored half a second ahead of them."""
    file = io.BytesIO()
    writer = StreamWriter(file, replace(header, keyint=max(*sizes, header.keyint)), tracks if audio else ())
    writer.write_meta({"title": "a test"})
    frame, stored = 0, -1.0
    step = round(STEP * TICK / header.info.time_base)
    for size in sizes:
        ahead = float((frame + size) * STEP * TICK) + start * float(header.info.time_base) + 0.5
        if audio and tracks:
            writer.write_packets(sound(stored, ahead))
        writer.write_group(group(frame, size, start, words, step))
        frame, stored = frame + size, ahead
    writer.close(stats)
    return file.getvalue()


def contents(data: bytes | Path) -> tuple[list[Group], list[TrackPacket]]:
    """All groups and all packets of a file."""
    reader = StreamReader(io.BytesIO(data if isinstance(data, bytes) else data.read_bytes()))
    items = list(reader)
    groups = [item for item in items if isinstance(item, Group)]
    return groups, [packet for item in items if isinstance(item, list) for packet in item]


class CountingFile(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


class Pipe(io.BytesIO):
    """The same bytes, front to back only."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_args: int) -> int:
        raise io.UnsupportedOperation("seek")
