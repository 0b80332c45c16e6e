"""Binary Spherical Quantization (Zhao, Xiong, Kraehenbuehl, arXiv 2406.07548, section 3.1).

v in R^L is projected on the unit sphere, u = v / |v|, and quantised to the corner of the cube inscribed in it:
u_hat = sign(u) / sqrt(L), with sign(0) = -1, so that bit = 1 exactly where v > 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def to_bits(v: Tensor) -> Tensor:
    """Bits of the code of v: bool [..., L], true where v > 0."""
    return v > 0


def to_code(bits: Tensor) -> Tensor:
    """The point of the unit sphere a decoder sees: +-1 / sqrt(L), float32 [..., L]."""
    return (bits.float() * 2 - 1) / math.sqrt(bits.shape[-1])


def quantise(v: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise v [..., L]; returns (code with the straight-through gradient, u on the sphere)."""
    u = F.normalize(v, dim=-1)
    code = to_code(to_bits(v)).to(u.dtype)
    return u + (code - u).detach(), u


def entropy_loss(u: Tensor, temperature: float = 100.0) -> Tensor:
    """Mean entropy of a token's bits minus the entropy of the mean bit, in nats a bit (eq. 7-9).

    Bits are independent given u. Soft probability of bit i is sigmoid(2 tau u_i / sqrt(L)); minimising the first term
    makes codes certain, maximising the second uses all of them.
    """
    p = torch.sigmoid(2 * temperature * u / math.sqrt(u.shape[-1])).clamp(1e-6, 1 - 1e-6)
    each = _binary_entropy(p).mean()
    together = _binary_entropy(p.flatten(0, -2).mean(0)).mean()
    return each - together


def _binary_entropy(p: Tensor) -> Tensor:
    return -(p * p.log() + (1 - p) * (1 - p).log())
