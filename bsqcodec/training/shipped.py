"""Shipped weights as the start of a training: their tokenizer and prior, turned into the units of another tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bsqcodec.codec.model import load_modules, shipped_path
from bsqcodec.errors import UsageError
from bsqcodec.integer.arithmetic import keep_exact
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.predictive import FEATURES, PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.reconstruction import PATCHES
from bsqcodec.tokenizer.sensitivity import channel_steps
from bsqcodec.tokenizer.transform import SAMPLES
from bsqcodec.training.checkpoint import write

PREDICTOR = "decoder.phases."


def write_start(path: Path, tune: str, config: PredictiveConfig, prior: PriorConfig) -> None:
    """Write a checkpoint with the modules "tokenizer" and "prior" of the package's weights for a tune.

    Raises UsageError where there are none, or where their sizes are not those of `config` and `prior`;
    WeightsMismatchError where the package's file is damaged.
    """
    shipped, tokenizer, network = load_modules(shipped_path(tune))
    if (
        shipped.prior != prior
        or not isinstance(tokenizer, PredictiveTokenizer)
        or _size(shipped.tokenizer) != _size(config)
    ):
        raise UsageError(
            f"the weights for --tune {tune} have other sizes than this config; leave [tokenizer] and [prior] sizes out"
        )
    modules = nn.ModuleDict({"tokenizer": converted(tokenizer, config), "prior": network})
    keep_exact(modules)  # larger inputs of a layer may lead its sums out of exact arithmetic
    write(path, {"modules": modules.state_dict(), "step": 1})


def _size(config: object) -> tuple[object, ...]:
    return tuple(getattr(config, name, None) for name in ("dim", "depth", "heads", "mlp"))


def converted(source: PredictiveTokenizer, config: PredictiveConfig) -> PredictiveTokenizer:
    """A tokenizer that does what `source` does, with latents in the units of `config`'s channel steps."""
    target = PredictiveTokenizer(config)
    target.load_state_dict(_shared(source, target))
    folded = channel_steps(config.falloff) / channel_steps(source.config.falloff)
    units = folded * target.scale / source.scale  # a new step of each channel in old ones
    with torch.no_grad():
        target.analysis.weight.div_(folded[:, None])
        target.decoder.synthesis.mul_(units)
        _latent_inputs(target.encoder.embed, 2 * FEATURES).mul_(units)
        _latent_inputs(target.decoder.inlet, sum(PATCHES)).mul_(units)
        target.encoder.head.weight.div_(units[:, None])
        target.encoder.head.bias.div_(units)
    return target


def _shared(source: PredictiveTokenizer, target: PredictiveTokenizer) -> dict[str, Tensor]:
    """All of `target`'s weights, from `source` but for a predictor of phases of another width or none."""
    mine = target.state_dict()
    if source.config.phases == target.config.phases:
        return mine | source.state_dict()
    return mine | {name: value for name, value in source.state_dict().items() if not name.startswith(PREDICTOR)}


def _latent_inputs(layer: nn.Module, first: int) -> Tensor:
    """The columns of an input layer that see the latents."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight[:, first : first + SAMPLES]
