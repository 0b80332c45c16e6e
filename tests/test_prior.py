"""The prior: exact integers in every kernel and against plain Python; coding. Run: pytest tests/test_prior.py"""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import reference_prior as reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.entropy import BitDecoder, BitEncoder
from bsqcodec.errors import BitstreamError
from bsqcodec.integer import arithmetic
from bsqcodec.integer.arithmetic import (
    EXP_STEPS,
    INT8,
    INT13,
    SUM_LIMIT,
    Float32,
    Frozen,
    Int8,
    Linear,
    Part,
    Precision,
    Training,
    exp_table,
    freeze,
    keep_exact,
)
from bsqcodec.integer.arithmetic import int8_is_exact as is_exact
from bsqcodec.integer.blocks import integers, load_integers
from bsqcodec.prior import context
from bsqcodec.prior.coding import Reader, TokenCoder, Writer, all_neighbours, phase_flags
from bsqcodec.prior.network import NEIGHBOURS, PriorConfig, PriorNetwork
from bsqcodec.prior.tables import Tables, default_tables, fit_tables, logistic_table
from bsqcodec.tokenizer.levels import MAX_LEVEL
from bsqcodec.tokenizer.transform import PHASES

CPU = torch.device("cpu")
CONFIG = PriorConfig(
    channels=24, bands=(8, 12, 24), dim=24, depth=2, heads=3, mlp=40, embed=8, mix=32, hidden=24, signed=8
)
SIGNS = replace(CONFIG, channels=18, layout="signs", bands=(6, 18), signed=6)
GRIDS = [(1, 1), (1, 5), (2, 3), (7, 9)]
INT8_EXACT = is_exact(CPU)
EXP = exp_table()


def network(config: PriorConfig = CONFIG, seed: int = 0, gain: float = 1.0) -> PriorNetwork:
    """Random parameters large enough that saturation happens somewhere."""
    torch.manual_seed(seed)
    built = PriorNetwork(config)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(gain)
            else:
                parameter.normal_(0, 1.5)
    return built.eval().requires_grad_(False)


def frozen(built: PriorNetwork) -> PriorNetwork:
    """The same network turned into integers, through the arrays of a weights file."""
    other = PriorNetwork(built.config)
    load_integers(other, integers(built), "prior")
    freeze(other)
    return other.eval().requires_grad_(False)


