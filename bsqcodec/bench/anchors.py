"""The anchors: x264, x265 and SVT-AV1 through PyAV's encoders, each in three named settings.

| setting | x264, x265 | SVT-AV1 |
|---|---|---|
| paper | preset medium, no B-frames, key frames at most 250 apart (the libraries' default) | preset 8, low delay |
| lowdelay | the same with tune zerolatency and key frames as often as bsqcodec's | the same, key frames as bsqcodec's |
| best | preset slow, B-frames, tune psnr, key frames as bsqcodec's | preset 4, random access, tune psnr, the same |

"paper" is the command line of the BSQ-ViT paper and of CompressAI's benchmark (`-preset medium -bf 0`). SVT-AV1 has no
such line: preset 8 is the middle of its range of use, and its low-delay structure has no frame that waits for a later
one. Nothing else is set: B-frames, references, adaptive quantisation and open GOPs are those of the preset.

Streams are bare: H.264 and HEVC in Annex B, AV1 as open bitstream units (`-f h264`, `-f hevc`, `-f obu`). x264 and x265
write their settings into the stream, x265 once per key frame, 0.7 to 2.3 kB each time; no decoder needs that and short
clips would be charged for it, so it is taken out (x265 does the same with `info=0`).

Threads: 1 by default, for x264's and x265's bytes depend on their number. With one, x265 has no thread pool, and so no
wavefronts, which cost about 1 % of rate.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.packet import Packet

from bsqcodec.bench.codecs import Encoded
from bsqcodec.bench.sources import frames
from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.outputs import AtomicOutput
from bsqcodec.video import open_video
from bsqcodec.video.convert import Converter, to_av_frame

START_CODE = re.compile(rb"\x00\x00\x00?\x01")  # Annex B, in front of every NAL unit
TEXT = re.compile(rb"[\x20-\x7e]*")


@dataclass(frozen=True)
class Library:
    """An encoder library. container: FFmpeg's name of its bare stream; settings_uuid: of its message about itself."""

    encoder: str
    container: str
    suffix: str
    quality_range: tuple[float, float]
    qualities: tuple[float, ...]
    params: str = ""  # the option that takes the library's own parameters
    settings_uuid: bytes = b""


LIBRARIES = {
    "x264": Library(
        "libx264",
        "h264",
        ".264",
        (1, 51),
        (17, 20, 23, 27, 32, 37, 42),
        settings_uuid=bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),
    ),
    "x265": Library(
        "libx265",
        "hevc",
        ".265",
        (1, 51),
        (17, 20, 23, 27, 32, 37, 42),
        "x265-params",
        bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),
    ),
    "svtav1": Library("libsvtav1", "obu", ".obu", (1, 63), (20, 27, 34, 41, 48, 55, 62), "svtav1-params"),
}


