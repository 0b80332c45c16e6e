"""Ways to damage or forge a .bsq file, each decided by a random generator alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from bsqcodec.container.chunks import PREAMBLE, pack_chunk
from bsqcodec.container.fields import pack_svarint, pack_varint
from bsqcodec.container.reader import KNOWN

# Numbers that are at home at borders: of bytes, words, LEB128 and limits.
EXTREMES = (0, 1, 2, 127, 128, 255, 256, 2**14, 2**16 - 1, 2**16, 2**24, 2**28, 2**30, 2**31, 2**32 - 1, 2**63 - 1)
LONGEST = 4096  # bytes that one insertion adds


@dataclass(frozen=True)
class Chunk:
    """A chunk without its framing."""

    kind: bytes
    payload: bytes

    def packed(self) -> bytes:
        return pack_chunk(self.kind, self.payload)


def chunks_of(data: bytes) -> list[Chunk]:
    """The chunks of an undamaged file."""
    found, offset = [], len(PREAMBLE)
    while offset + 12 <= len(data):
        length = int.from_bytes(data[offset + 4 : offset + 8], "little")
        found.append(Chunk(data[offset : offset + 4], data[offset + 8 : offset + 8 + length]))
        offset += length + 12
    return found


def joined(chunks: Sequence[Chunk]) -> bytes:
    """The file of these chunks, all CRCs right."""
    return PREAMBLE + b"".join(chunk.packed() for chunk in chunks)


def flip_bits(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 40))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def set_bytes(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        at, run = rng.randrange(len(out)), rng.choice((1, 1, 4, 64))
        out[at : at + run] = _filling(rng, len(out[at : at + run]))
    return bytes(out)


def insert_or_delete(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    at, run = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 12, 100, LONGEST))
    if rng.random() < 0.5:
        return data[:at] + data[at + run :]
    return data[:at] + _filling(rng, run) + data[at:]


def cut(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    return data[: rng.randrange(len(data))]


def wrong_length(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    """A chunk's length is another, with the CRC over what that length covers."""
    chunks = chunks_of(data)
    number = rng.randrange(len(chunks))
    before = joined(chunks[:number])
    rest = b"".join(chunk.packed() for chunk in chunks[number:])
    length = max(0, rng.choice((len(chunks[number].payload) + rng.randint(-20, 20), rng.choice(EXTREMES))))
    body = rest[:4] + (length & 0xFFFFFFFF).to_bytes(4, "little") + rest[8 : 8 + length]
    return before + body + zlib.crc32(body).to_bytes(4, "little") + rest[8 + length + 4 :]


def forge_payload(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    """Bytes of a payload are others, and the CRC is right; mostly its first fields."""
    chunks = chunks_of(data)
    number = rng.randrange(len(chunks))
    payload = bytearray(chunks[number].payload)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        reach = len(payload) if rng.random() < 0.3 else min(len(payload), 24)
        at = rng.randrange(reach + 1)
        way = rng.random()
        if way < 0.4 and at < len(payload):
            payload[at] ^= 1 << rng.randrange(8)
        elif way < 0.7:
            payload[at : at + rng.choice((0, 1, 2, 4))] = _number(rng)
        else:
            payload[at : at + rng.choice((0, 1, 4, 16))] = _filling(rng, rng.choice((0, 1, 4, 16)))
    chunks[number] = Chunk(chunks[number].kind, bytes(payload))
    return joined(chunks)


def forge_words(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    """The coded words of a group are others, and the CRC is right: the decoder has to read them."""
    chunks = chunks_of(data)
    groups = [number for number, chunk in enumerate(chunks) if chunk.kind == b"GRUP" and len(chunk.payload) > 1]
    if not groups:
        return flip_bits(data, (), rng)
    number = rng.choice(groups)
    payload = bytearray(chunks[number].payload)
    for _ in range(rng.choice((1, 4, 32))):
        at = rng.randrange(min(12, len(payload) - 1), len(payload))
        payload[at] = rng.randrange(256)
    chunks[number] = Chunk(b"GRUP", bytes(payload))
    return joined(chunks)


def splice(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Chunks of this and of other files, repeated, left out or in another order, CRCs right."""
    chunks = chunks_of(data)
    foreign = chunks_of(rng.choice(others)) if others else chunks
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(1, len(chunks)) if len(chunks) > 1 else 0
        way = rng.random()
        if way < 0.4:
            chunks.insert(at, rng.choice(foreign))
        elif way < 0.6:
            chunks.insert(at, rng.choice(chunks))
        elif way < 0.8 and len(chunks) > 1:
            del chunks[at]
        else:
            other = rng.randrange(len(chunks))
            chunks[at], chunks[other] = chunks[other], chunks[at]
    return joined(chunks)


def strange_chunk(data: bytes, _others: Sequence[bytes], rng: Random) -> bytes:
    """A chunk of an unknown type, or one of a known type with a payload of its own."""
    chunks = chunks_of(data)
    kind = rng.choice((b"zzzz", b"ZZZZ", b"xabc", *sorted(KNOWN)))
    payload = b"".join(_number(rng) for _ in range(rng.randrange(8))) + _filling(rng, rng.choice((0, 3, 40)))
    chunks.insert(rng.randrange(len(chunks) + 1), Chunk(kind, payload))
    return joined(chunks)


MUTATIONS: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    flip_bits,
    set_bytes,
    insert_or_delete,
    cut,
    wrong_length,
    *(forge_payload,) * 3,  # what gets past the CRCs reaches most of the code
    *(forge_words,) * 3,
    splice,
    strange_chunk,
)


def mutated(seeds: Sequence[bytes], rng: Random) -> tuple[int, str, bytes]:
    """A damaged or forged copy of one of the seeds: which, the names of what was done to it, and the file."""
    number, names = rng.randrange(len(seeds)), []
    data = seeds[number]
    for _ in range(rng.choice((1, 1, 1, 2))):
        # the later ones take files apart, which needs one that is whole
        whole = len(data) > len(PREAMBLE) and joined(chunks_of(data)) == data
        mutation = rng.choice(MUTATIONS if whole else MUTATIONS[:4])
        if data:
            data = mutation(data, seeds, rng)
        names.append(mutation.__name__)
    return number, "+".join(names), data


def _number(rng: Random) -> bytes:
    value = rng.choice(EXTREMES)
    return rng.choice(
        (
            pack_varint(value),
            pack_svarint(rng.choice((value, -value))),
            (value & 0xFFFF).to_bytes(2, "little"),
            (value & 0xFFFFFFFF).to_bytes(4, "little"),
            b"\xff" * 10,
            b"\x80" * 9 + b"\x01",
        )
    )


def _filling(rng: Random, size: int) -> bytes:
    return rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))
