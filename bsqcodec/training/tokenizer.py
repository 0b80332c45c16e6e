"""Training of the predictive tokenizer: distortion plus the slope of the rate under a Laplace model.

The rate's gradient comes from a smooth stand-in, not from the prior itself: each latent is Laplace with a scale read
off its surroundings, and pays |y| / (scale ln 2) bits where it is near a nonzero level. Straight-through gradients are
kept to such latents; both choices keep the encoder from collapsing to silence. Levels are chosen at that model's price.
Legend: B batch, h w tokens, C = 96 channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.codec.settings import CHROMA_ERROR
from bsqcodec.tokenizer.levels import MAX_LEVEL
from bsqcodec.tokenizer.network import QUALITY_HATS, quality_basis
from bsqcodec.tokenizer.predictive import PredictiveTokenizer
from bsqcodec.tokenizer.reconstruction import KINDS, LIKELY_LEVELS
from bsqcodec.tokenizer.transform import LUMA, SAMPLES
from bsqcodec.training.pool import Batch

LAGRANGIAN = 0.15  # squared error in steps^2 a bit is worth (high-rate theory: 0.115)
RATE_SLOPE = 0.5  # share of the rate's slope that latents feel: levels chosen at its price are shrunk once already
NEAR = 0.6  # amplitude in steps from which a latent feels gradients
CUT = 0.75  # steps: where the Laplace model's zero ends, near the mean choice
TINY = 1e-4  # steps^2: planes whose error is smaller are all the same
FLOOR = 0.02  # steps^2 a token: crops that cost less are all the same
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
    """Loss of a batch and its parts (distortion in steps^2 and bits a token, their cost, luma PSNR, nonzero levels).

    The loss is the mean over crops of log(distortion + lambda rate): what counts is the relative saving, as in a
    BD-rate, else the crops of high rate drown the others.
    """
    latent = tokenizer.latents(batch.target, batch.prediction, batch.quality, batch.kind)
    scale = laplace(latent, batch.quality, batch.kind)
    levels = _choose(latent.detach(), scale.detach(), tokenizer.decoder.offset.detach())
    near = ((levels != 0) | (latent.detach().abs() > NEAR)).float()
    through = tokenizer.decoder.dequantise(levels) + (latent - latent.detach()) * near
    decoded = tokenizer.reconstruct(through, batch.prediction, batch.quality, batch.kind)
    step = tokenizer.steps[batch.quality][:, None, None, None]
    inside = batch.inside[..., None].float()
    tokens = inside.sum((1, 2, 3))  # [B]
    error = ((decoded - batch.target) / step) ** 2 * inside
    weighted = (error[..., :LUMA].sum((1, 2, 3)) + CHROMA_ERROR * error[..., LUMA:].sum((1, 2, 3))) / tokens
    bits = (_level_bits(levels.abs().float(), scale) * inside).sum((1, 2, 3)) / tokens
    slope = (latent.abs() * near / scale.detach() * inside).sum((1, 2, 3)) / tokens / math.log(2)
    cost = weighted + LAGRANGIAN * bits
    share = 1 / (cost.detach() + FLOOR)
    loss = (share * (weighted + LAGRANGIAN * (RATE_SLOPE * slope + 0.2 * bits))).mean()
    parts = {
        "logcost": float((cost.detach() + FLOOR).log().mean()),
        "distortion": float(weighted.detach().mean()),
        "bits": float(bits.detach().mean()),
        "psnr": _luma_psnr(decoded.detach(), batch),
        "nonzero": float((levels != 0).sum() / tokens.sum()),
    }
    return loss, parts


def decoder_loss(batch: Batch, tokenizer: PredictiveTokenizer) -> tuple[Tensor, dict[str, float]]:
    """Loss of the decoder alone, on the levels the material was coded with, and its parts.

    The loss is the mean over crops of (6 ln D_Y + ln D_U + ln D_V) / 8, D in steps^2: the PSNR results are measured by,
    so that chroma, whose errors are small in steps, is not sold for luma.
    """
    latent = tokenizer.decoder.dequantise(batch.levels)
    decoded = tokenizer.reconstruct(latent, batch.prediction, batch.quality, batch.kind)
    step = tokenizer.steps[batch.quality][:, None, None, None]
    error = ((decoded - batch.target) / step) ** 2 * batch.inside[..., None]
    tokens = batch.inside.sum((1, 2))
    planes = zip(torch.split(error, [LUMA, 16, 16], dim=-1), (6, 1, 1), strict=True)
    logs = [weight * (plane.sum((1, 2, 3)) / (tokens * plane.shape[-1]) + TINY).log() for plane, weight in planes]
    loss = torch.stack(logs).sum(0).mean() / 8
    means = [float(part.detach().mean()) for part in logs]
    return loss, {"loss": float(loss.detach()), "y": means[0] / 6, "u": means[1], "v": means[2]}


def _luma_psnr(decoded: Tensor, batch: Batch) -> float:
    luma = ((decoded.clamp(0, 255) - batch.target) ** 2 * batch.inside[..., None])[..., :LUMA].mean((1, 2, 3))
    return float((10 * torch.log10(65025 / luma.clamp_min(1e-3))).mean())


def _choose(latent: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Levels at the price of the Laplace model, as `bsqcodec.prior.choice` at the prior's: int16, like latent."""
    size = latent.abs()
    nearest = torch.floor(size + 0.5).clamp(max=MAX_LEVEL)
    best = torch.zeros_like(size)
    least = size**2 + LAGRANGIAN * _level_bits(best, scale)
    for level in (nearest, (nearest - 1).clamp_min(0)):
        index = level.clamp(1, LIKELY_LEVELS).long() - 1
        point = level + offset[torch.arange(SAMPLES), index]
        cost = (size - point) ** 2 + LAGRANGIAN * _level_bits(level, scale)
        better = (cost < least) & (level > 0)
        best, least = torch.where(better, level, best), torch.where(better, cost, least)
    return (best * latent.sign()).to(torch.int16)


def _level_bits(size: Tensor, scale: Tensor) -> Tensor:
    """Bits of amplitudes |n| (with sign) under a Laplace density cut at CUT, CUT + 1, ...: float, like size."""
    tail = CUT / scale  # -ln P(|y| > cut)
    zero = -torch.log(-torch.expm1(-tail) + 1e-9)
    some = tail + (size - 1) / scale - torch.log(-torch.expm1(-1 / scale) + 1e-9) + math.log(2)
    return torch.where(size == 0, zero, some) / math.log(2)
