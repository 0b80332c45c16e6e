"""`bsqcodec train`: the stages of a plan, one after another, each skipped when complete and continued when not.

What <out> holds: `config.toml` (a copy), a folder a stage (shards, or state.pt and log.jsonl), and <name>.safetensors
once everything is done.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bsqcodec.codec.model import ModelConfig, load_model, merging
from bsqcodec.errors import UsageError
from bsqcodec.motion import default_tables as default_motion
from bsqcodec.prior.tables import default_tables
from bsqcodec.tokenizer.causal import CausalConfig
from bsqcodec.tokenizer.predictive import PredictiveConfig
from bsqcodec.training import checkpoint, distributed
from bsqcodec.training.calibrate import calibrate, with_curve
from bsqcodec.training.causal import CURVE, ClipPool, Cutting, causal_shard, causal_task, code_pool
from bsqcodec.training.clips import find_sources
from bsqcodec.training.config import Material, Plan, Training, Weights, read_config
from bsqcodec.training.export import export, fit_material
from bsqcodec.training.generate import Maker, fill, missing
from bsqcodec.training.loop import train
from bsqcodec.training.material import Recording, predictive_shard
from bsqcodec.training.phases import PicturePool, phases_task
from bsqcodec.training.pool import Pool
from bsqcodec.training.schedule import side_by_side
from bsqcodec.training.shipped import write_start
from bsqcodec.training.tasks import Task, decoder_task, prior_task, tokenizer_task

COPY = "config.toml"
VALIDATION = "validation"  # folder inside a material stage's
VALIDATION_SEED = 9000  # added to the seed

_log = logging.getLogger("bsqcodec")


def run(config: Path, data: Path, out: Path, resume: bool, jobs: int = 1) -> None:
    """Train what a config describes on the clips below `data`; the weights become <out>/<name>.safetensors.

    jobs: stages that run side by side where neither needs the other; the weights are the same. Under `torchrun` the
    processes train each stage together (`distributed`).

    Raises UsageError for a config it does not understand, a folder without clips, an `out` that holds another run.
    """
    with distributed.joined() as team:
        if jobs > 1 and team.size > 1:
            raise UsageError(f"--jobs {jobs}: under torchrun all processes train one stage; leave out --jobs")
        plan = read_config(config)
        for validation in (False, True):
            find_sources(data, validation)
        team.first(partial(_prepare, config, out, resume))
        if jobs > 1:
            side_by_side(plan.stages, jobs, partial(run_stage, config, data, out))
        else:
            for stage in plan.stages:
                run_stage(config, data, out, stage.name)
        _use_threads(plan)
        team.first(partial(_finish, plan, data, out))


def run_stage(config: Path, data: Path, out: Path, name: str) -> None:
    """Do what is missing of one stage; what it needs must be there."""
    plan = read_config(config)
    _use_threads(plan)
    stage = next(stage for stage in plan.stages if stage.name == name)
    team = distributed.team()
    if isinstance(stage, Weights):
        team.first(partial(_take_weights, plan, stage, out))
    elif isinstance(stage, Material):
        team.first(partial(_make_material, plan, stage, data, out))
    else:
        _train_stage(plan, stage, out)


def _use_threads(plan: Plan) -> None:
    if plan.threads:
        torch.set_num_threads(plan.threads)


def _prepare(config: Path, out: Path, resume: bool) -> None:
    """Make the folder, or check that it is one of this config's runs."""
    copy = out / COPY
    if copy.exists() and not resume:
        raise UsageError(f"{out}: holds a training already; go on with --resume or choose another folder")
    if copy.exists() and copy.read_bytes() != config.read_bytes():
        raise UsageError(f"{out}: was started with another config than {config}; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        shutil.copyfile(config, copy)


def stage_seed(plan: Plan, name: str) -> int:
    """A seed 0..8999 of a stage: another for each, the same in each run."""
    digest = hashlib.sha256(f"{plan.seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little") % VALIDATION_SEED


def _make_material(plan: Plan, stage: Material, data: Path, out: Path) -> None:
    folder, seed = out / stage.name, stage_seed(plan, stage.name)
    splits = ((folder, stage.shards, seed), (folder / VALIDATION, stage.validation_shards, seed + VALIDATION_SEED))
    for target, shards, number in splits:
        if missing(target, shards, number):
            make = _maker(plan, stage, data, out, validation=target != folder)
            fill(target, shards, number, make, stage.processes)


def _take_weights(plan: Plan, stage: Weights, out: Path) -> None:
    path = _state(out, stage.name)
    if not path.exists():
        assert isinstance(plan.tokenizer, PredictiveConfig)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_start(path, stage.tune, plan.tokenizer, plan.prior)


def _maker(plan: Plan, stage: Material, data: Path, out: Path, validation: bool) -> Maker:
    sources = find_sources(data, validation)
    if isinstance(plan.tokenizer, CausalConfig):
        return partial(causal_shard, Cutting(stage.samples, stage.lengths, stage.crop), sources)
    tokenizer, prices = (_state(out, name) if name else None for name in (stage.tokenizer, stage.prices))
    size = stage.samples, stage.lengths, stage.crop
    augmented = stage.augmented and not validation
    recording = Recording(plan.tokenizer, plan.prior, *size, plan.tune, tokenizer, prices, augmented)
    return partial(predictive_shard, recording, sources)


def _state(out: Path, stage: str) -> Path:
    return out / stage / checkpoint.NAME


def _train_stage(plan: Plan, stage: Training, out: Path) -> None:
    if checkpoint.steps_done(_state(out, stage.name)) >= stage.steps:
        return
    seed = stage_seed(plan, stage.name)
    torch.manual_seed(seed)
    task = _task(plan, stage)
    if stage.start:
        checkpoint.load_shared(task.modules, _state(out, stage.start))
    train(
        task,
        _pool(plan, stage, out, ""),
        _pool(plan, stage, out, VALIDATION),
        out / stage.name,
        steps=stage.steps,
        batch=stage.batch,
        seed=seed,
        resume=True,
    )


def _task(plan: Plan, stage: Training) -> Task[Any]:
    if stage.do == "prior":
        return prior_task(plan.prior, stage.rate, plan.compile)
    if isinstance(plan.tokenizer, CausalConfig):
        return causal_task(plan.tokenizer, plan.loss, stage.rate, plan.compile)
    if stage.do == "phases":
        return phases_task(plan.tokenizer, stage.rate)
    if stage.do == "decoder":
        return decoder_task(plan.tokenizer, stage.rate, plan.compile, plan.tune)
    return tokenizer_task(plan.tokenizer, stage.rate, plan.compile)


def _pool(plan: Plan, stage: Training, out: Path, split: str) -> Any:
    """What a stage's batches are drawn from, in the training ("") or the validation split."""
    folders = [out / name / split for name in stage.pools]
    if not isinstance(plan.tokenizer, CausalConfig):
        return PicturePool(folders) if stage.do == "phases" else Pool(folders)
    if stage.do == "tokenizer":
        return ClipPool(folders)
    before = plan.stages[: plan.stages.index(stage)]
    tokenizers = [s.name for s in before if isinstance(s, Training) and s.do == "tokenizer"]
    return code_pool(folders, plan.tokenizer, _state(out, tokenizers[-1]))


def _finish(plan: Plan, data: Path, out: Path) -> None:
    """Fit the tables, calibrate, and write the weights."""
    path = out / f"{plan.name}.safetensors"
    if path.exists():
        return
    causal = isinstance(plan.tokenizer, CausalConfig)
    material = [out / plan.last("material")]
    tables = (default_tables(), default_motion()) if causal else fit_material(material, merging(plan.tokenizer))
    config = ModelConfig(plan.name, plan.tune, plan.tokenizer, plan.prior, CURVE if causal else [])
    states = _state(out, plan.last("tokenizer")), _state(out, plan.last("prior"))
    if plan.calibrate is None:
        export(path, config, states, tables)
    else:
        raw = out / "uncalibrated.safetensors"
        export(raw, config, states, tables)
        with_curve(raw, calibrate(load_model(raw, device="cpu"), data, plan.calibrate), path)
        raw.unlink()
    _log.info("%s: %d bytes", path, path.stat().st_size)
