"""`bsqcodec.Encoder`: pictures in, one by one, a .bsq file out; and whole videos in memory.

with bsqcodec.Encoder("out.bsq", fps=30, crf=28) as encoder:
    for picture in pictures:  # numpy uint8 [H, W, 3], torch [3, H, W] on any device, or planes
        encoder.write(picture)
print(encoder.stats)
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from bsqcodec.api import _header
from bsqcodec.arguments import checked
from bsqcodec.checks import check_encode
from bsqcodec.decoder import DecodedFrame
from bsqcodec.decoder import open as open_bsq
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, TrackPacket, VideoInfo
from bsqcodec.outputs import AtomicOutput, StrPath, output_file
from bsqcodec.pictures import AnyPicture, as_frame, info_of
from bsqcodec.presets import PRESETS
from bsqcodec.progress import ProgressMeter
from bsqcodec.results import EncodeStats

if TYPE_CHECKING:
    from bsqcodec.codec import Model
    from bsqcodec.runs import EncodeRun

Seconds = Fraction | float | int

FINEST = 10**6  # largest denominator of a rate that was given as a float


class Encoder:
    """Encodes pictures as they come; a context manager; memory does not grow with the video.

    Other than `bsqcodec.encode` it does not look ahead, so that a last group of a few pictures begins as finely as any.

    The first picture decides size and colour. The file is written as `<dst>.part` and gets its name when the block is
    left without an error; any error leaves nothing behind. Leaving it without a picture is an error.

    Args:
        dst: the .bsq file, "-" = standard output, or a binary file, which stays open.
        fps: pictures per second of playing time.
        info: colour, shape and clock of the video where the pictures do not say; its size and rate must be theirs.
        crf, keyint, preset, tune, device, threads, overwrite, weights: as for `bsqcodec.encode`.

    Raises:
        UsageError, VideoError, DeviceError, WeightsMismatchError: as `bsqcodec.encode` does.
    """

    @checked
    def __init__(
        self,
        dst: StrPath | BinaryIO,
        *,
        fps: Seconds = 25,
        info: VideoInfo | None = None,
        crf: float = 28.0,
        keyint: int = 32,
        preset: str = "medium",
        tune: str = "psnr",
        device: str = "auto",
        threads: int = 0,
        overwrite: bool = False,
        weights: StrPath | None = None,
    ) -> None:
        check_encode(crf, keyint, preset, tune, threads, 0, None)
        self._fps = info.fps if info is not None else _rate(fps)
        self._info, self._crf, self._keyint, self._search = info, crf, keyint, PRESETS[preset]
        self._resources = ExitStack()
        self._file = self._opened(dst, overwrite)
        try:
            from bsqcodec.codec import load_model

            self._model = load_model(weights, tune=tune, device=device, threads=threads)
            self._waits = _codes_whole_groups(self._model)
        except BaseException as error:
            self._resources.__exit__(type(error), error, error.__traceback__)
            raise
        self._run: EncodeRun | None = None
        self._meter: ProgressMeter | None = None
        self._count = 0  # pictures written
        self._last: int | None = None  # pts of the last picture, ticks
        self._stats: EncodeStats | None = None
        self._closed = False

    def _opened(self, dst: StrPath | BinaryIO, overwrite: bool) -> BinaryIO:
        if not isinstance(dst, (str, os.PathLike)):
            return dst
        output = self._resources.enter_context(AtomicOutput(dst, overwrite=overwrite))
        try:
            return self._resources.enter_context(output_file(output))
        except BaseException as error:
            self._resources.__exit__(type(error), error, error.__traceback__)
            raise

    @property
    def stats(self) -> EncodeStats:
        """What was made; UsageError before the end."""
        if self._stats is None:
            raise UsageError("the encoder has no figures before it is closed")
        return self._stats

    @checked
    def write(self, picture: AnyPicture, *, pts: Seconds | None = None, duration: Seconds = 0) -> None:
        """Encode the next picture.

        picture: RGB, numpy uint8 [H, W, 3] or torch [3, H, W] (uint8, or floating point 0..1), or planes
        (`bsqcodec.pictures`). A tensor on the model's device is used in place; it may be overwritten afterwards.
        pts: seconds, later than the last picture's, rounded to the clock of `info` (without one, to whole pictures);
        None = a `DecodedFrame`'s own where `info` was given, else one picture after the last.
        duration: seconds, 0 = unknown.
        Raises UsageError where the picture is none, or its size or time does not fit the ones before.
        """
        if self._closed:
            raise UsageError("the encoder is closed; write before the end of the block")
        number = self._count
        frame = as_frame(picture, name=f"frame {number}")
        run = self._started(picture, frame)
        if self._waits:
            frame = _copied(frame)
        if pts is None and self._info is not None and isinstance(picture, DecodedFrame):
            pts, duration = picture.pts, duration or picture.duration
        run.add(self._timed(frame, number, pts, duration))
        self._count += 1

    def _started(self, picture: AnyPicture, frame: Frame) -> EncodeRun:
        """The run; the first picture starts it, the others must fit."""
        height, width = frame.y.shape
        if self._run is not None:
            known = self._run.tally.info
            if (known.width, known.height) != (width, height):
                raise UsageError(f"a picture of {width}x{height} behind others of {known.width}x{known.height}")
            return self._run
        from bsqcodec.codec import GroupEncoder
        from bsqcodec.runs import EncodeRun

        info = self._info or info_of(picture, frame, self._fps)
        if (info.width, info.height) != (width, height):
            raise UsageError(f"a picture of {width}x{height}, but info says {info.width}x{info.height}")
        encoder = GroupEncoder(self._model, info, crf=self._crf, keyint=self._keyint, search=self._search)
        self._meter = ProgressMeter(None, rate=info.fps, total=None)
        header = _header(self._model, info, self._crf, self._keyint)
        self._run = EncodeRun(self._file, header, _Pushed(info), encoder, self._meter, looks_ahead=False)
        return self._run

    def _timed(self, frame: Frame, number: int, pts: Seconds | None, duration: Seconds) -> Frame:
        """The frame with its times in ticks."""
        assert self._run is not None
        tick = self._run.tally.info.time_base
        step = max(1, round(1 / (self._fps * tick)))
        if pts is not None:
            ticks = round(Fraction(pts) / tick)
        else:
            ticks = 0 if self._last is None else self._last + step
        if self._last is not None and ticks <= self._last:
            raise UsageError(
                f"frame {number}: at {float(pts or 0):g} s, no later than the frame before; times must grow"
            )
        self._last = ticks
        return replace(frame, pts=ticks, duration=round(Fraction(duration) / tick))

    def close(self) -> EncodeStats:
        """Finish the file and give it its name; a second call only returns the figures."""
        if not self._closed:
            self.__exit__(None, None, None)
        return self.stats

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        self._closed = True
        if error is not None:
            self._resources.__exit__(kind, error, trace)
            return
        with self._resources:
            if self._run is None or self._meter is None:
                raise UsageError("the encoder was closed without a picture; write at least one")
            self._run.finish()
            self._stats = self._run.tally.stats(size=self._run.size, seconds=self._meter.seconds)


class _Pushed:
    """A source whose frames come from outside."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.tracks: tuple[Any, ...] = ()

    def __iter__(self) -> Iterator[Frame | TrackPacket]:
        return iter(())


