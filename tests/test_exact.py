"""One hash for all: the bits of a file mean the same under every kernel, thread count and instruction set.

Run: pytest tests/test_exact.py; the full matrix on real footage is `python tests/exactness.py`, or -m slow.
"""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import clips
import gpu_check
import numpy as np
import pytest
import reference_prior as reference
import safetensors.numpy
import torch
from exactness import CLIP, QUICK, VARIANTS, BitHash, Variant, decoded_hash, encode_here, matrix, start
from hypothesis import given
from hypothesis import strategies as st
from test_prior import coder_sums

from bsqcodec.codec import load_model
from bsqcodec.integer.arithmetic import FPMATH, Float32, Int8, exp_table, halves, int8_is_exact, products_are_whole
from bsqcodec.integer.blocks import MASKED
from bsqcodec.integer.kernels import KERNEL_VARIABLE

CPU = torch.device("cpu")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.y4m"
    path.write_bytes(clips.y4m_bytes(2, 104, 58))
    return path


def test_one_hash_for_all(clip, weights, tmp_path, capsys):
    variants = [variant for variant in VARIANTS if variant.name in QUICK]
    assert len(variants) == len(QUICK)
    result = matrix(variants, clip, weights, 2, tmp_path)
    assert result.agree, result
    ran = [name for name in QUICK if name not in result.refused]
    assert set(result.refused) <= {"int8"}
    assert all(set(result.hashes[name]) == set(ran) for name in ran)
    assert result.runs["float32"]["kernel"] == "float32"
    assert result.runs["2 threads"]["threads"] == 2
    assert result.runs["onednn sse41"]["isa"] == "DEFAULT"
    with capsys.disabled():
        print(f"\n{len(ran) ** 2} pairs (encoder, decoder), one hash: {result.hash}")


@pytest.mark.slow
def test_one_hash_for_all_on_footage(weights, tmp_path):
    result = matrix(list(VARIANTS), CLIP, weights, 4, tmp_path)
    assert result.agree, result


@pytest.mark.parametrize("isa", ["AVX2", "SSE41"])
def test_int8_is_taken_only_where_it_is_exact(isa):
    """What the package finds out about the int8 product is true; asked for by name it is refused where it is not."""
    answer = start(Variant(isa, {"ONEDNN_MAX_CPU_ISA": isa}), do="kernel")
    assert answer is not None
    assert answer["right"] or not answer["claimed"], answer


def test_kernel_by_name_is_refused_where_it_is_not_exact(weights, monkeypatch):
    from bsqcodec.errors import DeviceError

    monkeypatch.setattr(import_module("bsqcodec.integer.kernels"), "int8_is_exact", lambda _device: False)
    assert load_model(weights, device="cpu").tokens.ops.name == "float32"
    monkeypatch.setenv(KERNEL_VARIABLE, "int8")
    with pytest.raises(DeviceError, match="not exact"):
        load_model(weights, device="cpu")


def test_the_script_reports_differences(clip, weights, tmp_path):
    """The matrix is not blind: one changed probability, one changed level, and the hashes differ."""
    files = [tmp_path / "a.bsq", tmp_path / "b.bsq"]
    first = encode_here(clip, files[0], weights, 1, 2)
    assert decoded_hash(files[0], weights, 1) == first
    clip.write_bytes(clips.y4m_bytes(2, 104, 60))
    assert encode_here(clip, files[1], weights, 1, 2) != first
    one, other = BitHash(), BitHash()
    one.levels(torch.zeros(2, 2, 4, dtype=torch.int16))
    other.levels(torch.tensor([[[0, 0, 0, 1]] * 2] * 2, dtype=torch.int16))
    assert one.hex != other.hex


def test_activations_off_by_one_ruin_the_bits(clip, weights, tmp_path, monkeypatch):
    """Why all this matters, and that `decoded_hash` sees it."""
    encoded = encode_here(clip, tmp_path / "a.bsq", weights, 1, 2)
    real, calls = Float32.rescale, [0]

    def off_by_one(self, total, shift, low, high):
        """Some activations of one layer, once."""
        out = real(self, total, shift, low, high)
        calls[0] += 1
        if calls[0] == 40:
            out.view(-1)[::2] += 1
        return out

    monkeypatch.setattr(Float32, "rescale", off_by_one)
    try:
        assert decoded_hash(tmp_path / "a.bsq", weights, 1) != encoded
    except ValueError:  # the words no longer fit: noticed as well
        pass
    assert calls[0] > 40


def test_gpu_check_runs_its_matrix_and_says_when_there_is_no_gpu(clip, tmp_path, capsys):
    found = gpu_check.check(["cpu"], clip, 2, tmp_path)
    assert found == {"cpu": {"cpu": gpu_check.frames_hash(tmp_path / "cpu.bsq", "cpu")}}
    if not torch.cuda.is_available():
        script = Path(gpu_check.__file__)
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert len(done.stderr.splitlines()) == 1 and "no such GPU" in done.stderr


