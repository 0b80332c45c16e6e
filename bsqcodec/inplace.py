"""The other ways to iterate a `Decoder`: pictures as tensors where they were decoded, and tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bsqcodec.errors import BitstreamError, UsageError

if TYPE_CHECKING:
    from bsqcodec.codec import Model
    from bsqcodec.container import Group, IndexEntry
    from bsqcodec.frames import VideoInfo
    from bsqcodec.recovery import Reader
    from bsqcodec.tensors import TensorFrame
    from bsqcodec.tokens import Tokens


class InPlace:
    """What `Decoder` inherits: iterations that share its position, and end as its own does."""

    _position: int
    _reader: Reader
    _model: Model

    if TYPE_CHECKING:

        @property
        def info(self) -> VideoInfo: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[object]: ...

    def tensors(self) -> Iterator[TensorFrame]:
        """Iterate the same frames as torch tensors on the device they were decoded on, without copies.

        All iterations share the position; the planes of a frame are views and stay valid.
        """
        for entry in self._entries_on():
            group = self._reader.read_group(entry)
            frames = range(group.first_frame, group.first_frame + len(group.pts))
            for number, frame in zip(frames, self._tensors_of(group), strict=True):
                if number == self._position:
                    self._position += 1
                    yield frame
                if self._position not in range(number + 1, frames.stop):  # done, or `seek` was called
                    break

    def tokens(self) -> Iterator[Tokens]:
        """Iterate the tokens of whole groups, the current frame's first, as `Tokenizer.decode` takes them."""
        from bsqcodec.codec.dissect import group_levels
        from bsqcodec.tokens import tokens_of

        for entry in self._entries_on():
            group = self._reader.read_group(entry)
            self._position = entry.first_frame + entry.frames
            yield tokens_of(group_levels(self._model, group, self.info), self.info.width, self.info.height)

    def _entries_on(self) -> Iterator[IndexEntry]:
        """The group of the current position, again and again while that moves; then the end of an iteration."""
        from bsqcodec.container import StreamReader

        if not isinstance(self._reader, StreamReader):
            raise UsageError("tensors and tokens are of whole files only; open this one without on_error")
        entries = self._reader.index()
        while (start := self._position) < len(self):
            yield entries[bisect_right(entries, start, key=lambda entry: entry.first_frame) - 1]
            if self._position == start:  # the index promised a frame that the group does not hold
                raise BitstreamError(f"{self._reader.name}: frame {start} is missing; the file is damaged")
        for _ in self:  # no frame is left, but an iteration that gets here looks at the rest of the file
            pass

    def _tensors_of(self, group: Group) -> Iterator[TensorFrame]:
        from bsqcodec.codec.group import decode_planes
        from bsqcodec.tensors import TensorFrame, cropped

        tick = self.info.time_base
        for i, planes in enumerate(decode_planes(self._model, group, self.info)):
            times = group.pts[i] * tick, group.durations[i] * tick
            yield TensorFrame(*cropped(planes, self.info), group.first_frame + i, *times, self.info)
