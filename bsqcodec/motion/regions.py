"""Vectors that blocks change together (encoder only).

A sweep offers each block its neighbours' vectors, one block at a time, so a group of blocks with a vector of its own
stays where it is although all of them together would be cheaper with another: the first to leave pays for the edge.
Here whole squares of blocks are offered one vector, of a block inside or beside them, and take it where the residuals
and the bits of the square and of the blocks around it cost less in sum.

Order and letters as in `matching`. R: squares; K: vectors offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bsqcodec.motion.matching import Matcher, is_new

SIZES = (4, 2, 4, 2)
INSIDE = (0.0, 0.5, 0.99)  # which of a square's own blocks offer their vectors, as a share of them in raster order


def unite(work: Matcher, vectors: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors [M, 2] of distortion [M], both anew where a square of blocks is better off with one vector."""
    for size in SIZES:
        for shift in (0, size // 2):
            squares = _squares(work.h16, work.w16, size, shift, work.device)
            for phase in range(4):
                vectors, distortion = _unite_phase(work, squares, phase, vectors, distortion)
    return vectors, distortion


@dataclass(frozen=True)
class _Squares:
    """A division of the frame. of: the square of each block [M]; phase: 0..3 of each square [R], squares of one phase
    do not touch; first: its first block [R]; offering: blocks that offer their vectors [K, R]; around: of each phase,
    the square that a block is in or beside, [4, M], R for none."""

    of: Tensor
    phase: Tensor
    first: Tensor
    offering: Tensor
    around: Tensor


@lru_cache(maxsize=32)
def _squares(h16: int, w16: int, size: int, shift: int, device: torch.device) -> _Squares:
    rows = (torch.arange(h16, device=device) + shift) // size
    columns = (torch.arange(w16, device=device) + shift) // size
    wide = int(columns[-1]) + 1
    of = (rows[:, None] * wide + columns).reshape(-1)
    count = torch.bincount(of)
    order = of.argsort(stable=True)
    start = count.cumsum(0) - count
    first = order[start]
    inside = [order[start + (count * share).long()] for share in INSIDE]
    beside = [(first - 1).clamp(min=0), (first - w16).clamp(min=0)]
    number = torch.arange(len(count), device=device)
    phase = number // wide % 2 * 2 + number % wide % 2
    around = torch.stack([_around(torch.where(phase == p, number, len(number))[of], h16, w16) for p in range(4)])
    return _Squares(of, phase, first, torch.stack(inside + beside), around)


def _around(of: Tensor, h16: int, w16: int) -> Tensor:
    """The squares of blocks [M] handed on to the blocks beside that are in none (the largest number)."""
    grid = torch.nn.functional.pad(of.reshape(1, 1, h16, w16), (1, 1, 1, 1), value=int(of.max()))[0, 0]
    sides = (grid[1:-1, :-2], grid[1:-1, 2:], grid[:-2, 1:-1], grid[2:, 1:-1], grid[1:-1, 1:-1])
    return torch.stack(sides).amin(0).reshape(-1)


def _unite_phase(
    work: Matcher, squares: _Squares, phase: int, vectors: Tensor, distortion: Tensor
) -> tuple[Tensor, Tensor]:
    mixed = torch.zeros(len(squares.first), dtype=torch.bool, device=work.device)
    mixed[squares.of[(vectors != vectors[squares.first[squares.of]]).any(-1)]] = True
    mixed &= squares.phase == phase
    blocks = mixed[squares.of].nonzero()[:, 0]
    if not len(blocks):
        return vectors, distortion
    of = squares.of[blocks]
    offered = vectors[squares.offering][:, of]  # [K, m, 2]
    trials = vectors.expand(len(offered), *vectors.shape).clone()
    trials[:, blocks] = offered
    errors = _errors(work, blocks, offered, vectors[blocks], distortion[blocks])
    bits = work.bits(torch.cat((vectors[None], trials)), torch.cat((vectors[None], trials)))
    change = torch.zeros(len(offered), len(squares.first) + 1, device=work.device)
    change.index_add_(1, squares.around[phase], work.lam * (bits[1:] - bits[0]))
    change.index_add_(1, of, errors - distortion[blocks])
    least, chosen = change.min(0)
    better = (least < 0)[of]
    pick = chosen[of][None]
    vectors, distortion = vectors.clone(), distortion.clone()
    vectors[blocks] = torch.where(
        better[:, None], offered.gather(0, pick[..., None].expand(1, -1, 2))[0], vectors[blocks]
    )
    distortion[blocks] = torch.where(better, errors.gather(0, pick)[0], distortion[blocks])
    return vectors, distortion


def _errors(work: Matcher, blocks: Tensor, offered: Tensor, vectors: Tensor, distortion: Tensor) -> Tensor:
    """Distortions of some blocks [m], with vectors [m, 2] now, along the offered [K, m, 2]: [K, m].

    None is looked at twice: an offer that a square had before counts as infinite.
    """
    own = (offered == vectors).all(-1)
    asked = is_new(offered) & ~own
    errors = torch.where(own, distortion, torch.inf)
    errors[asked] = work.distortions_of(blocks[asked.nonzero()[:, 1]], offered[asked], True)
    return errors
