"""Integer probabilities: the logistic function as a table, and fixed tables for decisions too rare for the network.

A probability is an integer P in 1..65535, p(bit = 1) = P / 65536. The tables ship with the weights, so no decoder
has to evaluate exp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bsqcodec.integer.arithmetic import EXP_STEPS, exp_table
from bsqcodec.prior.network import LOGIT_MAX, LOGIT_SHIFT
from bsqcodec.tokenizer.levels import EXPONENTS

FIRST_TAIL = 4  # the network decides ge2, ge4, ge8; ge16 .. ge2048 are exponents 4..11


def logistic_table() -> np.ndarray:
    """uint16 [4095]: round(65536 / (1 + exp(-l / 128))) for l = -2047..2047, kept in 1..65535."""
    logit = np.arange(-LOGIT_MAX, LOGIT_MAX + 1) / 128
    return np.clip(np.round(65536 / (1 + np.exp(-logit))), 1, 65535).astype(np.uint16)


@dataclass(frozen=True)
class Tables:
    """All integer tables of the prior.

    logistic: uint16 [4095]; exp: uint16 [128], softmax numerators.
    exponent: uint16 [8], P(|n| >= 2^(4 + i) given |n| >= 2^(3 + i)); mantissa: uint16 [12, 11], digit d
    (0 = least) of a level whose leading one is at exponent e.
    """

    logistic: np.ndarray
    exp: np.ndarray
    exponent: np.ndarray
    mantissa: np.ndarray

    def probabilities(self, sums: Tensor) -> np.ndarray:
        """Sums of a head (fraction 11, float32 integers) -> uint16 probabilities, same shape."""
        logits = torch.floor(sums * 2.0**-LOGIT_SHIFT + 0.5).clamp_(-LOGIT_MAX, LOGIT_MAX)
        found: np.ndarray = self.logistic[(logits + LOGIT_MAX).to(torch.int32).cpu().numpy()]
        return found

    def exp_tensor(self, device: torch.device) -> Tensor:
        """`exp` as float32 integers on a device."""
        return torch.from_numpy(self.exp.astype(np.float32)).to(device)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For a weights file: {"table.<name>": array}."""
        return {f"table.{name}": getattr(self, name) for name in _SHAPES}

    @staticmethod
    def from_arrays(arrays: dict[str, np.ndarray]) -> Tables:
        """The inverse of `to_arrays`. Raises KeyError or ValueError (wrong shape, a probability of 0)."""
        found = {name: arrays[f"table.{name}"] for name in _SHAPES}
        for name, shape in _SHAPES.items():
            if found[name].shape != shape or found[name].dtype != np.uint16:
                raise ValueError(f"table.{name} is not uint16 {shape}")
            if name != "exp" and not found[name].all():
                raise ValueError(f"table.{name} holds a probability of 0")
        return Tables(**found)


_SHAPES = {
    "logistic": (2 * LOGIT_MAX + 1,),
    "exp": (EXP_STEPS,),
    "exponent": (EXPONENTS - FIRST_TAIL,),
    "mantissa": (EXPONENTS, EXPONENTS - 1),
}


def default_tables() -> Tables:
    """Starting tables: a geometric fall of exponents, even mantissa digits."""
    exponent = np.full(_SHAPES["exponent"], 65536 // 5, dtype=np.uint16)
    mantissa = np.full(_SHAPES["mantissa"], 32768, dtype=np.uint16)
    for e in range(2, EXPONENTS):
        mantissa[e, e - 1] = 24000  # the upper half of an octave is the rarer one
    return Tables(logistic_table(), exp_table().numpy().astype(np.uint16), exponent, mantissa)


def fit_tables(levels: np.ndarray) -> Tables:
    """Tables from the levels of training material (any shape), counts smoothed by the start."""
    magnitude = np.abs(levels.reshape(-1).astype(np.int64))
    magnitude = magnitude[magnitude >= 4]
    tables = default_tables()
    for i in range(len(tables.exponent)):
        reached = int((magnitude >= 8 << i).sum())
        passed = int((magnitude >= 16 << i).sum())
        tables.exponent[i] = round(65536 * (passed + 1) / (reached + 5))
    for e in range(2, EXPONENTS):
        octave = magnitude[(magnitude >= 1 << e) & (magnitude < 2 << e)]
        for d in range(e):
            ones = int(((octave >> d) & 1).sum())
            weight = 8 if d == e - 1 else 32  # few samples: stay near the start
            start = int(tables.mantissa[e, d]) / 65536
            tables.mantissa[e, d] = round(65536 * (ones + weight * start) / (len(octave) + weight))
    return tables
