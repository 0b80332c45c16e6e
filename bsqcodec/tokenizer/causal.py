"""The paper's own configuration (arXiv 2406.07548, section 4): no motion, one BSQ code a token, causal attention.

Encoder and decoder are transformers over all frames of a group; a block-causal mask lets a token see its own frame and
the frames before. The code is sign(v) / sqrt(L) on the unit sphere, trained with the entropy-regularised loss.
Legend: B batch, T frames, h w tokens, L bits a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.network import QUALITY_HATS, WindowTransformer, quality_basis
from bsqcodec.tokenizer.transform import SAMPLES


@dataclass(frozen=True)
class CausalConfig:
    """Sizes of the causal tokenizer; bits: L of the paper (18 or 36)."""

    bits: int = 36
    dim: int = 192
    depth: int = 4
    heads: int = 6
    mlp: int = 384


class CausalTokenizer(nn.Module):
    """Frames to codes and back."""

    def __init__(self, config: CausalConfig):
        super().__init__()
        self.config = config
        size = {"dim": config.dim, "depth": config.depth, "heads": config.heads, "mlp": config.mlp}
        self.encoder = WindowTransformer(SAMPLES, config.bits, QUALITY_HATS, **size)
        self.decoder = WindowTransformer(config.bits, SAMPLES, QUALITY_HATS, **size)

    def project(self, frames: Tensor, quality: Tensor) -> Tensor:
        """Samples 0..255 [B, T, h, w, 96], quality int64 [B] -> v [B, T, h, w, L], before the sphere."""
        v: Tensor = self.encoder(frames / 128 - 1, quality_basis(quality))
        return v

    def reconstruct(self, code: Tensor, quality: Tensor) -> Tensor:
        """Codes +-1 / sqrt(L) [B, T, h, w, L] -> samples 0..255 (not rounded) [B, T, h, w, 96]."""
        # a code's components shrink with L; the first layer sees +-1
        out: Tensor = self.decoder(code * self.config.bits**0.5, quality_basis(quality))
        return (out.float() + 1) * 128

    def levels(self, frames: Tensor, quality: Tensor) -> Tensor:
        """The code's signs as levels +-1: int16 [B, T, h, w, L]."""
        return torch.where(bsq.to_bits(self.project(frames, quality)), 1, -1).to(torch.int16)

    def from_levels(self, levels: Tensor, quality: Tensor) -> Tensor:
        """The inverse of `levels`: samples [B, T, h, w, 96]."""
        return self.reconstruct(bsq.to_code(levels > 0), quality)
