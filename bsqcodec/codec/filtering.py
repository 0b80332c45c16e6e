"""Where the decoder's transformer may change silent tokens: a flag for each block of 4x4 tokens of an inter frame.

A token copied again and again must stay a copy where corrections would add up; the encoder, which knows the original,
says where they help. Flags are coded behind the frame's levels, in one step, with counts that adapt inside a group.
Legend: h w token rows and columns, R = ceil(h / 4), Q = ceil(w / 4) blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bsqcodec.entropy import P_BITS
from bsqcodec.prior.coding import Coder

BLOCK = 4  # tokens a block is wide and high
CONTEXTS = 6  # flag of the block in the inter frame before (0, 1) x share of coded tokens (none, below half, above)
START = (2, 8)  # counts of set flags and of all flags that each context starts with
MOST = 128  # counts of a context are halved when they reach this


@dataclass(frozen=True)
class Flags:
    """The flags of a frame: bool [R, Q], and their ideal bits on its tokens, float64 [h, w]."""

    flags: np.ndarray
    bits: np.ndarray


class FilterFlags:
    """The flags of a group's inter frames, one frame after another.

    given: what they are, where no stream says it. seen: where those of each frame coded are put, if anybody wants them
    (a group may have 65535 frames, and memory must not grow with them).
    """

    def __init__(self, h: int, w: int, given: Iterable[np.ndarray] = ()):
        self.h, self.w, self._given = h, w, iter(given)
        self.seen: list[Flags] | None = None
        rows, columns = -(-h // BLOCK), -(-w // BLOCK)
        self.before = np.zeros((rows, columns), dtype=np.int64)
        self.ones = np.full(CONTEXTS, START[0], dtype=np.int64)
        self.all = np.full(CONTEXTS, START[1], dtype=np.int64)

    def code(self, coder: Coder, silent: Tensor, gain: Tensor | None, price: float = 0.0) -> Tensor:
        """Which tokens the transformer may change: bool [h, w], true for every token that is not silent.

        silent: bool [h, w]. gain: when encoding, by how much it lowers the squared error of each token, float [h, w];
        price: grey levels^2 that a bit must gain to be worth it.
        """
        quiet = _blocks(silent.cpu().numpy().astype(np.int64), self.h, self.w)
        size = _blocks(np.ones((self.h, self.w), dtype=np.int64), self.h, self.w)
        coded = size - quiet
        context = self.before * 3 + np.where(coded == 0, 0, np.where(2 * coded < size, 1, 2))
        where = quiet > 0  # a block without silent tokens has no flag
        chance = (self.ones * 65536 // self.all)[context]
        wanted = next(self._given, None)
        if gain is not None:
            useful = _blocks(np.where(silent.cpu().numpy(), gain.cpu().numpy(), 0.0), self.h, self.w)
            # bits of a set flag less those of a clear one
            wanted = useful > price * (np.log2(65536 - chance) - np.log2(chance))
        known = None if wanted is None else wanted[where].astype(np.uint8)
        bits = coder.code("filter", known, chance[where].astype(np.uint16))
        flags = np.zeros_like(self.before)
        flags[where] = bits
        self._count(context[where], bits)
        self.before = flags
        if self.seen is not None:
            spent = np.where(where, P_BITS - np.log2(np.where(flags > 0, chance, 65536 - chance)), 0.0) / size
            self.seen.append(Flags(flags > 0, self._spread(spent)))
        return torch.from_numpy(self._spread(flags > 0)).to(silent.device) | ~silent

    def _spread(self, blocks: np.ndarray) -> np.ndarray:
        """[R, Q] -> [h, w]."""
        return blocks.repeat(BLOCK, 0).repeat(BLOCK, 1)[: self.h, : self.w]

    def _count(self, context: np.ndarray, bits: np.ndarray) -> None:
        """Learn from a frame's flags."""
        self.ones += np.bincount(context[bits > 0], minlength=CONTEXTS)
        self.all += np.bincount(context, minlength=CONTEXTS)
        while (self.all >= MOST).any():
            full = self.all >= MOST
            self.ones = np.where(full, (self.ones + 1) >> 1, self.ones)
            self.all = np.where(full, (self.all >> 1) + 1, self.all)


def _blocks(tokens: np.ndarray, h: int, w: int) -> np.ndarray:
    """Sums over blocks: [h, w] -> [R, Q]."""
    rows, columns = np.arange(0, h, BLOCK), np.arange(0, w, BLOCK)
    sums: np.ndarray = np.add.reduceat(np.add.reduceat(tokens, rows, axis=0), columns, axis=1)
    return sums
