"""Reading a part of a .bsq stream: its groups, and the packets that play with them.

Only the groups that a part touches are read and decoded, wherever in the file they are (and, where there are tracks,
those within a second of it for their packets). A part that does not begin with the video is moved to begin at 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO

from bsqcodec.container import Gap, Group, IndexEntry, StreamReader
from bsqcodec.errors import BitstreamError, UsageError
from bsqcodec.frames import Track, TrackPacket
from bsqcodec.parts import Part, Selection

MARGIN = Fraction(1)  # s; a file stores packets near, not exactly at, the frames they play with


@dataclass(frozen=True)
class GroupPart:
    """A group, or a gap where one is lost, and the frames wanted of it, from its first; times are the part's."""

    group: Group | Gap
    wanted: range


class PartReader:
    """Iterates a part of a stream once: `GroupPart`s, and lists of packets that play with them, all times shifted.

    reader: at the start of its stream; file: what it reads; where that can seek, only the groups needed are read.
    Raises UsageError at once where the part holds no frame, BitstreamError where a group that is needed is damaged.
    """

    def __init__(self, reader: StreamReader, file: BinaryIO, part: Part, *, pictures_only: bool = False) -> None:
        self._part, self._reader = part, reader
        self.info, self.tracks = reader.header.info, () if pictures_only else reader.tracks
        self._entries = reader.index() if file.seekable() else []
        self._items = self._open()
        self._waiting: list[TrackPacket] = []  # until it is known whether they belong to the part
        self._ahead = self._find_first()

    @property
    def frames_hint(self) -> int | None:
        """Frames the part will hold, as far as the index tells; None = unknown."""
        part, first = self._part, self._selection.first
        left = self._entries[-1].first_frame + self._entries[-1].frames - first[0] if self._entries and first else None
        wanted = part.limit if part.duration is None else max(1, round(part.duration * self.info.fps))
        known = [count for count in (left, wanted) if count is not None]
        return min(known) if known else None

    @property
    def groups_hint(self) -> int | None:
        """Groups the part will touch, as `frames_hint`."""
        frames, first = self.frames_hint, self._selection.first
        if not self._entries or frames is None or first is None:
            return None
        begin, end = (bisect_right(self._entries, n, key=_first_frame) for n in (first[0], first[0] + frames - 1))
        return end - begin + 1

    @property
    def group_rate(self) -> Fraction:
        """Groups per second of the whole video: the mean where there is an index, else as if all were full."""
        if not self._entries:
            return self.info.fps / self._reader.header.keyint
        frames = self._entries[-1].first_frame + self._entries[-1].frames
        return (self.info.fps * len(self._entries) / frames).limit_denominator(10_000)

    @property
    def begin(self) -> tuple[int, float]:
        """The part's first frame: its number, and its time in seconds from the video's first."""
        number, pts = self._selection.first or (0, self._epoch)
        return number, float((pts - self._epoch) * self.info.time_base)

    def time_of(self, group: Group) -> float:
        """When a group of the part begins, in seconds from the video's first frame."""
        return float((group.pts[0] - self._shift - self._epoch) * self.info.time_base)

    @property
    def is_last(self) -> bool:
        """Whether the part, read to its end, ran to the end of the video."""
        return not self._selection.done

    def __iter__(self) -> Iterator[GroupPart | list[TrackPacket]]:
        yield from self._released()
        if self._ahead is not None:
            yield self._shifted(*self._ahead)
        for item in self._rest():
            if isinstance(item, list):
                self._waiting += item if self.tracks else []
            elif not self._selection.done:
                wanted = self._selection.pick(item)
                yield from self._released()
                if wanted:
                    yield self._shifted(item, wanted)
            elif item.pts[0] * self.info.time_base > self._selection.end + MARGIN:
                break
        yield from self._released(at_end=True)

    def _rest(self) -> Iterator[Group | list[TrackPacket]]:
        """What follows; behind the part only packets matter, and damage no longer does."""
        while self.tracks or not self._selection.done:
            try:
                item = next(self._items, None)
            except BitstreamError:
                if not self._selection.done:
                    raise
                return
            if item is None:
                return
            yield item

    def _open(self) -> Iterator[Group | list[TrackPacket]]:
        if not self._entries:
            return iter(self._reader)
        return self._from_index(self._entries)

    def _from_index(self, entries: Sequence[IndexEntry]) -> Iterator[Group | list[TrackPacket]]:
        number = self._place(entries)
        if not number:
            return iter(self._reader)
        return self._reader.iterate_from(entries, number)

    def _place(self, entries: Sequence[IndexEntry]) -> int:
        """The group to start reading at: early enough that the packets of the part are found."""
        part, tick = self._part, self.info.time_base
        if part.start is not None:
            begin = entries[0].first_pts * tick + part.start
        else:
            number = bisect_right(entries, part.skip, key=_first_frame) - 1
            begin = entries[number].first_pts * tick
        if not self.tracks:
            return max(0, bisect_right(entries, begin, key=lambda entry: entry.first_pts * tick) - 1)
        return max(0, bisect_right(entries, begin - MARGIN, key=lambda entry: entry.first_pts * tick) - 1)

    def _find_first(self) -> tuple[Group, range] | None:
        """Read up to the first group of the part."""
        self._epoch = self._entries[0].first_pts if self._entries else 0
        begun = bool(self._entries)
        selection = self._selection = Selection(self._part, self.info, self._epoch)
        group: Group | None = None
        for item in self._items:
            if isinstance(item, list):
                near = [packet for packet in self._waiting if self._is_near(packet, group)]
                self._waiting = near + item if self.tracks else []
                continue
            if not begun:
                begun, self._epoch = True, item.pts[0]
                selection = self._selection = Selection(self._part, self.info, self._epoch)
            group = item
            wanted = selection.pick(item)
            if wanted:
                return item, wanted
            if selection.done:
                raise UsageError(f"{self._reader.name}: no frame begins in that part; make it longer")
        if group is None:
            if self._part.whole:
                return None
            raise UsageError(f"{self._reader.name}: has no frame, so there is no part of it")
        raise UsageError(self._beyond(group))

    def _beyond(self, last: Group) -> str:
        frames = last.first_frame + len(last.pts)
        end = (last.pts[-1] - self._epoch) * self.info.time_base
        last_one = f"the last frame is {frames - 1}, at {float(end):.3f} s"
        return f"{self._reader.name}: the part begins behind the video; {last_one}"

    def _is_near(self, packet: TrackPacket, group: Group | None) -> bool:
        time = packet_time(packet, self.tracks)
        return group is None or time is None or time >= group.pts[0] * self.info.time_base - MARGIN

    def _released(self, at_end: bool = False) -> Iterator[list[TrackPacket]]:
        """The waiting packets that are known to belong to the part."""
        selection, tick = self._selection, self.info.time_base
        first = selection.first
        low = first[1] * tick if first is not None and first[0] else None
        high = selection.end if selection.done else None if at_end else selection.last_pts * tick
        ready = [packet for packet in self._waiting if self._before(packet, high)]
        self._waiting = [packet for packet in self._waiting if not self._before(packet, high)]
        kept = [self._moved(packet) for packet in ready if low is None or not self._before(packet, low)]
        if kept:
            yield kept

    def _before(self, packet: TrackPacket, time: Fraction | None) -> bool:
        own = packet_time(packet, self.tracks)
        return time is None or (own is not None and own < time)

    @property
    def _shift(self) -> int:
        """Ticks by which the part moves to begin at 0; none where it begins with the video."""
        first = self._selection.first
        return -first[1] if first is not None and first[0] else 0

    def _shifted(self, group: Group, wanted: range) -> GroupPart:
        shift = self._shift
        return GroupPart(replace(group, pts=tuple(pts + shift for pts in group.pts)) if shift else group, wanted)

    def _moved(self, packet: TrackPacket) -> TrackPacket:
        return moved_packet(packet, self._shift * self.info.time_base, self.tracks)


def _first_frame(entry: IndexEntry) -> int:
    return entry.first_frame


def packet_time(packet: TrackPacket, tracks: Sequence[Track]) -> Fraction | None:
    """When a packet is shown, in seconds; None = unknown."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else ticks * tracks[packet.track].time_base


def moved_packet(packet: TrackPacket, shift: Fraction, tracks: Sequence[Track]) -> TrackPacket:
    """The packet `shift` seconds later, to the nearest tick of its track."""
    ticks = round(shift / tracks[packet.track].time_base)
    if not ticks:
        return packet
    pts, dts = (None if time is None else time + ticks for time in (packet.pts, packet.dts))
    return replace(packet, pts=pts, dts=dts)
