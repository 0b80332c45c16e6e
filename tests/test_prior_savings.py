"""benchmarks/prior_savings.py: what it counts is what a file holds."""

from __future__ import annotations

import clips
import numpy as np
import prior_savings
import pytest

import bsqcodec


def test_bits_and_decisions_are_those_of_the_file(tmp_path):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(4, 48, 32))
    stats = bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "a.bsq", crf=16)
    counts = prior_savings.count(tmp_path / "a.bsq")
    spent = {name: bits for name, bits in stats.bits.items() if name.startswith("tokens/")}
    assert counts.bits == pytest.approx(sum(spent.values()) - spent.get("tokens/filter", 0), rel=1e-6)
    levels = int(counts.total["zero"].sum() - counts.ones["zero"].sum())  # a set bit says that a level is zero
    assert 0 < levels == counts.total["sign"].sum()


def test_static_bits_are_the_entropy_of_each_channel():
    counts = prior_savings.Counts.of(2)
    counts.total["zero"] += np.array([8, 4])
    counts.ones["zero"] += np.array([4, 4])  # a fair coin, and one that always falls the same way
    assert counts.static_bits == pytest.approx(8)
