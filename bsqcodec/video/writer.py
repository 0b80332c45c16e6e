"""Writing: 8-bit 4:2:0 frames into a container of FFmpeg's (H.264 by default), or YUV4MPEG2.

`create_video` picks the writer. Containers: mp4, m4v, mov, mkv, y4m. Codecs: see `CODECS`.
"""

from __future__ import annotations

import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import av
import av.error
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.profile import stage
from bsqcodec.video.convert import CHROMA_LOCATIONS, FULL, LIMITED, QUALITY, to_av_frame
from bsqcodec.video.source import display_name
from bsqcodec.video.tracks import add_track, fits, to_av_packet, track_label
from bsqcodec.video.y4m import write_y4m_frame, y4m_header

MOVIE_TIMESCALE = 10_000  # least ticks per second of MP4 edit lists, which hold the start times of streams


@dataclass(frozen=True)
class OutputCodec:
    """encoder: FFmpeg's; containers: where it may go; odd_444: codes odd sizes as 4:4:4 (see `AvWriter`)."""

    encoder: str
    containers: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)
    odd_444: bool = False


_ANY = ("mp4", "mov", "matroska")
CODECS: dict[str, OutputCodec] = {
    # crf 12: differences are invisible on any display, at about a third of the lossless size
    "h264": OutputCodec("libx264", _ANY, {"crf": "12", "preset": "medium"}, odd_444=True),
    "h264-lossless": OutputCodec("libx264", _ANY, {"qp": "0", "preset": "medium"}, odd_444=True),
    # cutree corrupts the heap on small pictures (48x64, x265 as in PyAV 18.1)
    "hevc": OutputCodec(
        "libx265", _ANY, {"crf": "14", "preset": "medium", "x265-params": "log-level=none:cutree=0"}, odd_444=True
    ),
    "ffv1": OutputCodec("ffv1", ("matroska",), {"level": "3", "slicecrc": "1"}),
    "rawvideo": OutputCodec("rawvideo", ("matroska",)),
}
FORMATS = {"mp4": "mp4", "m4v": "mp4", "mov": "mov", "mkv": "matroska", "matroska": "matroska", "y4m": "y4m"}


def create_video(
    dst: str | os.PathLike[str] | BinaryIO,
    info: VideoInfo,
    tracks: Sequence[Track] = (),
    *,
    codec: str | None = None,
    format: str | None = None,
    threads: int = 0,
) -> VideoWriter:
    """Create a video file; "-" is YUV4MPEG2 on standard output.

    codec: a name of `CODECS`, default "h264". format: "mp4", "mov", "mkv" or "y4m", default by the suffix (one below
    ".part" counts). threads: of the encoder, 0 = one per core. An existing file is overwritten.
    Raises UsageError when codec and container do not go together, VideoError when the file cannot be written.
    """
    name = "standard output" if dst == "-" else display_name(dst)
    container = _container(dst, name, format)
    if container == "y4m":
        if codec is not None:
            raise UsageError(f"{name}: YUV4MPEG2 is raw video and takes no codec ({codec}); write .mkv or .mp4 instead")
        return Y4mWriter(dst, name, info, tracks)
    choice = CODECS.get(codec or "h264")
    if choice is None:
        raise UsageError(f"codec {codec}: not known; choose one of {', '.join(CODECS)}")
    if container not in choice.containers:
        raise UsageError(f"{name}: {codec} video does not go into {container}; write .mkv instead")
    return AvWriter(dst, name, info, tracks, choice, container, threads)


def _container(dst: str | os.PathLike[str] | BinaryIO, name: str, format: str | None) -> str:
    if format is None and dst == "-":
        return "y4m"
    suffixes = [suffix for suffix in Path(name).suffixes if suffix.lower() != ".part"]
    wanted = (format or (suffixes[-1] if suffixes else "")).lower().lstrip(".")
    if wanted not in FORMATS:
        raise UsageError(f"{name}: no video format called '{wanted}'; use a name that ends in .mp4, .mov, .mkv or .y4m")
    container = FORMATS[wanted]
    stream = None if isinstance(dst, os.PathLike) else sys.stdout.buffer if dst == "-" else dst
    if container != "y4m" and stream is not None and not isinstance(stream, str) and not stream.seekable():
        raise UsageError(f"{name}: {wanted} cannot be written to a pipe; use y4m")
    return container


