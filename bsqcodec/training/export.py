"""Export: trained modules and the tables fitted on their material, as one weights file.

By hand: `python -m bsqcodec.training.export --tokenizer STATE --prior STATE --material DIR... --name NAME --out F`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bsqcodec.codec.model import ModelConfig, merging, save_model
from bsqcodec.errors import UsageError
from bsqcodec.motion import MotionField, MotionTables, count_statistics, empty_counts, tables_from_counts
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import Tables, fit_tables
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.training.by_hand import finish
from bsqcodec.training.checkpoint import load_part, read

TAIL = 4  # smallest |level| whose decisions come from tables and not from the network


def fit_material(folders: list[Path], merging: bool) -> tuple[Tables, MotionTables]:
    """Tables of token tails and of motion from the shards of some folders (`predictive_shard`'s).

    merging: `MotionTables.merging`. Raises UsageError where there is no shard.
    """
    paths = [path for folder in folders for path in sorted(folder.glob("*.pt"))]
    if not paths:
        raise UsageError(f"{', '.join(map(str, folders))}: no shards of training material; make some first")
    tails, counts = [], empty_counts(merging)
    for path in tqdm(paths, desc="tables", ascii=True):
        shard = read(path)
        tails += [_tail(sample["levels"]) for sample in shard["samples"]]
        for previous, field in _fields(shard["motion"]):
            count_statistics(field, previous, counts)
    return fit_tables(np.concatenate(tails)), tables_from_counts(counts)


def _tail(levels: torch.Tensor) -> np.ndarray:
    """The levels [n] that tables are about: all of them would be gigabytes."""
    found: np.ndarray = levels[levels.abs() >= TAIL].numpy()
    return found


def _fields(groups: list[list[tuple[torch.Tensor, torch.Tensor]]]) -> Iterator[tuple[MotionField | None, MotionField]]:
    """Each recorded field after the one before it in its group (None for a group's first)."""
    for group in groups:
        previous = None
        for vectors, split in group:
            field = MotionField(vectors.to(torch.int32), split)
            yield previous, field
            previous = field


def load_modules(
    tokenizer: PredictiveConfig | CausalConfig, prior: PriorConfig, tokenizer_state: Path, prior_state: Path
) -> tuple[PredictiveTokenizer | CausalTokenizer, PriorNetwork]:
    """Trained modules from their checkpoints. Raises UsageError where they do not fit the configs."""
    module: PredictiveTokenizer | CausalTokenizer
    module = PredictiveTokenizer(tokenizer) if isinstance(tokenizer, PredictiveConfig) else CausalTokenizer(tokenizer)
    load_part(module, tokenizer_state, "tokenizer")
    network = PriorNetwork(prior)
    load_part(network, prior_state, "prior")
    return module, network


def export(
    path: Path,
    config: ModelConfig,
    states: tuple[Path, Path],
    tables: tuple[Tables, MotionTables],
) -> bytes:
    """Write a weights file from the checkpoints of tokenizer and prior; returns its SHA-256.

    The file appears under its name when it is whole.
    """
    tokenizer, prior = load_modules(config.tokenizer, config.prior, *states)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    digest = save_model(part, config, tokenizer, prior, *tables)
    part.replace(path)
    return digest


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True, help="state.pt of the tokenizer's training")
    parser.add_argument("--prior", type=Path, required=True, help="state.pt of the prior's training")
    parser.add_argument("--material", type=Path, nargs="+", required=True, help="folders of shards to fit tables on")
    parser.add_argument("--name", required=True, help="the model's name, as streams record it")
    parser.add_argument("--tune", default="psnr")
    parser.add_argument("--out", type=Path, required=True, help="the weights file")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    config = ModelConfig(arguments.name, arguments.tune, PredictiveConfig(), PriorConfig())
    tables = fit_material(arguments.material, merging(config.tokenizer))
    digest = export(arguments.out, config, (arguments.tokenizer, arguments.prior), tables)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, sha256 {digest.hex()}")


if __name__ == "__main__":
    finish(main)
