"""What is in a file and where the bytes went, without decoding; optionally every CRC checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from bsqcodec.container.chunks import PREAMBLE, ChunkHead, ChunkSource
from bsqcodec.container.extras import parse_index, parse_meta, parse_stats
from bsqcodec.container.fields import FieldReader
from bsqcodec.container.groups import parse_prefix, parse_times
from bsqcodec.container.header import parse_track
from bsqcodec.container.packets import parse_packets, parse_sums
from bsqcodec.container.reader import (
    check_order,
    check_tail,
    group_name,
    payload_fields,
    read_front,
    read_group_chunk,
    read_prefix,
    refuse_misplaced,
)
from bsqcodec.container.types import MAX_PIXELS, MAX_TRACKS, StreamHeader, StreamStats
from bsqcodec.errors import BitstreamError, TruncatedError, UnsupportedVersionError
from bsqcodec.frames import Track

PARTS = ("header", "motion", "tokens", "groups", "audio", "subtitles", "index", "other")
_PART_OF_CHUNK = {b"HEAD": "header", b"trak": "header", b"meta": "header", b"stat": "header"}
_PART_OF_CHUNK |= {b"indx": "index", b"TAIL": "index"}


@dataclass(frozen=True)
class GroupReport:
    """One group: where it is, what it holds, and its bytes by part.

    end_pts: time at which the last frame's display ends, in ticks, or begins where its duration is unknown
    (`end_known` False); size: bytes of the whole chunk.
    """

    offset: int
    first_frame: int
    frames: int
    first_pts: int
    end_pts: int
    end_known: bool
    size: int
    motion_bytes: int
    token_bytes: int


@dataclass(frozen=True)
class Damage:
    """The first damage: byte offset of its chunk, the chunk's type, and the group and frames it costs.

    group, frames: number of the group and its (first, last) frame; None where no group is hit or they are unknown.
    """

    offset: int
    chunk: str
    group: int | None
    frames: tuple[int, int] | None
    message: str
    truncated: bool


@dataclass
class StreamReport:
    """What `scan` found; `bytes` by part (`PARTS`), sums to `size`; `chunks` by chunk type."""

    version: tuple[int, int]
    header: StreamHeader
    tracks: list[Track] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    stats: StreamStats | None = None
    groups: list[GroupReport] = field(default_factory=list)
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    chunks: dict[str, int] = field(default_factory=dict)
    size: int = 0
    complete: bool = False
    damage: Damage | None = None

    @property
    def frames(self) -> int:
        """Frames in whole groups."""
        return sum(group.frames for group in self.groups)


def scan(file: BinaryIO, *, check: bool = False, name: str | None = None, max_pixels: int = MAX_PIXELS) -> StreamReport:
    """Walk the chunks. Without `check`, payloads of groups and packets are skipped where the file can seek.

    Raises only where there is nothing to report: BitstreamError for no .bsq file or a damaged header,
    UnsupportedVersionError for a newer format. Later damage ends the walk and is in `damage`.
    """
    source = ChunkSource(file, name or str(getattr(file, "name", "stream")))
    version, header = read_front(source, max_pixels)
    report = StreamReport(version, header)
    report.bytes["header"] = source.offset
    report.chunks["HEAD"] = source.offset - len(PREAMBLE)
    _Walk(source, report, check).run()
    report.size = source.offset if source.size is None else source.size
    report.bytes["other"] += report.size - sum(report.bytes.values())
    return report


class _Walk:
    """The state of one scan."""

    def __init__(self, source: ChunkSource, report: StreamReport, check: bool) -> None:
        self.source, self.report, self.check = source, report, check
        self.head = ChunkHead(b"HEAD", 0, 0)
        self.frames = 0

    def run(self) -> None:
        start = self.source.offset
        try:
            while not self.report.complete:
                start = self.source.offset
                self._step()
        except BitstreamError as error:
            self._note(start, error)

    def _step(self) -> None:
        self.head = ChunkHead(b"", 0, self.source.offset)
        head = self.source.begin()
        if head is None:
            raise TruncatedError(f"{self.source.name}: byte {self.source.offset}: the file is cut short here")
        self.head = head
        if head.kind == b"GRUP":
            self._group(head)
        elif head.kind == b"pckt":
            self._packets(head)
        else:
            self._small(head)
        kind = head.kind.decode()
        self.report.chunks[kind] = self.report.chunks.get(kind, 0) + head.size

    def _group(self, head: ChunkHead) -> None:
        keyint = self.report.header.keyint
        number = len(self.report.groups)
        if self.check:
            group = read_group_chunk(self.source, head, number, self.frames, keyint)
            sizes = (len(group.motion), len(group.tokens))
            entry = _entry(head, group.first_frame, group.pts, group.durations, sizes)
        else:
            entry = self._skim_group(head, number, keyint)
        self.report.groups.append(entry)
        self.frames += entry.frames
        parts = self.report.bytes
        parts["motion"] += entry.motion_bytes
        parts["tokens"] += entry.token_bytes
        parts["groups"] += head.size - entry.motion_bytes - entry.token_bytes

    def _skim_group(self, head: ChunkHead, number: int, keyint: int) -> GroupReport:
        prefix, data = read_prefix(self.source, head, number)
        where = group_name(number, prefix)
        check_order(self.source, head, prefix, self.frames, keyint, where)
        data += self.source.take(max(head.length - prefix.words_size - len(data), 0), where)
        fields = FieldReader(data, head.payload_offset, self.source.name, where)
        pts, durations = parse_times(fields, parse_prefix(fields))
        self.source.end(where, check=False)
        return _entry(head, prefix.first_frame, pts, durations, (4 * prefix.motion_words, 4 * prefix.token_words))

    def _packets(self, head: ChunkHead) -> None:
        tracks = self.report.tracks
        if self.check:
            fields = payload_fields(self.source, head)
            sums = parse_sums(FieldReader(fields.data, head.payload_offset, self.source.name), len(tracks))[1]
            parse_packets(fields, len(tracks))
        else:
            fields = FieldReader(self.source.take(2048), head.payload_offset, self.source.name, "pckt chunk")
            sums = parse_sums(fields, len(tracks))[1]
            self.source.end(check=False)
        left = head.size
        for track, size in sums.items():
            self.report.bytes[_part_of_track(tracks[track])] += min(size, left)
            left -= min(size, left)
        heaviest = max(sums, key=lambda track: sums[track], default=None)
        self.report.bytes["other" if heaviest is None else _part_of_track(tracks[heaviest])] += left

    def _small(self, head: ChunkHead) -> None:
        report, kind = self.report, head.kind
        if kind == b"TAIL":
            check_tail(self.source, head, self.frames)
            report.complete = True
        elif kind == b"trak" and not report.groups:
            if len(report.tracks) == MAX_TRACKS:
                raise self.source.damaged(head.offset, "", f"more than {MAX_TRACKS} tracks; the file is damaged")
            report.tracks.append(parse_track(payload_fields(self.source, head)))
        elif kind == b"meta":
            report.meta.update(parse_meta(payload_fields(self.source, head)))
        elif kind == b"stat":
            report.stats = parse_stats(payload_fields(self.source, head))
        elif kind == b"indx" and self.check:
            self._compare_index(head)
        else:
            refuse_misplaced(self.source, head)
            self.source.end(check=self.check)
        report.bytes[_PART_OF_CHUNK.get(kind, "other")] += head.size

    def _compare_index(self, head: ChunkHead) -> None:
        entries = parse_index(payload_fields(self.source, head))
        found = [(group.offset, group.first_frame, group.first_pts, group.frames) for group in self.report.groups]
        if [(entry.offset, entry.first_frame, entry.first_pts, entry.frames) for entry in entries] != found:
            raise self.source.damaged(head.offset, "", "the index does not match the groups; the file is damaged")

    def _note(self, start: int, error: BitstreamError) -> None:
        group = frames = None
        if self.head.kind == b"GRUP":
            group = len(self.report.groups)
            frames = self._frames_hit()
        kind = self.head.kind.decode("ascii", "replace")
        self.report.damage = Damage(start, kind, group, frames, str(error), isinstance(error, TruncatedError))

    def _frames_hit(self) -> tuple[int, int] | None:
        """Frames of the damaged group, where its prefix can still be believed."""
        source = ChunkSource(self.source.file, self.source.name, self.head.offset, self.source.base)
        try:
            head = source.begin() if source.seekable else None
            prefix = read_prefix(source, head, None)[0] if head else None
        except (BitstreamError, UnsupportedVersionError):
            return None
        if prefix is None or prefix.first_frame != self.frames or prefix.frames > self.report.header.keyint:
            return None
        return self.frames, self.frames + prefix.frames - 1


def _entry(
    head: ChunkHead, first_frame: int, pts: tuple[int, ...], durations: tuple[int, ...], sizes: tuple[int, int]
) -> GroupReport:
    end, known = pts[-1] + durations[-1], durations[-1] > 0
    return GroupReport(head.offset, first_frame, len(pts), pts[0], end, known, head.size, *sizes)


def _part_of_track(track: Track) -> str:
    return "audio" if track.kind == "audio" else "subtitles"
