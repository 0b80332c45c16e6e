"""Training material: the codec's own coding loop run over clips, and what it met recorded.

Each sample is a crop of one picture the codec coded: the target, its prediction, the levels chosen, and what the prior
knew. Predictions come from real reconstructions (closed loop), so training sees the errors that decoding will see.
Legend: h w tokens of the crop, 96 samples or channels a token.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from bsqcodec.codec.predictive import PredictiveCoder, TokenModel
from bsqcodec.codec.settings import inter_quality
from bsqcodec.codec.uncoded import NoCoder, PassThrough
from bsqcodec.integer.arithmetic import Ops, freeze
from bsqcodec.integer.kernels import best_kernel
from bsqcodec.motion import MotionField
from bsqcodec.prior import context
from bsqcodec.prior.coding import Coder, TokenCoder
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import Tables, default_tables
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.transform import Planes, pack, pad_planes, token_grid
from bsqcodec.training.checkpoint import load_part
from bsqcodec.training.clips import Excerpts, Source, crop

CROP = 24  # tokens a recorded crop is wide and high
SAMPLES = 250  # in a shard
LENGTHS = (6, 10, 10, 16)  # frames of an excerpt
LONGEST_SIDE = 480  # luma samples: larger pictures are cropped, so that one excerpt does not take all the time
QUALITIES = (56, 222)  # first-frame quality indices, about crf 12 .. 47


@dataclass
class Sample:
    """One crop. target, prediction uint8 [h, w, 96]; levels, reference int16 and energy uint8 [h, w, C];
    extra int8 [h, w, 40]; quality index; kind of picture; enlarged: the quarter that a first frame in phases is
    predicted from, uint8 [h, w, 96], None for other pictures."""

    target: Tensor
    prediction: Tensor
    levels: Tensor
    reference: Tensor
    energy: Tensor
    extra: Tensor
    quality: int
    kind: int
    enlarged: Tensor | None = None


@dataclass(frozen=True)
class Recording:
    """How shards are made. samples: crops in a shard; lengths: frames of an excerpt, drawn from these; crop: tokens."""

    tokenizer: PredictiveConfig = field(default_factory=PredictiveConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    samples: int = SAMPLES
    lengths: tuple[int, ...] = LENGTHS
    crop: int = CROP
    tune: str = "psnr"
    state: Path | None = None  # checkpoint of a trained tokenizer; the DCT start without
    prices: Path | None = None  # checkpoint of a prior whose probabilities price the levels; plain thresholds without
    augmented: bool = False  # as `Excerpts` has it


class RecordingCoder(PredictiveCoder):
    """The coding loop, keeping a random crop of every picture it codes."""

    def __init__(
        self,
        tokenizer: PredictiveTokenizer,
        tokens: TokenModel,
        h: int,
        w: int,
        rng: random.Random,
        crop: int = CROP,
        tune: str = "psnr",
    ):
        super().__init__(tokenizer, tokens, h, w, torch.device("cpu"), tune)
        self.samples: list[Sample] = []
        self.rng, self.crop = rng, crop

    def refine(
        self,
        coder: Coder,
        prediction: Planes,
        target: Planes | None,
        quality: int,
        kind: int,
        references: context.References,
        vectors: Tensor | None,
    ) -> tuple[Planes, Tensor]:
        """As `PredictiveCoder.refine`; a sample more afterwards."""
        assert target is not None
        planes, levels = super().refine(coder, prediction, target, quality, kind, references, vectors)
        assert self.predicted is not None
        h, w, _ = levels.shape
        top = 2 * self.rng.randrange(max(h - self.crop, 0) // 2 + 1)  # even, so that phases keep their places
        left = 2 * self.rng.randrange(max(w - self.crop, 0) // 2 + 1)
        cut = (slice(top, top + self.crop), slice(left, left + self.crop))
        extra = self.extra(quality, kind, vectors, h, w)
        known = {
            "target": pack(target),
            "prediction": self.predicted.to(torch.uint8),
            "levels": levels,
            "reference": references.levels,
            "energy": references.energy,
            "extra": extra.to(torch.int8),
        }
        parts = {name: part[cut].clone() for name, part in known.items()}
        enlarged = None
        if kind == 0 and self.tokenizer.config.phases:
            enlarged = pack(prediction)[cut].clone()
        self.samples.append(Sample(**parts, quality=quality, kind=kind, enlarged=enlarged))
        return planes, levels


def roll_out(coder: RecordingCoder, frames: list[Planes], quality: int) -> list[MotionField]:
    """Code a clip as one group at a first frame's quality; returns its motion, the samples stay in `coder`."""
    fields: list[MotionField] = []
    nowhere = NoCoder()
    for i, raw in enumerate(frames):
        planes = pad_planes(raw, coder.h, coder.w)
        if i == 0:
            coder.first(nowhere, quality, planes)
            continue
        later = inter_quality(quality, i, coder.tune)
        moved = coder.estimate(planes, later, fields[-1] if fields else None)
        coder.next(nowhere, later, moved, planes)
        fields.append(moved)
    return fields


def predictive_shard(plan: Recording, sources: list[Source], rng: random.Random) -> dict[str, object]:
    """Code excerpts until the samples are there: {"samples": list, "motion": per group its (vectors, split)}."""
    tokenizer = PredictiveTokenizer(plan.tokenizer).eval().requires_grad_(False)
    if plan.state is not None:
        load_part(tokenizer, plan.state, "tokenizer")
    tables, device = default_tables(), torch.device("cpu")
    ops = best_kernel(device)(tables.exp_tensor(device))
    tokenizer.decoder.freeze(ops)
    tokens = _token_model(plan, ops, tables)
    samples: list[Sample] = []
    motion: list[list[MotionField]] = []
    excerpts = Excerpts(sources, rng, plan.augmented)
    while len(samples) < plan.samples:
        frames = crop(excerpts.draw(plan.lengths), LONGEST_SIDE, rng)
        h, w = token_grid(frames[0][0].shape[1], frames[0][0].shape[0])
        coder = RecordingCoder(tokenizer, tokens, h, w, rng, plan.crop, plan.tune)
        motion.append(roll_out(coder, frames, rng.randrange(*QUALITIES)))
        samples += coder.samples
    return {
        "samples": [asdict(sample) for sample in samples],
        "motion": [[(f.vectors.to(torch.int16), f.split) for f in fields] for fields in motion],
    }


def _token_model(plan: Recording, ops: Ops, tables: Tables) -> TokenModel:
    """The prior that prices levels, or nothing in its place."""
    if plan.prices is None:
        return PassThrough(plan.prior)
    network = PriorNetwork(plan.prior)
    load_part(network, plan.prices, "prior")
    freeze(network)
    return TokenCoder(network.eval().requires_grad_(False), ops, tables)
