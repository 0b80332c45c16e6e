"""Reading a damaged file: what is whole comes out, what is lost is told.

Where a chunk is damaged, the next one is looked for: first where the damaged one's length says, then by its type and
CRC, byte by byte. A CRC decides what is whole, so nothing damaged is ever handed out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bsqcodec.container.chunks import ChunkHead, ChunkSource
from bsqcodec.container.extras import parse_index, parse_tail
from bsqcodec.container.fields import I64, FieldReader
from bsqcodec.container.groups import parse_group, parse_prefix
from bsqcodec.container.header import parse_track
from bsqcodec.container.holes import Gap, Hole
from bsqcodec.container.packets import parse_packets
from bsqcodec.container.reader import KNOWN, check_frames, payload_fields, read_entry, read_front, refuse_misplaced
from bsqcodec.container.types import MAX_PIXELS, MAX_TRACKS, Group, IndexEntry
from bsqcodec.errors import BitstreamError, LimitError, UsageError
from bsqcodec.frames import Track, TrackPacket

_TYPES = re.compile(b"|".join(sorted(KNOWN - {b"HEAD"})))
_WINDOW = 2**20  # bytes searched at once
_FRONT = (b"trak", b"meta")
# Bytes whose CRC may be computed while searching, as a multiple of the file: without a bound a file full of chunk
# types would be read once for each of them.
_SEARCH_FACTOR, _SEARCH_FLOOR = 8, 2**24

Item = Group | list[TrackPacket] | Gap


@dataclass(frozen=True)
class Loss:
    """A stretch of the file that could not be used, and what that costs.

    offset, size: bytes of the file (size 0: something is missing here); first_frame, frames: of the video that are
    lost with it (frames 0: none, or none that is known of); message: one line.
    """

    offset: int
    size: int
    first_frame: int
    frames: int
    message: str


class SalvageReader:
    """As `StreamReader`, for a file that may be damaged behind its header; iterating never ends in BitstreamError.

    Iterating yields groups and packet batches in file order, and a `Gap` where frames are lost. When it has ended,
    `losses` says what was lost, and `complete` whether the end of the file was there. `tracks` are those that are
    whole; packets are renumbered to match.
    file: open for binary reading, at the first byte of the stream, must be able to seek (else UsageError).
    max_pixels, max_frames: as for `StreamReader`.
    Raises BitstreamError for a damaged header and beyond the limits, UnsupportedVersionError for a newer format.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        max_pixels: int = MAX_PIXELS,
        max_frames: int | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or str(getattr(file, "name", "stream"))
        self._source = ChunkSource(file, self.name)
        if self._source.size is None:
            raise UsageError(f"{self.name}: repairing needs a file that can seek, not a pipe")
        self._size = self._source.size
        self._begin()
        self._max_frames = max_frames
        self.version, self.header = read_front(self._source, max_pixels)
        self._body = self._source.offset
        self._numbers: dict[int, int] = {}  # a track's number in the file -> its place in `tracks`
        self._track_limit = 0  # numbers that packets may have
        self.tracks = tuple(self._read_tracks())

    def __iter__(self) -> Iterator[Item]:
        return (item for _, item in self.placed())

    def segments(self) -> list[IndexEntry | Gap]:
        """The video without its data: where each group is, and what lies between them, in order."""
        return [
            IndexEntry(offset, item.first_frame, item.pts[0], len(item.pts)) if isinstance(item, Group) else item
            for offset, item in self.placed()
            if isinstance(item, Group | Gap)
        ]

    def read_group(self, entry: IndexEntry) -> Group:
        """The group of an entry of `segments`."""
        return read_entry(self._source, entry, self.header.keyint)

    def placed(self) -> Iterator[tuple[int, Item]]:
        """The items, each with the byte offset of its chunk (of a gap: where it was noticed)."""
        self._begin()
        source = ChunkSource(self._source.file, self.name, self._body, self._source.base)
        hole, promised, has_tail = Hole(self.header), None, False
        for head, fields in self._whole_chunks(source, hole):
            try:
                if head.kind == b"TAIL":
                    promised, has_tail = parse_tail(fields)[0], True
                    break
                if head.kind == b"indx":
                    promised = sum(entry.frames for entry in parse_index(fields))
                yield from self._items(source, head, fields, hole)
            except LimitError:
                raise
            except BitstreamError as error:  # the CRC is right and the content is not
                self._lose(head.offset, head.size, str(error), hole if head.kind == b"GRUP" else None)
        yield from self._end(source.offset, has_tail or self._tail_damaged, promised, hole)

    def _begin(self) -> None:
        self.losses: list[Loss] = []
        self.complete = self._tail_damaged = False
        self._budget = _SEARCH_FACTOR * self._size + _SEARCH_FLOOR  # bytes of search left

    def _whole_chunks(self, source: ChunkSource, hole: Hole) -> Iterator[tuple[ChunkHead, FieldReader]]:
        """The chunks whose CRC is right; damage between them is recorded."""
        while True:
            start = source.offset
            try:
                chunk = self._next(source)
            except BitstreamError as error:
                self._skip_damage(source, start, error, hole)
                continue
            if chunk is None:
                return
            yield chunk

    def _next(self, source: ChunkSource) -> tuple[ChunkHead, FieldReader] | None:
        head = source.begin()
        return None if head is None else (head, payload_fields(source, head))

    def _items(
        self, source: ChunkSource, head: ChunkHead, fields: FieldReader, hole: Hole
    ) -> Iterator[tuple[int, Item]]:
        if head.kind == b"GRUP":
            yield from self._group(head, fields, hole)
        elif head.kind == b"pckt":
            yield head.offset, self._packets(fields)
        elif head.kind not in _FRONT:
            refuse_misplaced(source, head)

    def _group(self, head: ChunkHead, fields: FieldReader, hole: Hole) -> Iterator[tuple[int, Item]]:
        prefix = parse_prefix(FieldReader(fields.data, head.payload_offset, self.name, "GRUP chunk"))
        if prefix.first_frame < hole.next_frame:
            raise fields.error(f"begins at frame {prefix.first_frame}, {hole.next_frame} expected; out of place")
        if prefix.frames > self.header.keyint:
            raise fields.error(f"longer than the {self.header.keyint} frames the header allows")
        if prefix.first_frame + prefix.frames > I64:
            raise fields.error(f"begins at frame {prefix.first_frame}, beyond the format's limit; the file is damaged")
        check_frames(prefix.first_frame + prefix.frames, self._max_frames, f"{self.name}: byte {head.offset}")
        group = parse_group(fields)
        if gap := hole.before(group.first_frame, group.pts[0]):
            self._settle(gap, hole, head.offset)
            yield head.offset, gap
        elif hole.region is not None:
            self._settle(None, hole, head.offset)
        hole.passed(group)
        yield head.offset, group

    def _packets(self, fields: FieldReader) -> list[TrackPacket]:
        packets = parse_packets(fields, self._track_limit)
        if len(self.tracks) == self._track_limit:
            return packets
        return [
            TrackPacket(self._numbers[p.track], p.data, p.pts, p.dts, p.duration, p.keyframe)
            for p in packets
            if p.track in self._numbers
        ]

    def _end(self, offset: int, has_tail: bool, promised: int | None, hole: Hole) -> Iterator[tuple[int, Item]]:
        """What is missing behind the last group, as far as tail or index tell."""
        self.complete = has_tail
        at, found = f"{self.name}: byte {offset}", hole.next_frame
        total = found if promised is None or promised > I64 else promised
        check_frames(total, self._max_frames, at)
        gap = hole.before(total, None)
        if not has_tail:
            known = f"cut short after {found} frames, how many followed is not known"
            hole.note(offset, at, known if promised is None else "the end of the file is missing")
        elif promised is not None and not found <= promised <= I64:
            hole.note(offset, at, f"{promised} frames expected, {found} found; the file is damaged")
        if gap is not None or hole.region is not None:
            self._settle(gap, hole, offset)
        if gap is not None:
            yield offset, gap

    def _settle(self, gap: Gap | None, hole: Hole, offset: int) -> None:
        """Record what is lost between two groups, once it is known."""
        region, hole.region = hole.region, None
        frames = 0 if gap is None else gap.frames
        first = hole.next_frame
        if region is None:
            message = f"{self.name}: byte {offset}: frames {first}-{first + frames - 1} are missing before this"
            region = (offset, 0, message)
        self.losses.append(Loss(region[0], region[1], first, frames, region[2]))

    def _lose(self, offset: int, size: int, message: str, hole: Hole | None) -> None:
        """Note a stretch that is lost; with `hole`, frames may have been in it."""
        if hole is None:
            self.losses.append(Loss(offset, size, 0, 0, message))
        else:
            hole.widen(offset, size, message)

    def _skip_damage(self, source: ChunkSource, start: int, error: BitstreamError, hole: Hole | None) -> None:
        """Move the source behind the damage that begins at `start` and record it."""
        head = self._head_at(start)
        source.offset = where = self._behind(start, head)
        kind = head.kind if head is not None and head.kind in KNOWN and start + head.size == where else None
        self._tail_damaged |= kind == b"TAIL"
        if hole is not None and head is not None and head.kind == b"GRUP":
            hole.remember_times(self._payload_at(head, where), head)
        # a chunk of whose type and length there is no doubt, and which is no group, had no frames in it
        self._lose(start, where - start, str(error), hole if kind in (None, b"GRUP") else None)

    def _head_at(self, offset: int) -> ChunkHead | None:
        try:
            return ChunkSource(self._source.file, self.name, offset, self._source.base).begin()
        except BitstreamError:
            return None

    def _payload_at(self, head: ChunkHead, end: int) -> bytes:
        """The first bytes of a damaged payload."""
        source = ChunkSource(self._source.file, self.name, head.payload_offset, self._source.base)
        source.align()
        return source.file.read(max(min(end - head.payload_offset, _WINDOW), 0))

    def _behind(self, start: int, head: ChunkHead | None) -> int:
        """Offset of the next whole chunk behind the damage at `start`; the file's size where there is none."""
        if head is not None:
            end = start + head.size
            if end == self._size or (end < self._size and self._is_whole(end)):
                return end
        for offset in self._places(start + 1):
            if self._is_whole(offset):
                return offset
            if self._budget <= 0:
                break
        return self._size

    def _places(self, offset: int) -> Iterator[int]:
        """Offsets of all that looks like the type of a chunk, from `offset` on."""
        source = ChunkSource(self._source.file, self.name, offset, self._source.base)
        while offset < self._size:
            source.offset = offset
            source.align()
            window = source.file.read(_WINDOW)
            yield from (offset + match.start() for match in _TYPES.finditer(window))
            if len(window) < _WINDOW:
                return
            offset += _WINDOW - 3  # a type may lie across the border

    def _is_whole(self, offset: int) -> bool:
        """Whether a chunk with a right CRC begins at `offset`."""
        source = ChunkSource(self._source.file, self.name, offset, self._source.base)
        try:
            head = source.begin()
            if head is None or offset + head.size > self._size:
                return False
            self._budget -= head.size
            if self._budget <= 0:
                return False
            source.end()
        except BitstreamError:
            return False
        return True

    def _read_tracks(self) -> Iterator[Track]:
        """The tracks in front of the first group that are whole; a damaged one keeps its number."""
        source, number, certain = self._source, 0, True
        while True:
            start = source.offset
            try:
                chunk = self._next(source)
                if chunk is None or chunk[0].kind in (b"GRUP", b"pckt", b"TAIL"):
                    break
                if chunk[0].kind == b"trak":
                    number += 1
                    track = parse_track(chunk[1])
                    if certain and number <= MAX_TRACKS:
                        self._numbers[number - 1] = len(self._numbers)
                        yield track
                else:
                    refuse_misplaced(source, chunk[0])
            except BitstreamError as error:
                head = self._head_at(start)
                self._skip_damage(source, start, error, None)
                if head is None or head.kind == b"trak" or head.kind not in KNOWN or start + head.size != source.offset:
                    # it may have been a track, or several: then nobody knows the numbers of those behind it
                    number += 1
                    certain &= head is not None and head.kind == b"trak" and start + head.size == source.offset
        self._track_limit = number if len(self._numbers) == number else MAX_TRACKS
