"""Reading: any file FFmpeg plays, as 8-bit 4:2:0 frames and untouched audio and subtitle packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import BinaryIO, Self

import av.error
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.video.clip import Clock, Event, limit_frames, skip_frames
from bsqcodec.video.convert import NATIVE, Converter, describe_colour
from bsqcodec.video.formats import InputFormat
from bsqcodec.video.source import Source
from bsqcodec.video.tracks import stream_label, track_of

MIN_SIDE, MAX_SIDE = 16, 16384  # luma samples
UNRELIABLE = {"mpegts", "mpeg"}  # broadcast formats: FFmpeg flags healthy packets of theirs as corrupt


def open_video(
    src: str | os.PathLike[str] | BinaryIO,
    *,
    skip: int = 0,
    limit: int | None = None,
    threads: int = 0,
    form: InputFormat | None = None,
) -> VideoReader:
    """Open a video for reading; "-" is standard input, YUV4MPEG2 unless `form` says otherwise.

    skip, limit: frames to leave out at the start and frames to read at most; the times of the frames stay.
    threads: of the decoder, 0 = one per core. form: what `input_format` made of the user's word, None = found out.
    Raises VideoError (one line that names the file) when there is no readable video.
    """
    if skip < 0 or (limit is not None and limit < 1):
        raise UsageError(f"skip {skip}, limit {limit}: skip must be 0 or more and limit 1 or more")
    return VideoReader(Source(src, form), skip, limit, threads)


class VideoReader:
    """Iterate once: yields `Frame` and `TrackPacket` in file order, in constant memory.

    Times are the file's own, in ticks of `info.time_base`. A frame without a time comes one nominal frame after
    the one before; a time that does not grow is replaced by the earliest that does, one tick after the one before.
    """

    def __init__(self, source: Source, skip: int, limit: int | None, threads: int) -> None:
        self.name = source.name
        self.skip, self.limit = skip, limit
        self.dropped: list[str] = []
        self.tracks: list[Track] = []
        self._source = source
        self._container = source.container
        self._converter = Converter(threads)
        self._info: VideoInfo | None = None
        self._last_pts: int | None = None
        self._count = 0  # frames decoded
        self._seen: dict[int, int] = {}  # stream index -> packets read
        self._frame_bytes = 0  # of the first video packet
        self._last_error: Exception | None = None
        try:
            self._stream = self._choose_video()
            self._stream.codec_context.thread_count = threads
            self._stream.codec_context.thread_type = "AUTO"
            self._track_index = self._find_tracks()
            self._events = self._decode()
            self._ahead = self._read_first_frame()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. A second call does nothing."""
        self._source.close()

    @property
    def info(self) -> VideoInfo:
        if self._info is None:
            raise VideoError(f"{self.name}: no frame could be decoded; the file is damaged or not a video")
        return self._info

    @property
    def frame_count_hint(self) -> int | None:
        """Frames that iterating is expected to yield, from the container; None when it does not say."""
        total = self._total_hint
        if total is None:
            return self.limit
        kept = max(total - self.skip, 0)
        return kept if self.limit is None else min(kept, self.limit)

    @property
    def duration_hint(self) -> float | None:
        """Seconds that iterating is expected to cover; None when unknown."""
        if self.skip or self.limit is not None:
            count = self.frame_count_hint
            return None if count is None else float(count / self.info.fps)
        return self._seconds

    def __iter__(self) -> Iterator[Event]:
        events = self._all_events()
        clock = Clock(self.info, self.tracks)
        if self.skip:
            events = skip_frames(events, self.skip, clock)
        if self.limit is not None:
            events = limit_frames(events, self.limit, clock)
        kept = 0
        for event in events:
            kept += isinstance(event, Frame)
            yield event
        if not kept:
            raise VideoError(f"{self.name}: skipping {self.skip} frames leaves none, it has {self._count}; skip fewer")

    def _all_events(self) -> Iterator[Event]:
        ahead, self._ahead = self._ahead, []
        yield from ahead
        yield from self._events

    def _choose_video(self) -> VideoStream:
        videos = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not videos:
            kinds = sorted({stream.type for stream in self._container.streams})
            found = f" (only {', '.join(kinds)})" if kinds else ""
            raise VideoError(f"{self.name}: no video stream{found}; give a file that has pictures")
        if videos[0].codec_context is None:
            raise VideoError(f"{self.name}: FFmpeg has no decoder for this video stream; convert the file first")
        return videos[0]

    def _find_tracks(self) -> dict[int, int]:
        """Fill `tracks` and `dropped`; stream index -> index of its track."""
        index: dict[int, int] = {}
        for stream in self._container.streams:
            if stream.index == self._stream.index:
                continue
            track = track_of(stream)
            if track is None:
                self.dropped.append(stream_label(stream))
            else:
                index[stream.index] = len(self.tracks)
                self.tracks.append(track)
        return index

    def _read_first_frame(self) -> list[Event]:
        self._seconds, self._total_hint = self._length_hints()  # the container fills these in before any packet
        ahead: list[Event] = []
        for event in self._events:
            ahead.append(event)
            if isinstance(event, Frame):
                return ahead
        raise VideoError(
            f"{self.name}: no frame could be decoded; the file is cut short or damaged"
        ) from self._last_error

    def _length_hints(self) -> tuple[float | None, int | None]:
        stream = self._stream
        seconds: float | None = None
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        elif self._container.duration:
            seconds = self._container.duration / av.time_base
        if stream.frames:
            return seconds, stream.frames
        rate = stream.average_rate or stream.guessed_rate
        return seconds, round(seconds * rate) if seconds and rate else None

    def _decode(self) -> Iterator[Event]:
        for packet in self._demux():
            if packet.stream_index == self._stream.index:
                for frame in self._decode_packet(packet):
                    yield self._to_frame(frame)
            elif packet.size and packet.stream_index in self._track_index:
                yield self._to_track_packet(packet)
        self._check_complete()

    def _demux(self) -> Iterator[Packet[Stream]]:
        wanted = [self._stream.index, *self._track_index]
        packets = self._container.demux([self._container.streams[index] for index in wanted])
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                raise self._damaged() from error
            if packet.is_corrupt and self._source.format not in UNRELIABLE:
                raise self._damaged()
            if packet.size:
                self._seen[packet.stream.index] = self._seen.get(packet.stream.index, 0) + 1
                if packet.stream is self._stream and not self._frame_bytes:
                    self._frame_bytes = packet.size
            # an empty packet with a time is a dropped frame (AVI), one without is PyAV's flush at the end
            if packet.size or (packet.pts is None and packet.dts is None):
                yield packet

    def _decode_packet(self, packet: Packet[Stream]) -> list[VideoFrame]:
        try:
            return self._stream.decode(packet if packet.size else None)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            if self._count:
                raise self._damaged() from error
            self._last_error = error  # a recording may start between two key frames
            return []

    def _check_complete(self) -> None:
        """Raise when the container promised more than it held."""
        short = False
        if "mp4" in self._source.format:
            # one index entry per packet that FFmpeg means to deliver, edit lists already applied
            short = any(count < len(self._container.streams[i].index_entries) for i, count in self._seen.items())
        frames = self._seen.get(self._stream.index, 0)
        if short or self._source.is_cut_short(frames, self._frame_bytes):
            raise self._damaged()

    def _damaged(self) -> VideoError:
        return VideoError(
            f"{self.name}: the file is cut short or damaged after frame {self._count}; "
            "copy or download it again, or read fewer frames with a limit"
        )

    def _to_frame(self, frame: VideoFrame) -> Frame:
        if self._info is None:
            self._info = self._describe(frame)
        info = self._info
        if (frame.width, frame.height) != (info.width, info.height):
            raise VideoError(
                f"{self.name}: frame {self._count} is {frame.width}x{frame.height}, the frames before are "
                f"{info.width}x{info.height}; a change of size is not supported, cut the file there"
            )
        y, u, v = self._converter.planes(frame)
        self._count += 1
        return Frame(y, u, v, self._next_pts(frame), frame.duration or 0)

    def _next_pts(self, frame: VideoFrame) -> int:
        info, last = self.info, self._last_pts
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            pts = 0 if last is None else last + max(1, round(1 / (info.fps * info.time_base)))
        elif last is not None and pts <= last:
            pts = last + 1
        self._last_pts = pts
        return pts

    def _describe(self, frame: VideoFrame) -> VideoInfo:
        for side in (frame.width, frame.height):
            if not MIN_SIDE <= side <= MAX_SIDE:
                raise VideoError(
                    f"{self.name}: {frame.width}x{frame.height} is not supported; "
                    f"both sides must be {MIN_SIDE} to {MAX_SIDE} samples"
                )
        colour = describe_colour(frame)
        stream = self._stream
        name = frame.format.name
        return VideoInfo(
            width=frame.width,
            height=frame.height,
            time_base=stream.time_base or Fraction(1, 90000),
            fps=stream.average_rate or stream.guessed_rate or Fraction(25),
            sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
            rotation=round(-frame.rotation / 90) * 90 % 360,
            primaries=colour.primaries,
            transfer=colour.transfer,
            matrix=colour.matrix,
            full_range=colour.full_range,
            chroma_location=colour.chroma_location,
            source_format="yuv420p" if name in NATIVE else name,
        )

    def _to_track_packet(self, packet: Packet[Stream]) -> TrackPacket:
        return TrackPacket(
            track=self._track_index[packet.stream_index],
            data=bytes(packet),
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration or 0,
            keyframe=packet.is_keyframe,
        )
