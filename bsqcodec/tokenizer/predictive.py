"""The predictive tokenizer: every token codes a residual against a prediction, in levels of residual BSQ.

Analysis starts as the orthonormal DCT; the encoder transformer corrects the latents before they are thresholded. It is
in float, since no decoder needs it; the way back, in exact integers, is `bsqcodec.tokenizer.reconstruction`.
Legend: B batch, h w tokens, C = 96 channels; samples are 0..255 in float.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bsqcodec.tokenizer.levels import quantise
from bsqcodec.tokenizer.network import QUALITY_HATS, WindowTransformer, quality_basis
from bsqcodec.tokenizer.quality import STEP_Q8
from bsqcodec.tokenizer.reconstruction import INTER, KINDS, MARGIN, PATCHES, Reconstruction
from bsqcodec.tokenizer.sensitivity import channel_steps
from bsqcodec.tokenizer.transform import LUMA, SAMPLES, dct_matrix, pack, patches, unpack

FEATURES = sum(PATCHES)  # 216, of the encoder's view of a picture
CLIP = 8.0  # features in units of the step saturate here


@dataclass(frozen=True)
class PredictiveConfig:
    """Sizes of the predictive tokenizer; thresholds (dead zones) by kind of frame are the encoder's alone."""

    dim: int = 192
    depth: int = 3
    heads: int = 6
    mlp: int = 384
    # Chroma's step relative to luma's: its blocks are smooth and small, its errors small, and (6Y + U + V) / 8 in dB
    # makes up its weight.
    chroma_step: float = 0.4
    # Where the transform starts: how much coarser high luma frequencies are (`sensitivity.channel_steps`). The matrices
    # hold it, so decoders need not know it.
    falloff: float = 0.0
    phases: int = 0  # width of what predicts first frames from a quarter (`tokenizer.phases`); 0: scale recursion
    overlap: bool = False  # whether blocks overlap in the prediction of inter frames (`bsqcodec.motion.overlap`)
    merge: bool = False  # whether vectors may equal more of their neighbours' than two (`MotionTables.merging`)
    threshold_intra: float = 0.60
    threshold_inter: float = 0.66


class PredictiveTokenizer(nn.Module):
    """Frames to levels and back, given predictions."""

    steps: Tensor
    scale: Tensor

    def __init__(self, config: PredictiveConfig):
        super().__init__()
        self.config = config
        size = {"dim": config.dim, "depth": config.depth, "heads": config.heads, "mlp": config.mlp}
        condition = QUALITY_HATS + KINDS
        self.analysis = nn.Linear(SAMPLES, SAMPLES, bias=False)
        self.encoder = WindowTransformer(2 * FEATURES + SAMPLES, SAMPLES, condition, **size)
        self.decoder = Reconstruction(**size, phases=config.phases)
        matrix = dct_matrix()
        self.register_buffer("steps", torch.tensor(STEP_Q8) / 256, persistent=False)
        is_luma = matrix[:, :LUMA].abs().sum(1) > 0
        scale = torch.where(is_luma, torch.tensor(1.0), torch.tensor(config.chroma_step))
        self.register_buffer("scale", scale, persistent=False)  # [C] step of a channel in units of the frame's
        steps = channel_steps(config.falloff)
        with torch.no_grad():
            self.analysis.weight.copy_(matrix / steps[:, None])
            self.decoder.synthesis.copy_(matrix.T * (steps * scale))
        nn.init.zeros_(self.encoder.head.weight)
        nn.init.zeros_(self.encoder.head.bias)

    def latents(self, target: Tensor, prediction: Tensor, quality: Tensor, kind: Tensor) -> Tensor:
        """What is thresholded, in steps: samples [B, h, w, 96] twice, quality and kind int64 [B] -> [B, h, w, C]."""
        step = self.steps[quality][:, None, None, None]
        residual = target - prediction
        latent = self.coefficients(residual, quality)
        features = [
            (_patches(residual) / step).clamp(-CLIP, CLIP),
            _centred(prediction, step),
            latent.clamp(-CLIP, CLIP),
        ]
        return latent + self._run(self.encoder, features, quality, kind)

    def coefficients(self, residual: Tensor, quality: Tensor) -> Tensor:
        """What analysis alone makes of a residual [B, h, w, 96]: [B, h, w, C], in steps."""
        step = self.steps[quality][:, None, None, None]
        latent: Tensor = self.analysis(residual) / (step * self.scale)
        return latent

    def levels(self, latent: Tensor, kind: Tensor) -> Tensor:
        """Quantised latents: int16 levels [B, h, w, C]."""
        inter = (kind == INTER)[:, None, None, None]
        return quantise(latent, torch.where(inter, self.config.threshold_inter, self.config.threshold_intra))

    def reconstruct(self, latent: Tensor, prediction: Tensor, quality: Tensor, kind: Tensor) -> Tensor:
        """Dequantised latents [B, h, w, C] and prediction [B, h, w, 96] -> corrected samples 0..255 (not rounded)."""
        corrected: Tensor = self.decoder(latent, prediction, quality, kind)[1]
        return corrected / 16

    def _run(self, network: WindowTransformer, features: list[Tensor], quality: Tensor, kind: Tensor) -> Tensor:
        condition = torch.cat([quality_basis(quality), nn.functional.one_hot(kind, KINDS).float()], dim=1)
        with _precision(quality.device):
            out: Tensor = network(torch.cat(features, dim=-1).unsqueeze(1), condition)
        return out.squeeze(1).float()


def _precision(device: torch.device) -> AbstractContextManager[object]:
    """Products of bfloat16 where the CPU has them and nothing is trained; files get no larger (EXPERIMENTS.md).

    A property of the machine, not a timing, decides, so that one machine always makes the same file.
    """
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # no public name tells
    if device.type != "cpu" or torch.is_grad_enabled() or not fast:
        return nullcontext()
    return torch.autocast("cpu", torch.bfloat16)


def _patches(samples: Tensor) -> Tensor:
    return patches(unpack(samples), MARGIN)


def _means(samples: Tensor) -> Tensor:
    """Mean of each plane's part of a token, scaled to about -1..1: [B, h, w, 3]."""
    parts = torch.split(samples, [LUMA, 16, 16], dim=-1)
    return torch.stack([part.mean(-1) for part in parts], dim=-1) / 128 - 1


def _centred(samples: Tensor, step: Tensor) -> Tensor:
    """Patches of samples relative to their token's mean, in steps: what is left of flat areas is their artefacts."""
    means = (_means(samples) + 1) * 128
    sizes = [(8 + 2 * MARGIN) ** 2, (4 + MARGIN) ** 2, (4 + MARGIN) ** 2]
    spread = torch.cat([means[..., i : i + 1].expand(*means.shape[:-1], n) for i, n in enumerate(sizes)], dim=-1)
    return ((_patches(samples) - spread) / step).clamp(-CLIP, CLIP)


__all__ = ["INTER", "KINDS", "PredictiveConfig", "PredictiveTokenizer", "pack", "unpack"]
