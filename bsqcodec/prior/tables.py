"""Integer probabilities: the logistic function as a table, and fixed tables for decisions too rare for the network.

A probability is an integer P in 1..65535, p(bit = 1) = P / 65536.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bsqcodec.prior.network import LOGIT_MAX, LOGIT_SHIFT
from bsqcodec.tokenizer.levels import EXPONENTS

FIRST_TAIL = 4  # the network decides ge2, ge4, ge8; ge16 .. ge2048 are exponents 4..11


def logistic_table() -> np.ndarray:
    """uint16 [4095]: round(65536 / (1 + exp(-l / 128))) for l = -2047..2047, kept in 1..65535."""
    logit = np.arange(-LOGIT_MAX, LOGIT_MAX + 1) / 128
    return np.clip(np.round(65536 / (1 + np.exp(-logit))), 1, 65535).astype(np.uint16)


_LOGISTIC = logistic_table()


def probabilities(sums: Tensor) -> np.ndarray:
    """Sums of a head (fraction 11, float32 integers) -> uint16 probabilities, same shape."""
    logits = torch.floor(sums * 2.0**-LOGIT_SHIFT + 0.5).clamp_(-LOGIT_MAX, LOGIT_MAX)
    return _LOGISTIC[(logits + LOGIT_MAX).to(torch.int32).cpu().numpy()]


def default_tails() -> dict[str, np.ndarray]:
    """Starting tables: a geometric fall of exponents, even mantissa digits.

    exponent uint16 [8]: P(|n| >= 2^(4 + i) | |n| >= 2^(3 + i)); mantissa uint16 [12, 11]: digit d (0 = least) of a level
    whose leading one is at exponent e.
    """
    exponent = np.full(EXPONENTS - FIRST_TAIL, 65536 // 5, dtype=np.uint16)
    mantissa = np.full((EXPONENTS, EXPONENTS - 1), 32768, dtype=np.uint16)
    for e in range(2, EXPONENTS):
        mantissa[e, e - 1] = 24000  # the upper half of an octave is the rarer one
    return {"exponent": exponent, "mantissa": mantissa}


def fit_tails(levels: np.ndarray) -> dict[str, np.ndarray]:
    """Tables from the levels of training material (any shape), with add-one counts."""
    magnitude = np.abs(levels.reshape(-1).astype(np.int64))
    magnitude = magnitude[magnitude >= 4]
    tables = default_tails()
    for i in range(EXPONENTS - FIRST_TAIL):
        reached = int((magnitude >= 8 << i).sum())
        passed = int((magnitude >= 16 << i).sum())
        tables["exponent"][i] = round(65536 * (passed + 1) / (reached + 5))
    for e in range(2, EXPONENTS):
        octave = magnitude[(magnitude >= 1 << e) & (magnitude < 2 << e)]
        for d in range(e):
            ones = int(((octave >> d) & 1).sum())
            weight = 8 if d == e - 1 else 32  # few samples: stay near the start
            start = int(tables["mantissa"][e, d]) / 65536
            tables["mantissa"][e, d] = round(65536 * (ones + weight * start) / (len(octave) + weight))
    return tables
