"""Fast looks at a .bsq video: only the first frame of each group, and that at a fraction of its size.

A first frame is coded by scale recursion, an eighth of its size first, so a small picture needs a small share of its
tokens. Also the one place that decides how a decode reads its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Protocol

from bsqcodec.container import Gap, Group, StreamReader
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.partreader import GroupPart, PartReader
from bsqcodec.parts import Part
from bsqcodec.recovery import Reader

if TYPE_CHECKING:
    from bsqcodec.codec import Model

Pictures = Callable[[Group | Gap], Iterator[Frame]]
SCALES = ("1", "1/2", "1/4", "1/8")  # the index is the level of the scale recursion


class FrameSource(Protocol):
    """What a decode reads: group parts and packets, and what the output must know of them."""

    @property
    def info(self) -> VideoInfo: ...
    @property
    def tracks(self) -> Sequence[Track]: ...
    @property
    def frames_hint(self) -> int | None: ...
    @property
    def begin(self) -> tuple[int, float]: ...
    def __iter__(self) -> Iterator[GroupPart | list[TrackPacket]]: ...


@dataclass(frozen=True)
class Preview:
    """keyframes: only the first frame of each group; level: index of `SCALES`."""

    keyframes: bool = False
    level: int = 0

    @staticmethod
    def of(keyframes: bool, scale: str) -> Preview:
        """Raises UsageError for a scale there is none of, and for one without `keyframes`."""
        if scale not in SCALES:
            raise UsageError(f"scale {scale}: must be one of {', '.join(SCALES)}")
        if scale != SCALES[0] and not keyframes:
            raise UsageError(f"scale {scale}: only first frames have smaller sizes; add --keyframes")
        return Preview(keyframes, SCALES.index(scale))

    def decoder(self, model: Model, info: VideoInfo, full: Pictures) -> Pictures:
        """Decodes a group, frame after frame; `full` does so at full size.

        Raises UsageError where the model knows no smaller sizes.
        """
        if not self.level:
            return full
        from bsqcodec.codec.thumbnail import check_scales, decode_thumbnail

        check_scales(model)

        def thumbnail(group: Group | Gap) -> Iterator[Frame]:
            if isinstance(group, Group):
                yield decode_thumbnail(model, group, info, self.level)

        return thumbnail


def open_source(reader: Reader, file: BinaryIO, part: Part, preview: Preview, *, conceals: bool) -> FrameSource:
    """The frames of `reader`, at the start of `file`, that a decode is to write; `conceals`: gaps are filled in.

    Raises UsageError for a part or a preview of what a salvaging reader finds.
    """
    if preview.keyframes or not part.whole:
        if not isinstance(reader, StreamReader):
            raise UsageError("damaged files are decoded whole; leave out --on-error, or the part or preview")
        if preview.keyframes:
            pictures = PartReader(reader, file, replace(part, limit=None), pictures_only=True)
            return Keyframes(pictures, part.limit, preview)
        return PartReader(reader, file, part)
    return Whole(reader, file, conceals)


class Whole:
    """The whole stream. Where the file can seek, all of it is read and checked first.

    That takes a moment, where decoding up to the damage could take hours. Raises BitstreamError where the damage is,
    unless the reader salvages.
    """

    begin = (0, 0.0)

    def __init__(self, reader: Reader, file: BinaryIO, conceals: bool) -> None:
        self._reader = reader
        self.info, self.tracks = reader.header.info, reader.tracks
        kinds = Group | Gap if conceals else Group
        counts = (len(item.pts) for item in reader if isinstance(item, kinds)) if file.seekable() else None
        self.frames_hint = None if counts is None else sum(counts)

    def __iter__(self) -> Iterator[GroupPart | list[TrackPacket]]:
        for item in self._reader:
            yield item if isinstance(item, list) else GroupPart(item, range(len(item.pts)))


class Keyframes:
    """The first frames of a part's groups, each shown until the next; `limit`: so many at most."""

    tracks: Sequence[Track] = ()

    def __init__(self, part: PartReader, limit: int | None, preview: Preview) -> None:
        self._part, self._limit = part, limit
        info = part.info
        width, height = (-(-side // 2**preview.level) for side in (info.width, info.height))
        self.info = replace(info, width=width, height=height, fps=part.group_rate)
        self._begin: tuple[int, float] | None = None

    @property
    def frames_hint(self) -> int | None:
        """Groups of the part; the first may have begun before it."""
        known = [count for count in (self._limit, self._part.groups_hint) if count is not None]
        return min(known) if known else None

    @property
    def begin(self) -> tuple[int, float]:
        """Number and time of the first frame written."""
        return self._begin or self._part.begin

    def __iter__(self) -> Iterator[GroupPart | list[TrackPacket]]:
        count = 0
        for item in self._part:
            if not isinstance(item, GroupPart) or item.wanted.start:
                continue
            group = item.group
            assert isinstance(group, Group)
            if self._begin is None:
                self._begin = (group.first_frame, self._part.time_of(group))
            shown = max(group.pts[-1] + group.durations[-1] - group.pts[0], 0)
            first = replace(
                group, pts=group.pts[:1], durations=(shown,), qualities=group.qualities[:1], frame_crcs=None
            )
            yield GroupPart(first, range(1))
            count += 1
            if count == self._limit:
                return
        if not count:
            raise UsageError("no group begins in that part, so it has no keyframe; make it longer")