class VideoWriter(ABC):
    """A video being written; a context manager. `dropped` names the tracks that do not fit the container.

    Leaving the `with` block on an exception closes the file without finishing it.
    """

    def __init__(self, name: str, info: VideoInfo) -> None:
        self.name = name
        self.info = info
        self.dropped: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is None:
            with stage("write"):
                self.close()
        else:
            self.abort()

    def write(self, frame: Frame) -> None:
        """Append one frame; its pts must grow."""
        self._check(frame)
        self._write(frame)

    @abstractmethod
    def write_packet(self, packet: TrackPacket) -> None:
        """Append a packet of a track, untouched; ignored when the track was dropped."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file. Raises VideoError when that fails (disk full, ...)."""

    @abstractmethod
    def abort(self) -> None:
        """Close without finishing; what was written is useless."""

    @abstractmethod
    def _write(self, frame: Frame) -> None:
        """Append a frame whose shape was checked."""

    def _check(self, frame: Frame) -> None:
        height, width = self.info.height, self.info.width
        half = ((height + 1) // 2, (width + 1) // 2)
        if frame.y.shape != (height, width) or frame.u.shape != half or frame.v.shape != half:
            raise UsageError(f"{self.name}: frame planes {frame.y.shape} {frame.u.shape} do not make {width}x{height}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What fails while writing becomes one VideoError line; a closed pipe stays a BrokenPipeError."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (av.error.FFmpegError, OSError, OverflowError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise VideoError(f"{self.name}: cannot be written ({reason}); {_advice(error)}") from error


def _advice(error: Exception) -> str:
    # a stream may hold sizes, rates and times that FFmpeg's encoders and containers do not take
    if getattr(error, "errno", errno.EINVAL) == errno.EINVAL:
        return "a size, rate or time of the stream does not fit this format, .y4m takes any"
    return "check folder, rights and space"


class Y4mWriter(VideoWriter):
    """YUV4MPEG2: lossless planes at a constant rate; frames of variable length are written once each."""

    def __init__(
        self, dst: str | os.PathLike[str] | BinaryIO, name: str, info: VideoInfo, tracks: Sequence[Track]
    ) -> None:
        super().__init__(name, info)
        self.dropped = [track_label(index, track, "y4m") for index, track in enumerate(tracks)]
        self._owned = isinstance(dst, (str, os.PathLike)) and dst != "-"
        with self._errors():
            if isinstance(dst, (str, os.PathLike)):
                self._file: BinaryIO = Path(dst).open("wb") if self._owned else sys.stdout.buffer
            else:
                self._file = dst
            self._file.write(y4m_header(info))

    def _write(self, frame: Frame) -> None:
        with self._errors():
            write_y4m_frame(self._file, frame)

    def write_packet(self, packet: TrackPacket) -> None:
        """Nothing: YUV4MPEG2 holds video only (see `dropped`)."""

    def close(self) -> None:
        with self._errors():
            if self._owned:
                self._file.close()
            else:
                self._file.flush()

    def abort(self) -> None:
        if self._owned:
            try:
                self._file.close()
            except OSError:
                pass  # the error that brought us here matters more


class AvWriter(VideoWriter):
    """A container of FFmpeg's.

    Times: the video stream gets the time base of `info`, so variable frame times survive (exactly in MP4 and MOV,
    rounded to milliseconds in MKV). No container starts before zero: when the first frame has a negative time,
    all streams move up by it together.
    Odd sizes: 4:2:0 H.264 and HEVC have even sizes only, so an odd video is coded as 4:4:4 at its true size.
    """

    def __init__(
        self,
        dst: str | os.PathLike[str] | BinaryIO,
        name: str,
        info: VideoInfo,
        tracks: Sequence[Track],
        codec: OutputCodec,
        container: str,
        threads: int,
    ) -> None:
        super().__init__(name, info)
        self._held: list[TrackPacket] | None = []  # until the first frame is here, None from then on
        self._shift = Fraction(0)  # seconds
        self._tracks = list(tracks)
        odd = info.width % 2 or info.height % 2
        self._pixel_format = "yuv444p" if odd and codec.odd_444 else "yuv420p"
        with self._errors():
            file = f"file:{os.fspath(dst)}" if isinstance(dst, (str, os.PathLike)) else dst
            self._container: OutputContainer = av.open(
                file, "w", format=container, container_options=_container_options(info, container)
            )
            self._stream = self._add_video(codec, threads)
        self._outputs = {}
        for index, track in enumerate(tracks):
            if fits(track, container):
                self._outputs[index] = add_track(self._container, track)
            else:
                self.dropped.append(track_label(index, track, container))
        with self._errors():
            self._stream.codec_context.open(strict=False)

    def _add_video(self, codec: OutputCodec, threads: int) -> VideoStream:
        info = self.info
        options = dict(codec.options)
        if 0 < info.chroma_location < len(CHROMA_LOCATIONS) and self._pixel_format == "yuv420p":
            options["chroma_sample_location"] = CHROMA_LOCATIONS[info.chroma_location]
        stream = cast(VideoStream, self._container.add_stream(codec.encoder, rate=info.fps, options=options))
        stream.time_base = info.time_base
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = info.width, info.height, self._pixel_format
        context.time_base = info.time_base
        context.sample_aspect_ratio = info.sample_aspect_ratio
        context.color_primaries, context.color_trc, context.colorspace = info.primaries, info.transfer, info.matrix
        context.color_range = {None: 0, False: LIMITED, True: FULL}[info.full_range]
        context.thread_count = threads
        if info.rotation:
            stream.set_display_rotation(-info.rotation)  # PyAV turns counter-clockwise
        return stream

    def _write(self, frame: Frame) -> None:
        if self._held is not None:
            self._release_held(frame)
        with self._errors():
            self._container.mux(self._stream.encode(self._to_av(frame)))

    def _release_held(self, first: Frame) -> None:
        """Fix the common shift, then send on the packets that waited for it."""
        if first.pts < 0:
            self._shift = -first.pts * self.info.time_base
        held, self._held = self._held or [], None
        for packet in held:
            self.write_packet(packet)

    def _to_av(self, frame: Frame) -> VideoFrame:
        out = to_av_frame(frame.y, frame.u, frame.v)
        if self._pixel_format != "yuv420p":
            out = out.reformat(format=self._pixel_format, interpolation=int(QUALITY))
        out.pts = frame.pts + round(self._shift / self.info.time_base)
        out.time_base = self.info.time_base
        out.duration = frame.duration
        return out

    def write_packet(self, packet: TrackPacket) -> None:
        if packet.track not in self._outputs:
            return
        if self._held is not None:
            self._held.append(packet)
            return
        with self._errors():
            out = to_av_packet(packet, self._tracks[packet.track], self._outputs[packet.track], self._shift)
            self._container.mux(out)

    def close(self) -> None:
        if self._held is not None:
            raise VideoError(f"{self.name}: no frame was written, so there is no video to finish")
        with self._errors():
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def abort(self) -> None:
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError):
            pass  # the error that brought us here matters more


def _container_options(info: VideoInfo, container: str) -> dict[str, str]:
    # negative times are edit lists (the priming of audio), not something to shift away
    options = {"avoid_negative_ts": "disabled"}
    if container != "matroska":
        scale = info.time_base.denominator
        options["video_track_timescale"] = str(scale)
        options["movie_timescale"] = str(scale * max(1, -(-MOVIE_TIMESCALE // scale)))
    return options
