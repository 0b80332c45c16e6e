"""`bsqcodec.open`: the frames of a .bsq file, one by one, from any frame on."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from bsqcodec.arguments import checked
from bsqcodec.errors import BitstreamError, TruncatedError, UsageError, VideoError
from bsqcodec.frames import Frame, Track, VideoInfo
from bsqcodec.inplace import InPlace

if TYPE_CHECKING:
    from bsqcodec.container import Gap, Group, IndexEntry, Loss, StreamHeader
    from bsqcodec.recovery import Tolerance


_log = logging.getLogger("bsqcodec")


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """One decoded picture.

    y: uint8 [H, W]; u, v: uint8 [ceil(H/2), ceil(W/2)].
    index: its number in the video, from 0; pts, duration: seconds (duration 0 = unknown).
    concealed: it is lost, and another picture stands in for it.
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    index: int
    pts: Fraction
    duration: Fraction
    info: VideoInfo = field(repr=False)
    concealed: bool = False

    @cached_property
    def rgb(self) -> np.ndarray:
        """uint8 [H, W, 3] by the stream's matrix and range; see `bsqcodec.colour.to_rgb`."""
        from bsqcodec.colour import to_rgb

        return to_rgb(self.y, self.u, self.v, self.info)

    def __repr__(self) -> str:
        height, width = self.y.shape
        return f"DecodedFrame(index={self.index}, {width}x{height}, pts={float(self.pts):.3f} s)"


