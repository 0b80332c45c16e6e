"""A pool of recorded samples in memory, and batches of crops drawn from it.

Legend: B batch, h w tokens of a crop, C = 96.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.errors import UsageError
from bsqcodec.training.checkpoint import read

CROP = 16  # tokens a training crop is wide and high
SMALL_SHARE = 0.06  # of batches made of pyramid levels smaller than a crop


@dataclass
class Batch:
    """target, prediction float [B, h, w, 96]; levels, reference int32 [B, h, w, C]; energy, extra float;
    quality, kind int64 [B]; inside bool [B, h, w]: token exists (small pictures are padded)."""

    target: Tensor
    prediction: Tensor
    levels: Tensor
    reference: Tensor
    energy: Tensor
    extra: Tensor
    quality: Tensor
    kind: Tensor
    inside: Tensor


class Pool:
    """Samples of all shards of some folders; `refresh` picks up shards written since.

    Raises UsageError where there are none.
    """

    def __init__(self, folders: list[Path]):
        self.folders = folders
        self.seen: set[Path] = set()
        self.large: list[dict[str, Any]] = []
        self.small: list[dict[str, Any]] = []
        if not self.refresh():
            raise UsageError(f"{', '.join(map(str, folders))}: no shards of training material; make some first")

    def refresh(self) -> int:
        """Load new shards; returns how many."""
        before = len(self.seen)
        for sample in unseen(self.folders, self.seen):
            h, w, _ = sample["levels"].shape
            (self.large if min(h, w) >= CROP else self.small).append(sample)
        return len(self.seen) - before

    def batch(self, size: int, rng: random.Random) -> Batch:
        """Random crops with flips left out (the clips were flipped when they were coded)."""
        small = bool(self.small) and (not self.large or rng.random() < SMALL_SHARE)
        source = self.small if small else self.large
        return collate([_crop(rng.choice(source), rng) for _ in range(size)])


def unseen(folders: list[Path], seen: set[Path]) -> Iterator[dict[str, Any]]:
    """Samples of the shards in folders that are not in `seen` yet; adds those it has read."""
    for path in [p for folder in folders for p in sorted(folder.glob("*.pt")) if p not in seen]:
        yield from read(path)["samples"]
        seen.add(path)


def _crop(sample: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    h, w, _ = sample["levels"].shape
    top = 2 * rng.randrange(max(h - CROP, 0) // 2 + 1)
    left = 2 * rng.randrange(max(w - CROP, 0) // 2 + 1)
    return {
        key: value[top : top + CROP, left : left + CROP] if isinstance(value, Tensor) else value
        for key, value in sample.items()
    }


def collate(samples: list[dict[str, Any]]) -> Batch:
    """Stack crops; smaller ones are padded (pixels replicated, levels zero) and marked in `inside`."""

    def stack(key: str, replicate: bool) -> Tensor:
        return torch.stack([_fit(s[key], replicate) for s in samples])

    inside = torch.stack([_fit(torch.ones(*s["levels"].shape[:2], 1), False)[..., 0] > 0 for s in samples])
    return Batch(
        stack("target", True).float(),
        stack("prediction", True).float(),
        stack("levels", False).int(),  # int16 has no compiled clamp
        stack("reference", False).int(),
        stack("energy", False).float(),
        stack("extra", False).float(),
        torch.tensor([s["quality"] for s in samples]),
        torch.tensor([s["kind"] for s in samples]),
        inside,
    )


def _fit(x: Tensor, replicate: bool) -> Tensor:
    h, w, _ = x.shape
    if (h, w) == (CROP, CROP):
        return x
    if replicate:
        return x[torch.arange(CROP).clamp(max=h - 1)][:, torch.arange(CROP).clamp(max=w - 1)]
    return F.pad(x, (0, 0, 0, CROP - w, 0, CROP - h))
