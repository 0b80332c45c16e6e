"""Encoder decisions that hang on quality alone: crf to quality index, frames of a group, motion's price."""

from __future__ import annotations

from bsqcodec.tokenizer.quality import step, x264_quality

INTER_OFFSET = 9  # indices (28 an octave): frames that nothing long-lived is predicted from get a coarser step


def intra_quality(crf: float, curve: list[tuple[float, float]] | None = None) -> int:
    """Quality index of a group's first frame for a crf of 0..51, through a calibration curve of (crf, index) knots."""
    if not curve:
        return max(0, min(255, round(x264_quality(crf)) - INTER_OFFSET))
    knots = sorted(curve)
    for (low, a), (high, b) in zip(knots, knots[1:], strict=False):
        if crf <= high or (high, b) == knots[-1]:
            return max(0, min(255, round(a + (b - a) * (crf - low) / (high - low))))
    return max(0, min(255, round(knots[0][1])))


def inter_quality(intra: int) -> int:
    """Quality index of the frames behind a first frame of index `intra`."""
    return min(255, intra + INTER_OFFSET)


def motion_lambda(quality: int) -> float:
    """Price of a bit of motion in units of absolute difference: half a step (sqrt of 0.25 step^2, close to the
    Lagrangian 0.1 step^2 of the squared error times the usual factor for SATD)."""
    return 0.4 * step(quality)
