"""A decoder of groups written from chapters 5 to 10 of bitstream_spec.md alone, in numpy and plain Python.

Slow and obvious on purpose; it shares no code with the package. Real arithmetic is float64.
Legend: h w token rows and columns, C channels; planes are int64 arrays padded to whole tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import reference_prior as prior
from reference_motion import MotionReader, compensated
from reference_range_coder import MASK, WORD, interval, split_point

Planes = list[np.ndarray]
SIZES = (8, 4, 4)
DTYPES = {"F16": "<f2", "I8": "i1", "I32": "<i4", "U16": "<u2"}
CHANNEL_PLANES = "YYYUVYYYYYYYUUVVYYYYYYYYYYYUUUVVVYYYYYYYYYYYYYYYUUUUVVVVYYYYYYYYYYYYYUUUVVVYYYYYYYYYUUVVYYYYYUVY"


class Bits:
    """8.2: bits out of words."""

    def __init__(self, data: bytes):
        self.words = iter(np.frombuffer(data, "<u4").tolist())
        self.offset, self.size = next(self.words, 0) << 32 | next(self.words, 0), MASK

    def bit(self, p: int) -> int:
        scale = self.size >> 24
        bit = int(self.offset // scale >= split_point(p))
        first, width = interval(bit, p)
        self.offset, self.size = self.offset - scale * first, scale * width
        if self.size < WORD:
            self.offset, self.size = self.offset << 32 | next(self.words, 0), self.size << 32
        return bit


class Weights:
    """10: a weights file."""

    def __init__(self, data: bytes):
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        self.meta = json.loads(header.pop("__metadata__")["bsqcodec"])
        self.tensors = {}
        for name, entry in header.items():
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            self.tensors[name] = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        self.prior = SimpleNamespace(**self.meta["prior"])
        self.prior.decisions = 6 if self.prior.layout == "levels" else 1
        self.tokenizer = SimpleNamespace(**self.meta["tokenizer"])

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


# --- levels (chapters 6 and 7) -------------------------------------------------------------------


class LevelReader:
    """The levels of one picture after another."""

    def __init__(self, weights: Weights, source: Bits):
        self.config, self.arrays, self.source = weights.prior, weights.part("prior."), source
        self.table = {name: table.astype(int) for name, table in weights.part("table.").items()}

    def picture(self, features: np.ndarray) -> np.ndarray:
        """6.4: int [h, w, C]."""
        h, w, _ = features.shape
        config = self.config
        flow = prior.trunk(features, self.arrays, config, self.table["exp"])
        seen = np.zeros((h + 2, w + 2, config.embed), np.int64)
        levels = np.zeros((h, w, config.channels), np.int64)
        for phase, (down, right) in enumerate(((0, 0), (1, 1), (0, 1), (1, 0))):
            places = [(y, x) for y in range(down, h, 2) for x in range(right, w, 2)]
            mixed = {place: self._mixed(flow, seen, phase, *place) for place in places}
            start = 0
            for end in config.bands:
                sums = {place: prior.token_sums(mixed[place], levels[place], self.arrays, config) for place in places}
                self._band(levels, [(y, x, c) for y, x in places for c in range(start, end)], sums)
                start = end
            for y, x in places:
                symbols = prior.symbols(levels[y, x], config.signed)
                seen[y + 1, x + 1] = prior.shift_round(prior.linear(symbols, self.arrays, "embed"), 7, 0, 127)
        return levels

    def _mixed(self, flow: np.ndarray, seen: np.ndarray, phase: int, y: int, x: int) -> np.ndarray:
        around = [seen[y + dy, x + dx] for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)]
        inputs = np.concatenate([flow[y, x], *around, [64 * (phase == i) for i in range(4)]])
        return prior.shift_round(prior.linear(inputs, self.arrays, "mix"), 7, 0, 127)

    def _band(self, levels: np.ndarray, entries: list[tuple[int, int, int]], sums: dict) -> None:
        """6.3, 6.4: the steps of a band of a phase."""

        def chance(entry: tuple[int, int, int], k: int) -> int:
            total = int(sums[entry[:2]][entry[2], k])
            return int(self.table["logistic"][min(max((total + 8) >> 4, -2047), 2047) + 2047])

        read = self.source.bit
        if self.config.layout == "signs":
            for entry in entries:
                levels[entry] = 1 if read(chance(entry, 0)) else -1
            return
        entries = [entry for entry in entries if not read(chance(entry, 0))]
        positive = [read(chance(entry, 1)) for entry in entries]
        exponent = dict.fromkeys(entries, 0)
        active = entries
        for i in range(1, 12):
            active = [e for e in active if read(chance(e, 1 + i) if i < 4 else int(self.table["exponent"][i - 4]))]
            exponent |= dict.fromkeys(active, i)
        size = {entry: 1 << e for entry, e in exponent.items()}
        for d in range(10, -1, -1):
            for entry, e in exponent.items():
                if e > d:
                    p = chance(entry, 5) if e == 1 else int(self.table["mantissa"][e, d])
                    size[entry] |= read(p) << d
        for entry, sign in zip(entries, positive, strict=True):
            levels[entry] = size[entry] if sign else -size[entry]


def magnitude(n: np.ndarray) -> np.ndarray:
    return np.array([prior.magnitude_symbol(i) for i in range(39)])[np.minimum(np.abs(n), 38)]


def features(
    config: SimpleNamespace, levels: np.ndarray, energy: np.ndarray, quality: int, kind: int, t: int, vectors, change=0
):
    """7.3: int [h, w, F]; vectors int [h, w, 2] or None."""
    h, w, _ = levels.shape
    row, column = np.mgrid[:h, :w]
    flat = [max(0, 17 - abs(quality - 17 * i)) * 64 // 17 for i in range(16)]
    flat += [64 * (kind == i) for i in range(5)] + [64 * (t >= 2 ** (i + 1)) for i in range(4)]
    quadrant = [64 * (2 * (row % 2) + column % 2 == i) * (kind != 4) for i in range(4)]
    motion = np.zeros((h, w, 2), np.int64) if vectors is None else vectors
    apart = np.zeros((h, w), np.int64)
    apart[1:] = np.abs(motion[1:] - motion[:-1]).max(-1)
    apart[:, 1:] = np.maximum(apart[:, 1:], np.abs(motion[:, 1:] - motion[:, :-1]).max(-1))
    parts = [magnitude(levels), 16 * levels[..., : config.signed].clip(-4, 4), energy]
    parts += [np.broadcast_to(np.array(flat), (h, w, 25)), np.stack(quadrant, -1)]
    parts += [
        magnitude(motion),
        magnitude(apart)[..., None],
        np.broadcast_to([min(64, max(0, change)), min(64, max(0, -change))] + 6 * [0], (h, w, 8)),
    ]
    return np.concatenate(parts, -1)  # missing inputs at the end count as zero


# --- pixels (chapter 9) --------------------------------------------------------------------------


def pack(planes: Planes) -> np.ndarray:
    """6.1: [h, w, 96]."""
    parts = []
    for plane, n in zip(planes, SIZES, strict=True):
        h, w = plane.shape[0] // n, plane.shape[1] // n
        parts.append(plane.reshape(h, n, w, n).swapaxes(1, 2).reshape(h, w, n * n))
    return np.concatenate(parts, -1)


def unpack(samples: np.ndarray) -> Planes:
    h, w, _ = samples.shape
    parts = np.split(samples, [64, 80], -1)
    return [part.reshape(h, w, n, n).swapaxes(1, 2).reshape(h * n, w * n) for part, n in zip(parts, SIZES, strict=True)]


def doubled(plane: np.ndarray) -> np.ndarray:
    """9.1, before cropping."""
    for _ in range(2):  # rows, transpose, columns, transpose
        r = [plane[(np.arange(len(plane)) + k).clip(0, len(plane) - 1)] for k in range(-2, 3)]
        even = -3 * r[0] + 29 * r[1] + 111 * r[2] - 9 * r[3]
        odd = -9 * r[1] + 111 * r[2] + 29 * r[3] - 3 * r[4]
        plane = np.stack([even, odd], 1).reshape(-1, plane.shape[1]).T
    return ((plane + 8192) >> 14).clip(0, 255)


class Network:
    """9.4: `decoder.*`, over frames [T, h, w, features]."""

    def __init__(self, weights: Weights):
        self.t = {name: t.astype(np.float64) for name, t in weights.part("tokenizer.decoder.").items()}
        self.heads, self.depth = weights.tokenizer.heads, weights.tokenizer.depth

    def __call__(self, x: np.ndarray, condition: list[float]) -> np.ndarray:
        x = self._linear(x, "embed") + self._linear(np.array(condition), "condition")
        for b in range(self.depth):
            mixed = self._attention(self._linear(x, f"blocks.{b}.qkv"), self.t[f"blocks.{b}.bias"], 4 * (b % 2))
            x = x + self._linear(mixed, f"blocks.{b}.out")
            x = x + self._linear(np.maximum(0, self._linear(x, f"blocks.{b}.up")), f"blocks.{b}.down")
        return self._linear(np.maximum(0, x), "head")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.t[f"{name}.weight"].T + self.t[f"{name}.bias"]

    def _attention(self, qkv: np.ndarray, bias: np.ndarray, s: int) -> np.ndarray:
        frames, h, w, width = qkv.shape
        d = width // 3 // self.heads
        q, k, v = np.moveaxis(qkv.reshape(frames, h, w, 3, self.heads, d), 3, 0)
        out = np.zeros((frames, h, w, self.heads, d))
        for t, row, column, head in np.ndindex(out.shape[:4]):
            rows, columns = ([j for j in range(n) if (j + s) // 8 == (i + s) // 8] for i, n in ((row, h), (column, w)))
            near = np.ix_(range(t + 1), rows, columns, [head])
            away = [(row - r + 7) * 15 + column - c + 7 for r in rows for c in columns] * (t + 1)
            score = k[near].reshape(-1, d) @ q[t, row, column, head] / np.sqrt(d) + bias[head][away]
            e = np.exp(score - score.max())
            out[t, row, column, head] = e @ v[near].reshape(-1, d) / e.sum()
        return out.reshape(frames, h, w, self.heads * d)


def hats(quality: int) -> list[float]:
    return [max(0.0, 1 - abs(quality - 17 * i) / 17) for i in range(16)]


def reconstructed(weights: Weights, planes: Planes, levels: np.ndarray, quality: int, kind: int) -> Planes:
    """9.3: a picture from its prediction and levels."""
    t, step = weights.part("tokenizer."), round(128 * 2 ** (quality / 28)) / 256
    scale = np.array([1.0 if plane == "Y" else np.float32(weights.tokenizer.chroma_step) for plane in CHANNEL_PLANES])
    offset = np.concatenate([np.zeros((96, 1)), t["offset"].astype(np.float64)], 1)
    y = levels + np.sign(levels) * offset[np.arange(96), np.minimum(np.abs(levels), 3)]
    base = pack(planes) + (y * step * scale) @ t["synthesis.weight"].astype(np.float64).T
    means = [part.mean(-1, keepdims=True) for part in np.split(base, [64, 80], -1)]
    patches = []
    for plane, n, m, mean in zip(unpack(base), SIZES, (2, 1, 1), means, strict=True):
        wide = np.pad(plane, m, mode="edge")
        cut = np.lib.stride_tricks.sliding_window_view(wide, (n + 2 * m, n + 2 * m))[::n, ::n]
        patches.append(((cut.reshape(*cut.shape[:2], -1) - mean) / step).clip(-8, 8))
    inputs = np.concatenate([*patches, y.clip(-8, 8), *(mean / 128 - 1 for mean in means)], -1)
    condition = hats(quality) + [float(kind == i) for i in range(5)]
    silent = (y == 0).all(-1, keepdims=True) & (kind == 4)
    return finished(base + step * np.where(silent, 0, Network(weights)(inputs[None], condition)[0]))


def finished(samples: np.ndarray) -> Planes:
    return unpack(np.rint(samples).clip(0, 255).astype(np.int64))


# --- groups (6.2) --------------------------------------------------------------------------------


def decode_group(
    weights: Weights, width: int, height: int, qualities: tuple[int, ...], motion: bytes, tokens: bytes
) -> Iterator[Planes]:
    """The frames of a group, cropped: y, u, v."""
    h, w = -(-height // 8), -(-width // 8)
    decode = _predictive if weights.meta["kind"] == "predictive" else _causal
    for planes in decode(weights, h, w, qualities, motion, tokens):
        chroma = np.s_[: -(-height // 2), : -(-width // 2)]
        yield [planes[0][:height, :width], planes[1][chroma], planes[2][chroma]]


def _predictive(weights: Weights, h: int, w: int, qualities, motion: bytes, tokens: bytes) -> Iterator[Planes]:
    reader = LevelReader(weights, Bits(tokens))
    fields = MotionReader(Bits(motion), weights.part("motion."), h, w)
    planes, grids = [], [(h, w)]
    for _ in range(3):
        grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
    for kind in (3, 2, 1, 0):
        rows, columns = grids[kind]
        if kind == 3:
            planes = [np.full((n * rows, n * columns), 128) for n in SIZES]
            levels = energy = np.zeros((rows, columns, 96), np.int64)
        else:
            planes = [doubled(p)[: n * rows, : n * columns] for p, n in zip(planes, SIZES, strict=True)]
            at = np.ix_(np.arange(rows) // 2, np.arange(columns) // 2)
            levels, energy = levels[at], energy[at]
        known = features(weights.prior, levels, energy, qualities[0], kind, 0, None)
        levels = reader.picture(known)
        energy = (3 * energy + magnitude(levels) + 2) >> 2
        planes = reconstructed(weights, planes, levels, qualities[0], kind)
    yield planes
    row, column = np.mgrid[:h, :w]
    for t, quality in enumerate(qualities[1:], 1):
        vectors, _ = fields.field()
        moves = np.array([[vectors[y, x] for x in range(w)] for y in range(h)])
        planes = [compensated(p, vectors, n) for p, n in zip(planes, SIZES, strict=True)]
        at = (
            ((32 * row + 16 + moves[..., 1]) >> 5).clip(0, h - 1),
            ((32 * column + 16 + moves[..., 0]) >> 5).clip(0, w - 1),
        )
        levels, energy = levels[at], energy[at]
        levels = reader.picture(
            features(weights.prior, levels, energy, quality, 4, t, moves, quality - qualities[t - 1])
        )
        energy = (3 * energy + magnitude(levels) + 2) >> 2
        planes = reconstructed(weights, planes, levels, quality, 4)
        yield planes


def _causal(weights: Weights, h: int, w: int, qualities, motion: bytes, tokens: bytes) -> Iterator[Planes]:
    """6.6, 9.5."""
    reader = LevelReader(weights, Bits(tokens))
    levels = [np.zeros((h, w, weights.prior.channels), np.int64)]
    for t, quality in enumerate(qualities):
        known = features(weights.prior, levels[-1], np.zeros_like(levels[-1]), quality, 4 if t else 0, t, None)
        levels.append(reader.picture(known))
    samples = (Network(weights)(np.stack(levels[1:]).astype(np.float64), hats(qualities[0])) + 1) * 128
    yield from (finished(frame) for frame in samples)
