"""What a `.bsq` file holds, as plain data: header, groups, statistics, index."""

from __future__ import annotations

from dataclasses import dataclass

from bsqcodec.frames import VideoInfo

FORMAT_MAJOR = 2
FORMAT_MINOR = 0
INTEGER_ARITHMETIC = 2  # id of the integer arithmetic that bitstream_spec.md describes
TUNES = ("psnr", "ms-ssim")  # the index in this tuple is the code in the file

MAX_CHUNK = 2**30  # payload bytes
MAX_GROUP_FRAMES = 65535
MAX_PIXELS = 2**28  # default limit of a reader, luma samples of one frame
MAX_TRACKS = 64
MAX_PACKETS = 2**18  # in one chunk
MAX_NAME = 255  # bytes of UTF-8 in a short string
MAX_TEXT = 65535  # bytes of UTF-8 in a metadata value
MAX_META = 1024  # pairs in one chunk
MAX_PLANES = 1024  # bit planes in the statistics
MAX_EXTRADATA = 2**24  # bytes


@dataclass(frozen=True)
class StreamHeader:
    """Everything a decoder must know before the first group.

    keyint: frames in the longest group (1..65535); crf: nominal quality 0..655.35, kept to 1/100.
    tune: one of `TUNES`; weights_sha256: 32 bytes, hash of the weights file; model: its name.
    arithmetic: id of the arithmetic of prior and decoder; tool: who wrote the file.
    """

    info: VideoInfo
    keyint: int
    tune: str
    crf: float
    weights_sha256: bytes
    model: str
    arithmetic: int = INTEGER_ARITHMETIC
    tool: str = ""


@dataclass(frozen=True)
class Group:
    """A run of frames that decodes by itself.

    first_frame: index in the whole video; pts, durations: ticks, one per frame; qualities: 0..255, one per frame.
    motion, tokens: little-endian u32 words of the range coder.
    frame_crcs: CRC-32 of the reconstruction (rows of Y, then U, then V, cropped), one per frame.
    """

    first_frame: int
    pts: tuple[int, ...]
    durations: tuple[int, ...]
    qualities: tuple[int, ...]
    motion: bytes
    tokens: bytes
    frame_crcs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class StreamStats:
    """What the encoder counted, so that `info` need not decode.

    motion_bits, token_bits: ideal code lengths in bits; token_bits is a list of (bit plane, bits).
    psnr: Y, U, V in dB, the mean over all frames of each frame's, or None; math.inf = identical.
    """

    motion_bits: int = 0
    token_bits: tuple[tuple[str, int], ...] = ()
    psnr: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class IndexEntry:
    """Where one group is: byte offset of its chunk, and the frames it holds."""

    offset: int
    first_frame: int
    first_pts: int
    frames: int
