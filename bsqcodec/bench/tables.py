"""Tables of a benchmark: results.csv, BD-rates against an anchor, speed and memory."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsqcodec.bench.bd import BdRate, bd_rate
from bsqcodec.bench.series import Record, clips_of, codec_of, codecs_of, curve_of, label_of, points_of
from bsqcodec.errors import UsageError
from bsqcodec.outputs import AtomicOutput

# In the order of the columns; a record may lack any of them.
CSV_METRICS = (
    "psnr_y",
    "psnr_u",
    "psnr_v",
    "psnr_yuv",
    "psnr_rgb",
    "ms_ssim_y",
    "ms_ssim_y_db",
    "ms_ssim_rgb",
    "ms_ssim_rgb_db",
    "xpsnr_y",
    "vmaf",
)
_POOLS = ("mean", "min", "harmonic")


def write_csv(path: Path, records: Sequence[Record]) -> Path:
    """Write one row a record, the columns always the same; an empty field is a value that was not measured.

    Units: bpp in bit per luma pixel, kbps in kbit/s, seconds, fps in frames/s, peak_mib in MiB, PSNR and `_db` in dB.
    Raises VideoError when the file cannot be written.
    """
    rows = [_flat(record) for record in records]
    with AtomicOutput(path, overwrite=True) as output, output.part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(_flat({})), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _flat(record: Record) -> dict[str, Any]:
    clip, codec, machine = (record.get(part) or {} for part in ("clip", "codec", "machine"))
    row = {key: clip.get(name) for key, name in (("clip", "name"), ("clip_sha256", "sha256"))}
    row |= {name: clip.get(name) for name in ("width", "height", "fps", "frames")}
    row |= {"codec": codec.get("name")} | {name: codec.get(name) for name in ("setting", "label", "options", "library")}
    row |= {name: record.get(name) for name in ("quality", "keyint", "threads", "bytes", "bpp", "kbps")}
    for side in ("encode", "decode"):
        row |= {f"{side}_{name}": (record.get(side) or {}).get(name) for name in ("seconds", "fps", "peak_mib")}
    for metric in CSV_METRICS:
        values = record.get("metrics", {}).get(metric, {})
        row |= {f"{metric}_{pool}": values.get(pool) for pool in _POOLS}
    row |= {name: machine.get(name) for name in ("cpu", "cores", "python", "bsqcodec", "commit")}
    return row | {"made": record.get("made")}


@dataclass(frozen=True)
class BdTable:
    """BD-rates of some codecs against `anchor`, by one metric.

    clips, codecs: rows and columns, without the anchor; cells: by (clip, codec).
    """

    metric: str
    anchor: str
    clips: tuple[str, ...]
    codecs: tuple[str, ...]
    cells: dict[tuple[str, str], BdRate]

    def known(self, codec: str) -> int:
        """How many clips have a figure."""
        return sum(self.cells[clip, codec].percent is not None for clip in self.clips)

    def mean(self, codec: str) -> float | None:
        """The mean over clips in percent; None unless every clip has a figure, so that means can be compared."""
        values = [self.cells[clip, codec].percent for clip in self.clips]
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if known and len(known) == len(values) else None

    def mean_text(self, codec: str) -> str:
        """The mean, "+12.3 %", or how many clips have a figure, "2 of 3"."""
        mean = self.mean(codec)
        return f"{self.known(codec)} of {len(self.clips)}" if mean is None else percent_text(mean)

    def refusals(self) -> list[tuple[str, str, str]]:
        """(clip, codec, reason) of every cell without a figure."""
        empty = ((clip, codec, cell) for (clip, codec), cell in self.cells.items() if cell.percent is None)
        return [(clip, codec, cell.reason) for clip, codec, cell in empty]


def bd_table(records: Iterable[Record], metric: str, anchor: str) -> BdTable:
    """BD-rate of every codec of the records against `anchor`, per clip (see `bsqcodec.bench.bd`).

    metric: a name in dB such as "psnr_yuv"; anchor: a codec key such as "x264:paper".
    Raises UsageError when the records have no such codec.
    """
    records = list(records)
    codecs = codecs_of(records)
    if anchor not in codecs:
        known = ", ".join(codecs) or "none at all"
        raise UsageError(f"anchor {anchor}: not among the measured codecs ({known}); choose one of those")
    tested = tuple(codec for codec in codecs if codec != anchor)
    clips = tuple(clips_of(records))
    cells = {}
    for clip in clips:
        base = curve_of(records, clip, anchor, metric)
        for codec in tested:
            cells[clip, codec] = bd_rate(base, curve_of(records, clip, codec, metric))
    return BdTable(metric, anchor, clips, tested, cells)


def percent_text(value: float) -> str:
    """A signed percentage with one digit; the minus is a hyphen, as programs expect it."""
    return f"{value:+.1f} %"


@dataclass(frozen=True)
class SpeedRow:
    """Speed of one codec over all of its points.

    encode_fps, decode_fps: frames of all points over the seconds of all points. encode_mib, decode_mib: the largest
    peak memory of a process in MiB. None = not measured. threads: of the coder, as recorded.
    """

    codec: str
    label: str
    points: int
    threads: tuple[int, ...]
    encode_fps: float | None
    decode_fps: float | None
    encode_mib: float | None
    decode_mib: float | None


def speed_table(records: Iterable[Record]) -> list[SpeedRow]:
    """One row a codec, in the order of the report."""
    records = list(records)
    return [_speed(records, codec) for codec in codecs_of(records)]


def _speed(records: list[Record], codec: str) -> SpeedRow:
    chosen = [r for r in records if codec_of(r) == codec]
    return SpeedRow(
        codec,
        label_of(records, codec),
        len(chosen),
        tuple(sorted({int(r["threads"]) for r in chosen if r.get("threads") is not None})),
        _rate(chosen, "encode"),
        _rate(chosen, "decode"),
        _peak(chosen, "encode"),
        _peak(chosen, "decode"),
    )


def _rate(records: list[Record], side: str) -> float | None:
    timed = [r for r in records if (r.get(side) or {}).get("seconds")]
    seconds = math.fsum(float(r[side]["seconds"]) for r in timed)
    return sum(int(r["clip"]["frames"]) for r in timed) / seconds if seconds > 0 else None


def _peak(records: list[Record], side: str) -> float | None:
    values = [(r.get(side) or {}).get("peak_mib") for r in records]
    return max((float(value) for value in values if value is not None), default=None)


def nearest_rate(records: Iterable[Record], clip: str, codec: str, bpp: float) -> Record | None:
    """The point of a codec whose rate is nearest to `bpp` (as a ratio), None when it has none."""
    points = [r for r in points_of(records, clip, codec) if r["bpp"] > 0]
    return min(points, key=lambda r: abs(math.log(r["bpp"] / bpp)), default=None) if bpp > 0 else None
