"""Rate-distortion of bsqcodec against x264 (`-preset medium -bf 0`): points, BD-rate, and two promises checked.

    python benchmarks/rd.py --data DIR --crf 20,24,28,32,36,40 --keyint 32 --out results.json

Rate is bits of the file per luma pixel. PSNR is the mean over frames of (6Y+U+V)/8; BD-rate is on it, per clip, with
PCHIP interpolation (`bjontegaard`). Finished points are kept in --out and not measured again. Exit code 1 when a
promise is broken: rate and PSNR fall at every step of the crf; the encoder reports the PSNR of the decoded file.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from points import Point, Store, Task, codec_id, file_id, hardware, measure, public, x264_id
from rich.console import Console
from rich.table import Table

from bsqcodec.errors import BsqError, UsageError

X264_CRFS = (17.0, 20.0, 23.0, 27.0, 32.0, 37.0, 42.0)
SUFFIXES = {".mkv", ".mp4", ".y4m", ".mov", ".webm"}
TABLE_WIDTH = 130  # columns; a narrower terminal wraps lines rather than losing digits
PSNR_TOLERANCE = 0.01  # dB between the encoder's report and the decoded file


def bd_rate(anchor: list[Point], test: list[Point], metric: str = "psnr") -> float | None:
    """Rate difference in % at equal quality, negative = `test` is smaller; None without 3 points or an overlap."""
    import bjontegaard

    curves: list[list[float]] = []
    for points in (anchor, test):
        usable = sorted((float(p[metric]), float(p["bpp"])) for p in points if p[metric] is not None)
        if len(usable) < 3:
            return None
        curves += [[rate for _, rate in usable], [_decibel(q, metric) for q, _ in usable]]
    if min(curves[1][-1], curves[3][-1]) <= max(curves[1][0], curves[3][0]):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small overlap: `overlap_db` reports it for every clip
        value = bjontegaard.bd_rate(*curves, method="pchip", require_matching_points=False, min_overlap=0)
    return float(value)


def overlap_db(anchor: list[Point], test: list[Point]) -> float:
    """How many dB of PSNR both curves cover."""
    curves = [[float(p["psnr"]) for p in points] for points in (anchor, test)]
    return max(0.0, min(map(max, curves)) - max(map(min, curves)))


def _decibel(quality: float, metric: str) -> float:
    """The scale that rates are interpolated on: MS-SSIM as -10 log10(1 - value)."""
    return -10 * math.log10(max(1 - quality, 1e-10)) if metric == "ms_ssim" else quality


def broken_promises(points: list[Point]) -> list[str]:
    """What is wrong with one clip's points of bsqcodec, one line each."""
    wrong = []
    ordered = sorted(points, key=lambda p: float(p["crf"]))
    for low, high in itertools.pairwise(ordered):
        for name in ("bpp", "psnr"):
            if high[name] >= low[name]:
                step = f"crf {low['crf']:g} to {high['crf']:g}"
                wrong.append(f"{low['clip']}: {name} does not fall from {step} ({low[name]:.4f}, {high[name]:.4f})")
    for point in ordered:
        if abs(point["reported_psnr"] - point["psnr"]) > PSNR_TOLERANCE:
            both = f"reported {point['reported_psnr']:.3f} dB, decoded {point['psnr']:.3f} dB"
            wrong.append(f"{point['clip']}: crf {point['crf']:g}: {both}")
    return wrong


def summarise(points: list[Point]) -> dict[str, Any]:
    """BD-rates per clip and their mean, the range of rates, broken promises."""
    clips: dict[str, Any] = {}
    for name in sorted({p["clip"] for p in points}):
        anchor, test = ([p for p in points if p["clip"] == name and p["codec"] == c] for c in ("x264", "bsqcodec"))
        if not anchor or not test:
            continue
        rates = [p["bpp"] for p in test]
        clips[name] = {
            "bd_rate_psnr": bd_rate(anchor, test),
            "bd_rate_ms_ssim": bd_rate(anchor, test, "ms_ssim"),
            "overlap_db": overlap_db(anchor, test),
            "rate_factor": max(rates) / min(rates),
            "broken": broken_promises(test),
        }
    mean = {
        metric: _mean_or_none([clip[metric] for clip in clips.values()])
        for metric in ("bd_rate_psnr", "bd_rate_ms_ssim")
    }
    return {"clips": clips, "mean": mean}


