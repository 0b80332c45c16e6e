"""A rounding, a constant or a weight that is off by one anywhere on the exact path makes a golden stream fail.

Each test changes one thing and decodes golden streams until one comes out differently; that none does is the failure.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from golden_set import FOLDER, decoded

from bsqcodec.codec import Model, filtering, load_model, pyramid
from bsqcodec.errors import BsqError
from bsqcodec.integer.arithmetic import Float32
from bsqcodec.tokenizer import reconstruction

STREAMS = ("crf51", "crf16", "three_33x17", "odd_71x59")
compensation = import_module("bsqcodec.motion.compensate")
predictive = import_module("bsqcodec.codec.predictive")
FACTS = json.loads((FOLDER / "golden.json").read_text())


@pytest.fixture
def model() -> Model:
    """A model of its own for each test: it will be changed."""
    return copy.deepcopy(load_model(FOLDER / "psnr.safetensors", device="cpu"))


def noticed(model: Model) -> bool:
    """Whether a golden stream decodes to anything else than it should."""
    for name in STREAMS:
        try:
            facts = decoded((FOLDER / f"{name}.bsq").read_bytes(), name, model).facts()
        except (BsqError, ValueError):
            return True
        if facts["frames"] != FACTS[name]["frames"] or facts["bits"] != FACTS[name]["bits"]:
            return True
    return False


def test_unchanged(model):
    assert not noticed(model)


def halves_to_even(self, total, shift, low, high):
    return total.mul_(2.0**-shift).round_().clamp_(low, high)


def cut_off(self, total, shift, low, high):
    return total.mul_(2.0**-shift).floor_().clamp_(low, high)


def nearly(self, total, shift, low, high):
    """What a fused or reordered float computation might do: one part in 2^23."""
    return total.mul_(2.0**-shift * (1 + 2.0**-20)).add_(0.5).floor_().clamp_(low, high)


@pytest.mark.parametrize("rescale", [halves_to_even, cut_off, nearly])
def test_rounding_of_sums(model, monkeypatch, rescale):
    monkeypatch.setattr(Float32, "rescale", rescale)
    assert noticed(model)


def test_rounding_of_attention(model, monkeypatch):
    def mix(self, scores, values):
        weights = self.exp[((scores.amax(-1, keepdim=True) - scores) / 128 + 0.5).floor().clamp(max=127).int()]
        return (weights @ values / weights.sum(-1, keepdim=True)).floor()

    monkeypatch.setattr(Float32, "softmax_mix", mix)
    assert noticed(model)


@pytest.mark.parametrize("half", [7, 9])
def test_rounding_of_pixels(model, monkeypatch, half):
    changed = lambda samples: torch.floor((samples + half) / 16).clamp(0, 255).to(torch.uint8)  # noqa: E731
    assert torch.equal(reconstruction.pixels(torch.tensor([7.0, 24.0])), torch.tensor([0, 2], dtype=torch.uint8))
    monkeypatch.setattr(predictive, "pixels", changed)
    assert noticed(model)


def test_prediction(model, monkeypatch):
    monkeypatch.setattr(pyramid, "UP", (-3, 29, 112, -10))
    assert noticed(model)


def test_interpolation(model, monkeypatch):
    taps = ((0, 0, 0, 64, 0, 0, 0, 0), (-1, 4, -10, 58, 16, -4, 1, 0), *compensation.LUMA_TAPS[2:])
    monkeypatch.setattr(compensation, "LUMA_TAPS", taps)
    assert noticed(model)


def test_filter_flags(model, monkeypatch):
    monkeypatch.setattr(filtering, "START", (3, 8))
    assert noticed(model)


def add(name: str, unit: float) -> Callable[[Model], None]:
    """Add a unit to the tensor of a decoder, all over."""

    def change(model: Model) -> None:
        *path, last = name.split(".")
        owner = model.tokenizer.decoder
        for part in path:
            owner = getattr(owner, part)
        for number in (last, last + "8"):  # layers hold their weights twice, once for each kernel
            if hasattr(owner, number):
                getattr(owner, number).data.add_(unit)

    return change


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("offset", 2.0**-8),
        ("synthesis", 2.0**-16),
        ("inlet.weight", 1),
        ("inlet.bias", 64),
        ("head.bias", 64),
        ("blocks.0.qkv.weight", 1),
        ("blocks.1.down.bias", 64),
        ("steps", 1),
        ("reciprocals", 8),
        ("hats", 1),
    ],
)
def test_numbers_of_the_decoder(model, name, unit):
    add(name, unit)(model)
    assert noticed(model)


@pytest.mark.parametrize("table", ["logistic", "exp", "exponent", "mantissa"])
def test_tables_of_the_prior(model, table):
    tables = model.tokens.tables
    array = getattr(tables, table).copy()
    array[array > 1] -= 1
    if table in ("exponent", "mantissa"):
        array[...] = 300
    changed = replace(tables, **{table: array})
    model.tokens.tables = changed
    model.tokens.ops = model.tokenizer.decoder.ops = Float32(changed.exp_tensor(torch.device("cpu")))
    assert noticed(model)
