"""The quality scale: one byte a frame chooses the quantisation step.

Index q in 0..255 is a step of STEP_Q8[q] / 256 in units of an orthonormal transform of 8-bit samples;
28 indices double the step (0.5 at 0, 16.1 at 140, 276 at 255).
"""

from __future__ import annotations

STEP_Q8: tuple[int, ...] = tuple(round(128 * 2 ** (q / 28)) for q in range(256))  # Q8 fixed point


def step(quality: int) -> float:
    """Quantisation step of a quality index, exact in float32."""
    return STEP_Q8[quality] / 256


def x264_quality(crf: float) -> float:
    """Quality index (not rounded) whose step is H.264's at QP = crf: 0.625 * 2^(QP / 6) (ITU-T H.264, 8.5.9)."""
    return 28 * (crf / 6 + 0.32192809488736235)  # log2(0.625 / 0.5)
