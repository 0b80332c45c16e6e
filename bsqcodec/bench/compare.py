"""Quality and size of decoded videos and .bsq files against their original."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bsqcodec.bench.quality import Measurement
from bsqcodec.container.chunks import SIGNATURE
from bsqcodec.decoder import Decoder, open_stream
from bsqcodec.decoder import open as open_bsq
from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.metrics import Planes, paired
from bsqcodec.outputs import StrPath
from bsqcodec.video import open_video

_log = logging.getLogger("bsqcodec")


@dataclass(frozen=True)
class Options:
    """How to compare.

    metrics: families of `bsqcodec.bench.quality`; skip: frames of the original to leave out at its beginning; limit:
    frames to compare at most; frame: number of the one to keep, counted from the first that is compared.
    device, threads, weights: for .bsq files, as for `bsqcodec.open`; threads also of FFmpeg's decoders.
    """

    metrics: Collection[str] = ("psnr", "ms-ssim")
    skip: int = 0
    limit: int | None = None
    frame: int | None = None
    device: str = "auto"
    threads: int = 0
    weights: StrPath | None = None


@dataclass(frozen=True, eq=False)
class Kept:
    """The same frame of the original and of a file, and how its planes become RGB."""

    original: Planes
    decoded: Planes
    matrix: int
    full_range: bool


@dataclass(frozen=True)
class Compared:
    """One file against the original.

    frames: how many were compared; bytes: of the whole file, whatever it holds besides the video; kbps: kbit/s of
    playing time at the original's frame rate; bpp: bit per luma pixel; both None when the file has more frames than
    were compared. metrics: as `bsqcodec.bench.quality` names them, "inf" where every frame is identical.
    kept: frame `Options.frame`, None when none was asked for.
    """

    file: str
    frames: int
    bytes: int
    kbps: float | None
    bpp: float | None
    metrics: dict[str, dict[str, Any]]
    kept: Kept | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, without the pictures."""
        names = ("file", "frames", "bytes", "kbps", "bpp", "metrics")
        values = {name: getattr(self, name) for name in names}
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


@dataclass(frozen=True)
class Video:
    """An open video: its frames, read once in order; total: how many the file says they are, None = it does not."""

    info: VideoInfo
    frames: Iterator[Planes]
    total: int | None


@contextmanager
def open_any(path: StrPath, options: Options, skip: int = 0) -> Iterator[Video]:
    """A video that FFmpeg reads, or a .bsq file, as 8-bit 4:2:0 frames without the first `skip`.

    Raises VideoError when it cannot be read or has no frame behind those, and for a .bsq file what `bsqcodec.open`
    raises.
    """
    if _is_bsq(path):
        with open_bsq(path, device=options.device, threads=options.threads, weights=options.weights) as decoder:
            if skip:
                _seek(decoder, skip, path)
            yield Video(decoder.info, iter(decoder), len(decoder) - skip)
    else:
        with open_video(path, skip=skip, threads=options.threads) as video:
            yield Video(video.info, (e for e in video if isinstance(e, Frame)), video.frame_count_hint)


def _seek(decoder: Decoder, skip: int, path: StrPath) -> None:
    if skip >= len(decoder):  # worded as for other videos
        raise VideoError(f"{os.fspath(path)}: skipping {skip} frames leaves none, it has {len(decoder)}; skip fewer")
    decoder.seek(skip)


def _is_bsq(path: StrPath) -> bool:
    if Path(path).is_dir():
        raise VideoError(f"{os.fspath(path)}: is a folder; give the name of a file")
    if not Path(path).is_file():
        open_stream(path).close()  # says why, when there is nothing to read
        return False
    with open_stream(path) as file:
        return Path(path).suffix.lower() == ".bsq" or file.read(len(SIGNATURE)) == SIGNATURE


def frames_of(path: StrPath, options: Options) -> int | None:
    """How many frames comparing with this original takes; None when the file does not say."""
    with open_any(path, options, options.skip) as video:
        known = [count for count in (video.total, options.limit) if count is not None]
        return min(known) if video.total is not None else None


def compare_file(
    original: StrPath, file: StrPath, options: Options, on_frame: Callable[[], None] | None = None
) -> Compared:
    """Compare one file with the original, frame by frame, in constant memory but for a few numbers a frame.

    on_frame: called after every frame. RGB is made with the original's matrix and range.
    Raises UsageError (with the name of the file) when sizes or numbers of frames differ, when there is no frame
    `options.frame`, or for a metric that cannot be measured here; VideoError or BitstreamError when a file cannot be
    read.
    """
    name = os.fspath(file)
    with open_any(original, options, options.skip) as source, open_any(file, options) as decoded:
        _check(source.info, decoded.info, name)
        full_range = bool(source.info.full_range)
        measurement = Measurement(
            options.metrics, fps=source.info.fps, matrix=source.info.matrix, full_range=full_range
        )
        kept: Kept | None = None
        for a, b in _pairs(source, decoded, options.limit, name):
            if measurement.frames == options.frame:
                kept = Kept(a, b, source.info.matrix, full_range)
            measurement.add(a, b)
            if on_frame is not None:
                on_frame()
        whole = options.limit is None or next(decoded.frames, None) is None
    if options.frame is not None and kept is None:
        last = measurement.frames - 1
        raise UsageError(f"frame {options.frame}: the last frame that is compared is {last}; choose another --frame")
    return _result(name, source.info, measurement, whole, kept)


def _pairs(source: Video, decoded: Video, limit: int | None, name: str) -> Iterator[tuple[Planes, Planes]]:
    pairs = paired(islice(source.frames, limit), islice(decoded.frames, limit))
    while True:
        try:
            pair = next(pairs)
        except StopIteration:
            return
        except UsageError as error:  # the one that `paired` raises does not know the file
            raise UsageError(f"{name}: {error}") from None
        yield pair


def _check(source: VideoInfo, decoded: VideoInfo, name: str) -> None:
    sizes = [f"{info.width}x{info.height}" for info in (decoded, source)]
    if sizes[0] != sizes[1]:
        raise UsageError(f"{name}: {sizes[0]} px, the original has {sizes[1]}; compare videos of one size")
    if bool(source.full_range) != bool(decoded.full_range):
        ranges = ["full" if info.full_range else "limited" for info in (decoded, source)]
        _log.warning(
            "%s: %s range, the original %s; samples are compared as they are, so convert one of them", name, *ranges
        )


def _result(name: str, info: VideoInfo, measurement: Measurement, whole: bool, kept: Kept | None) -> Compared:
    size = Path(name).stat().st_size
    bits = size * 8
    kbps = float(bits * info.fps / measurement.frames / 1000) if whole else None
    bpp = bits / (info.width * info.height * measurement.frames) if whole else None
    metrics = {metric: _infinite(values) for metric, values in measurement.finish().items()}
    return Compared(name, measurement.frames, size, kbps, bpp, metrics, kept)


def _infinite(values: dict[str, Any]) -> dict[str, Any]:
    """The pools of a metric as "inf" where every frame is: the cap of 100 dB is for means of some such frames."""
    if any(value != "inf" for value in values["frames"]):
        return values
    return {name: value if name == "frames" else "inf" for name, value in values.items()}


def value_text(compared: Compared, metric: str, places: int) -> str:
    """The mean of a metric for people: a number, "inf", or "-" when it has none."""
    if metric not in compared.metrics:
        return "-"
    value = float(compared.metrics[metric]["mean"])
    return "inf" if math.isinf(value) else f"{value:.{places}f}"
