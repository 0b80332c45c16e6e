"""Fill a folder with shards of training material by coding random excerpts (`material.roll_out`).

Run as `python -m bsqcodec.training.generate --data DIR --out DIR --shards N [--weights F] [--seed S] [--validation]`.
A shard is one torch file: a list of `Sample`s and the motion fields met, about 250 samples.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from bsqcodec.motion import MotionField
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.transform import Planes
from bsqcodec.training.material import Sample, clip_stream, roll_out, split_clips

SHARD = 250  # samples
SOURCES = (("train", 0.75), ("train-short", 0.15), ("photos", 0.10))  # folder and share of excerpts
LONGEST_SIDE = 480  # luma samples: larger pictures are cropped, so that one excerpt does not take all the time
QUALITIES = (56, 222)  # first-frame quality indices, about crf 12 .. 47


def shrink(frames: list[Planes], rng: random.Random) -> list[Planes]:
    """Crop all frames to at most LONGEST_SIDE, at the same random even place."""
    rows, columns = frames[0][0].shape
    height, width = min(rows, LONGEST_SIDE), min(columns, LONGEST_SIDE)
    top, left = (rng.randrange((n - m) // 2 + 1) * 2 for n, m in ((rows, height), (columns, width)))
    half = (slice(top // 2, (top + height + 1) // 2), slice(left // 2, (left + width + 1) // 2))
    return [(y[top : top + height, left : left + width], u[half], v[half]) for y, u, v in frames]


def make_shard(
    tokenizer: PredictiveTokenizer, config: PriorConfig, folders: list[list[Path]], rng: random.Random
) -> dict[str, object]:
    """Code excerpts until SHARD samples are there."""
    samples: list[Sample] = []
    motion: list[list[MotionField]] = []
    streams = [clip_stream(clips, rng.choice((6, 10, 10, 16)), rng) for clips in folders]
    shares = [share for _, share in SOURCES]
    while len(samples) < SHARD:
        _, frames = next(rng.choices(streams, shares)[0])
        met, fields = roll_out(tokenizer, config, shrink(frames, rng), rng.randrange(*QUALITIES), rng)
        samples += met
        motion.append(fields)
    return {
        "samples": [asdict(sample) for sample in samples],
        "motion": [[(f.vectors.to(torch.int16), f.split) for f in fields] for fields in motion],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--tokenizer", type=Path, help="torch state of a trained tokenizer; the DCT start without")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validation", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(arguments.seed)
    tokenizer = PredictiveTokenizer(PredictiveConfig()).eval()
    if arguments.tokenizer:
        tokenizer.load_state_dict(torch.load(arguments.tokenizer, weights_only=True))
    folders = [split_clips(arguments.data / name, arguments.validation) for name, _ in SOURCES]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for i in tqdm(range(arguments.shards), file=sys.stderr):
        shard = make_shard(tokenizer, PriorConfig(), folders, rng)
        torch.save(shard, arguments.out / f"{arguments.seed:04d}-{i:04d}.pt")


if __name__ == "__main__":
    main()
