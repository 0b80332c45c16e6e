"""The prior a second time, in plain int64 numpy and loops: what a decoder written from the specification would do.

Slow, and free of everything a machine could round differently. Legend: h w tokens, D width, S = 64 tokens in a window.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bsqcodec.prior.network import PriorConfig

Int = npt.NDArray[np.int64]
Arrays = dict[str, np.ndarray]
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
SIDE = 8


def shift_round(total: Int, shift: int, low: int, high: int) -> Int:
    """floor(total / 2^shift + 1/2), saturated."""
    rounded: Int = np.clip((total + (1 << shift - 1)) >> shift, low, high)
    return rounded


def linear(x: Int, arrays: Arrays, name: str) -> Int:
    """Sums of fraction 11; inputs that are missing at the end count as zero."""
    weight = arrays[f"{name}.weight"].astype(np.int64)
    total: Int = x @ weight[:, : x.shape[-1]].T + arrays[f"{name}.bias"].astype(np.int64)
    return total


def narrow(stream: Int) -> Int:
    return shift_round(stream, 4, -127, 127)


def add(stream: Int, total: Int) -> Int:
    kept: Int = np.clip(stream + shift_round(total, 3, -32767, 32767), -32767, 32767)
    return kept


def softmax_mix(scores: Int, values: Int, exp: Int) -> Int:
    """scores [S], values [S, d] -> [d]: rounded mean of values with weights exp(score)."""
    weights = exp[np.minimum((scores.max() - scores + 64) >> 7, 127)]
    total = int(weights.sum())
    mixed: Int = (2 * (weights @ values) + total) // (2 * total)
    return mixed


def attend(x: Int, arrays: Arrays, name: str, heads: int, shift: int, exp: Int) -> Int:
    """Window attention, token by token: x [h, w, D] activations -> sums [h, w, D]."""
    h, w, d = x.shape
    packed = shift_round(linear(x, arrays, f"{name}.qkv"), 7, -127, 127)
    q, k, v = packed.reshape(h, w, 3, heads, d // heads).transpose(2, 3, 0, 1, 4)
    bias = arrays[f"{name}.attention"].astype(np.int64)
    mixed = np.zeros((h, w, heads, d // heads), np.int64)
    for row, column in np.ndindex(h, w):
        rows, columns = window_of(row, h, shift), window_of(column, w, shift)
        away = ((row - rows[:, None] + SIDE - 1) * (2 * SIDE - 1) + column - columns[None] + SIDE - 1).ravel()
        for head in range(heads):
            keys = k[head][rows][:, columns].reshape(-1, d // heads)
            values = v[head][rows][:, columns].reshape(-1, d // heads)
            scores = keys @ q[head, row, column] + bias[head][away]
            mixed[row, column, head] = softmax_mix(scores, values, exp)
    return linear(mixed.reshape(h, w, d), arrays, f"{name}.out")


def window_of(place: int, size: int, shift: int) -> Int:
    """Rows (or columns) of the frame that lie in the window of one of them."""
    start = (place + shift) // SIDE * SIDE - shift
    return np.arange(max(start, 0), min(start + SIDE, size))


def block(stream: Int, arrays: Arrays, number: int, config: PriorConfig, exp: Int) -> Int:
    """One block on the residual stream [h, w, D]."""
    name = f"blocks.{number}"
    shift = 4 if number % 2 else 0
    stream = add(stream, attend(narrow(stream), arrays, name, config.heads, shift, exp))
    hidden = shift_round(linear(narrow(stream), arrays, f"{name}.up"), 7, 0, 127)
    return add(stream, linear(hidden, arrays, f"{name}.down"))


def trunk(features: Int, arrays: Arrays, config: PriorConfig, exp: Int) -> Int:
    """features [h, w, F] -> activations [h, w, D]."""
    stream = shift_round(linear(features, arrays, "inlet"), 3, -32767, 32767)
    for number in range(config.depth):
        stream = block(stream, arrays, number, config, exp)
    return narrow(stream)


def magnitude_symbol(n: int) -> int:
    """round(24 log2(1 + |n|)), saturated at the 38th."""
    return int(np.floor(24 * np.log2(1 + min(abs(n), 38)) + 0.5))


def symbols(levels: Int, signed: int) -> Int:
    """What the network sees of a token's levels [C]: [C + signed]."""
    sizes = [magnitude_symbol(int(n)) for n in levels]
    return np.array(sizes + [16 * max(-4, min(4, int(n))) for n in levels[:signed]], np.int64)


def sums(features: Int, levels: Int, arrays: Arrays, config: PriorConfig, exp: Int) -> Int:
    """Sums of every decision [h, w, C, K] when the levels [h, w, C] are known: what the coder uses, step by step."""
    h, w, channels = levels.shape
    flow = trunk(features, arrays, config, exp)
    seen = np.zeros((h + 2, w + 2, config.embed), np.int64)
    out = np.zeros((h, w, channels, config.decisions), np.int64)
    for phase, (down, right) in enumerate(PHASES):
        places = [(y, x) for y in range(down, h, 2) for x in range(right, w, 2)]
        for y, x in places:
            around = [seen[y + dy, x + dx] for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)]
            flags = [64 * int(phase == other) for other in range(4)]
            mixed = shift_round(linear(np.concatenate([flow[y, x], *around, flags]), arrays, "mix"), 7, 0, 127)
            out[y, x] = token_sums(mixed, levels[y, x], arrays, config)
        for y, x in places:
            symbol = symbols(levels[y, x], config.signed)
            seen[y + 1, x + 1] = shift_round(linear(symbol, arrays, "embed"), 7, 0, 127)
    return out


def token_sums(mixed: Int, levels: Int, arrays: Arrays, config: PriorConfig) -> Int:
    """Sums [C, K] of one token, band after band, each seeing only the bands before."""
    parts, start = [], 0
    for band, end in enumerate(config.bands):
        known = np.where(np.arange(len(levels)) < start, levels, 0)
        symbol = symbols(known, config.signed)
        before = np.concatenate([symbol[:start], symbol[len(levels) :]]) if start else np.zeros(0, np.int64)
        hidden = shift_round(linear(np.concatenate([mixed, before]), arrays, f"hidden.{band}"), 7, 0, 127)
        total = linear(hidden, arrays, f"heads.{band}")
        parts.append(total[: (end - start) * config.decisions].reshape(end - start, config.decisions))
        start = end
    return np.concatenate(parts)
