"""The encoder's choice of levels at their true price: drop or lower what costs more bits than it saves error.

For each latent y with probabilities from the prior, the level n minimises (|y| - point(n))^2 + lambda * bits(n) over
the nearest level, the one below it and zero (rate-distortion optimised quantisation; greedy, in coding order).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bsqcodec.prior.tables import Tables
from bsqcodec.tokenizer.transform import PHASES

# bits of a decision whose probability is P / 65536, by P (entry 0 is never asked for)
_BITS = (16 - np.log2(np.maximum(np.arange(65537), 1))).astype(np.float32)


@dataclass(frozen=True)
class Wanted:
    """What an encoder would like to code.

    latents: float [h, w, C] in steps; points: float [C, 3], offsets of the reconstruction from |n| = 1, 2, >= 3;
    prices: squared error (steps^2) a bit is worth, float [h, w, C].
    """

    latents: Tensor
    points: Tensor
    prices: Tensor

    def part(self, phase: int) -> Wanted:
        """The same of a phase's tokens in raster order: latents and prices [N, C]."""
        row, column = PHASES[phase]
        latents, prices = self.latents[row::2, column::2], self.prices[row::2, column::2]
        return Wanted(latents.flatten(0, 1), self.points, prices.flatten(0, 1))

    def took(self, phase: int, levels: Tensor) -> None:
        """What was chosen changes nothing of what is wanted."""


class Wish(Protocol):
    """What an encoder would like to code, phase by phase: `Wanted`, or something that hangs on earlier phases' levels.

    part: of a phase's tokens, as `Wanted.part`; took: told afterwards what was coded, int16 [p, q, C].
    """

    def part(self, phase: int) -> Wanted: ...
    def took(self, phase: int, levels: Tensor) -> None: ...


def choose(latents: Tensor, points: Tensor, prices: Tensor, sums: Tensor, tables: Tables) -> np.ndarray:
    """Levels of a band's tokens: latents and prices [N, n], points [n, 3], sums [N, n, 6] -> int16 [N, n]."""
    y = latents.flatten()
    where = torch.nonzero(y.abs() >= 0.5).squeeze(1)
    out = np.zeros(y.numel(), dtype=np.int16)
    if where.numel():
        chances = tables.probabilities(sums.reshape(-1, sums.shape[-1])[where]).astype(np.int64)
        offsets = points[where % latents.shape[1]].cpu().numpy()
        price = prices.flatten()[where].cpu().numpy()
        out[where.cpu().numpy()] = _cheapest(y[where].cpu().numpy(), offsets, chances, price)
    return out.reshape(latents.shape)


def _cheapest(y: np.ndarray, offsets: np.ndarray, p: np.ndarray, price: np.ndarray) -> np.ndarray:
    size = np.abs(y)
    nearest = np.minimum(np.floor(size + 0.5), 4095).astype(np.int64)
    sign_bits = np.where(y > 0, _BITS[p[:, 1]], _BITS[65536 - p[:, 1]])
    best, least = np.zeros_like(nearest), size * size + price * _BITS[p[:, 0]]
    for level in (nearest, nearest - 1):
        point = level + np.take_along_axis(offsets, np.clip(level - 1, 0, 2)[:, None], 1)[:, 0]
        bits = _BITS[65536 - p[:, 0]] + sign_bits + _amplitude_bits(level, p)
        cost = np.where(level > 0, (size - point) ** 2 + price * bits, np.inf)
        best, least = np.where(cost < least, level, best), np.minimum(cost, least)
    signed: np.ndarray = np.where(y > 0, best, -best)
    return signed


def _amplitude_bits(level: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Bits of |n| >= 1 given that it is not zero; from 4 on an estimate (one bit an octave, one a digit)."""
    octave = np.log2(np.maximum(level, 1))
    above = _BITS[p[:, 2]] + np.where(
        level < 4,
        _BITS[65536 - p[:, 3]] + np.where(level == 3, _BITS[p[:, 5]], _BITS[65536 - p[:, 5]]),
        _BITS[p[:, 3]] + 2 * octave - 3,
    )
    bits: np.ndarray = np.where(level < 2, _BITS[65536 - p[:, 2]], above)
    return bits
