"""The integer operations of the format, through whatever kernel is fastest, and their twin for training.

Fixed-point formats (value = integer / 2^fraction), in the precision of a network (`Precision`):
                prior                     decoder
    activation  int8   fraction 4  127    int13  fraction 7  4095
    weight      int8   fraction 7  127    int8   fraction 7  127
    stream      int16  fraction 8  32767  int16  fraction 10 32767   (the residual stream between blocks)
    sum         int32  fraction 11        int32  fraction 14         (activation x weight, bias)
Requantisation is a rounding shift, floor((sum + 2^(s-1)) / 2^s), then saturation: no multiplier, so a fused
multiply-add cannot change it. Sums stay below 2^24 (checked when weights are loaded), so float32 holds them exactly.

`Training` is the same arithmetic with straight-through gradients; `Float32` and `Int8` give identical integers.
Tensors hold integer values; their dtype is float32 outside of `Int8`'s products.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT = 7  # fraction bits
STREAM_MAX = 32767
QUERY, QUERY_MAX = 4, 127  # fraction and limit of queries and keys, in every network
HALF = 64
CUDA_ROWS = 16  # torch._int_mm takes more than these on CUDA
CACHED_ROWS = 600  # whose numbers, at most 576 a row, stay in a core's second-level cache
FPMATH = "ONEDNN_DEFAULT_FPMATH_MODE"
EXP_MAX, EXP_STEPS = 127, 128  # softmax numerators: round(127 exp(-d / 16)), d = 0..127
SUM_LIMIT = 1 << 24  # float32 holds every integer below
EXP_SHIFT = 7  # score units (2^-11 nat) to steps of 1/16 nat


@dataclass(frozen=True)
class Precision:
    """Fraction bits and limits of a network.

    value, value_max: of attention's values. Their mean is exact up to 1023: numerator and denominator stay below 2^24,
    and a quotient below 1024 over 2 * 64 * 127 is further from the next integer than float32 rounds.
    """

    activation: int
    activation_max: int
    stream: int
    value: int
    value_max: int

    @property
    def largest(self) -> int:
        """What sums are bounded with: the largest activation, and as much more as its two halves may reach."""
        return self.activation_max if self.activation_max <= 127 else self.activation_max + HALF // 2 + 1

    @property
    def sum(self) -> int:
        """Fraction bits of sums and biases."""
        return self.activation + WEIGHT


INT8 = Precision(activation=4, activation_max=127, stream=8, value=4, value_max=127)
# Corrections are small beside what they are read off: with 8 bits of activation, 7 % of rate (EXPERIMENTS.md).
INT13 = Precision(activation=7, activation_max=4095, stream=10, value=6, value_max=1023)
ACTIVATION, STREAM, SUM, ACTIVATION_MAX = INT8.activation, INT8.stream, INT8.sum, INT8.activation_max  # the prior's


def exp_table() -> Tensor:
    """float32 [128] of integers: round(127 exp(-d / 16))."""
    return torch.round(EXP_MAX * torch.exp(-torch.arange(EXP_STEPS, dtype=torch.float64) / 16)).float()


class Linear(nn.Module):
    """A linear layer whose weights live on the int8 grid; real-valued parameters, integers by `integers()`."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0, precision: Precision = INT8):
        super().__init__()
        self.precision = precision
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * (gain * inputs**-0.5))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def integers(self) -> tuple[Tensor, Tensor]:
        """int8 weight [out, in] (fraction 7) and int32 bias [out] (fraction of sums)."""
        weight = torch.round(self.weight.detach() * 2**WEIGHT).clamp(-127, 127).to(torch.int8)
        return weight, torch.round(self.bias.detach() * 2**self.precision.sum).to(torch.int32)


