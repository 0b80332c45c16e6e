"""What makes a plan impossible although every value of it is of the right type."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from bsqcodec.prior.network import NEIGHBOURS, PriorConfig
from bsqcodec.tokenizer.causal import CausalConfig
from bsqcodec.tokenizer.predictive import PredictiveConfig
from bsqcodec.tokenizer.transform import PHASES

if TYPE_CHECKING:
    from bsqcodec.training.config import Plan, Training

LONGEST_ROW = 1024  # inputs of a layer of the prior: above, sums of int8 products are not exact in float32
FOLDER = re.compile(r"[A-Za-z0-9][\w.-]*")
TUNES = ("psnr", "ms-ssim")
PARTS = ("decoder", "phases")  # of a predictive tokenizer
WHOLE = "tokenizer and prior"  # what a stage of shipped weights leaves behind


def check_model_sizes(tokenizer: PredictiveConfig | CausalConfig, prior: PriorConfig) -> None:
    """Raise ValueError where sizes do not go together."""
    for name, config in (("tokenizer", tokenizer), ("prior", prior)):
        if config.dim % config.heads:
            raise ValueError(f"{name}.dim = {config.dim}: must be a multiple of {name}.heads = {config.heads}")
    if not all(a < b for a, b in itertools.pairwise(prior.bands)) or prior.bands[-1] != prior.channels:
        raise ValueError(f"prior.bands = {list(prior.bands)}: must rise and end at {prior.channels} channels")
    if prior.signed > prior.channels:
        raise ValueError(f"prior.signed = {prior.signed}: there are only {prior.channels} channels")
    rows = {
        "dim": prior.dim,
        "mlp": prior.mlp,
        "hidden": prior.hidden,
        "embed": prior.dim + len(NEIGHBOURS) * prior.embed + len(PHASES),
        "mix": prior.mix + prior.channels + prior.signed,
    }
    for name, inputs in rows.items():
        if inputs > LONGEST_ROW:
            raise ValueError(f"prior.{name}: makes a layer of {inputs} inputs; at most {LONGEST_ROW} sum exactly")


def check_stages(plan: Plan) -> None:
    """Raise ValueError where names are unfit, a stage leans on one that does not come before it, or one is lacking."""
    from bsqcodec.training.config import Training, Weights

    if not FOLDER.fullmatch(plan.name):
        raise ValueError(f"name = {plan.name!r}: must be letters, digits, '.', '_' and '-'")
    if plan.tune not in TUNES:
        raise ValueError(f"tune = {plan.tune!r}: must be one of {', '.join(TUNES)}")
    before: dict[str, str] = {}  # name -> what it does
    for stage in plan.stages:
        if not FOLDER.fullmatch(stage.name) or stage.name in before:
            raise ValueError(f"stages: name = {stage.name!r} must be a folder's name that no other stage has")
        if isinstance(stage, Training):
            _check_training(stage, before, plan.kind == "causal")
            if stage.do == "phases" and not getattr(plan.tokenizer, "phases", 0):
                raise ValueError(f"stages: {stage.name} needs tokenizer.phases, the width of what it trains")
            before[stage.name] = _kind(stage)
            continue
        if isinstance(stage, Weights):
            if plan.kind == "causal":
                raise ValueError(f"stages: {stage.name} takes shipped weights, which are of a predictive model")
            if stage.tune not in TUNES:
                raise ValueError(f"stages: {stage.name} has tune = {stage.tune!r}: must be one of {', '.join(TUNES)}")
            before[stage.name] = WHOLE
            continue
        for do, needed in (("tokenizer", stage.tokenizer), ("prior", stage.prices)):
            if needed and (plan.kind == "causal" or before.get(needed) not in (do, WHOLE)):
                raise ValueError(f"stages: {stage.name} needs a {do} stage {needed!r} before it (predictive only)")
        if stage.crop % 2:
            raise ValueError(f"stages: {stage.name} has crop = {stage.crop}; must be even")
        before[stage.name] = "material"
    for do in ("material", "tokenizer", "prior"):
        if do not in before.values():
            raise ValueError(f"stages: none with do = {do!r}; a model needs one of each")


def _kind(stage: Training) -> str:
    """What a stage leaves behind: training of a part leaves a whole tokenizer."""
    return "tokenizer" if stage.do in PARTS else stage.do


def _check_training(stage: Training, before: dict[str, str], causal: bool) -> None:
    for pool in stage.pools:
        if before.get(pool) != "material":
            raise ValueError(f"stages: {stage.name} needs a material stage {pool!r} before it")
    if stage.do in PARTS and (causal or not stage.start):
        raise ValueError(f"stages: {stage.name} needs the start of a predictive tokenizer stage")
    if stage.start and before.get(stage.start) not in (_kind(stage), WHOLE):
        raise ValueError(f"stages: {stage.name} needs a {_kind(stage)} stage {stage.start!r} before it to start from")
    if causal and stage.do == "prior" and "tokenizer" not in before.values():
        raise ValueError(f"stages: {stage.name} learns the codes of a tokenizer; train one before it")
