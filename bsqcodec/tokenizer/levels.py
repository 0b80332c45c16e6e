"""Residual BSQ with growing thresholds: the amplitude of a channel as bits that are signs of affine maps.

A channel's latent y (in units of the quantisation step) becomes the level n = sign(y) * floor(|y| + 1 - t), where t is
the first threshold (1/2 = plain rounding; larger = a dead zone). Its bits, each the sign of an affine function of y
given the bits before it, are

    stage 0   "zero"      |n| = 0, from the two codes y > t and -y > t
              "sign"      n > 0
    stage k   "ge2^k"     |n| >= 2^k, k = 1..EXPONENTS          (thresholds that double)
    refine    "mantissa"  binary digits of |n| below its leading one, most significant first (residual BSQ)

A bit that the bits before it decide is implied: it carries nothing and is not coded.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXPONENTS = 12  # |n| < 2^12: an 8x8 block's largest DCT coefficient, 2040, over the smallest step, 0.5
MAX_LEVEL = (1 << EXPONENTS) - 1
BITS = 2 + (EXPONENTS - 1) + (EXPONENTS - 1)  # zero, sign, ge2..ge2^11, mantissa digits 10..0


def quantise(latent: Tensor, threshold: float | Tensor) -> Tensor:
    """Levels of latents (any shape, units of a step): int16, sign(y) floor(|y| + 1 - t), at most MAX_LEVEL."""
    magnitude = (latent.abs() + (1 - threshold)).floor_().clamp_(max=MAX_LEVEL)
    return torch.where(latent < 0, -magnitude, magnitude).to(torch.int16)


def to_bits(levels: Tensor) -> Tensor:
    """Levels [..., C] -> uint8 [..., C, BITS]: zero, sign, ge2^1 .., mantissa 2^10 .. 2^0; implied bits are 0."""
    magnitude = levels.abs().to(torch.int32)
    exponents = [magnitude >= (1 << k) for k in range(1, EXPONENTS)]
    leading = sum(e.to(torch.int32) for e in exponents) if exponents else torch.zeros_like(magnitude)
    below = magnitude - torch.where(magnitude > 0, torch.ones_like(magnitude) << leading, magnitude)
    digits = [(below >> k) & 1 for k in range(EXPONENTS - 2, -1, -1)]
    planes = [levels == 0, levels > 0, *exponents, *digits]
    return torch.stack([plane.to(torch.uint8) for plane in planes], dim=-1)


def from_bits(bits: Tensor) -> Tensor:
    """The inverse of `to_bits`: int16 levels [..., C]. Implied bits are not looked at."""
    planes = bits.to(torch.int32).unbind(-1)
    alive = torch.ones_like(planes[0])
    leading = torch.zeros_like(planes[0])
    for plane in planes[2 : 1 + EXPONENTS]:  # a thermometer: the first zero ends it
        alive = alive * plane
        leading = leading + alive
    mantissa = sum(plane << k for plane, k in zip(planes[1 + EXPONENTS :], range(EXPONENTS - 2, -1, -1), strict=True))
    magnitude = (torch.ones_like(leading) << leading) + (mantissa & ((torch.ones_like(leading) << leading) - 1))
    magnitude = torch.where(planes[0] > 0, torch.zeros_like(magnitude), magnitude)
    return torch.where(planes[1] > 0, magnitude, -magnitude).to(torch.int16)
