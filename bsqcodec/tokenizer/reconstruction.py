"""Pixels of the predictive tokenizer, in exact integers: levels and a prediction -> samples. Normative.

Synthesis of the levels gives `base`; a transformer corrects it (learned reconstruction and in-loop filter). The same
code trains (`Training`: straight-through gradients) and decodes (`Float32`, `Int8`: the same integers everywhere).
Fixed point: latents have fraction 8 (units of a step), the synthesis matrix 16, samples 4 (sixteenths of a grey level).
Legend: B batch, h w tokens, C = 96 channels, S = 96 samples of a token.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bsqcodec.integer.arithmetic import INT13, Linear, Ops, Training, freeze
from bsqcodec.integer.blocks import blocks, integers, load_integers, narrow, widened
from bsqcodec.tokenizer.phases import FILTER, PhasePredictor
from bsqcodec.tokenizer.quality import STEP_Q8
from bsqcodec.tokenizer.transform import LUMA, SAMPLES, patches, unpack

KINDS = 5  # pyramid level 0 (full size) .. 3 (an eighth), 4 = predicted from the frame before
INTER = 4
MARGIN = 2  # luma samples of the neighbours a token's features reach into
PATCHES = ((8 + 2 * MARGIN) ** 2, (4 + MARGIN) ** 2, (4 + MARGIN) ** 2)  # samples of a token's patch of Y, U, V
QUALITY_HATS, HAT_WIDTH, ONE = 16, 17, 512  # hat functions over the quality index; a flag that is set
CLIP = 1024  # features saturate at 8 steps, latents too
MEAN = 3  # fraction bits of a mean's feature, in grey levels
FEATURES = -(-(sum(PATCHES) + SAMPLES + 3 + QUALITY_HATS + KINDS) // 8) * 8  # 336
LIKELY_LEVELS = 3  # points of reconstruction are learned for |n| = 1, 2 and >= 3
LATENT, MATRIX, PARTIAL, SAMPLE = 8, 16, 12, 4  # fraction bits; PARTIAL: of a synthesis before it meets the step
SAMPLE_MAX = 32767  # sixteenths
RECIPROCAL = 16  # fraction bits of 1 / step


class Reconstruction(nn.Module):
    """The decoder: offsets of the levels' points, synthesis, and the transformer that corrects.

    Made for training; `freeze` turns it to decoding. phases: width of what predicts first frames (0: nothing does).
    """

    steps: Tensor
    reciprocals: Tensor
    hats: Tensor

    def __init__(self, *, dim: int, depth: int, heads: int, mlp: int, phases: int = 0):
        super().__init__()
        self.phases = PhasePredictor(phases) if phases else None
        self.ops: Ops = Training()
        self.offset = nn.Parameter(torch.full((SAMPLES, LIKELY_LEVELS), -0.05))  # added to |n|, units of a step
        self.synthesis = nn.Parameter(torch.zeros(SAMPLES, SAMPLES))  # [S, C], grey levels a step of the frame
        self.inlet = Linear(FEATURES, dim, precision=INT13)
        self.blocks = blocks(depth, dim, heads, mlp, INT13)
        self.head = Linear(dim, SAMPLES, precision=INT13)
        nn.init.zeros_(self.head.weight)
        steps = torch.tensor(STEP_Q8, dtype=torch.float64)
        self.register_buffer("steps", steps, persistent=False)  # [256], fraction 8
        self.register_buffer("reciprocals", torch.round(2 ** (RECIPROCAL + 8) / steps).float(), persistent=False)
        self.register_buffer("hats", _hats(), persistent=False)

    def freeze(self, ops: Ops) -> None:
        """Turn from training to decoding: every parameter becomes its integer, `ops` the arithmetic."""
        with torch.no_grad():
            self.offset.copy_(torch.round(self.offset * 2**LATENT) / 2**LATENT)
            self.synthesis.copy_(torch.round(self.synthesis * 2**MATRIX) / 2**MATRIX)
            if self.phases is not None:
                self.phases.filters.copy_(self.phases.whole_filters() / 2**FILTER)
        freeze(self)
        self.ops = ops

    def dequantise(self, levels: Tensor) -> Tensor:
        """Levels -> latents at their learned points of reconstruction, in steps: float32, exact once frozen."""
        n = levels.to(self.offset.dtype)
        which = levels.abs().to(torch.int64).clamp(max=LIKELY_LEVELS)
        table = torch.cat([torch.zeros_like(self.offset[:, :1]), self.offset], dim=1)  # [C, 4]
        flat = which + torch.arange(SAMPLES, device=levels.device) * (LIKELY_LEVELS + 1)
        return n + n.sign() * table.flatten()[flat]

    def forward(self, latent: Tensor, prediction: Tensor, quality: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, h, w, C] in steps and prediction [B, h, w, S] in 0..255, quality and kind int64 [B].

        Returns (base, corrected) samples [B, h, w, S] in sixteenths of a grey level, not clamped to 0..255.
        """
        with torch.autocast(latent.device.type, enabled=False):
            base = self.base(latent.float(), prediction, quality)
            features = self._features(base, latent.float(), quality, kind)
        total = self.correct(features)
        with torch.autocast(latent.device.type, enabled=False):
            step = self.steps[quality][:, None, None, None]
            shift = INT13.sum + 8 - SAMPLE
            correction = self.ops.rescale(total.double() * step, shift, -SAMPLE_MAX, SAMPLE_MAX).float()
            return base, base + correction

    def predicted(self, canvas: Tensor, enlarged: Tensor, quality: Tensor, phase: int) -> Tensor:
        """Prediction of a first frame's tokens of a phase, in sixteenths: `PhasePredictor.forward`."""
        assert self.phases is not None
        step, reciprocal = (table[quality][:, None, None, None] for table in (self.steps, self.reciprocals))
        out: Tensor = self.phases(canvas, enlarged, phase, self.ops, step, reciprocal, self.hats[quality])
        return out

    def base(self, latent: Tensor, prediction: Tensor, quality: Tensor) -> Tensor:
        """Prediction and synthesis: float32 integers, sixteenths. Exact: |sums| stay below 2^53."""
        step = self.steps[quality][:, None, None, None]
        matrix = self.ops.whole(self.synthesis.double() * 2**MATRIX)
        total = (latent.double() * 2**LATENT) @ matrix.T
        total = self.ops.rescale(total, LATENT + MATRIX - PARTIAL, -(1 << 35), 1 << 35)
        residual = self.ops.rescale(total * step, PARTIAL + 8 - SAMPLE, -SAMPLE_MAX, SAMPLE_MAX)
        base: Tensor = residual.float() + prediction * 2**SAMPLE
        return base

    def _features(self, base: Tensor, latent: Tensor, quality: Tensor, kind: Tensor) -> Tensor:
        """The transformer's inputs [B, h, w, F], activation integers."""
        b, h, w, _ = base.shape
        means = [self._mean(part) for part in torch.split(base, [LUMA, 16, 16], dim=-1)]
        spread = torch.cat([mean.expand(b, h, w, n) for mean, n in zip(means, PATCHES, strict=True)], dim=-1)
        limit = (self.steps[quality].float() / 2)[:, None, None, None]  # 8 steps in sixteenths
        difference = patches(unpack(base), MARGIN) - spread
        difference = torch.maximum(torch.minimum(difference, limit.ceil()), -limit.ceil())
        scaled = difference * self.reciprocals[quality][:, None, None, None]  # below 2^24
        parts = [
            self.ops.rescale(scaled, RECIPROCAL + SAMPLE - INT13.activation, -CLIP, CLIP),
            self.ops.rescale(latent * 2**LATENT, LATENT - INT13.activation, -CLIP, CLIP),
            self.ops.rescale(torch.cat(means, -1) - 2048, SAMPLE - MEAN, -CLIP, CLIP),
            self._condition(quality, kind)[:, None, None].expand(b, h, w, -1),
        ]
        return torch.cat(parts, dim=-1)

    def _mean(self, part: Tensor) -> Tensor:
        """Mean of a plane's samples of each token: [B, h, w, 1], sixteenths."""
        shift = 6 if part.shape[-1] == LUMA else 4
        return self.ops.rescale(part.sum(-1, keepdim=True), shift, -SAMPLE_MAX, SAMPLE_MAX)

    def _condition(self, quality: Tensor, kind: Tensor) -> Tensor:
        """Quality and kind [B, 21], and zeros up to FEATURES."""
        flags = nn.functional.one_hot(kind, KINDS).float() * ONE
        missing = FEATURES - sum(PATCHES) - SAMPLES - 3 - QUALITY_HATS - KINDS
        return torch.cat([self.hats[quality], flags, flags.new_zeros(len(kind), missing)], dim=1)

    def compile_network(self) -> None:
        """Compile the transformer for training."""
        self.correct = torch.compile(self.correct, dynamic=False)  # type: ignore[method-assign]

    def correct(self, features: Tensor) -> Tensor:
        """The transformer: activations [B, h, w, F] -> sums [B, h, w, S], fraction 14, units of a step."""
        ops = self.ops
        x = widened(features, self.inlet, ops, INT13).unsqueeze(1)
        for block in self.blocks:
            x = block(x, ops)
        return ops.linear(narrow(x, ops, INT13).clamp_min(0), self.head).squeeze(1).float()

    def integers(self) -> dict[str, np.ndarray]:
        """Every parameter on its integer grid, as `blocks.integers`, int16 offset and int32 synthesis."""
        offset = torch.round(self.offset.detach() * 2**LATENT).to(torch.int16).numpy()
        synthesis = torch.round(self.synthesis.detach() * 2**MATRIX).to(torch.int32).numpy()
        found = integers(self) | {"offset": offset, "synthesis": synthesis}
        if self.phases is not None:
            found["phases.filters"] = self.phases.whole_filters().to(torch.int16).numpy()
        return found

    def load_integers(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `integers`. Raises KeyError or ValueError where names, shapes, types or sizes are wrong."""
        load_integers(self, arrays, "decoder")
        offset, synthesis = arrays["offset"], arrays["synthesis"]
        if offset.shape != (SAMPLES, LIKELY_LEVELS) or offset.dtype != np.int16:
            raise ValueError("decoder.offset is not int16 [96, 3]")
        if synthesis.shape != (SAMPLES, SAMPLES) or synthesis.dtype != np.int32:
            raise ValueError("decoder.synthesis is not int32 [96, 96]")
        if np.abs(synthesis.astype(np.int64)).sum(1).max() >= 1 << 28:
            raise ValueError("sums of decoder.synthesis can leave the range of exact arithmetic")
        if self.phases is not None:
            self.phases.load_filters(arrays["phases.filters"])
        with torch.no_grad():
            self.offset.copy_(torch.from_numpy(offset.astype(np.float32)) / 2**LATENT)
            self.synthesis.copy_(torch.from_numpy(synthesis.astype(np.float32)) / 2**MATRIX)


def pixels(samples: Tensor) -> Tensor:
    """Samples in sixteenths -> uint8: (sample + 8) >> 4, clamped."""
    return torch.floor((samples + 8) / 16).clamp(0, 255).to(torch.uint8)


def _hats() -> Tensor:
    """Hat functions of every quality index: float32 integers [256, 16], as the prior's."""
    distance = (torch.arange(256)[:, None] - HAT_WIDTH * torch.arange(QUALITY_HATS)).abs()
    return ((HAT_WIDTH - distance).clamp_min(0) * ONE // HAT_WIDTH).float()
