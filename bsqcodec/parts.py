"""Parts of a .bsq video, by time or by number, and the frames that belong to them. Times count from the first frame."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from bsqcodec.container import Group
from bsqcodec.errors import UsageError
from bsqcodec.frames import VideoInfo

Time = str | int | float | Fraction
_CLOCK = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?|\.\d+)(ms|s)?")


def seconds(value: Time, what: str = "time") -> Fraction:
    """A time in FFmpeg's spelling, exact: 12.5, "12.5", "750ms", "1:02.5", "1:00:02.5". Raises UsageError.

    what: how that calls it.
    """
    if not isinstance(value, str):
        try:
            return Fraction(str(value))  # the number as it is written: 0.1 is a tenth
        except ValueError:
            raise UsageError(f"{what} {value}: not a time; give seconds") from None
    match = _CLOCK.fullmatch(value)
    if match is None or (match[2] and (match[4] or float(match[3]) >= 60)):
        raise UsageError(f"{what} {value!r}: not a time; write seconds (12.5) or 1:02:03.5")
    hours, minutes, rest = int(match[1] or 0), int(match[2] or 0), Fraction(match[3])
    return (3600 * hours + 60 * minutes + rest) / (1000 if match[4] == "ms" else 1)


@dataclass(frozen=True)
class Part:
    """What of a video is wanted: its frames from `start` seconds or from frame `skip` on, for `duration` seconds or
    `limit` frames. A frame belongs to the part when it begins in it. Everything left out = the whole video.
    """

    start: Fraction | None = None
    duration: Fraction | None = None
    skip: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.skip:
            raise UsageError("--start and --skip contradict each other; give one")
        if self.duration is not None and self.limit is not None:
            raise UsageError("--duration and --limit contradict each other; give one")
        if self.start is not None and self.start < 0:
            raise UsageError(f"start {float(self.start):g}: must be 0 seconds or more")
        if self.duration is not None and self.duration <= 0:
            raise UsageError(f"duration {float(self.duration):g}: must be more than 0 seconds")
        if self.skip < 0:
            raise UsageError(f"skip {self.skip}: must be 0 frames or more")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit {self.limit}: must be 1 frame or more")

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self == Part()

    @staticmethod
    def of(start: Time | None, duration: Time | None, skip: int, limit: int | None) -> Part:
        """A part from times as users write them."""
        begin = None if start is None else seconds(start, "start")
        return Part(begin, None if duration is None else seconds(duration, "duration"), skip, limit)


class Selection:
    """Says of each group, in order, which of its frames belong to the part."""

    def __init__(self, part: Part, info: VideoInfo, first_pts: int) -> None:
        self._part, self._info = part, info
        self._begin = None if part.start is None else first_pts * info.time_base + part.start
        self.first: tuple[int, int] | None = None  # number and pts of the first frame
        self.last_pts = self._last_duration = self.frames = 0
        self.done = False
        self._stop = Fraction(0)  # seconds; where `duration` ends

    def pick(self, group: Group) -> range:
        """Frames of a group, counted from its first."""
        picked = [i for i, pts in enumerate(group.pts) if self._takes(group.first_frame + i, pts, group.durations[i])]
        return range(picked[0], picked[-1] + 1) if picked else range(0)

    @property
    def end(self) -> Fraction:
        """When the last frame taken so far ends, in seconds."""
        known = self._last_duration * self._info.time_base
        return self.last_pts * self._info.time_base + (known or 1 / self._info.fps)

    def _takes(self, number: int, pts: int, duration: int) -> bool:
        part, time = self._part, pts * self._info.time_base
        if self.first is None:
            if number < part.skip or (self._begin is not None and time < self._begin):
                return False
            if part.duration is not None:
                self._stop = (time if self._begin is None else self._begin) + part.duration
        if self.done or (part.duration is not None and time >= self._stop):
            self.done = True
            return False
        if self.first is None:
            self.first = (number, pts)
        self.last_pts, self._last_duration, self.frames = pts, duration, self.frames + 1
        self.done = self.frames == part.limit
        return True
