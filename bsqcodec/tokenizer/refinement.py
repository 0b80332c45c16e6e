"""The encoder's second look: what the decoder would make of its latents, and which latents would have been better.

The encoder transformer cannot know which levels will be zero, here or next door, nor what the decoder's transformer
makes of those that are not. So levels are chosen at fixed thresholds and decoded, and what is still missing is added to
what was decoded: for a linear decoder, whose error is the distance of the latents, that is exactly the way. Levels are
then chosen anew, at their true price, with those latents. (The gradient through the decoder's transformer as well is no
better and takes three times as long: benchmarks/EXPERIMENTS.md.) Encoder only.
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
    threshold = torch.tensor(THRESHOLDS, device=latent.device)[kind][:, None, None, None]
    levels = quantise(latent, threshold)
    decoded = tokenizer.decoder.dequantise(levels)
    samples = tokenizer.decoder(decoded, prediction, quality, kind)
    copied, other = (tokenizer.coefficients(target - s / 16, quality) for s in samples)
    # a silent token of an inter frame stays a copy unless the transformer helps
    silent = (levels == 0).all(-1, keepdim=True) & (kind == INTER)[:, None, None, None]
    better = (copied**2).sum(-1, keepdim=True) <= (other**2).sum(-1, keepdim=True)
    return decoded + torch.where(silent & better, copied, other)