def _mean_or_none(values: list[float | None]) -> float | None:
    """The mean over all clips; None when one of them has no value, so that a mean is always over the same clips."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def plan(args: argparse.Namespace) -> list[Task]:
    """All points asked for, in the order they are measured: clip by clip, x264 first."""
    wanted = set(args.clips.split(",")) if args.clips else set()
    clips = [p for p in sorted(args.data.iterdir()) if p.suffix.lower() in SUFFIXES]
    unknown = wanted - {p.stem for p in clips}
    if unknown or not clips:
        raise UsageError(f"{args.data}: no clip {', '.join(sorted(unknown)) or 'at all'}; check --data and --clips")
    weights = str(args.weights or "")
    weights_id = "" if not weights else file_id(args.weights)
    model = codec_id()
    tasks: list[Task] = []
    for clip in clips:
        if wanted and clip.stem not in wanted:
            continue
        ident = file_id(clip)
        tasks += [Task("x264", str(clip), ident, crf, args.frames, model=x264_id()) for crf in X264_CRFS]
        tasks += [
            Task("bsqcodec", str(clip), ident, crf, args.frames, args.keyint, weights, weights_id, model)
            for crf in args.crf
        ]
    return tasks


def measure_all(tasks: list[Task], results: Store, anchors: Store, jobs: int, console: Console) -> None:
    """Measure what neither store has; x264's points go to `anchors`, which other result files share."""
    for task in tasks:
        if task.codec == "x264" and task.key in anchors.points:
            results.points.setdefault(task.key, anchors.points[task.key])
    todo = [task for task in tasks if task.key not in results.points]
    console.print(f"{len(tasks)} points, {len(tasks) - len(todo)} of them known")

    def record(number: int, task: Task, point: Point) -> None:
        results.add(task.key, point, hardware=hardware())
        if task.codec == "x264":
            anchors.add(task.key, point)
        line = f"{point['bpp']:.4f} bpp, {point['psnr']:.2f} dB, {point['measured_in_s']:.0f} s"
        console.print(f"[{number}/{len(todo)}] {point['clip']} {task.codec} crf {task.crf:g}: {line}", markup=False)

    if jobs == 1:
        for number, task in enumerate(todo, 1):
            record(number, task, measure(task))
        return
    limit = str(max(1, (os.cpu_count() or 1) // jobs))
    os.environ.update(OMP_NUM_THREADS=limit, MKL_NUM_THREADS=limit)  # read by the workers when they import torch
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(measure, task): task for task in todo}
        for number, future in enumerate(as_completed(futures), 1):
            record(number, futures[future], future.result())


def print_tables(points: list[Point], summary: dict[str, Any], console: Console) -> None:
    """All of bsqcodec's points, then a line per clip."""
    table = Table(title="bsqcodec", header_style="bold")
    for name in ("clip", "crf", "bytes", "bpp", "Y", "U", "V", "PSNR", "MS-SSIM", "enc fps", "dec fps"):
        table.add_column(name, justify="left" if name == "clip" else "right")
    for p in sorted((p for p in points if p["codec"] == "bsqcodec"), key=lambda p: (p["clip"], p["crf"])):
        planes = [f"{p[f'psnr_{plane}']:.2f}" for plane in "yuv"]
        ms_ssim = "-" if p["ms_ssim"] is None else f"{p['ms_ssim']:.4f}"
        speed = [f"{p[f'{side}code_fps']:.1f}" for side in ("en", "de")]
        table.add_row(
            p["clip"],
            f"{p['crf']:g}",
            f"{p['bytes']:,}",
            f"{p['bpp']:.4f}",
            *planes,
            f"{p['psnr']:.2f}",
            ms_ssim,
            *speed,
        )
    console.print(table)
    bd = Table(title="BD-rate against x264 -preset medium -bf 0 (PCHIP)", header_style="bold")
    for name in ("clip", "PSNR (6Y+U+V)/8", "MS-SSIM", "overlap dB", "rate factor"):
        bd.add_column(name, justify="left" if name == "clip" else "right")
    for name, clip in summary["clips"].items():
        values = [_percent(clip[f"bd_rate_{m}"]) for m in ("psnr", "ms_ssim")]
        bd.add_row(name, *values, f"{clip['overlap_db']:.1f}", f"{clip['rate_factor']:.1f}")
    bd.add_section()
    bd.add_row("mean", *(_percent(summary["mean"][f"bd_rate_{m}"]) for m in ("psnr", "ms_ssim")))
    console.print(bd)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of 8-bit 4:2:0 clips")
    parser.add_argument("--crf", type=_numbers, default=_numbers("20,24,28,32,36,40"), help="comma-separated")
    parser.add_argument("--keyint", type=int, default=32, help="group length of bsqcodec, frames")
    parser.add_argument("--out", type=Path, required=True, help="JSON; finished points in it are kept")
    parser.add_argument("--frames", type=int, default=0, help="first frames of each clip, 0 = all")
    parser.add_argument("--clips", default="", help="comma-separated names without suffix")
    parser.add_argument("--weights", type=Path, help="other weights than the shipped ones")
    parser.add_argument("--jobs", type=int, default=1, help="points measured at the same time")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[float]:
    return sorted({float(part) for part in text.split(",")})


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    console = Console(stderr=True, width=max(Console(stderr=True).width, TABLE_WIDTH))
    try:
        tasks = plan(args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        results, anchors = Store(args.out), Store(args.out.parent / "x264_cache.json")
        measure_all(tasks, results, anchors, args.jobs, console)
    except (BsqError, OSError) as error:
        console.print(f"error: {error}", markup=False)
        return error.exit_code if isinstance(error, BsqError) else 1
    points = [results.points[task.key] for task in tasks]
    summary = summarise(points)
    results.write(hardware=hardware(), tasks=[public(task) for task in tasks], summary=summary)
    print_tables(points, summary, console)
    broken = [line for clip in summary["clips"].values() for line in clip["broken"]]
    for line in broken:
        console.print(f"BROKEN {line}", markup=False)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
