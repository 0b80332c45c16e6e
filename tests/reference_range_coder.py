"""Chapter 8 of bitstream_spec.md in plain integers: a range coder for bits, encoder and decoder.

Slow and obvious on purpose: it is what the fast coder is compared with, and what a port can start from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MASK = 2**64 - 1
WORD = 2**32


def split_point(p: int) -> int:
    """24-bit cumulative at which bit 1 begins; bit 0 is below. 1 <= p <= 65535 means p(1) = p / 65536."""
    return 256 * (65536 - p) - (1 if p < 32768 else 0)


def interval(bit: int, p: int) -> tuple[int, int]:
    """(first cumulative, width) of a bit in 2**24."""
    split = split_point(p)
    return (split, 2**24 - split) if bit else (0, split)


def encode(bits: Iterable[int], probabilities: Iterable[int]) -> list[int]:
    """32-bit words of the bits."""
    words: list[int] = []
    lower, size, pending = 0, MASK, 0  # pending: words held back because a carry may still change them
    held = 0

    def release(carry: bool) -> None:
        words.append((held + carry) % WORD)
        words.extend([0 if carry else WORD - 1] * (pending - 1))

    for bit, p in zip(bits, probabilities, strict=True):
        first, width = interval(bit, p)
        scale = size >> 24
        before, lower, size = lower, (lower + scale * first) & MASK, scale * width
        if pending and lower + size <= MASK:
            release(lower < before)
            pending = 0
        if size < WORD:
            top, lower, size = lower >> 32, (lower << 32) & MASK, size << 32
            if pending:
                pending += 1
            elif lower + size <= MASK:
                words.append(top)
            else:
                held, pending = top, 1
    if size == MASK:  # nothing was encoded
        return []
    point = (lower + WORD - 1) & MASK
    if pending:
        release(point < lower)
    words.append(point >> 32)
    if ((lower + size) & MASK) >> 32 == point >> 32:
        words.append(0)
    return words


def decode(words: Sequence[int], probabilities: Iterable[int]) -> list[int]:
    """The bits; ValueError where no encoder can have written the words."""
    source = iter(words)
    point = next(source, 0) << 32
    point |= next(source, 0)
    offset, size = point, MASK  # offset: point - lower
    bits = []
    for p in probabilities:
        scale = size >> 24
        if offset // scale >= 2**24:
            raise ValueError("no encoder wrote these words")
        bit = int(offset // scale >= split_point(p))
        first, width = interval(bit, p)
        offset, size = offset - scale * first, scale * width
        if size < WORD:
            offset, size = offset << 32 | next(source, 0), size << 32
        bits.append(bit)
    return bits
