"""Overlapped block compensation: near its edges a block is a mean along its own and its neighbours' vectors. Normative.

So there are no edges where vectors differ a little, and the true motion between two vectors is met half way. The
weights are those of ITU-T H.263, annex F.3 (after Orchard and Sullivan 1994); there a block stands for 16x16 samples or
8x8, here always for 8x8. Legend: h8, w8 = rows and columns of blocks, N = h8 * w8.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bsqcodec.motion.compensate import (
    CHROMA_TAPS,
    LUMA_TAPS,
    MotionField,
    Planes,
    Taps,
    block_places,
    join_blocks,
    predict_blocks,
)

# Weights of the vector above in an 8x8 block, eighths; the block's own vector has what its neighbours leave.
ABOVE = (
    (2, 2, 2, 2, 2, 2, 2, 2),
    (1, 1, 2, 2, 2, 2, 1, 1),
    (1, 1, 1, 1, 1, 1, 1, 1),
    (1, 1, 1, 1, 1, 1, 1, 1),
    *((0,) * 8,) * 4,
)
WHOLE = 32  # sum of all weights of a sample


def compensate_overlapped(reference: Planes, field: MotionField) -> Planes:
    """Predict a frame as `compensate` does, with blocks that overlap.

    A sample is floor((sum of weight * prediction + 16) / 32): integers below 2^13, exact everywhere.
    """
    y, u, v = reference
    h8, w8 = field.shape
    if y.shape != (8 * h8, 8 * w8):
        raise ValueError(f"a field of {h8}x{w8} blocks needs a luma plane of {8 * h8}x{8 * w8}, not {tuple(y.shape)}")
    luma = _overlapped(y[None], field, 8, LUMA_TAPS)
    chroma = _overlapped(torch.stack((u, v)), field, 4, CHROMA_TAPS)
    return join_blocks(luma[0], h8, w8), join_blocks(chroma[0], h8, w8), join_blocks(chroma[1], h8, w8)


def _overlapped(planes: Tensor, field: MotionField, size: int, taps: Taps) -> Tensor:
    """All blocks of planes [C, H, W]: uint8 [C, N, size * size]."""
    grid = field.vectors.to(planes.device).long()
    places = block_places(*field.shape, planes.device)
    vectors = grid.reshape(-1, 2)
    others = [side.reshape(-1, 2) for side in neighbours(grid)]
    differ = [torch.nonzero((other != vectors).any(-1)).squeeze(1) for other in others]  # else both say the same
    theirs = [other[where] for other, where in zip(others, differ, strict=True)]
    wanted, at = torch.cat([vectors, *theirs]), torch.cat([places, *(places[where] for where in differ)])
    blocks = predict_blocks(planes, wanted, at, size, taps).to(torch.int16)
    own, *found = torch.split(blocks, [len(vectors), *map(len, theirs)], dim=1)
    total = own * WHOLE
    for side, (where, other) in enumerate(zip(differ, found, strict=True)):
        total[:, where] += (other - own[:, where]) * weights(side, size).to(planes.device)
    return ((total + WHOLE // 2) >> 5).to(torch.uint8)


def neighbours(grid: Tensor) -> list[Tensor]:
    """Vectors of the blocks above, below, left and right; at the frame's edge a block's own: [h8, w8, 2] -> 4 of it."""
    above, below = torch.cat((grid[:1], grid[:-1])), torch.cat((grid[1:], grid[-1:]))
    left, right = torch.cat((grid[:, :1], grid[:, :-1]), 1), torch.cat((grid[:, 1:], grid[:, -1:]), 1)
    return [above, below, left, right]


@cache
def weights(side: int, size: int) -> Tensor:
    """What a neighbour weighs in a block, in 32nds: int16 [size * size]; side: above, below, left, right.

    A chroma sample has the mean of the luma samples it covers.
    """
    table = torch.tensor(ABOVE, dtype=torch.int16) * (WHOLE // 8)
    table = (table, table.flip(0), table.T, table.T.flip(1))[side]
    if size == 4:
        table = table.reshape(4, 2, 4, 2).sum((1, 3), dtype=torch.int16) // 4
    return table.reshape(-1).contiguous()
