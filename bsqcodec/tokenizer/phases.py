"""Prediction of a first frame's tokens from its decoded quarter and from the tokens decoded before.

Tokens are decoded in the prior's four phases, so that those of later phases have decoded neighbours on all sides. Each
phase has a linear filter, exact in float64, and a small network for what is not linear, both on the samples around the
token: decoded ones where they are there already, enlarged ones elsewhere.
Fixed point as in `bsqcodec.tokenizer.reconstruction`. Legend: B batch, h w tokens of a picture, p q those of a phase,
N = 384 samples around a token.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bsqcodec.integer.arithmetic import INT13, Linear, Ops
from bsqcodec.integer.blocks import activated
from bsqcodec.tokenizer.transform import LUMA, PHASES, SAMPLES, patches, unpack

MARGIN = 4  # luma samples of the neighbours that are seen
SEEN = ((8 + 2 * MARGIN) ** 2, (4 + MARGIN) ** 2, (4 + MARGIN) ** 2)  # samples of Y, U, V around a token
HATS = 16
FILTER, SAMPLE, SAMPLE_MAX = 14, 4, 32767  # fraction bits of the filters and of samples; limit of sixteenths
FILTER_MAX = 32767
CLIP = 2048  # the network sees 16 steps at most
RECIPROCAL = 16  # fraction bits of 1 / step


class PhasePredictor(nn.Module):
    """What the tokens of a phase will look like."""

    def __init__(self, hidden: int):
        super().__init__()
        seen, phases = sum(SEEN), range(len(PHASES))
        self.filters = nn.Parameter(torch.zeros(len(PHASES), SAMPLES, seen))
        self.inlets = nn.ModuleList(Linear(seen + HATS, hidden, precision=INT13) for _ in phases)
        self.hidden = nn.ModuleList(Linear(hidden, hidden, precision=INT13) for _ in phases)
        self.heads = nn.ModuleList(Linear(hidden, SAMPLES, precision=INT13) for _ in phases)
        for head in self.heads:
            assert isinstance(head, Linear)
            nn.init.zeros_(head.weight)

    def forward(
        self, canvas: Tensor, enlarged: Tensor, phase: int, ops: Ops, step: Tensor, reciprocal: Tensor, hats: Tensor
    ) -> Tensor:
        """Samples of the phase's tokens in sixteenths, not clamped to 0..255: float32 integers [B, p, q, 96].

        canvas: what is known of the picture, and enlarged: its enlarged quarter, in grey levels [B, h, w, 96];
        step (float64, fraction 8), reciprocal [B, 1, 1, 1], hats [B, 16]: of the picture's quality.
        """
        row, column = PHASES[phase]
        own = enlarged[:, row::2, column::2]
        around = patches(unpack(canvas), MARGIN)[:, row::2, column::2] * 2**SAMPLE - self._means(own, ops)
        matrix = ops.whole(self.filters[phase].double() * 2**FILTER)
        steady = ops.rescale(around.double() @ matrix.T, FILTER, -SAMPLE_MAX, SAMPLE_MAX)
        limited = torch.maximum(torch.minimum(around, step.float()), -step.float())
        scaled = limited.double() * reciprocal.double()
        inputs = ops.rescale(scaled, RECIPROCAL + SAMPLE - INT13.activation, -CLIP, CLIP).float()
        condition = hats[:, None, None].expand(*inputs.shape[:3], -1)
        x = activated(torch.cat([inputs, condition], dim=-1), self.inlets[phase], ops, INT13)
        x = activated(x, self.hidden[phase], ops, INT13)
        total = ops.linear(x, self.heads[phase]).double() * step
        correction = ops.rescale(total, INT13.sum + 8 - SAMPLE, -SAMPLE_MAX, SAMPLE_MAX)
        out: Tensor = own * 2**SAMPLE + steady.float() + correction.float()
        return out

    def whole_filters(self) -> Tensor:
        """The filters on their grid: float integers, fraction 14."""
        return torch.round(self.filters.detach() * 2**FILTER).clamp(-FILTER_MAX, FILTER_MAX)

    def load_filters(self, filters: np.ndarray) -> None:
        """The inverse of `whole_filters`. Raises ValueError where shape or type is wrong."""
        if filters.shape != tuple(self.filters.shape) or filters.dtype != np.int16:
            raise ValueError(f"decoder.phases.filters is not int16 {list(self.filters.shape)}")
        with torch.no_grad():
            self.filters.copy_(torch.from_numpy(filters.astype(np.float32)) / 2**FILTER)

    @staticmethod
    def _means(own: Tensor, ops: Ops) -> Tensor:
        """Means of the planes of enlarged tokens [B, p, q, 96], for each sample around them: sixteenths [.., N]."""
        y, u, v = torch.split(own, [LUMA, 16, 16], dim=-1)
        luma = ops.rescale(y.sum(-1, keepdim=True), 2, 0, SAMPLE_MAX)
        means = (luma, u.sum(-1, keepdim=True), v.sum(-1, keepdim=True))
        return torch.cat([mean.expand(*own.shape[:3], n) for mean, n in zip(means, SEEN, strict=True)], dim=-1)
