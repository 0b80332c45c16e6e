"""Motion estimation (encoder only): vectors that predict well for the bits they cost.

Every stage keeps, per block, the vector of least D + lam * R among its candidates. D is the sum of absolute luma
differences (SAD), in the sub-pixel stages what the residual will come to in error and bits, read off its orthonormal
8x8 Hadamard transform (`matching.Matcher.residual_cost`). R estimates the bits that `vectors.py` will spend on the
difference to what the neighbours predict, or to the field before where that is nearer. Stages: exhaustive search on
shrunken frames, candidates from all sides in vectorised sweeps, refinement to quarter pixels against the true
interpolation, and the split decision.

Block order and letters as in `matching`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from bsqcodec.motion.compensate import VECTOR_LIMIT, MotionField, Planes, replicate
from bsqcodec.motion.matching import Matcher, as_numbers, as_vectors, neighbours, vector_bits
from bsqcodec.motion.regions import unite
from bsqcodec.motion.settling import settle

RING = tuple((x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y)
CROSS = ((-1, 0), (1, 0), (0, -1), (0, 1))
SPLIT_BITS = 1.5  # bits a split costs beyond its vectors
# Bits that the residual of a 16x16 block must come to before finer vectors, or a split, are looked for: below, a change
# hardly pays for itself. At index 150 of the demo clip that leaves a third of the blocks, or a fifth.
REFINE_FLOOR, SPLIT_FLOOR = 8.0, 40.0


@dataclass(frozen=True)
class _Effort:
    """What one level of effort runs: exhaustive searches (shrink factor, reach in shrunken pixels), refinements."""

    exhaustive: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]  # whole-pixel refinement, quarter pixels per step
    split_steps: tuple[int, ...]  # refinement of 8x8 blocks, quarter pixels per step
    own_search: bool  # 8x8 blocks also start from an exhaustive search of their own
    unite: bool  # whether squares of blocks are offered one vector (`regions`)
    settle: bool  # whether vectors are decided anew where blocks overlap (`settling`)


EFFORTS = (
    _Effort(((8, 12),), (16, 8, 4), (2, 1), False, False, False),
    _Effort(((8, 16), (4, 8)), (8, 4), (4, 2, 1), True, True, False),
    _Effort(((8, 16), (4, 8)), (8, 4), (4, 2, 1), True, True, True),
)


def estimate(
    current: Planes,
    reference: Planes,
    lam: float,
    previous: MotionField | None = None,
    effort: int = 1,
    visible: Tensor | None = None,
    overlap: bool = False,
) -> MotionField:
    """Find the motion of `current` against `reference`.

    current, reference: 8-bit planes as in `compensate` (uint8, or float32 with the same integers); only luma is used.
    lam: price of a bit in units of absolute luma difference, >= 0 (x264's lambda at qp: 2^(qp/6 - 2)).
    previous: field of the frame before (same shape): candidates, and vectors near them are cheap.
    effort: 0 (fast), 1, 2 (thorough). visible: float [h8, w8], how much an error counts in each 8x8 block; None for 1.
    overlap: whether the prediction will be `compensate_overlapped`.
    Returns a field whose `cost` is the mean absolute luma difference of the prediction.
    """
    work = Matcher(current[0], reference[0], lam, visible)
    work.before = None if previous is None else previous.vectors[::2, ::2].to(work.device).reshape(-1, 2).int()
    plan = EFFORTS[effort]
    starts, small_starts = _starts(work, current[0], reference[0], previous, plan)
    vectors = _sub_pixel(work, plan, _whole_pixel(work, plan, starts))
    vectors, split = _decide_split(work, plan, vectors, small_starts)
    if overlap and plan.settle:
        vectors, split = settle(work, vectors, split, SPLIT_BITS)
    return _finish(work, vectors, split)


def _starts(
    work: Matcher, current: Tensor, reference: Tensor, previous: MotionField | None, plan: _Effort
) -> tuple[Tensor, Tensor]:
    """Whole-pixel candidates int32 [K, M, 2] of 16x16 blocks, and the best start of each 8x8 block [4, M, 2]."""
    *coarse, finest = plan.exhaustive
    found = [vectors for one in coarse for vectors in _exhaustive(work, current, reference, *one, False)]
    *near, small = _exhaustive(work, current, reference, *finest, True)
    found += near
    if previous is not None:
        base = previous.vectors[::2, ::2].to(work.device).reshape(-1, 2).int()
        found.append((base + 2) >> 2 << 2)
    values, counts = torch.unique(as_numbers(torch.cat(found)), return_counts=True)
    common = as_vectors(values[counts.argsort(descending=True)[:3]])
    return torch.stack(found + [one.expand(len(found[0]), 2) for one in common]), small


def _exhaustive(
    work: Matcher, current: Tensor, reference: Tensor, shrink: int, reach: int, eighths: bool
) -> list[Tensor]:
    """Full search of +-reach on frames shrunken by `shrink`.

    Returns the best vector of each 16x16 block by itself and of its neighbourhood of 3x3 blocks, int32 [M, 2], and, if
    `eighths`, of each 8x8 block [4, M, 2]. The neighbourhood finds the motion of flat areas, the block alone what moves
    differently.
    """
    shrunken = _shrink(current, shrink, work)
    padded = replicate(_shrink(reference, shrink, work)[None], reach)[0]
    height, width = shrunken.shape
    offsets = torch.arange(-reach, reach + 1, device=work.device, dtype=torch.int32) * (4 * shrink)
    lowest = [_Lowest() for _ in range(3 if eighths else 2)]
    up, across = _smoother(work.h16, work.device), _smoother(work.w16, work.device)
    for dy in offsets:
        top = int(dy) // (4 * shrink) + reach
        window = padded[top : top + height].unfold(1, width, 1).transpose(0, 1)  # [dx, height, width]
        fine = _pool((window - shrunken).abs_(), 8 // shrink) * shrink**2  # SAD of 8x8 blocks
        table = torch.stack((offsets, dy.expand(len(offsets))), 1)
        own = _pool(fine, 2) + work.lam * vector_bits(table)[:, None, None]
        for best, cost in zip(lowest, (own, up @ own @ across.T, fine), strict=False):
            best.update(cost, table)
    own, wide, *small = (best.vectors.clamp(-508, 508) for best in lowest)
    return [own.reshape(-1, 2), wide.reshape(-1, 2), *(work.gathered(one) for one in small)]


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


def _shrink(luma: Tensor, shrink: int, work: Matcher) -> Tensor:
    """Mean of shrink x shrink pixels of a plane extended to whole 16x16 blocks."""
    padding = (0, 16 * work.w16 - luma.shape[1], 0, 16 * work.h16 - luma.shape[0])
    whole = functional.pad(luma.float()[None, None], padding, mode="replicate")
    return functional.avg_pool2d(whole, shrink)[0, 0]


def _whole_pixel(work: Matcher, plan: _Effort, starts: Tensor) -> Tensor:
    """Best whole-pixel vector of every 16x16 block: int32 [M, 2]."""
    vectors = torch.zeros_like(starts[0])
    distortion = work.distortions(vectors[None, None], False).sum(1)[0]
    vectors, distortion = work.best(starts, vectors, distortion, False)
    vectors, distortion = _sweep(work, vectors, distortion, False)
    for step in plan.steps:
        vectors, distortion = work.best(_around(vectors, RING, step), vectors, distortion, False)
    return _sweep(work, vectors, distortion, False)[0]


def _sub_pixel(work: Matcher, plan: _Effort, vectors: Tensor) -> Tensor:
    """Refine vectors [M, 2] to quarter pixels by what the residual will cost."""
    distortion = work.distortions(vectors[None, None], True).sum(1)[0]
    for step in (2, 1):
        vectors, distortion = work.best(_around(vectors, RING, step), vectors, distortion, True, REFINE_FLOOR)
    if plan.unite:
        vectors, distortion = work.best(_around(vectors, CROSS, 1), vectors, distortion, True, REFINE_FLOOR)
        vectors, distortion = unite(work, *_sweep(work, vectors, distortion, True))
    return _sweep(work, vectors, distortion, True)[0]


def _sweep(work: Matcher, vectors: Tensor, distortion: Tensor, residual: bool) -> tuple[Tensor, Tensor]:
    """Offer every block the vectors of its neighbours."""
    sides = neighbours(work.grid(vectors)).reshape(4, -1, 2)
    return work.best(sides, vectors, distortion, residual)


def _around(vectors: Tensor, ring: tuple[tuple[int, int], ...], step: int) -> Tensor:
    """Candidates `step` away: [..., 2] -> [len(ring), ..., 2]."""
    offsets = torch.tensor(ring, dtype=torch.int32, device=vectors.device) * step
    return vectors[None] + offsets.reshape(-1, *[1] * (vectors.dim() - 1), 2)


def _decide_split(work: Matcher, plan: _Effort, base: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Give 8x8 blocks vectors of their own where that is worth the bits: vectors [4, M, 2] and split flags [M]."""
    whole_error = work.distortions(base[None, None], True)[0]  # [4, M]
    blocks = work.above(whole_error.sum(0), SPLIT_FLOOR)
    small, saved = _split(work, plan, base, starts, whole_error, blocks)
    differs = ((small != small[0]).any(-1) & work.exists[:, blocks]).any(0)
    split = torch.zeros(len(base), dtype=torch.bool, device=work.device)
    split[blocks] = (saved > 0) & differs
    final = base[None].repeat(4, 1, 1)
    final[:, blocks] = torch.where(split[blocks][:, None], small, final[:, blocks])
    return final, split


def _split(
    work: Matcher, plan: _Effort, base: Tensor, starts: Tensor, whole_error: Tensor, blocks: Tensor
) -> tuple[Tensor, Tensor]:
    """The best four vectors of some blocks [4, m, 2], and the distortion that having them would save [m]."""
    part, own = work.part(blocks), base[blocks]
    small, errors = own[None].repeat(4, 1, 1), whole_error[:, blocks]
    sides = neighbours(work.grid(base)).reshape(4, 1, -1, 2)[:, :, blocks]
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


def _refine_starts(work: Matcher, starts: Tensor, base: Tensor) -> Tensor:
    """Walk the 8x8 blocks' own starts [4, M, 2] to whole pixels, away from the search around `base`."""
    errors = work.distortions(starts[None], True)[0]
    for step in (8, 4):
        starts, errors = _best_small(work, _around(starts, RING, step), starts, errors, base)
    return starts


def _best_small(
    work: Matcher, candidates: Tensor, small: Tensor, errors: Tensor, base: Tensor
) -> tuple[Tensor, Tensor]:
    """As `Matcher.best`, for 8x8 blocks priced by their distance from `base`: candidates [K, 4, M, 2]."""
    candidates = candidates.clamp(-VECTOR_LIMIT, VECTOR_LIMIT)
    found = work.distortions(candidates, True)
    price = found + work.lam * vector_bits(candidates - base)
    chosen = price.argmin(0)[None]
    better = price.gather(0, chosen)[0] < errors + work.lam * vector_bits(small - base)
    vectors = candidates.gather(0, chosen[..., None].expand(1, *small.shape))[0]
    return torch.where(better[..., None], vectors, small), torch.where(better, found.gather(0, chosen)[0], errors)


def _finish(work: Matcher, vectors: Tensor, split: Tensor) -> MotionField:
    """Lay [4, M, 2] vectors out as a field, and measure it."""
    pixels = 64 * work.h8 * work.w8
    cost = float(work.distortions(vectors[None], False).sum()) / pixels
    grid = work.laid_out(vectors)
    field = MotionField(grid[: work.h8, : work.w8].contiguous(), split.reshape(work.h16, work.w16))
    return replace(field, cost=cost)
