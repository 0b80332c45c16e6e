"""A decoder of groups written from chapters 5 to 10 of bitstream_spec.md alone, in numpy and plain Python.

Slow and obvious on purpose; it shares no code with the package. The real arithmetic of causal models is float64.
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
DTYPES = {"F16": "<f2", "I8": "i1", "I16": "<i2", "I32": "<i4", "U16": "<u2"}


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


def rounded(t: np.ndarray, s: int, low: int, high: int) -> np.ndarray:
    """7.1: R."""
    return ((t + (1 << s - 1)) >> s).clip(low, high)


class Correction:
    """9.5: `decoder.*`, over the features of a picture [h, w, 336]."""

    def __init__(self, weights: Weights):
        self.t = {name: t.astype(np.int64) for name, t in weights.part("decoder.").items()}
        self.exp = weights.tensors["table.exp"].astype(np.int64)
        self.heads, self.depth = weights.tokenizer.heads, weights.tokenizer.depth

    def __call__(self, features: np.ndarray) -> np.ndarray:
        x = rounded(self._linear(features, "inlet"), 4, -32767, 32767)
        for b in range(self.depth):
            qkv = self._linear(self._narrow(x), f"blocks.{b}.qkv")
            mixed = self._attention(qkv, self.t[f"blocks.{b}.attention"], 4 * (b % 2))
            x = self._add(x, self._linear(2 * mixed, f"blocks.{b}.out"))
            hidden = rounded(self._linear(self._narrow(x), f"blocks.{b}.up"), 7, 0, 4095)
            x = self._add(x, self._linear(hidden, f"blocks.{b}.down"))
        return self._linear(np.maximum(0, self._narrow(x)), "head")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.t[f"{name}.weight"].T + self.t[f"{name}.bias"]

    def _narrow(self, x: np.ndarray) -> np.ndarray:
        return rounded(x, 3, -4095, 4095)

    def _add(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (x + rounded(t, 4, -32767, 32767)).clip(-32767, 32767)

    def _attention(self, t: np.ndarray, bias: np.ndarray, s: int) -> np.ndarray:
        h, w, width = t.shape
        size = width // 3
        d = size // self.heads
        queries = rounded(t[..., : 2 * size], 10, -127, 127)
        values = rounded(t[..., 2 * size :], 8, -1023, 1023)
        q, k, v = np.moveaxis(np.concatenate([queries, values], -1).reshape(h, w, 3, self.heads, d), 2, 0)
        out = np.zeros((h, w, self.heads, d), np.int64)
        for row, column, head in np.ndindex(out.shape[:3]):
            rows, columns = ([j for j in range(n) if (j + s) // 8 == (i + s) // 8] for i, n in ((row, h), (column, w)))
            near = np.ix_(rows, columns, [head])
            away = [(row - r + 7) * 15 + column - c + 7 for r in rows for c in columns]
            score = k[near].reshape(-1, d) @ q[row, column, head] + bias[head][away]
            e = self.exp[np.minimum((score.max() - score + 64) >> 7, 127)]
            total = int(e.sum())
            out[row, column, head] = (2 * (e @ v[near].reshape(-1, d)) + total) // (2 * total)
        return out.reshape(h, w, size)


class Network:
    """9.6: `tokenizer.decoder.*`, over frames [T, h, w, levels]."""

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


class Phases:
    """9.8: the prediction of first frames in phases."""

    def __init__(self, weights: Weights, q: int):
        self.t = {name: t.astype(np.int64) for name, t in weights.part("decoder.phases.").items()}
        self.step = round(128 * 2 ** (q / 28))
        self.quality = [max(0, 17 - abs(q - 17 * i)) * 512 // 17 for i in range(16)]

    def __call__(self, pixels: Pixels, enlarged: Planes, levels: np.ndarray) -> Planes:
        e = pack(enlarged)
        known, prediction = e.copy(), e.copy()
        for phase, (row, column) in enumerate(prior.PHASES):
            where = np.s_[row::2, column::2]
            v = 16 * self._around(unpack(known))[where] - self._means(e[where])
            steady = rounded(v @ self.t["filters"][phase].T, 14, -32767, 32767)
            change = rounded(self._net(v, phase) * self.step, 18, -32767, 32767)
            prediction[where] = ((16 * e[where] + steady + change + 8) >> 4).clip(0, 255)
            base, _ = pixels.base(prediction[where], levels[where], self.step)
            known[where] = ((base + 8) >> 4).clip(0, 255)
        return unpack(prediction)

    def _around(self, planes: Planes) -> np.ndarray:
        """[h, w, 384]."""
        parts = []
        for plane, n, m in zip(planes, SIZES, (4, 2, 2), strict=True):
            cut = np.lib.stride_tricks.sliding_window_view(np.pad(plane, m, mode="edge"), (n + 2 * m, n + 2 * m))
            cut = cut[::n, ::n]
            parts.append(cut.reshape(*cut.shape[:2], -1))
        return np.concatenate(parts, -1)

    def _means(self, e: np.ndarray) -> np.ndarray:
        y, u, v = (part.sum(-1, keepdims=True) for part in np.split(e, [64, 80], -1))
        return np.repeat(np.concatenate([rounded(y, 2, 0, 32767), u, v], -1), (256, 64, 64), -1)

    def _net(self, v: np.ndarray, phase: int) -> np.ndarray:
        around = rounded(v.clip(-self.step, self.step) * round(2**24 / self.step), 13, -2048, 2048)
        x = np.concatenate([around, np.broadcast_to(self.quality, (*v.shape[:2], 16))], -1)
        for name in ("inlets", "hidden"):
            x = rounded(self._linear(x, f"{name}.{phase}"), 7, 0, 4095)
        return self._linear(x, f"heads.{phase}")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.t[f"{name}.weight"].T + self.t[f"{name}.bias"]


class Pixels:
    """Chapter 9: pictures of a group, one after another."""

    def __init__(self, weights: Weights, source: Bits, h: int, w: int):
        self.t = {name: t.astype(np.int64) for name, t in weights.part("decoder.").items()}
        self.correction, self.source = Correction(weights), source
        self.before = np.zeros((-(-h // 4), -(-w // 4)), int)
        self.ones, self.all = [2] * 6, [8] * 6

    def picture(self, planes: Planes, levels: np.ndarray, quality: int, kind: int) -> Planes:
        """9.3, 9.4: a picture from its prediction and levels."""
        step = round(128 * 2 ** (quality / 28))
        base, y = self.base(pack(planes), levels, step)
        total = self.correction(self._features(base, y, quality, kind))
        corrected = base + rounded(total * step, 18, -32767, 32767)
        silent = (levels == 0).all(-1)
        if kind == 4:
            corrected = np.where((silent & ~self._flags(silent))[..., None], base, corrected)
        return unpack(((corrected + 8) >> 4).clip(0, 255))

    def base(self, prediction: np.ndarray, levels: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """9.3: base and y of tokens predicted as samples [.., 96]."""
        offset = np.concatenate([np.zeros((96, 1), np.int64), self.t["offset"]], 1)
        y = 256 * levels + np.sign(levels) * offset[np.arange(96), np.minimum(np.abs(levels), 3)]
        part = rounded(y @ self.t["synthesis"].T, 12, -(2**35), 2**35)
        return 16 * prediction + rounded(part * step, 16, -32767, 32767), y

    def _features(self, base: np.ndarray, y: np.ndarray, quality: int, kind: int) -> np.ndarray:
        step = round(128 * 2 ** (quality / 28))
        limit, recip = (step + 1) // 2, round(2**24 / step)
        parts = np.split(base, [64, 80], -1)
        means = [rounded(p.sum(-1), s, -32767, 32767)[..., None] for p, s in zip(parts, (6, 4, 4), strict=True)]
        patches = []
        for plane, n, m, mean in zip(unpack(base), SIZES, (2, 1, 1), means, strict=True):
            wide = np.pad(plane, m, mode="edge")
            cut = np.lib.stride_tricks.sliding_window_view(wide, (n + 2 * m, n + 2 * m))[::n, ::n]
            away = (cut.reshape(*cut.shape[:2], -1) - mean).clip(-limit, limit)
            patches.append(rounded(away * recip, 13, -1024, 1024))
        flat = [max(0, 17 - abs(quality - 17 * i)) * 512 // 17 for i in range(16)] + [
            512 * (kind == i) for i in range(5)
        ]
        inputs = [*patches, rounded(y, 1, -1024, 1024), *(rounded(mean - 2048, 1, -1024, 1024) for mean in means)]
        return np.concatenate([*inputs, np.broadcast_to(np.array(flat), (*base.shape[:2], 21))], -1)

    def _flags(self, silent: np.ndarray) -> np.ndarray:
        """6.7: bool [h, w]."""
        h, w = silent.shape
        flags, seen = np.zeros_like(self.before), []
        for r, c in np.ndindex(flags.shape):
            quiet = silent[4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
            coded = quiet.size - quiet.sum()
            if quiet.any():
                context = 3 * self.before[r, c] + (0 if not coded else 1 if 2 * coded < quiet.size else 2)
                flags[r, c] = self.source.bit(65536 * self.ones[context] // self.all[context])
                seen.append((context, flags[r, c]))
        for context, flag in seen:
            self.ones[context] += int(flag)
            self.all[context] += 1
        while max(self.all) >= 128:
            for i, n in enumerate(self.all):
                if n >= 128:
                    self.ones[i], self.all[i] = (self.ones[i] + 1) >> 1, (n >> 1) + 1
        self.before = flags
        return flags.repeat(4, 0).repeat(4, 1)[:h, :w] > 0


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
    source = Bits(tokens)
    reader, pixels = LevelReader(weights, source), Pixels(weights, source, h, w)
    merge = weights.meta["tokenizer"].get("merge", False)
    fields = MotionReader(Bits(motion), weights.part("motion."), h, w, merge)
    overlap = weights.meta["tokenizer"].get("overlap", False)
    planes, grids = [], [(h, w)]
    for _ in range(3):
        grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
    phased = weights.meta["tokenizer"].get("phases", 0) > 0
    for kind in (3, 2, 1, 0):
        rows, columns = grids[kind]
        if kind == 3:
            planes = [np.full((n * rows, n * columns), 128) for n in SIZES]
            levels = energy = np.zeros((rows, columns, 96), np.int64)
        else:
            planes = [doubled(p)[: n * rows, : n * columns] for p, n in zip(planes, SIZES, strict=True)]
            at = np.ix_(np.arange(rows) // 2, np.arange(columns) // 2)
            levels, energy = levels[at], energy[at]
        if phased and kind == 1:
            continue
        known = features(weights.prior, levels, energy, qualities[0], kind, 0, None)
        levels = reader.picture(known)
        energy = (3 * energy + magnitude(levels) + 2) >> 2
        if phased and kind == 0:
            planes = Phases(weights, qualities[0])(pixels, planes, levels)
        planes = pixels.picture(planes, levels, qualities[0], kind)
    yield planes
    row, column = np.mgrid[:h, :w]
    for t, quality in enumerate(qualities[1:], 1):
        vectors, _ = fields.field()
        moves = np.array([[vectors[y, x] for x in range(w)] for y in range(h)])
        planes = [compensated(p, vectors, n, overlap) for p, n in zip(planes, SIZES, strict=True)]
        at = (
            ((32 * row + 16 + moves[..., 1]) >> 5).clip(0, h - 1),
            ((32 * column + 16 + moves[..., 0]) >> 5).clip(0, w - 1),
        )
        levels, energy = levels[at], energy[at]
        levels = reader.picture(
            features(weights.prior, levels, energy, quality, 4, t, moves, quality - qualities[t - 1])
        )
        energy = (3 * energy + magnitude(levels) + 2) >> 2
        planes = pixels.picture(planes, levels, quality, 4)
        yield planes


def _causal(weights: Weights, h: int, w: int, qualities, motion: bytes, tokens: bytes) -> Iterator[Planes]:
    """6.6, 9.6."""
    reader = LevelReader(weights, Bits(tokens))
    levels = [np.zeros((h, w, weights.prior.channels), np.int64)]
    for t, quality in enumerate(qualities):
        known = features(weights.prior, levels[-1], np.zeros_like(levels[-1]), quality, 4 if t else 0, t, None)
        levels.append(reader.picture(known))
    samples = (Network(weights)(np.stack(levels[1:]).astype(np.float64), hats(qualities[0])) + 1) * 128
    yield from (unpack(np.rint(frame).clip(0, 255).astype(np.int64)) for frame in samples)
