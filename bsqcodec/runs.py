"""One pass of a video through the codec: source -> groups -> container, and container -> groups -> video."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Protocol

from bsqcodec.codec.settings import LOOKAHEAD
from bsqcodec.container import Gap, Group, StreamHeader, StreamStats, StreamWriter
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.partreader import GroupPart
from bsqcodec.profile import stage, staged
from bsqcodec.progress import ProgressMeter
from bsqcodec.rate.control import Control
from bsqcodec.results import Tally

if TYPE_CHECKING:
    from bsqcodec.codec import EncodedGroup
    from bsqcodec.video import VideoWriter

_PACKET_BATCH = 1 << 20  # bytes of audio and subtitles held back until the next group is written


class Source(Protocol):
    """What is encoded, such as a `VideoReader`: what is known about it, then its frames and packets in order."""

    @property
    def info(self) -> VideoInfo: ...
    @property
    def tracks(self) -> Sequence[Track]: ...
    def __iter__(self) -> Iterator[Frame | TrackPacket]: ...


class FrameEncoder(Protocol):
    """What turns frames into groups: `bsqcodec.codec.GroupEncoder`, or workers that do the same."""

    quality: int
    first_frame: int
    frames_done: int

    @property
    def bytes_done(self) -> int: ...
    def push(self, frame: Frame, ahead: int) -> list[EncodedGroup]: ...
    def flush(self) -> list[EncodedGroup]: ...


class EncodeRun:
    """One pass of a video through the encoder into the container."""

    def __init__(
        self,
        file: BinaryIO,
        header: StreamHeader,
        video: Source,
        encoder: FrameEncoder,
        meter: ProgressMeter,
        control: Control | None = None,
        looks_ahead: bool = True,
    ) -> None:
        self._video = video
        self._encoder = encoder
        self._meter = meter
        self._control = control
        self._writer: StreamWriter = StreamWriter(file, header, video.tracks)
        self._waiting: deque[Frame] = deque()
        self._ahead = LOOKAHEAD if looks_ahead else 0  # frames that wait, so that it is known which groups are short
        self._packets: list[TrackPacket] = []
        self._packet_bytes = 0
        self.tally = Tally(video.info)
        self.crcs: array[int] | None = None

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self._writer.offset

    def run(self, *, keep_crcs: bool) -> None:
        """Encode everything; with `keep_crcs` remember the CRC-32 of every reconstructed frame."""
        self.crcs = array("I") if keep_crcs else None
        for item in staged("read", self._video):
            self.add(item)
        self.finish()

    def add(self, item: Frame | TrackPacket) -> None:
        """Take the next frame, and encode the one that has waited long enough; or carry a packet over."""
        if isinstance(item, TrackPacket):
            self._hold(item)
        else:
            self._waiting.append(item)
            if len(self._waiting) > self._ahead:
                self._encode_next()

    def finish(self) -> None:
        """Encode and write what is left, and the end of the file."""
        while self._waiting:
            self._encode_next()
        self._write_groups(self._encoder.flush())
        self._flush_packets()
        with stage("write"):
            self._writer.close(self._stream_stats())
        self._report()

    def _encode_next(self) -> None:
        frame = self._waiting.popleft()
        if self._control is not None:
            self._steer(self._control)
        self._write_groups(self._encoder.push(frame, len(self._waiting) if self._ahead else LOOKAHEAD))
        self._report()

    def _steer(self, control: Control) -> None:
        """Set the quality of the next frame."""
        frame = self._encoder.frames_done
        position = frame - self._encoder.first_frame
        self._encoder.quality = control.next(frame, position, 8 * self._encoder.bytes_done, self.tally.overall_psnr)

    def _report(self) -> None:
        self._meter.report(self._encoder.frames_done, max(self.size, self._encoder.bytes_done))

    def _hold(self, packet: TrackPacket) -> None:
        # Batches keep the overhead of a chunk per packet away; the bound keeps memory constant.
        self._packets.append(packet)
        self._packet_bytes += len(packet.data)
        if self._packet_bytes >= _PACKET_BATCH:
            self._flush_packets()

    def _flush_packets(self) -> None:
        if self._packets:
            with stage("write"):
                self._writer.write_packets(self._packets)
        self._packets, self._packet_bytes = [], 0

    def _write_groups(self, groups: Iterable[EncodedGroup]) -> None:
        for encoded in groups:
            self._flush_packets()  # a player wants them before the frames they play with
            with stage("write"):
                self._writer.write_group(encoded.group)
            self.tally.add_group(encoded.group.pts, encoded.group.durations, encoded.plane_bits)
            for frame in encoded.frames:
                self.tally.add_frame(frame.sse_y, frame.sse_u, frame.sse_v, frame.bits)
                if self.crcs is not None:
                    self.crcs.append(frame.crc)

    def _stream_stats(self) -> StreamStats:
        bits = {name: round(value) for name, value in self.tally.bits.items()}
        motion = bits.pop("motion", 0)
        tokens = tuple((name.removeprefix("tokens/"), value) for name, value in bits.items())
        return StreamStats(motion, tokens, self.tally.psnr if self.tally.frames else None)


def decode_all(
    items: Iterable[GroupPart | list[TrackPacket]],
    video: VideoWriter,
    pictures: Callable[[Group | Gap], Iterable[Frame]],
    meter: ProgressMeter,
) -> tuple[int, int]:
    """Write every frame that is wanted and every packet; returns the numbers of frames and groups.

    pictures: decodes a group, frame after frame; it is not asked for more of them than are wanted.
    """
    frames = groups = 0
    for item in staged("read", items):
        if not isinstance(item, GroupPart):
            with stage("write"):
                for packet in item:
                    video.write_packet(packet)
            continue
        for frame in islice(pictures(item.group), item.wanted.start, item.wanted.stop):
            with stage("write"):
                video.write(frame)
            frames += 1
            meter.report(frames)
        groups += isinstance(item.group, Group)
    return frames, groups
