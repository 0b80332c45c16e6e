"""Trials for the ledger: one group of each of some validation clips at some quality indices, with something changed.

    python benchmarks/trial.py --data DIR --out base.json
    python benchmarks/trial.py --data DIR --out other.json --set codec.settings.MOTION_PRICES="{'psnr': 0.6}"
    python benchmarks/trial.py --compare base.json other.json

--set replaces a constant wherever a module of the package has it by that name. Bits are those of motion and tokens;
PSNR is (6Y+U+V)/8 in dB, MS-SSIM that of luma, in dB, where clips are larger than 160 px. BD-rates are of each clip
and their mean.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import math
import pkgutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import bsqcodec
from bsqcodec.bench.bd import bd_rate
from bsqcodec.codec import GroupEncoder, Model, decode_group
from bsqcodec.codec.model import load_model, shipped_path
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.metrics import MS_SSIM_MIN_SIDE, compare
from bsqcodec.presets import PRESETS
from bsqcodec.training.calibrate import frames_of
from bsqcodec.training.clips import find_sources, steady_excerpts

METRICS = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "luma": "luma PSNR"}


def replace_constant(path: str, value: Any) -> None:
    """Set `codec.settings.NAME` there and in every module that imported it. Raises SystemExit where there is none."""
    home, _, name = path.rpartition(".")
    module = importlib.import_module(f"bsqcodec.{home}")
    if not hasattr(module, name):
        raise SystemExit(f"error: bsqcodec.{home} has no {name}")
    old = getattr(module, name)
    for other in [m for key, m in sys.modules.items() if key.startswith("bsqcodec.")]:
        if getattr(other, name, None) is old:
            setattr(other, name, value)


def load_everything() -> None:
    """Import what codes, so that constants are replaced wherever they were imported to."""
    for package in ("codec", "tokenizer", "motion", "prior"):
        folder = Path(bsqcodec.__file__).parent / package
        for found in pkgutil.iter_modules([str(folder)]):
            importlib.import_module(f"bsqcodec.{package}.{found.name}")


def measure(model: Model, frames: list[Frame], index: int, preset: str) -> dict[str, float]:
    """Bits a pixel and qualities of one group whose first frame has a quality index, and PSNR's fall inside it."""
    config = replace(model.config, crf_curve=[(0.0, 0.0), (51.0, 255.0)])  # an index is 5 crf
    rows, columns = frames[0].y.shape
    info = VideoInfo(columns, rows)
    search = PRESETS[preset]
    encoder = GroupEncoder(replace(model, config=config), info, crf=index / 5, keyint=len(frames), search=search)
    groups = [*(g for i, frame in enumerate(frames) for g in encoder.push(frame, len(frames) - 1 - i))]
    groups += encoder.flush()
    decoded = [frame for group in groups for frame in decode_group(model, group.group, info)]
    large = min(rows, columns) >= MS_SSIM_MIN_SIDE
    quality = compare(frames, iter(decoded), ms_ssim=large)
    spent = sum(len(g.group.motion) + len(g.group.tokens) for g in groups)
    motion = sum(g.plane_bits.get("motion", 0.0) for g in groups) / 8
    psnr = [compare([a], iter([b])).psnr for a, b in zip(frames, decoded, strict=True)]
    out = {
        "bpp": 8 * spent / (rows * columns * len(frames)),
        "psnr": quality.psnr,
        "luma": quality.psnr_y,
        "motion": motion / spent,
        "fall": psnr[1] - psnr[-1] if len(psnr) > 2 else 0.0,
    }
    if large:
        assert quality.ms_ssim is not None
        out["ms_ssim"] = -10 * math.log10(max(1e-9, 1 - quality.ms_ssim))
    return out


def run(arguments: argparse.Namespace) -> None:
    weights = Path(arguments.weights)
    path = weights if weights.suffix else shipped_path(arguments.weights)
    model = load_model(path, device="cpu")
    if arguments.tune:
        model = replace(model, config=replace(model.config, tune=arguments.tune))
    load_everything()
    for change in arguments.set:
        name, _, value = change.partition("=")
        replace_constant(name, ast.literal_eval(value))
    sources = find_sources(arguments.data, validation=True)
    clips = list(steady_excerpts(sources, arguments.clips, arguments.frames, arguments.side, arguments.side))
    rows: list[list[dict[str, float]]] = [[] for _ in clips]
    bar = tqdm(total=len(clips) * len(arguments.index), ascii=True, mininterval=5)
    for points, clip in zip(rows, clips, strict=True):
        frames = frames_of(clip)
        for index in arguments.index:
            points.append(measure(model, frames, index, arguments.preset))
            bar.update()
    bar.close()
    record = {"model": model.name, "set": arguments.set, "index": arguments.index, "clips": rows}
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def show(reference: Path, others: list[Path]) -> None:
    """Print the BD-rates of some results against the first."""
    base = json.loads(reference.read_text(encoding="utf-8"))["clips"]
    for path in others:
        clips = json.loads(path.read_text(encoding="utf-8"))["clips"]
        print(path.name)
        for metric, label in METRICS.items():
            pairs = [(a, b) for a, b in zip(base, clips, strict=True) if metric in a[0] and metric in b[0]]
            values = [bd_rate(_curve(a, metric), _curve(b, metric)).percent for a, b in pairs]
            known = [v for v in values if v is not None]
            if known:
                each = "  ".join("none" if v is None else f"{v:+.1f}" for v in values)
                print(f"  {label:10} {np.mean(known):+6.2f} %   {each}")
        points = zip(*clips, strict=True)
        print("  motion     " + "  ".join(f"{np.mean([p['motion'] for p in point]):.2f}" for point in points))
        points = zip(*clips, strict=True)
        print("  fall, dB   " + "  ".join(f"{np.mean([p['fall'] for p in point]):.2f}" for point in points))


def _curve(points: list[dict[str, float]], metric: str) -> list[tuple[float, float]]:
    return [(p["bpp"], p[metric]) for p in points]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, nargs="+", help="results: the first is the reference")
    parser.add_argument("--data", type=Path, help="folder with train/ and photos/; validation scenes are used")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--weights", default="psnr", help="a file, or the tune of a set that ships")
    parser.add_argument("--tune", default="", help="decide for this metric whatever the weights are for")
    parser.add_argument("--preset", default="medium", choices=sorted(PRESETS))
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--index", type=lambda text: [int(i) for i in text.split(",")], default=[100, 130, 160, 185])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="MODULE.NAME=VALUE")
    arguments = parser.parse_args()
    if arguments.compare:
        return show(arguments.compare[0], arguments.compare[1:])
    if arguments.data is None or arguments.out is None:
        parser.error("--data and --out are needed")
    torch.set_num_threads(arguments.threads)
    return run(arguments)


if __name__ == "__main__":
    main()
