"""`pckt`: packets of the carried tracks, in the order they came.

Sums by track come first, so that a report need not read the packets. Times are deltas to the packet before it on
the same track of the same chunk, and a packet that follows on without a gap costs four bytes besides its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bsqcodec.container.fields import I64, FieldReader, pack_svarint, pack_varint
from bsqcodec.container.types import MAX_CHUNK, MAX_PACKETS, MAX_TRACKS
from bsqcodec.errors import UsageError
from bsqcodec.frames import TrackPacket

KEYFRAME = 0x01
HAS_PTS = 0x02
HAS_DTS = 0x04
FOLLOWS = 0x08  # pts = dts = end of the packet before, same duration: no time fields
_PACKET_MIN = 3  # bytes of the smallest packet: track, flags, size
_OVERHEAD = 64  # bytes that hold the fields of any packet besides its data


@dataclass
class _Clock:
    """The packet before, on one track."""

    pts: int = 0
    duration: int = -1  # -1: no packet yet

    def expects(self, packet: TrackPacket) -> bool:
        due = self.pts + self.duration
        return self.duration >= 0 and packet.duration == self.duration and packet.pts == packet.dts == due

    def advance(self, pts: int | None, duration: int) -> None:
        self.pts, self.duration = (self.pts if pts is None else pts), duration


def batches(packets: Sequence[TrackPacket], limit: int = 2**24) -> list[list[TrackPacket]]:
    """Cut into runs of about `limit` bytes at most, each fit for one chunk (`MAX_PACKETS` follows from `_OVERHEAD`)."""
    runs: list[list[TrackPacket]] = []
    room = 0
    for packet in packets:
        need = len(packet.data) + _OVERHEAD
        if need > MAX_CHUNK - 2**16:
            raise UsageError(f"track {packet.track}: a packet of {len(packet.data)} bytes is too long for the format")
        if need > room:
            runs.append([])
            room = limit
        runs[-1].append(packet)
        room -= need
    return runs


def pack_packets(packets: Sequence[TrackPacket]) -> bytes:
    """Payload of `pckt`."""
    sums: dict[int, int] = {}
    for packet in packets:
        sums[packet.track] = sums.get(packet.track, 0) + len(packet.data)
    parts = [pack_varint(len(packets)), pack_varint(len(sums))]
    parts += [pack_varint(value) for pair in sums.items() for value in pair]
    clocks: dict[int, _Clock] = {track: _Clock() for track in sums}
    for packet in packets:
        parts += [_pack_head(packet, clocks[packet.track]), packet.data]
    return b"".join(parts)


def _pack_head(packet: TrackPacket, clock: _Clock) -> bytes:
    flags = KEYFRAME * packet.keyframe
    times = b""
    if clock.expects(packet):
        flags |= FOLLOWS
    else:
        if packet.pts is not None:
            flags |= HAS_PTS
            times += pack_svarint(packet.pts - clock.pts)
        if packet.dts is not None:
            flags |= HAS_DTS
            times += pack_svarint(packet.dts - (clock.pts if packet.pts is None else packet.pts))
        times += pack_varint(packet.duration)
    clock.advance(packet.pts, packet.duration)
    return pack_varint(packet.track) + bytes([flags]) + times + pack_varint(len(packet.data))


def parse_sums(fields: FieldReader, tracks: int) -> tuple[int, dict[int, int]]:
    """Number of packets, and bytes of packet data by track; they open the payload."""
    count = fields.varint(MAX_PACKETS, "number of packets")
    sums: dict[int, int] = {}
    for _ in range(fields.varint(MAX_TRACKS, "number of tracks")):
        track = _parse_track_number(fields, tracks)
        sums[track] = fields.varint(MAX_CHUNK, "bytes of a track")
    return count, sums


def parse_packets(fields: FieldReader, tracks: int) -> list[TrackPacket]:
    """A `pckt` payload; `tracks` is the number of tracks in the file."""
    count, sums = parse_sums(fields, tracks)
    if count * _PACKET_MIN > fields.left:
        raise fields.error(f"{count} packets in {fields.left} bytes; the file is damaged")
    clocks = [_Clock() for _ in range(tracks)]
    packets = [_parse_packet(fields, clocks) for _ in range(count)]
    for packet in packets:
        sums[packet.track] = sums.get(packet.track, 0) - len(packet.data)
    if any(sums.values()):
        raise fields.error("the packets do not add up to the sums by track; the file is damaged")
    return packets


def _parse_packet(fields: FieldReader, clocks: list[_Clock]) -> TrackPacket:
    track = _parse_track_number(fields, len(clocks))
    clock, flags = clocks[track], fields.uint(1)
    pts: int | None = None
    dts: int | None = None
    if flags & FOLLOWS:
        if clock.duration < 0:
            raise fields.error("a packet follows on none; the file is damaged")
        pts = dts = _in_range(fields, clock.pts + clock.duration)
        duration = clock.duration
    else:
        if flags & HAS_PTS:
            pts = _in_range(fields, clock.pts + fields.svarint())
        if flags & HAS_DTS:
            dts = _in_range(fields, (clock.pts if pts is None else pts) + fields.svarint())
        duration = fields.varint(I64, "duration")
    clock.advance(pts, duration)
    data = fields.take(fields.varint(MAX_CHUNK, "size of a packet"))
    return TrackPacket(track, data, pts, dts, duration, bool(flags & KEYFRAME))


def _parse_track_number(fields: FieldReader, tracks: int) -> int:
    track = fields.varint()
    if track >= tracks:
        raise fields.error(f"a packet of track {track}, but there are {tracks}; the file is damaged")
    return track


def _in_range(fields: FieldReader, ticks: int) -> int:
    if not -I64 - 1 <= ticks <= I64:
        raise fields.error("a time stamp beyond 64 bits; the file is damaged")
    return ticks
