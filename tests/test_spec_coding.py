"""Chapters 5 to 10 of bitstream_spec.md against the code: taps, tables, orders, features, tensors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bsqcodec.codec import filtering, pyramid
from bsqcodec.codec.model import ModelConfig, save_model
from bsqcodec.integer import arithmetic
from bsqcodec.motion import tables as motion_tables
from bsqcodec.motion import vectors
from bsqcodec.motion.compensate import CHROMA_TAPS, LUMA_TAPS, VECTOR_LIMIT
from bsqcodec.motion.overlap import weights
from bsqcodec.prior import context, network
from bsqcodec.prior.coding import TokenCoder
from bsqcodec.prior.tables import default_tables
from bsqcodec.tokenizer import levels as level_bits
from bsqcodec.tokenizer import phases, reconstruction, transform
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.quality import STEP_Q8

SPEC = (Path(__file__).parent.parent / "bitstream_spec.md").read_text(encoding="utf-8")


def section(number: str) -> str:
    """The text of a section such as "7.3"."""
    return re.split(rf"^### {re.escape(number)} .*$", SPEC, flags=re.MULTILINE)[1].split("\n## ")[0].split("\n### ")[0]


def rows(number: str, heading: str) -> list[list[str]]:
    """The cells of the rows of the table in a section whose first heading is this."""
    after = section(number).split(f"| {heading} |", 1)[1].split("\n", 2)[2]
    lines = after.split("\n\n", 1)[0].splitlines()
    assert lines, (number, heading)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())


def test_interpolation_taps() -> None:
    for heading, taps in (("luma fraction", LUMA_TAPS), ("chroma fraction", CHROMA_TAPS)):
        table = rows("5.2", heading)
        assert [cells[0] for cells in table] == [f"{i}/{len(taps)}" for i in range(len(taps))]
        assert tuple(numbers(cells[1]) for cells in table) == taps
    for heading, size in (("luma row", 8), ("chroma row", 4)):
        found = {int(n): numbers(cells[1]) for cells in rows("5.2", heading) for n in cells[0].split(" and ")}
        above, below = (weights(side, size).reshape(size, size).tolist() for side in (0, 1))
        for row in range(size // 2):
            assert list(found[row]) == above[row] == below[size - 1 - row] == list(found[size - 1 - row])
    largest = [max(sum(map(abs, row)) for row in taps) for taps in (LUMA_TAPS, CHROMA_TAPS)]
    assert [int(n) for n in re.findall(r"255 \* (\d+)\^2", section("5.2"))] == largest


def test_motion_tables_and_adaptation() -> None:
    contexts = motion_tables.CONTEXTS | motion_tables.MERGING
    assert {name: int(size) for name, size in rows("5.8", "table")} == contexts
    rule = re.search(r"\((\d+) \* table \+ 65536 \* n1\) // \((\d+) \+ n0 \+ n1\), (\d+), (\d+)\)", section("5.8"))
    assert rule is not None
    expected = (motion_tables.PRIOR_WEIGHT,) * 2 + (motion_tables.LOWEST, motion_tables.HIGHEST)
    assert tuple(map(int, rule.groups())) == expected
    assert f"while n0 + n1 > {motion_tables.MEMORY} " in section("5.8")
    assert f"in -{VECTOR_LIMIT}..{VECTOR_LIMIT}." in section("5.1")


def test_motion_passes() -> None:
    """Blocks, neighbours and kinds of every pass, from the table's own words."""
    table = {cells[0]: cells for cells in rows("5.4", "pass")}
    found = [(kind, step, sides) for kind, step, sides, *_ in vectors._passes(16, 16)][1:]
    for index, step in enumerate((8, 4, 2, 1)):
        for offset, name in enumerate(("diagonal", "straight")):
            cells = table[name]
            signs = [(a, b) for a, b in re.findall(r"\((\S+), (\S+)\)", cells[2])]
            sides = tuple(tuple({"-s": -1, "+s": 1, "0": 0}[part] for part in pair) for pair in signs)
            assert found[2 * index + offset] == (numbers(cells[3].replace(",", ""))[index], step, sides)


def test_step_and_channel_tables() -> None:
    steps = [n for cells in rows("9.2", "q") for n in numbers(cells[1])]
    assert tuple(steps) == STEP_Q8
    order = [name for cells in rows("9.2", "c") for name in cells[1].split()]
    first = {"Y": 0, "U": 64, "V": 80}
    assert [first[name[0]] + int(name[1:]) for name in order] == transform.channel_order()
    scale = PredictiveTokenizer(PredictiveConfig(chroma_step=0.5)).scale
    assert [0.5 if name[0] in "UV" else 1.0 for name in order] == scale.tolist()
    assert "`STEP[q]` / 256 = round(128 * 2^(q / 28)) / 256" in section("9.2")


