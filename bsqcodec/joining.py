"""Several .bsq streams as one: whether they go together, and their groups and packets on one line of time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from bsqcodec.container import Group, IndexEntry, StreamReader, StreamStats
from bsqcodec.errors import UsageError
from bsqcodec.frames import Track, TrackPacket
from bsqcodec.partreader import GroupPart, moved_packet, packet_time

_U32 = 2**32 - 1  # the format's largest part of a fraction
# what must be equal, and how messages call it
_PICTURE = {
    "sample_aspect_ratio": "pixel aspect ratio",
    "rotation": "rotation",
    "primaries": "colour primaries",
    "transfer": "colour transfer",
    "matrix": "colour matrix",
    "full_range": "colour range",
    "chroma_location": "chroma location",
}


@dataclass(frozen=True)
class _Piece:
    """A stream. begin, end: of its video in seconds; tracks: its track numbers -> those of the joined stream."""

    reader: StreamReader
    begin: Fraction
    end: Fraction
    frames: int
    tracks: dict[int, int]


class Joined:
    """Iterates the groups and packets of several streams as one.

    readers: at the start of files that can seek. `header`, `tracks`, `meta` are of the whole; `dropped` names the
    tracks that not every stream has; `stats` is there after iterating, if every stream had them.
    Raises UsageError where the streams do not go together.
    """

    def __init__(self, readers: Sequence[StreamReader]) -> None:
        first = readers[0]
        for other in readers[1:]:
            check_alike(first, other)
        tick = common_tick([reader.header.info.time_base for reader in readers])
        self.tracks, numbers, self.dropped = common_tracks(readers)
        self._pieces = [_piece(reader, tracks) for reader, tracks in zip(readers, numbers, strict=True)]
        self.header = replace(
            first.header,
            info=replace(first.header.info, time_base=tick),
            keyint=max(reader.header.keyint for reader in readers),
            crf=sum(piece.reader.header.crf * piece.frames for piece in self._pieces) / self.frames,
        )
        self.meta = {key: value for reader in reversed(readers) for key, value in reader.meta.items()}
        self.stats: StreamStats | None = None

    @property
    def frames(self) -> int:
        """Frames of all streams together."""
        return sum(piece.frames for piece in self._pieces)

    def __iter__(self) -> Iterator[GroupPart | list[TrackPacket]]:
        at = self._pieces[0].begin
        for number, piece in enumerate(self._pieces):
            shift = at - piece.begin
            low = piece.begin if number else None
            high = piece.end if number + 1 < len(self._pieces) else None
            for item in piece.reader:
                if isinstance(item, Group):
                    yield self._timed(item, piece, shift)
                elif packets := [self._moved(p, piece, shift) for p in item if _plays(p, piece, low, high)]:
                    yield packets
            at += piece.end - piece.begin
        self.stats = _sum([(piece.reader.stats, piece.frames) for piece in self._pieces])

    def _timed(self, group: Group, piece: _Piece, shift: Fraction) -> GroupPart:
        """The group on the joined line of time; its ticks become whole numbers of the common ones."""
        tick = self.header.info.time_base
        ratio = int(piece.reader.header.info.time_base / tick)
        offset = int(shift / tick)
        pts = tuple(ratio * time + offset for time in group.pts)
        durations = tuple(ratio * time for time in group.durations)
        return GroupPart(replace(group, pts=pts, durations=durations), range(len(pts)))

    def _moved(self, packet: TrackPacket, piece: _Piece, shift: Fraction) -> TrackPacket:
        return replace(moved_packet(packet, shift, piece.reader.tracks), track=piece.tracks[packet.track])


def check_alike(first: StreamReader, other: StreamReader) -> None:
    """Raise UsageError unless the two streams can be one."""
    a, b = first.header, other.header
    problem = remedy = ""
    if (a.info.width, a.info.height) != (b.info.width, b.info.height):
        problem = f"{b.info.width}x{b.info.height}, but {first.name} is {a.info.width}x{a.info.height}"
        remedy = "join videos of one size"
    elif (a.weights_sha256, a.arithmetic) != (b.weights_sha256, b.arithmetic):
        problem = f"made with weights {b.model} ({b.weights_sha256.hex()[:8]}), but {first.name} with {a.model} "
        problem += f"({a.weights_sha256.hex()[:8]})"
        remedy = "encode one of them again with the same --tune or --weights"
    else:
        for name, words in _PICTURE.items():
            if getattr(a.info, name) != getattr(b.info, name):
                problem = f"has the {words} {getattr(b.info, name)}, but {first.name} {getattr(a.info, name)}"
                remedy = "join videos of the same kind"
                break
    if problem:
        raise UsageError(f"{other.name}: {problem}; {remedy}")


def common_tick(ticks: Sequence[Fraction]) -> Fraction:
    """The longest tick that all are whole numbers of. Raises UsageError where the format cannot hold it."""
    denominator = math.lcm(*(tick.denominator for tick in ticks))
    numerator = math.gcd(*(int(tick * denominator) for tick in ticks))
    tick = Fraction(numerator, denominator)
    if max(tick.numerator, tick.denominator) > _U32:
        raise UsageError(f"time bases {', '.join(map(str, ticks))} have no common one; encode to the same rate first")
    return tick


def common_tracks(readers: Sequence[StreamReader]) -> tuple[list[Track], list[dict[int, int]], list[str]]:
    """Tracks that every stream has; for each stream, its number of a track -> the joined number; what is dropped."""
    matches: list[list[int]] = [[number] for number in range(len(readers[0].tracks))]
    for other in readers[1:]:
        left = list(range(len(other.tracks)))
        for match in matches:
            wanted = readers[0].tracks[match[0]]
            found = next((number for number in left if other.tracks[number] == wanted), None)
            if found is not None:
                left.remove(found)
                match.append(found)
    whole = [match for match in matches if len(match) == len(readers)]
    numbers = [{match[i]: new for new, match in enumerate(whole)} for i in range(len(readers))]
    dropped = [
        f"{reader.name}: track {number} ({track.kind}, {track.codec}): not every file has one like it"
        for reader, kept in zip(readers, numbers, strict=True)
        for number, track in enumerate(reader.tracks)
        if number not in kept
    ]
    return [readers[0].tracks[match[0]] for match in whole], numbers, dropped


def _piece(reader: StreamReader, tracks: dict[int, int]) -> _Piece:
    entries: list[IndexEntry] = reader.index()
    if not entries:
        raise UsageError(f"{reader.name}: has no frame; leave it out")
    info, last = reader.header.info, reader.read_group(entries[-1])
    nominal = max(1, round(1 / (info.fps * info.time_base)))
    end = (last.pts[-1] + (last.durations[-1] or nominal)) * info.time_base
    frames = entries[-1].first_frame + entries[-1].frames
    return _Piece(reader, entries[0].first_pts * info.time_base, end, frames, tracks)


def _plays(packet: TrackPacket, piece: _Piece, low: Fraction | None, high: Fraction | None) -> bool:
    """Whether a packet is kept: of a track that goes on, and within the piece's video where another piece borders."""
    time = packet_time(packet, piece.reader.tracks)
    if packet.track not in piece.tracks or (time is None and (low, high) != (None, None)):
        return False
    return time is None or ((low is None or time >= low) and (high is None or time < high))


def _sum(parts: Sequence[tuple[StreamStats | None, int]]) -> StreamStats | None:
    """The statistics of all; None where one has none. Bits add up, PSNR is a mean over frames."""
    motion, tokens, psnr = 0, Counter[str](), [0.0, 0.0, 0.0]
    total = sum(frames for _, frames in parts)
    for stats, frames in parts:
        if stats is None or stats.psnr is None:
            return None
        motion += stats.motion_bits
        tokens.update(dict(stats.token_bits))
        psnr = [mean + value * frames / total for mean, value in zip(psnr, stats.psnr, strict=True)]
    return StreamStats(motion, tuple(tokens.items()), (psnr[0], psnr[1], psnr[2]))
