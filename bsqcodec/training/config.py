"""A training's plan, read from TOML: the model's sizes and the stages that make its weights.

    name = "psnr"               the model's name; the weights become <name>.safetensors
    kind = "predictive"         or "causal", the paper's own configuration
    [tokenizer], [prior]        sizes (PredictiveConfig or CausalConfig, PriorConfig); the rest keeps its default
    [[stages]]                  in order; each fills the folder <out>/<name>
        do = "weights"          shipped weights to go on from      (Weights, predictive only)
        do = "material"         shards of training material        (Material)
        do = "tokenizer"        training of the tokenizer on pools (Training)
        do = "decoder"          training of its decoder alone, on the levels of pools (Training, predictive only)
        do = "prior"            training of the prior on pools     (Training)
    [loss]                      of a causal tokenizer              (CausalLoss)
    [calibrate]                 crf against x264, predictive only  (Calibration)

The last tokenizer, the last prior and the last material are what is exported.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from bsqcodec.errors import UsageError
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.causal import CausalConfig
from bsqcodec.tokenizer.predictive import PredictiveConfig
from bsqcodec.training.calibrate import Calibration
from bsqcodec.training.causal import CausalLoss
from bsqcodec.training.material import CROP, LENGTHS, SAMPLES
from bsqcodec.training.plan_checks import check_model_sizes, check_stages

KINDS = ("predictive", "causal")
MAY_BE_ZERO = {"seed", "threads", "entropy_weight", "falloff", "phases"}
Plain = TypeVar("Plain")


@dataclass(frozen=True)
class Weights:
    """A stage that takes the package's weights for a tune as a trained tokenizer and prior, in this model's units."""

    name: str
    tune: str = "psnr"


@dataclass(frozen=True)
class Material:
    """A stage that makes shards, and a validation folder beside them.

    samples: crops (causal: clips) in a shard; lengths: frames of an excerpt, drawn from these; crop: tokens a side.
    tokenizer: the stage whose weights code the material, "" = the untrained start (predictive only).
    prices: the prior's stage by whose probabilities levels are chosen, "" = by thresholds (predictive only).
    augmented: whether some clips are changed as `bsqcodec.training.augmentation` has it (predictive only).
    """

    name: str
    shards: int = 16
    validation_shards: int = 1
    samples: int = SAMPLES
    lengths: tuple[int, ...] = LENGTHS
    crop: int = CROP
    tokenizer: str = ""
    prices: str = ""
    augmented: bool = False
    processes: int = 2


@dataclass(frozen=True)
class Training:
    """A stage that trains the part `do` names. rate: peak learning rate; start: the stage whose weights come first."""

    do: str
    name: str
    pools: tuple[str, ...]
    steps: int
    batch: int = 8
    rate: float = 1e-3
    start: str = ""


Stage = Weights | Material | Training


@dataclass(frozen=True)
class Plan:
    """A whole training. compile: torch.compile, a minute that pays in long runs; threads: 0 = torch's choice."""

    name: str
    kind: str
    tune: str
    seed: int
    compile: bool
    threads: int
    tokenizer: PredictiveConfig | CausalConfig
    prior: PriorConfig
    loss: CausalLoss
    stages: tuple[Stage, ...]
    calibrate: Calibration | None

    def last(self, do: str) -> str:
        """Name of the last stage of a kind: "material", "tokenizer" (training of its parts too), "prior"."""
        kinds = {"decoder": "tokenizer", "phases": "tokenizer"}
        done = [
            (s.name, s.do if isinstance(s, Training) else "material") for s in self.stages if not isinstance(s, Weights)
        ]
        return [name for name, kind in done if kinds.get(kind, kind) == do][-1]


@dataclass(frozen=True)
class _Head:
    name: str
    kind: str = "predictive"
    tune: str = "psnr"
    seed: int = 0
    compile: bool = True
    threads: int = 0


