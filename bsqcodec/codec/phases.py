"""First frames in phases: each phase's tokens are predicted from the quarter and from what earlier phases decoded.

The prior codes a picture's tokens in the same phases, so an encoder predicts, chooses and decodes phase after phase; a
decoder may read all levels first. Legend: h w tokens of the picture, C channels, p q tokens of a phase.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bsqcodec.prior.choice import Wanted
from bsqcodec.tokenizer.levels import quantise
from bsqcodec.tokenizer.predictive import PredictiveTokenizer
from bsqcodec.tokenizer.reconstruction import Reconstruction, pixels
from bsqcodec.tokenizer.refinement import THRESHOLDS
from bsqcodec.tokenizer.transform import PHASES


class Canvas:
    """A first frame while it is predicted and decoded, phase after phase. enlarged: its quarter, [1, h, w, 96] (in
    training [B, h, w, 96]).

    prediction: float integers 0..255 [1, h, w, 96], right for the phases that were predicted.
    """

    def __init__(self, decoder: Reconstruction, enlarged: Tensor, quality: Tensor):
        self.decoder, self.enlarged, self.quality = decoder, enlarged, quality
        self.prediction, self.known = enlarged.clone(), enlarged.clone()

    def predict(self, phase: int) -> Tensor:
        """The prediction of a phase [1, p, q, 96], once the phases before it are filled."""
        row, column = PHASES[phase]
        samples = self.decoder.predicted(self.known, self.enlarged, self.quality, phase)
        self.prediction[:, row::2, column::2] = pixels(samples).float()
        return self.prediction[:, row::2, column::2]

    def fill(self, phase: int, levels: Tensor) -> None:
        """Decode a phase from its levels int16 [1, p, q, C], without the transformer's correction."""
        row, column = PHASES[phase]
        latent = self.decoder.dequantise(levels)
        base = self.decoder.base(latent, self.prediction[:, row::2, column::2], self.quality)
        self.known[:, row::2, column::2] = pixels(base).float()


class PhasedWish:
    """A `Wish` for a first frame. better: what to add to the coefficients of each token's residual, [1, h, w, C]."""

    def __init__(
        self,
        tokenizer: PredictiveTokenizer,
        samples: Tensor,
        enlarged: Tensor,
        quality: Tensor,
        better: Tensor,
        prices: Tensor,
    ):
        self.tokenizer, self.samples, self.quality = tokenizer, samples, quality
        self.better, self.prices = better, prices
        self.canvas = Canvas(tokenizer.decoder, enlarged, quality)

    def part(self, phase: int) -> Wanted:
        """What is wanted of a phase's tokens."""
        row, column = PHASES[phase]
        residual = self.samples[:, row::2, column::2] - self.canvas.predict(phase)
        latent = self.tokenizer.coefficients(residual, self.quality) + self.better[:, row::2, column::2]
        prices = self.prices[row::2, column::2].flatten(0, 1)
        return Wanted(latent[0].flatten(0, 1), self.tokenizer.decoder.offset, prices)

    def took(self, phase: int, levels: Tensor) -> None:
        """Decode them, for the phases behind."""
        self.canvas.fill(phase, levels.unsqueeze(0))


def first_choice(
    tokenizer: PredictiveTokenizer, samples: Tensor, enlarged: Tensor, quality: Tensor, kind: Tensor
) -> tuple[Tensor, Tensor]:
    """Levels int16 [h, w, C] by thresholds alone, and the prediction [1, h, w, 96] that they lead to."""
    canvas = Canvas(tokenizer.decoder, enlarged, quality)
    threshold = torch.tensor(THRESHOLDS[int(kind[0])], device=samples.device)
    levels = torch.zeros(samples.shape[1:], dtype=torch.int16, device=samples.device)
    for phase, (row, column) in enumerate(PHASES):
        if row >= samples.shape[1] or column >= samples.shape[2]:
            continue
        residual = samples[:, row::2, column::2] - canvas.predict(phase)
        chosen = quantise(tokenizer.coefficients(residual, quality), threshold)
        levels[row::2, column::2] = chosen[0]
        canvas.fill(phase, chosen)
    return levels, canvas.prediction


def prediction(decoder: Reconstruction, levels: Tensor, enlarged: Tensor, quality: Tensor) -> Tensor:
    """The prediction [1, h, w, 96] of a whole first frame from its levels int16 [h, w, C]."""
    canvas = Canvas(decoder, enlarged, quality)
    for phase, (row, column) in enumerate(PHASES):
        if row < levels.shape[0] and column < levels.shape[1]:
            canvas.predict(phase)
            canvas.fill(phase, levels[None, row::2, column::2])
    return canvas.prediction
