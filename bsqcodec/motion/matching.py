"""What vectors cost: how well candidates predict all blocks of a frame at once, and the bits they would take.

Block order: [4, M], sub-block (top-left, top-right, bottom-left, bottom-right) by 16x16 block in raster order.
h16, w16: rows and columns of 16x16 blocks; M = h16 * w16. K: candidates per block. Vectors are int32, quarter luma
pixels.
"""

from __future__ import annotations

from copy import copy
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from bsqcodec.motion.compensate import LUMA_TAPS, VECTOR_LIMIT, replicate

BORDER = 12  # luma pixels: a block that starts further outside sees only repeated edge samples
LAM_STEPS = 0.4  # lam in quantisation steps, as for the tune psnr (`settings.MOTION_PRICES`); coarser ones for others
BIT_PRICE = 0.2  # steps^2 a bit of a level is worth (`settings.LEVEL_PRICES`, inter frames)
# A coefficient of c steps costs its square while it stays silent, and what its level's bits are worth once it does not.
# Measured: 1 % fewer bits than SATD; 0.5 .. 1.4 and 0.3 .. 0.6 lie within 0.5 % of it (benchmarks/EXPERIMENTS.md).
CODED_COST, OCTAVE_COST = 0.85, 0.5  # steps^2: of a level of 1, and for every doubling


# Bits of a vector that equals its prediction, another candidate, or neither (and what its size's logarithm adds), as
# the tables of recorded fields have them on average.
SAME_BITS, MERGE_BITS, RESIDUAL_BITS, SIZE_BITS = 0.5, 3.5, 5.5, 1.3
AT_ONCE = 1024  # 16x16 blocks a CPU looks at together: what they take stays in a core's cache
NOWHERE = 1 << 30  # no vector's number


def vector_bits(difference: Tensor) -> Tensor:
    """Estimated bits of a vector that differs by `difference` [..., 2] from its prediction -> float [...]."""
    x, y = (difference.abs() + 1).unbind(-1)
    size = (x * y).float().log2_()
    return torch.where(size > 0, RESIDUAL_BITS + SIZE_BITS * size, SAME_BITS)


def predict_vectors(grid: Tensor) -> Tensor:
    """What the four neighbours of each block agree on: their vector median, int32 [..., h16, w16, 2] -> same."""
    x, y = (beside(part) for part in grid.unbind(-1))  # [4, ..., h16, w16]; by plane it takes a tenth of the time
    a, b, c, d, e, f = ((x[i] - x[j]).abs_().add_((y[i] - y[j]).abs_()) for i, j in combinations(range(4), 2))
    least, best_x, best_y = a + b + c, x[0], y[0]
    for i, distance in ((1, a + d + e), (2, b + d + f), (3, c + e + f)):
        better = distance < least
        best_x, best_y = torch.where(better, x[i], best_x), torch.where(better, y[i], best_y)
        least = torch.minimum(least, distance)
    return torch.stack((best_x, best_y), -1)


def neighbours(grid: Tensor) -> Tensor:
    """Vectors [h16, w16, 2] on the left, above, on the right and below, as `beside` has them: [4, h16, w16, 2]."""
    return torch.stack([beside(part) for part in grid.unbind(-1)], -1)


def beside(values: Tensor, outside: int | None = None) -> Tensor:
    """Values [..., h16, w16] on the left, above, on the right and below: [4, ..., h16, w16]. Beyond the border it is
    `outside`, or for None a block's own."""
    edges = (values[..., :1], values[..., :1, :], values[..., -1:], values[..., -1:, :])
    left, top, right, bottom = edges if outside is None else (torch.full_like(edge, outside) for edge in edges)
    return torch.stack(
        (
            torch.cat((left, values[..., :-1]), -1),
            torch.cat((top, values[..., :-1, :]), -2),
            torch.cat((values[..., 1:], right), -1),
            torch.cat((values[..., 1:, :], bottom), -2),
        )
    )


