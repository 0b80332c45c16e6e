"""One point of a rate-distortion curve: what it depends on, how it is measured, where it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import x264

import bsqcodec
from bsqcodec.errors import UsageError
from bsqcodec.metrics import Quality, compare

Point = dict[str, Any]

CODING = {"codec", "container", "entropy.py", "integer", "motion", "prior", "tokenizer", "video", "weights"}


@dataclass(frozen=True)
class Task:
    """One point to measure. frames, keyint: 0 = all of the clip, not applicable. weights: "" = the shipped ones."""

    codec: str  # "x264" or "bsqcodec"
    clip: str
    clip_id: str
    crf: float
    frames: int = 0
    keyint: int = 0
    weights: str = ""
    weights_id: str = ""
    model: str = ""  # hash of the codec's own sources and weights: a changed codec is measured again

    @property
    def key(self) -> str:
        """Everything the point depends on, without paths."""
        name = Path(self.clip).name
        rest = f"{self.clip_id}|frames={self.frames}|keyint={self.keyint}|{self.weights_id}|{self.model}"
        return f"{self.codec}|{name}|{self.crf:g}|{rest}"


def measure(task: Task) -> Point:
    """Encode and decode one clip at one crf; the point as JSON types."""
    run = _measure_x264 if task.codec == "x264" else _measure_bsqcodec
    start = time.perf_counter()
    point = run(task, Path(task.clip), task.frames or None)
    return (
        {"clip": Path(task.clip).stem, "codec": task.codec, "crf": task.crf}
        | point
        | {"measured_in_s": round(time.perf_counter() - start, 2)}
    )


def _measure_x264(task: Task, clip: Path, limit: int | None) -> Point:
    start = time.perf_counter()
    made = x264.encode(x264.read_frames(clip, limit), x264.read_rate(clip), task.crf)
    seconds = time.perf_counter() - start
    quality = compare(x264.read_frames(clip, limit), x264.decode(made.data), ms_ssim=True)
    extra = {"encode_fps": quality.frames / seconds, "command": made.command, "settings": made.settings}
    return _point(clip, len(made.data), quality) | extra


def _measure_bsqcodec(task: Task, clip: Path, limit: int | None) -> Point:
    options: dict[str, Any] = {"weights": task.weights} if task.weights else {}
    with tempfile.TemporaryDirectory() as folder:
        stream = Path(folder, "clip.bsq")
        stats = bsqcodec.encode(clip, stream, crf=task.crf, keyint=task.keyint, limit=limit, **options)
        decoder = _Stopwatch(bsqcodec.open(stream, **options))
        quality = compare(x264.read_frames(clip, limit), decoder, ms_ssim=True)
        size = stream.stat().st_size
    extra = {"encode_fps": stats.fps, "decode_fps": quality.frames / decoder.seconds, "reported_psnr": stats.psnr}
    return _point(clip, size, quality) | extra | {"bits": dict(stats.bits), "keyint": task.keyint}


class _Stopwatch:
    """Iterates a decoder and adds up the time spent inside it; `seconds` after the end."""

    def __init__(self, decoder: bsqcodec.Decoder) -> None:
        self._decoder = decoder
        self.seconds = 0.0

    def __iter__(self) -> Iterator[bsqcodec.DecodedFrame]:
        with self._decoder as frames:
            iterator = iter(frames)
            while True:
                start = time.perf_counter()
                frame = next(iterator, None)
                self.seconds += time.perf_counter() - start
                if frame is None:
                    return
                yield frame


def _point(clip: Path, size: int, quality: Quality) -> Point:
    height, width = next(x264.read_frames(clip, 1)).y.shape
    values = {name: getattr(quality, name) for name in ("psnr", "psnr_y", "psnr_u", "psnr_v", "ms_ssim")}
    return {"frames": quality.frames, "bytes": size, "bpp": size * 8 / (quality.frames * width * height)} | values


class Store:
    """Measured points by `Task.key` in one JSON file, written whole and atomically after each point."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points: dict[str, Point] = {}
        if path.exists():
            try:
                self.points = json.loads(path.read_text())["points"]
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"{path}: not a result file of this program; remove it or choose another") from None

    def add(self, key: str, point: Point, **more: Any) -> None:
        self.points[key] = point
        self.write(**more)

    def write(self, **more: Any) -> None:
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps({"points": self.points} | more, indent=1) + "\n")
        part.replace(self.path)


def file_id(path: Path) -> str:
    """First 12 hex digits of a file's SHA-256."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:12]


def codec_id() -> str:
    """First 12 hex digits of a SHA-256 over shipped weights and the rooms that decide what a stream holds."""
    package = Path(bsqcodec.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        if path.suffix in (".py", ".safetensors") and name.parts[0] in CODING:
            digest.update(name.as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def x264_id() -> str:
    """The library that carries x264."""
    return f"PyAV {av.__version__}"


def hardware() -> dict[str, Any]:
    """What the speeds were measured on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    versions = {"python": platform.python_version(), "bsqcodec": bsqcodec.__version__, "pyav": av.__version__}
    return {"cpu": cpu, "cores": os.cpu_count(), **versions}


def public(task: Task) -> dict[str, Any]:
    """A task without the paths of this machine."""
    return asdict(task) | {"clip": Path(task.clip).name, "weights": Path(task.weights).name, "key": task.key}
