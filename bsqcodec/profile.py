"""Where the time of an encode or a decode goes: a watch that the stages of the work report to, and what it found.

Code that works says `with stage("prior"):`; unless a `Stopwatch` runs in this thread, that does nothing. Time counts
for the innermost stage alone, so the stages, "other" among them, add up to the time the watch ran.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    import torch

    from bsqcodec.codec import Model

OTHER = "other"
STAGES = ("read", "motion", "compensation", "encoder", "refinement", "prior", "coder", "decoder", "write", OTHER)
NETWORKS = ("encoder", "prior", "decoder")  # the stages that are matrix products, for which there is a floor

T = TypeVar("T")
Grid = tuple[int, int, int]  # frames, token rows and token columns that a network takes at once


@dataclass(frozen=True)
class StageTime:
    """seconds: spent in a stage, less the stages inside it; macs: of its networks, None = it is not of NETWORKS."""

    seconds: float
    macs: int | None = None


@dataclass(frozen=True)
class Profile:
    """What a run spent on each of STAGES.

    seconds: wall time, the sum of the stages'; frames: of the video that was written; threads: of torch.
    macs_per_second: multiply-adds of one float32 matrix product on this machine, with these threads, right after the
    run; a floor is what a stage's macs take at that rate.
    """

    seconds: float
    frames: int
    threads: int
    macs_per_second: float
    stages: Mapping[str, StageTime]

    def figures(self, name: str) -> dict[str, float | int | None]:
        """A row of the table: the keys of a stage in docs/json.md; None where there is no floor."""
        stage = self.stages[name]
        floor = None if stage.macs is None else stage.macs / self.macs_per_second
        return {
            "seconds": stage.seconds,
            "share": stage.seconds / self.seconds if self.seconds else 0.0,
            "ms_per_frame": 1000 * stage.seconds / max(1, self.frames),
            "macs": stage.macs,
            "floor_seconds": floor,
            "over_floor": stage.seconds / floor if floor else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, rounded to what is meaningful."""
        stages = {name: {key: _rounded(value) for key, value in self.figures(name).items()} for name in self.stages}
        return {
            "seconds": _rounded(self.seconds),
            "frames": self.frames,
            "threads": self.threads,
            "macs_per_second": round(self.macs_per_second),
            "stages": stages,
        }


def _rounded(value: float | int | None) -> float | int | None:
    return round(value, 6) if isinstance(value, float) else value


class Stopwatch:
    """A context manager that measures from `start` to `stop`, or to the end of the block.

    seconds: by stage; pictures: how many grids the networks took, by (stage, grid). wanted: False = it never starts.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.pictures: Counter[tuple[str, Grid]] = Counter()
        self._inside = [OTHER]
        self._since = 0.0
        self._settle: Callable[[], None] = _nothing
        self._running: Token[Stopwatch | None] | None = None

    def start(self, model: Model) -> None:
        """Begin, if that is wanted; at each border what the model's device has not done yet is waited for."""
        if self.wanted:
            self._settle = _settler(model.device)
            self._settle()
            self._running = _current.set(self)
            self._since = time.perf_counter()

    def stop(self) -> None:
        """End; a second call does nothing."""
        if self._running is not None:
            self._lap()
            _current.reset(self._running)
            self._running = None

    @contextmanager
    def stage(self, name: str, grid: Grid | None) -> Iterator[None]:
        """See the function of this name."""
        if grid is not None:
            self.pictures[name, grid] += 1
        self._lap()
        self._inside.append(name)
        try:
            yield
        finally:
            self._lap()
            self._inside.pop()

    def _lap(self) -> None:
        """Give the time since the last border to the stage that it was spent in."""
        self._settle()
        now = time.perf_counter()
        self.seconds[self._inside[-1]] += now - self._since
        self._since = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


# Of this thread: what another one codes at the same time is not this run's.
_current: ContextVar[Stopwatch | None] = ContextVar("bsqcodec_profile", default=None)
_OFF: AbstractContextManager[None] = nullcontext()


def stage(name: str, grid: Grid | None = None) -> AbstractContextManager[None]:
    """A block of work that counts for a stage; grid: what one of NETWORKS takes in it. Must not hold a `yield`."""
    watch = _current.get()
    return _OFF if watch is None else watch.stage(name, grid)


def staged(name: str, items: Iterable[T]) -> Iterable[T]:
    """The items, the time it takes to get each of them counted for a stage."""
    return items if _current.get() is None else _fetched(name, iter(items))


def _fetched(name: str, items: Iterator[T]) -> Iterator[T]:
    while True:
        with stage(name):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _settler(device: torch.device) -> Callable[[], None]:
    """What waits for a device: CUDA returns before its work is done."""
    if device.type != "cuda":
        return _nothing
    import torch

    return lambda: torch.cuda.synchronize(device)


def _nothing() -> None:
    pass
