"""Writing a `.bsq` file front to back: nothing is ever rewritten, so it may go to a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bsqcodec.container.chunks import PREAMBLE, pack_chunk
from bsqcodec.container.extras import pack_index, pack_meta, pack_stats, pack_tail
from bsqcodec.container.groups import pack_group
from bsqcodec.container.header import pack_header, pack_track
from bsqcodec.container.packets import batches, pack_packets
from bsqcodec.container.types import MAX_TRACKS, Group, IndexEntry, StreamHeader, StreamStats
from bsqcodec.errors import UsageError
from bsqcodec.frames import Track, TrackPacket


class Sink(Protocol):
    """Anything that takes bytes: a binary file, a pipe."""

    def write(self, data: bytes, /) -> int | None: ...
    def flush(self) -> None: ...


class StreamWriter:
    """Header and tracks at once, then groups and packets as they come, then `close`.

    file: open for binary writing, seeking not needed; it stays open. Values that the format cannot hold raise
    UsageError, before anything of the chunk is written.
    """

    def __init__(self, file: Sink, header: StreamHeader, tracks: Sequence[Track] = ()) -> None:
        if len(tracks) > MAX_TRACKS:
            raise UsageError(f"{len(tracks)} tracks; the format's limit is {MAX_TRACKS}")
        self.header, self.tracks = header, tuple(tracks)
        self.offset = 0  # bytes written so far
        self.frames = 0
        self._file, self._closed = file, False
        self._index: list[IndexEntry] = []
        self._put(PREAMBLE + pack_chunk(b"HEAD", pack_header(header)))
        for track in tracks:
            self._put(pack_chunk(b"trak", pack_track(track)))

    def write_group(self, group: Group) -> int:
        """Write the next group, which must begin where the last one ended; returns its bytes in the file."""
        if group.first_frame != self.frames:
            raise UsageError(f"the next group must begin at frame {self.frames}, not {group.first_frame}")
        if len(group.pts) > self.header.keyint:
            raise UsageError(f"a group of {len(group.pts)} frames, but the header says {self.header.keyint} at most")
        chunk = pack_chunk(b"GRUP", pack_group(group))
        self._index.append(IndexEntry(self.offset, self.frames, group.pts[0], len(group.pts)))
        self._put(chunk)
        self.frames += len(group.pts)
        return len(chunk)

    def write_packets(self, packets: Sequence[TrackPacket]) -> int:
        """Write packets of the tracks, best shortly before the group they play with; returns bytes in the file."""
        for packet in packets:
            if not 0 <= packet.track < len(self.tracks):
                raise UsageError(f"a packet of track {packet.track}, but there are {len(self.tracks)}")
        start = self.offset
        for batch in batches(packets):
            self._put(pack_chunk(b"pckt", pack_packets(batch)))
        return self.offset - start

    def write_meta(self, meta: Mapping[str, str]) -> None:
        """Write text such as title or date; before the first group a reader has it at once."""
        self._put(pack_chunk(b"meta", pack_meta(meta)))

    def close(self, stats: StreamStats | None = None) -> None:
        """Write statistics, index and tail, and flush; a second call does nothing."""
        if self._closed:
            return
        if stats is not None:
            self._put(pack_chunk(b"stat", pack_stats(stats)))
        index_offset = self.offset
        self._put(pack_chunk(b"indx", pack_index(self._index)))
        self._put(pack_chunk(b"TAIL", pack_tail(self.frames, index_offset)))
        self._file.flush()
        self._closed = True

    def _put(self, data: bytes) -> None:
        if self._closed:
            raise UsageError("the stream is closed already")
        rest = data
        while rest:  # a raw pipe may take less than it is given
            taken = self._file.write(rest)
            rest = rest[len(rest) if taken is None else taken :]
        self.offset += len(data)
