"""Encoder decisions that hang on quality alone: crf to quality index, frames of a group, motion's price."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from bsqcodec.tokenizer.quality import step, x264_quality

# Indices (28 an octave) by which the frames behind a group's first are coarser, by tune and position modulo 8: what
# many frames are predicted from is worth more bits, so first frames get most, and every fourth and eighth more.
INTER_OFFSETS = {"psnr": (8, 24, 20, 24, 14, 24, 20, 24), "ms-ssim": (12, 34, 30, 34, 20, 34, 30, 34)}
# The same for first frames of groups that will be of 1, 2, 3 .. frames; an encoder looks as many frames ahead.
SHORT_OFFSETS = (26, 24, 22, 20, 19, 18, 17, 16, 14, 12, 10, 8)
LOOKAHEAD = len(SHORT_OFFSETS)
# The same, by tune, where 1, 2, 3 .. frames are left at a video's end, no more than 1 / TAIL_PART of keyint: so few
# frames deserve few of the video's bits, as x264's macroblock tree has it too.
TAIL_OFFSETS = {"psnr": (42, 32, 28, 26, 22, 20), "ms-ssim": (48, 46, 42, 38, 30, 24)}
TAIL_PART = 5
# Steps^2 a bit is worth when levels are chosen, by kind: pyramid levels full .. 1/8, then inter frames (high-rate
# theory: 0.115). An error of a small size is spread over many pixels, and a first frame is what a group's silent
# tokens show. For MS-SSIM, whose steps of fine detail are larger, detail is better kept from first frames than sent.
LEVEL_PRICES = {"psnr": (0.15, 0.05, 0.02, 0.01, 0.2), "ms-ssim": (0.1, 0.035, 0.015, 0.008, 0.35)}
# By what they are larger for chroma, by tune: (quality index, factor) of fine frames, then of coarse ones. MS-SSIM does
# not see chroma; so it is kept as good as x265's at equal MS-SSIM, whose chroma gains less from a finer quality.
CHROMA_PRICES = {"psnr": ((0, 1.0), (255, 1.0)), "ms-ssim": ((80, 2.0), (160, 1.0))}
# Weight of chroma's squared error beside luma's, near that of (6Y + U + V) / 8 in dB where chroma is 9 dB better.
CHROMA_ERROR = 5.0
# Steps that a bit of motion is worth, by tune; fine detail, which MS-SSIM hardly sees, has larger steps than a frame's.
# Half and twice as much cost 1 to 5 % (benchmarks/EXPERIMENTS.md).
MOTION_PRICES = {"psnr": 0.4, "ms-ssim": 0.75}
# --tune ms-ssim: how prices follow the variance (grey levels^2) of a token; one of MASK_VARIANCE keeps its.
MASKED_KINDS = (0, 4)  # pictures of full size
MASK_VARIANCE, MASK_STRENGTH, MASK_RANGE = 150.0, 0.3, (0.5, 3.0)
# How what an error counts in the search for motion falls with the variance, by tune: busy blocks get what is left of
# them from the levels, and their vectors would be the dearest.
MOTION_MASKS = {"psnr": 0.15, "ms-ssim": 0.3}
SSIM_C2 = (0.03 * 255) ** 2  # Wang, Bovik, Sheikh, Simoncelli 2004
CUT_FLOOR, CUT_RATIO, CUT_ACTIVITY = 6.0, 2.5, 0.75  # grey levels; ratios


def intra_quality(crf: float, curve: list[tuple[float, float]] | None = None) -> int:
    """Quality index of a group's first frame for a crf of 0..51, through a calibration curve of (crf, index) knots."""
    if not curve:
        return max(0, min(255, round(x264_quality(crf)) - INTER_OFFSETS["psnr"][0]))
    knots = sorted(curve)
    for (low, a), (high, b) in pairwise(knots):
        if crf <= high or (high, b) == knots[-1]:
            return max(0, min(255, round(a + (b - a) * (crf - low) / (high - low))))
    return max(0, min(255, round(knots[0][1])))


def first_quality(intra: int, frames: int) -> int:
    """Quality index of the first frame of a group of `frames` >= 1 frames, where a long group's is `intra`."""
    return min(255, intra + SHORT_OFFSETS[frames - 1]) if frames <= LOOKAHEAD else intra


def tail_quality(intra: int, frames: int, keyint: int, tune: str) -> int:
    """Quality index of the first of the `frames` >= 1 frames left behind groups of keyint frames."""
    offsets = TAIL_OFFSETS[tune]
    if frames <= min(len(offsets), keyint // TAIL_PART):
        return min(255, intra + offsets[frames - 1])
    return first_quality(intra, frames)


def inter_quality(intra: int, position: int, tune: str) -> int:
    """Quality index of the frame `position` >= 1 frames behind a first frame of index `intra`."""
    offsets = INTER_OFFSETS[tune]
    return min(255, intra + offsets[position % len(offsets)])


def motion_lambda(quality: int, tune: str) -> float:
    """Price of a bit of motion in grey levels of absolute difference, for a quality index 0..255."""
    return MOTION_PRICES[tune] * step(quality)


def level_prices(luma: Tensor, kind: int, tune: str) -> Tensor:
    """Steps^2 a bit is worth in each token of a picture: float [h, w] for luma uint8 [8h, 8w].

    For MS-SSIM, whose windows divide an error by 2 variance + C2, busy tokens hide errors and flat ones show them.
    """
    if tune != "ms-ssim" or kind not in MASKED_KINDS:
        return torch.full((luma.shape[0] // 8, luma.shape[1] // 8), LEVEL_PRICES[tune][kind], device=luma.device)
    return LEVEL_PRICES[tune][kind] * _hidden(luma, MASK_STRENGTH)


def chroma_price(quality: int, tune: str) -> float:
    """By what the price of a bit is larger for chroma's levels, for a quality index 0..255."""
    (fine, most), (coarse, least) = CHROMA_PRICES[tune]
    share = min(1.0, max(0.0, (quality - fine) / (coarse - fine)))
    return most + (least - most) * share


def visibility(luma: Tensor, tune: str) -> Tensor:
    """How much an error of a token's prediction counts: float [h, w] for luma uint8 [8h, 8w]."""
    return 1 / _hidden(luma, MOTION_MASKS[tune])


def _hidden(luma: Tensor, strength: float) -> Tensor:
    """How well each token of luma uint8 [8h, 8w] hides an error, beside one of MASK_VARIANCE: float [h, w]."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    variance = luma.float().reshape(rows, 8, columns, 8).var((1, 3), correction=0)
    hidden = (2 * variance + SSIM_C2) / (2 * MASK_VARIANCE + SSIM_C2)
    return (hidden**strength).clamp(*MASK_RANGE)


def is_cut(luma: Tensor, cost: float, before: float | None) -> bool:
    """Whether a frame is a cut: predicted much worse than the one before, and hardly better than from nothing.

    luma: uint8 [H, W] of the frame; cost, before: mean absolute difference of its and of the last frame's prediction.
    """
    if before is None or cost < CUT_FLOOR or cost < CUT_RATIO * before:
        return False
    rows, columns = luma.shape
    tokens = luma.float().reshape(rows // 8, 8, columns // 8, 8)
    activity = float((tokens - tokens.mean((1, 3), keepdim=True)).abs().mean())
    return cost > CUT_ACTIVITY * activity
