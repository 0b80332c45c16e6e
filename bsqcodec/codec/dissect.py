"""A group taken apart while it is decoded: what each token says, what it cost, and how it moved.

Legend: T frames, h w token rows and columns, C channels; N tokens of a phase, n channels of a band.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bsqcodec.codec.filtering import Flags
from bsqcodec.codec.group import decode_planes
from bsqcodec.codec.model import Model
from bsqcodec.codec.predictive import TokenModel
from bsqcodec.codec.uncoded import GroupLevels
from bsqcodec.container import Group
from bsqcodec.entropy import P_BITS, BitDecoder
from bsqcodec.frames import VideoInfo
from bsqcodec.motion import MotionField, MotionState, decode_field, field_bits
from bsqcodec.prior.choice import Wish
from bsqcodec.prior.coding import Bits, Coder
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.causal import CausalTokenizer
from bsqcodec.tokenizer.levels import EXPONENTS
from bsqcodec.tokenizer.transform import PHASES, Planes, token_grid

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """One frame of a group.

    planes: its reconstruction, padded. token_bits: float64 [h, w], ideal bits of each token, with its share of the flag
    of its block; a first frame's hold their share of the smaller sizes that it is built from. motion: how it is
    predicted, None where it is not; motion_bits: ideal bits of that.
    """

    planes: Planes
    token_bits: Costs
    motion: MotionField | None
    motion_bits: float


class TokenCosts:
    """A `Coder` that hands on to another, and books the ideal cost of every bit with its token: `bits` [h, w].

    For one picture: the order of entries is that of `bitstream_spec.md`, 6.4.
    """

    def __init__(self, coder: Coder, h: int, w: int, config: PriorConfig):
        self.bits: Costs = np.zeros(h * w)
        self._coder = coder
        self._steps = _steps(h, w, config)
        self._first = "zero" if config.layout == "levels" else "sign"
        self._owner = self._alive = np.zeros(0, np.int64)  # token of each entry: of all, of those the next bit is for
        self._exponent = np.zeros(0, np.int64)
        self._digits: Iterator[int] | None = None

    def code(self, plane: str, bits: Bits | None, p: np.ndarray) -> Bits:
        """As the other's."""
        coded = self._coder.code(plane, bits, p)
        owner = self._owners(plane)
        if owner.size != coded.size:
            raise ValueError(f"{coded.size} bits of {plane} where {owner.size} were expected")
        chosen = np.where(coded.astype(bool), p, (1 << P_BITS) - p.astype(np.int64))
        self.book(plane, owner, coded, P_BITS - np.log2(chosen))
        self._follow(plane, coded)
        return coded

    def book(self, plane: str, owner: npt.NDArray[np.int64], coded: Bits, cost: Costs) -> None:
        """Take note of the bits [n] of one call, the token of each and what each costs."""
        self.bits += np.bincount(owner, cost, minlength=self.bits.size)

    def _owners(self, plane: str) -> npt.NDArray[np.int64]:
        """The token of each entry of this call."""
        if plane == self._first:
            self._owner, self._digits = next(self._steps), None
            return self._owner
        if plane != "mantissa":
            return self._owner[self._alive] if plane != "sign" else self._owner
        if self._digits is None:  # digits that no level has are not coded
            top = int(self._exponent.max(initial=0))
            self._digits = iter(range(top - 1, -1, -1))
        return self._owner[self._exponent > next(self._digits)]

    def _follow(self, plane: str, coded: Bits) -> None:
        """Which entries the next bits are for."""
        if plane == "zero":
            self._owner = self._owner[coded == 0]
            self._alive = np.arange(self._owner.size)
            self._exponent = np.zeros(self._owner.size, np.int64)
        elif plane.startswith("ge"):
            self._alive = self._alive[coded > 0]
            self._exponent[self._alive] += 1
            assert self._exponent.max(initial=0) < EXPONENTS


