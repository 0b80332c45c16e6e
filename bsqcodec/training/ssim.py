"""Training of the decoder for MS-SSIM (Wang, Simoncelli, Bovik 2003), differentiable.

Legend: B batch, H W luma samples of a crop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.tokenizer.predictive import PredictiveTokenizer
from bsqcodec.tokenizer.sensitivity import SCALE_WEIGHTS
from bsqcodec.tokenizer.transform import LUMA, unpack
from bsqcodec.training.pool import Batch
from bsqcodec.training.tokenizer import TINY

SCALES = 4  # a crop of 128 samples has no fifth size that holds a window
RADIUS, SIGMA = 5, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
ALIKE = 0.003  # 1 - MS-SSIM: crops that lose less are all the same
LUMA_SHARE, CHROMA_SHARE = 0.05, 0.125  # of the planes' ln D in the loss: mean levels and chroma must not be lost


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of luma planes float [B, H, W], 0..255, over SCALES sizes: [B]. H, W >= 11 * 2^(SCALES - 1)."""
    weights = torch.tensor(SCALE_WEIGHTS[:SCALES])
    weights = weights / weights.sum()
    x, y = x.unsqueeze(1), y.unsqueeze(1)
    result = torch.ones(len(x))
    for i, weight in enumerate(weights.tolist()):
        luminance, contrast = _similarity(x, y)
        value = (luminance * contrast).mean((1, 2, 3)) if i == SCALES - 1 else contrast.mean((1, 2, 3))
        result = result * value.clamp_min(1e-3) ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return result


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure terms of every window [B, 1, h, w]."""
    mx, my = _blur(x), _blur(y)
    xx, yy, xy = _blur(x * x) - mx * mx, _blur(y * y) - my * my, _blur(x * y) - mx * my
    return (2 * mx * my + C1) / (mx * mx + my * my + C1), (2 * xy + C2) / (xx + yy + C2)


def _blur(x: Tensor) -> Tensor:
    taps = torch.exp(-(torch.arange(-RADIUS, RADIUS + 1).float() ** 2) / (2 * SIGMA**2))
    taps = taps / taps.sum()
    return F.conv2d(F.conv2d(x, taps.reshape(1, 1, 1, -1)), taps.reshape(1, 1, -1, 1))


def ssim_loss(batch: Batch, tokenizer: PredictiveTokenizer) -> tuple[Tensor, dict[str, float]]:
    """Loss of the decoder alone, on the levels the material was coded with, and its parts.

    The mean over crops of ln(1 - MS-SSIM) of luma, and small shares of ln D of the planes, D in steps^2.
    """
    latent = tokenizer.decoder.dequantise(batch.levels)
    decoded = tokenizer.reconstruct(latent, batch.prediction, batch.quality, batch.kind)
    with torch.autocast("cpu", enabled=False):  # variances are differences of large numbers
        seen = batch.inside[..., None]
        shown = torch.where(seen, decoded.float(), batch.target)
        similar = ms_ssim(unpack(shown)[0], unpack(batch.target)[0])
        step = tokenizer.steps[batch.quality][:, None, None, None]
        error = ((shown - batch.target) / step) ** 2
        count = batch.inside.sum((1, 2))
        y, u, v = (
            (part.sum((1, 2, 3)) / (count * part.shape[-1]) + TINY).log()
            for part in torch.split(error, [LUMA, 16, 16], dim=-1)
        )
        lost = (1 - similar + ALIKE).log()
        loss = (lost + LUMA_SHARE * y + CHROMA_SHARE * (u + v)).mean()
    parts = {"loss": loss, "lost": lost.mean(), "y": y.mean(), "u": u.mean(), "v": v.mean()}
    return loss, {name: float(value.detach()) for name, value in parts.items()}
