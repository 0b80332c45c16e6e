"""Frames that are lost between two groups: how many they are, and when they were shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from bsqcodec.container.chunks import ChunkHead
from bsqcodec.container.fields import I64, FieldReader
from bsqcodec.container.groups import parse_prefix, parse_times
from bsqcodec.container.types import Group, StreamHeader
from bsqcodec.errors import BitstreamError, UnsupportedVersionError

MAX_FILLED = 65535  # frames of one gap that get times, so that a forged frame number cannot ask for 2^63 pictures


@dataclass(frozen=True)
class Gap:
    """Frames of the video that are lost.

    first_frame, frames: which; pts, durations: ticks, one each for the frames that a decoder may fill in: all of them
    but beyond `MAX_FILLED`, and where their time is too short to tell them apart.
    """

    first_frame: int
    frames: int
    pts: tuple[int, ...]
    durations: tuple[int, ...]


class Hole:
    """What is known between the last whole group and the next while a file is walked.

    next_frame: the frame that should come next; region: (offset, bytes, message) of the damage since the last group.
    """

    def __init__(self, header: StreamHeader) -> None:
        self.next_frame = 0
        self.region: tuple[int, int, str] | None = None
        self._step = max(1, round(1 / (header.info.fps * header.info.time_base)))  # ticks a frame
        self._last_pts: int | None = None
        self._told: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None

    def passed(self, group: Group) -> None:
        """A whole group came."""
        self.next_frame = group.first_frame + len(group.pts)
        if group.durations[-1] or len(group.pts) > 1:
            self._step = max(1, group.durations[-1] or group.pts[-1] - group.pts[-2])
        self._last_pts, self._told, self.region = group.pts[-1], None, None

    def widen(self, offset: int, size: int, message: str) -> None:
        """More damage: the region grows up to it, the first message stays."""
        if self.region is not None:
            first, _, message = self.region
            offset, size = first, offset + size - first
        self.region = offset, size, message

    def note(self, offset: int, where: str, problem: str) -> None:
        """Something is wrong at a place without damage of its own; what is known of damage before it stays."""
        if self.region is None:
            self.region = offset, 0, f"{where}: {problem}"
        else:
            first, size, message = self.region
            self.region = first, size, f"{message}; {problem}"

    def remember_times(self, payload: bytes, head: ChunkHead) -> None:
        """Keep the times of a damaged group; `before` believes them only where they fit."""
        fields = FieldReader(payload, head.payload_offset)
        try:
            prefix = parse_prefix(fields)
            self._told = prefix.first_frame, *parse_times(fields, prefix)
        except (BitstreamError, UnsupportedVersionError):
            pass

    def before(self, first_frame: int, pts: int | None) -> Gap | None:
        """What is missing before a group that begins with this frame at this time (None: the end of the video)."""
        frames = first_frame - self.next_frame
        if frames <= 0:
            return None
        times, durations = self._believed(frames, pts) or self._even(frames, pts)
        return Gap(self.next_frame, frames, times, durations)

    def _believed(self, frames: int, pts: int | None) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The damaged group's own times, unless a steady rate explains both sides: damage cannot have touched that."""
        steady = None not in (pts, self._last_pts) and pts == (self._last_pts or 0) + self._step * (frames + 1)
        if self._told is None or steady:
            return None
        first_frame, times, durations = self._told
        around = [*([] if self._last_pts is None else [self._last_pts]), *times, *([] if pts is None else [pts])]
        rising = all(earlier < later for earlier, later in pairwise(around))
        return (times, durations) if rising and (first_frame, len(times)) == (self.next_frame, frames) else None

    def _even(self, frames: int, pts: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        filled = range(min(frames, MAX_FILLED))
        start = self._last_pts
        if start is not None and pts is not None:
            times = [start + (pts - start) * (i + 1) // (frames + 1) for i in filled]
        elif pts is not None:
            times = [pts - self._step * (frames - i) for i in filled]
        else:
            times = [(-self._step if start is None else start) + self._step * (i + 1) for i in filled]
        low, high = -I64 - 1 if start is None else start, I64 if pts is None else pts - 1
        kept = [b for a, b in pairwise([low, *times]) if a < b <= high]
        ends = [*kept[1:], kept[-1] + self._step if pts is None else pts] if kept else []
        return tuple(kept), tuple(min(end - time, I64) for time, end in zip(kept, ends, strict=True))
