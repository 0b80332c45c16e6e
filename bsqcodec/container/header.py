"""HEAD (the stream header) and `trak` (one carried audio or subtitle track)."""

from __future__ import annotations

from dataclasses import replace

from bsqcodec.container.fields import FieldReader, pack_fraction, pack_string, pack_uint, pack_varint
from bsqcodec.container.types import INTEGER_ARITHMETIC, MAX_EXTRADATA, MAX_PIXELS, TUNES, StreamHeader
from bsqcodec.errors import LimitError, UnsupportedVersionError, UsageError
from bsqcodec.frames import Track, VideoInfo

_RANGES: tuple[bool | None, ...] = (None, False, True)  # the index is the code: unspecified, limited, full
_KINDS = ("audio", "subtitle")


def pack_header(header: StreamHeader) -> bytes:
    """Payload of HEAD; UsageError where a value does not fit the format."""
    _check_header(header)
    return b"".join(
        [
            _pack_info(header.info),
            pack_uint(header.keyint, 2, "keyint"),
            pack_uint(TUNES.index(header.tune), 1, "tune"),
            pack_uint(round(header.crf * 100), 2, "crf in 1/100"),
            pack_uint(header.arithmetic, 1, "arithmetic"),
            b"\0",  # reserved
            header.weights_sha256,
            pack_string(header.info.source_format, "source format"),
            pack_string(header.model, "model name"),
            pack_string(header.tool, "tool"),
        ]
    )


def _check_header(header: StreamHeader) -> None:
    if header.info.width < 1 or header.info.height < 1:
        raise UsageError(f"a video of {header.info.width}x{header.info.height} pixels cannot be written")
    if header.keyint < 1:
        raise UsageError(f"keyint {header.keyint} must be at least 1")
    if not 0 <= header.crf <= 655.35:
        raise UsageError(f"crf {header.crf} is outside 0..655.35")
    if header.tune not in TUNES:
        raise UsageError(f"tune {header.tune!r} is none of {', '.join(TUNES)}")
    if len(header.weights_sha256) != 32:
        raise UsageError(f"a SHA-256 has 32 bytes, not {len(header.weights_sha256)}")


def _pack_info(info: VideoInfo) -> bytes:
    if info.rotation not in (0, 90, 180, 270):
        raise UsageError(f"rotation {info.rotation} must be 0, 90, 180 or 270 degrees")
    parts = [pack_uint(info.width, 2, "width"), pack_uint(info.height, 2, "height")]
    parts.append(pack_fraction(info.time_base, "time base"))
    parts.append(pack_fraction(info.fps, "frame rate"))
    parts.append(pack_fraction(info.sample_aspect_ratio, "sample aspect ratio"))
    parts.append(pack_uint(info.rotation // 90, 1, "rotation"))
    parts.append(pack_uint(info.primaries, 1, "primaries"))
    parts.append(pack_uint(info.transfer, 1, "transfer"))
    parts.append(pack_uint(info.matrix, 1, "matrix"))
    parts.append(pack_uint(_RANGES.index(info.full_range), 1, "range"))
    parts.append(pack_uint(info.chroma_location, 1, "chroma location"))
    return b"".join(parts)


def parse_header(fields: FieldReader, max_pixels: int = MAX_PIXELS) -> StreamHeader:
    """HEAD's payload; `max_pixels` bounds what a decoder will have to allocate for a frame."""
    info = _parse_info(fields, max_pixels)
    keyint, tune, crf, arithmetic = (fields.uint(size) for size in (2, 1, 2, 1))
    fields.take(1)  # reserved
    if not keyint:
        raise fields.error("keyint 0; the file is damaged")
    if tune >= len(TUNES):
        raise UnsupportedVersionError(str(fields.error(f"tune {tune} is unknown to this program; update it")))
    if arithmetic != INTEGER_ARITHMETIC:
        raise UnsupportedVersionError(
            str(fields.error(f"arithmetic {arithmetic} is unknown to this program; update it"))
        )
    weights = fields.take(32)
    info = replace(info, source_format=fields.string("source format"))
    model, tool = fields.string("model name"), fields.string("tool")
    return StreamHeader(info, keyint, TUNES[tune], crf / 100, weights, model, arithmetic, tool)


def _parse_info(fields: FieldReader, max_pixels: int) -> VideoInfo:
    width, height = fields.uint(2), fields.uint(2)
    if not width or not height:
        raise fields.error(f"a video of {width}x{height} pixels; the file is damaged")
    if width * height > max_pixels:
        problem = f"a video of {width}x{height} pixels, more than the limit of {max_pixels}; raise --max-pixels"
        raise LimitError(str(fields.error(problem)))
    time_base, fps, sar = (fields.fraction(what) for what in ("time base", "frame rate", "sample aspect ratio"))
    rotation = 90 * (fields.uint(1) & 3)
    primaries, transfer, matrix, range_code, location = (fields.uint(1) for _ in range(5))
    full_range = _RANGES[range_code] if range_code < len(_RANGES) else None
    return VideoInfo(width, height, time_base, fps, sar, rotation, primaries, transfer, matrix, full_range, location)


def pack_track(track: Track) -> bytes:
    """Payload of `trak`."""
    if track.kind not in _KINDS:
        raise UsageError(f"track kind {track.kind!r} is none of {', '.join(_KINDS)}")
    if len(track.extradata) > MAX_EXTRADATA:
        raise UsageError(f"{len(track.extradata)} bytes of codec extradata; the limit is {MAX_EXTRADATA}")
    return b"".join(
        [
            pack_uint(_KINDS.index(track.kind), 1, "track kind"),
            pack_fraction(track.time_base, "time base of a track"),
            pack_uint(track.sample_rate, 4, "sample rate"),
            pack_uint(track.channels, 2, "channels"),
            pack_uint(track.frame_size, 4, "frame size"),
            pack_string(track.codec, "codec name"),
            pack_string(track.language, "language"),
            pack_string(track.layout, "channel layout"),
            pack_varint(len(track.extradata)),
            track.extradata,
        ]
    )


def parse_track(fields: FieldReader) -> Track:
    """A `trak` payload."""
    kind = fields.uint(1)
    if kind >= len(_KINDS):
        raise UnsupportedVersionError(str(fields.error(f"track kind {kind} is unknown to this program; update it")))
    time_base = fields.fraction("time base")
    sample_rate, channels, frame_size = fields.uint(4), fields.uint(2), fields.uint(4)
    codec, language, layout = fields.string("codec name"), fields.string("language"), fields.string("channel layout")
    extradata = fields.take(fields.varint(MAX_EXTRADATA, "length of extradata"))
    return Track(_KINDS[kind], codec, time_base, extradata, language, sample_rate, channels, layout, frame_size)
