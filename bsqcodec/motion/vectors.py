"""A motion field to bits and back. Normative; numpy integers only.

The base vectors (top-left 8x8 of each 16x16 block) go first, from a coarse lattice to the places in between, so that
most blocks are predicted from neighbours on all four sides and each pass is a few array calls. Then the split flags,
then the other vectors of split blocks. One traversal, `_code_field`, serves encoder, decoder and statistics: they
differ in the `Coder` that answers it.

h8, w8: 8x8 blocks; h16, w16: 16x16 blocks. n: blocks of one pass. Vectors in quarter luma pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bsqcodec.entropy import BitDecoder, BitEncoder
from bsqcodec.errors import BitstreamError
from bsqcodec.motion.coders import Array, Coder, Counting, Decoding, Encoding, Mask
from bsqcodec.motion.compensate import VECTOR_LIMIT, MotionField
from bsqcodec.motion.tables import MERGES, Counts, MotionState, MotionTables, empty_counts

COARSEST = 16  # spacing of the first lattice, in 16x16 blocks
DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))  # (row, column) in units of the pass's spacing
STRAIGHT = ((0, -1), (-1, 0), (0, 1), (1, 0))
SPREADS = np.array((1, 5, 17, 65))  # lower ends of spread classes 1..4, quarter pixels
CLASSES = 8  # residual classes of a base vector's component, by its neighbours' distance; as many for sub-blocks
TOP_EXPONENT = 9  # |residual| <= 1023
NONE_LEFT = 1 << 20  # above any score


@dataclass(frozen=True)
class _Choice:
    """What vectors may equal [n, 2], and the table and contexts [n] of saying so."""

    table: str
    context: Array
    vectors: Array


# Kind (0..4, a context), spacing, sides (neighbours to predict from), rows and columns of the blocks.
_Pass = tuple[int, int, tuple[tuple[int, int], ...], Array, Array]


def encode_field(
    encoder: BitEncoder,
    field: MotionField,
    previous: MotionField | None,
    tables: MotionTables,
    state: MotionState | None,
) -> float:
    """Append a field to the group's motion stream; returns the bits it takes.

    previous: the field coded before it in this group, of the same shape, None for the first. state: the group's,
    updated here (None: `tables` as they are, nothing adapts). ValueError for a field that breaks `MotionField`'s
    rules.
    """
    coder = Encoding(encoder, state or MotionState(tables))
    _code_field(coder, field.shape, _checked(field), _plain(previous, field.shape))
    if state is not None:
        state.update(coder.seen)
    return coder.bits


def decode_field(
    decoder: BitDecoder,
    shape: tuple[int, int],
    previous: MotionField | None,
    tables: MotionTables,
    state: MotionState | None,
) -> MotionField:
    """Read the field that `encode_field` wrote; shape is (h8, w8). BitstreamError for a vector out of range."""
    coder = Decoding(decoder, state or MotionState(tables))
    vectors, split = _code_field(coder, shape, None, _plain(previous, shape))
    if state is not None:
        state.update(coder.seen)
    return MotionField(torch.from_numpy(vectors.astype(np.int32)), torch.from_numpy(split))


def field_bits(
    field: MotionField, previous: MotionField | None, tables: MotionTables, state: MotionState | None = None
) -> float:
    """What `encode_field` would spend, in bits; changes nothing."""
    coder = Counting(empty_counts(tables.merging), state or MotionState(tables))
    _code_field(coder, field.shape, _checked(field), _plain(previous, field.shape))
    return coder.bits


def count_statistics(field: MotionField, previous: MotionField | None, counts: Counts) -> None:
    """Add the decisions that code `field` to `counts` (from `empty_counts`), for `tables_from_counts`."""
    _code_field(Counting(counts), field.shape, _checked(field), _plain(previous, field.shape))


def _plain(field: MotionField | None, shape: tuple[int, int]) -> tuple[Array, Mask] | None:
    """A field as numpy arrays: vectors int64 [h8, w8, 2], split bool [h16, w16]."""
    if field is None:
        return None
    if field.shape != shape:
        raise ValueError(f"the previous field has {field.shape} blocks, this one {shape}; they must have the same")
    return field.vectors.cpu().numpy().astype(np.int64), field.split.cpu().numpy().astype(bool)


def _checked(field: MotionField) -> tuple[Array, Mask]:
    """As `_plain`, after checking range, shape and that exactly the split blocks hold different vectors."""
    plain = _plain(field, field.shape)
    assert plain is not None
    vectors, split = plain
    h8, w8 = field.shape
    if split.shape != ((h8 + 1) // 2, (w8 + 1) // 2):
        raise ValueError(f"a field of {h8}x{w8} blocks cannot have {split.shape} split flags")
    if np.abs(vectors).max(initial=0) > VECTOR_LIMIT:
        raise ValueError(f"a vector component exceeds {VECTOR_LIMIT} quarter pixels")
    spread = _to_blocks(vectors[::2, ::2], (h8, w8))
    if ((spread != vectors).any(-1) & ~_to_blocks(split, (h8, w8))).any():
        raise ValueError("a block that is not split holds different vectors")
    return vectors, split


def _to_blocks(grid: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Repeat a 16x16 grid to 8x8 blocks: [h16, w16, ...] -> [h8, w8, ...]."""
    return grid.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]


