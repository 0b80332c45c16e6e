"""Training of the prior: the exact integer arithmetic with straight-through gradients, loss in bits.

Legend: B batch, h w tokens, C channels, K decisions a channel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.integer.arithmetic import SUM, Training
from bsqcodec.prior.coding import all_neighbours, phase_flags
from bsqcodec.prior.context import symbols
from bsqcodec.prior.network import LOGIT_MAX, PriorNetwork
from bsqcodec.training.pool import Batch

NATS_TO_BITS = 1.4426950408889634
FLOOR = 0.3  # bits a token: crops that cost less are all the same


def prior_features(batch: Batch, network: PriorNetwork) -> Tensor:
    """The trunk's inputs [B, h, w, F], as `bsqcodec.prior.context.features` builds them."""
    config = network.config
    joined = torch.cat([symbols(batch.reference, config.signed), batch.energy, batch.extra], dim=-1)
    return F.pad(joined, (0, config.features - joined.shape[-1]))


def decision_logits(batch: Batch, network: PriorNetwork) -> Tensor:
    """Logits in nats of every decision, all phases and bands at once: [B, h, w, C, K]."""
    config, ops = network.config, Training()
    trunk = network.trunk(prior_features(batch, network), ops)
    seen = symbols(batch.levels, config.signed)
    near = all_neighbours(network.embedding(seen, ops))
    b, h, w, _ = trunk.shape
    flags = phase_flags(h, w, trunk.device).expand(b, h, w, -1)
    mixed = network.mixed(trunk, near, flags, ops)
    parts = []
    for band in range(len(config.bands)):
        start, _ = config.band_range(band)
        # the band's own and later channels are not known yet: their signs enter as zero
        before = None
        if start:
            signs = seen[..., config.channels :] * (torch.arange(config.signed, device=seen.device) < start)
            before = torch.cat([seen[..., :start], signs], dim=-1)
        parts.append(network.logits(mixed, before, band, ops))
    sums = torch.cat(parts, dim=-2)
    return (sums * 2.0**-SUM).clamp(-LOGIT_MAX / 128, LOGIT_MAX / 128)


def decision_targets(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Values and masks (float and bool [..., C, 6]) of the network's decisions about levels [..., C]."""
    size = levels.abs().to(torch.int32)
    some, two, four = size > 0, size >= 2, size >= 4
    values = torch.stack([~some, levels > 0, two, four, size >= 8, size == 3], dim=-1)
    masks = torch.stack([torch.ones_like(some), some, some, two, four, two & ~four], dim=-1)
    return values.float(), masks


def prior_bits(batch: Batch, network: PriorNetwork) -> tuple[Tensor, Tensor]:
    """Loss and bits a token of each of the network's decisions [K] (detached).

    The loss is the mean over crops of log(bits a token + FLOOR): relative savings count, at every rate alike.
    """
    logits = decision_logits(batch, network)
    if network.config.layout == "signs":
        values = (batch.levels > 0).float().unsqueeze(-1)
        masks = torch.ones_like(values, dtype=torch.bool)
    else:
        values, masks = decision_targets(batch.levels)
    cost = F.binary_cross_entropy_with_logits(logits, values, reduction="none") * NATS_TO_BITS
    cost = cost * (masks & batch.inside[..., None, None])
    tokens = batch.inside.sum((1, 2))
    each = cost.sum((1, 2, 3, 4)) / tokens
    return (each + FLOOR).log().mean(), (cost.sum((0, 1, 2, 3)) / tokens.sum()).detach()