def _codes_whole_groups(model: Model) -> bool:
    from bsqcodec.tokenizer.causal import CausalTokenizer

    return isinstance(model.tokenizer, CausalTokenizer)


def _copied(frame: Frame) -> Frame:
    """The frame in memory of its own, for an encoder that keeps it while the caller fills its buffer again."""
    tensors = getattr(frame, "tensors", None)
    if tensors is None:
        return replace(frame, y=frame.y.copy(), u=frame.u.copy(), v=frame.v.copy())
    from bsqcodec.tensors import DeviceFrame

    y, u, v = (plane.clone() for plane in tensors)
    return DeviceFrame.of((y, u, v), frame.pts, frame.duration)


def _rate(fps: Seconds) -> Fraction:
    rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(FINEST) if fps == fps else Fraction(0)
    if rate <= 0:
        raise UsageError(f"fps {fps}: must be above 0")
    return rate


@checked
def compress(frames: Iterable[AnyPicture], **options: Any) -> bytes:
    """A video as the bytes of a .bsq file.

    frames: a video, numpy uint8 [T, H, W, 3] or torch [T, 3, H, W], or pictures one after another of any kind that
    `Encoder.write` takes. options: those of `Encoder`.
    Raises what `Encoder` does.
    """
    buffer = io.BytesIO()
    with Encoder(buffer, **options) as encoder:
        for picture in frames:
            encoder.write(picture)
    return buffer.getvalue()


@checked
def decompress(data: bytes, **options: Any) -> list[DecodedFrame]:
    """All frames of what `compress` or `encode` made, in memory; `compress` takes them back.

    options: those of `bsqcodec.open`, which gives the frames one by one (`bsqcodec.open(io.BytesIO(data))`). Raises
    what it does; TruncatedError for bytes that are cut short.
    """
    with open_bsq(io.BytesIO(data), **options) as video:
        return list(video)
