"""Audio and subtitle streams that are copied: stream -> `Track`, and `Track` -> output stream.

An output stream is built without the input file. PyAV takes the parameters of an output stream from an encoder, so
one is opened for its parameters alone (it never encodes); then the track's own codec private bytes
replace the encoder's.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, cast

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from bsqcodec.frames import Track, TrackPacket

# FFmpeg codec name -> encoder, where they differ
ENCODERS = {"mp3": "libmp3lame", "opus": "libopus"}
HEADERLESS = {"hdmv_pgs_subtitle"}  # no encoder, but no codec private bytes to carry either
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# text subtitle encoders want an ASS script header before they open
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
BTRT = b"\x00\x00\x00\x14btrt"  # size and name of an MP4 bit rate box
ERRORS = (av.error.FFmpegError, ValueError, TypeError, OverflowError)


def stream_label(stream: Stream) -> str:
    """How a dropped stream is named to the user, e.g. "stream 3 (data, bin_data)"."""
    context = stream.codec_context
    codec = context.codec.canonical_name if context is not None else stream.metadata.get("mimetype", "unknown codec")
    return f"stream {stream.index} ({stream.type}, {codec})"


def track_of(stream: Stream) -> Track | None:
    """The stream as a `Track`; None when it cannot be carried as packets."""
    context = stream.codec_context
    if stream.type not in ("audio", "subtitle") or context is None or stream.time_base is None:
        return None
    common: dict[str, Any] = {
        "kind": stream.type,
        "codec": context.codec.canonical_name,
        "time_base": stream.time_base,
        "extradata": _private_bytes(context),
        "language": stream.metadata.get("language", ""),
    }
    if not isinstance(context, AudioCodecContext):
        return Track(**common)
    return Track(
        **common,
        sample_rate=context.sample_rate,
        channels=context.channels,
        layout=context.layout.name,
        frame_size=context.frame_size,
    )


def _private_bytes(context: CodecContext) -> bytes:
    data = context.extradata or b""
    if context.codec.canonical_name == "mov_text":
        # FFmpeg hands over the MP4 sample entry with its bit rate box, and would append one more when writing
        data = data.partition(BTRT)[0]
    return data


def track_label(index: int, track: Track, container: str) -> str:
    return f"track {index} ({track.kind}, {track.codec}): cannot be stored in {container}"


def fits(track: Track, container: str) -> bool:
    """True when the container format takes the track; tried with a header in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            add_track(trial, track)
            trial.start_encoding()
    except ERRORS:
        return False
    return True


def add_track(container: OutputContainer, track: Track) -> Stream:
    """Add an output stream for the track. Raises one of `ERRORS` when FFmpeg cannot."""
    encoder = ENCODERS.get(track.codec, track.codec)
    options = {"strict": "experimental"}
    _check_kind(encoder, track)
    if track.kind == "audio":
        stream: Stream = container.add_stream(encoder, rate=track.sample_rate, options=options)
        audio = cast(AudioCodecContext, stream.codec_context)
        audio.layout = _layout(track)
    elif track.codec in HEADERLESS:
        return _add_headerless(container, track)
    else:
        stream = container.add_stream(encoder, options=options)
        cast(Any, stream.codec_context).subtitle_header = ASS_HEADER
    _describe(stream, track)
    context: CodecContext = stream.codec_context
    context.open()
    if track.extradata or track.codec == "aac":
        # AAC without any is ADTS, from MPEG-TS: the container makes its own from the packets, where it finds none
        context.extradata = track.extradata or None
    return stream


def _check_kind(encoder: str, track: Track) -> None:
    """A stream may name any codec of FFmpeg's as audio or as subtitles. Raises ValueError for another kind."""
    if track.codec not in HEADERLESS and av.Codec(encoder, "w").type != track.kind:
        raise ValueError(f"{track.codec} is no codec for {track.kind}")


def _add_headerless(container: OutputContainer, track: Track) -> Stream:
    stream: Stream = container.add_mux_stream(track.codec)
    _describe(stream, track)
    return stream


def _describe(stream: Stream, track: Track) -> None:
    stream.time_base = track.time_base
    if track.language:
        stream.metadata["language"] = track.language


def _layout(track: Track) -> str:
    try:
        layout = av.AudioLayout(track.layout)
        if layout.nb_channels == track.channels and "channels" not in track.layout:
            return track.layout
    except ERRORS:
        pass
    return LAYOUTS.get(track.channels, "stereo")


def to_av_packet(packet: TrackPacket, track: Track, stream: Stream, shift: Fraction) -> Packet[Stream]:
    """The packet for muxing into `stream`, `shift` seconds later."""
    ticks = round(shift / track.time_base)
    out: Packet[Stream] = Packet(packet.data)
    out.stream = stream
    out.time_base = track.time_base
    out.pts = None if packet.pts is None else packet.pts + ticks
    out.dts = None if packet.dts is None else packet.dts + ticks
    out.duration = packet.duration
    out.is_keyframe = packet.keyframe
    return out