def _steps(h: int, w: int, config: PriorConfig) -> Iterator[npt.NDArray[np.int64]]:
    """For each phase and band in coding order, the token (raster index) of each of its N n entries."""
    index = np.arange(h * w).reshape(h, w)
    for row, column in PHASES:
        tokens = index[row::2, column::2].ravel()
        for band in range(len(config.bands)) if tokens.size else ():
            start, end = config.band_range(band)
            yield tokens.repeat(end - start)


class Observed:
    """A `TokenModel` that keeps what another one codes: levels and costs of each picture, in coding order."""

    def __init__(self, tokens: TokenModel):
        self.config, self._tokens = tokens.config, tokens
        self.seen: list[tuple[Tensor, Costs]] = []

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wish | None = None) -> Tensor:
        """As the other."""
        h, w, _ = features.shape
        costs = TokenCosts(coder, h, w, self.config)
        coded = self._tokens.code(costs, features, levels, wanted)
        self.seen.append((coded, costs.bits.reshape(h, w)))
        return coded


def dissect(model: Model, group: Group, info: VideoInfo) -> Iterator[Parts]:
    """Decode a group, frame by frame, with what went into it. Raises BitstreamError as `decode_group` does."""
    observed, filters = Observed(model.tokens), list[Flags]()
    watched = replace(model, tokens=observed)  # type: ignore[arg-type]
    moved = _moved(model, group, info)
    taken = 0
    for planes, (motion, bits) in zip(decode_planes(watched, group, info, filters), moved, strict=True):
        if isinstance(model.tokenizer, CausalTokenizer):  # all of a group's tokens come before its first picture
            yield Parts(planes, observed.seen[taken][1], motion, bits)
            taken += 1
        else:
            costs = spread([costs for _, costs in observed.seen], model.first_levels)
            yield Parts(planes, costs + sum(seen.bits for seen in filters), motion, bits)
            observed.seen.clear()
            filters.clear()


def group_levels(model: Model, group: Group, info: VideoInfo) -> GroupLevels:
    """All that a group's streams carry. Raises BitstreamError as `decode_group` does."""
    observed, filters = Observed(model.tokens), list[Flags]()
    for _ in decode_planes(replace(model, tokens=observed), group, info, filters):  # type: ignore[arg-type]
        pass
    levels = [levels for levels, _ in observed.seen]
    small = len(model.first_levels) - 1
    fields = [field for field, _ in _moved(model, group, info) if field is not None]
    return GroupLevels(
        torch.stack(levels[small:]),
        levels[:small][::-1],
        fields,
        list(group.qualities),
        [seen.flags for seen in filters],
    )


def spread(costs: list[Costs], sizes: tuple[int, ...]) -> Costs:
    """Costs of a picture's sizes on its own tokens [h, w]; the total stays. sizes: the level of each, 0 comes last."""
    total = costs[-1].copy()
    h, w = total.shape
    for level, small in zip(sizes, costs[:-1], strict=False):
        rows, columns = np.arange(h) >> level, np.arange(w) >> level
        covered = np.bincount(rows)[:, None] * np.bincount(columns)[None, :]
        total += (small[: covered.shape[0], : covered.shape[1]] / covered)[rows[:, None], columns[None, :]]
    return total


def _moved(model: Model, group: Group, info: VideoInfo) -> Iterator[tuple[MotionField | None, float]]:
    """The motion of each frame and its ideal bits."""
    shape = token_grid(info.width, info.height)
    yield None, 0.0
    if isinstance(model.tokenizer, CausalTokenizer):
        yield from ((None, 0.0) for _ in group.pts[1:])
        return
    decoder, state = BitDecoder(group.motion), MotionState(model.motion)
    before: MotionField | None = None
    for _ in group.pts[1:]:
        unchanged = copy.deepcopy(state)
        field = decode_field(decoder, shape, before, model.motion, state)
        yield field, field_bits(field, before, model.motion, unchanged)
        before = field
