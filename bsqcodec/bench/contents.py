"""What the report shows, as plain data for its template: no HTML here but the charts' SVG."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from bsqcodec.bench import charts, findings
from bsqcodec.bench.pictures import CROP, LOSSY_QUALITY, MAX_WIDTH, ZOOM, Picture, crop_images, page_images
from bsqcodec.bench.series import (
    METRICS,
    SHORT,
    Record,
    clips_of,
    codec_of,
    codecs_of,
    default_anchor,
    is_ours,
    label_of,
    mean_curve,
    on_curve,
    points_of,
    quality_of,
)
from bsqcodec.bench.tables import bd_table, nearest_rate, speed_table

PICTURE_BUDGET = 24 * 2**20  # bytes of all whole frames together; more, and they are stored lossily
MEAN_CHART = {"width": 420, "height": 310}  # user units
CLIP_CHART = {"width": 330, "height": 240}
BITS_CHART = {"width": 420, "height": 220}


def contents(records: list[Record], pictures: list[Picture], about: dict[str, Any]) -> dict[str, Any]:
    """Everything the template needs; `about` as for `write_report`."""
    metrics = {m: n for m, n in METRICS.items() if any(m in record["metrics"] for record in records)}
    codecs = codecs_of(records)
    anchor = about.get("anchor") or default_anchor(records)
    anchors = [] if anchor is None else [anchor, *(c for c in codecs if c != anchor and not is_ours(c))]
    tables = {(metric, a): bd_table(records, metric, a) for metric in metrics for a in anchors}
    facts, notes = _facts(records, about)
    return {
        "title": about.get("title") or f"Rate and distortion on {about.get('dataset') or 'these clips'}",
        "facts": facts,
        "command": about.get("command"),
        "summary": findings.summary(records, tables, metrics, anchor),
        "metrics": metrics,
        "buttons": [(metric, SHORT[metric]) for metric in metrics],
        "anchors": anchors,
        "headline": findings.headline(tables, codecs, metrics, anchors),
        "bd_tables": [findings.bd(table, metrics) for table in tables.values()],
        "legend": [{"codec": c, "label": label_of(records, c), "svg": charts.swatch(c)} for c in codecs],
        "mean_charts": [_mean_chart(records, codecs, m, n) for m, n in metrics.items() if m != "psnr_rgb"],
        "clip_charts": [_clip_chart(records, codecs, m, n, c) for m, n in metrics.items() for c in clips_of(records)],
        **_pictures(pictures),
        "bits": [b for b in (_bits(records, codecs, clip) for clip in clips_of(records)) if b],
        "bits_frames": charts.MAX_FRAMES,
        "speed": [_speed_row(row) for row in speed_table(records)],
        "codecs": [_codec(records, codec) for codec in codecs],
        "refusals": findings.refusals(tables, metrics),
        "failures": list(about.get("failures") or []),
        "notes": notes + list(about.get("notes") or []),
        "point_heads": [name for name, _ in POINT_METRICS.values()],
        "points": [_point(r) for clip in clips_of(records) for c in codecs for r in points_of(records, clip, c)],
    }


def _facts(records: list[Record], about: dict[str, Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """Name and value of what the header lists, and what is wrong with the records as a whole."""
    clips = clips_of(records)
    sizes = _distinct(f"{r['clip']['width']}\N{MULTIPLICATION SIGN}{r['clip']['height']}" for r in records)
    machines = _distinct(_machine({k: v for k, v in r.get("machine", {}).items() if k != "commit"}) for r in records)
    commits = _distinct(str(r.get("machine", {}).get("commit") or "unknown") for r in records)
    own = about.get("machine")
    frames = {r["clip"]["name"]: int(r["clip"]["frames"]) for r in records}
    facts = [
        ("Dataset", about.get("dataset")),
        ("Published at", about.get("home")),
        ("Licence of the clips", about.get("licence")),
        ("Clips", f"{len(clips)} ({sum(frames.values()):,} frames, {', '.join(sizes)})"),
        ("Points", f"{len(records)}"),
        ("Made", _date(about.get("made") or max(str(r.get("made") or "") for r in records))),
        ("Commit", about.get("commit") or ", ".join(commits)),
        ("Machine", _machine(own) if isinstance(own, dict) else own or "; ".join(machines)),
        ("Versions", ", ".join(f"{name} {value}" for name, value in (about.get("versions") or {}).items())),
    ]
    notes = []
    if len(machines) > 1:
        notes.append(f"The points come from {len(machines)} different machines or versions; do not compare speeds.")
    if len(commits) > 1:
        notes.append(f"The points were measured at {len(commits)} different commits: {', '.join(commits)}.")
    return [(name, str(value)) for name, value in facts if value], notes


def _date(text: str) -> str:
    """An ISO 8601 time without its seconds, in UTC; any other text as it is."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def _machine(machine: dict[str, Any]) -> str:
    names = {"cpu": "{}", "cores": "{} cores", "python": "Python {}", "bsqcodec": "bsqcodec {}"}
    return ", ".join(names.get(key, key + " {}").format(value) for key, value in machine.items() if value is not None)


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _mean_chart(records: list[Record], codecs: list[str], metric: str, name: str) -> dict[str, Any]:
    curves = {
        codec: [
            charts.Point(x, y, f"{codec}, mean: {x:.4f} bpp, {y:.2f} dB") for x, y in mean_curve(records, codec, metric)
        ]
        for codec in codecs
    }
    title = f"{name}, mean over clips"
    return {"title": title, "svg": charts.rd_chart(curves, title=title, y_label=f"{name} in dB", **MEAN_CHART)}


