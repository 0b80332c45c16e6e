"""Chapter 5 of bitstream_spec.md as a program, block by block in plain integers: vectors out of a stream, compensation.

Slow and obvious on purpose. A field is a dictionary of vectors by sub-block (row, column) and one of split flags by
block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

Vector = tuple[int, int]
Place = tuple[int, int]
Field = tuple[dict[Place, Vector], dict[Place, int]]

LUMA = ((0, 0, 0, 64, 0, 0, 0, 0), (-1, 4, -10, 58, 17, -5, 1, 0), (-1, 4, -11, 40, 40, -11, 4, -1))
LUMA += (LUMA[1][::-1],)
CHROMA = ((0, 64, 0, 0), (-2, 58, 10, -2), (-4, 54, 16, -2), (-6, 46, 28, -4), (-4, 36, 36, -4))
CHROMA += (CHROMA[3][::-1], CHROMA[2][::-1], CHROMA[1][::-1])


class BitSource(Protocol):
    """Reads one bit of a given probability of being 1, in 1/65536ths."""

    def bit(self, p: int) -> int: ...


OVERLAP = {8: ((8,) * 8, (4, 4, 8, 8, 8, 8, 4, 4), (4,) * 8, (4,) * 8), 4: ((6, 8, 8, 6), (4,) * 4)}


def compensated(plane: np.ndarray, vectors: dict[Place, Vector], size: int, overlap: bool = False) -> np.ndarray:
    """5.2: a plane predicted from the decoded one; size: 8 for luma, 4 for chroma."""
    out = np.zeros_like(plane)
    for y, x in np.ndindex(plane.shape):
        place = y // size, x // size
        own = sample(plane, y, x, vectors[place], size)
        out[y, x] = own
        if overlap:
            (i, j), half = (y % size, x % size), size // 2
            above_or_below = place[0] + (-1 if i < half else 1), place[1]
            left_or_right = place[0], place[1] + (-1 if j < half else 1)
            v, u = OVERLAP[size][min(i, size - 1 - i)][j], OVERLAP[size][min(j, size - 1 - j)][i]
            total = 32 * own
            for weight, other in ((v, above_or_below), (u, left_or_right)):
                total += weight * (sample(plane, y, x, vectors.get(other, vectors[place]), size) - own)
            out[y, x] = (total + 16) >> 5
    return out


def sample(plane: np.ndarray, y: int, x: int, vector: Vector, size: int) -> int:
    """One sample predicted along a vector."""
    taps, first = (LUMA, 3) if size == 8 else (CHROMA, 1)
    n, (height, width), (dx, dy) = len(taps), plane.shape, vector
    total = 0
    for i, ty in enumerate(taps[dy % n]):
        for j, tx in enumerate(taps[dx % n]):
            row, column = y + dy // n + i - first, x + dx // n + j - first
            total += ty * tx * int(plane[min(max(row, 0), height - 1), min(max(column, 0), width - 1)])
    return min(max((total + 2048) >> 12, 0), 255)


class MotionReader:
    """The fields of a group, one after another. tables: those of 5.8; h, w: sub-blocks; merge: as in 10.2."""

    def __init__(self, source: BitSource, tables: dict[str, np.ndarray], h: int, w: int, merge: bool = False):
        self.source, self.tables, self.h, self.w, self.merge = source, tables, h, w, merge
        self.h16, self.w16 = -(-h // 2), -(-w // 2)
        self.blocks = [(y, x) for y in range(self.h16) for x in range(self.w16)]
        self.counts = {(name, i): [0, 0] for name, table in tables.items() for i in range(len(table))}
        self.seen: list[tuple[str, int, int]] = []
        self.previous: Field | None = None

    def field(self) -> Field:
        """5.3: base vectors, split flags, sub-block vectors; then 5.8's adaptation."""
        base = self._bases()
        split = self._splits(base)
        vectors = {(y, x): base[y // 2, x // 2] for y in range(self.h) for x in range(self.w)}
        self._sub_blocks(base, split, vectors)
        for name, context, bit in self.seen:
            self.counts[name, context][bit] += 1
        for pair in self.counts.values():
            while sum(pair) > 512:
                pair[0], pair[1] = pair[0] >> 1, pair[1] >> 1
        self.seen = []
        self.previous = vectors, split
        return self.previous

    def decide(self, name: str, context: int) -> int:
        n0, n1 = self.counts[name, context]
        p = int(self.tables[name][context])
        if n0 + n1:
            p = min(max((16 * p + 65536 * n1) // (16 + n0 + n1), 64), 65472)
        bit = self.source.bit(p)
        self.seen.append((name, context, bit))
        return bit

    def _passes(self) -> Iterator[tuple[int, list[Place], list[Place]]]:
        """5.4: kind, blocks, neighbours' offsets."""
        yield 0, [b for b in self.blocks if b[0] % 16 == 0 and b[1] % 16 == 0], []
        for s, kinds in ((8, (1, 1)), (4, (1, 1)), (2, (2, 2)), (1, (3, 4))):
            diagonal = [b for b in self.blocks if b[0] % (2 * s) == s and b[1] % (2 * s) == s]
            yield kinds[0], diagonal, [(-s, -s), (-s, s), (s, -s), (s, s)]
            on = [b for b in self.blocks if b[0] % s == 0 and b[1] % s == 0]
            straight = [b for b in on if (b[0] % (2 * s) == s) != (b[1] % (2 * s) == s)]
            yield kinds[1], straight, [(0, -s), (-s, 0), (0, s), (s, 0)]

    def _bases(self) -> dict[Place, Vector]:
        base: dict[Place, Vector] = {}
        for kind, blocks, offsets in self._passes():
            jobs = []
            for y, x in blocks:
                near = [base[y + dy, x + dx] for dy, dx in offsets if (y + dy, x + dx) in set(self.blocks)]
                before = self.previous[0][2 * y, 2 * x] if self.previous else None
                count = 5 if self.merge else 2
                ranked = _ranked(near + ([before] if before is not None else []), count)
                prediction = ranked[0]
                agree = near.count(prediction)
                apart = [sum(abs(k[i] - prediction[i]) for k in near) for i in (0, 1)]
                spread = sum(sum(apart) >= limit for limit in (1, 5, 17, 65))
                memory = 0 if before is None else 1 if before == prediction else 2
                place = kind * 5 + spread
                contexts = ((kind * 3 + memory) * 5 + agree) * 5 + spread, place, place, 25 + place, 50 + place
                classes = [min(7, d.bit_length()) for d in apart]
                jobs.append((ranked, contexts, classes))
            names = ("same", "alternative", "merge", "merge", "merge")
            base |= zip(blocks, self._vectors(names, jobs), strict=True)
        return base

    def _vectors(self, names: tuple[str, ...], jobs: list) -> list[Vector]:
        """5.5, step by step for all blocks: jobs of (prediction, alternative and merges; contexts; classes)."""
        found: list[Vector | None] = [None] * len(jobs)
        for rank in range(max((len(ranked) for ranked, _, _ in jobs), default=0)):
            for i, (ranked, contexts, _) in enumerate(jobs):
                new = found[i] is None and ranked[rank] not in ranked[:rank]
                if new and self.decide(names[rank], contexts[rank]):
                    found[i] = ranked[rank]
        rest = [i for i, vector in enumerate(found) if vector is None]
        zero_x = {i: self.decide("zero", 2 * jobs[i][2][0]) for i in rest}
        zero_y = {i: 0 if zero_x[i] else self.decide("zero", 2 * jobs[i][2][1] + 1) for i in rest}
        parts = [(i, k) for i in rest for k in (0, 1) if not (zero_x, zero_y)[k][i]]
        classes = [jobs[i][2][k] for i, k in parts]
        negative = []
        for (i, k), c in zip(parts, classes, strict=True):
            prediction, alternative = jobs[i][0][0][k], jobs[i][0][1][k]
            lean = 1 + (alternative > prediction) - (alternative < prediction)
            negative.append(self.decide("sign", ((c // 8) * 2 + k) * 3 + lean))
        sizes = self._magnitudes(classes)
        residual = {i: [0, 0] for i in rest}
        for (i, k), minus, size in zip(parts, negative, sizes, strict=True):
            residual[i][k] = -size if minus else size
        for i in rest:
            x, y = jobs[i][0][0]
            found[i] = (x + residual[i][0], y + residual[i][1])
            if max(map(abs, found[i])) > 511:
                raise ValueError("damaged: a vector is out of range")
        return [vector for vector in found if vector is not None]

    def _magnitudes(self, classes: list[int]) -> list[int]:
        exponents, active = [0] * len(classes), list(range(len(classes)))
        for k in range(9):
            active = [i for i in active if self.decide("exponent", 9 * classes[i] + k)]
            for i in active:
                exponents[i] = k + 1
        sizes = [1 << e for e in exponents]
        for k in range(8, -1, -1):
            for i, e in enumerate(exponents):
                if e > k:
                    sizes[i] |= self.decide("mantissa", 9 * e + k) << k
        return sizes

    def _exists(self, y: int, x: int) -> bool:
        return y < self.h and x < self.w

    def _splits(self, base: dict[Place, Vector]) -> dict[Place, int]:
        """5.6."""
        split: dict[Place, int] = {}
        for phase, parity in enumerate(((0, 0), (1, 1), (0, 1), (1, 0))):
            for y, x in self.blocks:
                single = not self._exists(2 * y + 1, 2 * x) and not self._exists(2 * y, 2 * x + 1)
                if (y % 2, x % 2) != parity or single:
                    continue
                sides = [(y, x - 1), (y - 1, x), (y, x + 1), (y + 1, x)]
                before = self.previous[1].get((y, x), 0) if self.previous else 0
                known = min(2, sum(split.get(side, 0) for side in sides))
                alike = sum(base.get(side) == base[y, x] for side in sides)
                split[y, x] = self.decide("split", ((phase * 2 + before) * 3 + known) * 5 + alike)
        return split

    def _sub_blocks(self, base: dict[Place, Vector], split: dict[Place, int], vectors: dict[Place, Vector]) -> None:
        """5.7."""
        for k, (down, right) in ((1, (0, 1)), (2, (1, 0)), (3, (1, 1))):
            blocks = [b for b in self.blocks if split.get(b) and self._exists(2 * b[0] + down, 2 * b[1] + right)]
            jobs = []
            for y, x in blocks:
                b = base[y, x]
                v1, v2 = vectors.get((2 * y, 2 * x + 1), b), vectors.get((2 * y + 1, 2 * x), b)
                if k == 1:
                    prediction, alternative = b, base.get((y, x + 1), b)
                elif k == 2:
                    below = base.get((y + 1, x), b)
                    prediction, alternative = b, below if below != b else v1
                elif v1 == v2:
                    prediction, alternative = v1, b
                else:
                    prediction, alternative = b, v1 if v1 != b else v2
                left = sum(v != b for v in (v1, v2)[: k - 1])
                contexts = ((k - 1) * 3 + left) * 2 + (alternative != prediction), (k - 1) * 3 + left
                far = [abs(alternative[i] - prediction[i]) for i in (0, 1)]
                jobs.append(([prediction, alternative], contexts, [8 + min(7, d.bit_length()) for d in far]))
            for (y, x), vector in zip(blocks, self._vectors(("sub_same", "sub_alternative"), jobs), strict=True):
                vectors[2 * y + down, 2 * x + right] = vector


def _ranked(candidates: list[Vector], count: int) -> list[Vector]:
    """5.4: prediction, alternative and merges."""

    def score(c: Vector) -> int:
        return sum(abs(c[0] - k[0]) + abs(c[1] - k[1]) for k in candidates)

    found: list[Vector] = []
    for _ in range(count):
        found.append(min((c for c in candidates if c not in found), key=score, default=(0, 0)))
    return found
