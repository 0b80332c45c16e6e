"""The model that the tests of the codec run: the shipped weights, or those of BSQCODEC_TEST_WEIGHTS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS_VARIABLE = "BSQCODEC_TEST_WEIGHTS"


@pytest.fixture(scope="session")
def weights() -> Path:
    """The weights file; a repository without one does not pass."""
    path = Path(os.environ.get(WEIGHTS_VARIABLE) or ROOT / "bsqcodec" / "weights" / "psnr.safetensors")
    assert path.is_file(), f"no weights at {path}; set {WEIGHTS_VARIABLE} to a weights file"
    return path.resolve()


@pytest.fixture(scope="session")
def model(weights):
    """The model on the CPU."""
    from bsqcodec.codec import load_model

    return load_model(weights, device="cpu")
