"""`bsqcodec info`: what a `.bsq` file is and where its bytes went, without decoding a pixel and without torch."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from bsqcodec.arguments import checked
from bsqcodec.container import GroupReport, StreamReport, StreamStats, scan
from bsqcodec.errors import VideoError
from bsqcodec.frames import VideoInfo


@dataclass(frozen=True)
class StreamSummary:
    """A file in figures.

    duration: seconds; bits_per_pixel: 8 * file bytes / (width * height * frames); kbit_per_s: whole file over duration.
    bytes: by part, sums to `size`; token_bits: ideal bits of each bit plane as the encoder counted them.
    psnr: Y, U, V in dB as the encoder measured them; checked: every CRC was compared; damage: the first, as a message.
    """

    path: str
    size: int
    format_version: str
    complete: bool
    checked: bool
    damage: str | None
    damage_at: dict[str, Any] | None
    video: VideoInfo
    frames: int
    duration: float
    keyint: int
    tune: str
    crf: float
    bits_per_pixel: float
    kbit_per_s: float
    bytes: dict[str, int]
    motion_bits: int | None
    token_bits: dict[str, int]
    psnr: tuple[float, float, float] | None
    model: str
    weights_sha256: str
    arithmetic: int
    tool: str
    tracks: tuple[dict[str, Any], ...]
    meta: dict[str, str]
    groups: tuple[GroupReport, ...]

    @property
    def weights_id(self) -> str:
        """The first 8 hexadecimal digits of the weights' hash: how people call a set of weights."""
        return self.weights_sha256[:8]

    @property
    def source_format(self) -> str:
        """The pixel format of the source, and whether it was converted."""
        name = self.video.source_format
        return name if name == "yuv420p" else f"converted from {name}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON knows; fractions become "a/b", an infinite PSNR "inf"."""
        plain = asdict(self)
        plain["weights_id"] = self.weights_id
        plain["group_count"] = len(self.groups)
        converted: dict[str, Any] = _plain(plain)
        return converted

    def lines(self) -> list[str]:
        """The same for people, one fact a line."""
        return [f"{label:<14}{text}" for label, text in self.rows()]

    def rows(self) -> list[tuple[str, str]]:
        """(label, text) pairs, in the order to show them; text from the file has no control characters left."""
        state = "complete" if self.complete else "CUT SHORT OR DAMAGED"
        if self.checked and not self.damage:
            state += ", all checksums right"
        rows = [("file", f"{self.path}  {self.size:,} bytes  format {self.format_version}  {state}")]
        rows += [("damage", self.damage)] if self.damage else []
        rows += _video_rows(self)
        rows.append(("rate", f"{self.bits_per_pixel:.4f} bit/pixel  {self.kbit_per_s:.1f} kbit/s"))
        rows.append(("quality", f"crf {self.crf:g}  tune {self.tune}{_psnr_text(self.psnr)}"))
        rows.append(("model", f"{self.model}  weights {self.weights_id}  arithmetic {self.arithmetic}"))
        rows += [("track", _track_text(track)) for track in self.tracks]
        rows += [("bytes", f"{part:<10}{count:>12,}  {count / self.size:6.1%}") for part, count in self.bytes.items()]
        rows += [("bit plane", f"{name:<10}{bits / 8:>12,.0f} bytes") for name, bits in self.token_bits.items()]
        return [(label, "".join(c if c.isprintable() else "?" for c in text)) for label, text in rows]


@checked
def inspect(path: str | os.PathLike[str], check: bool = False) -> StreamSummary:
    """Look into a file; `check` reads all of it and compares every CRC.

    A file that is cut short or damaged after its header is reported (`complete`, `damage`), not raised.
    Raises VideoError where it cannot be opened, BitstreamError where it is no .bsq file or its header is damaged,
    UnsupportedVersionError where it needs a newer program.
    """
    try:
        with Path(path).open("rb") as file:
            report = scan(file, check=check, name=str(path))
    except OSError as error:
        if error.errno is None:  # raised by us, with its own message
            raise
        raise VideoError(f"{path}: {error.strerror}") from error
    return _summary(str(path), report, check)


def _summary(path: str, report: StreamReport, check: bool) -> StreamSummary:
    header, stats, damage = report.header, report.stats or StreamStats(), report.damage
    duration = _duration(report)
    pixels = header.info.width * header.info.height * report.frames
    return StreamSummary(
        path=path,
        size=report.size,
        format_version=f"{report.version[0]}.{report.version[1]}",
        complete=report.complete,
        checked=check,
        damage=damage.message if damage else None,
        damage_at=asdict(damage) if damage else None,
        video=header.info,
        frames=report.frames,
        duration=duration,
        keyint=header.keyint,
        tune=header.tune,
        crf=header.crf,
        bits_per_pixel=8 * report.size / pixels if pixels else 0.0,
        kbit_per_s=8 * report.size / duration / 1000 if duration else 0.0,
        bytes=dict(report.bytes),
        motion_bits=stats.motion_bits if report.stats else None,
        token_bits=dict(stats.token_bits),
        psnr=stats.psnr,
        model=header.model,
        weights_sha256=header.weights_sha256.hex(),
        arithmetic=header.arithmetic,
        tool=header.tool,
        tracks=tuple(_track_facts(report)),
        meta=dict(report.meta),
        groups=tuple(report.groups),
    )


def _duration(report: StreamReport) -> float:
    """Seconds from the first frame to the end of the last; a last frame of unknown length lasts 1/fps."""
    if not report.groups:
        return 0.0
    info, last = report.header.info, report.groups[-1]
    ticks = last.end_pts - report.groups[0].first_pts
    return float(ticks * info.time_base + (0 if last.end_known else 1 / info.fps))


def _track_facts(report: StreamReport) -> list[dict[str, Any]]:
    facts = []
    for track in report.tracks:
        fact = asdict(track)
        fact["extradata"] = len(track.extradata)
        facts.append(fact)
    return facts


def _video_rows(summary: StreamSummary) -> list[tuple[str, str]]:
    info = summary.video
    size = f"{info.width}x{info.height}"
    size += f"  pixel aspect {info.sample_aspect_ratio}" if info.sample_aspect_ratio != 1 else ""
    size += f"  turned {info.rotation} degrees" if info.rotation else ""
    span = {None: "unspecified", False: "limited", True: "full"}[info.full_range]
    colour = f"primaries {info.primaries}  transfer {info.transfer}  matrix {info.matrix}  range {span}"
    length = f"{summary.frames} frames  {summary.duration:.3f} s  {float(info.fps):.3f} fps"
    return [
        ("picture", f"{size}  {summary.source_format}"),
        ("colour", f"{colour}  chroma location {info.chroma_location}"),
        ("length", f"{length}  {len(summary.groups)} groups of up to {summary.keyint}"),
    ]


def _psnr_text(psnr: tuple[float, float, float] | None) -> str:
    if psnr is None:
        return ""
    y, u, v = psnr
    return f"  PSNR Y {y:.3f}  U {u:.3f}  V {v:.3f} dB (by the encoder)"


def _track_text(track: dict[str, Any]) -> str:
    text = f"{track['kind']} {track['codec']}"
    if track["kind"] == "audio":
        text += f"  {track['sample_rate']} Hz  {track['layout'] or track['channels']}"
    return text + (f"  {track['language']}" if track["language"] else "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return value
