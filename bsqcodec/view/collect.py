"""What there is to see of a file, frame by frame: pictures, bits of each token, motion, and the original beside it.

Legend: h w token rows and columns of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bsqcodec.decoder import open_stream
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.metrics import frame_psnr
from bsqcodec.outputs import StrPath

if TYPE_CHECKING:
    from bsqcodec.codec import Model
    from bsqcodec.container import Group, StreamHeader, StreamReader


@dataclass(frozen=True)
class Options:
    """What to show.

    skip, limit: frames to leave out at the beginning, and to show at most (None = all).
    device, threads, weights: as for `bsqcodec.open`.
    """

    skip: int = 0
    limit: int | None = None
    device: str = "auto"
    threads: int = 0
    weights: StrPath | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """One frame.

    number: in the video, from 0; time: seconds since the first frame shown; first: of its group.
    token_bits: float64 [h, w], ideal bits; vectors: int16 [h, w, 2], (dx, dy) in quarter luma samples, 0 where the
    frame is not predicted; motion_bits: ideal bits of them. psnr: (6Y+U+V)/8 in dB against the original, if any.
    """

    number: int
    time: Fraction
    first: bool
    decoded: Frame
    original: Frame | None
    token_bits: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.int16]
    motion_bits: float
    psnr: float | None


@dataclass(eq=False)
class Viewing:
    """An open file whose frames are about to be looked at; a context manager. total: frames there will be.

    Raises as `bsqcodec.open`; UsageError where `options` leave no frame, or the original does not fit.
    """

    path: StrPath
    original: StrPath | None
    options: Options
    header: StreamHeader = field(init=False)
    frames_in_file: int = field(init=False)
    total: int = field(init=False)

    def __enter__(self) -> Viewing:
        from bsqcodec.container import StreamReader

        with ExitStack() as stack:
            file = stack.enter_context(open_stream(self.path))
            self._reader: StreamReader = StreamReader(file, name=str(self.path))
            self._entries = self._reader.index()
            self.header = self._reader.header
            self.frames_in_file = sum(entry.frames for entry in self._entries)
            self.total = self._count()
            self._originals = self._open_original(stack)
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._resources.close()

    @property
    def info(self) -> VideoInfo:
        """Size, rate, shape and colour."""
        return self.header.info

    def _count(self) -> int:
        rest = self.frames_in_file - self.options.skip
        if rest < 1:
            last = self.frames_in_file - 1
            raise UsageError(f"{self.path}: there is no frame {self.options.skip}; the last one is {last}")
        return rest if self.options.limit is None else min(rest, self.options.limit)

    def _open_original(self, stack: ExitStack) -> Iterator[Frame] | None:
        if self.original is None:
            return None
        from bsqcodec.video import open_video

        video = open_video(self.original, skip=self.options.skip, limit=self.total, threads=self.options.threads)
        stack.enter_context(video)
        sizes = [f"{info.width}x{info.height}" for info in (video.info, self.info)]
        if sizes[0] != sizes[1]:
            raise UsageError(f"{self.original}: {sizes[0]} px, but {self.path} has {sizes[1]}; give its original")
        return (item for item in video if isinstance(item, Frame))

    def __iter__(self) -> Iterator[Seen]:
        from bsqcodec.codec import check_model, load_model

        options = self.options
        model = load_model(options.weights, tune=self.header.tune, device=options.device, threads=options.threads)
        check_model(model, self.header)
        first, last = options.skip, options.skip + self.total
        start: int | None = None
        for entry in self._entries:
            if entry.first_frame + entry.frames <= first or entry.first_frame >= last:
                continue
            group = self._reader.read_group(entry)
            start = group.pts[max(0, first - entry.first_frame)] if start is None else start
            yield from self._group(model, group, first, last, start)

    def _group(self, model: Model, group: Group, first: int, last: int, start: int) -> Iterator[Seen]:
        from bsqcodec.codec.dissect import dissect
        from bsqcodec.codec.group import to_frame

        for i, parts in enumerate(dissect(model, group, self.info)):
            number = group.first_frame + i
            if number >= last:
                return
            if number < first:
                continue
            decoded = to_frame(parts.planes, self.info, group.pts[i], group.durations[i])
            h, w = parts.token_bits.shape
            still = np.zeros((h, w, 2), np.int16)
            vectors = still if parts.motion is None else parts.motion.vectors.cpu().numpy().astype(np.int16)
            original = self._next_original(number)
            psnr = None if original is None else frame_psnr(original, decoded).yuv
            time = (decoded.pts - start) * self.info.time_base
            yield Seen(number, time, i == 0, decoded, original, parts.token_bits, vectors, parts.motion_bits, psnr)

    def _next_original(self, number: int) -> Frame | None:
        if self._originals is None:
            return None
        frame = next(self._originals, None)
        if frame is None:
            raise UsageError(f"{self.original}: has no frame {number}, which {self.path} has; give its original")
        return frame
