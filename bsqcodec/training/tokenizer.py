"""Training of the predictive tokenizer: distortion plus the slope of the rate under a Laplace model.

The rate's gradient comes from a smooth stand-in, not from the prior itself: each latent is Laplace with a scale read
off its surroundings, and pays |y| / (scale ln 2) bits where it is near or above its threshold. Straight-through
gradients are kept to latents within reach of a threshold; both choices keep the encoder from collapsing to silence.
Legend: B batch, h w tokens, C = 96 channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.tokenizer.network import QUALITY_HATS, quality_basis
from bsqcodec.tokenizer.predictive import INTER, KINDS, PredictiveTokenizer
from bsqcodec.tokenizer.transform import LUMA, SAMPLES
from bsqcodec.training.pool import Batch

LAGRANGIAN = 0.10  # squared error in steps^2 a bit is worth (high-rate theory: 0.115; HEVC: 0.09)
CHROMA_WEIGHT = 1.5  # the price of chroma's error, near that of (6Y + U + V) / 8 in dB
REACH = 0.35  # steps below its threshold from which a latent feels gradients
LOW_BAND = 8


class Laplace(nn.Module):
    """Scale of every latent from its neighbours' amplitudes and its token's low band (all detached)."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(SAMPLES + LOW_BAND + QUALITY_HATS + KINDS, 128)
        self.down = nn.Linear(128, SAMPLES)

    def forward(self, latent: Tensor, quality: Tensor, kind: Tensor) -> Tensor:
        """latent [B, h, w, C] -> scale [B, h, w, C] in steps."""
        size = torch.log1p(latent.detach().abs().clamp(max=64))
        around = F.avg_pool2d(size.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1)
        around = (around * 9 - size) / 8
        condition = torch.cat([quality_basis(quality), F.one_hot(kind, KINDS).float()], dim=1)
        condition = condition[:, None, None].expand(*latent.shape[:3], -1)
        hidden = F.relu(self.up(torch.cat([around, size[..., :LOW_BAND], condition], dim=-1)))
        out: Tensor = (self.down(hidden).float() - 1).clamp(-4, 5).exp()
        return out


def tokenizer_loss(batch: Batch, tokenizer: PredictiveTokenizer, laplace: Laplace) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch and its parts (distortion in steps^2 a sample, luma PSNR in dB, nonzero levels a token)."""
    latent = tokenizer.latents(batch.target, batch.prediction, batch.quality, batch.kind)
    levels = tokenizer.levels(latent.detach(), batch.kind)
    inter = (batch.kind == INTER)[:, None, None, None]
    threshold = torch.where(inter, tokenizer.config.threshold_inter, tokenizer.config.threshold_intra)
    near = (latent.detach().abs() > threshold - REACH).float()
    through = tokenizer.dequantise(levels) + (latent - latent.detach()) * near
    decoded = tokenizer.reconstruct(through, batch.prediction, batch.quality, batch.kind)
    step = tokenizer.steps[batch.quality][:, None, None, None]
    error = ((decoded - batch.target) / step) ** 2 * batch.inside[..., None]
    tokens = batch.inside.sum()
    weighted = (error[..., :LUMA].sum() + CHROMA_WEIGHT * error[..., LUMA:].sum()) / tokens
    scale = laplace(latent, batch.quality, batch.kind)
    nll = (_laplace_bits(levels, scale, threshold) * batch.inside[..., None]).sum() / tokens
    slope = (latent.abs() * near / scale.detach() * (batch.inside[..., None] / math.log(2))).sum() / tokens
    loss = weighted + LAGRANGIAN * slope + 0.01 * nll
    with torch.no_grad():
        luma = ((decoded.clamp(0, 255) - batch.target) ** 2 * batch.inside[..., None])[..., :LUMA].mean((1, 2, 3))
        psnr = (10 * torch.log10(65025 / luma.clamp_min(1e-3))).mean()
    parts = {
        "distortion": float(weighted.detach()),
        "bits": float(nll.detach()),
        "cost": float(weighted.detach() + LAGRANGIAN * nll.detach()),
        "psnr": float(psnr),
        "nonzero": float((levels != 0).sum() / tokens),
    }
    return loss, parts


def _laplace_bits(levels: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """Bits of levels under a Laplace density cut at threshold + k: only the scale gets a gradient."""
    size = levels.abs().float()
    tail = threshold / scale  # -ln P(|y| > t)
    zero = -torch.log(-torch.expm1(-tail) + 1e-9)
    some = tail + (size - 1) / scale - torch.log(-torch.expm1(-1 / scale) + 1e-9) + math.log(2)
    return torch.where(levels == 0, zero, some) / math.log(2)
