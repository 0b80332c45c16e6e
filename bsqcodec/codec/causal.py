"""Groups of the paper's configuration: all frames tokenised at once, tokens coded frame after frame, no motion.

Legend: T frames, h w tokens, C = L bits a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bsqcodec.errors import BitstreamError
from bsqcodec.prior import context
from bsqcodec.prior.coding import Coder, Writer
from bsqcodec.profile import stage
from bsqcodec.tokenizer.causal import CausalTokenizer
from bsqcodec.tokenizer.transform import Planes, pack, unpack

if TYPE_CHECKING:
    from bsqcodec.codec.model import Model


def encode_causal(
    model: Model, writer: Writer, targets: list[Planes], quality: int
) -> tuple[list[Planes], list[float]]:
    """Code a group; returns its reconstruction and each frame's bits."""
    with torch.inference_mode():
        levels = analyse(model, targets, quality)
        spent = [_code(model, writer, levels[t], t, quality, levels[t - 1] if t else None) for t in range(len(targets))]
        return synthesise(model, levels, quality), [bits for _, bits in spent]


def analyse(model: Model, targets: list[Planes], quality: int) -> Tensor:
    """The levels +-1 of a group's padded planes: int16 [T, h, w, C]."""
    with torch.inference_mode():
        frames = torch.stack([pack(planes).float() for planes in targets]).unsqueeze(0)
        with stage("encoder", _grid(frames[0])):
            return _tokenizer(model).levels(frames, torch.tensor([quality], device=model.device))[0]


def synthesise(model: Model, levels: Tensor, quality: int) -> list[Planes]:
    """All pictures of a group from its levels [T, h, w, C]."""
    with torch.inference_mode(), stage("decoder", _grid(levels)):
        which = torch.tensor([quality], device=model.device)
        return _pictures(_tokenizer(model).from_levels(levels.unsqueeze(0), which))


def decode_causal(model: Model, coder: Coder, frames: int, h: int, w: int, qualities: Sequence[int]) -> list[Planes]:
    """The inverse: all pictures of a group."""
    if len(set(qualities)) != 1:
        raise BitstreamError("a group of this model must have one quality")
    tokenizer = _tokenizer(model)
    levels = torch.zeros(frames, h, w, tokenizer.config.bits, dtype=torch.int16, device=model.device)
    with torch.inference_mode():
        for t in range(frames):
            empty = torch.zeros(h, w, tokenizer.config.bits, dtype=torch.int16, device=model.device)
            before = levels[t - 1] if t else None
            with stage("prior", (1, h, w)):
                features = _features(model, before, empty, t, qualities[0])
                levels[t] = model.tokens.code(coder, features, None)
        return synthesise(model, levels, qualities[0])


def _code(
    model: Model, writer: Writer, levels: Tensor, position: int, quality: int, before: Tensor | None
) -> tuple[Tensor, float]:
    start = sum(writer.plane_bits.values())
    with stage("prior", (1, *levels.shape[:2])):
        coded = model.tokens.code(writer, _features(model, before, levels, position, quality), levels)
    return coded, sum(writer.plane_bits.values()) - start


def _features(model: Model, before: Tensor | None, like: Tensor, position: int, quality: int) -> Tensor:
    h, w, channels = like.shape
    references = context.empty(h, w, channels, like.device)
    if before is not None:
        references = context.References(before, references.energy)
    kind = context.INTER if position else 0
    extra = context.auxiliary(h, w, quality=quality, kind=kind, position=position, vectors=None, device=like.device)
    return context.features(references, extra, model.tokens.config)


def _grid(tokens: Tensor) -> tuple[int, int, int]:
    t, h, w, _ = tokens.shape
    return t, h, w


def _tokenizer(model: Model) -> CausalTokenizer:
    assert isinstance(model.tokenizer, CausalTokenizer)
    return model.tokenizer


def _pictures(samples: Tensor) -> list[Planes]:
    whole = samples[0].round().clamp(0, 255).to(torch.uint8)
    return [tuple(plane.contiguous() for plane in unpack(frame)) for frame in whole]  # type: ignore[misc]
