"""What is trained: modules, parameter groups and loss of the predictive tokenizer and of the prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.reconstruction import Reconstruction
from bsqcodec.training.pool import Batch
from bsqcodec.training.prior import prior_bits
from bsqcodec.training.ssim import ssim_loss
from bsqcodec.training.tokenizer import Laplace, decoder_loss, tokenizer_loss

LAPLACE_RATE = 2e-3
GENTLE = 0.01  # share of the learning rate for layers that start as the DCT: the full rate destroys them
DECISIONS = {"levels": ("zero", "sign", "ge2", "ge4", "ge8", "three"), "signs": ("sign",)}

Item = TypeVar("Item")
Loss = Callable[[Item], tuple[Tensor, dict[str, float]]]  # a batch -> what to minimise, figures for the log


@dataclass
class Task(Generic[Item]):
    """A training. groups: the optimiser's parameter groups; loss takes what a pool's `batch` gives."""

    modules: nn.ModuleDict
    groups: list[dict[str, Any]]
    loss: Loss[Item]


def tokenizer_task(config: PredictiveConfig, rate: float, compiled: bool) -> Task[Batch]:
    """The predictive tokenizer at a peak learning rate."""
    tokenizer, laplace = PredictiveTokenizer(config), Laplace()
    if compiled:
        tokenizer.encoder.compile(dynamic=False)
        tokenizer.decoder.compile_network()
    _leave_phases(tokenizer.decoder)
    gentle = [tokenizer.analysis.weight, tokenizer.decoder.synthesis]
    networks = [*tokenizer.encoder.parameters(), *_network(tokenizer.decoder)]
    groups: list[dict[str, Any]] = [
        {"params": networks, "lr": rate},
        {"params": gentle, "lr": rate * GENTLE},
        {"params": [tokenizer.decoder.offset], "lr": rate},
        {"params": list(laplace.parameters()), "lr": LAPLACE_RATE},
    ]
    modules = nn.ModuleDict({"tokenizer": tokenizer, "laplace": laplace})
    return Task(modules, groups, lambda batch: tokenizer_loss(batch, tokenizer, laplace))


def decoder_task(config: PredictiveConfig, rate: float, compiled: bool, tune: str = "psnr") -> Task[Batch]:
    """The predictive tokenizer's decoder alone at a peak learning rate; the rest of the tokenizer stays as it is.

    tune: the metric of the loss, "psnr" or "ms-ssim".
    """
    measure = ssim_loss if tune == "ms-ssim" else decoder_loss
    tokenizer = PredictiveTokenizer(config).requires_grad_(False)
    tokenizer.decoder.requires_grad_(True)
    _leave_phases(tokenizer.decoder)
    if compiled:
        tokenizer.decoder.compile_network()
    groups: list[dict[str, Any]] = [
        {"params": _network(tokenizer.decoder), "lr": rate},
        {"params": [tokenizer.decoder.synthesis], "lr": rate * GENTLE},
        {"params": [tokenizer.decoder.offset], "lr": rate},
    ]
    modules = nn.ModuleDict({"tokenizer": tokenizer})
    return Task(modules, groups, lambda batch: measure(batch, tokenizer))


def _leave_phases(decoder: Reconstruction) -> None:
    """What predicts first frames has a training of its own."""
    if decoder.phases is not None:
        decoder.phases.requires_grad_(False)


def _network(decoder: Reconstruction) -> list[nn.Parameter]:
    """The parameters of a decoder's transformer."""
    parts = ("offset", "synthesis")
    return [p for name, p in decoder.named_parameters() if name not in parts and not name.startswith("phases.")]


def prior_task(config: PriorConfig, rate: float, compiled: bool) -> Task[Batch]:
    """The prior, of either layout, at a peak learning rate."""
    network = PriorNetwork(config)
    bits = torch.compile(prior_bits, dynamic=False) if compiled else prior_bits

    def loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        value, parts = bits(batch, network)
        figures = dict(zip(DECISIONS[config.layout], parts.tolist(), strict=True))
        return value, {"logbits": float(value.detach()), "bits": float(parts.sum())} | figures

    return Task(nn.ModuleDict({"prior": network}), [{"params": list(network.parameters()), "lr": rate}], loss)
