"""Calibration: which quality index gives the quality of x264 at each crf, so that `--crf` means what users know.

Quality is the metric of the tune: (6Y+U+V)/8, or MS-SSIM in dB.

By hand: `python -m bsqcodec.training.calibrate --weights F --data DIR --out F2`; F2 is F with a new crf_curve.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from tqdm import tqdm

from bsqcodec.codec import GroupEncoder, Model, decode_group
from bsqcodec.codec.model import METADATA, ModelConfig, load_model
from bsqcodec.codec.settings import intra_quality
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.metrics import MS_SSIM_MIN_SIDE, Quality, compare
from bsqcodec.tokenizer.causal import CausalConfig
from bsqcodec.tokenizer.transform import Planes
from bsqcodec.training.by_hand import finish
from bsqcodec.training.clips import find_sources, steady_excerpts
from bsqcodec.training.x264 import x264_quality

KNOTS = tuple(range(16, 45, 4))  # crf
LOWEST_CRF, HIGHEST_CRF, HIGHEST_INDEX = 0, 51, 255
SLOPE = 28 / 6  # indices a crf: both scales are logarithms of a step, 28 indices and 6 crf an octave
ROUNDS = 3

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Calibration:
    """What to measure on: the first `frames` frames of `clips` clips, cropped to `side` luma samples a side."""

    clips: int = 6
    frames: int = 16
    side: int = 352


def calibrate(model: Model, data: Path, plan: Calibration) -> Curve:
    """Knots (crf, index of a first frame), 0 and 51 included, for the clips of the validation split below `data`.

    Raises UsageError where no clip is long enough (for MS-SSIM: and large enough) or the model has only one quality.
    """
    if isinstance(model.config.tokenizer, CausalConfig):
        raise UsageError(f"{model.name}: a causal model has one quality; there is nothing to calibrate")
    sources = find_sources(data, validation=True)
    least = MS_SSIM_MIN_SIDE + 1 if model.tune == "ms-ssim" else 1
    excerpts = [frames_of(clip) for clip in steady_excerpts(sources, plan.clips, plan.frames, plan.side, least)]
    bar = tqdm(total=len(KNOTS) * (ROUNDS + 1) * len(excerpts), desc="calibrate", ascii=True, mininterval=5)

    def mean(measure: Callable[[list[Frame]], float]) -> float:
        values = []
        for clip in excerpts:
            values.append(measure(clip))
            bar.update()
        return float(np.mean(values))

    wanted = [mean(lambda clip, crf=crf: x264_value(clip, crf, model.tune)) for crf in KNOTS]  # type: ignore[misc]
    curve = solve(wanted, lambda index: mean(lambda clip: index_value(model, clip, index)))
    bar.close()
    return complete(curve)


def frames_of(clip: list[Planes]) -> list[Frame]:
    """A clip's planes as frames, shown one after another."""
    frames = []
    for i, planes in enumerate(clip):
        y, u, v = (np.ascontiguousarray(plane.numpy()) for plane in planes)
        frames.append(Frame(y, u, v, pts=i))
    return frames


def x264_value(frames: list[Frame], crf: float, tune: str) -> float:
    """What x264 reaches at a crf in the metric of a tune, in dB."""
    return _value(x264_quality(frames, crf, ms_ssim=tune == "ms-ssim"), tune)


def index_value(model: Model, frames: list[Frame], index: int) -> float:
    """What one group whose first frame has a quality index reaches in the metric of the model's tune, in dB."""
    config = replace(model.config, crf_curve=[(0.0, 0.0), (51.0, 255.0)])  # an index is 5 crf
    rows, columns = frames[0].y.shape
    info = VideoInfo(columns, rows)
    encoder = GroupEncoder(replace(model, config=config), info, crf=index / 5, keyint=len(frames))
    groups = [*(g for frame in frames for g in encoder.push(frame)), *encoder.flush()]
    decoded = (frame for group in groups for frame in decode_group(model, group.group, info))
    return _value(compare(frames, decoded, ms_ssim=model.tune == "ms-ssim"), model.tune)


def _value(quality: Quality, tune: str) -> float:
    if tune != "ms-ssim":
        return quality.psnr
    assert quality.ms_ssim is not None  # the excerpts are large enough
    return -10 * math.log10(max(1e-9, 1 - quality.ms_ssim))


def solve(wanted: list[float], measure: Callable[[int], float]) -> Curve:
    """Indices at which `measure` (falling, in dB) gives `wanted`, one for each of KNOTS.

    Starts from the nominal steps, then interpolates between what was measured, at most ROUNDS times.
    """
    measured = {index: measure(index) for index in (intra_quality(crf) for crf in KNOTS)}
    found = [_inverse(measured, value) for value in wanted]
    for _ in range(ROUNDS - 1):
        new = {round(index) for index in found} - set(measured)
        measured |= {index: measure(index) for index in sorted(new)}
        found = [_inverse(measured, value) for value in wanted]
    return [(float(crf), index) for crf, index in zip(KNOTS, found, strict=True)]


def _inverse(measured: dict[int, float], value: float) -> float:
    """Index of a PSNR by linear interpolation, continued beyond the ends along the outermost segments."""
    index = np.array(sorted(measured), dtype=float)
    psnr = np.minimum.accumulate([measured[int(i)] for i in index]) - 1e-6 * np.arange(len(index))  # strictly falling
    right = int(np.clip(np.searchsorted(-psnr, -value), 1, len(index) - 1))
    slope = (index[right] - index[right - 1]) / (psnr[right] - psnr[right - 1])
    return float(np.clip(index[right - 1] + slope * (value - psnr[right - 1]), 0, HIGHEST_INDEX))


def complete(curve: Curve) -> Curve:
    """The curve made to rise at every knot and continued to crf 0 and 51 along the nominal slope."""
    crfs = [LOWEST_CRF, *(crf for crf, _ in curve), HIGHEST_CRF]
    first, last = curve[0], curve[-1]
    low = max(0.0, first[1] - SLOPE * (first[0] - LOWEST_CRF))
    high = min(float(HIGHEST_INDEX), last[1] + SLOPE * (HIGHEST_CRF - last[0]))
    rising = np.maximum.accumulate([low, *(index for _, index in curve), high])
    return [(float(crf), round(float(index), 2)) for crf, index in zip(crfs, rising, strict=True)]


def with_curve(weights: Path, curve: Curve, out: Path) -> None:
    """Write a weights file again with another crf_curve in its metadata; nothing else changes."""
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    config = ModelConfig.from_json(json.loads(data[8 : 8 + length])["__metadata__"][METADATA])
    text = replace(config, crf_curve=curve).to_json()
    part = out.with_name(out.name + ".part")
    part.write_bytes(safetensors.numpy.save(safetensors.numpy.load(data), metadata={METADATA: text}))
    part.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of clips; the validation split is measured")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=Calibration.clips)
    parser.add_argument("--frames", type=int, default=Calibration.frames, help="of each clip")
    parser.add_argument("--side", type=int, default=Calibration.side, help="luma samples to crop to")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.weights, device="cpu")
    plan = Calibration(arguments.clips, arguments.frames, arguments.side)
    curve = calibrate(model, arguments.data, plan)
    with_curve(arguments.weights, curve, arguments.out)
    print(f"{arguments.out}: {', '.join(f'{crf:g}: {index:g}' for crf, index in curve)}")


if __name__ == "__main__":
    finish(main)
