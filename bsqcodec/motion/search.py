"""Motion estimation (encoder only): vectors that predict well for the bits they cost.

Every stage keeps, per block, the vector of least D + lam * R among its candidates. D is the sum of absolute luma
differences (SAD), in the sub-pixel stages what the residual will come to in error and bits, read off its orthonormal
8x8 Hadamard transform (`_Matcher.residual_cost`). R estimates the bits that `vectors.py` will spend on the difference
to what the neighbours predict, or to the field before where that is nearer. Stages:
exhaustive search on shrunken frames, candidates from all sides in vectorised sweeps, refinement to quarter pixels
against the true interpolation, and the split decision.

Block order inside this file: [4, M], sub-block (top-left, top-right, bottom-left, bottom-right) by 16x16 block in
raster order.
h16, w16: rows and columns of 16x16 blocks; M = h16 * w16. K: candidates per block. Vectors are int32, quarter luma
pixels.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from bsqcodec.motion.compensate import LUMA_TAPS, VECTOR_LIMIT, MotionField, Planes, replicate

RING = tuple((x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y)
CROSS = ((-1, 0), (1, 0), (0, -1), (0, 1))
BORDER = 12  # luma pixels: a block that starts further outside sees only repeated edge samples
SPLIT_BITS = 1.5  # bits a split costs beyond its vectors
# Bits that the residual of a 16x16 block must come to before finer vectors, or a split, are looked for: below, a change
# hardly pays for itself. At usual qualities that is a third of the blocks, or a fifth.
REFINE_FLOOR, SPLIT_FLOOR = 8.0, 40.0
LAM_STEPS = 0.4  # lam in quantisation steps, as for the tune psnr (`settings.MOTION_PRICES`); coarser ones for others
BIT_PRICE = 0.2  # steps^2 a bit of a level is worth (`settings.LEVEL_PRICES`, inter frames)
# A coefficient of c steps costs its square while it stays silent, and what its level's bits are worth once it does not.
# Measured: 1 % fewer bits than SATD; 0.5 .. 1.4 and 0.3 .. 0.6 lie within 0.5 % of it (benchmarks/EXPERIMENTS.md).
CODED_COST, OCTAVE_COST = 0.85, 0.5  # steps^2: of a level of 1, and for every doubling


@dataclass(frozen=True)
class _Effort:
    """What one level of effort runs: exhaustive searches (shrink factor, reach in shrunken pixels), refinements."""

    exhaustive: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]  # whole-pixel refinement, quarter pixels per step
    sweeps: int
    final_sweeps: int
    split_steps: tuple[int, ...]  # refinement of 8x8 blocks, quarter pixels per step
    own_search: bool  # 8x8 blocks also start from an exhaustive search of their own


EFFORTS = (
    _Effort(((8, 12),), (16, 8, 4), 1, 0, (2, 1), False),
    _Effort(((8, 16), (4, 8)), (8, 4), 1, 1, (4, 2, 1), True),
    _Effort(((8, 16), (4, 16)), (16, 8, 4, 4), 3, 4, (16, 8, 4, 2, 1, 1), True),
)


def estimate(
    current: Planes, reference: Planes, lam: float, previous: MotionField | None = None, effort: int = 1
) -> MotionField:
    """Find the motion of `current` against `reference`.

    current, reference: 8-bit planes as in `compensate` (uint8, or float32 with the same integers); only luma is used.
    lam: price of a bit in units of absolute luma difference, >= 0 (x264's lambda at qp: 2^(qp/6 - 2)).
    previous: field of the frame before (same shape): candidates, and vectors near them are cheap.
    effort: 0 (fast), 1, 2 (thorough).
    Returns a field whose `cost` is the mean absolute luma difference of the prediction.
    """
    work = _Matcher(current[0], reference[0], lam)
    work.before = None if previous is None else previous.vectors[::2, ::2].to(work.device).reshape(-1, 2).int()
    plan = EFFORTS[effort]
    starts, small_starts = _starts(work, current[0], reference[0], previous, plan)
    vectors = _sub_pixel(work, plan, _whole_pixel(work, plan, starts))
    return _decide_split(work, plan, vectors, small_starts)


def vector_bits(difference: Tensor) -> Tensor:
    """Estimated bits of a vector that differs by `difference` [..., 2] from its prediction -> float [...]."""
    size = (difference.abs().float() + 1).log2().sum(-1)
    return torch.where(size > 0, 4.0 + 1.3 * size, 1.0)


def predict_vectors(grid: Tensor) -> Tensor:
    """What the four neighbours of each block agree on: their vector median, int32 [h16, w16, 2] -> same."""
    sides = _neighbours(grid)  # [4, h16, w16, 2]
    distance = (sides[:, None] - sides[None]).abs().sum((1, 4))  # [4, h16, w16]
    best = distance.argmin(0)[None, ..., None].expand(1, *grid.shape)
    return sides.gather(0, best)[0]


def _neighbours(grid: Tensor) -> Tensor:
    """Left, top, right, bottom neighbours; a block at the border stands in for those it lacks: [4, h16, w16, 2]."""
    left = torch.cat((grid[:, :1], grid[:, :-1]), 1)
    right = torch.cat((grid[:, 1:], grid[:, -1:]), 1)
    top = torch.cat((grid[:1], grid[:-1]), 0)
    bottom = torch.cat((grid[1:], grid[-1:]), 0)
    return torch.stack((left, top, right, bottom))


class _Matcher:
    """Distortions of candidate vectors for all blocks of one frame pair at once."""

    def __init__(self, current: Tensor, reference: Tensor, lam: float) -> None:
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

    def _blocks(self, luma: Tensor) -> Tensor:
        """float [4, M, 64] of a plane [H8, W8] padded to whole 16x16 blocks."""
        padding = (0, 16 * self.w16 - luma.shape[1], 0, 16 * self.h16 - luma.shape[0])
        whole = functional.pad(luma, padding).reshape(self.h16, 2, 8, self.w16, 2, 8)
        return whole.permute(1, 4, 0, 3, 2, 5).reshape(4, self.h16 * self.w16, 64)

    def part(self, blocks: Tensor) -> _Matcher:
        """The same for some of the blocks alone, by number (int64 [m]): only distortions make sense there."""
        part = copy(self)
        part.x, part.y, part.exists = self.x[:, blocks], self.y[:, blocks], self.exists[:, blocks]
        part.target = self.target[:, blocks]
        return part

    def above(self, distortion: Tensor, bits: float) -> Tensor:
        """Numbers of the blocks whose distortion [M] is worth more than so many bits: int64 [m]."""
        return (distortion > self.lam * bits).nonzero()[:, 0]

    def distortions(self, vectors: Tensor, residual: bool) -> Tensor:
        """int32 [K, 4, M, 2] or [K, 1, M, 2] -> float [K, 4, M], 0 for blocks that do not exist."""
        return torch.stack([self._distortion(one, residual) for one in vectors])

    def _distortion(self, vectors: Tensor, residual: bool) -> Tensor:
        x = (self.x + (vectors[..., 0] >> 2)).clamp_(-BORDER, self.limit[0]) + BORDER
        y = (self.y + (vectors[..., 1] >> 2)).clamp_(-BORDER, self.limit[1]) + BORDER
        phase = (vectors[..., 1] & 3) * 4 + (vectors[..., 0] & 3)
        start = phase * self.planes[0].numel() + y * self.stride + x
        index = (start[..., None] + self.inside).reshape(-1)
        error = self.planes.reshape(-1).index_select(0, index).float().reshape(*start.shape, 64).sub_(self.target)
        cost = self.residual_cost(error @ self.hadamard) if residual else error.abs_().sum(-1)
        return cost * self.exists

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

    def bits(self, vectors: Tensor, expected: Tensor) -> Tensor:
        """Estimated bits of vectors [..., M, 2] where the neighbours say `expected` [M, 2]: [..., M]."""
        bits = vector_bits(vectors - expected)
        return bits if self.before is None else torch.minimum(bits, vector_bits(vectors - self.before))

    def grid(self, vectors: Tensor) -> Tensor:
        """[M, 2] -> [h16, w16, 2]."""
        return vectors.reshape(self.h16, self.w16, 2)

    def prediction(self, vectors: Tensor) -> Tensor:
        """[M, 2] -> [M, 2], what the neighbours predict."""
        return predict_vectors(self.grid(vectors)).reshape(-1, 2)

    def best(
        self, candidates: Tensor, vectors: Tensor, distortion: Tensor, residual: bool, floor: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Replace vectors [M, 2] of distortion [M] by better ones among candidates [K, M, 2]; returns both anew.

        floor: bits that a block's distortion must be worth to be looked at, if anything. Equal costs keep what is
        there. Blocks change like the squares of a chessboard, half of them at a time, because the price of a vector
        depends on its neighbours and two of them may otherwise swap for ever.
        """
        candidates = candidates.clamp(-VECTOR_LIMIT, VECTOR_LIMIT)
        if floor is None:
            errors = self.distortions(candidates[:, None], residual).sum(1)  # [K, M]
        else:
            blocks = self.above(distortion, floor)
            errors = candidates.new_full(candidates.shape[:2], torch.inf, dtype=torch.float32)
            errors[:, blocks] = self.part(blocks).distortions(candidates[:, None, blocks], residual).sum(1)
        for colour in (0, 1):
            expected = self.prediction(vectors)
            price = errors + self.lam * self.bits(candidates, expected)
            chosen = price.argmin(0)[None]
            here = distortion + self.lam * self.bits(vectors, expected)
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


def _starts(
    work: _Matcher, current: Tensor, reference: Tensor, previous: MotionField | None, plan: _Effort
) -> tuple[Tensor, Tensor]:
    """Whole-pixel candidates int32 [K, M, 2] of 16x16 blocks, and the best start of each 8x8 block [4, M, 2]."""
    coarse = [_exhaustive(work, current, reference, shrink, reach) for shrink, reach in plan.exhaustive]
    found = [vectors for own, wide, _ in coarse for vectors in (own, wide)]
    if previous is not None:
        base = previous.vectors[::2, ::2].to(work.device).reshape(-1, 2).int()
        found.append((base + 2) >> 2 << 2)
    values, counts = torch.unique(_as_numbers(torch.cat(found)), return_counts=True)
    common = _as_vectors(values[counts.argsort(descending=True)[:3]])
    return torch.stack(found + [one.expand(len(found[0]), 2) for one in common]), coarse[-1][2]


def _as_numbers(vectors: Tensor) -> Tensor:
    """Vectors [..., 2] as numbers in the same order, which are sorted much faster."""
    return vectors[..., 0].int() * 4096 + vectors[..., 1]


def _as_vectors(numbers: Tensor) -> Tensor:
    """The inverse of `_as_numbers`, for components of -2048 .. 2047."""
    y = (numbers + 2048) % 4096 - 2048
    return torch.stack(((numbers - y) // 4096, y), -1).int()


def _exhaustive(work: _Matcher, current: Tensor, reference: Tensor, shrink: int, reach: int) -> list[Tensor]:
    """Full search of +-reach on frames shrunken by `shrink`.

    Returns the best vector of each 16x16 block by itself and of its neighbourhood of 3x3 blocks, int32 [M, 2], and of
    each 8x8 block [4, M, 2]. The neighbourhood finds the motion of flat areas, the block alone what moves
    differently.
    """
    small = _shrink(current, shrink, work)
    padded = replicate(_shrink(reference, shrink, work)[None], reach)[0]
    height, width = small.shape
    offsets = torch.arange(-reach, reach + 1, device=work.device, dtype=torch.int32) * (4 * shrink)
    lowest = [_Lowest(), _Lowest(), _Lowest()]
    up, across = _smoother(work.h16, work.device), _smoother(work.w16, work.device)
    for dy in offsets:
        top = int(dy) // (4 * shrink) + reach
        window = padded[top : top + height].unfold(1, width, 1).transpose(0, 1)  # [dx, height, width]
        eighths = _pool((window - small).abs_(), 8 // shrink) * shrink**2  # SAD of 8x8 blocks
        table = torch.stack((offsets, dy.expand(len(offsets))), 1)
        own = _pool(eighths, 2) + work.lam * vector_bits(table)[:, None, None]
        for best, cost in zip(lowest, (own, up @ own @ across.T, eighths), strict=True):
            best.update(cost, table)
    own, wide, eighths = (best.vectors.clamp(-508, 508) for best in lowest)
    quarters = eighths.reshape(work.h16, 2, work.w16, 2, 2).permute(1, 3, 0, 2, 4).reshape(4, -1, 2)
    return [own.reshape(-1, 2), wide.reshape(-1, 2), quarters]


def _smoother(n: int, device: torch.device) -> Tensor:
    """The mean of each of n places and its two neighbours as a matrix: float [n, n]."""
    near = torch.ones(n, n, device=device).tril(1).triu(-1)
    return near / near.sum(1, keepdim=True)


class _Lowest:
    """The cheapest vector so far at every place of a grid."""

    def __init__(self) -> None:
        self.cost = torch.empty(0)
        self.vectors = torch.empty(0)

    def update(self, cost: Tensor, table: Tensor) -> None:
        """cost: float [K, rows, columns] of the vectors table int32 [K, 2]."""
        lowest = cost.amin(0)
        if not len(self.cost):
            self.cost, self.vectors = lowest, table[cost.argmin(0)]
            return
        rows, columns = (lowest < self.cost).nonzero(as_tuple=True)  # few: looking for the place in all takes longer
        self.cost[rows, columns] = lowest[rows, columns]
        self.vectors[rows, columns] = table[cost[:, rows, columns].argmin(0)]


def _pool(planes: Tensor, n: int) -> Tensor:
    """Sums of n x n samples: float [K, H, W] -> [K, H/n, W/n]. A matrix product on the columns beats pooling."""
    if n == 1:
        return planes
    count, height, width = planes.shape
    rows = planes.reshape(count, height // n, n, width).sum(2)
    gather = torch.eye(width // n, device=planes.device).repeat_interleave(n, 0)
    return rows @ gather


def _shrink(luma: Tensor, shrink: int, work: _Matcher) -> Tensor:
    """Mean of shrink x shrink pixels of a plane extended to whole 16x16 blocks."""
    padding = (0, 16 * work.w16 - luma.shape[1], 0, 16 * work.h16 - luma.shape[0])
    whole = functional.pad(luma.float()[None, None], padding, mode="replicate")
    return functional.avg_pool2d(whole, shrink)[0, 0]


def _whole_pixel(work: _Matcher, plan: _Effort, starts: Tensor) -> Tensor:
    """Best whole-pixel vector of every 16x16 block: int32 [M, 2]."""
    vectors = torch.zeros_like(starts[0])
    distortion = work.distortions(vectors[None, None], False).sum(1)[0]
    vectors, distortion = work.best(starts, vectors, distortion, False)
    vectors, distortion = _sweep(work, plan.sweeps, vectors, distortion, False)
    for step in plan.steps:
        vectors, distortion = work.best(_around(vectors, RING, step), vectors, distortion, False)
    return _sweep(work, plan.sweeps, vectors, distortion, False)[0]


def _sub_pixel(work: _Matcher, plan: _Effort, vectors: Tensor) -> Tensor:
    """Refine vectors [M, 2] to quarter pixels by SATD."""
    distortion = work.distortions(vectors[None, None], True).sum(1)[0]
    for step in (2, 1):
        vectors, distortion = work.best(_around(vectors, RING, step), vectors, distortion, True, REFINE_FLOOR)
    for _ in range(plan.final_sweeps):
        vectors, distortion = _sweep(work, 1, vectors, distortion, True)
        vectors, distortion = work.best(_around(vectors, CROSS, 1), vectors, distortion, True, REFINE_FLOOR)
    return _sweep(work, 1, vectors, distortion, True)[0]


def _sweep(work: _Matcher, times: int, vectors: Tensor, distortion: Tensor, residual: bool) -> tuple[Tensor, Tensor]:
    """Offer every block the vectors of its neighbours."""
    for _ in range(times):
        sides = _neighbours(work.grid(vectors)).reshape(4, -1, 2)
        vectors, distortion = work.best(sides, vectors, distortion, residual)
    return vectors, distortion


def _around(vectors: Tensor, ring: tuple[tuple[int, int], ...], step: int) -> Tensor:
    """Candidates `step` away: [..., 2] -> [len(ring), ..., 2]."""
    offsets = torch.tensor(ring, dtype=torch.int32, device=vectors.device) * step
    return vectors[None] + offsets.reshape(-1, *[1] * (vectors.dim() - 1), 2)


def _decide_split(work: _Matcher, plan: _Effort, base: Tensor, starts: Tensor) -> MotionField:
    """Give 8x8 blocks vectors of their own where that is worth the bits; the finished field."""
    whole_error = work.distortions(base[None, None], True)[0]  # [4, M]
    blocks = work.above(whole_error.sum(0), SPLIT_FLOOR)
    small, saved = _split(work, plan, base, starts, whole_error, blocks)
    differs = ((small != small[0]).any(-1) & work.exists[:, blocks]).any(0)
    split = torch.zeros(len(base), dtype=torch.bool, device=work.device)
    split[blocks] = (saved > 0) & differs
    final = base[None].repeat(4, 1, 1)
    final[:, blocks] = torch.where(split[blocks][:, None], small, final[:, blocks])
    return _finish(work, final, split)


def _split(
    work: _Matcher, plan: _Effort, base: Tensor, starts: Tensor, whole_error: Tensor, blocks: Tensor
) -> tuple[Tensor, Tensor]:
    """The best four vectors of some blocks [4, m, 2], and the distortion that having them would save [m]."""
    part, own = work.part(blocks), base[blocks]
    small, errors = own[None].repeat(4, 1, 1), whole_error[:, blocks]
    sides = _neighbours(work.grid(base)).reshape(4, 1, -1, 2)[:, :, blocks]
    candidates = sides.expand(4, 4, -1, 2)
    if plan.own_search:
        candidates = torch.cat((candidates, _refine_starts(part, starts[:, blocks], own)[None]))
    small, errors = _best_small(part, candidates, small, errors, own)
    for step in plan.split_steps:
        small, errors = _best_small(part, _around(small, CROSS if step > 1 else RING, step), small, errors, own)
    expected = work.prediction(base)[blocks]
    rest_bits = (vector_bits(small[1:] - small[0]) * part.exists[1:]).sum(0)
    split_bits = vector_bits(small[0] - expected) + rest_bits + SPLIT_BITS
    saved = whole_error[:, blocks] - errors
    return small, saved.sum(0) - work.lam * (split_bits - vector_bits(own - expected))


def _refine_starts(work: _Matcher, starts: Tensor, base: Tensor) -> Tensor:
    """Walk the 8x8 blocks' own starts [4, M, 2] to whole pixels, away from the search around `base`."""
    errors = work.distortions(starts[None], True)[0]
    for step in (8, 4):
        starts, errors = _best_small(work, _around(starts, RING, step), starts, errors, base)
    return starts


def _best_small(
    work: _Matcher, candidates: Tensor, small: Tensor, errors: Tensor, base: Tensor
) -> tuple[Tensor, Tensor]:
    """As `_Matcher.best`, for 8x8 blocks priced by their distance from `base`: candidates [K, 4, M, 2]."""
    candidates = candidates.clamp(-VECTOR_LIMIT, VECTOR_LIMIT)
    found = work.distortions(candidates, True)
    price = found + work.lam * vector_bits(candidates - base)
    chosen = price.argmin(0)[None]
    better = price.gather(0, chosen)[0] < errors + work.lam * vector_bits(small - base)
    vectors = candidates.gather(0, chosen[..., None].expand(1, *small.shape))[0]
    return torch.where(better[..., None], vectors, small), torch.where(better, found.gather(0, chosen)[0], errors)


def _finish(work: _Matcher, vectors: Tensor, split: Tensor) -> MotionField:
    """Lay [4, M, 2] vectors out as a field, and measure it."""
    pixels = 64 * work.h8 * work.w8
    cost = float(work.distortions(vectors[None], False).sum()) / pixels
    grid = vectors.reshape(2, 2, work.h16, work.w16, 2).permute(2, 0, 3, 1, 4).reshape(2 * work.h16, 2 * work.w16, 2)
    field = MotionField(grid[: work.h8, : work.w8].contiguous(), split.reshape(work.h16, work.w16))
    return replace(field, cost=cost)
