"""Reading a `.bsq` file: front to back, also from a pipe, or by the index where the file can seek."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from bsqcodec.container.chunks import FRAMING, ChunkHead, ChunkSource, is_critical
from bsqcodec.container.extras import TAIL_SIZE, parse_index, parse_meta, parse_stats, parse_tail
from bsqcodec.container.fields import FieldReader
from bsqcodec.container.groups import PREFIX_MAX, GroupPrefix, parse_group, parse_prefix
from bsqcodec.container.header import parse_header, parse_track
from bsqcodec.container.packets import parse_packets
from bsqcodec.container.types import MAX_PIXELS, MAX_TRACKS, Group, IndexEntry, StreamHeader, StreamStats
from bsqcodec.errors import BitstreamError, LimitError, TruncatedError, UnsupportedVersionError, UsageError
from bsqcodec.frames import Track, TrackPacket

KNOWN = frozenset({b"HEAD", b"GRUP", b"TAIL", b"trak", b"pckt", b"meta", b"stat", b"indx"})


class StreamReader:
    """Header and tracks at once; iterating yields groups and packet batches in file order.

    file: open for binary reading, at the first byte of the stream; name: for messages.
    max_pixels: limit of width * height, so that a forged header cannot ask for all memory; max_frames: limit of the
    frames in the file, None = none. LimitError beyond them.
    A file that was cut short yields its whole groups first, then raises TruncatedError. A pipe can be iterated once.
    `meta` grows, and `stats` appears, as iteration passes them. `complete`: `index` found the end of the file.
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
        self._max_frames = max_frames
        self.complete = False
        self._source = ChunkSource(file, self.name)
        self.version, self.header = read_front(self._source, max_pixels)
        self.meta: dict[str, str] = {}
        self.stats: StreamStats | None = None
        tracks: list[Track] = []
        self._body = self._source.offset
        self._pending = self._source.begin()
        while self._pending is not None and _is_front(self._pending):
            self._take_front(self._pending, tracks)
            self._body = self._source.offset
            self._pending = self._source.begin()
        self.tracks = tuple(tracks)

    def _take_front(self, head: ChunkHead, tracks: list[Track]) -> None:
        if head.kind == b"trak":
            if len(tracks) == MAX_TRACKS:
                raise self._source.damaged(head.offset, "", f"more than {MAX_TRACKS} tracks; the file is damaged")
            tracks.append(parse_track(payload_fields(self._source, head)))
        elif head.kind == b"meta":
            self.meta.update(parse_meta(payload_fields(self._source, head)))
        else:
            self._source.end()

    def __iter__(self) -> Iterator[Group | list[TrackPacket]]:
        source, head = self._source, self._pending
        if source.seekable:
            source = ChunkSource(source.file, self.name, self._body, source.base)
            head = source.begin()
        return self._walk(source, head, 0, 0)

    def iterate_from(self, entries: Sequence[IndexEntry], number: int) -> Iterator[Group | list[TrackPacket]]:
        """What iterating yields, from group `number` of `entries` (those of `index`) on; nothing before it is read.

        The packets that play with a group are stored before it, so they belong to the step from the group before.
        """
        entry = entries[number]
        source = ChunkSource(self._source.file, self.name, entry.offset, self._source.base)
        return self._walk(source, source.begin(), number, entry.first_frame)

    def _walk(
        self, source: ChunkSource, head: ChunkHead | None, groups: int, frames: int
    ) -> Iterator[Group | list[TrackPacket]]:
        while head is not None and head.kind != b"TAIL":
            item = self._item(source, head, groups, frames)
            if isinstance(item, Group):
                groups, frames = groups + 1, frames + len(item.pts)
                check_frames(frames, self._max_frames, f"{self.name}: byte {head.offset}")
            if item is not None:
                yield item
            head = source.begin()
        if head is None:
            raise TruncatedError(f"{self.name}: byte {source.offset}: the file is cut short here, after frame {frames}")
        check_tail(source, head, frames)

    def _item(self, source: ChunkSource, head: ChunkHead, groups: int, frames: int) -> Group | list[TrackPacket] | None:
        if head.kind == b"GRUP":
            return read_group_chunk(source, head, groups, frames, self.header.keyint)
        if head.kind == b"pckt":
            return parse_packets(payload_fields(source, head), len(self.tracks))
        refuse_misplaced(source, head)
        if head.kind == b"meta":
            self.meta.update(parse_meta(payload_fields(source, head)))
        elif head.kind == b"stat":
            self.stats = parse_stats(payload_fields(source, head))
        else:
            source.end()
        return None

    def index(self) -> list[IndexEntry]:
        """Where every group is: by the index, or by walking the file where there is none (or a damaged one).

        Needs a file that can seek, else UsageError. A group that was cut short is left out.
        """
        if not self._source.seekable:
            raise UsageError(f"{self.name}: an index needs a file that can seek, not a pipe")
        try:
            stored = self._stored_index()
        except BitstreamError:
            stored = None
        self.complete = stored is not None
        return stored or self._walked_index()

    def read_group(self, entry: IndexEntry) -> Group:
        """The group of an entry of `index`."""
        return read_entry(self._source, entry, self.header.keyint)

    def _stored_index(self) -> list[IndexEntry] | None:
        size = self._source.size or 0
        source = ChunkSource(self._source.file, self.name, max(size - TAIL_SIZE - FRAMING, 0), self._source.base)
        head = source.begin()
        if head is None or head.kind != b"TAIL" or head.length != TAIL_SIZE:
            return None
        frames, offset = parse_tail(payload_fields(source, head))
        if not 0 < offset < size:
            return None
        source.offset = offset
        head = source.begin()
        if head is None or head.kind != b"indx":
            return None
        entries = parse_index(payload_fields(source, head))
        if entries and entries[-1].offset >= offset:  # groups come before the index; nor can a file seek just anywhere
            return None
        return entries if sum(entry.frames for entry in entries) == frames else None

    def _walked_index(self) -> list[IndexEntry]:
        entries: list[IndexEntry] = []
        source = ChunkSource(self._source.file, self.name, self._body, self._source.base)
        frames = 0
        try:
            while (head := source.begin()) is not None and head.kind != b"TAIL":
                if head.kind == b"GRUP":
                    prefix = read_prefix(source, head, len(entries))[0]
                    check_order(source, head, prefix, frames, self.header.keyint, group_name(len(entries), prefix))
                source.end(check=False)
                if head.kind == b"GRUP":
                    entries.append(IndexEntry(head.offset, frames, prefix.first_pts, prefix.frames))
                    frames += prefix.frames
            if head is not None:
                check_tail(source, head, frames)
                self.complete = True
        except BitstreamError:
            pass  # what is whole up to here can be read
        return entries