def _code_field(
    coder: Coder, shape: tuple[int, int], truth: tuple[Array, Mask] | None, previous: tuple[Array, Mask] | None
) -> tuple[Array, Mask]:
    """Walk a field in stream order: vectors int64 [h8, w8, 2] and split bool [h16, w16]."""
    base = _code_bases(coder, shape, truth, previous)
    split = _code_splits(coder, shape, base, truth, previous)
    vectors = np.ascontiguousarray(_to_blocks(base, shape))
    _code_sub_blocks(coder, base, split, vectors, truth)
    return vectors, split


def _code_bases(
    coder: Coder, shape: tuple[int, int], truth: tuple[Array, Mask] | None, previous: tuple[Array, Mask] | None
) -> Array:
    """Base vectors, lattice by lattice: int64 [h16, w16, 2]."""
    h16, w16 = (shape[0] + 1) // 2, (shape[1] + 1) // 2
    base = np.zeros((h16, w16, 2), np.int64)
    before = None if previous is None else previous[0][::2, ::2]
    for kind, step, sides, rows, columns in _passes(h16, w16):
        candidates, usable = _candidates(base, before, rows, columns, step, sides)
        predicted, *others = _ranked(candidates, usable, 2 + MERGES * coder.merging)
        differ = (candidates != predicted).any(-1)
        agree = (usable & ~differ)[:-1].sum(0)
        apart = (np.abs(candidates - predicted) * usable[..., None])[:-1].sum(0)
        spread = np.searchsorted(SPREADS, apart.sum(-1), side="right")
        memory = np.zeros(len(rows), np.int64) if before is None else 1 + differ[-1]
        place = kind * 5 + spread
        choices = [
            _Choice("same", ((kind * 3 + memory) * 5 + agree) * 5 + spread, predicted),
            _Choice("alternative", place, others[0]),
            *(_Choice("merge", rank * 25 + place, other) for rank, other in enumerate(others[1:])),
        ]
        known = None if truth is None else truth[0][::2, ::2][rows, columns]
        base[rows, columns] = _code_vectors(coder, choices, _classes(apart), known)
    return base


def _passes(h16: int, w16: int) -> list[_Pass]:
    """The passes that have blocks, in stream order."""
    y, x = np.mgrid[:h16, :w16].reshape(2, -1)
    whole = (y % COARSEST == 0) & (x % COARSEST == 0)
    found: list[_Pass] = [(0, COARSEST, (), y[whole], x[whole])]
    step = COARSEST // 2
    while step:
        odd_y, odd_x = y % (2 * step) == step, x % (2 * step) == step
        on = (y % step == 0) & (x % step == 0)
        both, one = odd_y & odd_x, on & (odd_y ^ odd_x)
        found.append((3 if step == 1 else 2 if step == 2 else 1, step, DIAGONAL, y[both], x[both]))
        found.append((4 if step == 1 else 2 if step == 2 else 1, step, STRAIGHT, y[one], x[one]))
        step //= 2
    return [one_pass for one_pass in found if len(one_pass[3])]


def _candidates(
    base: Array, before: Array | None, rows: Array, columns: Array, step: int, sides: tuple[tuple[int, int], ...]
) -> tuple[Array, Mask]:
    """Vectors of the decoded neighbours, then the previous field's (always last): [c, n, 2], and which exist [c, n]."""
    h16, w16 = base.shape[:2]
    values, usable = [], []
    for dy, dx in sides:
        y, x = rows + dy * step, columns + dx * step
        inside = (y >= 0) & (y < h16) & (x >= 0) & (x < w16)
        values.append(base[y.clip(0, h16 - 1), x.clip(0, w16 - 1)])
        usable.append(inside)
    values.append(np.zeros((len(rows), 2), np.int64) if before is None else before[rows, columns])
    usable.append(np.full(len(rows), before is not None))
    return np.stack(values), np.stack(usable)