def keep_exact(module: nn.Module) -> None:
    """Scale down the rows of `Linear`s whose sums could leave float32's integers, in place: after a step of training.

    A weight on its grid may be half a unit larger than it is here; what is loaded must stay below SUM_LIMIT.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, Linear):
                room = SUM_LIMIT - 2 * layer.precision.largest - (layer.bias.abs() * 2**layer.precision.sum).ceil()
                most = (room / layer.precision.largest - layer.weight.shape[1] / 2) / 2**WEIGHT
                held = layer.weight.clamp(-1, 1)  # the grid has no more
                scale = (most / held.abs().sum(1).clamp_min(1e-6)).clamp(0, 1)[:, None]
                layer.weight.copy_(torch.where(scale < 1, held * scale, layer.weight))


class Part(NamedTuple):
    """Some columns of a layer's sums and how they are requantised: by a shift, to low .. high."""

    columns: int
    shift: int
    low: int
    high: int


class Folded(NamedTuple):
    """A layer with the shifts of its parts, and their halves, in it: what is left is to round down and to limit.

    weight [out, in], bias [out]; scale [out], what the weight was multiplied with.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor


class Ops(Protocol):
    """What a network needs; `rescale` returns float32 integers and may overwrite the sums it is given.

    narrowed: `rescale` of what is still needed, to -limit .. limit.
    affine: `linear`, then `rescale` of the columns that each part names, in order; their number is that of all columns.
    """

    def whole(self, x: Tensor) -> Tensor: ...
    def linear(self, x: Tensor, layer: nn.Module) -> Tensor: ...
    def rescale(self, total: Tensor, shift: int, low: int, high: int) -> Tensor: ...
    def narrowed(self, stream: Tensor, shift: int, limit: int) -> Tensor: ...
    def affine(self, x: Tensor, layer: nn.Module, *parts: Part) -> Tensor: ...
    def softmax_mix(self, scores: Tensor, values: Tensor) -> Tensor: ...


def _straight(value: Tensor, rounded: Tensor) -> Tensor:
    return value + (rounded - value).detach()


class Training:
    """Integer values in float with straight-through gradients; products may run in bfloat16 under autocast."""

    def whole(self, x: Tensor) -> Tensor:
        return _straight(x, x.round())

    def linear(self, x: Tensor, layer: nn.Module) -> Tensor:
        assert isinstance(layer, Linear)
        scaled = layer.weight * 2**WEIGHT
        weight = _straight(scaled, scaled.round()).clamp(-127, 127)
        bias = layer.bias * 2**layer.precision.sum
        return F.linear(x, weight).float() + _straight(bias, bias.round())

    def rescale(self, total: Tensor, shift: int, low: int, high: int) -> Tensor:
        scaled = total.float() * 2.0**-shift
        return _straight(scaled, torch.floor(scaled + 0.5)).clamp(low, high)

    def narrowed(self, stream: Tensor, shift: int, limit: int) -> Tensor:
        return self.rescale(stream, shift, -limit, limit)

    def affine(self, x: Tensor, layer: nn.Module, *parts: Part) -> Tensor:
        total = self.linear(x, layer)
        cut = torch.split(total, [part.columns for part in parts], dim=-1)
        scaled = [self.rescale(columns, *part[1:]) for columns, part in zip(cut, parts, strict=True)]
        return scaled[0] if len(scaled) == 1 else torch.cat(scaled, dim=-1)

    def softmax_mix(self, scores: Tensor, values: Tensor) -> Tensor:
        scores = scores.float()
        steps = (scores.amax(-1, keepdim=True) - scores) * 2.0**-EXP_SHIFT
        steps = _straight(steps, torch.floor(steps + 0.5)).clamp(max=EXP_STEPS - 1)
        weights = EXP_MAX * torch.exp(-steps / 16)
        weights = _straight(weights, weights.round())
        mixed = (weights @ values).float() / weights.sum(-1, keepdim=True)
        return _straight(mixed, torch.floor(mixed + 0.5))


class Float32:
    """Exact integers in float32 products; needs nothing but IEEE 754.

    Where a setting of torch or oneDNN makes float32 products of fewer bits (TF32, bfloat16), integers of more than 8
    bits go through them in two parts.
    """

    name = "float32"

    def __init__(self, exp: Tensor):
        self.exp = exp  # float32 [128] of integers, `exp_table`
        self._half = torch.tensor(0.5, device=exp.device)
        self._computed = torch.equal(exp, exp_table().to(exp.device))

    def whole(self, x: Tensor) -> Tensor:
        return x.round()

    def linear(self, x: Tensor, layer: nn.Module) -> Tensor:
        assert isinstance(layer, Frozen)
        if layer.narrow or products_are_whole():
            return F.linear(x, layer.weight, layer.bias)
        high, low = halves(x)
        return F.linear(high, layer.weight).mul_(HALF).add_(F.linear(low, layer.weight)).add_(layer.bias)

    def rescale(self, total: Tensor, shift: int, low: int, high: int) -> Tensor:
        return torch.add(self._half, total, alpha=2.0**-shift, out=total).floor_().clamp_(low, high)

    def narrowed(self, stream: Tensor, shift: int, limit: int) -> Tensor:
        return torch.add(self._half, stream, alpha=2.0**-shift).floor_().clamp_(-limit, limit)

    def affine(self, x: Tensor, layer: nn.Module, *parts: Part) -> Tensor:
        assert isinstance(layer, Frozen)
        folded = layer.folded(parts)
        columns = [part.columns for part in parts]
        rows = x.reshape(-1, x.shape[-1])
        out = rows.new_empty(len(rows), sum(columns))
        # some rows at a time, so that they stay in the cache through all the passes over them
        at_once = len(rows) if rows.is_cuda else CACHED_ROWS * torch.get_num_threads()
        for some, result in zip(torch.split(rows, at_once), torch.split(out, at_once), strict=True):
            if folded is None:
                result.copy_(self.linear(some, layer))
            else:
                self._shifted(some, layer, folded, result).floor_()
            for sums, part in zip(torch.split(result, columns, dim=-1), parts, strict=True):
                if folded is None:
                    self.rescale(sums, *part[1:])
                else:
                    sums.clamp_(part.low, part.high)
        return out.reshape(*x.shape[:-1], -1)

    def _shifted(self, x: Tensor, layer: Frozen, folded: Folded, out: Tensor) -> Tensor:
        """The layer's sums with their shift and half, not rounded down, into `out`."""
        if layer.narrow or products_are_whole():
            return torch.addmm(folded.bias, x, folded.weight.t(), out=out)
        return torch.addcmul(folded.bias, self.linear(x, layer) - layer.bias, folded.scale, out=out)

    def softmax_mix(self, scores: Tensor, values: Tensor) -> Tensor:
        weights = self._exponentials(scores)
        total = weights.sum(-1, keepdim=True)
        # floor(a / b + 1/2) as floor((2a + b) / 2b): integers below 2^24, so the quotient's floor is exact
        return self._mix(weights, values).mul_(2).add_(total).div_(2 * total).floor_()

    def _exponentials(self, scores: Tensor) -> Tensor:
        """Entries of the exp table for how far scores, which are overwritten, lie below the largest of their row."""
        top = scores.amax(-1, keepdim=True).mul_(2.0**-EXP_SHIFT).add_(0.5)
        # shifts and halves are exact
        steps = torch.add(top, scores, alpha=-(2.0**-EXP_SHIFT), out=scores).floor_().clamp_(max=EXP_STEPS - 1)
        if self._computed:
            # Faster than looking them up, and as exact: before it is rounded no entry lies within 0.001 of a half, so
            # an exp that is right to five digits gives the table's integers.
            return steps.mul_(-1 / 16).exp_().mul_(EXP_MAX).round_()
        return self.exp[steps.to(torch.int32)]

    def _mix(self, weights: Tensor, values: Tensor) -> Tensor:
        if products_are_whole():
            return weights @ values
        high, low = halves(values)
        return (weights @ high).mul_(HALF).add_(weights @ low)


