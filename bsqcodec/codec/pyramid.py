"""Scale recursion for first frames: each size is predicted from the reconstruction at half the size.

Level 0 is the frame, level k a 2^k-th of it, all padded to whole tokens: level k + 1 has ceil(h_k / 2) x ceil(w_k / 2)
tokens. The smallest level is predicted as flat grey (128).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.tokenizer.transform import Planes, pad_planes

LEVELS = 4  # full, 1/2, 1/4, 1/8
GREY = 128
DOWN = (-1, 5, 5, -1)  # /8; the encoder's choice, any low-pass will do
UP = (-3, 29, 111, -9)  # /128: Catmull-Rom at 1/4 sample; the other phase is its mirror image


def sizes(*, phased: bool) -> tuple[int, ...]:
    """The levels that are coded, in order; with a predictor of phases the full size follows the quarter."""
    return (3, 2, 0) if phased else (3, 2, 1, 0)


def level_grids(h: int, w: int) -> list[tuple[int, int]]:
    """Token rows and columns of each level, full size first."""
    grids = [(h, w)]
    for _ in range(LEVELS - 1):
        h, w = (h + 1) // 2, (w + 1) // 2
        grids.append((h, w))
    return grids


def build(planes: Planes, h: int, w: int) -> list[Planes]:
    """All levels of a padded frame (uint8 planes), full size first; each padded to whole tokens."""
    levels = [planes]
    for rows, columns in level_grids(h, w)[1:]:
        wide = pad_planes(levels[-1], 2 * rows, 2 * columns)
        y, u, v = (_halve(plane) for plane in wide)
        levels.append((y, u, v))
    return levels


def upsample(planes: Planes, h: int, w: int) -> Planes:
    """Planes of ceil(h/2) x ceil(w/2) tokens (uint8) -> uint8 planes of h x w tokens, in exact integers."""
    y, u, v = (_double(plane) for plane in planes)
    return y[: 8 * h, : 8 * w], u[: 4 * h, : 4 * w], v[: 4 * h, : 4 * w]


def grey(h: int, w: int, device: torch.device) -> Planes:
    """The prediction of the smallest level."""
    sizes = ((8 * h, 8 * w), (4 * h, 4 * w), (4 * h, 4 * w))
    y, u, v = (torch.full(size, GREY, dtype=torch.uint8, device=device) for size in sizes)
    return y, u, v


def _halve(plane: Tensor) -> Tensor:
    taps = torch.tensor(DOWN, dtype=torch.float32, device=plane.device) / 8
    x = F.pad(plane.float()[None, None], (1, 1, 1, 1), mode="replicate")
    x = F.conv2d(x, taps.reshape(1, 1, 1, 4), stride=(1, 2))
    x = F.conv2d(x, taps.reshape(1, 1, 4, 1), stride=(2, 1))
    return x[0, 0].round().clamp(0, 255).to(torch.uint8)


def _double(plane: Tensor) -> Tensor:
    """Exact: |sums| < 255 * 152^2 < 2^24 in float32; one rounding at the end, (sum + 8192) >> 14."""
    x = _double_last(plane.float())
    x = _double_last(x.transpose(0, 1)).transpose(0, 1)
    return torch.floor((x + 8192) / 16384).clamp(0, 255).to(torch.uint8).contiguous()


def _double_last(x: Tensor) -> Tensor:
    """[n, m] -> [n, 2m]: sample 2i lies a quarter before sample i, 2i + 1 a quarter behind it."""
    n, m = x.shape
    wide = F.pad(x[None], (2, 2), mode="replicate")[0]
    shifted = [wide[:, k : k + m] for k in range(5)]  # i-2 .. i+2
    # a quarter before i: between i-1 and i at 3/4, neighbours i-2, i-1, i, i+1
    even = sum(tap * part for tap, part in zip(UP, shifted[0:4], strict=True))
    odd = sum(tap * part for tap, part in zip(UP[::-1], shifted[1:5], strict=True))
    assert isinstance(even, Tensor) and isinstance(odd, Tensor)
    return torch.stack([even, odd], dim=-1).reshape(n, 2 * m)
