"""`bsqcodec.cut` and `bsqcodec.join`: groups copied from file to file without decoding them. No torch in here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from bsqcodec import __version__
from bsqcodec.arguments import checked
from bsqcodec.container import Group, StreamHeader, StreamReader, StreamStats, StreamWriter
from bsqcodec.decoder import open_stream
from bsqcodec.errors import UsageError
from bsqcodec.frames import Track, TrackPacket
from bsqcodec.joining import Joined
from bsqcodec.outputs import STDIO, AtomicOutput, StrPath, output_file
from bsqcodec.partreader import GroupPart, PartReader
from bsqcodec.parts import Part, Time


@dataclass(frozen=True)
class SpliceStats:
    """What `cut` or `join` wrote.

    frames, groups: counts; bytes: size of the file; seconds: its playing time.
    first_frame, start: where in the source it begins (cut): frame, and seconds from the source's first frame.
    dropped: tracks that were not carried over, one line each.
    """

    frames: int
    groups: int
    bytes: int
    seconds: float
    first_frame: int = 0
    start: float = 0.0
    dropped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, rounded to what is meaningful."""
        fields = asdict(self) | {"dropped": list(self.dropped)}
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in fields.items()}


@checked
def cut(
    src: StrPath,
    dst: StrPath,
    *,
    start: Time | None = None,
    duration: Time | None = None,
    skip: int = 0,
    limit: int | None = None,
    overwrite: bool = False,
) -> SpliceStats:
    """Copy the groups of a .bsq file that a part touches into a file of their own, which begins at time 0.

    The groups stay whole, so the file may begin before the part and end after it; the result says where. Packets of
    its tracks and its text come along. What the encoder counted (PSNR, bits by part) is a sum over all of the source,
    so it comes along only where no group is left out.

    Args:
        src: the .bsq file; dst: the new one, "-" = standard output.
        start, duration: seconds (12.5 or "1:02.5") from the first frame on.
        skip, limit: the same by number of frames.
        overwrite: replace `dst` if it exists.

    Raises:
        UsageError: the part is empty or contradicts itself; BitstreamError: what it needs is damaged.
        VideoError: a file cannot be read or written.
    """
    part = Part.of(start, duration, skip, limit)
    with AtomicOutput(dst, src=src, overwrite=overwrite) as output, _opened(src) as file:
        reader = StreamReader(file, name=os.fspath(src))
        part = _whole_groups(reader, file, part)
        source = PartReader(reader, file, part)
        with output_file(output) as out:
            writer = _Splice(out, reader.header, reader.tracks, reader.meta)
            writer.copy(source)
            writer.stats = reader.stats if part.whole else None  # the format has no figures of single groups
            number, begin = source.begin
            return writer.finish(number, begin)


@checked
def join(sources: Sequence[StrPath], dst: StrPath, *, overwrite: bool = False) -> SpliceStats:
    """Copy the groups of several .bsq files, one after the other, into one file.

    The files must agree in the picture (size, shape, colour) and in the weights they were made with; frame rates may
    differ. A track goes on where every file has one like it. Sound that runs past the border of two files ends there.

    Args:
        sources: two files or more, in order; dst: the new one, "-" = standard output.
        overwrite: replace `dst` if it exists.

    Raises:
        UsageError: the files do not go together, or there is only one; BitstreamError: one of them is damaged.
        VideoError: a file cannot be read or written.
    """
    if len(sources) < 2:
        raise UsageError("join needs two files or more, and then the name of the new one")
    with ExitStack() as stack:
        output = AtomicOutput(dst, src=sources[0], overwrite=overwrite)
        for other in sources[1:]:
            output.refuse_input(other)
        stack.enter_context(output)
        files = [stack.enter_context(_opened(path)) for path in sources]
        joined = Joined([StreamReader(file, name=os.fspath(path)) for file, path in zip(files, sources, strict=True)])
        out = stack.enter_context(output_file(output))
        writer = _Splice(out, joined.header, joined.tracks, joined.meta)
        writer.copy(joined)
        writer.stats = joined.stats
        return replace(writer.finish(), dropped=tuple(joined.dropped))


def _opened(path: StrPath) -> BinaryIO:
    if os.fspath(path) == STDIO:
        raise UsageError("standard input: the index of a file is needed, and a pipe has none; give the name of a file")
    return open_stream(path)


def _whole_groups(reader: StreamReader, file: BinaryIO, part: Part) -> Part:
    """The part, widened to whole groups."""
    groups = [item.group for item in PartReader(reader, file, part, pictures_only=True) if isinstance(item, GroupPart)]
    first, end = groups[0].first_frame, groups[-1].first_frame + len(groups[-1].pts)
    entry = reader.index()[-1]
    return Part(skip=first, limit=None if end == entry.first_frame + entry.frames else end - first)


class _Splice:
    """A .bsq file being put together from groups of others."""

    def __init__(self, file: BinaryIO, header: StreamHeader, tracks: Sequence[Track], meta: dict[str, str]) -> None:
        self._info = header.info
        self._writer = StreamWriter(file, replace(header, tool=f"bsqcodec {__version__}"), tracks)
        if meta:
            self._writer.write_meta(meta)
        self._groups = 0
        self._first: int | None = None
        self._end = 0  # ticks
        self.stats: StreamStats | None = None

    def copy(self, items: Iterable[GroupPart | list[TrackPacket]]) -> None:
        """Append everything; groups are taken whole."""
        packets: list[TrackPacket] = []  # until the group that they play with, as an encoder writes them
        for item in items:
            if isinstance(item, GroupPart):
                assert isinstance(item.group, Group)  # gaps are for decoders that salvage
                self._writer.write_packets(packets)
                self._write(item.group)
                packets = []
            else:
                packets += item
        self._writer.write_packets(packets)

    def _write(self, group: Group) -> None:
        self._writer.write_group(replace(group, first_frame=self._writer.frames))
        self._first = group.pts[0] if self._first is None else self._first
        self._end = group.pts[-1] + (group.durations[-1] or round(1 / (self._info.fps * self._info.time_base)))
        self._groups += 1

    def finish(self, first_frame: int = 0, start: float = 0.0) -> SpliceStats:
        """Write statistics, index and tail; what was made."""
        self._writer.close(self.stats)
        seconds = float((self._end - (self._first or 0)) * self._info.time_base)
        return SpliceStats(self._writer.frames, self._groups, self._writer.offset, seconds, first_frame, start)