def test_doubling() -> None:
    taps = {cells[0]: numbers(" ".join(cells[1:])) for cells in rows("9.1", "output")}
    plane = np.random.default_rng(1).choice([0, 90, 255], (16, 24)).astype(np.int64)
    for axis in (0, 1):
        plane = np.stack([np.moveaxis(plane, axis, 0)[_clamped(plane.shape[axis], k)] for k in range(-2, 3)])
        even, odd = (np.tensordot(np.array(taps[name]), plane, 1) for name in ("2i", "2i + 1"))
        plane = np.moveaxis(np.stack([even, odd], 1).reshape(-1, even.shape[1]), 0, axis)
    expected = ((plane + 8192) >> 14).clip(0, 255)
    small = np.random.default_rng(1).choice([0, 90, 255], (16, 24)).astype(np.uint8)
    chroma = torch.zeros(8, 12, dtype=torch.uint8)
    got = pyramid.upsample((torch.from_numpy(small), chroma, chroma), 3, 5)[0]
    assert np.array_equal(got.numpy(), expected[:24, :40])
    assert f"all samples {pyramid.GREY}" in section("6.2")


def _clamped(size: int, shift: int) -> np.ndarray:
    return (np.arange(size) + shift).clip(0, size - 1)


def test_pictures_of_a_first_frame() -> None:
    kinds = [int(cells[1]) for cells in rows("6.2", "picture")]
    assert kinds == [*range(pyramid.LEVELS - 1, -1, -1), context.INTER]
    assert "`h1 = ceil(h / 2)`, `h2 = ceil(h1 / 2)`" in section("6.2")
    assert pyramid.level_grids(9, 5) == [(9, 5), (5, 3), (3, 2), (2, 1)]


def test_phases_and_neighbours() -> None:
    assert tuple(numbers(" ".join(cells[1:])) for cells in rows("6.4", "phase")) == transform.PHASES
    pairs = re.findall(r"\((-?\d), (-?\d)\)", section("7.6"))
    assert tuple((int(a), int(b)) for a, b in pairs) == network.NEIGHBOURS


def test_magnitudes() -> None:
    table = [n for cells in rows("7.2", "n") for n in numbers(cells[1])]
    assert tuple(table) == context.MAGNITUDE
    assert f"min(abs(n), {len(table) - 1})" in section("7.2")


