"""Transformer blocks in integers, and the integers of a network as arrays of a weights file.

One code for training and for both exact kernels (`bsqcodec.integer.arithmetic`).
Legend: B batch, T frames, h w tokens, D width, S = 64 tokens in a window, n windows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bsqcodec.integer.arithmetic import (
    INT8,
    QUERY,
    QUERY_MAX,
    STREAM_MAX,
    SUM_LIMIT,
    WEIGHT,
    Linear,
    Ops,
    Part,
    Precision,
)
from bsqcodec.integer.windows import WINDOW, merge, partition, relative_index, window_mask

MAX_HEAD = 40  # width of an attention head: 40 x 127^2 plus bias and mask stay below 2^24
SCORE = 11  # fraction bits of attention's scores and biases
MASKED = -(1 << 20)  # added to the score of padding: its exp table entry is 0
ATTENTION_LIMIT = 1 << 17


class Block(nn.Module):
    """Window attention and ReLU MLP on a residual stream of int16."""

    index: Tensor

    def __init__(self, dim: int, heads: int, mlp: int, shift: int, precision: Precision = INT8):
        super().__init__()
        self.heads, self.shift, self.precision = heads, shift, precision
        self.qkv = Linear(dim, 3 * dim, precision=precision)
        self.out = Linear(dim, dim, gain=0.2, precision=precision)
        self.up = Linear(dim, mlp, gain=1.4, precision=precision)
        self.down = Linear(mlp, dim, gain=0.2, precision=precision)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * WINDOW - 1) ** 2))  # nats
        self.register_buffer("index", relative_index(), persistent=False)

    def forward(self, x: Tensor, ops: Ops) -> Tensor:
        """x [B, 1, h, w, D] stream integers -> the same."""
        form = self.precision
        x = add(x, self.attend(narrow(x, ops, form), ops))
        hidden = activated(narrow(x, ops, form), self.up, ops, form)
        return add(x, widened(hidden, self.down, ops, form))

    def attend(self, x: Tensor, ops: Ops) -> Tensor:
        """x [B, 1, h, w, D] activation integers -> what attention adds to the stream."""
        b, t, h, w, d = x.shape
        form = self.precision
        queries = Part(2 * d, form.sum - QUERY, -QUERY_MAX, QUERY_MAX)  # and keys
        values = Part(d, form.sum - form.value, -form.value_max, form.value_max)
        windows, grid = partition(x, self.shift)
        each = torch.split(ops.affine(windows, self.qkv, queries, values), d // self.heads, dim=-1)
        padding = ~window_mask(b, t, h, w, self.shift, x.device).squeeze(1)
        edge = padding.any(-1).any(-1).nonzero().squeeze(1)  # windows that reach over the frame
        mask = padding[edge].float() * MASKED
        bias = ops.whole(self.bias * 2**SCORE)[:, self.index]
        heads = []
        for head in range(self.heads):
            q, k, v = each[head :: self.heads]
            heads.append(ops.softmax_mix(_scores(q, k, bias[head], edge, mask), v))
        mixed = torch.cat(heads, dim=-1)
        mixed = mixed * 2 ** (form.activation - form.value)
        return widened(merge(mixed, (b, t, h, w), grid, self.shift), self.out, ops, form)


def _scores(q: Tensor, k: Tensor, bias: Tensor, edge: Tensor, mask: Tensor) -> Tensor:
    """Of one head: q, k [n, S, D / heads], bias [S, S], mask [e, 1, S] of the windows edge int64 [e] -> [n, S, S].

    Head after head is faster than all at once: nothing has to be laid out anew, and the scores stay in the cache.
    """
    # q . k has fraction 8; read as fraction 11 it is also divided by 8, near enough to sqrt(D / heads)
    scores = (q @ k.transpose(-1, -2)).float()
    if scores.requires_grad:
        return (scores + bias).index_add(0, edge, mask.expand(-1, *scores.shape[1:]))
    scores.add_(bias)
    scores[edge] += mask
    return scores


def blocks(depth: int, dim: int, heads: int, mlp: int, precision: Precision = INT8) -> nn.ModuleList:
    """`depth` blocks; every second one's windows are shifted by half."""
    return nn.ModuleList(Block(dim, heads, mlp, WINDOW // 2 if i % 2 else 0, precision) for i in range(depth))


def narrow(stream: Tensor, ops: Ops, form: Precision = INT8) -> Tensor:
    """Stream -> activation integers."""
    return ops.narrowed(stream, form.stream - form.activation, form.activation_max)


def activated(x: Tensor, layer: nn.Module, ops: Ops, form: Precision = INT8) -> Tensor:
    """A layer with a ReLU behind it, activation integers to activation integers."""
    return ops.affine(x, layer, Part(outputs(layer), WEIGHT, 0, form.activation_max))


def widened(x: Tensor, layer: nn.Module, ops: Ops, form: Precision = INT8) -> Tensor:
    """A layer, activation integers to stream integers."""
    return ops.affine(x, layer, Part(outputs(layer), form.sum - form.stream, -STREAM_MAX, STREAM_MAX))


def outputs(layer: nn.Module) -> int:
    """Columns of a layer's sums."""
    assert isinstance(layer.bias, Tensor)
    return len(layer.bias)


def add(stream: Tensor, more: Tensor) -> Tensor:
    """A stream and what a layer adds to it, which may be overwritten -> the stream behind it."""
    whole = stream + more if more.requires_grad else more.add_(stream)
    return whole.clamp(-STREAM_MAX, STREAM_MAX) if whole.requires_grad else whole.clamp_(-STREAM_MAX, STREAM_MAX)


def integers(network: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter of a network on its integer grid, by name: weights int8, biases and attention int32."""
    found: dict[str, np.ndarray] = {}
    for name, module in network.named_modules():
        if isinstance(module, Linear):
            weight, bias = module.integers()
            found[f"{name}.weight"], found[f"{name}.bias"] = weight.numpy(), bias.numpy()
        elif isinstance(module, Block):
            found[f"{name}.attention"] = torch.round(module.bias.detach() * 2**SCORE).to(torch.int32).numpy()
    return found


def load_integers(network: nn.Module, arrays: dict[str, np.ndarray], what: str) -> None:
    """The inverse of `integers`; `what` names the network in errors.

    Raises KeyError or ValueError where names, shapes or types differ, or where a sum could leave float32's integers.
    """
    for key, old in integers(network).items():
        new = arrays[key]
        if new.shape != old.shape or new.dtype != old.dtype:
            raise ValueError(f"{what}.{key} is {new.dtype} {new.shape}, not {old.dtype} {old.shape}")
    _check_sums(network, arrays, what)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, Linear):
                module.weight.copy_(torch.from_numpy(arrays[f"{name}.weight"].astype(np.float32)) / 2**WEIGHT)
                module.bias.copy_(torch.from_numpy(arrays[f"{name}.bias"].astype(np.float32)) / 2**module.precision.sum)
            elif isinstance(module, Block):
                bias = torch.from_numpy(arrays[f"{name}.attention"].astype(np.float32))
                module.bias.copy_(bias / 2**SCORE)


def _check_sums(network: nn.Module, arrays: dict[str, np.ndarray], what: str) -> None:
    for name, module in network.named_modules():
        if isinstance(module, Linear):
            weight = np.abs(arrays[f"{name}.weight"].astype(np.int64)).sum(1)
            largest = (module.precision.largest * weight + np.abs(arrays[f"{name}.bias"].astype(np.int64))).max()
            if largest >= SUM_LIMIT:
                raise ValueError(f"sums of {what}.{name} can reach {largest}, 2^24 is too much")
        elif isinstance(module, Block):
            bias = np.abs(arrays[f"{name}.attention"].astype(np.int64)).max()
            if bias >= ATTENTION_LIMIT:
                raise ValueError(f"{what}.{name}.attention reaches {bias}, 2^17 is too much")
            head = module.qkv.weight.shape[1] // module.heads
            if head > MAX_HEAD:
                raise ValueError(f"a head of {what}.{name} is {head} wide, {MAX_HEAD} is the most")
