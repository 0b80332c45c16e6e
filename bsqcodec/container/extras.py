"""The small chunks: `meta` (text), `stat` (what the encoder counted), `indx` and TAIL (where the groups are)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from bsqcodec.container.fields import I64, FieldReader, pack_string, pack_svarint, pack_uint, pack_varint
from bsqcodec.container.types import (
    MAX_CHUNK,
    MAX_GROUP_FRAMES,
    MAX_META,
    MAX_NAME,
    MAX_PLANES,
    MAX_TEXT,
    IndexEntry,
    StreamStats,
)
from bsqcodec.errors import UsageError

TAIL_SIZE = 16  # bytes of payload
_HAS_PSNR = 0x01
_IDENTICAL = 2**32 - 1  # PSNR without any error
_ENTRY_MIN = 3  # bytes of the smallest index entry
_GROUP_MIN = 12  # bytes from one group to the next, at least: the framing


def pack_meta(meta: Mapping[str, str]) -> bytes:
    """Payload of `meta`: pairs of UTF-8 strings."""
    if len(meta) > MAX_META:
        raise UsageError(f"{len(meta)} metadata pairs; the limit is {MAX_META}")
    parts = [pack_varint(len(meta))]
    for key, value in meta.items():
        parts += [pack_string(key, "metadata key"), pack_string(value, f"metadata {key!r}", MAX_TEXT)]
    return b"".join(parts)


def parse_meta(fields: FieldReader) -> dict[str, str]:
    """A `meta` payload; of equal keys the last one holds."""
    count = fields.varint(MAX_META, "number of metadata pairs")
    pairs = [(fields.string("metadata key", MAX_NAME), fields.string("metadata", MAX_TEXT)) for _ in range(count)]
    return dict(pairs)


def pack_stats(stats: StreamStats) -> bytes:
    """Payload of `stat`."""
    if len(stats.token_bits) > MAX_PLANES:
        raise UsageError(f"{len(stats.token_bits)} bit planes in the statistics; the limit is {MAX_PLANES}")
    parts = [bytes([_HAS_PSNR if stats.psnr else 0]), pack_varint(stats.motion_bits)]
    parts.append(pack_varint(len(stats.token_bits)))
    for name, bits in stats.token_bits:
        parts += [pack_string(name, "name of a bit plane"), pack_varint(bits)]
    parts += [pack_uint(_millibel(value), 4, "PSNR in 1/1000 dB") for value in stats.psnr or ()]
    return b"".join(parts)


def _millibel(psnr: float) -> int:
    if not psnr >= 0:
        raise UsageError(f"a PSNR of {psnr} dB cannot be written")
    return _IDENTICAL if math.isinf(psnr) else round(1000 * psnr)


def parse_stats(fields: FieldReader) -> StreamStats:
    """A `stat` payload."""
    flags, motion_bits = fields.uint(1), fields.varint()
    count = fields.varint(MAX_PLANES, "number of bit planes")
    planes = tuple((fields.string("name of a bit plane"), fields.varint()) for _ in range(count))
    if not flags & _HAS_PSNR:
        return StreamStats(motion_bits, planes)
    y, u, v = (math.inf if code == _IDENTICAL else code / 1000 for code in (fields.uint(4) for _ in range(3)))
    return StreamStats(motion_bits, planes, (y, u, v))


def pack_index(entries: Sequence[IndexEntry]) -> bytes:
    """Payload of `indx`: for each group the distance from the one before, its frames and the step of its first pts."""
    parts = [pack_varint(len(entries))]
    before = IndexEntry(0, 0, 0, 0)
    for entry in entries:
        parts += [pack_varint(entry.offset - before.offset), pack_varint(entry.frames)]
        parts.append(pack_svarint(entry.first_pts - before.first_pts))
        before = entry
    return b"".join(parts)


def parse_index(fields: FieldReader) -> list[IndexEntry]:
    """An `indx` payload; first frames follow from the numbers of frames."""
    count = fields.varint(MAX_CHUNK // _ENTRY_MIN, "number of groups")
    if count * _ENTRY_MIN > fields.left:
        raise fields.error(f"{count} groups in {fields.left} bytes; the file is damaged")
    entries = [IndexEntry(0, 0, 0, 0)]
    for _ in range(count):
        last = entries[-1]
        offset = last.offset + fields.varint(I64, "distance between groups")
        frames = fields.varint(MAX_GROUP_FRAMES, "number of frames")
        entries.append(IndexEntry(offset, last.first_frame + last.frames, last.first_pts + fields.svarint(), frames))
    if any(b.offset < a.offset + _GROUP_MIN or not b.frames for a, b in pairwise(entries)):
        raise fields.error("the index is not in order; the file is damaged")
    return entries[1:]


def pack_tail(frames: int, index_offset: int) -> bytes:
    """Payload of TAIL: frames in the file, and where `indx` begins."""
    return pack_uint(frames, 8, "number of frames") + pack_uint(index_offset, 8, "offset of the index")


def parse_tail(fields: FieldReader) -> tuple[int, int]:
    """(frames, offset of `indx`; 0 where there is none)."""
    return fields.uint(8), fields.uint(8)
