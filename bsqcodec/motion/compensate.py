"""Motion compensation: the prediction of a frame from the frame before it, in exact integers. Normative.

Vectors are in quarter luma pixels (eighths of a chroma pixel), one per 8x8 luma block; the interpolation filters are
those of H.265 section 8.5.3.3.3, applied to both directions at once with a single rounding.

H, W: luma rows and columns, multiples of 8. h8, w8 = H/8, W/8; h16, w16 = ceil(h8/2), ceil(w8/2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from bsqcodec.integer.arithmetic import products_are_whole

Planes = tuple[Tensor, Tensor, Tensor]
Taps = tuple[tuple[int, ...], ...]  # one filter per fractional phase

AT_ONCE = 1 << 12  # blocks whose samples stay in the cache while they are interpolated
VECTOR_LIMIT = 511  # quarter luma pixels, largest |component|
# Taps of the interpolation filters, sum 64: H.265 tables 8-11 (luma, quarters) and 8-12 (chroma, eighths).
LUMA_TAPS = (
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 4, -10, 58, 17, -5, 1, 0),
    (-1, 4, -11, 40, 40, -11, 4, -1),
    (0, 1, -5, 17, 58, -10, 4, -1),
)
CHROMA_TAPS = (
    (0, 64, 0, 0),
    (-2, 58, 10, -2),
    (-4, 54, 16, -2),
    (-6, 46, 28, -4),
    (-4, 36, 36, -4),
    (-4, 28, 46, -6),
    (-2, 16, 54, -4),
    (-2, 10, 58, -2),
)


@dataclass(frozen=True)
class MotionField:
    """The motion of one frame against its reference.

    vectors: int32 [h8, w8, 2], (dx, dy) in quarter luma pixels, |component| <= 511; x is predicted from x + dx/4.
    split: bool [h16, w16]; the blocks of a 16x16 area that is not split share one vector.
    cost: mean absolute difference per luma pixel of the prediction (0 where nobody measured it).
    """

    vectors: Tensor
    split: Tensor
    cost: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(h8, w8)."""
        return self.vectors.shape[0], self.vectors.shape[1]

    @staticmethod
    def zeros(h8: int, w8: int, device: torch.device | str = "cpu") -> MotionField:
        """The field of a frame in which nothing moves."""
        vectors = torch.zeros(h8, w8, 2, dtype=torch.int32, device=device)
        return MotionField(vectors, torch.zeros((h8 + 1) // 2, (w8 + 1) // 2, dtype=torch.bool, device=device))


def compensate(reference: Planes, field: MotionField) -> Planes:
    """Predict a frame: every block is fetched from `reference` along its vector and interpolated.

    reference: y uint8 [H, W], u and v uint8 [H/2, W/2]; returns planes of the same shapes.
    Pixels outside the reference repeat its edge, so any vector is legal.

    Exact on every device, kernel and thread count: an output sample is floor((sum + 2048) / 4096) clamped to 0..255,
    and the sum's terms are integers whose absolute values add up to at most 255 * 112^2 = 3,198,720 for luma (112 =
    sum of |taps| of the half-pel filter) and 255 * 84^2 for chroma, below 2^24. So no product or partial sum is ever
    rounded, in any order of summation; where a setting takes bits from float32 products (TF32, bfloat16), they are made
    in float64, which has no such mode.
    """
    y, u, v = reference
    h8, w8 = field.shape
    if y.shape != (8 * h8, 8 * w8):
        raise ValueError(f"a field of {h8}x{w8} blocks needs a luma plane of {8 * h8}x{8 * w8}, not {tuple(y.shape)}")
    vectors = field.vectors.to(y.device).reshape(-1, 2).long()
    places = block_places(h8, w8, y.device)
    luma = predict_blocks(y[None], vectors, places, 8, LUMA_TAPS)
    chroma = predict_blocks(torch.stack((u, v)), vectors, places, 4, CHROMA_TAPS)
    return join_blocks(luma[0], h8, w8), join_blocks(chroma[0], h8, w8), join_blocks(chroma[1], h8, w8)


def join_blocks(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """[rows * columns, n * n] blocks in raster order -> [rows * n, columns * n] plane."""
    n = int(blocks.shape[1] ** 0.5)
    return blocks.reshape(rows, columns, n, n).transpose(1, 2).reshape(rows * n, columns * n)


def block_places(rows: int, columns: int, device: torch.device) -> Tensor:
    """(column, row) of rows x columns blocks in raster order: int64 [rows * columns, 2]."""
    n = torch.arange(rows * columns, device=device)
    return torch.stack((n % columns, n // columns), 1)


def predict_blocks(planes: Tensor, vectors: Tensor, places: Tensor, size: int, taps: Taps) -> Tensor:
    """Interpolate size x size blocks.

    planes: uint8 [C, H, W], moved together; vectors: int64 [N, 2], whose unit is 1/len(taps) pixel of these planes;
    places: where the blocks are, in blocks, as `block_places` gives them.
    Returns uint8 [C, N, size * size]. Blocks are grouped by fractional phase: one matrix product per phase in use.
    """
    phases, span = len(taps), size + len(taps[0]) - 1
    fraction = vectors % phases
    phase = fraction[:, 1] * phases + fraction[:, 0]
    order = torch.argsort(phase)
    corners = _corners(planes, vectors // phases, places, size, len(taps[0]))[order]  # // is floor
    padded = replicate(planes, span - 1)
    steps = torch.arange(span, device=planes.device, dtype=torch.int32)
    inside = (steps[:, None] * padded.shape[2] + steps).reshape(-1)
    flat = padded.reshape(len(planes), -1)
    found = []
    for which, alike in enumerate(torch.split(corners, torch.bincount(phase, minlength=phases**2).tolist())):
        for some in torch.split(alike, AT_ONCE) if len(alike) else ():
            patches = flat.index_select(1, (some[:, None] + inside).reshape(-1))
            patches = patches.reshape(len(planes), len(some), -1)
            found.append(_interpolate(patches, taps, which // phases, which % phases, size))
    out = torch.empty(planes.shape[0], len(vectors), size * size, dtype=torch.uint8, device=planes.device)
    out[:, order] = torch.cat(found, dim=1)
    return out


def _interpolate(patches: Tensor, taps: Taps, fy: int, fx: int, size: int) -> Tensor:
    """Filter patches that share a phase: uint8 [C, n, (size + length - 1)^2] -> uint8 [C, n, size^2]."""
    if fy == fx == 0:  # the filter is the identity
        span, first = size + len(taps[0]) - 1, len(taps[0]) // 2 - 1
        whole = patches.reshape(*patches.shape[:2], span, span)
        return whole[:, :, first : first + size, first : first + size].reshape(*patches.shape[:2], -1)
    exact = torch.float32 if products_are_whole() else torch.float64
    total = torch.matmul(patches.to(exact), _kernel(taps, fy, fx, size, exact).to(patches.device))
    return total.add_(2048).mul_(1 / 4096).floor_().clamp_(0, 255).to(torch.uint8)


def _corners(planes: Tensor, whole: Tensor, places: Tensor, size: int, length: int) -> Tensor:
    """Where the samples that each block's filters reach begin in planes with a border of size + length - 2: int32 [N].

    A window wholly outside the plane sees only copies of its edge, so its position can be clamped to the first such
    place (whatever the phase: the taps sum to 64) and a border one window wide is enough.
    """
    border = size + length - 2
    _, height, width = planes.shape
    first = length // 2 - 1  # taps before the sample itself
    x = (places[:, 0] * size + whole[:, 0] - first).clamp_(-border, width - 1) + border
    y = (places[:, 1] * size + whole[:, 1] - first).clamp_(-border, height - 1) + border
    return (y * (width + 2 * border) + x).int()


def replicate(planes: Tensor, border: int) -> Tensor:
    """[C, H, W] -> [C, H + 2 border, W + 2 border], edges repeated, same type."""
    _, height, width = planes.shape
    rows = torch.arange(-border, height + border, device=planes.device).clamp_(0, height - 1)
    columns = torch.arange(-border, width + border, device=planes.device).clamp_(0, width - 1)
    return planes[:, rows][:, :, columns]


@cache
def _kernel(taps: Taps, fy: int, fx: int, size: int, dtype: torch.dtype) -> Tensor:
    """The two-dimensional filter as a matrix from a patch to a block: [(size + length - 1)^2, size^2]."""
    vertical, horizontal = _banded(taps[fy], size), _banded(taps[fx], size)
    return torch.kron(vertical, horizontal).to(dtype)


def _banded(taps: tuple[int, ...], size: int) -> Tensor:
    """One filter as a matrix: float64 [size + length - 1, size]."""
    row = torch.tensor(taps, dtype=torch.float64)
    columns = [functional.pad(row, (i, size - 1 - i)) for i in range(size)]
    return torch.stack(columns, 1)