class Recorder:
    """A coder that writes down which decisions it is asked for, and the probabilities."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.p: dict[str, list[int]] = {}

    def code(self, plane: str, bits: np.ndarray | None, p: np.ndarray) -> np.ndarray:
        assert bits is not None
        self.steps.append((plane, len(bits)))
        self.p.setdefault(plane, []).extend(p.tolist())
        return bits


def test_decisions_in_the_order_and_with_the_probabilities_of_the_specification() -> None:
    levels = np.array([[0, -1, 2, -3, 5, 100, -4095]], np.int16)
    tables = default_tables()
    tables.exponent[:] = range(1, 9)
    tables.mantissa[:] = np.arange(12 * 11).reshape(12, 11) + 100
    sums = torch.arange(7 * 6).reshape(1, 7, 6).float() * 64
    coder = TokenCoder(network.PriorNetwork(network.PriorConfig()), None, tables)  # type: ignore[arg-type]
    recorder = Recorder()
    coder._code_levels(recorder, sums, levels)
    size, p = np.abs(levels[0].astype(int)), tables.probabilities(sums)[0]
    asked: dict[str, tuple[np.ndarray, np.ndarray]] = {"zero": (size >= 0, p[:, 0]), "sign": (size > 0, p[:, 1])}
    decisions = [cells[0] for cells in rows("6.3", "decision")]
    assert decisions[:2] == ["zero", "sign"]
    for i, name in enumerate(decisions[2:5], 1):
        assert name == f"ge{1 << i}"
        asked[name] = (size >= 1 << i - 1, p[:, 1 + i])
    tail = [int(tables.exponent[i - 4]) for i in range(4, 12) for n in size if n >= 1 << i - 1]
    digits = []
    for d in range(10, -1, -1):
        for i, n in enumerate(size):
            e = int(n).bit_length() - 1
            if e > d:
                digits.append(int(p[i, 5] if e == 1 else tables.mantissa[e][d]))
    order = list(dict.fromkeys(name for name, _ in recorder.steps))
    assert order == [*decisions[:5], "ge16+", "mantissa"]
    for name, (where, chance) in asked.items():
        assert recorder.p[name] == chance[where].tolist(), name
    assert recorder.p["ge16+"] == tail and recorder.p["mantissa"] == digits


def test_level_bits() -> None:
    text = re.search(r"As an array of (\d+) bits a level is: zero, sign, ge2 .. ge(\d+), digits (\d+) .. 0", SPEC)
    assert text is not None
    count, last, digit = map(int, text.groups())
    assert (count, last, digit) == (level_bits.BITS, 1 << level_bits.EXPONENTS - 1, level_bits.EXPONENTS - 2)
    assert f"-{level_bits.MAX_LEVEL}..{level_bits.MAX_LEVEL}" in section("6.3")


@pytest.mark.parametrize("kind", [1, context.INTER])
def test_features(kind: int) -> None:
    """The features of random references, built from the table's rows in the table's order."""
    rng, config = np.random.default_rng(5), network.PriorConfig()
    h, w, channels, signed, quality, t = 5, 6, config.channels, config.signed, 91, 9 if kind == context.INTER else 0
    levels = rng.integers(-60, 60, (h, w, channels))
    energy = rng.integers(0, 128, (h, w, channels))
    moves = rng.integers(-30, 30, (h, w, 2)) if kind == context.INTER else None
    row, column = np.mgrid[:h, :w]
    one = np.ones((h, w), int)
    motion = np.zeros((h, w, 2), int) if moves is None else moves
    above = np.abs(motion - np.concatenate([motion[:1], motion[:-1]]))
    left = np.abs(motion - np.concatenate([motion[:, :1], motion[:, :-1]], 1))
    values = {
        "reference symbols": np.concatenate([mag(levels), 16 * levels[..., :signed].clip(-4, 4)], -1),
        "energy": energy,
        "quality": np.stack([max(0, 17 - abs(quality - 17 * i)) * 64 // 17 * one for i in range(16)], -1),
        "kind": np.stack([64 * (kind == i) * one for i in range(5)], -1),
        "position": np.stack([64 * (t >= 2 ** (i + 1)) * one for i in range(4)], -1),
        "quadrant": np.stack([64 * (kind != 4) * (2 * (row % 2) + column % 2 == i) for i in range(4)], -1),
        "vector": mag(motion),
        "disagreement": mag(np.maximum(above, left).max(-1, keepdims=True)),
        "coarser": np.full((h, w, 1), 64 if kind == context.INTER else 0),
        "finer": np.zeros((h, w, 1), int),
        "reserved": np.zeros((h, w, 6), int),
    }
    table = rows("7.3", "feature")
    sizes = {"C + S": channels + signed, "C": channels}
    for name, count, *_ in table:
        assert values[name].shape[-1] == (sizes.get(count) or int(count)), name
    expected = np.concatenate([values[cells[0]] for cells in table], -1)
    references = context.References(torch.from_numpy(levels.astype(np.int16)), torch.from_numpy(energy).byte())
    extra = context.auxiliary(
        h,
        w,
        quality=quality,
        change=70 if kind == context.INTER else 0,
        kind=kind,
        position=t,
        vectors=None if moves is None else torch.from_numpy(moves),
        device=torch.device("cpu"),
    )
    found = context.features(references, extra, config).numpy()
    assert np.array_equal(found[..., : expected.shape[-1]], expected)
    assert found.shape[-1] == -(-expected.shape[-1] // 8) * 8 and not found[..., expected.shape[-1] :].any()


def mag(n: np.ndarray) -> np.ndarray:
    return np.array(context.MAGNITUDE)[np.abs(n).clip(max=38)]


def test_formats_and_tables_of_the_prior() -> None:
    formats = {cells[0]: int(cells[1]) for cells in rows("7.1", "name")}
    assert formats == {
        "activation": arithmetic.ACTIVATION,
        "weight": arithmetic.WEIGHT,
        "stream": arithmetic.STREAM,
        "sum": arithmetic.SUM,
    }
    limits = {cells[0]: cells[2] for cells in rows("7.1", "name")}
    assert limits["activation"] == f"-{arithmetic.ACTIVATION_MAX} .. {arithmetic.ACTIVATION_MAX}"
    assert limits["stream"] == f"-{arithmetic.STREAM_MAX} .. {arithmetic.STREAM_MAX}"
    tables = default_tables()
    for name, index, value in rows("7.8", "table"):
        assert int(getattr(tables, name)[int(index)]) == int(value), (name, index)
    shift, low, high = re.search(r">> (\d+), (-\d+), (\d+)\)\nP ", section("7.7")).groups()  # type: ignore[union-attr]
    assert (int(shift), int(low), int(high)) == (network.LOGIT_SHIFT, -network.LOGIT_MAX, network.LOGIT_MAX)


def test_filter_flags() -> None:
    text = section("6.7")
    assert f"each *filter block* of {filtering.BLOCK}x{filtering.BLOCK} tokens" in text
    ones, every = filtering.START
    assert f"`ones` = {ones} and `all` = {every} in all six contexts" in text and filtering.CONTEXTS == 6
    assert f"as long as any `all` is {filtering.MOST} or more" in text


def test_numbers_of_synthesis_and_correction() -> None:
    r = reconstruction
    synthesis, text = section("9.3"), section("9.4")
    assert f"{1 << r.LATENT} * n[c]" in synthesis and f"{1 << r.SAMPLE} * p[i]" in synthesis
    assert f", {r.LATENT + r.MATRIX - r.PARTIAL}, -2^35, 2^35)" in synthesis
    assert f"STEP[q], {r.PARTIAL + 8 - r.SAMPLE}, -{r.SAMPLE_MAX}, {r.SAMPLE_MAX})" in synthesis
    assert f"STEP[q], {arithmetic.INT13.sum + 8 - r.SAMPLE}, -{r.SAMPLE_MAX}, {r.SAMPLE_MAX})" in text
    assert f"* recip, {r.RECIPROCAL + r.SAMPLE - arithmetic.INT13.activation}, -{r.CLIP}, {r.CLIP})" in text
    assert f"R(y, {r.LATENT - arithmetic.INT13.activation}, -{r.CLIP}, {r.CLIP})" in text
    assert f"R(mY - {128 << r.SAMPLE}, {r.SAMPLE - r.MEAN}, -{r.CLIP}, {r.CLIP})" in text
    assert f"`recip` = round(2^{r.RECIPROCAL + 8} / STEP[q])" in text
    counts = [int(cells[1]) for cells in rows("9.4", "feature")]
    assert counts == [*r.PATCHES, 96, 3, r.QUALITY_HATS, r.KINDS] and sum(counts) == r.FEATURES
    values = [cells[2] for cells in rows("9.4", "feature")]
    assert f"* {r.ONE} // {r.HAT_WIDTH}" in values[5] and f"{r.ONE} if" in values[6]
    decoder = reconstruction.Reconstruction(dim=8, depth=1, heads=1, mlp=8)
    assert decoder.reciprocals.tolist() == [round(2**24 / step) for step in STEP_Q8]
    assert decoder.hats[100].tolist() == [max(0, 17 - abs(100 - 17 * i)) * 512 // 17 for i in range(16)]


def test_formats_of_the_decoder() -> None:
    form = arithmetic.INT13
    expected = {
        "activation": (form.activation, form.activation_max),
        "weight": (arithmetic.WEIGHT, 127),
        "stream": (form.stream, arithmetic.STREAM_MAX),
        "query, key": (arithmetic.QUERY, arithmetic.QUERY_MAX),
        "value": (form.value, form.value_max),
    }
    table = {cells[0]: (int(cells[1]), cells[2]) for cells in rows("9.5", "name")}
    assert table.pop("sum")[0] == form.sum
    assert table == {name: (bits, f"-{most} .. {most}") for name, (bits, most) in expected.items()}
    text = section("9.5")
    assert f"R(t, {arithmetic.WEIGHT}, 0, {form.activation_max})" in text
    assert f"R(x, {form.stream - form.activation}, -{form.activation_max}, {form.activation_max})" in text
    assert text.count(f"{form.sum - form.stream}, -{arithmetic.STREAM_MAX}, {arithmetic.STREAM_MAX})") == 2
    assert f"R(t, {form.sum - arithmetic.QUERY}, -{arithmetic.QUERY_MAX}, {arithmetic.QUERY_MAX})" in text
    assert f"R(t, {form.sum - form.value}, -{form.value_max}, {form.value_max})" in text
    assert f"LIN_out({1 << form.activation - form.value} * attention" in text
    assert f"(of the decoder: {form.largest}) MUST be below 2^24" in section("10.4")


MODELS = {
    "predictive": ModelConfig(
        "small",
        "psnr",
        PredictiveConfig(dim=16, depth=2, heads=2, mlp=24),
        network.PriorConfig(dim=24, depth=1, heads=3, mlp=40, embed=8, mix=48, hidden=56),
    ),
    "causal": ModelConfig(
        "small",
        "psnr",
        CausalConfig(18, dim=16, depth=1, heads=2, mlp=24),
        network.PriorConfig(18, "signs", (6, 12, 18), 18, dim=24, depth=2, heads=3, mlp=40, embed=8, mix=48, hidden=56),
    ),
}


def expected_tensors(kind: str, config: ModelConfig) -> dict[str, tuple[str, list[int]]]:
    """Names, types and shapes of a model's tensors as 10.3 has them."""
    table = rows("10.3", "tensor")
    headings = {"predictive": "Predictive models also have:", "causal": "Causal models have instead:"}
    if kind in headings:
        extra = section("10.3").split(headings[kind])[1]
        table += [[c.strip() for c in line.strip("|").split("|")] for line in extra.split("\n\n")[1].splitlines()[2:]]
    found = {}
    for name, dtype, shape in table:
        part = config.prior if name.startswith("prior.") else config.tokenizer
        if name == "motion.*":
            found |= {f"motion.{key}": (dtype, [size]) for key, size in motion_tables.CONTEXTS.items()}
            continue
        bands = re.match(r"prior\.(hidden|heads)\.b", name)
        for b in range(1 if ".b." not in name else len(config.prior.bands) if bands else part.depth):
            start, end = config.prior.band_range(b if bands else 0)
            sizes = {
                **{"D": part.dim, "mlp": part.mlp, "heads": part.heads, "start": start, "end": end},
                **{"C": config.prior.channels, "S": config.prior.signed, "K": config.prior.decisions},
                **{"E": config.prior.embed, "M": config.prior.mix, "hidden": config.prior.hidden},
                "L": config.prior.channels,
                "up8": lambda n: -(-n // 8) * 8,
            }
            found[name.replace(".b.", f".{b}.", 1) if ".b." in name else name] = (dtype, eval(shape, sizes))
    return found


@pytest.mark.parametrize("kind", ["predictive", "causal"])
def test_weights_file(kind: str, tmp_path: Path) -> None:
    config = MODELS[kind]
    make = PredictiveTokenizer if kind == "predictive" else CausalTokenizer
    path = tmp_path / "small.safetensors"
    prior = network.PriorNetwork(config.prior)
    save_model(path, config, make(config.tokenizer), prior, default_tables(), motion_tables.default_tables())
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = json.loads(header.pop("__metadata__")["bsqcodec"])
    found = {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items()}
    ignored = ("tokenizer.encoder.", "tokenizer.analysis.")
    assert {n: t for n, t in found.items() if not n.startswith(ignored)} == expected_tensors(kind, config)
    assert set(metadata) == keys("key") and metadata["kind"] == kind
    assert set(metadata["tokenizer"]) == keys(f"{kind} key") and set(metadata["prior"]) == keys("prior key")


def keys(heading: str) -> set[str]:
    return {key for cells in rows("10.2", heading) for key in cells[0].split(", ")}


def test_prediction_in_phases() -> None:
    text = section("9.8")
    counts = {cells[0]: int(cells[1]) for cells in rows("9.8", "feature")}
    assert counts == {"around": sum(phases.SEEN), "quality": phases.HATS}
    around = next(cells[2] for cells in rows("9.8", "feature") if cells[0] == "around")
    shift, low, high = map(int, re.findall(r", (-?\d+)", around))
    assert (shift, low, high) == (
        phases.RECIPROCAL + phases.SAMPLE - arithmetic.INT13.activation,
        -phases.CLIP,
        phases.CLIP,
    )
    side = 8 + 2 * phases.MARGIN
    assert f"the {side}x{side} around the token's 8x8 ({phases.MARGIN} more on each side)" in text
    assert f"v[j], {phases.FILTER}, -{phases.SAMPLE_MAX}, {phases.SAMPLE_MAX})" in text
    assert f"STEP[q], {arithmetic.INT13.sum + 8 - phases.SAMPLE}, -{phases.SAMPLE_MAX}" in text
    assert "there is no picture of kind 1" in section("6.2") and 1 not in pyramid.sizes(phased=True)


def test_tensors_of_phases() -> None:
    lines = re.findall(r"^\| decoder\.(phases\S+) \| (I\d+) \| \[(.*)\] \|$", section("10.3"), flags=re.MULTILINE)
    config = PredictiveConfig(dim=16, depth=1, heads=2, mlp=24, phases=40)
    arrays = PredictiveTokenizer(config).decoder.integers()
    said = {
        name.replace(".b.", f".{phase}."): (
            f"i{int(dtype[1:]) // 8}",
            [40 if n == "P" else int(n) for n in sizes.split(", ")],
        )
        for name, dtype, sizes in lines
        for phase in range(4)
    }
    found = {name: (a.dtype.str[1:], list(a.shape)) for name, a in arrays.items() if name.startswith("phases.")}
    assert found == said and len(found) == 25
