"""`bsqcodec.open`: the frames of a .bsq file, one by one, from any frame on."""

from __future__ import annotations

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

from bsqcodec.errors import BitstreamError, TruncatedError, UsageError, VideoError
from bsqcodec.frames import Frame, Track, VideoInfo
from bsqcodec.inplace import InPlace

if TYPE_CHECKING:
    from bsqcodec.container import Group, IndexEntry, StreamHeader


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """One decoded picture.

    y: uint8 [H, W]; u, v: uint8 [ceil(H/2), ceil(W/2)].
    index: its number in the video, from 0; pts, duration: seconds (duration 0 = unknown).
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    index: int
    pts: Fraction
    duration: Fraction
    info: VideoInfo = field(repr=False)

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
    where the last iteration stopped. A file that was cut short gives the frames of its whole groups,
    then raises TruncatedError. Made by `bsqcodec.open`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        device: str = "auto",
        threads: int = 0,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        from bsqcodec.container import StreamReader, scan

        self._position = 0
        self._file, self._name, self._owned = _opened(path)
        try:
            self._damage = scan(self._file, name=self._name).damage
            self._file.seek(0)
            self._reader = StreamReader(self._file, name=self._name)
            self._entries: list[IndexEntry] = self._reader.index()
            self._load(device, threads, weights)
        except BaseException:
            self.close()
            raise

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

    def __len__(self) -> int:
        if not self._entries:
            return 0
        return self._entries[-1].first_frame + self._entries[-1].frames

    def seek(self, frame: int) -> None:
        """Make frame number `frame` (0 .. len) the next one. Raises UsageError outside of the video."""
        if not 0 <= frame <= len(self):
            raise UsageError(f"frame {frame} is outside of the video, which has {len(self)} frames")
        self._position = frame

    def __iter__(self) -> Iterator[DecodedFrame]:
        while (start := self._position) < len(self):
            place = bisect_right(self._entries, start, key=lambda entry: entry.first_frame) - 1
            yield from self._rest_of(self._reader.read_group(self._entries[place]))
            if self._position == start:  # the index promised a frame that the group does not hold
                raise BitstreamError(f"{self._name}: frame {start} is missing; the file is damaged")
        if self._damage is not None:
            raise TruncatedError(self._damage.message)

    def _rest_of(self, group: Group) -> Iterator[DecodedFrame]:
        """The frames of a group from the current position on; each moves the position, and so may the caller."""
        from bsqcodec.codec import decode_group

        frames = range(group.first_frame, group.first_frame + len(group.pts))
        for number, frame in zip(frames, decode_group(self._model, group, self.info), strict=True):
            if number == self._position:
                self._position += 1
                yield self._decoded(frame, number)
            if self._position not in range(number + 1, frames.stop):  # done, or `seek` was called
                return

    def _decoded(self, frame: Frame, number: int) -> DecodedFrame:
        tick = self.info.time_base
        return DecodedFrame(frame.y, frame.u, frame.v, number, frame.pts * tick, frame.duration * tick, self.info)

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


def open(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    device: str = "auto",
    threads: int = 0,
    weights: str | os.PathLike[str] | None = None,
) -> Decoder:
    """Open a .bsq file and iterate its frames.

    Args:
        path: the .bsq file, or an open binary file that can seek, which is read from its beginning.
        device: "auto", "cpu" or "cuda:N".
        threads: CPU threads, 0 = all.
        weights: model weights (.safetensors), None = those that ship with the package.

    Raises:
        VideoError: the file cannot be read.
        BitstreamError, UnsupportedVersionError: it is damaged, or needs a newer decoder.
        WeightsMismatchError: it was made with other weights.
        DeviceError: the device does not exist here.

    Example:
        >>> with bsqcodec.open("out.bsq") as video:  # doctest: +SKIP
        ...     video.seek(100)
        ...     picture = next(iter(video)).rgb
    """
    return Decoder(path, device=device, threads=threads, weights=weights)
