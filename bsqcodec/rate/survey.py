"""The cheap part of the first pass: how long a video is, what its other tracks weigh, and some runs of its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.profile import staged
from bsqcodec.results import Tally

if TYPE_CHECKING:
    from bsqcodec.video import VideoReader

RUNS = 5  # runs of frames that are kept, spread over the video
SPARSE = 4  # one frame in so many is kept at most
RUN_FRAMES = 9  # a first frame and two periods of the qualities that follow it
MEMORY = 4 * 10**8  # bytes of frames kept at most
PACKET_OVERHEAD = 5  # bytes of the container for each packet, about

# A cut, as far as a look without motion search can tell: grey levels, and times the change before it.
CUT_CHANGE, CUT_RATIO = 12.0, 3.0
LOOK = 8  # every 8th sample of every 8th row is looked at

Opener = Callable[[], AbstractContextManager["VideoReader"]]


@dataclass(frozen=True)
class Run:
    """Consecutive frames of the video; start: number of the first."""

    start: int
    frames: list[Frame]


@dataclass
class Survey:
    """frames: of the video; seconds: its playing time; track_bytes: of packets, with their overhead; runs in order.

    cuts: frames that look like the first of a scene.
    """

    info: VideoInfo
    frames: int
    seconds: float
    track_bytes: int
    tracks: int
    runs: list[Run] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)


def run_length(keyint: int) -> int:
    """Frames of a run: whole groups where those are short."""
    return RUN_FRAMES if keyint > RUN_FRAMES else keyint * max(1, RUN_FRAMES // keyint)


def take_survey(opened: Opener, length: int) -> Survey:
    """Read the video to its end, keeping runs of `length` frames; twice where it does not say how long it is."""
    with opened() as video:
        total = video.frame_count_hint
    if total is None:
        total = _read(opened, [], length).frames
    survey = _read(opened, starts(total, length, _most_runs(opened, length)), length)
    if survey.frames < total and len(survey.runs[-1].frames) < length:  # the file promised more than it has
        survey = _read(opened, starts(survey.frames, length, RUNS), length)
    return survey


def starts(total: int, length: int, most: int) -> list[int]:
    """Where runs begin: in the middle of equal parts of `total` frames."""
    count = max(1, min(most, total // (SPARSE * length)))
    return [max(0, (2 * i + 1) * total // (2 * count) - length // 2) for i in range(count)]


def _most_runs(opened: Opener, length: int) -> int:
    with opened() as video:
        pixels = video.info.width * video.info.height
    return max(1, min(RUNS, MEMORY // (length * pixels * 3 // 2)))


def _read(opened: Opener, begins: list[int], length: int) -> Survey:
    with opened() as video:
        tally, changes = Tally(video.info), Changes()
        survey = Survey(video.info, 0, 0.0, 0, len(video.tracks), [Run(begin, []) for begin in begins])
        for item in staged("read", video):
            if not isinstance(item, Frame):
                survey.track_bytes += len(item.data) + PACKET_OVERHEAD
                continue
            for run in survey.runs:
                if run.start <= survey.frames < run.start + length:
                    run.frames.append(item)
            if changes.is_cut(item):
                survey.cuts.append(survey.frames)
            tally.add_group((item.pts,), (item.duration,), {})
            survey.frames += 1
    survey.runs = [run for run in survey.runs if run.frames]
    survey.seconds = tally.duration
    return survey


class Changes:
    """How much the picture changes from frame to frame."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._before: deque[float] = deque(maxlen=3)  # changes; those to a frame that is shown again are nothing

    def is_cut(self, frame: Frame) -> bool:
        """Whether a frame changes far more than those before."""
        look = frame.y[::LOOK, ::LOOK].astype(np.int16)
        last, self._last = self._last, look
        if last is None:
            return False
        change = float(np.abs(look - last).mean())
        cut = bool(self._before) and change > max(CUT_CHANGE, CUT_RATIO * max(self._before))
        self._before.append(change)
        return cut
