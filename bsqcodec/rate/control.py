"""The loop that meets a goal: before each frame, the quality at which what is left would just suffice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from bsqcodec.rate.samples import HIGHEST, LOWEST, Sample

STEP = 2.0  # indices that two frames of a group may differ by, besides what their positions make of it
JUMP = 14.0  # and two groups: half an octave
HASTE = 48.0  # the same over the frames that are left, since the last ones have to make up for all
MEMORY = 1.5  # groups after which what was learnt of the samples' errors counts half
TRUST = 0.5  # groups that the samples' word weighs against what was learnt
HALVINGS = 13  # of the range of qualities: to 1/32 of an index
DRIFT = 14.0  # indices by which a wanted PSNR may move the quality away from the samples'


class Control(Protocol):
    """Chooses the quality of each frame."""

    def next(self, frame: int, position: int, bits: float, psnr: float) -> int:
        """Quality index of the group of frame number `frame`, which stands at `position` in it.

        bits: spent on all frames before; psnr: mean over the frames of all finished groups, in dB.
        """


class Forecast:
    """Bits that frames will take: each is like the sample nearest to it, of its own scene where that has one.

    frames: of the video; keyint: frames in a group; cuts: frames at which a scene, and so a group, begins.
    """

    def __init__(self, samples: Sequence[Sample], frames: int, keyint: int, cuts: Sequence[int] = ()) -> None:
        self.samples, self.frames, self.keyint = samples, frames, keyint
        self._cuts = {cut for cut in cuts if 0 < cut < frames}
        inner = [_border(a.start, b.start, self._cuts) for a, b in pairwise(samples)]
        owners = list(zip([0, *inner], samples, strict=True))
        edges = sorted({0, *inner, *self._cuts, frames})
        # runs of frames of one scene and one sample: begin, end, sample
        self._cells = [(low, high, [s for at, s in owners if at <= low][-1]) for low, high in pairwise(edges)]

    def of_frame(self, frame: int, first: bool, quality: float) -> float:
        """Bits of one frame."""
        sample = next((s for _, end, s in self._cells if frame < end), self.samples[-1])
        return sample.intra(quality) if first else sample.inter(quality)

    def of_rest(self, frame: int, position: int, quality: float) -> tuple[float, float]:
        """Bits of the first frames of groups, and of the others, from `frame` on; it stands at `position`."""
        first = other = 0.0
        for begin, end, sample in self._cells:
            low = max(begin, frame)
            if low < end:
                position = 0 if low in self._cuts else position
                count = _multiples(position + end - low, self.keyint) - _multiples(position, self.keyint)
                first += count * sample.intra(quality)
                other += (end - low - count) * sample.inter(quality)
                position = (position + end - low) % self.keyint
        return first, other

    def of_all(self, quality: float) -> float:
        """Bits of the whole video."""
        return sum(self.of_rest(0, 0, quality))


def _border(a: int, b: int, cuts: set[int]) -> int:
    """Where the frames of sample `a` end and those of `b` begin: at a cut between them, or in the middle."""
    middle = (a + b) // 2
    return min((cut for cut in cuts if a < cut <= b), key=lambda cut: abs(cut - middle), default=middle)


def _multiples(n: int, step: int) -> int:
    """Multiples of `step` in 0 .. n - 1."""
    return -(-n // step)


def solve(value: Callable[[float], float], wanted: float, low: float = LOWEST, high: float = HIGHEST) -> float:
    """The quality in low..high at which a falling function is `wanted`, or the end that is nearer to it."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) > wanted else (low, middle)
    return (low + high) / 2


class _Experience:
    """How the bits of one kind of frame compare with the forecast, the latest counting most."""

    def __init__(self, trust: float, decay: float) -> None:
        self._found = self._expected = trust
        self._decay = decay

    def add(self, found: float, expected: float) -> None:
        self._found = self._found * self._decay + found
        self._expected = self._expected * self._decay + expected

    @property
    def ratio(self) -> float:
        return self._found / self._expected


class BudgetControl:
    """Spends `budget` bits on the frames of a forecast.

    lowest, highest: the range of qualities. whole_groups: the model codes a group at once, so that bits are known
    and the quality can change only between groups.
    """

    def __init__(
        self,
        forecast: Forecast,
        budget: float,
        lowest: int = LOWEST,
        highest: int = HIGHEST,
        *,
        whole_groups: bool = False,
    ) -> None:
        self._forecast, self._budget, self._whole_groups = forecast, budget, whole_groups
        self._range = (float(lowest), float(highest))
        self._quality = solve(forecast.of_all, budget, *self._range)
        keyint = min(forecast.keyint, forecast.frames)
        first, other = (forecast.of_frame(0, kind, self._quality) for kind in (True, False))
        self._first = _Experience(first * max(TRUST, 1e-9), 0.5 ** (1 / MEMORY))
        self._other = _Experience(other * TRUST * keyint, 0.5 ** (1 / (MEMORY * keyint)))
        self._coded: list[tuple[int, int]] = []  # frames since bits were known: number, quality
        self._bits = 0.0

    def next(self, frame: int, position: int, bits: float, psnr: float = 0.0) -> int:
        """See `Control`."""
        if self._whole_groups and position:
            self._coded.append((frame, round(self._quality)))
            return round(self._quality)
        self._learn(position, bits)
        ratios = self._first.ratio, self._other.ratio

        def rest(quality: float) -> float:
            first, other = self._forecast.of_rest(frame, position, quality)
            return ratios[0] * first + ratios[1] * other

        wanted = solve(rest, self._budget - bits, *self._range)
        if frame:
            step = (STEP if position else JUMP) + HASTE / max(self._forecast.frames - frame, 1)
            wanted = min(max(wanted, self._quality - step), self._quality + step)
        self._quality = wanted
        self._coded = [(frame, round(wanted))]
        return round(wanted)

    def _learn(self, position: int, bits: float) -> None:
        """Compare the frames since the last time with what was expected of them."""
        if not self._coded:
            return
        found, self._bits = bits - self._bits, bits
        if self._whole_groups:
            expected = sum(self._forecast.of_frame(n, i == 0, q) for i, (n, q) in enumerate(self._coded))
            self._first.add(found, expected)
            self._other.add(found, expected)
            return
        number, quality = self._coded[0]
        first = position == 1 or self._forecast.keyint == 1  # also where the encoder began a group by itself
        kind = self._first if first else self._other
        kind.add(found, self._forecast.of_frame(number, first, quality))


class PsnrControl:
    """Keeps the mean PSNR of the video at `target` dB, between groups.

    quality: what the samples ask for; slope: dB an index is worth (negative).
    """

    def __init__(
        self, frames: int, target: float, quality: float, slope: float, lowest: int = LOWEST, highest: int = HIGHEST
    ) -> None:
        self._frames, self._target, self._slope = frames, target, slope
        self._start = self._quality = quality
        self._range = max(float(lowest), quality - DRIFT), min(float(highest), quality + DRIFT)
        self._sum = 0  # of the qualities so far

    def next(self, frame: int, position: int, bits: float, psnr: float) -> int:
        """See `Control`."""
        if not position and frame:
            # The line of the samples, moved to go through what was found; what is missing is made good on what is left.
            moved = psnr - self._target - self._slope * (self._sum / frame - self._start)
            wanted = (self._target - psnr) * frame / max(self._frames - frame, 1) - moved
            self._quality = min(max(self._start + wanted / self._slope, self._range[0]), self._range[1])
        self._sum += round(self._quality)
        return round(self._quality)
