"""The costly part of the first pass: runs of frames coded at a few qualities, and what that says about others.

A quality is an index 0..255 of a first frame (see `bsqcodec.tokenizer.quality`); the frames behind it follow it. Bits
fall with it about exponentially, PSNR about linearly, so logarithms and decibels are interpolated.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bsqcodec.codec.settings import LOOKAHEAD
from bsqcodec.errors import UsageError
from bsqcodec.frames import VideoInfo
from bsqcodec.metrics import MS_SSIM_MIN_SIDE, compare
from bsqcodec.presets import MEDIUM, Search
from bsqcodec.rate.survey import Run
from bsqcodec.results import psnr_of

if TYPE_CHECKING:
    from bsqcodec.codec import EncodedGroup, Model

OCTAVE = 28  # indices that double the step
LOWEST, HIGHEST = 0, 255
# What an index changes where only one was tried, until a second says better.
BITS_SLOPE = -math.log(2) / OCTAVE
MIN_BITS = 1.0  # of a frame, so that a frozen picture has a logarithm


@dataclass(frozen=True)
class Trial:
    """A run coded at one quality. intra, inter: mean bits of a first frame and of another; score: its quality."""

    intra: float
    inter: float
    score: float = 0.0


@dataclass
class Sample:
    """A run's trials by quality. start: number of its first frame in the video."""

    start: int
    trials: dict[int, Trial] = field(default_factory=dict)

    def intra(self, quality: float) -> float:
        """Bits of a first frame, about."""
        return math.exp(self._line(quality, lambda trial: math.log(max(trial.intra, MIN_BITS)), BITS_SLOPE))

    def inter(self, quality: float) -> float:
        """Bits of another frame, about."""
        return math.exp(self._line(quality, lambda trial: math.log(max(trial.inter, MIN_BITS)), BITS_SLOPE))

    def _line(self, quality: float, value: Callable[[Trial], float], slope: float) -> float:
        return interpolate(quality, {q: value(trial) for q, trial in self.trials.items()}, slope)


def interpolate(x: float, points: dict[int, float], slope: float) -> float:
    """A falling or rising line through points, straight on beyond them; one point has the slope given.

    Where the two points beside `x` contradict the slope's sign, they are too close to tell, and the slope is taken.
    """
    known = sorted(points)
    if len(known) == 1:
        return points[known[0]] + slope * (x - known[0])
    place = min(max(bisect_right(known, x), 1), len(known) - 1)
    low, high = known[place - 1], known[place]
    found = (points[high] - points[low]) / (high - low)
    if found * slope <= 0:
        found = slope
    nearest = low if abs(x - low) <= abs(x - high) else high
    return points[nearest] + found * (x - nearest)


class Sampler:
    """Codes runs with a model. score: of a coded run, from its frames (see `psnr_score`), or None.

    keyint: frames in a group; on_frames: called with the number of frames coded so far after each run; encoding:
    what the encode that follows may spend on its search; frames: of the video.
    """

    def __init__(
        self,
        model: Model,
        info: VideoInfo,
        keyint: int,
        runs: Sequence[Run],
        score: Callable[[Run, list[EncodedGroup]], float] | None = None,
        on_frames: Callable[[int], None] | None = None,
        encoding: Search = MEDIUM,
        frames: int = LOOKAHEAD + 1,
    ) -> None:
        self._model, self._info, self._keyint, self._runs = model, info, keyint, runs
        self._encoding = encoding
        self._ahead = min(LOOKAHEAD, frames - 1)  # as for a group that is not the last, unless it is the only one
        self._score, self._on_frames = score, on_frames
        self._coded = 0
        self.samples = [Sample(run.start) for run in runs]

    def try_quality(self, quality: int) -> None:
        """Code every run at a quality, unless that was done."""
        for run, sample in zip(self._runs, self.samples, strict=True):
            if quality not in sample.trials:
                sample.trials[quality] = self._trial(run, quality)
                self._coded += len(run.frames)
                if self._on_frames:
                    self._on_frames(self._coded)

    def _trial(self, run: Run, quality: int) -> Trial:
        from bsqcodec.codec import GroupEncoder

        encoder = GroupEncoder(self._model, self._info, crf=0.0, keyint=self._keyint, search=self._encoding)
        encoder.quality = quality
        groups = [group for frame in run.frames for group in encoder.push(frame, self._ahead)] + encoder.flush()
        intra = [group.frames[0].bits for group in groups]
        inter = [frame.bits for group in groups for frame in group.frames[1:]]
        score = self._score(run, groups) if self._score else 0.0
        return Trial(_mean(intra), _mean(inter or intra), score)


def psnr_score(info: VideoInfo) -> Callable[[Run, list[EncodedGroup]], float]:
    """Scores a run by the mean over its frames of (6 Y + U + V) / 8 in dB."""
    chroma = -(-info.width // 2) * -(-info.height // 2)
    luma = info.width * info.height

    def score(_run: Run, groups: list[EncodedGroup]) -> float:
        frames = [frame for group in groups for frame in group.frames]
        each = [(6 * psnr_of(f.sse_y, luma) + psnr_of(f.sse_u, chroma) + psnr_of(f.sse_v, chroma)) / 8 for f in frames]
        return _mean(each)

    return score


def ms_ssim_score(model: Model, info: VideoInfo) -> Callable[[Run, list[EncodedGroup]], float]:
    """Scores a run by the mean MS-SSIM of its luma, as -10 log10(1 - x) dB.

    Raises UsageError for a picture that is too small for MS-SSIM.
    """
    if min(info.width, info.height) <= MS_SSIM_MIN_SIDE:
        raise UsageError(
            f"ms-ssim needs sides above {MS_SSIM_MIN_SIDE} pixels, not {info.width}x{info.height}; use --target psnr"
        )

    def score(run: Run, groups: list[EncodedGroup]) -> float:
        from bsqcodec.codec import decode_group

        decoded = (frame for group in groups for frame in decode_group(model, group.group, info))
        mean = compare(run.frames, decoded, ms_ssim=True).ms_ssim or 0.0
        return ms_ssim_db(mean)

    return score


def ms_ssim_db(value: float) -> float:
    """MS-SSIM on a scale on which steps look alike."""
    return -10 * math.log10(max(1 - value, 1e-6))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
