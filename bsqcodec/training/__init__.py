"""Training: closed-loop material made by the codec itself, then tokenizer and prior trained on it.

`run` is all of it, as `bsqcodec train` does it from one of the configs in `configs/`.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["run"]


def run(config: Path, data: Path, out: Path, resume: bool = False, jobs: int = 1) -> None:
    """Train the model that a TOML config describes on the videos and photographs below `data`.

    out: folder for material, checkpoints and the weights, <name>.safetensors; resume: go on with what is there.
    jobs: stages that run side by side where neither needs the other.
    Raises UsageError (the config, the folders) and VideoError (no clip can be read).
    """
    from bsqcodec.training.stages import run as run_stages  # imports torch

    run_stages(config, data, out, resume, jobs)
