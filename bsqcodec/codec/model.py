"""A model: tokenizer, prior, motion tables and their configuration, as one safetensors file.

The file's metadata holds the configuration as JSON under "bsqcodec"; its SHA-256 is the model's identity in streams.
Tensors: tokenizer.* (float16; of a predictive tokenizer only the encoder), decoder.* and prior.* (int8 weights, int32
biases), table.* (uint16), motion.*.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import safetensors.numpy
import torch
from torch import nn

from bsqcodec.codec import pyramid
from bsqcodec.errors import DeviceError, UsageError, WeightsMismatchError
from bsqcodec.integer.arithmetic import freeze
from bsqcodec.integer.blocks import integers, load_integers
from bsqcodec.integer.kernels import best_kernel
from bsqcodec.motion import MotionTables
from bsqcodec.prior.coding import TokenCoder
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import Tables
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer

if TYPE_CHECKING:
    from bsqcodec.container import StreamHeader

METADATA = "bsqcodec"
_UNFIT = (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError)  # what bytes of other kinds raise
Config = TypeVar("Config")


@dataclass(frozen=True)
class ModelConfig:
    """What a weights file says about itself. crf_curve: knots (crf, quality index of a first frame)."""

    name: str
    tune: str
    tokenizer: PredictiveConfig | CausalConfig
    prior: PriorConfig
    crf_curve: list[tuple[float, float]] = field(default_factory=list)

    def to_json(self) -> str:
        """The metadata string of a weights file."""
        kind = "predictive" if isinstance(self.tokenizer, PredictiveConfig) else "causal"
        return json.dumps(asdict(self) | {"kind": kind}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ModelConfig:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        raw = json.loads(text)
        tokenizer: PredictiveConfig | CausalConfig
        if raw["kind"] == "predictive":
            tokenizer = _config(PredictiveConfig, raw["tokenizer"])
        else:
            tokenizer = _config(CausalConfig, raw["tokenizer"])
        prior = _config(PriorConfig, raw["prior"])
        curve = [(float(crf), float(index)) for crf, index in raw["crf_curve"]]
        return ModelConfig(str(raw["name"]), str(raw["tune"]), tokenizer, prior, curve)


def _config(kind: type[Config], raw: dict[str, Any]) -> Config:
    """Raises TypeError for a property this version does not know: it may be one that changes what streams mean."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()})


@dataclass(frozen=True)
class Model:
    """A model ready to code with. device_note says which device was taken and why."""

    config: ModelConfig
    sha256: bytes
    device: torch.device
    device_note: str
    tokenizer: PredictiveTokenizer | CausalTokenizer
    tokens: TokenCoder
    motion: MotionTables

    @property
    def name(self) -> str:
        """The model's name, as streams record it."""
        return self.config.name

    @property
    def tune(self) -> str:
        """The metric the weights were trained for."""
        return self.config.tune

    @property
    def first_levels(self) -> tuple[int, ...]:
        """Pyramid levels that a first frame is coded as, in order; 0 is the full size."""
        if isinstance(self.tokenizer, CausalTokenizer):
            return (0,)
        return pyramid.sizes(phased=self.tokenizer.config.phases > 0)


def load_model(
    weights: str | os.PathLike[str] | None = None, *, tune: str = "psnr", device: str = "auto", threads: int = 0
) -> Model:
    """Load weights (those of the package for a tune, or a file) onto a device.

    device: "auto", "cpu" or "cuda:N"; threads: CPU threads of torch, 0 leaves them alone.
    Raises DeviceError, UsageError (no weights for the tune), WeightsMismatchError (not a weights file).
    """
    if threads > 0:
        torch.set_num_threads(threads)
    where, note = find_device(device)
    path = shipped_path(tune) if weights is None else Path(weights)
    return build_model(_read(path), str(path), where, note)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsMismatchError(f"{path}: cannot read the weights: {error.strerror}; check --weights") from error


def _metadata(data: bytes) -> ModelConfig:
    length = int.from_bytes(data[:8], "little")
    return ModelConfig.from_json(json.loads(data[8 : 8 + length])["__metadata__"][METADATA])


def build_model(data: bytes, name: str, device: torch.device, note: str) -> Model:
    """A model from the bytes of a weights file."""
    try:
        config = _metadata(data)
        arrays = safetensors.numpy.load(data)
        tokenizer = _tokenizer(config, arrays)
        network = _prior(config, arrays)
        tables = Tables.from_arrays(arrays)
        motion = MotionTables.from_arrays(arrays, merging(config.tokenizer))
    except _UNFIT as error:
        raise WeightsMismatchError(f"{name}: not weights of bsqcodec ({error}); check --weights") from error
    ops = best_kernel(device)(tables.exp_tensor(device))
    if isinstance(tokenizer, PredictiveTokenizer):
        tokenizer.decoder.freeze(ops)
    freeze(network)
    tokenizer = tokenizer.eval().requires_grad_(False).to(device)
    network = network.eval().requires_grad_(False).to(device)
    tokens = TokenCoder(network, ops, tables)
    return Model(config, hashlib.sha256(data).digest(), device, note, tokenizer, tokens, motion)


