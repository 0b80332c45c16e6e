"""A group's levels without streams: the coding loop of the file codec with nothing where the range coder would be.

Legend: T frames, h w token rows and columns, C channels; planes are padded uint8 tensors, luma [8h, 8w], chroma
[4h, 4w].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bsqcodec.codec import causal
from bsqcodec.codec.filtering import Flags
from bsqcodec.codec.model import Model
from bsqcodec.codec.predictive import PredictiveCoder, TokenModel
from bsqcodec.codec.settings import first_quality, inter_quality
from bsqcodec.motion import MotionField
from bsqcodec.prior.choice import Wish
from bsqcodec.prior.coding import Bits, Coder
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.causal import CausalTokenizer
from bsqcodec.tokenizer.transform import Planes


@dataclass(frozen=True)
class GroupLevels:
    """All that a group's streams would carry.

    levels: int16 [T, h, w, C]. coarse: of the first frame at its smaller `Model.first_levels`, int16
    [h_k, w_k, C], largest first; empty for causal models.
    fields: motion of frames 1 .. T - 1; filters: their flags, bool [ceil(h/4), ceil(w/4)]; both are
    empty for causal models. qualities: T quality indices.
    """

    levels: Tensor
    coarse: list[Tensor]
    fields: list[MotionField]
    qualities: list[int]
    filters: list[np.ndarray] = field(default_factory=list)


class PassThrough:
    """Stands where the prior would (a `TokenModel`): levels pass through uncoded; decoding takes `given`, in order."""

    def __init__(self, config: PriorConfig, given: Iterable[Tensor] = ()):
        self.config, self._given = config, iter(given)

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wish | None = None) -> Tensor:
        """The levels [h, w, C] of one picture, unchanged; `coder` is never called."""
        return next(self._given) if levels is None else levels


class Keeping:
    """A `TokenModel` that remembers the levels that another one coded (and may have chosen): `seen`, in order."""

    def __init__(self, tokens: TokenModel):
        self.config, self._tokens = tokens.config, tokens
        self.seen: list[Tensor] = []

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wish | None = None) -> Tensor:
        """As the other."""
        self.seen.append(self._tokens.code(coder, features, levels, wanted))
        return self.seen[-1]


class NoCoder:
    """A `Coder` for encoding that writes nothing."""

    def code(self, plane: str, bits: Bits | None, p: np.ndarray) -> Bits:
        """The bits it is given."""
        if bits is None:
            raise ValueError("there is no stream to read bits from")
        return bits


def analyse(model: Model, targets: list[Planes], quality: int) -> GroupLevels:
    """The levels of a group whose first frame, if it is long, has an index of 0..255; targets: T >= 1 padded frames."""
    if isinstance(model.tokenizer, CausalTokenizer):
        levels = causal.analyse(model, targets, quality)
        return GroupLevels(levels, [], [], [quality] * len(targets))
    keeping = Keeping(model.tokens)  # the prior has a say in the encoder's choice of levels
    rows, columns = targets[0][0].shape
    coder = PredictiveCoder(model.tokenizer, keeping, rows // 8, columns // 8, model.device, model.tune)
    coder.filters.seen = seen = list[Flags]()
    fields: list[MotionField] = []
    qualities = [first_quality(quality, len(targets))]
    coder.first(NoCoder(), qualities[0], targets[0])
    for target in targets[1:]:
        qualities.append(inter_quality(quality, len(qualities), model.tune))
        fields.append(coder.estimate(target, qualities[-1], fields[-1] if fields else None))
        coder.next(NoCoder(), qualities[-1], fields[-1], target)
    count = len(model.first_levels) - 1
    small, frames = keeping.seen[:count], keeping.seen[count:]
    return GroupLevels(torch.stack(frames), small[::-1], fields, qualities, [frame.flags for frame in seen])


def synthesise(model: Model, group: GroupLevels) -> list[Planes]:
    """The pictures that a decoder makes of a group's levels: T frames' padded planes."""
    if isinstance(model.tokenizer, CausalTokenizer):
        return causal.synthesise(model, group.levels, group.qualities[0])
    passing = PassThrough(model.config.prior, [*group.coarse[::-1], *group.levels])
    _, h, w, _ = group.levels.shape
    coder = PredictiveCoder(model.tokenizer, passing, h, w, model.device, filters=group.filters)
    pictures = [coder.first(NoCoder(), group.qualities[0], None)]
    for quality, moved in zip(group.qualities[1:], group.fields, strict=True):
        pictures.append(coder.next(NoCoder(), quality, moved, None))
    return pictures