def as_numbers(vectors: Tensor) -> Tensor:
    """Vectors [..., 2] as numbers in the same order, which are compared and sorted much faster."""
    return vectors[..., 0].int() * 4096 + vectors[..., 1]


def as_vectors(numbers: Tensor) -> Tensor:
    """The inverse of `as_numbers`, for components of -2048 .. 2047."""
    y = (numbers + 2048) % 4096 - 2048
    return torch.stack(((numbers - y) // 4096, y), -1).int()


def is_new(candidates: Tensor) -> Tensor:
    """Which of candidates [K, ..., 2] equal none before them: bool [K, ...]."""
    numbers = as_numbers(candidates)
    return torch.stack([(numbers[:k] != number).all(0) for k, number in enumerate(numbers)])


class Matcher:
    """Distortions of candidate vectors for all blocks of one frame pair at once.

    visible: float [h8, w8], by what the cost of a residual counts in each 8x8 block; None for 1.
    """

    def __init__(self, current: Tensor, reference: Tensor, lam: float, visible: Tensor | None = None) -> None:
        self.lam = lam
        self.before: Tensor | None = None  # the field before's base vectors [M, 2]
        self.h8, self.w8 = current.shape[0] // 8, current.shape[1] // 8
        self.h16, self.w16 = (self.h8 + 1) // 2, (self.w8 + 1) // 2
        self.device = current.device
        self.target = self._blocks(current.float())
        self.planes = _phase_planes(reference)
        self.stride = reference.shape[1] + 2 * BORDER
        self.limit = (reference.shape[1] + BORDER - 8, reference.shape[0] + BORDER - 8)
        rows = torch.arange(self.h16, device=self.device).repeat_interleave(self.w16)
        columns = torch.arange(self.w16, device=self.device).repeat(self.h16)
        sub = torch.arange(4, device=self.device)[:, None]
        self.y = (16 * rows + sub // 2 * 8).int()  # [4, M]
        self.x = (16 * columns + sub % 2 * 8).int()
        self.exists = (self.y < 8 * self.h8) & (self.x < 8 * self.w8)
        steps = torch.arange(8, device=self.device, dtype=torch.int32)
        self.inside = (steps[:, None] * self.stride + steps).reshape(-1)
        self.hadamard = _hadamard(self.device)
        self.parity = (rows + columns) % 2
        self.visible = self.exists.float()
        if visible is not None:
            padding = (0, 2 * self.w16 - self.w8, 0, 2 * self.h16 - self.h8)
            self.visible = self.gathered(functional.pad(visible, padding))

    def _blocks(self, luma: Tensor) -> Tensor:
        """float [4, M, 64] of a plane [H8, W8] padded to whole 16x16 blocks."""
        padding = (0, 16 * self.w16 - luma.shape[1], 0, 16 * self.h16 - luma.shape[0])
        whole = functional.pad(luma, padding).reshape(self.h16, 2, 8, self.w16, 2, 8)
        return whole.permute(1, 4, 0, 3, 2, 5).reshape(4, self.h16 * self.w16, 64)

    def part(self, blocks: Tensor) -> Matcher:
        """The same for some of the blocks alone, by number (int64 [m]): only distortions make sense there."""
        part = copy(self)
        part.x, part.y, part.exists = self.x[:, blocks], self.y[:, blocks], self.exists[:, blocks]
        part.target, part.visible = self.target[:, blocks], self.visible[:, blocks]
        return part

    def above(self, distortion: Tensor, bits: float) -> Tensor:
        """Numbers of the blocks whose distortion [M] is worth more than so many bits: int64 [m]."""
        return (distortion > self.lam * bits).nonzero()[:, 0]

    def distortions(self, vectors: Tensor, residual: bool) -> Tensor:
        """int32 [K, 4, M, 2] or [K, 1, M, 2] -> float [K, 4, M], 0 for blocks that do not exist."""
        return torch.stack([self._distortion(one, residual) for one in vectors])

    def distortions_of(self, blocks: Tensor, vectors: Tensor, residual: bool) -> Tensor:
        """Of 16x16 blocks, by number (int64 [n], any of them more than once), along vectors [n, 2]: float [n]."""
        found = [torch.empty(0, device=self.device)]
        at_once = max(1, len(blocks)) if blocks.is_cuda else AT_ONCE
        for some, along in zip(torch.split(blocks, at_once), torch.split(vectors, at_once), strict=True):
            found.append(self.part(some)._distortion(along[None], residual).sum(0))
        return torch.cat(found)

    def _distortion(self, vectors: Tensor, residual: bool) -> Tensor:
        start = self.starts(self.x, self.y, vectors)
        index = (start[..., None] + self.inside).reshape(-1)
        error = self.planes.reshape(-1).index_select(0, index).float().reshape(*start.shape, 64).sub_(self.target)
        if residual:
            return self.residual_cost(error @ self.hadamard) * self.visible
        return error.abs_().sum(-1) * self.exists

    def starts(self, x: Tensor, y: Tensor, vectors: Tensor) -> Tensor:
        """Where the samples of 8x8 blocks at luma places x, y begin in `planes`, along vectors [..., 2]: int [...]."""
        x = (x + (vectors[..., 0] >> 2)).clamp_(-BORDER, self.limit[0]) + BORDER
        y = (y + (vectors[..., 1] >> 2)).clamp_(-BORDER, self.limit[1]) + BORDER
        phase = (vectors[..., 1] & 3) * 4 + (vectors[..., 0] & 3)
        return phase * self.planes[0].numel() + y * self.stride + x

    def laid_out(self, blocks: Tensor) -> Tensor:
        """[4, M, ...] -> [2 h16, 2 w16, ...], as the blocks lie in the frame."""
        quarters = blocks.reshape(2, 2, self.h16, self.w16, *blocks.shape[2:])
        return quarters.permute(2, 0, 3, 1, *range(4, quarters.dim())).flatten(2, 3).flatten(0, 1)

    def gathered(self, grid: Tensor) -> Tensor:
        """The inverse of `laid_out`."""
        quarters = grid.reshape(self.h16, 2, self.w16, 2, *grid.shape[2:])
        return quarters.permute(1, 3, 0, 2, *range(4, quarters.dim())).flatten(2, 3).flatten(0, 1)

    def residual_cost(self, coefficients: Tensor) -> Tensor:
        """What residuals [..., 64] will cost in error and bits, in units of lam a bit: [...].

        A coefficient that stays below the dead zone costs its square, one above it the bits of its level, which grow
        with its logarithm. Without a price (lam 0) the sum of absolute values (SATD). Overwrites `coefficients`.
        """
        if not self.lam:
            return coefficients.abs_().sum(-1)
        square = coefficients.mul_(LAM_STEPS / self.lam).square_()  # steps^2
        coded = square.clamp(min=1).log2_().mul_(OCTAVE_COST / 2).add_(CODED_COST)
        total: Tensor = torch.minimum(square, coded).sum(-1) * (self.lam / BIT_PRICE)
        return total

    def bits(self, candidates: Tensor, vectors: Tensor) -> Tensor:
        """Estimated bits of candidates [..., M, 2] where the blocks around have `vectors` [..., M, 2]: [..., M]."""
        bits = vector_bits(candidates - self.prediction(vectors))
        numbers = as_numbers(candidates)
        sides = beside(as_numbers(self.grid(vectors)), NOWHERE).flatten(-2)
        known = (numbers == sides[0]) | (numbers == sides[1]) | (numbers == sides[2]) | (numbers == sides[3])
        if self.before is not None:
            bits = torch.minimum(bits, vector_bits(candidates - self.before))
            known |= numbers == as_numbers(self.before)
        return torch.where(known, bits.clamp(max=MERGE_BITS), bits)

    def surroundings(self, vectors: Tensor) -> list[Tensor]:
        """Vectors of the four blocks around each [..., M, 2] and, where there is one, of the field before."""
        found = [*neighbours(self.grid(vectors)).reshape(4, *vectors.shape)]
        return found if self.before is None else [*found, self.before]

    def grid(self, vectors: Tensor) -> Tensor:
        """[..., M, 2] -> [..., h16, w16, 2]."""
        return vectors.reshape(*vectors.shape[:-2], self.h16, self.w16, 2)

    def prediction(self, vectors: Tensor) -> Tensor:
        """[..., M, 2] -> same, what the neighbours predict."""
        return predict_vectors(self.grid(vectors)).reshape(vectors.shape)

    def best(
        self, candidates: Tensor, vectors: Tensor, distortion: Tensor, residual: bool, floor: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Replace vectors [M, 2] of distortion [M] by better ones among candidates [K, M, 2]; returns both anew.

        floor: bits that a block's distortion must be worth to be looked at, if anything. Equal costs keep what is
        there. Blocks change like the squares of a chessboard, half of them at a time, because the price of a vector
        depends on its neighbours and two of them may otherwise swap for ever.
        """
        candidates = candidates.clamp(-VECTOR_LIMIT, VECTOR_LIMIT)
        errors = candidates.new_full(candidates.shape[:2], torch.inf, dtype=torch.float32)
        if floor is None:
            asked = is_new(torch.cat((vectors[None], candidates)))[1:]
            errors[asked] = self.distortions_of(asked.nonzero()[:, 1], candidates[asked], residual)
        else:
            blocks = self.above(distortion, floor)
            errors[:, blocks] = self.part(blocks).distortions(candidates[:, None, blocks], residual).sum(1)
        for colour in (0, 1):
            bits = self.bits(torch.cat((vectors[None], candidates)), vectors)
            price = errors + self.lam * bits[1:]
            chosen = price.argmin(0)[None]
            here = distortion + self.lam * bits[0]
            better = (price.gather(0, chosen)[0] < here) & (self.parity == colour)
            found = candidates.gather(0, chosen[..., None].expand(1, -1, 2))[0]
            vectors = torch.where(better[:, None], found, vectors)
            distortion = torch.where(better, errors.gather(0, chosen)[0], distortion)
        return vectors, distortion


def _phase_planes(reference: Tensor) -> Tensor:
    """The reference at all 16 quarter-pixel phases: uint8 [16, H + 2 BORDER, W + 2 BORDER], phase 4 * fy + fx."""
    source = replicate(reference[None], BORDER + 4)[0].float()
    height, width = reference.shape[0] + 2 * BORDER, reference.shape[1] + 2 * BORDER
    across = [_filter([source[:, 1 + i : 1 + i + width] for i in range(8)], taps) for taps in LUMA_TAPS]
    planes = torch.empty(16, height, width, dtype=torch.uint8, device=reference.device)
    for fx, half in enumerate(across):
        for fy, taps in enumerate(LUMA_TAPS):
            total = _filter([half[1 + i : 1 + i + height] for i in range(8)], taps)
            planes[4 * fy + fx] = total.add_(2048).mul_(1 / 4096).floor_().clamp_(0, 255)
    return planes


def _filter(shifted: list[Tensor], taps: tuple[int, ...]) -> Tensor:
    """Weighted sum of shifted copies of a plane (exact: integers below 2^24 in float32)."""
    total = torch.zeros_like(shifted[0])
    for samples, tap in zip(shifted, taps, strict=True):
        if tap:
            total.add_(samples, alpha=tap)
    return total


def _hadamard(device: torch.device) -> Tensor:
    """Orthonormal two-dimensional 8x8 Hadamard transform as a float [64, 64] matrix."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device=device)
    eight = torch.kron(two, torch.kron(two, two))
    return torch.kron(eight, eight) / 8