def open_stream(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; VideoError in one line when it cannot be."""
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise VideoError(f"{os.fspath(path)}: cannot read: {error.strerror}; check the name") from error


def _opened(source: str | os.PathLike[str] | BinaryIO) -> tuple[BinaryIO, str, bool]:
    """The file, its name for messages, and whether it is ours to close."""
    if isinstance(source, (str, os.PathLike)):
        return open_stream(source), os.fspath(source), True
    source.seek(0)
    return source, str(getattr(source, "name", "stream")), False


class Decoder(InPlace):
    """Iterates the frames of a .bsq file; a context manager; memory does not grow with the video.

    `len()` is the number of frames; `seek(n)` makes the next frame frame n; iterating goes on from
    where the last iteration stopped. A damaged group raises BitstreamError when it is reached. An iteration that
    reaches the end checks what frames do not need as well (packets, index, tail) before it ends: a file that was cut
    short gives the frames of its whole groups, then raises TruncatedError. With `on_error` nothing is raised,
    `losses` tells what is damaged, and lost frames are left out (indices jump) or concealed. Made by `bsqcodec.open`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        device: str = "auto",
        threads: int = 0,
        weights: str | os.PathLike[str] | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        from bsqcodec.recovery import Recovery, Tolerance

        self._position = 0
        self._warned = False
        self._decoded_last = -1  # number of the frame
        self._tolerance = tolerance or Tolerance()
        self._file, self._name, self._owned = _opened(path)
        try:
            self._reader = self._tolerance.reader(self._file, self._name)
            self._segments = self._find_segments()
            if self._tolerance.salvages:
                self._warn_of_missing_end()
            self._load(device, threads, weights)
        except BaseException:
            self.close()
            raise
        self._recovery = Recovery(self._model, self.info, self._tolerance, self._name)

    def _find_segments(self) -> list[IndexEntry | Gap]:
        """Where the groups are, in order; gaps only where they are to be concealed."""
        from bsqcodec.container import IndexEntry, SalvageReader
        from bsqcodec.container.reader import check_frames

        if isinstance(self._reader, SalvageReader):
            segments = self._reader.segments()
            conceals = self._tolerance.on_error == "conceal"
            return [item for item in segments if conceals or isinstance(item, IndexEntry)]
        entries = self._reader.index()
        if entries:
            total = entries[-1].first_frame + entries[-1].frames
            check_frames(total, self._tolerance.max_frames, self._name)
        return list(entries)

    def _warn_of_missing_end(self) -> None:
        """Once, for those who will not meet the error that an iteration ends in."""
        if not self.complete and not self._warned:
            self._warned = True
            _log.warning("%s: the end of the file was not found; %d frames can be played", self._name, len(self))

    def _load(self, device: str, threads: int, weights: str | os.PathLike[str] | None) -> None:
        from bsqcodec.codec import check_model, load_model

        self._model = load_model(weights, tune=self.header.tune, device=device, threads=threads)
        check_model(self._model, self.header)

    @property
    def header(self) -> StreamHeader:
        """What the stream says about itself: model, tune, crf, longest group."""
        return self._reader.header

    @property
    def info(self) -> VideoInfo:
        """Size, rate, shape and colour of the video."""
        return self.header.info

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The audio and subtitle tracks the file carries."""
        return tuple(self._reader.tracks)

    @property
    def complete(self) -> bool:
        """Whether the file has its end: it was not cut short, and is not still being written."""
        return self._reader.complete

    @property
    def losses(self) -> tuple[Loss, ...]:
        """With `on_error`: where the file is damaged and what that costs; grows only where decoding itself fails."""
        from bsqcodec.recovery import all_losses

        return all_losses(self._reader, self._recovery)

    def __len__(self) -> int:
        if not self._segments:
            return 0
        return self._segments[-1].first_frame + self._segments[-1].frames

    @checked
    def seek(self, frame: int) -> None:
        """Make frame number `frame` (0 .. len) the next one. Raises UsageError outside of the video."""
        if not 0 <= frame <= len(self):
            raise UsageError(f"frame {frame} is outside of the video, which has {len(self)} frames")
        self._warn_of_missing_end()
        self._position = frame

    def __iter__(self) -> Iterator[DecodedFrame]:
        from bsqcodec.container import Gap

        while (start := self._position) < len(self):
            place = max(bisect_right(self._segments, start, key=lambda item: item.first_frame) - 1, 0)
            segment = self._segments[place]
            if start >= segment.first_frame + segment.frames:  # lost and left out
                segment = self._segments[place + 1]
            self._position = start = max(start, segment.first_frame)
            if isinstance(segment, Gap):
                self._prepare(segment, place)
                yield from self._rest_of(segment)
            else:
                yield from self._rest_of(self._reader.read_group(segment))
            if self._position == start:  # promised, but the segment does not hold it
                self._position = self._give_up(segment)
        if not self._tolerance.salvages:
            self._check_whole()

    def _give_up(self, segment: IndexEntry | Gap) -> int:
        """Where to go on when a frame of a segment is not there."""
        if not self._tolerance.salvages:
            raise BitstreamError(f"{self._name}: frame {self._position} is missing; the file is damaged")
        return segment.first_frame + segment.frames

    def _check_whole(self) -> None:
        """Raise for damage that no frame met: in packets, index, tail, or a file cut short."""
        from bsqcodec.container import scan

        self._file.seek(0)
        damage = scan(self._file, check=True, name=self._name, max_pixels=self._tolerance.max_pixels).damage
        if damage is not None:
            raise (TruncatedError if damage.truncated else BitstreamError)(damage.message)

    def _prepare(self, gap: Gap, place: int) -> None:
        """Decode the picture before a gap, for a freeze, unless that was decoded last."""
        from bsqcodec.container import IndexEntry
        from bsqcodec.recovery import last_frame

        before = self._segments[place - 1] if place else None
        if not isinstance(before, IndexEntry):
            self._recovery.remember(None)
        elif self._tolerance.fill == "freeze" and self._decoded_last != gap.first_frame - 1:
            frames = self._recovery.frames(self._reader.read_group(before))
            self._recovery.remember(last_frame(frames, before.frames))

    def _rest_of(self, item: Group | Gap) -> Iterator[DecodedFrame]:
        """The frames of an item from the current position on; each moves the position, and so may the caller."""
        frames = range(item.first_frame, item.first_frame + len(item.pts))
        for number, (frame, concealed) in zip(frames, self._recovery.marked(item), strict=False):
            self._decoded_last = number
            if number == self._position:
                self._position += 1
                yield self._decoded(frame, number, concealed)
            if self._position not in range(number + 1, frames.stop):  # done, or `seek` was called
                return

    def _decoded(self, frame: Frame, number: int, concealed: bool) -> DecodedFrame:
        tick = self.info.time_base
        times = frame.pts * tick, frame.duration * tick
        return DecodedFrame(frame.y, frame.u, frame.v, number, *times, self.info, concealed)

    def close(self) -> None:
        """Close the file, unless it was handed in open. Frames that were handed out stay valid."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@checked
def open(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    device: str = "auto",
    threads: int = 0,
    weights: str | os.PathLike[str] | None = None,
    on_error: str = "fail",
    fill: str = "freeze",
    max_pixels: int = 2**28,
    max_frames: int | None = None,
) -> Decoder:
    """Open a .bsq file and iterate its frames.

    Args:
        path: the .bsq file, or an open binary file that can seek, which is read from its beginning.
        device: "auto", "cpu" or "cuda:N".
        threads: CPU threads, 0 = all.
        weights: model weights (.safetensors), None = those that ship with the package.
        on_error, fill, max_pixels, max_frames: as for `decode`; unless `on_error` is "fail", all of the file
            is read and checked first.

    Raises:
        UsageError: an argument is none of its values.
        VideoError: the file cannot be read.
        BitstreamError, UnsupportedVersionError: it is damaged, or needs a newer decoder.
        WeightsMismatchError: it was made with other weights.
        DeviceError: the device does not exist here.

    Example:
        >>> with bsqcodec.open("out.bsq") as video:  # doctest: +SKIP
        ...     video.seek(100)
        ...     picture = next(iter(video)).rgb
    """
    from bsqcodec.recovery import Tolerance

    tolerance = Tolerance(on_error, fill, max_pixels, max_frames)
    return Decoder(path, device=device, threads=threads, weights=weights, tolerance=tolerance)
