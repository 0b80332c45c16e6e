"""How much of MS-SSIM an error of a DCT coefficient reaches, and the steps that follow from it.

MS-SSIM looks at a picture at five sizes, each half of the one before, and weighs fine detail, which only the first of
them shows, hardly at all (Wang, Simoncelli, Bovik 2003). So the steps of high frequencies may be coarse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bsqcodec.tokenizer.transform import LUMA, SAMPLES, channel_order

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five sizes, full size first


def sensitivity(row: int, column: int) -> float:
    """Share of MS-SSIM's weight that an 8x8 DCT coefficient (row, column 0..7) reaches: 1 for DC.

    A mean of 2x2 samples passes cos(pi k / 16)^2 of the power of the k-th of 8 frequencies; at the next size it is the
    2k-th.
    """
    passed, total = 1.0, 0.0
    for i, weight in enumerate(SCALE_WEIGHTS):
        total += weight * passed
        passed *= math.cos(math.pi * row * 2**i / 16) ** 2 * math.cos(math.pi * column * 2**i / 16) ** 2
    return total


def channel_steps(falloff: float) -> Tensor:
    """Steps of the channels relative to a flat spectrum's, float [96]: sensitivity^(-falloff / 2) of luma, 1 of chroma.

    falloff: 0 = all the same, 1 = errors of all luma channels count the same in MS-SSIM.
    """
    steps = torch.ones(SAMPLES)
    for channel, i in enumerate(channel_order()):
        if i < LUMA:
            steps[channel] = sensitivity(i // 8, i % 8) ** (-falloff / 2)
    return steps