def _ranked(candidates: Array, usable: Mask, count: int) -> list[Array]:
    """The first `count` different candidates by their total L1 distance to all, the earlier one at a tie, then zeros:
    [n, 2] each."""
    n = np.arange(candidates.shape[1])
    score = np.where(usable, _total_distance(candidates, candidates, usable), NONE_LEFT)
    found: list[Array] = []
    for _ in range(count):
        left = np.asarray((score < NONE_LEFT).any(0))
        best = np.where(left[:, None], candidates[score.argmin(0), n], 0)
        score = np.where((candidates == best).all(-1), NONE_LEFT, score)
        found.append(best)
    return found


def _classes(apart: Array) -> Array:
    """Residual class 0..7 of distances: the number of bits of each."""
    return np.minimum(np.searchsorted(1 << np.arange(CLASSES), apart, side="right"), CLASSES - 1)


def _total_distance(points: Array, candidates: Array, usable: Mask) -> Array:
    """Sum over usable candidates [c, n, 2] of the L1 distance to each of points [k, n, 2] -> [k, n]."""
    distance = np.abs(points[:, None] - candidates[None]).sum(-1)  # [k, c, n]
    return np.asarray((distance * usable[None]).sum(1))


def _code_vectors(coder: Coder, choices: list[_Choice], kind: Array, truth: Array | None) -> Array:
    """Vectors [n, 2]: equal to the first choice, else to the next where that differs from all before, else a residual
    to the first.

    kind: classes of the residual's components [n, 2].
    """
    predicted, alternative = choices[0].vectors, choices[1].vectors
    values, rest = predicted.copy(), np.arange(len(predicted))
    for i, choice in enumerate(choices):
        new = [(choice.vectors[rest] != earlier.vectors[rest]).any(-1) for earlier in choices[:i]]
        maybe = rest[np.all(new, 0)] if new else rest
        known = None if truth is None else (truth[maybe] == choice.vectors[maybe]).all(-1)
        taken = maybe[coder.decide(choice.table, choice.context[maybe], known) == 1]
        values[taken] = choice.vectors[taken]
        rest = np.setdiff1d(rest, taken, assume_unique=True)
    lean = np.sign(alternative[rest] - predicted[rest]) + 1
    residual = _code_residuals(coder, kind[rest], lean, None if truth is None else truth[rest] - predicted[rest])
    values[rest] = predicted[rest] + residual
    if np.abs(values).max(initial=0) > VECTOR_LIMIT:
        raise BitstreamError(f"motion: a vector exceeds {VECTOR_LIMIT} quarter pixels; the stream is damaged")
    return values


