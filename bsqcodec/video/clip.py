"""`skip` and `limit`: cutting a stream of frames and track packets at frame boundaries.

Packets are judged by their presentation time. A file stores them near, not exactly at, the frame they go with, so
some wait here until it is known on which side of the cut they fall; the wait is bounded by the file's interleaving.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo

Event = Frame | TrackPacket
DRAIN = Fraction(1)  # seconds of video read past the cut, to collect packets stored late


class Clock:
    """Presentation times in seconds, exact."""

    def __init__(self, info: VideoInfo, tracks: list[Track]) -> None:
        self.info = info
        self.tracks = tracks

    def of(self, event: Event) -> Fraction | None:
        if isinstance(event, Frame):
            return event.pts * self.info.time_base
        ticks = event.pts if event.pts is not None else event.dts
        return None if ticks is None else ticks * self.tracks[event.track].time_base

    def end_of(self, frame: Frame) -> Fraction:
        length = frame.duration * self.info.time_base if frame.duration > 0 else 1 / self.info.fps
        return frame.pts * self.info.time_base + length

    def before(self, packet: TrackPacket, time: Fraction) -> bool:
        """True when the packet is shown before `time` (seconds); a packet without a time never is."""
        own = self.of(packet)
        return own is not None and own < time


def skip_frames(events: Iterator[Event], skip: int, clock: Clock) -> Iterator[Event]:
    """Drop the first `skip` frames, and every packet that comes before the first frame kept."""
    held: list[TrackPacket] = []
    skipped = 0
    start: Fraction | None = None
    for event in events:
        if isinstance(event, TrackPacket):
            if start is None:
                held.append(event)
            elif not clock.before(event, start):
                yield event
        elif skipped < skip:
            skipped += 1
            passed = event.pts * clock.info.time_base
            held = [packet for packet in held if not clock.before(packet, passed)]
        else:
            yield event
            if start is None:
                start = event.pts * clock.info.time_base
                yield from (packet for packet in held if not clock.before(packet, start))
                held = []


def limit_frames(events: Iterator[Event], limit: int, clock: Clock) -> Iterator[Event]:
    """Stop after `limit` frames; packets that come after the last frame's end are dropped."""
    held: list[TrackPacket] = []
    count = 0
    for event in events:
        if isinstance(event, TrackPacket):
            held.append(event)
            continue
        yield event
        count += 1
        if count == limit:
            end = clock.end_of(event)
            yield from (packet for packet in held if clock.before(packet, end))
            yield from _late_packets(events, end, clock)
            return
        now = event.pts * clock.info.time_base
        yield from (packet for packet in held if clock.before(packet, now))
        held = [packet for packet in held if not clock.before(packet, now)]
    yield from held


def _late_packets(events: Iterator[Event], end: Fraction, clock: Clock) -> Iterator[TrackPacket]:
    waiting = {index for index, track in enumerate(clock.tracks) if track.kind == "audio"}
    for event in events if waiting else ():
        if isinstance(event, TrackPacket):
            if clock.before(event, end):
                yield event
            else:
                waiting.discard(event.track)
        if not waiting or (isinstance(event, Frame) and event.pts * clock.info.time_base > end + DRAIN):
            return
