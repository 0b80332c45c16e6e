"""How far a run is: the numbers handed to `on_progress`, and the meter that makes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Progress:
    """A run at one moment.

    frames: frames done; total: frames to do, None when the source does not say.
    seconds: wall time since the first frame was asked for; fps: frames done per second of it.
    bytes: bytes of the .bsq stream written so far (encode) or read so far (decode: None).
    kbps: rate of the stream so far in kbit/s of playing time; expected_bytes: size it heads for.
    eta: seconds left. None = not known (yet).
    stage: "main", or "samples" during the first pass of an encode to a goal, whose frames are not the video's.
    """

    frames: int
    total: int | None
    seconds: float
    fps: float
    bytes: int | None = None
    kbps: float | None = None
    expected_bytes: int | None = None
    eta: float | None = None
    stage: str = "main"

    @property
    def fraction(self) -> float | None:
        """Share of the frames that is done, 0..1, None when the total is not known."""
        return min(1.0, self.frames / self.total) if self.total else None

    def to_dict(self) -> dict[str, float | int | None]:
        """The fields as JSON types, rounded to what is meaningful."""
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}


ProgressCallback = Callable[[Progress], None]


class ProgressMeter:
    """Turns counts of frames and bytes into `Progress` and hands it to a callback.

    rate: playing rate in frames per second, for kbit/s; stage: see `Progress`.
    """

    def __init__(
        self, callback: ProgressCallback | None, *, rate: Fraction, total: int | None, stage: str = "main"
    ) -> None:
        self._stage = stage
        self._callback = callback
        self._rate = rate
        self._total = total if total else None
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time since the meter was made."""
        return time.perf_counter() - self._start

    def report(self, frames: int, stream_bytes: int | None = None) -> None:
        """Tell the callback that `frames` frames and `stream_bytes` bytes are done."""
        if self._callback is not None:
            self._callback(self.measure(frames, stream_bytes))

    def measure(self, frames: int, stream_bytes: int | None = None) -> Progress:
        """The state after `frames` frames and `stream_bytes` bytes."""
        seconds = self.seconds
        # A source may hold more frames than its container promised.
        total = None if self._total is None else max(self._total, frames)
        fps = frames / seconds if seconds > 0 else 0.0
        eta = (total - frames) / fps if total is not None and fps > 0 else None
        if stream_bytes is None or frames == 0 or self._rate <= 0:
            return Progress(frames, total, seconds, fps, stream_bytes, eta=eta, stage=self._stage)
        kbps = stream_bytes * 8 * float(self._rate) / frames / 1000
        expected = None if total is None else round(stream_bytes * total / frames)
        return Progress(frames, total, seconds, fps, stream_bytes, kbps, expected, eta, self._stage)
