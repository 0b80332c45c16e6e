"""What the prior knows, as small integers: the reference tokens moved along the motion, energy, vectors, quality.

Everything here comes from the stream's bits and vectors alone, in integers.
Legend: h w tokens, C channels a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bsqcodec.prior.network import AUXILIARY, PriorConfig

# round(24 log2(1 + n)): how the network sees an amplitude |n| (saturates at 38)
MAGNITUDE: tuple[int, ...] = (
    *(0, 24, 38, 48, 56, 62, 67, 72, 76, 80, 83, 86, 89, 91, 94, 96, 98, 100, 102, 104),
    *(105, 107, 109, 110, 111, 113, 114, 115, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127),
)
SIGNED_UNIT, SIGNED_MAX = 16, 4  # a signed level n enters as 16 clip(n, -4, 4)
ONE = 64  # a flag that is set
CHANGE_MAX = 64  # indices; larger changes of quality look like this one
QUALITY_HATS = 16  # hat functions over the quality index, knots 17 apart
KINDS = 5
INTER = 4


@dataclass
class References:
    """The tokens a frame's probabilities lean on, aligned with its own grid.

    levels: int16 [h, w, C]; energy: uint8 [h, w, C], a decaying mean of MAGNITUDE along the motion.
    """

    levels: Tensor
    energy: Tensor

    def moved(self, vectors: Tensor) -> References:
        """Fetch along vectors [h, w, 2] (dx, dy in quarter luma samples): the token nearest to where each points."""
        h, w, _ = self.levels.shape
        row = torch.arange(h, device=vectors.device)[:, None]
        column = torch.arange(w, device=vectors.device)[None]
        motion = vectors.to(torch.int64)
        row = ((row * 32 + 16 + motion[..., 1]) >> 5).clamp(0, h - 1)  # a token is 32 quarter samples
        column = ((column * 32 + 16 + motion[..., 0]) >> 5).clamp(0, w - 1)
        return References(self.levels[row, column], self.energy[row, column])

    def enlarged(self, h: int, w: int) -> References:
        """The tokens of a pyramid level at half the size, each standing for 2x2 tokens of h x w."""
        row = torch.arange(h, device=self.levels.device)[:, None] // 2
        column = torch.arange(w, device=self.levels.device)[None] // 2
        return References(self.levels[row, column], self.energy[row, column])

    def updated(self, levels: Tensor) -> References:
        """The references of what follows this frame's levels: energy' = (3 energy + magnitude + 2) >> 2."""
        energy = (self.energy.to(torch.int32) * 3 + magnitude(levels).to(torch.int32) + 2) >> 2
        return References(levels, energy.to(torch.uint8))


def empty(h: int, w: int, channels: int, device: torch.device) -> References:
    """Nothing known yet: the smallest level of a pyramid."""
    levels = torch.zeros(h, w, channels, dtype=torch.int16, device=device)
    return References(levels, torch.zeros(h, w, channels, dtype=torch.uint8, device=device))


_TABLES: dict[torch.device, Tensor] = {}


def magnitude(levels: Tensor) -> Tensor:
    """MAGNITUDE of |levels|: uint8, same shape."""
    if levels.device not in _TABLES:
        _TABLES[levels.device] = torch.tensor(MAGNITUDE, dtype=torch.uint8, device=levels.device)
    return _TABLES[levels.device][levels.abs().clamp(max=len(MAGNITUDE) - 1).to(torch.int32)]


def symbols(levels: Tensor, signed: int) -> Tensor:
    """What the network sees of levels [..., C]: magnitudes and the first signs, float32 integers [..., C + signed]."""
    signs = levels[..., :signed].clamp(-SIGNED_MAX, SIGNED_MAX) * SIGNED_UNIT
    return torch.cat([magnitude(levels).float(), signs.float()], dim=-1)


def auxiliary(
    h: int,
    w: int,
    *,
    quality: int,
    kind: int,
    position: int,
    vectors: Tensor | None,
    device: torch.device,
    change: int = 0,
) -> Tensor:
    """Features that are not channels: float32 integers [h, w, 40].

    quality: index 0..255; kind: pyramid level or INTER; position: frames since the group's first;
    vectors: int [h, w, 2] quarter samples or None; change: quality index less that of the frame before.
    Order: 16 quality hats, 5 kinds, 4 position flags (>= 2, 4, 8, 16), 4 quadrants of the parent token,
    |dx|, |dy|, disagreement with the vector above and to the left, how much coarser and how much finer than the frame
    before, 6 zeros.
    """
    out = torch.zeros(h, w, AUXILIARY, device=device)
    for hat in range(QUALITY_HATS):
        out[..., hat] = max(0, 17 - abs(quality - 17 * hat)) * ONE // 17
    out[..., 16 + kind] = ONE
    for flag in range(4):
        out[..., 21 + flag] = ONE if position >= 2 << flag else 0
    if kind != INTER:
        out[0::2, 0::2, 25] = out[0::2, 1::2, 26] = out[1::2, 0::2, 27] = out[1::2, 1::2, 28] = ONE
    if vectors is not None:
        out[..., 29:31] = magnitude(vectors.to(torch.int16)).float()
        above = vectors - torch.cat([vectors[:1], vectors[:-1]])
        left = vectors - torch.cat([vectors[:, :1], vectors[:, :-1]], dim=1)
        disagreement = torch.maximum(above.abs().amax(-1), left.abs().amax(-1))
        out[..., 31] = magnitude(disagreement.to(torch.int16)).float()
    out[..., 32], out[..., 33] = min(max(change, 0), CHANGE_MAX), min(max(-change, 0), CHANGE_MAX)
    return out


def features(references: References, extra: Tensor, config: PriorConfig) -> Tensor:
    """All the trunk's inputs: float32 integers [h, w, config.features]."""
    known = symbols(references.levels, config.signed)
    joined = torch.cat([known, references.energy.float(), extra], dim=-1)
    return torch.nn.functional.pad(joined, (0, config.features - joined.shape[-1]))