def read_config(path: Path) -> Plan:
    """Read a plan. Raises UsageError (one line: file, place, what is wrong) for anything it does not know."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the config: {error.strerror}; check --config") from error
    except ValueError as error:  # TOML or UTF-8
        raise UsageError(f"{path}: not TOML: {error}") from error
    try:
        return _plan(raw)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def _plan(raw: dict[str, Any]) -> Plan:
    tables = ("tokenizer", "prior", "loss", "calibrate")
    parts = {name: _table(raw.pop(name, {}), name) for name in tables if name in raw}
    stages = raw.pop("stages", [])
    if not isinstance(stages, list):
        raise ValueError("stages: must be a list of tables, [[stages]]")
    head = _take(_Head, raw, "")
    if head.kind not in KINDS:
        raise ValueError(f"kind = {head.kind!r}: must be one of {', '.join(KINDS)}")
    causal = head.kind == "causal"
    if causal and "calibrate" in parts:
        raise ValueError("calibrate: a causal model has one quality; leave the table out")
    if not causal and "loss" in parts:
        raise ValueError("loss: only a causal tokenizer has one to set; leave the table out")
    tokenizer: PredictiveConfig | CausalConfig
    sizes = parts.get("tokenizer", {})
    tokenizer = _take(CausalConfig, sizes, "tokenizer.") if causal else _take(PredictiveConfig, sizes, "tokenizer.")
    plan = Plan(
        **vars(head),
        tokenizer=tokenizer,
        prior=_prior(parts.get("prior", {}), tokenizer),
        loss=_take(CausalLoss, parts.get("loss", {}), "loss."),
        stages=tuple(_stage(_table(stage, f"stages[{i}]"), f"stages[{i}].") for i, stage in enumerate(stages)),
        calibrate=_take(Calibration, parts["calibrate"], "calibrate.") if "calibrate" in parts else None,
    )
    check_model_sizes(plan.tokenizer, plan.prior)
    check_stages(plan)
    return plan


def _prior(raw: dict[str, Any], tokenizer: PredictiveConfig | CausalConfig) -> PriorConfig:
    """The prior of a tokenizer: what follows from that is no setting."""
    for key in ("channels", "layout"):
        if key in raw:
            raise ValueError(f"prior.{key}: follows from the tokenizer; leave it out")
    if isinstance(tokenizer, PredictiveConfig):
        return _take(PriorConfig, raw, "prior.")
    bits = tokenizer.bits
    implied = {"channels": bits, "layout": "signs", "signed": bits}
    return _take(PriorConfig, {"bands": [max(1, bits // 2), bits]} | raw | implied, "prior.")


def _stage(raw: dict[str, Any], where: str) -> Stage:
    do = raw.get("do")
    rest = {key: value for key, value in raw.items() if key != "do"}
    if do == "weights":
        return _take(Weights, rest, where)
    if do == "material":
        return _take(Material, rest, where)
    if do in ("tokenizer", "decoder", "phases", "prior"):
        return _take(Training, raw, where)
    raise ValueError(f"{where}do = {do!r}: must be one of weights, material, tokenizer, decoder, phases, prior")


def _table(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: must be a table")
    return raw


def _take(kind: type[Plain], raw: dict[str, Any], where: str) -> Plain:
    """A dataclass from a TOML table: unknown keys, missing ones and wrong types are errors that name the place."""
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in raw:
        if key not in known:
            raise ValueError(f"{where}{key}: unknown; known are {', '.join(known)}")
    values = {key: _value(value, hints[key], where + key) for key, value in raw.items()}
    try:
        return kind(**values)
    except TypeError as error:
        missing = str(error).split(": ", 1)[-1]
        raise ValueError(f"{where or 'the top level'}: needs {missing}") from error


def _value(value: Any, hint: Any, where: str) -> Any:
    """A TOML value as the type a field has; numbers are positive, or not negative where 0 means something."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not value:
            raise ValueError(f"{where} = {value!r}: must be a list that is not empty")
        return tuple(_value(item, get_args(hint)[0], where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} = {value!r}: must be of type {hint.__name__}")
    low = 0 if where.rpartition(".")[2] in MAY_BE_ZERO else None
    if isinstance(value, int | float) and not isinstance(value, bool) and not (value > 0 or value == low):
        raise ValueError(f"{where} = {value}: must be {'0 or more' if low == 0 else 'above 0'}")
    return value