def _clip_chart(records: list[Record], codecs: list[str], metric: str, name: str, clip: str) -> dict[str, Any]:
    curves: dict[str, list[charts.Point]] = {}
    for codec in codecs:
        pairs = [(record, quality_of(record, metric)) for record in points_of(records, clip, codec)]
        curves[codec] = [
            charts.Point(r["bpp"], q, f"{codec}, quality {r['quality']:g}: {r['bpp']:.4f} bpp, {q:.2f} dB")
            for r, q in pairs
            if q is not None and on_curve(q)
        ]
    svg = charts.rd_chart(curves, title=f"{name} of {clip}", y_label=f"{name} in dB", **CLIP_CHART)
    return {"metric": metric, "clip": clip, "svg": svg}


def _bits(records: list[Record], codecs: list[str], clip: str) -> dict[str, Any] | None:
    """Bits per frame of bsqcodec at the middle of its range, and of every other codec's point of the nearest rate."""
    own = [points for points in (points_of(records, clip, c) for c in codecs if is_ours(c)) if points]
    if not own:
        return None
    middle = own[0][len(own[0]) // 2]
    others = (nearest_rate(records, clip, c, middle["bpp"]) for c in codecs if c != codec_of(middle))
    chosen = [middle, *(record for record in others if record is not None)]
    series = {codec_of(r): [bits / 1000 for bits in r["frame_bits"]] for r in chosen if r.get("frame_bits")}
    svg = charts.bits_chart(series, title=f"Bits per frame of {clip}", **BITS_CHART)
    lines = []
    for r in chosen:
        db = quality_of(r, "psnr_yuv")
        quality = "" if db is None else f", {db:.2f} dB"
        lines.append(f"{codec_of(r)}, quality {r['quality']:g}: {r['bpp']:.4f} bpp{quality}")
    return {"clip": clip, "svg": svg, "lines": lines, "frames": len(middle.get("frame_bits") or [])}


def _pictures(pictures: list[Picture]) -> dict[str, Any]:
    images, lossless = page_images(pictures, PICTURE_BUDGET)
    viewers = []
    for picture, whole in zip(pictures, images, strict=True):
        height, width = picture.shots[0].rgb.shape[:2]
        x, y, crop_width, crop_height = picture.crop
        shots = [
            {"label": shot.label, "facts": shot.facts, "whole": uri, "crop": crop}
            for shot, uri, crop in zip(picture.shots, whole, crop_images(picture), strict=True)
        ]
        box = {"left": x / width, "top": y / height, "width": crop_width / width, "height": crop_height / height}
        viewers.append(
            {
                "clip": picture.clip,
                "index": picture.index,
                "width": width,
                "height": height,
                "shots": shots,
                "box": {side: f"{share:.4%}" for side, share in box.items()},
                "crop": (crop_width, crop_height),
            }
        )
    kept = "lossless WebP" if lossless else f"WebP of quality {LOSSY_QUALITY}, for the size of this page"
    return {"viewers": viewers, "pictures_kept": kept, "picture_width": MAX_WIDTH, "zoom": ZOOM, "crop_size": CROP}


def _speed_row(row: Any) -> dict[str, Any]:
    fps = [_figure(value, 3) for value in (row.encode_fps, row.decode_fps)]
    memory = [_figure(value, 0) for value in (row.encode_mib, row.decode_mib)]
    threads = ", ".join(map(str, row.threads)) or "\N{EN DASH}"
    return {"codec": row.codec, "label": row.label, "cells": [str(row.points), threads, *fps, *memory]}


def _figure(value: float | None, digits: int) -> str:
    """A number with `digits` significant digits (0 = whole), an en dash for none."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}" if value is None else "\N{INFINITY}"
    if digits == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def _codec(records: list[Record], codec: str) -> dict[str, Any]:
    """The exact options of a codec, its quality written as N where it is a crf."""
    chosen = [r for r in records if codec_of(r) == codec]
    options = _distinct(re.sub(r"(\bcrf[ =])[\d.]+", r"\1N", str(r["codec"].get("options") or "")) for r in chosen)
    return {
        "codec": codec,
        "label": label_of(records, codec),
        "options": [text for text in options if text],
        "library": _distinct(str(r["codec"].get("library") or "unknown") for r in chosen),
        "qualities": ", ".join(f"{q:g}" for q in sorted({float(r["quality"]) for r in chosen})),
        "keyint": "; ".join(_distinct(_key_frames(r) for r in chosen)),
        "threads": ", ".join(_distinct(str(r.get("threads") or "all") for r in chosen)),
        "said": [(f"{r['quality']:g}", r["codec"]["settings"]) for r in chosen if r["codec"].get("settings")][:1],
    }


def _key_frames(record: Record) -> str:
    keyint = record.get("keyint")
    return f"at most {keyint} frames apart" if keyint else "as far apart as the encoder's default lets them be"


POINT_METRICS = {
    "psnr_y": ("PSNR Y", 2),
    "psnr_u": ("U", 2),
    "psnr_v": ("V", 2),
    "psnr_yuv": ("(6Y+U+V)/8", 2),
    "psnr_rgb": ("RGB", 2),
    "ms_ssim_y": ("MS-SSIM Y", 4),
    "ms_ssim_rgb": ("RGB", 4),
    "xpsnr_y": ("XPSNR Y", 2),
    "vmaf": ("VMAF", 2),
}


def _point(record: Record) -> dict[str, Any]:
    values = [quality_of(record, metric) for metric in POINT_METRICS]
    digits = [places for _, places in POINT_METRICS.values()]
    cells = [f"{record['bytes']:,}", f"{record['kbps']:,.1f}", f"{record['bpp']:.4f}"]
    cells += ["\N{EN DASH}" if v is None else _fixed(v, d) for v, d in zip(values, digits, strict=True)]
    cells += [_figure((record.get(side) or {}).get("fps"), 3) for side in ("encode", "decode")]
    return {
        "clip": record["clip"]["name"],
        "codec": codec_of(record),
        "quality": f"{record['quality']:g}",
        "cells": cells,
    }


def _fixed(value: float, places: int) -> str:
    return "\N{INFINITY}" if math.isinf(value) else f"{value:.{places}f}"
