"""The plan of a benchmark: every point to measure, where its record is kept, and whether it is there already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsqcodec.bench.clip import Clip
from bsqcodec.bench.codecs import OURS, Codec, check_quality
from bsqcodec.bench.point import SCHEMA, Record, file_hash
from bsqcodec.errors import UsageError

POINTS, PICTURES, WORK = "points", "pictures", "work"  # folders of a benchmark's output
# Work per pixel relative to x264 at medium, for the estimate of the time that is left; the first guess only.
_WEIGHTS = {"x264:paper": 1, "x264:lowdelay": 1, "x264:best": 3, "x265:paper": 4, "x265:lowdelay": 4, "x265:best": 12}
_OTHER_WEIGHTS = {OURS: 40, "svtav1": 4}
_METRIC_WEIGHT = 12


@dataclass(frozen=True)
class Settings:
    """What all points of a plan share. keyint: of settings that have one; threads: of a coder, 0 = all."""

    keyint: int = 32
    threads: int = 1
    metrics: tuple[str, ...] = ("psnr", "ms-ssim")


@dataclass(frozen=True)
class Task:
    """One point to measure."""

    clip: Clip
    codec: Codec
    quality: float
    settings: Settings

    @property
    def spec(self) -> str:
        """The codec in its setting, "x265:paper"."""
        return f"{self.codec.name}:{self.codec.setting}"

    @property
    def name(self) -> str:
        """For people: "bee x265:paper 28"."""
        return f"{self.clip.name} {self.spec} {self.quality:g}"

    @property
    def cost(self) -> float:
        """Expected work, in any unit that is the same for all tasks."""
        weight = _WEIGHTS.get(self.spec, _OTHER_WEIGHTS.get(self.codec.name, 1))
        return (weight + _METRIC_WEIGHT) * self.clip.width * self.clip.height * (self.clip.frames or 1)

    def path(self, out: Path) -> Path:
        """Where the record lies."""
        file = f"{self.codec.name}-{self.codec.setting}-{self.quality:g}.json"
        return out / POINTS / self.clip.name / file

    def identity(self) -> str:
        """12 hex digits that change with anything a record's figures hang on, times and machines apart."""
        clip = self.clip
        parts = (
            SCHEMA,
            file_hash(clip.path),
            f"{clip.width}x{clip.height} {clip.fps} {clip.frames} {clip.raw} {clip.scale} {clip.matrix}"
            f" {clip.full_range}",
            self.codec.options(self.quality, keyint=self.settings.keyint, threads=self.settings.threads),
            self.codec.identity(),
            ",".join(sorted(self.settings.metrics)),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def finished(self, out: Path) -> Record | None:
        """The record, when there is one and nothing that it hangs on has changed since."""
        try:
            record = json.loads(self.path(out).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("identity") == self.identity() else None


def make_plan(
    clips: Sequence[Clip],
    codecs: Iterable[Codec],
    settings: Settings,
    qualities: Mapping[str, Sequence[float]] | None = None,
) -> list[Task]:
    """Every clip with every codec at every quality, clip by clip, the cheap codecs first.

    qualities: by codec name ("x265") or setting ("x265:best"); others use the codec's own.
    Raises UsageError for a quality that a codec does not have, or for nothing to measure.
    """
    tasks = []
    for clip in clips:
        for codec in codecs:
            spec = f"{codec.name}:{codec.setting}"
            wanted = (qualities or {}).get(spec) or (qualities or {}).get(codec.name) or codec.qualities
            for quality in dict.fromkeys(wanted):
                check_quality(codec, quality)
                tasks.append(Task(clip, codec, quality, settings))
    if not tasks:
        raise UsageError("there is nothing to measure: no clip or no codec")
    order = {clip.name: number for number, clip in enumerate(clips)}
    return sorted(tasks, key=lambda task: (order[task.clip.name], task.cost))


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record whole or not at all."""
    write_whole(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, and the folders above it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
