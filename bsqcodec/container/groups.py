"""GRUP: one independent group of frames.

A fixed prefix (flags, first frame, frames, words of motion and of tokens, first time stamp) comes first, so that a
file without an index can be scanned by reading a few bytes of each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from bsqcodec.container.fields import I64, FieldReader, pack_svarint, pack_uint, pack_varint
from bsqcodec.container.types import MAX_CHUNK, MAX_GROUP_FRAMES, Group
from bsqcodec.errors import UnsupportedVersionError, UsageError

LISTED_PTS = 0x01
LISTED_DURATIONS = 0x02
LISTED_QUALITIES = 0x04
LISTED_KINDS = 0x08  # reserved for frame kinds; a reader that does not know them must refuse
FRAME_CRCS = 0x10
PREFIX_MAX = 64  # bytes that hold any prefix: 1 + 5 numbers of at most 10


@dataclass(frozen=True)
class GroupPrefix:
    """What a scan needs of a group; motion and tokens in words of 4 bytes."""

    flags: int
    first_frame: int
    frames: int
    motion_words: int
    token_words: int
    first_pts: int

    @property
    def words_size(self) -> int:
        """Bytes of both word strings, which end the payload."""
        return 4 * (self.motion_words + self.token_words)


def pack_group(group: Group) -> bytes:
    """Payload of GRUP; UsageError where the group contradicts itself or the format."""
    _check_group(group)
    steps = [later - earlier for earlier, later in pairwise(group.pts)]
    even_pts, even_durations = _uniform(steps), _uniform(group.durations)
    even_qualities = _uniform(group.qualities[1:])
    flags = LISTED_PTS * (not even_pts) | LISTED_DURATIONS * (not even_durations)
    flags |= LISTED_QUALITIES * (not even_qualities) | FRAME_CRCS * (group.frame_crcs is not None)
    parts = [bytes([flags])]
    parts += map(pack_varint, (group.first_frame, len(group.pts), len(group.motion) // 4, len(group.tokens) // 4))
    parts.append(pack_svarint(group.pts[0]))
    parts += map(pack_svarint, (steps[:1] or [0]) if even_pts else steps)
    parts += map(pack_varint, group.durations[:1] if even_durations else group.durations)
    short = (group.qualities[0], group.qualities[-1])
    parts += [pack_uint(q, 1, "quality index") for q in (short if even_qualities else group.qualities)]
    parts += [pack_uint(crc, 4, "frame CRC") for crc in group.frame_crcs or ()]
    return b"".join([*parts, group.motion, group.tokens])


def _uniform(values: Sequence[int]) -> bool:
    return len(set(values)) <= 1


def _check_group(group: Group) -> None:
    frames = len(group.pts)
    where = f"group at frame {group.first_frame}"
    if not 1 <= frames <= MAX_GROUP_FRAMES:
        raise UsageError(f"{where}: {frames} frames; a group has 1..{MAX_GROUP_FRAMES}")
    if len(group.durations) != frames or len(group.qualities) != frames:
        raise UsageError(f"{where}: every frame needs a time stamp, a duration and a quality index")
    if group.frame_crcs is not None and len(group.frame_crcs) != frames:
        raise UsageError(f"{where}: {len(group.frame_crcs)} CRCs for {frames} frames")
    if len(group.motion) % 4 or len(group.tokens) % 4:
        raise UsageError(f"{where}: motion and tokens must be whole 32-bit words")


def parse_prefix(fields: FieldReader) -> GroupPrefix:
    """The first fields of a GRUP payload; works on its first `PREFIX_MAX` bytes."""
    flags = fields.uint(1)
    if flags & LISTED_KINDS:
        raise UnsupportedVersionError(str(fields.error("frame kinds are unknown to this program; update it")))
    first_frame = fields.varint(I64, "index of the first frame")
    frames = fields.varint(MAX_GROUP_FRAMES, "number of frames")
    if not frames:
        raise fields.error("a group without frames; the file is damaged")
    motion, tokens = (fields.varint(MAX_CHUNK // 4, f"number of {what} words") for what in ("motion", "token"))
    return GroupPrefix(flags, first_frame, frames, motion, tokens, fields.svarint())


def parse_times(fields: FieldReader, prefix: GroupPrefix) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Time stamps and durations of all frames, in ticks; they follow the prefix."""
    count = prefix.frames
    if prefix.flags & LISTED_PTS:
        pts = tuple(accumulate((fields.svarint() for _ in range(count - 1)), initial=prefix.first_pts))
    else:
        step = fields.svarint()
        pts = tuple(prefix.first_pts + step * i for i in range(count))
    if max(pts) > I64 or min(pts) < -I64 - 1:
        raise fields.error("time stamps beyond 64 bits; the file is damaged")
    if prefix.flags & LISTED_DURATIONS:
        return pts, tuple(fields.varint(I64, "duration") for _ in range(count))
    return pts, (fields.varint(I64, "duration"),) * count


def parse_group(fields: FieldReader) -> Group:
    """A whole GRUP payload; bytes after the last field belong to later minor versions and are ignored."""
    prefix = parse_prefix(fields)
    pts, durations = parse_times(fields, prefix)
    if prefix.flags & LISTED_QUALITIES:
        qualities = tuple(fields.take(prefix.frames))
    else:
        first, others = fields.take(2)
        qualities = (first,) + (others,) * (prefix.frames - 1)
    crcs = None
    if prefix.flags & FRAME_CRCS:
        data = fields.take(4 * prefix.frames)
        crcs = tuple(int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4))
    motion, tokens = fields.take(4 * prefix.motion_words), fields.take(4 * prefix.token_words)
    return Group(prefix.first_frame, pts, durations, qualities, motion, tokens, crcs)
