"""The last step of the search where blocks overlap (encoder only): vectors as the overlapped prediction has them.

The stages before measure each block by itself, as if its vector alone predicted it, and none pays for what its vector
does to the halves of the blocks around. Here every block whose vector is not what its surroundings say is offered
theirs, and takes it where the overlapped prediction of itself and of the eight 8x8 blocks beside it, and the bits,
cost less in sum.

Order and letters as in `matching`; a grid of 8x8 blocks is [2 h16, 2 w16], padded at odd sizes. n: places in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bsqcodec.motion.matching import Matcher, is_new, vector_bits
from bsqcodec.motion.overlap import WHOLE, weights

# A block's own four 8x8 blocks and the eight beside it, (row, column) from the first; those at its corners see nothing.
REACH = ((0, 0), (0, 1), (1, 0), (1, 1), (-1, 0), (-1, 1), (2, 0), (2, 1), (0, -1), (1, -1), (0, 2), (1, 2))
SLACK = 10.0  # bits by which a candidate may be worse for its block alone and still be tried
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # of blocks that are decided at once: their reaches do not touch


def settle(work: Matcher, vectors: Tensor, split: Tensor, split_bits: float) -> tuple[Tensor, Tensor]:
    """Vectors int32 [4, M, 2] and split flags bool [M], some blocks' replaced by one of their surroundings'.

    split_bits: what a split costs beyond its vectors.
    """
    overlapped = _Overlapped(work)
    grid = work.laid_out(vectors)
    rows = torch.arange(work.h16, device=work.device).repeat_interleave(work.w16)
    columns = torch.arange(work.w16, device=work.device).repeat(work.h16)
    for down, across in PHASES:
        chosen = (rows % 2 == down) & (columns % 2 == across)
        grid, split = _settle_phase(work, overlapped, grid, split, chosen, split_bits)
    return work.gathered(grid), split


def _settle_phase(
    work: Matcher, overlapped: _Overlapped, grid: Tensor, split: Tensor, chosen: Tensor, split_bits: float
) -> tuple[Tensor, Tensor]:
    base = grid[::2, ::2].reshape(-1, 2)
    own = work.gathered(grid)
    bits = work.bits(base, base)
    bits = bits + split * (split_bits + (vector_bits(own[1:] - own[:1]) * work.exists[1:]).sum(0))
    here = work.distortions(own[None], True).sum(1)[0] + work.lam * (bits + SLACK)
    before = bits.new_zeros(len(base))  # what the prediction costs now around each block
    best, found, taken = torch.zeros_like(before), base.clone(), torch.zeros_like(split)
    candidates = torch.stack([work.prediction(base), *work.surroundings(base)])
    looked = torch.zeros_like(split)
    prices = work.lam * work.bits(candidates, base)
    tried = is_new(candidates) & (split | (candidates != base).any(-1))
    for candidate, all_prices, new in zip(candidates, prices, tried, strict=True):
        blocks = (chosen & new).nonzero()[:, 0]
        price = all_prices[blocks]
        alone = work.distortions_of(blocks, candidate[blocks], True)
        hopeful = alone + price < here[blocks]
        blocks, price = blocks[hopeful], price[hopeful]
        if not len(blocks):
            continue
        fresh = blocks[~looked[blocks]]
        before[fresh] = overlapped.around(grid, fresh)
        looked[fresh] = True
        trial = grid.clone()
        _put(work, trial, blocks, candidate[blocks])
        gain = before[blocks] + work.lam * bits[blocks] - overlapped.around(trial, blocks) - price
        better = gain > best[blocks]
        blocks = blocks[better]
        best[blocks], found[blocks], taken[blocks] = gain[better], candidate[blocks], True
    blocks = taken.nonzero()[:, 0]
    grid = grid.clone()
    _put(work, grid, blocks, found[blocks])
    return grid, split & ~taken


def _put(work: Matcher, grid: Tensor, blocks: Tensor, vectors: Tensor) -> None:
    """Give whole blocks [m] vectors [m, 2], in place."""
    rows, columns = 2 * (blocks // work.w16), 2 * (blocks % work.w16)
    for down in (0, 1):
        for across in (0, 1):
            grid[rows + down, columns + across] = vectors


class _Overlapped:
    """What the residuals of 8x8 blocks cost where each sample is a mean along three vectors (`motion.overlap`)."""

    def __init__(self, work: Matcher) -> None:
        self.work = work
        self.target = work.laid_out(work.target).reshape(-1, 64)
        self.visible = work.laid_out(work.visible).reshape(-1)
        side = torch.arange(64, device=work.device)
        upper, left = side // 8 < 4, side % 8 < 4
        above, below, before, behind = (weights(i, 8).float().to(work.device) / WHOLE for i in range(4))
        self.vertical, self.horizontal = torch.where(upper, above, below), torch.where(left, before, behind)
        self.upper, self.left = upper, left

    def around(self, grid: Tensor, blocks: Tensor) -> Tensor:
        """Cost of all that sees blocks [m] under a grid of vectors: float [m]."""
        work = self.work
        offsets = torch.tensor(REACH, device=work.device)
        rows = 2 * (blocks // work.w16) + offsets[:, :1]
        columns = 2 * (blocks % work.w16) + offsets[:, 1:]
        inside = (rows >= 0) & (rows < work.h8) & (columns >= 0) & (columns < work.w8)
        places = rows.clamp(0, work.h8 - 1) * 2 * work.w16 + columns.clamp(0, work.w8 - 1)
        return (self.cost(grid, places) * inside).sum(0)

    def cost(self, grid: Tensor, places: Tensor) -> Tensor:
        """Cost of the places [k, m] under a grid of vectors: float [k, m]."""
        work = self.work
        flat = places.reshape(-1)
        rows, columns = flat // (2 * work.w16), flat % (2 * work.w16)
        starts = [
            self._start(grid, rows, columns, rows + down, columns + across)
            for down, across in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        own, above, below, left, right = (start[:, None] for start in starts)
        inside = work.inside
        wanted = torch.cat(
            (own + inside, torch.where(self.upper, above, below) + inside, torch.where(self.left, left, right) + inside)
        )
        samples = work.planes.reshape(-1).index_select(0, wanted.reshape(-1)).float().reshape(3, -1, 64)
        predicted = samples[0] + self.vertical * (samples[1] - samples[0]) + self.horizontal * (samples[2] - samples[0])
        error = predicted - self.target[flat]
        return (work.residual_cost(error @ work.hadamard) * self.visible[flat]).reshape(places.shape)

    def _start(self, grid: Tensor, rows: Tensor, columns: Tensor, from_rows: Tensor, from_columns: Tensor) -> Tensor:
        """Where the samples of blocks begin in the reference's planes, along vectors of other blocks; their own beyond
        the frame."""
        work = self.work
        outside = (from_rows < 0) | (from_rows >= work.h8) | (from_columns < 0) | (from_columns >= work.w8)
        vectors = grid[torch.where(outside, rows, from_rows), torch.where(outside, columns, from_columns)]
        return work.starts(8 * columns, 8 * rows, vectors)