@pytest.mark.parametrize("setting", ["precision", "environment"])
def test_products_of_fewer_bits_change_nothing(clip, weights, tmp_path, monkeypatch, setting):
    """Settings under which a library may round the factors of float32 products: integers then go in two parts."""
    encoded = encode_here(clip, tmp_path / "a.bsq", weights, 1, 2)
    whole = Float32.linear
    parts = []
    monkeypatch.setattr(
        Float32, "linear", lambda self, x, layer: (parts.append(layer.narrow), whole(self, x, layer))[1]
    )
    monkeypatch.setenv(KERNEL_VARIABLE, "float32")
    before = torch.get_float32_matmul_precision()
    if setting == "environment":
        monkeypatch.setenv(FPMATH, "BF16")
    else:
        torch.set_float32_matmul_precision("medium")
    try:
        assert not products_are_whole()
        assert decoded_hash(tmp_path / "a.bsq", weights, 1) == encoded
    finally:
        torch.set_float32_matmul_precision(before)
    assert False in parts and True in parts


def test_exponentials_are_those_of_the_table_and_far_from_a_half(model):
    """They are computed where the table is the usual one, and looked up where a weights file has another."""
    entries = [127 * math.exp(-step / 16) for step in range(128)]
    assert min(abs(entry % 1 - 0.5) for entry in entries) > 0.001
    away = torch.arange(0, 140 * 128, 3).float()  # below the largest score, which is 0
    table = exp_table()
    expected = table[torch.floor(away / 128 + 0.5).clamp(max=127).long()]
    assert torch.equal(Float32(table)._exponentials(-away), expected)
    other = table.clone()
    other[5] -= 1
    near = away[:200]
    assert torch.equal(Float32(other)._exponentials(-near), other[(near / 128 + 0.5).long()])
    assert np.array_equal(model.tokens.tables.exp, table.numpy())  # what ships is the usual one


@given(st.lists(st.integers(-4095, 4095), min_size=1, max_size=50))
def test_halves_are_of_eight_bits(numbers):
    x = torch.tensor(numbers, dtype=torch.float32)
    high, low = halves(x)
    assert torch.equal(64 * high + low, x)
    assert float(high.abs().max()) <= 64 and float(low.abs().max()) <= 32


# --- the weights that ship -----------------------------------------------------------------------


def prior_arrays(weights: Path, part: str = "prior.") -> dict[str, np.ndarray]:
    """The prior's (or decoder's) integers by the names of its module."""
    arrays = safetensors.numpy.load(weights.read_bytes())
    return {key.removeprefix(part): value for key, value in arrays.items() if key.startswith(part)}


@pytest.mark.parametrize(("part", "most"), [("prior.", 127), ("decoder.", 4095 + 33)])
def test_no_sum_of_the_weights_leaves_float32(weights, part, most):
    """|sum| < 2^24 for any activations, so float32 holds every partial sum whatever the order."""
    arrays = prior_arrays(weights, part)
    layers = [key.removesuffix(".weight") for key in arrays if key.endswith(".weight")]
    assert layers
    for name in layers:
        weight, bias = arrays[f"{name}.weight"].astype(np.int64), arrays[f"{name}.bias"].astype(np.int64)
        assert arrays[f"{name}.weight"].dtype == np.int8
        assert arrays[f"{name}.bias"].dtype == np.int32
        largest = int((most * np.abs(weight).sum(1) + np.abs(bias)).max())
        assert largest < 1 << 24, name


def test_padding_has_no_weight_in_attention(weights, model):
    """A masked score lies so far below any other that its entry in the exp table is 0, and float32 holds it."""
    config = model.config.prior
    product = 127 * 127 * (config.dim // config.heads)
    exp = safetensors.numpy.load(weights.read_bytes())["table.exp"]
    assert exp[-1] == 0
    assert int(exp.astype(np.int64).sum()) > 0
    for key, value in prior_arrays(weights).items():
        if key.endswith(".attention"):
            bias = int(np.abs(value.astype(np.int64)).max())
            # a padding token's key is zero: its score is its bias - 2^20; the best real one is at least -product - bias
            assert (-product - bias) - (bias + MASKED) >= 128 * 128
            assert product + bias - MASKED < 1 << 24


def test_shipped_prior_is_plain_integer_arithmetic(weights, model):
    """Real weights, every sum of a small picture against int64 loops; in both kernels."""
    config, (h, w) = model.config.prior, (5, 3)
    rng = np.random.default_rng(1)
    features = rng.integers(-127, 128, (h, w, config.features))
    shape = (h, w, config.channels)
    levels = (rng.geometric(0.6, shape) - 1) * rng.choice([-1, 1], shape)
    exp = model.tokens.tables.exp.astype(np.int64)
    expected = reference.sums(features, levels, prior_arrays(weights), config, exp)
    for kernel in (Float32, Int8) if int8_is_exact(CPU) else (Float32,):
        network = copy.deepcopy(model.tokens.network)
        ops = kernel(model.tokens.tables.exp_tensor(CPU))
        given = torch.from_numpy(features).float(), torch.from_numpy(levels.astype(np.int16))
        np.testing.assert_array_equal(coder_sums(network, ops, *given), expected)


def test_exactness_script_runs(weights, tmp_path):
    """Its options, and that a failing worker is one line and not a pass."""
    script = Path(__file__).with_name("exactness.py")
    command = [
        sys.executable,
        str(script),
        "--weights",
        str(weights),
        "--source",
        str(tmp_path / "none.y4m"),
        "--quick",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "none.y4m" in done.stderr