def merging(config: PredictiveConfig | CausalConfig) -> bool:
    """Whether vectors of a model merge (`MotionTables.merging`)."""
    return isinstance(config, PredictiveConfig) and config.merge


def load_modules(path: Path) -> tuple[ModelConfig, PredictiveTokenizer | CausalTokenizer, PriorNetwork]:
    """Configuration, tokenizer and prior of a weights file as modules that can be trained on.

    Raises WeightsMismatchError where the file is something else.
    """
    data = _read(path)
    try:
        config = _metadata(data)
        arrays = safetensors.numpy.load(data)
        return config, _tokenizer(config, arrays), _prior(config, arrays)
    except _UNFIT as error:
        raise WeightsMismatchError(f"{path}: not weights of bsqcodec ({error}); check --weights") from error


def save_model(
    path: Path, config: ModelConfig, tokenizer: nn.Module, prior: PriorNetwork, tables: Tables, motion: MotionTables
) -> bytes:
    """Write a weights file; returns its SHA-256."""
    arrays = {f"tokenizer.{k}": v.detach().half().numpy() for k, v in _floats(tokenizer).items()}
    if isinstance(tokenizer, PredictiveTokenizer):
        arrays |= {f"decoder.{key}": value for key, value in tokenizer.decoder.integers().items()}
    arrays |= {f"prior.{key}": value for key, value in integers(prior).items()}
    arrays |= tables.to_arrays() | motion.to_arrays()
    contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    data = safetensors.numpy.save(contiguous, metadata={METADATA: config.to_json()})
    path.write_bytes(data)
    return hashlib.sha256(data).digest()


def check_model(model: Model, header: StreamHeader) -> None:
    """Raise WeightsMismatchError unless the stream was made with this model."""
    if model.sha256 != header.weights_sha256:
        need, have = header.weights_sha256.hex()[:8], model.sha256.hex()[:8]
        raise WeightsMismatchError(
            f"the stream was made with weights {header.model} ({need}), not {model.name} ({have}); "
            "give the right file with --weights"
        )


def shipped_path(tune: str) -> Path:
    """The package's weights for a tune. Raises UsageError where there are none."""
    path = Path(str(resources.files("bsqcodec") / "weights" / f"{tune}.safetensors"))
    if not path.exists():
        raise UsageError(f"there are no weights for --tune {tune} yet; use --tune psnr")
    return path


def find_device(device: str) -> tuple[torch.device, str]:
    """A device by its name, and which it is and why in words. Raises UsageError for no name, DeviceError for no GPU."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0"), f"cuda:0 (auto: {torch.cuda.get_device_name(0)})"
        return torch.device("cpu"), "cpu (auto: no CUDA)"
    if device == "cpu":
        return torch.device("cpu"), "cpu (asked for)"
    index = device.removeprefix("cuda:")
    if not device.startswith("cuda:") or not index.isdigit():
        raise UsageError(f"--device {device}: not a device; use auto, cpu or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index) >= count:
        raise DeviceError(f"{device}: no such GPU, this machine offers {count}; use --device cpu")
    return torch.device(device), f"{device} (asked for: {torch.cuda.get_device_name(int(index))})"


def _tokenizer(config: ModelConfig, arrays: dict[str, np.ndarray]) -> PredictiveTokenizer | CausalTokenizer:
    tokenizer: PredictiveTokenizer | CausalTokenizer
    if isinstance(config.tokenizer, PredictiveConfig):
        tokenizer = PredictiveTokenizer(config.tokenizer)
        tokenizer.decoder.load_integers(_part(arrays, "decoder."))
    else:
        tokenizer = CausalTokenizer(config.tokenizer)
    state = {key: torch.from_numpy(value.astype(np.float32)) for key, value in _part(arrays, "tokenizer.").items()}
    if set(state) != set(_floats(tokenizer)):
        raise ValueError("its tensors are not those of a tokenizer")
    tokenizer.load_state_dict(state, strict=False)
    return tokenizer


def _floats(tokenizer: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a tokenizer that are stored as float16: all but a predictive decoder's."""
    whole = isinstance(tokenizer, CausalTokenizer)
    return {k: v for k, v in tokenizer.state_dict().items() if whole or not k.startswith("decoder.")}


def _prior(config: ModelConfig, arrays: dict[str, np.ndarray]) -> PriorNetwork:
    network = PriorNetwork(config.prior)
    load_integers(network, _part(arrays, "prior."), "prior")
    return network


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
