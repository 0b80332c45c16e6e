"""One measured point of a rate-distortion curve: a clip, a codec in one setting, one quality; and its record.

The clip is encoded in one fresh process and decoded in another, which hands its frames to this one to be measured.
So times and peak memory are the encoder's and the decoder's own, Python and its libraries included in the memory.

- Encode seconds: reading the prepared video, coding and writing, for every codec alike; starting Python and loading
  libraries or a model is not counted.
- Decode seconds: the time inside of the decoder, summed over the frames; bsqcodec's model is loaded before. The
  decoder works only while this process waits for it; handing frames over and measuring them is not counted. With more
  than one thread a decoder may work ahead meanwhile, which flatters it.
- Bytes: the whole file of bsqcodec; of the anchors the bare stream, see `bsqcodec.bench.anchors`.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bsqcodec.bench.children import messages_of, peak_mib
from bsqcodec.bench.clip import Clip
from bsqcodec.bench.codecs import Codec, Encoded, check_quality
from bsqcodec.bench.machine import machine
from bsqcodec.bench.quality import Measurement, check_families
from bsqcodec.bench.sources import frames
from bsqcodec.errors import BsqError
from bsqcodec.frames import Frame

SCHEMA = "bsqcodec-bench-point/1"

Record = dict[str, Any]


@dataclass(frozen=True)
class _Cost:
    """seconds: see the module; peak_mib: largest resident memory of the process, None = not known."""

    seconds: float
    peak_mib: float | None


def measure(
    clip: Clip,
    prepared: Path,
    codec: Codec,
    quality: float,
    *,
    work: Path,
    keyint: int = 32,
    threads: int = 1,
    metrics: Collection[str] = ("psnr", "ms-ssim"),
    keep: Path | None = None,
) -> Record:
    """Encode, decode and measure; the record of the point in JSON types, schema "bsqcodec-bench-point/1".

    prepared: the clip as `sources.prepare` gives it. work: folder for the stream, which is removed afterwards unless
    `keep` gives it a name. keyint: for settings that have one. threads: of encoder and decoder each, 0 = all.
    metrics: families of `bsqcodec.bench.quality`.
    Must not be called from a daemonic process, which may have no children.
    Raises UsageError for arguments out of range, the BsqError of an encoder or decoder, and BsqError when the decoder
    gives other frames than went in.
    """
    check_quality(codec, quality)
    check_families(metrics)
    name = f"{clip.name}: {codec.name}:{codec.setting} at {quality:g}"
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="point-") as folder:
        stream = Path(folder, f"stream{codec.suffix}")
        made, encode_cost = _encode(name, codec, prepared, stream, quality, keyint, threads, clip.frames)
        size = stream.stat().st_size
        measurement = Measurement(metrics, fps=clip.fps, matrix=clip.matrix, full_range=clip.full_range)
        decode_cost = _decode(name, codec, stream, threads, frames(prepared, clip.frames), measurement)
        if keep is not None:
            stream.replace(keep)
    return {
        "schema": SCHEMA,
        "clip": _clip_facts(clip, measurement),
        "codec": {
            "name": codec.name,
            "setting": codec.setting,
            "label": codec.label,
            "options": codec.options(quality, keyint=keyint, threads=threads),
            "library": made.library,
            "settings": made.settings,
        },
        "quality": quality,
        "keyint": keyint if codec.own_keyint else None,
        "threads": threads,
        **_rate(size, clip, measurement),
        "reported_psnr_yuv": made.psnr_yuv,
        "frame_bits": [round(bits, 1) for bits in made.frame_bits],
        "encode": _speed(encode_cost, measurement.frames),
        "decode": _speed(decode_cost, measurement.frames),
        "metrics": measurement.finish(),
        "machine": machine(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _encode(
    name: str, codec: Codec, prepared: Path, stream: Path, quality: float, keyint: int, threads: int, limit: int | None
) -> tuple[Encoded, _Cost]:
    arguments = (codec, prepared, stream, quality, keyint, threads, limit)
    with closing(messages_of(f"{name}: encoding", _encode_work, *arguments)) as messages:
        made, cost = next(messages)
    return made, cost


def _encode_work(
    codec: Codec, prepared: Path, stream: Path, quality: float, keyint: int, threads: int, limit: int | None
) -> Iterator[tuple[Encoded, _Cost]]:
    made = codec.encode(prepared, stream, quality, keyint=keyint, threads=threads, limit=limit)
    yield made, _Cost(made.seconds, peak_mib())


def _decode(
    name: str, codec: Codec, stream: Path, threads: int, reference: Iterable[Frame], measurement: Measurement
) -> _Cost:
    costs: list[_Cost] = []
    with closing(messages_of(f"{name}: decoding", _decode_work, codec, stream, threads)) as messages:
        for number, (source, decoded) in enumerate(zip_longest(reference, _frames_of(messages, costs))):
            _check_pair(name, number, source, decoded)
            measurement.add(source, decoded)
    if not measurement.frames:
        raise BsqError(f"{name}: the clip has no frame; check the source")
    return costs[0]


def _decode_work(codec: Codec, stream: Path, threads: int) -> Iterator[Frame | _Cost]:
    decoder = codec.decode(stream, threads=threads)
    seconds = 0.0
    while True:
        start = time.perf_counter()
        frame = next(decoder, None)
        seconds += time.perf_counter() - start
        if frame is None:
            break
        yield frame
    yield _Cost(seconds, peak_mib())


def _frames_of(messages: Iterator[Frame | _Cost], costs: list[_Cost]) -> Iterator[Frame]:
    """The frames among the messages of a decoder; its cost, which comes last, goes to `costs`."""
    for message in messages:
        if isinstance(message, Frame):
            yield message
        else:
            costs.append(message)


def _check_pair(name: str, number: int, source: Frame | None, decoded: Frame | None) -> None:
    if source is None:
        raise BsqError(f"{name}: the decoder gives more than the {number} frames that went in; the codec is broken")
    if decoded is None:
        raise BsqError(f"{name}: the decoder stops after {number} frames, more went in; the codec is broken")
    if source.y.shape != decoded.y.shape:
        sizes = " and not ".join(f"{frame.y.shape[1]}x{frame.y.shape[0]}" for frame in (decoded, source))
        raise BsqError(f"{name}: frame {number} comes back as {sizes}; the codec is broken")


def _clip_facts(clip: Clip, measurement: Measurement) -> Record:
    return {
        "name": clip.name,
        "width": clip.width,
        "height": clip.height,
        "fps": f"{clip.fps.numerator}/{clip.fps.denominator}",
        "frames": measurement.frames,
        "sha256": file_hash(clip.path),
    }


def _rate(size: int, clip: Clip, measurement: Measurement) -> Record:
    bits, count = 8 * size, measurement.frames
    bpp = bits / (clip.width * clip.height * count)
    return {"bytes": size, "bpp": round(bpp, 8), "kbps": round(bits * float(clip.fps) / count / 1000, 3)}


def _speed(cost: _Cost, count: int) -> Record:
    peak = None if cost.peak_mib is None else round(cost.peak_mib, 1)
    fps = round(count / cost.seconds, 3) if cost.seconds > 0 else None
    return {"seconds": round(cost.seconds, 6), "fps": fps, "peak_mib": peak}


def file_hash(path: Path) -> str:
    """SHA-256 of a file in hex digits; remembered while the file keeps its size and time."""
    stat = path.stat()
    return _file_hash(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_hash(path: Path, _size: int, _time: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