def extremes(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Activations -127..127, the ends often."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-127, 128, shape)
    ends = rng.choice([-127, 0, 127], shape)
    return torch.from_numpy(np.where(rng.random(shape) < 0.3, ends, values)).float()


def random_levels(shape: tuple[int, ...], seed: int = 0, layout: str = "levels") -> torch.Tensor:
    """Mostly small levels, all exponents, both ends."""
    rng = np.random.default_rng(seed)
    if layout == "signs":
        return torch.from_numpy(rng.choice([-1, 1], shape).astype(np.int16))
    size = rng.geometric(0.45, shape) - 1
    size = np.where(rng.random(shape) < 0.05, 1 << rng.integers(0, 12, shape), size)
    size = np.where(rng.random(shape) < 0.02, MAX_LEVEL, size)
    return torch.from_numpy((size * rng.choice([-1, 1], shape)).astype(np.int16))


def features(h: int, w: int, config: PriorConfig = CONFIG, seed: int = 0) -> torch.Tensor:
    return extremes((h, w, config.features), seed)


# --- integers ------------------------------------------------------------------------------------


def test_exp_table_is_rounded_exponentials() -> None:
    assert EXP.tolist() == [round(127 * float(np.exp(-d / 16))) for d in range(EXP_STEPS)]
    assert EXP[0] == 127
    assert EXP[-1] == 0


@pytest.mark.skipif(not INT8_EXACT, reason="this machine's int8 product saturates")
@given(rows=st.integers(1, 40), wide=st.integers(1, 128), out=st.integers(1, 24), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_kernels_agree_on_any_shape(rows: int, wide: int, out: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.choice([-127, 127, 5], (8 * out, 8 * wide)).astype(np.int8)
    bias = rng.integers(-(1 << 20), 1 << 20, 8 * out)
    layer = Frozen(torch.from_numpy(weight), torch.from_numpy(bias))
    x = extremes((rows, 8 * wide), seed)
    expected = x.numpy().astype(np.int64) @ weight.astype(np.int64).T + bias
    for ops in (Float32(EXP), Int8(EXP)):
        assert np.array_equal(ops.linear(x, layer).numpy().astype(np.int64), expected)


def test_rescale_rounds_half_up_and_saturates() -> None:
    totals = torch.cat([torch.arange(-70000, 70000, dtype=torch.float32), torch.tensor([-(2.0**24), 2.0**24])])
    for shift, low, high in ((7, -127, 127), (4, 0, 127), (3, -32767, 32767)):
        expected = reference.shift_round(totals.numpy().astype(np.int64), shift, low, high)
        for ops in (Float32(EXP), Training()):
            assert np.array_equal(ops.rescale(totals.clone(), shift, low, high).numpy().astype(np.int64), expected)


@given(wide=st.integers(1, 60), form=st.sampled_from([INT8, INT13]), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_shifts_in_the_weights_change_nothing(wide: int, form: Precision, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.choice([-5, 5, 3, 0], (16, 8 * wide)).astype(np.int8)
    layer = Frozen(torch.from_numpy(weight), torch.from_numpy(rng.integers(-(1 << 18), 1 << 18, 16)), form.largest)
    x = torch.from_numpy(rng.integers(-form.activation_max, form.activation_max + 1, (9, 8 * wide))).float()
    parts = Part(10, 7, -127, 127), Part(6, 4, 0, form.activation_max)
    sums = (x.double() @ layer.weight.double().T + layer.bias.double()).numpy().astype(np.int64)
    expected = np.concatenate(
        [reference.shift_round(sums[:, :10], *parts[0][1:]), reference.shift_round(sums[:, 10:], *parts[1][1:])], 1
    )
    assert layer.folded(parts) is not None
    for ops in [Float32(EXP)] + [Int8(EXP)] * INT8_EXACT:
        with mock.patch.object(arithmetic, "CACHED_ROWS", 2):  # some rows at a time
            assert np.array_equal(ops.affine(x, layer, *parts).numpy().astype(np.int64), expected)
        with mock.patch.object(layer, "folded", return_value=None):
            assert np.array_equal(ops.affine(x, layer, *parts).numpy().astype(np.int64), expected)


@pytest.mark.parametrize("precision", [INT8, INT13])
def test_training_keeps_sums_exact(precision: Precision) -> None:
    torch.manual_seed(2)
    layer = Linear(700, 40, precision=precision)
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(0.1, 40, 40)[:, None])
        layer.bias.normal_(std=8)
    before = layer.weight.detach().clone()
    keep_exact(torch.nn.ModuleList([layer]))
    weight, bias = layer.integers()
    sums = precision.largest * weight.long().abs().sum(1) + bias.long().abs()
    assert int(sums.max()) < SUM_LIMIT
    untouched = (layer.weight == before).all(1)
    assert untouched[0] and untouched.all() == (precision is INT8)  # 700 * 127^2 is no danger


def test_shifts_stay_out_of_weights_whose_sums_have_no_room() -> None:
    weight = torch.full((8, 1040), 127, dtype=torch.int8)  # 1040 * 127^2 = 2^24 - 3056
    parts = (Part(8, 7, -127, 127),)
    assert Frozen(weight, torch.full((8,), 3055 - 64)).folded(parts) is not None
    layer = Frozen(weight, torch.full((8,), 3055))
    assert layer.folded(parts) is None
    x = torch.full((1, 1040), 127.0)
    assert Float32(EXP).affine(x, layer, Part(8, 7, 0, 1 << 20)).unique().tolist() == [(1 << 24) - 1 + 64 >> 7]


@given(seed=st.integers(0, 999), spread=st.sampled_from([0, 1, 100, 4000, 600000]))
@settings(max_examples=40, deadline=None)
def test_softmax_is_integer_arithmetic(seed: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-spread, spread + 1, (5, 64))
    scores[:, rng.random(64) < 0.3] -= 1 << 20  # padding
    scores[:, 0] = rng.integers(-spread, spread + 1)
    values = extremes((5, 64, 6), seed)
    expected = [
        reference.softmax_mix(s, v, EXP.numpy().astype(np.int64))
        for s, v in zip(scores, values.numpy().astype(np.int64), strict=True)
    ]
    given_scores = torch.from_numpy(scores[:, None]).float()
    for ops in (Float32(EXP), Training()):
        got = ops.softmax_mix(given_scores.clone(), values)[:, 0]
        assert np.array_equal(got.numpy().astype(np.int64), np.stack(expected))


def test_integers_round_to_the_grid_and_saturate() -> None:
    layer = Linear(8, 8)
    with torch.no_grad():
        layer.weight[0, :4] = torch.tensor([2.0, -2.0, 1 / 128, 0.4 / 128])
        layer.bias[:2] = torch.tensor([1.0, -3.5 / 2048])
    weight, bias = layer.integers()
    assert weight[0, :4].tolist() == [127, -127, 1, 0]
    assert bias[:2].tolist() == [2048, -4]
    assert (weight.dtype, bias.dtype) == (torch.int8, torch.int32)


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "w"), [*GRIDS, (9, 17)])
@pytest.mark.parametrize("gain", [1.0, 8.0])
def test_network_is_the_same_in_training_and_in_both_kernels(h: int, w: int, gain: float) -> None:
    real = network(seed=h, gain=gain)
    exact = frozen(real)
    x = features(h, w, seed=w)[None]
    expected = real.trunk(x, Training())
    assert expected.abs().max() > 0
    kernels = [Float32(EXP), Int8(EXP)] if INT8_EXACT else [Float32(EXP)]
    for ops in kernels:
        assert torch.equal(exact.trunk(x, ops), expected), ops.name
    mixed = extremes((h, w, CONFIG.mix), 1).abs()
    for band, end in enumerate(CONFIG.bands):
        start = CONFIG.band_range(band)[0]
        before = extremes((h, w, start + CONFIG.signed), 2) if start else None
        wanted = real.logits(mixed, before, band, Training())
        assert wanted.shape == (h, w, end - start, CONFIG.decisions)
        for ops in kernels:
            assert torch.equal(exact.logits(mixed, before, band, ops), wanted)


@pytest.mark.parametrize(
    ("h", "w", "number", "gain"), [(1, 1, 0, 1.0), (5, 11, 0, 6.0), (9, 6, 1, 6.0), (3, 13, 1, 1.0)]
)
def test_block_is_plain_integer_arithmetic(h: int, w: int, number: int, gain: float) -> None:
    exact = network(seed=h, gain=gain)
    arrays = integers(exact)
    stream = (extremes((h, w, CONFIG.dim), w) * 258).clamp(-32767, 32767)
    freeze(exact)
    got = exact.blocks[number](stream[None, None], Float32(EXP))[0, 0]
    wide = stream.numpy().astype(np.int64)
    expected = reference.block(wide, arrays, number, CONFIG, EXP.numpy().astype(np.int64))
    assert np.array_equal(got.numpy().astype(np.int64), expected)
    assert not np.array_equal(expected, wide)


@pytest.mark.parametrize("config", [CONFIG, SIGNS], ids=["levels", "signs"])
@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_whole_prior_is_plain_integer_arithmetic(config: PriorConfig, h: int, w: int) -> None:
    """Trunk, neighbours, phases, bands: the coder's sums equal those of `reference_prior`, bit for bit."""
    built = network(config, seed=h + w, gain=2.0)
    levels = random_levels((h, w, config.channels), h, config.layout)
    x = features(h, w, config, seed=3)
    exp = EXP.numpy().astype(np.int64)
    expected = reference.sums(x.numpy().astype(np.int64), levels.numpy().astype(np.int64), integers(built), config, exp)
    assert np.array_equal(coder_sums(frozen(built), Float32(EXP), x, levels), expected)


def coder_sums(built: PriorNetwork, ops: Float32, x: torch.Tensor, levels: torch.Tensor) -> np.ndarray:
    """The sums [h, w, C, K] that a TokenCoder's steps see."""
    steps: list[np.ndarray] = []
    real = built.logits

    def logits(*args: object) -> torch.Tensor:
        found = real(*args)  # type: ignore[arg-type]
        steps.append(found.numpy().astype(np.int64))
        return found

    built.logits = logits  # type: ignore[method-assign]
    coder = TokenCoder(built, ops, default_tables())
    assert torch.equal(coder.code(Writer(BitEncoder()), x, levels), levels)
    return by_place(steps, levels.shape[:2], built.config)


def by_place(steps: list[np.ndarray], grid: torch.Size, config: PriorConfig) -> np.ndarray:
    """Sums of the steps (phase after phase, band after band) at the places of their tokens."""
    h, w = grid
    out = np.zeros((h, w, config.channels, config.decisions), np.int64)
    remaining = iter(steps)
    for row, column in PHASES:
        if row < h and column < w:
            part = np.concatenate([next(remaining) for _ in config.bands], axis=1)
            out[row::2, column::2] = part.reshape(out[row::2, column::2].shape)
    assert next(remaining, None) is None
    return out


@pytest.mark.parametrize("config", [CONFIG, SIGNS], ids=["levels", "signs"])
@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_trainings_view_equals_the_coders_steps(config: PriorConfig, h: int, w: int) -> None:
    """Teacher forcing over all phases at once gives the sums of the phase-by-phase coder."""
    real = network(config, seed=w)
    levels = random_levels((h, w, config.channels), w, config.layout)
    x, ops = features(h, w, config), Training()
    seen = context.symbols(levels, config.signed)[None]
    near = all_neighbours(real.embedding(seen, ops))
    mixed = real.mixed(real.trunk(x[None], ops), near, phase_flags(h, w, CPU)[None], ops)
    parts = []
    for band in range(len(config.bands)):
        start, _ = config.band_range(band)
        signs = seen[..., config.channels :] * (torch.arange(config.signed) < start)
        parts.append(real.logits(mixed, torch.cat([seen[..., :start], signs], -1) if start else None, band, ops))
    together = torch.cat(parts, dim=-2)[0].numpy().astype(np.int64)
    assert np.array_equal(coder_sums(frozen(real), Float32(EXP), x, levels), together)


def test_neighbours_are_those_of_earlier_phases() -> None:
    embedded = torch.arange(1.0, 36.0).reshape(1, 5, 7, 1)
    near = all_neighbours(embedded)[0]
    rank = {place: phase for phase, place in enumerate(PHASES)}
    for y, x in np.ndindex(5, 7):
        for which, (dy, dx) in enumerate(NEIGHBOURS):
            inside = 0 <= y + dy < 5 and 0 <= x + dx < 7
            earlier = rank[(y + dy) % 2, (x + dx) % 2] < rank[y % 2, x % 2]
            assert near[y, x, which] == (embedded[0, y + dy, x + dx, 0] if inside and earlier else 0)


def test_integers_of_a_weights_file_are_checked() -> None:
    built = network()
    arrays = integers(built)
    other = PriorNetwork(CONFIG)
    load_integers(other, arrays, "prior")
    for key, value in integers(other).items():
        assert np.array_equal(value, arrays[key])
    with pytest.raises(KeyError):
        load_integers(other, {k: v for k, v in arrays.items() if k != "mix.bias"}, "prior")
    with pytest.raises(ValueError, match=r"prior\.mix\.bias"):
        load_integers(other, arrays | {"mix.bias": arrays["mix.bias"][:-1]}, "prior")
    with pytest.raises(ValueError, match="int32"):
        load_integers(other, arrays | {"inlet.weight": arrays["inlet.weight"].astype(np.int32)}, "prior")


# --- tables --------------------------------------------------------------------------------------


def test_logistic_table() -> None:
    table = logistic_table()
    assert (table[0], table[2047], table[-1]) == (1, 32768, 65535)
    assert (np.diff(table.astype(int)) >= 0).all()
    assert abs(int(table[2047 + 128]) - 65536 / (1 + np.exp(-1))) <= 0.5


def test_probabilities_round_and_saturate() -> None:
    tables = default_tables()
    sums = torch.tensor([0.0, 7.0, 8.0, -8.0, -9.0, 32752.0, 1e7, -1e7])
    logits = [0, 0, 1, 0, -1, 2047, 2047, -2047]
    assert tables.probabilities(sums).tolist() == [int(tables.logistic[2047 + n]) for n in logits]


@pytest.mark.parametrize("name", ["logistic", "exp", "exponent", "mantissa"])
def test_tables_round_trip_and_are_checked(name: str) -> None:
    arrays = fit_tables(random_levels((5000,), 4).numpy()).to_arrays()
    again = Tables.from_arrays(arrays)
    for key, value in again.to_arrays().items():
        assert np.array_equal(value, arrays[key])
    key = f"table.{name}"
    with pytest.raises(KeyError):
        Tables.from_arrays({k: v for k, v in arrays.items() if k != key})
    for bad in (arrays[key][1:], arrays[key].astype(np.int32)):
        with pytest.raises(ValueError, match=key):
            Tables.from_arrays(arrays | {key: bad})
    if name != "exp":
        zero = arrays[key].copy()
        zero.flat[3] = 0
        with pytest.raises(ValueError, match="probability of 0"):
            Tables.from_arrays(arrays | {key: zero})


def test_fitted_tables_are_shorter_on_their_material() -> None:
    rng = np.random.default_rng(5)
    levels = torch.from_numpy((4 + rng.geometric(0.02, (4, 6, 24))).clip(max=MAX_LEVEL).astype(np.int16))
    sizes = []
    for tables in (default_tables(), fit_tables(levels.numpy())):
        writer = Writer(BitEncoder())
        TokenCoder(frozen(network()), Float32(EXP), tables).code(writer, features(4, 6), levels)
        sizes.append(writer.plane_bits["ge16+"] + writer.plane_bits["mantissa"])
    assert sizes[1] < 0.95 * sizes[0]


# --- coding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, SIGNS], ids=["levels", "signs"])
@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_levels_round_trip(config: PriorConfig, h: int, w: int) -> None:
    """Three frames in a row through one coder, encoded with one kernel, decoded with the other."""
    built = frozen(network(config, seed=h))
    frames = [(features(h, w, config, i), random_levels((h, w, config.channels), i, config.layout)) for i in range(3)]
    encoder = BitEncoder()
    writer = Writer(encoder)
    for x, levels in frames:
        TokenCoder(built, Float32(EXP), default_tables()).code(writer, x, levels)
    spent = sum(writer.plane_bits.values())
    assert abs(8 * len(encoder.words()) - spent) <= 64 + spent / 500
    reader = Reader(BitDecoder(encoder.words()))
    ops = (Int8 if INT8_EXACT else Float32)(EXP)
    for x, levels in frames:
        assert torch.equal(TokenCoder(built, ops, default_tables()).code(reader, x, None), levels)
    assert reader.decoder.exhausted()


class Recorder:
    """A coder that writes down every decision."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, list[int], list[int]]] = []

    def code(self, plane: str, bits: np.ndarray | None, p: np.ndarray) -> np.ndarray:
        assert bits is not None
        if bits.size:
            self.steps.append((plane, bits.tolist(), p.tolist()))
        return bits


def probability(total: int) -> int:
    """P of a sum of fraction 11, from the definition: logits in 1/128 nat."""
    logit = min(max((int(total) + 8) >> 4, -2047), 2047) / 128
    return min(max(round(65536 / (1 + float(np.exp(-logit)))), 1), 65535)


def decisions(levels: list[int], sums: np.ndarray, tables: Tables) -> list[tuple[str, list[int], list[int]]]:
    """What coding a band's levels (token after token, channel after channel) must write: (bit plane, bits, P)."""
    some = [i for i, n in enumerate(levels) if n]
    steps = [("zero", [int(n == 0) for n in levels], [probability(s[0]) for s in sums])]
    steps.append(("sign", [int(levels[i] > 0) for i in some], [probability(sums[i][1]) for i in some]))
    alive = some
    for k in range(1, 12):
        p = [probability(sums[i][1 + k]) if k <= 3 else int(tables.exponent[k - 4]) for i in alive]
        steps.append((f"ge{1 << k}" if k <= 3 else "ge16+", [int(abs(levels[i]) >= 1 << k) for i in alive], p))
        alive = [i for i in alive if abs(levels[i]) >= 1 << k]
    for digit in range(10, -1, -1):
        where = [i for i in some if abs(levels[i]) >= 2 << digit]
        p = []
        for i in where:
            exponent = abs(levels[i]).bit_length() - 1
            p.append(probability(sums[i][5]) if exponent == 1 else int(tables.mantissa[exponent, digit]))
        steps.append(("mantissa", [abs(levels[i]) >> digit & 1 for i in where], p))
    return [step for step in steps if step[1]]


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_decisions_and_their_order_are_as_specified(h: int, w: int) -> None:
    """Every bit and every probability that reaches the coder, from the reference's sums."""
    built = network(seed=w, gain=2.0)
    levels = random_levels((h, w, CONFIG.channels), h)
    x, tables = features(h, w), fit_tables(random_levels((999,), 1).numpy())
    exp = EXP.numpy().astype(np.int64)
    plain = levels.numpy().astype(np.int64)
    sums = reference.sums(x.numpy().astype(np.int64), plain, integers(built), CONFIG, exp)
    expected = []
    for row, column in PHASES:
        start = 0
        for end in CONFIG.bands:
            part = plain[row::2, column::2, start:end].ravel().tolist()
            if part:
                of_part = sums[row::2, column::2, start:end].reshape(-1, CONFIG.decisions)
                expected += decisions(part, of_part, tables)
            start = end
    recorder = Recorder()
    TokenCoder(frozen(built), Float32(EXP), tables).code(recorder, x, levels)
    assert recorder.steps == expected


@pytest.mark.parametrize("value", [0, 1, -1, 2, 3, -3, 4, 15, -16, 2047, 2048, 4095, -4095])
def test_flat_levels_round_trip(value: int) -> None:
    built = frozen(network())
    levels = torch.full((3, 2, CONFIG.channels), value, dtype=torch.int16)
    encoder = BitEncoder()
    coder = TokenCoder(built, Float32(EXP), default_tables())
    coder.code(Writer(encoder), features(3, 2), levels)
    assert torch.equal(coder.code(Reader(BitDecoder(encoder.words())), features(3, 2), None), levels)


@given(words=st.binary(max_size=80), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_garbage_decodes_to_levels_in_range_or_an_error(words: bytes, seed: int) -> None:
    coder = TokenCoder(frozen(network(seed=seed)), Float32(EXP), default_tables())
    reader = Reader(BitDecoder(words[: len(words) // 4 * 4]))
    try:
        levels = coder.code(reader, features(2, 3), None)
    except BitstreamError:
        return
    assert int(levels.abs().max()) <= MAX_LEVEL


def test_writer_counts_by_bit_plane() -> None:
    writer = Writer(BitEncoder())
    TokenCoder(frozen(network()), Float32(EXP), default_tables()).code(
        writer, features(7, 9), random_levels((7, 9, 24))
    )
    assert set(writer.plane_bits) == {"zero", "sign", "ge2", "ge4", "ge8", "ge16+", "mantissa"}
    assert all(bits > 0 for bits in writer.plane_bits.values())


# --- context -------------------------------------------------------------------------------------


def test_magnitudes_are_rounded_logarithms() -> None:
    assert [reference.magnitude_symbol(n) for n in range(39)] == list(context.MAGNITUDE)
    levels = torch.tensor([0, 1, -1, 37, 38, -39, 4095, -4095], dtype=torch.int16)
    assert context.magnitude(levels).tolist() == [reference.magnitude_symbol(n) for n in levels.tolist()]


def test_symbols_equal_the_reference() -> None:
    levels = random_levels((40, 24))
    expected = [reference.symbols(row, 8) for row in levels.numpy().astype(np.int64)]
    assert np.array_equal(context.symbols(levels, 8).numpy().astype(np.int64), np.stack(expected))


def test_references_follow_the_motion() -> None:
    h, w = 5, 7
    levels = torch.arange(h * w, dtype=torch.int16).reshape(h, w, 1)
    references = context.References(levels, levels.to(torch.uint8))
    for shift in range(-140, 141):  # every phase of a token, and far outside
        vectors = torch.tensor([shift, 7 - shift], dtype=torch.int32).expand(h, w, 2)
        moved = references.moved(vectors)
        rows = [min(max((32 * y + 16 + 7 - shift) // 32, 0), h - 1) for y in range(h)]
        columns = [min(max((32 * x + 16 + shift) // 32, 0), w - 1) for x in range(w)]
        assert torch.equal(moved.levels, levels[rows][:, columns])
        assert torch.equal(moved.energy, levels[rows][:, columns].to(torch.uint8))
    own = torch.zeros(h, w, 2, dtype=torch.int32)
    own[2, 3] = torch.tensor([-40, 70])
    assert references.moved(own).levels[2, 3] == levels[4, 2]
    assert references.moved(own).levels[2, 4] == levels[2, 4]
    large = references.enlarged(9, 14)
    assert all(large.levels[y, x] == levels[y // 2, x // 2] for y, x in np.ndindex(9, 14))


def test_energy_is_a_decaying_mean_that_never_overflows() -> None:
    references = context.empty(1, 1, 3, CPU)
    expected = [0, 0, 0]
    for n in (4095, -4095, 1, 0, 4095, 4095, 4095, 4095, 4095, 4095, 4095, 4095, 4095, 4095):
        levels = torch.tensor([[[n, 0, 2]]], dtype=torch.int16)
        references = references.updated(levels)
        sizes = [reference.magnitude_symbol(v) for v in (n, 0, 2)]
        expected = [(3 * e + s + 2) >> 2 for e, s in zip(expected, sizes, strict=True)]
        assert references.energy[0, 0].tolist() == expected
    assert expected[0] >= 120


def test_every_feature_is_an_activation() -> None:
    """All the trunk sees fits int8, at the ends of everything."""
    for quality, kind, position in ((0, 0, 0), (255, context.INTER, 65535), (130, 3, 0)):
        vectors = torch.full((4, 5, 2), -1023, dtype=torch.int32)
        vectors[::2] = 1023
        extra = context.auxiliary(
            4, 5, quality=quality, kind=kind, position=position, vectors=vectors if kind == 4 else None, device=CPU
        )
        references = context.References(random_levels((4, 5, 24)), torch.full((4, 5, 24), 127, dtype=torch.uint8))
        joined = context.features(references, extra, CONFIG)
        assert joined.shape == (4, 5, CONFIG.features)
        assert torch.equal(joined, joined.round())
        assert joined.abs().max() <= 127
        hats = extra[..., :16]
        assert 62 <= float(hats[0, 0].sum()) <= 64
        assert extra[0, 0, 16 + kind] == 64
        assert extra[0, 0, 21:25].tolist() == [64 if position >= 2 << flag else 0 for flag in range(4)]
