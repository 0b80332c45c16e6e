"""Frames of a group, one after another: the first by scale recursion, the others from the frame before.

One class both encodes (a target is given) and decodes (it is not), so the two cannot drift apart.
Legend: h w token rows and columns of the frame; planes are uint8 (luma [8h, 8w], chroma [4h, 4w]).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bsqcodec.codec import pyramid
from bsqcodec.codec.filtering import FilterFlags
from bsqcodec.codec.settings import CHROMA_ERROR, LEVEL_PRICES, level_prices
from bsqcodec.motion import MotionField, compensate
from bsqcodec.prior import context
from bsqcodec.prior.choice import Wanted
from bsqcodec.prior.coding import Coder
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.predictive import PredictiveTokenizer
from bsqcodec.tokenizer.quality import step
from bsqcodec.tokenizer.reconstruction import INTER, pixels
from bsqcodec.tokenizer.transform import LUMA, SAMPLES, Planes, pack, unpack


class TokenModel(Protocol):
    """What codes levels: `bsqcodec.prior.coding.TokenCoder`."""

    config: PriorConfig

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wanted | None = None) -> Tensor: ...


class PredictiveCoder:
    """The coding loop of a group. State: the last reconstruction, the references of the prior.

    tune: the metric an encoder is after ("psnr" or "ms-ssim"); decoding does not depend on it.
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
    ):
        self.tokenizer, self.tokens, self.h, self.w, self.device = tokenizer, tokens, h, w, device
        self.tune = tune
        self.position = 0  # frames since the group's first
        self.quality = 0  # index of the last frame
        self.planes: Planes | None = None
        self.references: context.References | None = None
        self.filters = FilterFlags(h, w, filters)

    def first(self, coder: Coder, quality: int, target: Planes | None, last: int = 0) -> Planes:
        """Code a group's first frame down to pyramid level `last` (0 = full size); returns its reconstruction."""
        targets = None if target is None else pyramid.build(target, self.h, self.w)
        planes = references = None
        grids = pyramid.level_grids(self.h, self.w)
        for level in range(pyramid.LEVELS - 1, last - 1, -1):
            h, w = grids[level]
            if planes is None or references is None:
                prediction = pyramid.grey(h, w, self.device)
                references = context.empty(h, w, SAMPLES, self.device)
            else:
                prediction = pyramid.upsample(planes, h, w)
                references = references.enlarged(h, w)
            wanted = None if targets is None else targets[level]
            planes, levels = self.refine(coder, prediction, wanted, quality, level, references, None)
            references = references.updated(levels)
        assert planes is not None
        self.planes, self.references, self.position, self.quality = planes, references, 0, quality
        return planes

    def next(self, coder: Coder, quality: int, field: MotionField, target: Planes | None) -> Planes:
        """Code a frame predicted from the one before along a motion field; returns its reconstruction."""
        assert self.planes is not None and self.references is not None
        self.position += 1
        prediction = compensate(self.planes, field)
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
            levels = wanted = None
            if target is not None:
                latent = self.tokenizer.latents(pack(target).float().unsqueeze(0), predicted, *which)
                levels = self.tokenizer.levels(latent, which[1])[0]
                wanted = Wanted(latent[0], self.tokenizer.decoder.offset, level_prices(target[0], kind, self.tune))
            features = context.features(references, self.extra(quality, kind, vectors, h, w), self.tokens.config)
            levels = self.tokens.code(coder, features, levels, wanted)
            latent = self.tokenizer.decoder.dequantise(levels.unsqueeze(0))
            base, corrected = self.tokenizer.decoder(latent, predicted, *which)
            samples = corrected[0]
            if kind == INTER:
                samples = self._filtered(coder, levels, base[0], samples, quality, target)
            y, u, v = unpack(pixels(samples))
            return (y.contiguous(), u.contiguous(), v.contiguous()), levels

    def _filtered(
        self, coder: Coder, levels: Tensor, base: Tensor, corrected: Tensor, quality: int, target: Planes | None
    ) -> Tensor:
        """Samples [h, w, 96] of an inter frame: of silent tokens, corrected ones only where a flag says so."""
        silent = (levels == 0).all(-1)
        gain = None
        if target is not None:
            wanted = pack(target).float()
            gain = _error(pixels(base), wanted) - _error(pixels(corrected), wanted)
        price = LEVEL_PRICES[INTER] * step(quality) ** 2
        return torch.where(self.filters.code(coder, silent, gain, price)[..., None], corrected, base)

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
