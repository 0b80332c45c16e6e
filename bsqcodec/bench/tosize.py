"""Encode to a wanted size: for pictures of several codecs at the same bitrate."""

from __future__ import annotations

import math
from pathlib import Path

from bsqcodec.bench.codecs import Codec, Encoded
from bsqcodec.errors import UsageError

TRIES = 8
TOLERANCE = 0.01  # relative difference in size that is good enough
OCTAVE = 6.0  # quality steps that halve the size of x264, a first guess for all
STEP = 0.1  # finest step of the quality, about 1 % in size; SVT-AV1 rounds to quarters


def encode_to_size(
    codec: Codec, source: Path, out: Path, size: int, *, keyint: int, threads: int = 1, limit: int | None = None
) -> tuple[Encoded, float]:
    """Encode into `out` with the quality whose stream is nearest to `size` bytes; that stream's facts and quality.

    The size falls with the quality option, so each try halves what is left of its range or, better, goes where the
    slope of the last two tries points to; at most `TRIES` encodes, to 1 % of the size or to a quality step of 0.1.
    Raises UsageError for a size that is not above 0, and whatever the codec raises; then `out` does not exist.
    """
    if size <= 0:
        raise UsageError(f"size {size}: must be above 0 bytes")
    low, high = codec.quality_range
    quality, slope = codec.qualities[len(codec.qualities) // 2], -math.log(2) / OCTAVE
    best: tuple[float, Encoded, float] | None = None
    last: tuple[float, float] | None = None
    attempt = out.with_name(f"{out.stem}.try{out.suffix}")
    try:
        for _ in range(TRIES):
            made = codec.encode(source, attempt, quality, keyint=keyint, threads=threads, limit=limit)
            error = math.log(attempt.stat().st_size / size)
            if best is None or abs(error) < abs(best[0]):
                best = (error, made, quality)
                attempt.replace(out)
            low, high = (quality, high) if error > 0 else (low, quality)
            if abs(error) < TOLERANCE or high - low <= STEP:
                break
            if last is not None and (error - last[1]) * (quality - last[0]) < 0:
                slope = (error - last[1]) / (quality - last[0])
            last = (quality, error)
            quality = _next(quality - error / slope, low, high, codec.quality_range)
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    finally:
        attempt.unlink(missing_ok=True)
    assert best is not None
    return best[1], best[2]


def _next(guess: float, low: float, high: float, limits: tuple[float, float]) -> float:
    """The guess in whole steps where it lies within what is left of the range, else its end or its middle."""
    guess = round(guess / STEP) * STEP
    if low < guess < high:
        return guess
    if guess <= low == limits[0] or guess >= high == limits[1]:
        return limits[0] if guess <= low else limits[1]
    return round((low + high) / 2 / STEP) * STEP