def read_front(source: ChunkSource, max_pixels: int) -> tuple[tuple[int, int], StreamHeader]:
    """Signature, version and HEAD, which every file begins with."""
    version = source.preamble()
    head = source.begin()
    if head is None:
        raise TruncatedError(f"{source.name}: byte {source.offset}: the file ends before its header")
    if head.kind != b"HEAD":
        raise source.damaged(head.offset, "", "a HEAD chunk must come first; the file is damaged")
    return version, parse_header(payload_fields(source, head), max_pixels)


def payload_fields(source: ChunkSource, head: ChunkHead) -> FieldReader:
    """The whole payload, its CRC checked, ready for parsing."""
    return FieldReader(source.payload(), head.payload_offset, source.name, f"{head.kind.decode()} chunk")


def refuse_misplaced(source: ChunkSource, head: ChunkHead) -> None:
    """Raise for a chunk that may not stand after the first group, or that this program must know and does not."""
    if head.kind not in KNOWN and is_critical(head.kind):
        kind = head.kind.decode()
        raise UnsupportedVersionError(
            f"{source.name}: byte {head.offset}: critical chunk {kind} is unknown to this program; update it"
        )
    if head.kind in (b"HEAD", b"trak"):
        raise source.damaged(head.offset, "", "out of place; the file is damaged")


def check_tail(source: ChunkSource, head: ChunkHead, frames: int) -> None:
    """Compare TAIL's number of frames with what was read."""
    total, _ = parse_tail(payload_fields(source, head))
    if total != frames:
        raise source.damaged(head.offset, "", f"{total} frames expected, {frames} found; the file is damaged")


def read_entry(origin: ChunkSource, entry: IndexEntry, keyint: int) -> Group:
    """The group of an entry; BitstreamError where the file has another there, or none."""
    source = ChunkSource(origin.file, origin.name, entry.offset, origin.base)
    head = source.begin()
    if head is None or head.kind != b"GRUP":
        raise BitstreamError(f"{origin.name}: byte {entry.offset}: no group begins here; the index is damaged")
    group = read_group_chunk(source, head, None, entry.first_frame, keyint)
    if len(group.pts) != entry.frames:
        raise source.damaged(entry.offset, "", f"{entry.frames} frames expected; the index is damaged")
    return group


def check_frames(frames: int, limit: int | None, where: str) -> None:
    """LimitError where the video has more frames than the caller allows."""
    if limit is not None and frames > limit:
        raise LimitError(f"{where}: {frames} frames or more, above the limit of {limit}; raise --max-frames")


def group_name(number: int | None, prefix: GroupPrefix) -> str:
    """How messages call a group."""
    label = "group" if number is None else f"group {number}"
    return f"{label} (frames {prefix.first_frame}-{prefix.first_frame + prefix.frames - 1})"


def read_prefix(source: ChunkSource, head: ChunkHead, number: int | None) -> tuple[GroupPrefix, bytes]:
    """A group's prefix, not yet covered by a CRC check, and the bytes taken for it."""
    where = "GRUP chunk" if number is None else f"group {number}"
    data = source.take(PREFIX_MAX, where)
    return parse_prefix(FieldReader(data, head.payload_offset, source.name, where)), data


def check_order(
    source: ChunkSource, head: ChunkHead, prefix: GroupPrefix, first_frame: int, keyint: int, where: str
) -> None:
    """Raise where the group does not begin at `first_frame` or is longer than the header allows."""
    if prefix.first_frame != first_frame:
        raise source.damaged(head.offset, where, f"a group that begins at frame {first_frame} expected")
    if prefix.frames > keyint:
        raise source.damaged(head.offset, where, f"longer than the {keyint} frames the header allows")


def read_group_chunk(source: ChunkSource, head: ChunkHead, number: int | None, first_frame: int, keyint: int) -> Group:
    """The whole group; its CRC is checked before anything of it is believed."""
    data = source.take(PREFIX_MAX)
    fields = FieldReader(data, head.payload_offset, source.name)
    where = "group" if number is None else f"group {number}"
    where += f" (from frame {first_frame})"
    try:
        prefix = parse_prefix(fields)
        if prefix.first_frame == first_frame and prefix.frames <= keyint:
            where = group_name(number, prefix)
    except (BitstreamError, UnsupportedVersionError):
        pass  # the CRC decides whether it is damage or a newer format
    data += source.take(head.length, where)
    source.end(where)
    prefix = parse_prefix(FieldReader(data, head.payload_offset, source.name, where))
    check_order(source, head, prefix, first_frame, keyint, where)
    return parse_group(FieldReader(data, head.payload_offset, source.name, where))


def _is_front(head: ChunkHead) -> bool:
    return head.kind in (b"trak", b"meta") or (head.kind not in KNOWN and not is_critical(head.kind))
