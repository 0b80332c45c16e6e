"""The encoder's second look: what the decoder would make of its latents, and which latents would have been better.

The encoder transformer cannot know which levels will be zero, here or next door, nor what the decoder's transformer
makes of those that are not. So levels are chosen at fixed thresholds and decoded, and the gradient of the error at what
was decoded says where latents should go: for a linear decoder, whose error is the distance of the latents, half of it
is exactly the way. Levels are then chosen anew, at their true price, with those latents. Encoder only.
Legend: B batch, h w tokens, C channels a token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bsqcodec.tokenizer.levels import quantise
from bsqcodec.tokenizer.predictive import INTER, PredictiveTokenizer

# Dead zones of the choice that is looked at, by kind: near what comes of the levels' prices
THRESHOLDS = (0.70, 0.60, 0.55, 0.53, 0.80)


def refined(
    tokenizer: PredictiveTokenizer, latent: Tensor, target: Tensor, prediction: Tensor, quality: Tensor, kind: Tensor
) -> Tensor:
    """Better latents [B, h, w, C], in steps. target, prediction: samples [B, h, w, 96]; quality, kind: int64 [B]."""
    decoder = tokenizer.decoder.differentiable()
    with torch.inference_mode(False), torch.enable_grad():  # what an inference mode made has to be copied
        target, prediction, quality, kind = target.clone(), prediction.clone(), quality.clone(), kind.clone()
        threshold = torch.tensor(THRESHOLDS, device=latent.device)[kind][:, None, None, None]
        levels = quantise(latent, threshold).clone()
        decoded = decoder.dequantise(levels).detach().requires_grad_()
        base, corrected = decoder(decoded, prediction, quality, kind)
        silent = (levels == 0).all(-1, keepdim=True) & (kind == INTER)[:, None, None, None]
        copied, other = (_squared_error(tokenizer, samples, target, quality) for samples in (base, corrected))
        # a silent token of an inter frame stays a copy unless the transformer helps
        error = torch.where(silent & (copied <= other), copied, other)
        (gradient,) = torch.autograd.grad(error.sum(), decoded)
        return decoded.detach() - gradient / 2


def _squared_error(tokenizer: PredictiveTokenizer, samples: Tensor, target: Tensor, quality: Tensor) -> Tensor:
    """Squared error of samples in sixteenths, in steps^2 of the latents: [B, h, w, 1]."""
    step = tokenizer.steps[quality][:, None, None, None] * tokenizer.scale
    error: Tensor = (tokenizer.analysis(samples / 16 - target) / step) ** 2
    return error.sum(-1, keepdim=True)
