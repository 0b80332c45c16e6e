"""Checkpoints: a torch file with the modules of a training, its optimiser and the steps done, replaced atomically."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bsqcodec.errors import UsageError

NAME = "state.pt"


def write(path: Path, content: object) -> None:
    """torch.save under another name first, so that a file with its right name is always whole."""
    part = path.with_name(path.name + ".part")
    torch.save(content, part)
    part.replace(path)


def read(path: Path) -> dict[str, Any]:
    """A file of `write`. Raises UsageError where there is none or it is something else."""
    try:
        # torch tries anything else as a bare pickle, which fails in as many ways as there are bytes
        with path.open("rb") as file:
            whole = zipfile.is_zipfile(file)
        content = torch.load(path, weights_only=True) if whole else None
    except OSError as error:
        raise UsageError(f"{path}: cannot read the checkpoint: {error.strerror}; check the path") from error
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise UsageError(f"{path}: not a checkpoint of a training; check the path") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not a checkpoint of a training; check the path")
    return content


def save(path: Path, modules: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write the state of a training after `step` steps."""
    write(path, {"modules": modules.state_dict(), "optimiser": optimiser.state_dict(), "step": step})


def steps_done(path: Path) -> int:
    """Steps behind a checkpoint, 0 where there is none."""
    return int(read(path).get("step", 0)) if path.exists() else 0


def load_part(module: nn.Module, path: Path, part: str) -> None:
    """Load a module from a checkpoint's modules "<part>.*", or from a file that holds just its state.

    Raises UsageError where names or shapes differ.
    """
    content = read(path)
    state = content.get("modules", content)
    prefix = part + "."
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    _load(module, state, path, part)


def load_shared(modules: nn.ModuleDict, path: Path) -> None:
    """Load those of some modules that a checkpoint has. Raises UsageError where it has none or they do not fit."""
    kept = {key.partition(".")[0] for key in read(path).get("modules", {})}
    shared = [name for name in modules if name in kept]
    if not shared:
        raise UsageError(f"{path}: holds no {' or '.join(modules)}; use the config it was made with")
    for name in shared:
        load_part(modules[name], path, name)


def load_all(modules: nn.Module, path: Path) -> None:
    """Load all modules of a checkpoint. Raises UsageError where names or shapes differ."""
    _load(modules, read(path).get("modules", {}), path, "training")


def _load(module: nn.Module, state: dict[str, Any], path: Path, what: str) -> None:
    try:
        module.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        reason = _first_lines(str(error).splitlines())
        raise UsageError(f"{path}: does not fit this {what} ({reason}); use the config it was made with") from error


def _first_lines(lines: Iterable[str]) -> str:
    """torch's account of what differs, without its heading and cut to one readable line."""
    return " ".join(line.strip() for line in list(lines)[1:3])[:160] or "other names or shapes"