class Int8(Float32):
    """The products of linear layers through torch._int_mm (int8 x int8 -> int32), in two parts where activations have
    more bits; the rest as `Float32`."""

    name = "int8"

    def linear(self, x: Tensor, layer: nn.Module) -> Tensor:
        assert isinstance(layer, Frozen)
        return self._product(x.reshape(-1, x.shape[-1]), layer).add_(layer.bias).reshape(*x.shape[:-1], -1)

    def _shifted(self, x: Tensor, layer: Frozen, folded: Folded, out: Tensor) -> Tensor:
        return torch.addcmul(folded.bias, self._product(x, layer), folded.scale, out=out)

    def _product(self, x: Tensor, layer: Frozen) -> Tensor:
        """x @ weight as float32 integers, for activations [rows, in]."""
        if layer.narrow:
            return _int_product(x.to(torch.int8), layer).float()
        high, low = halves(x)
        total = _int_product(high.to(torch.int8), layer).mul_(HALF)
        return total.add_(_int_product(low.to(torch.int8), layer)).float()


def _int_product(x: Tensor, layer: Frozen) -> Tensor:
    """int8 [rows, in] -> int32 [rows, out]."""
    rows = len(x)
    if rows <= CUDA_ROWS and x.is_cuda:
        x = F.pad(x, (0, 0, 0, CUDA_ROWS + 1 - rows))
    return torch._int_mm(x, layer.weight8.t())[:rows]


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Integers of up to 13 bits as (high, low), x = 64 high + low, both of 8 bits."""
    high = torch.add(x, HALF // 2).mul_(1 / HALF).floor_()
    return high, torch.add(x, high, alpha=-HALF)


def products_are_whole() -> bool:
    """Whether float32 products keep their 24 bits under the settings of this moment."""
    return torch.get_float32_matmul_precision() == "highest" and FPMATH not in os.environ


class Frozen(nn.Module):
    """A `Linear` turned into integers: weight and bias as float32 integers, weight8 as int8.

    narrow: its activations are int8; largest: bound of their absolute values.
    """

    weight: Tensor
    weight8: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, largest: int = 127):
        super().__init__()
        self.narrow, self._largest = largest <= 127, largest
        self._folded: dict[tuple[Part, ...], Folded | None] = {}
        self.register_buffer("weight8", weight.to(torch.int8))
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())

    def folded(self, parts: tuple[Part, ...]) -> Folded | None:
        """This layer with the shifts of `parts` and their halves in it; None where a sum might not be exact.

        A shift only moves the exponent of what is summed, and the half is a bit more: as long as sums with it stay
        below 2^24 before the shift, every one of them is exact, in any order.
        """
        if parts not in self._folded:
            shifts = torch.tensor([part.shift for part in parts for _ in range(part.columns)])
            scale = (2.0**-shifts).to(self.weight.device)
            bound = self._largest * self.weight.abs().double().sum(1) + self.bias.abs() + 0.5 / scale
            exact = bool((bound < SUM_LIMIT).all())
            folded = Folded(self.weight * scale[:, None], self.bias * scale + 0.5, scale)
            self._folded[parts] = folded if exact else None
        return self._folded[parts]


def freeze(module: nn.Module) -> None:
    """Replace every `Linear` inside a module by its integers, in place."""
    for name, child in module.named_children():
        if isinstance(child, Linear):
            setattr(module, name, Frozen(*child.integers(), child.precision.largest))
        else:
            freeze(child)


def int8_is_exact(device: torch.device) -> bool:
    """Whether this machine's int8 kernel sums without saturating (old x86 instructions clip pairs to 16 bits)."""
    try:
        left = torch.full((32, 512), 127, dtype=torch.int8, device=device)
        left[::2, 1::3] = -127
        right = torch.full((64, 512), 127, dtype=torch.int8, device=device)
        right[::3, ::2] = -127
        total = torch._int_mm(left, right.t())
    except RuntimeError:
        return False
    return bool((total.cpu().long() == left.cpu().long() @ right.cpu().long().t()).all())
