"""Frames of a group, one after another: the first by scale recursion, the others from the frame before.

One class both encodes (a target is given) and decodes (it is not), so the two cannot drift apart.
Legend: h w token rows and columns of the frame; planes are uint8 (luma [8h, 8w], chroma [4h, 4w]).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bsqcodec.codec import phases, pyramid
from bsqcodec.codec.filtering import FilterFlags
from bsqcodec.codec.settings import CHROMA_ERROR, LEVEL_PRICES, chroma_price, level_prices, motion_lambda, visibility
from bsqcodec.motion import MotionField, compensate, compensate_overlapped, estimate
from bsqcodec.presets import MEDIUM
from bsqcodec.prior import context
from bsqcodec.prior.choice import Wanted, Wish
from bsqcodec.prior.coding import Coder
from bsqcodec.prior.network import PriorConfig
from bsqcodec.profile import stage
from bsqcodec.tokenizer.predictive import PredictiveTokenizer
from bsqcodec.tokenizer.quality import step
from bsqcodec.tokenizer.reconstruction import INTER, pixels
from bsqcodec.tokenizer.refinement import refined
from bsqcodec.tokenizer.transform import LUMA, SAMPLES, Planes, channel_order, pack, unpack


class TokenModel(Protocol):
    """What codes levels: `bsqcodec.prior.coding.TokenCoder`."""

    config: PriorConfig

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wish | None = None) -> Tensor: ...


class PredictiveCoder:
    """The coding loop of a group. State: the last reconstruction, the references of the prior.

    tune: the metric an encoder is after ("psnr" or "ms-ssim"), looks: `Search.looks`, factors: of the levels' prices in
    each frame (`bsqcodec.codec.worth`), [h, w]; decoding depends on none of them.
    filters: flags of the inter frames, for decoding without a stream (`FilterFlags`).
    """

    def __init__(
        self,
        tokenizer: PredictiveTokenizer,
        tokens: TokenModel,
        h: int,
        w: int,
        device: torch.device,
        tune: str = "psnr",
        filters: Iterable[np.ndarray] = (),
        looks: int = MEDIUM.looks,
        factors: Sequence[np.ndarray] = (),
    ):
        self.tokenizer, self.tokens, self.h, self.w, self.device = tokenizer, tokens, h, w, device
        self.tune, self.looks, self.factors = tune, looks, factors
        self.position = 0  # frames since the group's first
        self.quality = 0  # index of the last frame
        self.planes: Planes | None = None
        self.references: context.References | None = None
        self.predicted: Tensor | None = None  # what the last picture was predicted as: float [h, w, 96]
        self.filters = FilterFlags(h, w, filters)
        self.overlap = tokenizer.config.overlap
        self.luma = torch.tensor(channel_order(), device=device) < LUMA

    def first(self, coder: Coder, quality: int, target: Planes | None, last: int = 0) -> Planes:
        """Code a group's first frame down to pyramid level `last` (0 = full size); returns its reconstruction."""
        targets = None if target is None else pyramid.build(target, self.h, self.w)
        grids = pyramid.level_grids(self.h, self.w)
        planes = pyramid.grey(*grids[-1], self.device)
        references = context.empty(*grids[-1], SAMPLES, self.device)
        done = pyramid.LEVELS - 1
        for level in pyramid.sizes(phased=self.tokenizer.config.phases > 0):
            if level < last:
                break
            with stage("compensation"):
                for h, w in grids[level:done][::-1]:
                    planes, references = pyramid.upsample(planes, h, w), references.enlarged(h, w)
            wanted = None if targets is None else targets[level]
            planes, levels = self.refine(coder, planes, wanted, quality, level, references, None)
            references, done = references.updated(levels), level
        self.planes, self.references, self.position, self.quality = planes, references, 0, quality
        return planes

    def estimate(
        self, target: Planes, quality: int, previous: MotionField | None, effort: int = MEDIUM.motion
    ) -> MotionField:
        """How a frame of quality index 0..255 is predicted from the last one; the others as for `motion.estimate`."""
        assert self.planes is not None
        price, visible = motion_lambda(quality, self.tune), visibility(target[0], self.tune)
        return estimate(target, self.planes, price, previous, effort, visible, self.overlap)

    def next(self, coder: Coder, quality: int, field: MotionField, target: Planes | None) -> Planes:
        """Code a frame predicted from the one before along a motion field; returns its reconstruction."""
        assert self.planes is not None and self.references is not None
        self.position += 1
        predict = compensate_overlapped if self.overlap else compensate
        with stage("compensation"):
            prediction = predict(self.planes, field)
            references = self.references.moved(field.vectors)
        planes, levels = self.refine(coder, prediction, target, quality, INTER, references, field.vectors)
        self.planes, self.references, self.quality = planes, references.updated(levels), quality
        return planes

    def refine(
        self,
        coder: Coder,
        prediction: Planes,
        target: Planes | None,
        quality: int,
        kind: int,
        references: context.References,
        vectors: Tensor | None,
    ) -> tuple[Planes, Tensor]:
        """Code one picture against its prediction: (reconstruction, levels int16 [h, w, C])."""
        with torch.inference_mode():
            predicted = pack(prediction).float().unsqueeze(0)
            h, w = predicted.shape[1:3]
            which = torch.tensor([quality], device=self.device), torch.tensor([kind], device=self.device)
            phased = kind == 0 and self.tokenizer.config.phases > 0
            levels = wish = None
            if target is not None:
                make = self._phased_wish if phased else self._wish
                levels, wish = make(target, predicted, *which)
            with stage("prior", (1, h, w)):
                features = context.features(references, self.extra(quality, kind, vectors, h, w), self.tokens.config)
                levels = self.tokens.code(coder, features, levels, wish)
            with stage("decoder", (1, h, w)):
                if phased:
                    predicted = phases.prediction(self.tokenizer.decoder, levels, predicted, which[0])
                self.predicted = predicted[0]
                latent = self.tokenizer.decoder.dequantise(levels.unsqueeze(0))
                base, corrected = self.tokenizer.decoder(latent, predicted, *which)
                samples = corrected[0]
                if kind == INTER:
                    samples = self._filtered(coder, levels, base[0], samples, quality, target)
                y, u, v = unpack(pixels(samples))
                return (y.contiguous(), u.contiguous(), v.contiguous()), levels

    def _wish(self, target: Planes, predicted: Tensor, quality: Tensor, kind: Tensor) -> tuple[Tensor, Wish]:
        """Levels by plain thresholds, and what to choose them from at the prior's price."""
        latent = self._latents(pack(target).float().unsqueeze(0), predicted, quality, kind)
        levels = self.tokenizer.levels(latent, kind)[0]
        return levels, Wanted(
            latent[0], self.tokenizer.decoder.offset, self._prices(target, int(quality[0]), int(kind[0]))
        )

    def _phased_wish(self, target: Planes, predicted: Tensor, quality: Tensor, kind: Tensor) -> tuple[Tensor, Wish]:
        """The same where tokens are predicted from those of earlier phases: first by thresholds, then in that light."""
        samples = pack(target).float().unsqueeze(0)
        with stage("encoder"):
            levels, seen = phases.first_choice(self.tokenizer, samples, predicted, quality, kind)
        latent = self._latents(samples, seen, quality, kind)
        better = latent - self.tokenizer.coefficients(samples - seen, quality)
        prices = self._prices(target, int(quality[0]), int(kind[0]))
        return levels, phases.PhasedWish(self.tokenizer, samples, predicted, quality, better, prices)

    def _latents(self, samples: Tensor, predicted: Tensor, quality: Tensor, kind: Tensor) -> Tensor:
        """Latents [1, h, w, C] of a picture, looked at as often as the preset says."""
        with stage("encoder", (1, *predicted.shape[1:3])):
            latent = self.tokenizer.latents(samples, predicted, quality, kind)
        with stage("refinement"):
            for _ in range(self.looks):
                latent = refined(self.tokenizer, latent, samples, predicted, quality, kind)
        return latent

    def _prices(self, target: Planes, quality: int, kind: int) -> Tensor:
        """Steps^2 a bit of each level is worth: float [h, w, C]."""
        prices = level_prices(target[0], kind, self.tune)
        if self.factors and kind in (0, INTER):
            position = self.position if kind == INTER else 0
            prices = prices * torch.from_numpy(self.factors[position]).to(prices.device)
        channels = torch.where(self.luma, 1.0, chroma_price(quality, self.tune))
        return prices[..., None] * channels

    def _filtered(
        self, coder: Coder, levels: Tensor, base: Tensor, corrected: Tensor, quality: int, target: Planes | None
    ) -> Tensor:
        """Samples [h, w, 96] of an inter frame: of silent tokens, corrected ones only where a flag says so."""
        silent = (levels == 0).all(-1)
        gain = None
        if target is not None:
            wanted = pack(target).float()
            gain = _error(pixels(base), wanted) - _error(pixels(corrected), wanted)
        price = LEVEL_PRICES[self.tune][INTER] * step(quality) ** 2
        with stage("coder"):
            changed = self.filters.code(coder, silent, gain, price)
        return torch.where(changed[..., None], corrected, base)

    def extra(self, quality: int, kind: int, vectors: Tensor | None, h: int, w: int) -> Tensor:
        """`context.auxiliary` of a picture of h x w tokens that is about to be coded."""
        inter = kind == INTER
        return context.auxiliary(
            h,
            w,
            quality=quality,
            change=quality - self.quality if inter else 0,
            kind=kind,
            position=self.position if inter else 0,
            vectors=vectors,
            device=self.device,
        )


def _error(samples: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of each token, its chroma weighed by CHROMA_ERROR: [h, w, 96] twice -> [h, w]."""
    error = (samples.float() - wanted) ** 2
    return error[..., :LUMA].sum(-1) + CHROMA_ERROR * error[..., LUMA:].sum(-1)