def _code_residuals(coder: Coder, kind: Array, lean: Array, truth: Array | None) -> Array:
    """Non-zero residuals [n, 2]: which components are zero, then sign and magnitude of those that are not.

    kind: classes [n, 2]; lean: 0, 1 or 2 [n, 2], whether the alternative lies below, at or above the prediction.
    """
    zero = np.zeros((len(kind), 2), bool)
    zero[:, 0] = coder.decide("zero", 2 * kind[:, 0], None if truth is None else truth[:, 0] == 0)
    open_y = np.flatnonzero(~zero[:, 0])  # where x is zero, y is not
    known = None if truth is None else truth[open_y, 1] == 0
    zero[open_y, 1] = coder.decide("zero", 2 * kind[open_y, 1] + 1, known)
    block, component = np.nonzero(~zero)
    known_value = None if truth is None else truth[block, component]
    kinds = kind[block, component]
    context = (kinds // CLASSES * 2 + component) * 3 + lean[block, component]
    negative = coder.decide("sign", context, None if known_value is None else known_value < 0)
    magnitude = _code_magnitudes(coder, kinds, None if known_value is None else np.abs(known_value))
    residual = np.zeros((len(kind), 2), np.int64)
    residual[block, component] = np.where(negative == 1, -magnitude, magnitude)
    return residual


def _code_magnitudes(coder: Coder, kind: Array, truth: Array | None) -> Array:
    """Magnitudes 1..1023 [n]: exponent floor(log2 m) in unary, then the bits below the leading one, highest first."""
    exponent = np.zeros(len(kind), np.int64)
    active = np.arange(len(kind))
    for reached in range(TOP_EXPONENT):
        known = None if truth is None else truth[active] >> (reached + 1) > 0
        active = active[coder.decide("exponent", kind[active] * TOP_EXPONENT + reached, known) == 1]
        exponent[active] += 1
    magnitude = np.left_shift(1, exponent)
    for position in range(TOP_EXPONENT - 1, -1, -1):
        active = np.flatnonzero(exponent > position)
        known = None if truth is None else truth[active] >> position & 1 == 1
        bits = coder.decide("mantissa", exponent[active] * TOP_EXPONENT + position, known)
        magnitude[active] += bits.astype(np.int64) << position
    return magnitude


def _code_splits(
    coder: Coder,
    shape: tuple[int, int],
    base: Array,
    truth: tuple[Array, Mask] | None,
    previous: tuple[Array, Mask] | None,
) -> Mask:
    """Split flags in four interleaved phases: bool [h16, w16]; a block that is a single 8x8 block has none."""
    h16, w16 = base.shape[:2]
    split = np.zeros((h16, w16), bool)
    alike = (_sides(base, VECTOR_LIMIT + 1) == base).all(-1).sum(0)
    y, x = np.mgrid[:h16, :w16].reshape(2, -1)
    single = (2 * y + 1 == shape[0]) & (2 * x + 1 == shape[1])
    for phase, (odd_y, odd_x) in enumerate(((0, 0), (1, 1), (0, 1), (1, 0))):
        chosen = (y % 2 == odd_y) & (x % 2 == odd_x) & ~single
        rows, columns = y[chosen], x[chosen]
        known = np.minimum(_sides(split, False)[:, rows, columns].sum(0), 2)  # flags not yet coded count as 0
        before = 0 if previous is None else previous[1][rows, columns].astype(np.int64)
        context = ((phase * 2 + before) * 3 + known) * 5 + alike[rows, columns]
        split[rows, columns] = coder.decide("split", context, None if truth is None else truth[1][rows, columns])
    return split


def _sides(grid: npt.NDArray[Any], outside: int) -> npt.NDArray[Any]:
    """The values left, above, right and below of every place, `outside` beyond the border: [4, h16, w16, ...]."""
    padded = np.pad(grid, ((1, 1), (1, 1)) + ((0, 0),) * (grid.ndim - 2), constant_values=outside)
    return np.stack((padded[1:-1, :-2], padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1]))


def _code_sub_blocks(coder: Coder, base: Array, split: Mask, vectors: Array, truth: tuple[Array, Mask] | None) -> None:
    """Sub-blocks 1 (right), 2 (below) and 3 (diagonal) of the split blocks, written into vectors [h8, w8, 2]."""
    h8, w8 = vectors.shape[:2]
    left = np.zeros(split.shape, np.int64)  # how many earlier sub-blocks of a block left its base vector
    for sub, (down, across) in enumerate(((0, 1), (1, 0), (1, 1))):
        rows, columns = np.nonzero(split)
        inside = (2 * rows + down < h8) & (2 * columns + across < w8)
        rows, columns = rows[inside], columns[inside]
        place = (2 * rows + down, 2 * columns + across)
        own = base[rows, columns]
        predicted, alternative = _sub_prediction(base, vectors, rows, columns, sub)
        useful = (predicted != alternative).any(-1)
        context = sub * 3 + left[rows, columns]
        known = None if truth is None else truth[0][place]
        same = _Choice("sub_same", context * 2 + useful, predicted)
        other = _Choice("sub_alternative", context, alternative)
        vectors[place] = _code_vectors(coder, [same, other], CLASSES + _classes(np.abs(alternative - predicted)), known)
        left[rows, columns] += (vectors[place] != own).any(-1)


def _sub_prediction(base: Array, vectors: Array, rows: Array, columns: Array, sub: int) -> tuple[Array, Array]:
    """Prediction and alternative [n, 2] of sub-block `sub` + 1, from its block's earlier ones and its neighbour."""
    own = base[rows, columns]
    if sub == 0:  # the block on the right
        return own, base[rows, np.minimum(columns + 1, base.shape[1] - 1)]
    right = vectors[2 * rows, np.minimum(2 * columns + 1, vectors.shape[1] - 1)]
    if sub == 1:  # the block below, or the sub-block above right
        below = base[np.minimum(rows + 1, base.shape[0] - 1), columns]
        return own, np.where((below != own).any(-1, keepdims=True), below, right)
    below = vectors[2 * rows + 1, 2 * columns]
    agreed = (right == below).all(-1, keepdims=True)
    other = np.where((right != own).any(-1, keepdims=True), right, below)
    return np.where(agreed, right, own), np.where(agreed, own, other)
