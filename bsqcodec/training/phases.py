"""Training of what predicts first frames in phases (`bsqcodec.tokenizer.phases`), on pictures that the codec recorded.

The loss is what a residual will cost, read off the energy of its coefficients in steps: a Gaussian of variance v takes
about log2(1 + 4 v) / 2 bits, summed over bands of like coefficients, relative to what the enlarged quarter costs.
Legend: B batch, h w tokens of a crop, p q those of a phase, C channels.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor, nn

from bsqcodec.codec.phases import Canvas
from bsqcodec.errors import UsageError
from bsqcodec.tokenizer.levels import quantise
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.reconstruction import pixels
from bsqcodec.tokenizer.refinement import THRESHOLDS
from bsqcodec.tokenizer.transform import LUMA, PHASES, channel_order
from bsqcodec.training.pool import unseen
from bsqcodec.training.tasks import Task

CROP = 20  # tokens a side
BANDS = (0, 2, 4, 7, 10)  # highest row + column of a luma coefficient in each band but the last
LEAST = 20.0  # bits: crops that cost less without the predictor are all the same

Pictures = tuple[Tensor, Tensor, Tensor]  # target and enlarged quarter, float [B, h, w, 96]; quality, int64 [B]


class PicturePool:
    """First frames at full size from all shards of some folders. Raises UsageError where there are none."""

    def __init__(self, folders: list[Path]):
        self.folders = folders
        self.seen: set[Path] = set()
        self.pictures: list[tuple[Tensor, Tensor, int]] = []
        self.refresh()
        if not self.pictures:
            names = ", ".join(map(str, folders))
            raise UsageError(
                f"{names}: no first frames of {CROP}x{CROP} tokens; make material with tokenizer.phases set"
            )

    def refresh(self) -> int:
        """Load new shards; returns how many."""
        before = len(self.seen)
        for sample in unseen(self.folders, self.seen):
            if sample["enlarged"] is not None and min(sample["levels"].shape[:2]) >= CROP:
                self.pictures.append((sample["target"], sample["enlarged"], sample["quality"]))
        return len(self.seen) - before

    def batch(self, size: int, rng: random.Random) -> Pictures:
        """Random crops; the clips were flipped when they were coded."""
        drawn = [_cut(*rng.choice(self.pictures), rng) for _ in range(size)]
        targets, enlarged, quality = zip(*drawn, strict=True)
        return torch.stack(targets).float(), torch.stack(enlarged).float(), torch.tensor(quality)


def _cut(target: Tensor, enlarged: Tensor, quality: int, rng: random.Random) -> tuple[Tensor, Tensor, int]:
    h, w, _ = target.shape
    top, left = (2 * rng.randrange((n - CROP) // 2 + 1) for n in (h, w))
    part = (slice(top, top + CROP), slice(left, left + CROP))
    return target[part], enlarged[part], quality


def phases_task(config: PredictiveConfig, rate: float) -> Task[Pictures]:
    """The predictor alone at a peak learning rate; the rest of the tokenizer stays as it is."""
    tokenizer = PredictiveTokenizer(config).requires_grad_(False)
    assert tokenizer.decoder.phases is not None
    tokenizer.decoder.phases.requires_grad_(True)
    groups = [{"params": list(tokenizer.decoder.phases.parameters()), "lr": rate}]
    modules = nn.ModuleDict({"tokenizer": tokenizer})
    return Task(modules, groups, lambda pictures: phases_loss(pictures, tokenizer))


def phases_loss(pictures: Pictures, tokenizer: PredictiveTokenizer) -> tuple[Tensor, dict[str, float]]:
    """Mean over crops of the bits of all phases relative to those without the predictor, and each phase's share."""
    target, enlarged, quality = pictures
    canvas = Canvas(tokenizer.decoder, enlarged, quality)
    costs, plain = [], []
    for phase, (row, column) in enumerate(PHASES):
        wanted = target[:, row::2, column::2]
        samples = tokenizer.decoder.predicted(canvas.known, enlarged, quality, phase) / 16
        costs.append(_bits(tokenizer.coefficients(wanted - samples, quality)))
        plain.append(_bits(tokenizer.coefficients(wanted - enlarged[:, row::2, column::2], quality)))
        with torch.no_grad():
            canvas.prediction[:, row::2, column::2] = pixels(samples * 16).float()
            residual = wanted - canvas.prediction[:, row::2, column::2]
            canvas.fill(phase, quantise(tokenizer.coefficients(residual, quality), THRESHOLDS[0]))
    share = torch.stack(costs) / torch.stack(plain).sum(0).clamp_min(LEAST)  # [4, B]
    loss = share.sum(0).mean()
    shares = {f"phase{i}": float(c.detach().sum() / p.sum()) for i, (c, p) in enumerate(zip(costs, plain, strict=True))}
    return loss, {"loss": float(loss.detach())} | shares


def _bits(latent: Tensor) -> Tensor:
    """Bits of latents [B, p, q, C]: [B]."""
    bands = _bands().to(latent.device)
    mean = (latent * latent) @ bands / bands.sum(0)
    return (bands.sum(0) / 2 * torch.log2(1 + 4 * mean)).sum((1, 2, 3))


def _bands() -> Tensor:
    """Which band each channel is of: float [C, 8], six of luma by frequency, DC and AC of chroma."""
    last = len(BANDS)
    which = [
        (last + 1 if (i - LUMA) % 16 == 0 else last + 2)
        if i >= LUMA
        else next((b for b, highest in enumerate(BANDS) if i // 8 + i % 8 <= highest), last)
        for i in channel_order()
    ]
    return nn.functional.one_hot(torch.tensor(which), last + 3).float()
