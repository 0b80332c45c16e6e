"""The prior's transformer: integers in, integer logits out. One code for training and for both exact kernels.

A trunk of window attention sees what is known before the frame is (the reference tokens moved along the motion, their
energy, vectors, quality); a light net per token then mixes in the neighbours already coded (the tokens of earlier
phases), and a head per band of channels sees the bands before it.
Legend: B batch, h w tokens, N tokens of a phase, D width, C channels a token, S = 64 tokens in a window,
K decisions a channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.integer.arithmetic import ACTIVATION, ACTIVATION_MAX, STREAM, STREAM_MAX, SUM, WEIGHT, Linear, Ops
from bsqcodec.tokenizer.network import WINDOW, merge, partition, relative_index, window_mask

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # (row, column) parity, in coding order
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
AUXILIARY = 40  # features that are not channels: quality, kind, motion, place in the group
LOGIT_SHIFT, LOGIT_MAX = 4, 2047  # sums (fraction 11) to logits in 1/128 nat
MAX_HEAD = 40  # width of an attention head: 40 x 127^2 plus bias and mask stay below 2^24
MASKED = -(1 << 20)  # added to the score of padding: its exp table entry is 0


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of the prior. layout: "levels" (residual BSQ amplitudes) or "signs" (one plain BSQ bit a channel)."""

    channels: int = 96
    layout: str = "levels"
    bands: tuple[int, ...] = (8, 36, 96)  # where each band of channels ends
    signed: int = 8  # leading channels whose signs are context
    dim: int = 192
    depth: int = 2
    heads: int = 6
    mlp: int = 384
    embed: int = 32
    mix: int = 256
    hidden: int = 128

    @property
    def features(self) -> int:
        """Inputs of the trunk, a multiple of 8."""
        return -(-(2 * self.channels + self.signed + AUXILIARY) // 8) * 8

    @property
    def decisions(self) -> int:
        """Logits a channel: zero, sign, ge2, ge4, ge8, three; or the sign alone."""
        return 6 if self.layout == "levels" else 1

    def band_range(self, band: int) -> tuple[int, int]:
        """First channel of a band and the one behind its last."""
        return (0 if band == 0 else self.bands[band - 1]), self.bands[band]


def _multiple_of_8(n: int) -> int:
    return -(-n // 8) * 8


class Block(nn.Module):
    """Window attention and ReLU MLP on a residual stream of int16 (fraction 8)."""

    index: Tensor

    def __init__(self, config: PriorConfig, shift: int):
        super().__init__()
        self.heads, self.shift, dim = config.heads, shift, config.dim
        self.qkv = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim, gain=0.2)
        self.up = Linear(dim, config.mlp, gain=1.4)
        self.down = Linear(config.mlp, dim, gain=0.2)
        self.bias = nn.Parameter(torch.zeros(config.heads, (2 * WINDOW - 1) ** 2))  # nats
        self.register_buffer("index", relative_index(), persistent=False)

    def forward(self, x: Tensor, ops: Ops) -> Tensor:
        """x [B, 1, h, w, D] stream integers -> the same."""
        x = _add(x, self.attend(_narrow(x, ops), ops), ops)
        hidden = ops.rescale(ops.linear(_narrow(x, ops), self.up), SUM - ACTIVATION, 0, ACTIVATION_MAX)
        return _add(x, ops.linear(hidden, self.down), ops)

    def attend(self, x: Tensor, ops: Ops) -> Tensor:
        b, t, h, w, d = x.shape
        packed = ops.rescale(ops.linear(x, self.qkv), SUM - ACTIVATION, -ACTIVATION_MAX, ACTIVATION_MAX)
        windows, grid = partition(packed, self.shift)
        n = windows.shape[0]
        q, k, v = windows.reshape(n, WINDOW * WINDOW, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        # q . k has fraction 8; read as fraction 11 it is also divided by 8, near enough to sqrt(D / heads)
        scores = (q @ k.transpose(-1, -2)).float() + ops.whole(self.bias * 2**SUM)[:, self.index]
        mask = window_mask(b, t, h, w, self.shift, x.device)
        scores = scores + (~mask).float() * MASKED
        mixed = ops.softmax_mix(scores, v).transpose(1, 2).reshape(n, WINDOW * WINDOW, d)
        return ops.linear(merge(mixed, (b, t, h, w), grid, self.shift), self.out)


def _narrow(stream: Tensor, ops: Ops) -> Tensor:
    """Stream -> activation integers."""
    return ops.rescale(stream.clone(), STREAM - ACTIVATION, -ACTIVATION_MAX, ACTIVATION_MAX)


def _add(stream: Tensor, total: Tensor, ops: Ops) -> Tensor:
    return (stream + ops.rescale(total, SUM - STREAM, -STREAM_MAX, STREAM_MAX)).clamp(-STREAM_MAX, STREAM_MAX)


class PriorNetwork(nn.Module):
    """All learned parts of the prior."""

    def __init__(self, config: PriorConfig):
        super().__init__()
        self.config = config
        self.inlet = Linear(config.features, config.dim)
        self.blocks = nn.ModuleList(Block(config, WINDOW // 2 if i % 2 else 0) for i in range(config.depth))
        self.embed = Linear(_multiple_of_8(config.channels + config.signed), config.embed)
        self.mix = Linear(_multiple_of_8(config.dim + len(NEIGHBOURS) * config.embed + len(PHASES)), config.mix, 1.4)
        ranges = [config.band_range(band) for band in range(len(config.bands))]
        self.hidden = nn.ModuleList(Linear(self.band_inputs(start), config.hidden, 1.4) for start, _ in ranges)
        self.heads = nn.ModuleList(
            Linear(config.hidden, _multiple_of_8((end - start) * config.decisions)) for start, end in ranges
        )

    def band_inputs(self, start: int) -> int:
        """Inputs of a band's hidden layer: the mixed token and the bands before."""
        return self.config.mix + (_multiple_of_8(start + self.config.signed) if start else 0)

    def trunk(self, features: Tensor, ops: Ops) -> Tensor:
        """Feature integers [B, h, w, F] -> activation integers [B, h, w, D]."""
        x = ops.rescale(ops.linear(features, self.inlet), SUM - STREAM, -STREAM_MAX, STREAM_MAX).unsqueeze(1)
        for block in self.blocks:
            x = block(x, ops)
        return _narrow(x, ops).squeeze(1)

    def embedding(self, symbols: Tensor, ops: Ops) -> Tensor:
        """What neighbours see of coded tokens [..., C + signed]: [..., E] activations 0..127."""
        total = ops.linear(_pad8(symbols), self.embed)
        return ops.rescale(total, SUM - ACTIVATION, 0, ACTIVATION_MAX)

    def mixed(self, trunk: Tensor, neighbours: Tensor, phase: Tensor, ops: Ops) -> Tensor:
        """trunk [..., D], neighbours [..., 8 E], phase one-hot times 64 [..., 4] -> [..., M] activations 0..127."""
        total = ops.linear(_pad8(torch.cat([trunk, neighbours, phase], dim=-1)), self.mix)
        return ops.rescale(total, SUM - ACTIVATION, 0, ACTIVATION_MAX)

    def logits(self, mixed: Tensor, before: Tensor | None, band: int, ops: Ops) -> Tensor:
        """mixed [..., M] and the symbols of earlier bands -> sums (fraction 11) [..., channels of the band, K]."""
        start, end = self.config.band_range(band)
        inputs = mixed if before is None else torch.cat([mixed, _pad8(before)], dim=-1)
        hidden = ops.rescale(ops.linear(inputs, self.hidden[band]), SUM - ACTIVATION, 0, ACTIVATION_MAX)
        total = ops.linear(hidden, self.heads[band])
        size = (end - start) * self.config.decisions
        return total[..., :size].reshape(*total.shape[:-1], end - start, self.config.decisions)

    def integers(self) -> dict[str, np.ndarray]:
        """Every parameter on its integer grid: weights int8, biases int32, for a weights file."""
        found: dict[str, np.ndarray] = {}
        for name, module in self.named_modules():
            if isinstance(module, Linear):
                weight, bias = module.integers()
                found[f"{name}.weight"], found[f"{name}.bias"] = weight.numpy(), bias.numpy()
            elif isinstance(module, Block):
                found[f"{name}.attention"] = torch.round(module.bias.detach() * 2**SUM).to(torch.int32).numpy()
        return found

    def load_integers(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of `integers`. Raises KeyError or ValueError where names or shapes differ."""
        expected = self.integers()
        for key, old in expected.items():
            if arrays[key].shape != old.shape or arrays[key].dtype != old.dtype:
                raise ValueError(f"prior.{key} is {arrays[key].dtype} {arrays[key].shape}, not {old.dtype} {old.shape}")
        self._check_sums(arrays)
        with torch.no_grad():
            for name, module in self.named_modules():
                if isinstance(module, Linear):
                    module.weight.copy_(torch.from_numpy(arrays[f"{name}.weight"].astype(np.float32)) / 2**WEIGHT)
                    module.bias.copy_(torch.from_numpy(arrays[f"{name}.bias"].astype(np.float32)) / 2**SUM)
                elif isinstance(module, Block):
                    bias = torch.from_numpy(arrays[f"{name}.attention"].astype(np.float32))
                    module.bias.copy_(bias / 2**SUM)

    def _check_sums(self, arrays: dict[str, np.ndarray]) -> None:
        """Raise ValueError where a sum could reach 2^24, beyond which float32 does not hold every integer."""
        if self.config.dim > MAX_HEAD * self.config.heads:
            raise ValueError(f"a head of {self.config.dim // self.config.heads} is wider than {MAX_HEAD}")
        for name, module in self.named_modules():
            if isinstance(module, Linear):
                weight = np.abs(arrays[f"{name}.weight"].astype(np.int64)).sum(1)
                largest = (ACTIVATION_MAX * weight + np.abs(arrays[f"{name}.bias"].astype(np.int64))).max()
                if largest >= 1 << 24:
                    raise ValueError(f"sums of prior.{name} can reach {largest}, 2^24 is too much")
            elif isinstance(module, Block):
                bias = np.abs(arrays[f"{name}.attention"].astype(np.int64)).max()
                if bias >= 1 << 17:
                    raise ValueError(f"prior.{name}.attention reaches {bias}, 2^17 is too much")


def _pad8(x: Tensor) -> Tensor:
    missing = -x.shape[-1] % 8
    return F.pad(x, (0, missing)) if missing else x
