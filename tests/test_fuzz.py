"""Forged and damaged files, some hundred here; `fuzz/run.py` is for the many. And the fuzzer notices what it should."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from fuzz.actions import Codec, exercise
from fuzz.mutations import MUTATIONS, chunks_of, forge_words, joined, mutated
from fuzz.seeds import SEEDS, make_seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bsqcodec.codec as room
from bsqcodec.container import Group, StreamReader

RUN = Path(__file__).parent / "fuzz" / "run.py"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> tuple[Codec, list[bytes]]:
    return make_seeds(tmp_path_factory.mktemp("seeds"), Codec)


@pytest.fixture
def codec(seeds, monkeypatch) -> Codec:
    monkeypatch.setattr(room, "load_model", seeds[0]._load)
    monkeypatch.setattr(room, "decode_group", seeds[0]._recall)
    monkeypatch.setattr(logging.getLogger("bsqcodec"), "disabled", True)
    return seeds[0]


@given(number=st.integers(0, 2**64 - 1))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_forged_files_raise_only_our_errors(codec, seeds, tmp_path, number):
    rng = Random(number)
    which, _, data = mutated(seeds[1], rng)
    (tmp_path / "stream.bsq").write_bytes(data)
    _, code = exercise(tmp_path / "stream.bsq", SEEDS[which].weights, rng)
    assert code in (0, 1, 3, 4)


def test_seeds_are_whole_and_decode(codec, seeds, tmp_path):
    for seed, data in zip(SEEDS, seeds[1], strict=True):
        assert joined(chunks_of(data)) == data
        (tmp_path / "stream.bsq").write_bytes(data)
        complete = seed.options.get("complete", True)
        codes = {exercise(tmp_path / "stream.bsq", seed.weights, Random(n)) for n in range(30)}
        assert {code for _, code in codes} == {0 if complete else 3}
    assert codec.decoded > len(SEEDS)


@pytest.mark.parametrize("mutation", sorted(set(MUTATIONS), key=lambda mutation: mutation.__name__))
def test_mutations_change_files_and_are_decided_by_the_generator(seeds, mutation):
    changed = 0
    for number in range(20):
        made = [mutation(seeds[1][0], seeds[1], Random(number)) for _ in range(2)]
        assert made[0] == made[1]
        changed += made[0] != seeds[1][0]
    assert changed >= 10


def test_forged_words_reach_the_decoder(seeds):
    """Their CRCs are right, or all fuzzing would end there."""
    data = forge_words(seeds[1][0], seeds[1], Random(3))
    before, after = (
        [item for item in StreamReader(io.BytesIO(file)) if isinstance(item, Group)] for file in (seeds[1][0], data)
    )
    assert before != after and len(before) == len(after)


measures_memory = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")


def fuzz(tmp_path: Path, *args: str) -> tuple[int, dict[str, object]]:
    command = [sys.executable, str(RUN), "--out", str(tmp_path / "found"), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout)


@measures_memory
def test_the_fuzzer_runs(tmp_path):
    code, summary = fuzz(tmp_path, "--streams", "60")
    assert (code, summary["streams"], summary["unexpected"]) == (0, 60, [])
    assert sum(summary["exit_codes"].values()) == 60
    assert 0 < summary["largest_memory_mib"] < 1024
    assert not (tmp_path / "found").exists()


@measures_memory
def test_the_fuzzer_notices_memory_and_hangs(tmp_path):
    code, summary = fuzz(tmp_path, "--streams", "2", "--memory", "20")
    assert code == 1 and [("MiB" in bad["problem"], bad["number"]) for bad in summary["unexpected"]] == [
        (True, 0),
        (True, 1),
    ]
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"1-0.bsq", "1-0.txt", "1-1.bsq", "1-1.txt"}
    code, summary = fuzz(tmp_path, "--streams", "1", "--timeout", "0.00001")
    assert code == 1 and "hangs" in summary["unexpected"][0]["problem"]
