"""Fill a folder with shards of training material, in several processes and resumable.

A shard is one torch file, written whole or not at all; shard i of a seed is the same whoever makes it and when.
By hand: `python -m bsqcodec.training.generate --data DIR --out DIR --shards N [--tokenizer STATE] [--validation]`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from bsqcodec.training.by_hand import finish
from bsqcodec.training.checkpoint import write
from bsqcodec.training.clips import find_sources
from bsqcodec.training.material import Recording, predictive_shard

Maker = Callable[[random.Random], dict[str, object]]


def shard_path(out: Path, seed: int, index: int) -> Path:
    """Where shard `index` of a seed lies."""
    return out / f"{seed:04d}-{index:04d}.pt"


def missing(out: Path, shards: int, seed: int) -> list[int]:
    """Indices of the shards that are not there yet."""
    return [i for i in range(shards) if not shard_path(out, seed, i).exists()]


def fill(out: Path, shards: int, seed: int, make: Maker, processes: int = 1) -> None:
    """Make the shards of a folder that are missing. `make` must be picklable where `processes` > 1."""
    out.mkdir(parents=True, exist_ok=True)
    todo = missing(out, shards, seed)
    done = shards - len(todo)
    work = partial(_make, out, seed, make)
    bar = tqdm(initial=done, total=shards, desc=f"shards {out.name}", file=sys.stderr, ascii=True, mininterval=5)
    with bar:
        for _ in _results(work, todo, min(processes, len(todo))):
            bar.update()


def _results(work: Callable[[int], None], todo: list[int], processes: int) -> Iterator[None]:
    if processes <= 1:
        yield from map(work, todo)
        return
    # spawn: a fork of a process whose torch has started threads can hang
    with multiprocessing.get_context("spawn").Pool(processes, _quiet) as pool:  # leaving it ends the workers
        yield from pool.imap_unordered(work, todo)


def _quiet() -> None:
    """Workers leave Ctrl-C to their parent, and share the cores one thread each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _make(out: Path, seed: int, make: Maker, index: int) -> None:
    write(shard_path(out, seed, index), make(random.Random(f"{seed}/{index}")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--tokenizer", type=Path, help="checkpoint of a trained tokenizer; the DCT start without")
    parser.add_argument("--prices", type=Path, help="checkpoint of a prior that prices levels; thresholds without")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--validation", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sources = find_sources(arguments.data, arguments.validation)
    make = partial(predictive_shard, Recording(state=arguments.tokenizer, prices=arguments.prices), sources)
    fill(arguments.out, arguments.shards, arguments.seed, make, arguments.processes)


if __name__ == "__main__":
    finish(main)
