"""Training material: the codec's own coding loop run over clips, and what it met recorded.

Each sample is a crop of one picture the codec coded: the target, its prediction, the levels chosen, and what the prior
knew. Predictions come from real reconstructions (closed loop), so training sees the errors that decoding will see.
Legend: h w tokens of the crop, 96 samples or channels a token.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from bsqcodec.codec.predictive import PredictiveCoder
from bsqcodec.codec.settings import inter_quality, motion_lambda
from bsqcodec.motion import MotionField, estimate
from bsqcodec.prior import context
from bsqcodec.prior.coding import Coder
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.predictive import PredictiveTokenizer
from bsqcodec.tokenizer.transform import Planes, pack, pad_planes, token_grid

CROP = 24  # tokens a recorded crop is wide and high


@dataclass
class Sample:
    """One crop. target, prediction uint8 [h, w, 96]; levels, reference int16; energy uint8 [h, w, C]; extra int8 [h, w, 40]."""

    target: Tensor
    prediction: Tensor
    levels: Tensor
    reference: Tensor
    energy: Tensor
    extra: Tensor
    quality: int
    kind: int


class _NoTokens:
    """Stands where the prior would: levels pass through uncoded."""

    def __init__(self, config: PriorConfig):
        self.config = config

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None) -> Tensor:
        assert levels is not None
        return levels


class RecordingCoder(PredictiveCoder):
    """The coding loop, keeping a random crop of every picture it codes."""

    samples: list[Sample]

    def __init__(self, tokenizer: PredictiveTokenizer, config: PriorConfig, h: int, w: int, rng: random.Random):
        super().__init__(tokenizer, _NoTokens(config), h, w, torch.device("cpu"))
        self.samples, self.rng = [], rng

    def refine(  # type: ignore[no-untyped-def]
        self, coder, prediction, target, quality, kind, references, vectors
    ) -> tuple[Planes, Tensor]:
        planes, levels = super().refine(coder, prediction, target, quality, kind, references, vectors)
        h, w, _ = levels.shape
        top = 2 * self.rng.randrange(max(h - CROP, 0) // 2 + 1)  # even, so that phases keep their places
        left = 2 * self.rng.randrange(max(w - CROP, 0) // 2 + 1)
        cut = (slice(top, top + CROP), slice(left, left + CROP))
        position = self.position if kind == context.INTER else 0
        extra = context.auxiliary(
            h, w, quality=quality, kind=kind, position=position, vectors=vectors, device=levels.device
        )
        self.samples.append(
            Sample(
                pack(target)[cut].clone(),
                pack(prediction)[cut].clone(),
                levels[cut].clone(),
                references.levels[cut].clone(),
                references.energy[cut].clone(),
                extra[cut].to(torch.int8),
                quality,
                kind,
            )
        )
        return planes, levels


def read_clip(path: Path, start: int, count: int) -> list[Planes]:
    """Frames start .. start + count of a clip as planes of uint8 tensors."""
    frames = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for i, frame in enumerate(container.decode(video=0)):
            if i >= start + count:
                break
            if i >= start:
                frames.append(_planes(frame))
    return frames


def _planes(frame: av.VideoFrame) -> Planes:
    frame = frame.reformat(format="yuv420p")
    parts = []
    for plane, rows, columns in zip(
        frame.planes,
        (frame.height, -(-frame.height // 2), -(-frame.height // 2)),
        (frame.width, -(-frame.width // 2), -(-frame.width // 2)),
        strict=True,
    ):
        flat = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
        parts.append(torch.from_numpy(flat.copy()))
    return parts[0], parts[1], parts[2]


def augment(frames: list[Planes], rng: random.Random) -> list[Planes]:
    """Flips in space and time, the same for all frames."""
    if rng.random() < 0.5:
        frames = frames[::-1]
    for axis in (0, 1):
        if rng.random() < 0.5:
            frames = [tuple(p.flip(axis).contiguous() for p in planes) for planes in frames]  # type: ignore[misc]
    return frames


def roll_out(
    tokenizer: PredictiveTokenizer, config: PriorConfig, frames: list[Planes], quality: int, rng: random.Random
) -> tuple[list[Sample], list[MotionField]]:
    """Code a clip as one group at an inter quality and return what was met."""
    h, w = token_grid(frames[0][0].shape[1], frames[0][0].shape[0])
    coder = RecordingCoder(tokenizer, config, h, w, rng)
    fields: list[MotionField] = []
    nowhere: Coder = None  # type: ignore[assignment]  # _NoTokens never looks at it
    for i, raw in enumerate(frames):
        planes = pad_planes(raw, h, w)
        if i == 0:
            coder.first(nowhere, quality, planes)
            continue
        assert coder.planes is not None
        later = inter_quality(quality)
        field = estimate(planes, coder.planes, motion_lambda(later), fields[-1] if fields else None)
        coder.next(nowhere, later, field, planes)
        fields.append(field)
    return coder.samples, fields


def split_clips(folder: Path, validation: bool) -> list[Path]:
    """Clips of the training or the validation split: by scene (name without its -0, -1), every twelfth for validation."""
    clips = sorted(p for p in folder.rglob("*") if p.suffix in {".mp4", ".mkv", ".avi", ".jpg"})
    scene = {p: re.sub("-[01]$", "", p.stem) for p in clips}
    held = set(sorted(set(scene.values()))[5::12])
    return [p for p in clips if (scene[p] in held) == validation]


def clip_stream(clips: list[Path], frames: int, rng: random.Random) -> Iterator[tuple[Path, list[Planes]]]:
    """Endless random excerpts of at most `frames` frames."""
    while True:
        path = rng.choice(clips)
        start = rng.choice((0, 0, 4, 8, 12, 16))
        excerpt = read_clip(path, start, frames) or read_clip(path, 0, frames)
        yield path, augment(excerpt, rng)