@dataclass(frozen=True)
class Anchor:
    """A library in one setting; implements `bsqcodec.bench.codecs.Codec`.

    flags: FFmpeg's options, params: the library's own; own_keyint: key frames are as often as bsqcodec's.
    """

    name: str
    setting: str
    label: str
    flags: tuple[tuple[str, str], ...]
    params: tuple[tuple[str, str], ...] = ()
    own_keyint: bool = True

    @property
    def library(self) -> Library:
        return LIBRARIES[self.name]

    @property
    def suffix(self) -> str:
        return self.library.suffix

    @property
    def qualities(self) -> tuple[float, ...]:
        return self.library.qualities

    @property
    def quality_range(self) -> tuple[float, float]:
        return self.library.quality_range

    def options(self, quality: float, *, keyint: int, threads: int) -> str:
        """The options of `ffmpeg` that do the same; without the settings message, see the module."""
        words = [f"-{name} {value}" for name, value in self._flags(quality, keyint, threads).items()]
        end = f" -threads {threads}" if self.name != "svtav1" else ""
        return f"-c:v {self.library.encoder} {' '.join(words)}{end}"

    def identity(self) -> str:
        """The versions of the libraries, as far as they can be known without encoding."""
        return _carrier() if self.name != "svtav1" else f"{_svt_version()}, {_carrier()}"

    def encode(
        self, source: Path, out: Path, quality: float, *, keyint: int, threads: int = 1, limit: int | None = None
    ) -> Encoded:
        start = time.perf_counter()
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it writes to stderr by itself
        with open_video(source, limit=1, threads=1) as video:
            info = video.info
        if info.width % 2 or info.height % 2:
            raise UsageError(f"{source}: {info.width}x{info.height} has an odd side; crop it to even sides")
        context = self._context(info, self._flags(quality, keyint, threads), threads)
        bits: dict[int, float] = {}
        settings = ""
        with AtomicOutput(out, src=source, overwrite=True) as output, output.part.open("wb") as file:
            for packet in _packets(context, frames(source, limit), info.fps):
                data, said = self._split(bytes(packet))
                settings = settings or said
                shown = packet.pts if packet.pts is not None else len(bits)
                bits[shown] = bits.get(shown, 0.0) + 8.0 * file.write(data)
        in_order = tuple(bits[shown] for shown in sorted(bits))
        return Encoded(time.perf_counter() - start, in_order, self._library_text(settings), settings)

    def decode(self, stream: Path, *, threads: int = 1) -> Iterator[Frame]:
        try:
            with av.open(f"file:{stream}", format=self.library.container) as container:
                container.streams.video[0].codec_context.thread_count = threads
                converter = Converter(threads)
                for number, picture in enumerate(container.decode(video=0)):
                    yield Frame(*converter.planes(picture), number, 1)
        except (av.error.FFmpegError, IndexError) as error:
            raise VideoError(f"{stream}: FFmpeg cannot decode what {self.name} made ({error})") from error

    def _flags(self, quality: float, keyint: int, threads: int) -> dict[str, str]:
        flags = dict(self.flags) | ({"g": str(keyint)} if self.own_keyint else {}) | {"crf": f"{quality:g}"}
        params = dict(self.params)
        if self.name == "x265":
            pools = {0: "*", 1: "none"}.get(threads, str(threads))
            params |= {"pools": pools, "log-level": "none"}
        if self.name == "svtav1":
            params["lp"] = str(threads)
        if params:
            flags[self.library.params] = ":".join(f"{name}={value}" for name, value in params.items())
        return flags

    def _context(self, info: VideoInfo, flags: dict[str, str], threads: int) -> av.VideoCodecContext:
        context = av.CodecContext.create(self.library.encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
        context.framerate, context.time_base = info.fps, 1 / info.fps
        context.color_primaries, context.color_trc, context.colorspace = info.primaries, info.transfer, info.matrix
        context.color_range = {None: 0, False: 1, True: 2}[info.full_range]  # AVColorRange
        context.thread_count = threads
        context.options = flags
        return context

    def _split(self, data: bytes) -> tuple[bytes, str]:
        """A packet without the library's message about its settings, and that message."""
        uuid = self.library.settings_uuid
        return split_settings(data, uuid) if uuid and uuid in data else (data, "")

    def _library_text(self, settings: str) -> str:
        if self.name == "svtav1":
            return f"{_svt_version()}, {_carrier()}"
        x264 = re.match(r"x264 - (core \d+(?: r\S+ \S+)?) - ", settings)
        x265 = re.match(r"x265 (\(build \d+\)) - ([^:\s]+)", settings)
        version = x264[1] if x264 else f"{x265[2]} {x265[1]}" if x265 else "of unknown version"
        return f"{self.name} {version}, {_carrier()}"


def split_settings(data: bytes, uuid: bytes) -> tuple[bytes, str]:
    """Annex B data without the NAL units that hold a user-data message of this UUID, and the text of the last one."""
    starts = [match.start() for match in START_CODE.finditer(data)]
    kept, settings = [data[: starts[0]] if starts else data], ""
    for begin, end in itertools.pairwise([*starts, len(data)]):
        at = data.find(uuid, begin, min(end, begin + 32))  # start code, NAL header, message type and size come before
        if at < 0:
            kept.append(data[begin:end])
        elif match := TEXT.match(data, at + len(uuid)):
            settings = match[0].decode("ascii")
    return b"".join(kept), settings


def _packets(
    context: av.VideoCodecContext, source: Iterator[Frame], rate: Fraction
) -> Iterator[Packet[av.VideoStream]]:
    """Frame n is shown at n / rate seconds; packets come in the order of coding."""
    for number, frame in enumerate(source):
        picture = to_av_frame(frame.y, frame.u, frame.v)
        picture.pts, picture.time_base = number, 1 / rate
        yield from context.encode(picture)
    yield from context.encode(None)


def _carrier() -> str:
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__}, libavcodec {codec}"


def _svt_version() -> str:
    """SVT-AV1 writes its version nowhere but in its log; PyAV's wheels carry it as a library of its own to ask."""
    package = Path(av.__file__).parent
    for folder in (package.parent / "av.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*SvtAv1Enc*")):
            try:
                version = ctypes.CDLL(str(path)).svt_av1_get_version
            except (OSError, AttributeError):
                continue
            version.restype = ctypes.c_char_p
            return f"SVT-AV1 {version().decode('ascii', 'replace')}"
    return "SVT-AV1 of unknown version"


def _three(
    name: str, labels: tuple[str, str, str], *settings: tuple[dict[str, str], dict[str, str]]
) -> dict[str, Anchor]:
    made = {}
    for setting, label, (flags, params) in zip(("paper", "lowdelay", "best"), labels, settings, strict=True):
        anchor = Anchor(
            name, setting, label, tuple(flags.items()), tuple(params.items()), own_keyint=setting != "paper"
        )
        made[f"{name}:{setting}"] = anchor
    return made


_MEDIUM, _SLOW = {"preset": "medium"}, {"preset": "slow", "tune": "psnr"}
_LOW = _MEDIUM | {"tune": "zerolatency"}
ANCHORS: dict[str, Anchor] = {
    **_three(
        "x264",
        ("x264 medium, no B-frames", "x264 medium, zero latency", "x264 slow, B-frames, tune psnr"),
        (_MEDIUM | {"bf": "0"}, {}),
        (_LOW, {}),
        (_SLOW, {}),
    ),
    **_three(
        "x265",
        ("x265 medium, no B-frames", "x265 medium, zero latency", "x265 slow, B-frames, tune psnr"),
        (_MEDIUM, {"bframes": "0"}),
        (_LOW, {}),
        (_SLOW, {}),
    ),
    **_three(
        "svtav1",
        ("SVT-AV1 preset 8, low delay", "SVT-AV1 preset 8, low delay, short groups", "SVT-AV1 preset 4, random access"),
        ({"preset": "8"}, {"pred-struct": "1"}),
        ({"preset": "8"}, {"pred-struct": "1"}),
        ({"preset": "4"}, {"pred-struct": "2", "tune": "1"}),
    ),
}
