"""Training of the paper's own configuration (arXiv 2406.07548): squared error plus BSQ's entropy term, on raw clips.

No motion, no prediction: the tokenizer sees clips of a few frames under a block-causal mask, and the prior then learns
the signs of its codes, frame after frame.
Legend: B batch, T frames, h w tokens of a crop, L bits a token.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bsqcodec.errors import UsageError
from bsqcodec.prior import context
from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.transform import LUMA, TOKEN, Planes, pack, pad_planes
from bsqcodec.training.checkpoint import load_part, read
from bsqcodec.training.clips import Excerpts, Source, crop
from bsqcodec.training.pool import Batch
from bsqcodec.training.tasks import Task

QUALITY = 128  # index; a causal model has just one quality
CURVE = [(0.0, float(QUALITY)), (51.0, float(QUALITY))]  # so every crf asks for it
CROPS = 4  # taken of every excerpt: decoding is dearer than cutting


@dataclass(frozen=True)
class CausalLoss:
    """entropy_weight: gamma of eq. 8, in units of squared error on a -1..1 scale; temperature: tau of eq. 7."""

    entropy_weight: float = 0.01
    temperature: float = 100.0


@dataclass(frozen=True)
class Cutting:
    """How shards are made. samples: clips in a shard; lengths: frames, drawn from these; crop: tokens a side."""

    samples: int = 250
    lengths: tuple[int, ...] = (4, 8)
    crop: int = 16


def causal_shard(plan: Cutting, sources: list[Source], rng: random.Random) -> dict[str, object]:
    """Cut clips: {"clips": list of uint8 [T, h, w, 96]}; photographs give T = 1, small pictures are padded."""
    clips: list[Tensor] = []
    excerpts = Excerpts(sources, rng)
    while len(clips) < plan.samples:
        frames = excerpts.draw(plan.lengths)
        for _ in range(min(CROPS, plan.samples - len(clips))):
            clips.append(_cut(crop(frames, TOKEN * plan.crop, rng), plan.crop))
    return {"clips": clips}


def _cut(frames: list[Planes], side: int) -> Tensor:
    return torch.stack([pack(pad_planes(planes, side, side)) for planes in frames])


class ClipPool:
    """Clips of all shards of some folders. Raises UsageError where there are none."""

    def __init__(self, folders: list[Path]):
        self.folders = folders
        self.seen: set[Path] = set()
        self.clips: dict[tuple[int, ...], list[Tensor]] = {}  # by shape: a batch has one
        if not self.refresh():
            raise UsageError(f"{', '.join(map(str, folders))}: no shards of clips; make some first")

    def refresh(self) -> int:
        """Load new shards; returns how many."""
        new = [p for folder in self.folders for p in sorted(folder.glob("*.pt")) if p not in self.seen]
        for path in new:
            for clip in read(path)["clips"]:
                self.clips.setdefault(tuple(clip.shape), []).append(clip)
            self.seen.add(path)
        return len(new)

    def batch(self, size: int, rng: random.Random) -> Tensor:
        """Clips of one length: float [B, T, h, w, 96] of samples 0..255."""
        kinds = list(self.clips.values())
        clips = rng.choices(kinds, [len(clips) for clips in kinds])[0]
        return torch.stack([rng.choice(clips) for _ in range(size)]).float()


class CodePool:
    """What a trained tokenizer makes of a `ClipPool`'s clips: one frame of each, with the frame before as reference."""

    def __init__(self, clips: ClipPool, tokenizer: CausalTokenizer):
        self.clips, self.tokenizer = clips, tokenizer.eval()

    def refresh(self) -> int:
        """Load new shards; returns how many."""
        return self.clips.refresh()

    def batch(self, size: int, rng: random.Random) -> Batch:
        """levels and reference int32 [B, h, w, L] of +-1 (0 where there is no frame before), and their features."""
        clips = self.clips.batch(size, rng)
        b, t, h, w, _ = clips.shape
        with torch.no_grad():
            levels = self.tokenizer.levels(clips, torch.full((b,), QUALITY)).int()
        which = [rng.randrange(t) for _ in range(b)]
        now = torch.stack([levels[i, k] for i, k in enumerate(which)])
        before = torch.stack([levels[i, k - 1] if k else torch.zeros_like(levels[i, 0]) for i, k in enumerate(which)])
        extra = torch.stack([_extra(h, w, k) for k in which])
        target = torch.stack([clips[i, k] for i, k in enumerate(which)])
        return Batch(
            target=target,
            prediction=torch.zeros_like(target),
            levels=now,
            reference=before,
            energy=torch.zeros(before.shape),
            extra=extra,
            quality=torch.full((b,), QUALITY),
            kind=torch.tensor([context.INTER if k else 0 for k in which]),
            inside=torch.ones(b, h, w, dtype=torch.bool),
        )


def _extra(h: int, w: int, position: int) -> Tensor:
    """The features of a group's frame that `bsqcodec.codec.causal` gives the prior."""
    kind = context.INTER if position else 0
    return context.auxiliary(
        h, w, quality=QUALITY, kind=kind, position=position, vectors=None, device=torch.device("cpu")
    )


def code_pool(folders: list[Path], config: CausalConfig, state: Path) -> CodePool:
    """The codes that a checkpoint's tokenizer gives the clips of some folders."""
    tokenizer = CausalTokenizer(config)
    load_part(tokenizer, state, "tokenizer")
    return CodePool(ClipPool(folders), tokenizer)


def causal_task(config: CausalConfig, settings: CausalLoss, rate: float, compiled: bool) -> Task[Tensor]:
    """The causal tokenizer at a peak learning rate."""
    tokenizer = CausalTokenizer(config)
    if compiled:
        tokenizer.encoder.compile(dynamic=False)
        tokenizer.decoder.compile(dynamic=False)
    modules = nn.ModuleDict({"tokenizer": tokenizer})
    groups = [{"params": list(tokenizer.parameters()), "lr": rate}]
    return Task(modules, groups, lambda clips: causal_loss(clips, tokenizer, settings))


def causal_loss(clips: Tensor, tokenizer: CausalTokenizer, settings: CausalLoss) -> tuple[Tensor, dict[str, float]]:
    """Loss of clips [B, T, h, w, 96] of samples 0..255, and its parts (error on a -1..1 scale, nats, dB)."""
    which = torch.full((clips.shape[0],), QUALITY)
    v = tokenizer.project(clips, which).float()
    code, u = bsq.quantise(v)
    decoded = tokenizer.reconstruct(code, which)
    error = ((decoded - clips) / 128).square().mean()
    entropy = bsq.entropy_loss(u, settings.temperature)
    loss = error + settings.entropy_weight * entropy
    with torch.no_grad():
        luma = (decoded.clamp(0, 255) - clips)[..., :LUMA].square().mean((1, 2, 3, 4))
        psnr = (10 * torch.log10(65025 / luma.clamp_min(1e-3))).mean()
    parts = {"error": error, "entropy": entropy, "cost": loss, "psnr": psnr}
    return loss, {name: float(value.detach()) for name, value in parts.items()}
