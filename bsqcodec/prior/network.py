"""The prior's transformer: integers in, integer logits out. One code for training and for both exact kernels.

A trunk of window attention sees what is known before the frame is (the reference tokens moved along the motion, their
energy, vectors, quality); a light net per token then mixes in the neighbours already coded (the tokens of earlier
phases), and a head per band of channels sees the bands before it.
Legend: B batch, h w tokens, N tokens of a phase, D width, C channels a token, S = 64 tokens in a window,
K decisions a channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.integer.arithmetic import Linear, Ops
from bsqcodec.integer.blocks import activated, blocks, narrow, widened
from bsqcodec.tokenizer.transform import PHASES

NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
AUXILIARY = 40  # features that are not channels: quality, kind, motion, place in the group
LOGIT_SHIFT, LOGIT_MAX = 4, 2047  # sums (fraction 11) to logits in 1/128 nat


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of the prior. layout: "levels" (residual BSQ amplitudes) or "signs" (one plain BSQ bit a channel)."""

    channels: int = 96
    layout: str = "levels"
    bands: tuple[int, ...] = (8, 36, 96)  # where each band of channels ends
    signed: int = 8  # leading channels whose signs are context
    dim: int = 192
    depth: int = 2
    heads: int = 6
    mlp: int = 384
    embed: int = 32
    mix: int = 256
    hidden: int = 128

    @property
    def features(self) -> int:
        """Inputs of the trunk, a multiple of 8."""
        return -(-(2 * self.channels + self.signed + AUXILIARY) // 8) * 8

    @property
    def decisions(self) -> int:
        """Logits a channel: zero, sign, ge2, ge4, ge8, three; or the sign alone."""
        return 6 if self.layout == "levels" else 1

    def band_range(self, band: int) -> tuple[int, int]:
        """First channel of a band and the one behind its last."""
        return (0 if band == 0 else self.bands[band - 1]), self.bands[band]


def _multiple_of_8(n: int) -> int:
    return -(-n // 8) * 8


class PriorNetwork(nn.Module):
    """All learned parts of the prior."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        self.inlet = Linear(config.features, config.dim)
        self.blocks = blocks(config.depth, config.dim, config.heads, config.mlp)
        self.embed = Linear(_multiple_of_8(config.channels + config.signed), config.embed)
        self.mix = Linear(_multiple_of_8(config.dim + len(NEIGHBOURS) * config.embed + len(PHASES)), config.mix, 1.4)
        ranges = [config.band_range(band) for band in range(len(config.bands))]
        self.hidden = nn.ModuleList(Linear(self.band_inputs(start), config.hidden, 1.4) for start, _ in ranges)
        self.heads = nn.ModuleList(
            Linear(config.hidden, _multiple_of_8((end - start) * config.decisions)) for start, end in ranges
        )

    def band_inputs(self, start: int) -> int:
        """Inputs of a band's hidden layer: the mixed token and the bands before."""
        return self.config.mix + (_multiple_of_8(start + self.config.signed) if start else 0)

    def trunk(self, features: Tensor, ops: Ops) -> Tensor:
        """Feature integers [B, h, w, F] -> activation integers [B, h, w, D]."""
        x = widened(features, self.inlet, ops).unsqueeze(1)
        for block in self.blocks:
            x = block(x, ops)
        return narrow(x, ops).squeeze(1)

    def embedding(self, symbols: Tensor, ops: Ops) -> Tensor:
        """What neighbours see of coded tokens [..., C + signed]: [..., E] activations 0..127."""
        return activated(_pad8(symbols), self.embed, ops)

    def mixed(self, trunk: Tensor, neighbours: Tensor, phase: Tensor, ops: Ops) -> Tensor:
        """trunk [..., D], neighbours [..., 8 E], phase one-hot times 64 [..., 4] -> [..., M] activations 0..127."""
        return activated(_pad8(torch.cat([trunk, neighbours, phase], dim=-1)), self.mix, ops)

    def logits(self, mixed: Tensor, before: Tensor | None, band: int, ops: Ops) -> Tensor:
        """mixed [..., M] and the symbols of earlier bands -> sums (fraction 11) [..., channels of the band, K]."""
        start, end = self.config.band_range(band)
        inputs = mixed if before is None else torch.cat([mixed, _pad8(before)], dim=-1)
        total = ops.linear(activated(inputs, self.hidden[band], ops), self.heads[band])
        size = (end - start) * self.config.decisions
        return total[..., :size].reshape(*total.shape[:-1], end - start, self.config.decisions)


def _pad8(x: Tensor) -> Tensor:
    missing = -x.shape[-1] % 8
    return F.pad(x, (0, missing)) if missing else x
