"""Golden streams: files made once that must mean the same bits and the same pixels for ever (`golden_set.py`)."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from golden_set import FOLDER, PACKETS, RECIPES, decoded, make, reference_frames, weights_path, write

from bsqcodec.codec import Model, load_model
from bsqcodec.container import FORMAT_MINOR, scan

SETS = sorted(path for path in FOLDER.parent.iterdir() if path.is_dir())
FILES = [(folder, name) for folder in SETS for name in json.loads((folder / "golden.json").read_text())]
LARGEST, TOGETHER = 20_000, 1_250_000  # bytes; filters of phases are 300,000 even in a small model


@cache
def model_of(path: Path) -> Model:
    return load_model(path, device="cpu")


def facts_of(folder: Path) -> dict[str, dict[str, object]]:
    facts: dict[str, dict[str, object]] = json.loads((folder / "golden.json").read_text())
    return facts


@pytest.mark.parametrize(("folder", "name"), FILES, ids=lambda value: getattr(value, "name", value))
def test_golden_file(folder, name):
    facts = facts_of(folder)[name]
    data = (folder / f"{name}.bsq").read_bytes()
    result = decoded(data, name, model_of(folder / f"{facts['weights']}.safetensors"))
    assert result.facts() | {"weights": facts["weights"]} == facts
    assert result.packets == (PACKETS if name == "audio" else [])
    assert scan(io.BytesIO(data), check=True).damage is None


@pytest.mark.parametrize("name", RECIPES)
def test_golden_pixels_are_the_picture(name):
    """The source is in the recipe, so that golden pixels are pictures and not whatever came out once."""
    recipe = RECIPES[name]
    if recipe.weights == "causal":
        pytest.skip("untrained codes without a transform to start from show nothing")
    got = decoded((FOLDER / f"{name}.bsq").read_bytes(), name, model_of(weights_path(recipe))).planes
    source = b"".join(plane.tobytes() for frame in recipe.frames() for plane in (frame.y, frame.u, frame.v))
    error = np.frombuffer(got, np.uint8).astype(float) - np.frombuffer(source, np.uint8)
    assert 10 * np.log10(255**2 / (error**2).mean()) > (12 if name in ("noise", "crf51") else 20)


@pytest.mark.parametrize("name", RECIPES)
def test_the_reference_decoder_makes_the_same_pixels(name):
    recipe = RECIPES[name]
    if recipe.weights == "causal" or name in ("windows_140x70", "odd_71x59"):
        pytest.skip("slow, or not exact; `python tests/conformance.py` has all")
    data = (FOLDER / f"{name}.bsq").read_bytes()
    assert reference_frames(data, weights_path(recipe)) == facts_of(FOLDER)[name]["frames"]


def test_golden_files_are_what_they_are_called():
    facts = facts_of(FOLDER)
    assert facts.keys() == RECIPES.keys()
    assert facts["one_16x16"]["groups"] == [1]
    assert facts["three_33x17"]["size"] == [33, 17]
    assert facts["cut"]["groups"] == [3, 2]
    assert facts["keyint1"]["groups"] == [1, 1, 1]
    assert facts["vfr"]["pts"] == [0, 3, 4, 11]
    assert facts["ancillary"]["bits"] == facts["minor_ahead"]["bits"]
    assert b"zzzz" in (FOLDER / "ancillary.bsq").read_bytes()
    assert (FOLDER / "minor_ahead.bsq").read_bytes()[9] == FORMAT_MINOR + 1
    sizes = [(FOLDER / f"{name}.bsq").stat().st_size for name in ("crf16", "crf44")]
    assert sizes == sorted(sizes, reverse=True)
    assert len({facts[name]["bits"] for name in RECIPES}) == len(RECIPES) - 1


def test_golden_files_are_small():
    assert max(path.stat().st_size for path in FOLDER.glob("*.bsq")) <= LARGEST
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= TOGETHER


def test_making_is_deterministic():
    recipe = RECIPES["three_33x17"]
    assert make(recipe, model_of(weights_path(recipe))) == make(recipe, model_of(weights_path(recipe)))


def test_a_set_is_written_once():
    with pytest.raises(SystemExit, match="never written again"):
        write()
