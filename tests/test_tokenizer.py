"""Tokens, transforms, levels, BSQ and the transformers. Run: pytest tests/test_tokenizer.py"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.codec import pyramid
from bsqcodec.tokenizer import bsq, levels, quality, transform
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.network import WindowTransformer, merge, partition, quality_basis, window_mask
from bsqcodec.tokenizer.predictive import INTER, MARGIN, PredictiveConfig, PredictiveTokenizer

SMALL = {"dim": 16, "depth": 2, "heads": 2, "mlp": 24}


def planes(h: int, w: int, seed: int = 0) -> transform.Planes:
    """Noise of h x w tokens."""
    rng = np.random.default_rng(seed)
    shapes = ((8 * h, 8 * w), (4 * h, 4 * w), (4 * h, 4 * w))
    y, u, v = (torch.from_numpy(rng.integers(0, 256, shape).astype(np.uint8)) for shape in shapes)
    return y, u, v


def shaken(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter a random value, so that layers which start at zero take part."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3 / max(1, parameter.shape[-1]) ** 0.5 if parameter.dim() > 1 else 0.1)
    return network.eval().requires_grad_(False)


# --- tokens and planes ---------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 3), (4, 2)])
def test_pack_is_raster_order_and_unpack_its_inverse(h: int, w: int) -> None:
    frame = planes(h, w)
    samples = transform.pack(frame)
    assert samples.shape == (h, w, transform.SAMPLES)
    for i, j in np.ndindex(h, w):
        luma = frame[0][8 * i : 8 * i + 8, 8 * j : 8 * j + 8].flatten()
        chroma = [plane[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].flatten() for plane in frame[1:]]
        assert torch.equal(samples[i, j], torch.cat([luma, *chroma]))
    for got, expected in zip(transform.unpack(samples), frame, strict=True):
        assert torch.equal(got, expected)


@given(width=st.integers(1, 40), height=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_padding_replicates_the_last_row_and_column(width: int, height: int) -> None:
    rng = np.random.default_rng(width * 41 + height)
    half = (-(-height // 2), -(-width // 2))
    frame = [torch.from_numpy(rng.integers(0, 256, s).astype(np.uint8)) for s in ((height, width), half, half)]
    h, w = transform.token_grid(width, height)
    assert 8 * (h - 1) < height <= 8 * h
    assert 8 * (w - 1) < width <= 8 * w
    for plane, padded, size in zip(frame, transform.pad_planes(tuple(frame), h, w), (8, 4, 4), strict=True):
        rows, columns = plane.shape
        expected = np.pad(plane.numpy(), ((0, size * h - rows), (0, size * w - columns)), mode="edge")
        assert np.array_equal(padded.numpy(), expected)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 3)])
def test_patches_hold_the_token_and_its_surroundings(h: int, w: int) -> None:
    frame = planes(h, w)
    got = transform.patches(tuple(plane.float()[None] for plane in frame), MARGIN)[0]
    for i, j in np.ndindex(h, w):
        expected = []
        for plane, size, margin in zip(frame, (8, 4, 4), (MARGIN, MARGIN // 2, MARGIN // 2), strict=True):
            wide = np.pad(plane.numpy(), margin, mode="edge")
            side = size + 2 * margin
            expected.append(wide[size * i : size * i + side, size * j : size * j + side].ravel())
        assert np.array_equal(got[i, j].numpy(), np.concatenate(expected))


def test_dct_is_orthonormal_and_ordered_by_frequency() -> None:
    matrix = transform.dct_matrix().double()
    assert torch.allclose(matrix @ matrix.T, torch.eye(transform.SAMPLES, dtype=torch.float64), atol=1e-6)
    assert sorted(transform.channel_order()) == list(range(transform.SAMPLES))
    assert transform.channel_order()[0] == 0
    flat = torch.zeros(transform.SAMPLES, dtype=torch.float64)
    flat[:64] = 10.0
    coefficients = matrix @ flat
    assert coefficients[0] == pytest.approx(80.0, abs=1e-4)  # mean times 8
    assert coefficients[1:].abs().max() < 1e-4
    for n in (4, 8):
        basis = transform.dct(n)
        expected = [[math.cos(math.pi * (2 * x + 1) * k / (2 * n)) for x in range(n)] for k in range(n)]
        scale = [math.sqrt((1 if k == 0 else 2) / n) for k in range(n)]
        assert np.allclose(basis.numpy(), np.array(expected) * np.array(scale)[:, None], atol=1e-12)


def test_zigzag_is_jpegs_transposed() -> None:
    jpeg = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7]
    assert transform.zigzag(8)[: len(jpeg)] == [8 * (i % 8) + i // 8 for i in jpeg]
    assert sorted(transform.zigzag(4)) == list(range(16))


def test_quality_doubles_every_28_indices() -> None:
    assert quality.step(0) == 0.5
    assert quality.step(28) == 1.0
    assert quality.step(140) == 16.0
    assert all(a <= b for a, b in zip(quality.STEP_Q8, quality.STEP_Q8[1:], strict=False))
    assert quality.step(255) == pytest.approx(0.5 * 2 ** (255 / 28), rel=1e-3)


# --- levels and bits -----------------------------------------------------------------------------

LEVEL = st.integers(-levels.MAX_LEVEL, levels.MAX_LEVEL)


@given(st.lists(LEVEL, min_size=1, max_size=64))
@settings(max_examples=100, deadline=None)
def test_bits_and_levels_are_a_bijection(values: list[int]) -> None:
    extremes = [0, 1, -1, 2, 3, -4095, 4095, 2047, 2048, -2048]
    there = torch.tensor(values + extremes, dtype=torch.int16)
    bits = levels.to_bits(there)
    assert bits.shape == (len(there), levels.BITS)
    assert int(bits.max()) <= 1
    assert torch.equal(levels.from_bits(bits), there)


def test_bits_follow_their_definition() -> None:
    for n in range(-40, 41):
        bits = levels.to_bits(torch.tensor([n], dtype=torch.int16))[0].tolist()
        size = abs(n)
        assert bits[0] == (n == 0)
        assert bits[1] == (n > 0)
        assert bits[2 : 1 + levels.EXPONENTS] == [int(size >= 1 << k) for k in range(1, levels.EXPONENTS)]
        leading = size.bit_length() - 1
        below = size - (1 << leading) if size else 0
        assert bits[1 + levels.EXPONENTS :] == [below >> k & 1 for k in range(levels.EXPONENTS - 2, -1, -1)]


@given(st.lists(LEVEL, min_size=1, max_size=16), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_implied_bits_are_not_looked_at(values: list[int], random) -> None:
    there = torch.tensor(values, dtype=torch.int16)
    bits = levels.to_bits(there)
    for row, n in enumerate(values):
        leading = abs(n).bit_length() - 1
        implied = list(range(1, levels.BITS)) if n == 0 else list(range(2 + leading + 1, 1 + levels.EXPONENTS))
        if n:
            implied += [levels.BITS - 1 - digit for digit in range(leading, levels.EXPONENTS - 1)]
        for place in implied:
            bits[row, place] = random.randint(0, 1)
    assert torch.equal(levels.from_bits(bits), there)


@given(st.lists(st.floats(-6000, 6000, width=32), min_size=1, max_size=64), st.sampled_from([0.5, 0.6, 0.66, 1.0]))
@settings(max_examples=100, deadline=None)
def test_quantise_has_the_dead_zone_it_says(values: list[float], threshold: float) -> None:
    got = levels.quantise(torch.tensor(values), threshold).tolist()
    for value, n in zip(values, got, strict=True):
        # |y| in [|n| - 1 + t, |n| + t), up to the rounding of one float32 addition
        exact = math.floor(abs(value) + 1 - threshold)
        near = abs(abs(value) + 1 - threshold - round(abs(value) + 1 - threshold)) < 1e-3
        assert abs(n) == min(exact, levels.MAX_LEVEL) or (near and abs(abs(n) - exact) <= 1)
        assert n == 0 or (n > 0) == (value > 0)


# --- binary spherical quantization ---------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 18, 36])
def test_codes_lie_on_the_unit_sphere(bits: int) -> None:
    torch.manual_seed(0)
    code, u = bsq.quantise(torch.randn(50, bits))
    assert torch.allclose(code.norm(dim=-1), torch.ones(50), atol=1e-5)
    assert torch.allclose(u.norm(dim=-1), torch.ones(50), atol=1e-5)
    assert torch.allclose(code.abs(), torch.full_like(code, bits**-0.5), atol=1e-6)


def test_sign_of_zero_is_minus_one() -> None:
    v = torch.tensor([0.0, -0.0, 1e-30, -1e-30])
    assert bsq.to_bits(v).tolist() == [False, False, True, False]
    assert (bsq.to_code(bsq.to_bits(v)) * 2).tolist() == [-1.0, -1.0, 1.0, -1.0]


def test_gradient_goes_straight_through() -> None:
    torch.manual_seed(1)
    v = torch.randn(3, 18, requires_grad=True)
    other = v.detach().clone().requires_grad_(True)
    weight = torch.randn(3, 18)
    (bsq.quantise(v)[0] * weight).sum().backward()
    (torch.nn.functional.normalize(other, dim=-1) * weight).sum().backward()
    assert v.grad is not None
    assert other.grad is not None
    assert v.grad.abs().max() > 0
    assert torch.allclose(v.grad, other.grad, atol=1e-6)


def test_entropy_loss_rewards_certain_codes_that_are_all_used() -> None:
    torch.manual_seed(2)
    spread = bsq.to_code(torch.rand(4096, 18) > 0.5)
    collapsed = bsq.to_code(torch.ones(4096, 18, dtype=torch.bool))
    vague = torch.nn.functional.normalize(torch.randn(4096, 18), dim=-1) * 1e-3
    losses = [float(bsq.entropy_loss(u)) for u in (spread, collapsed, vague)]
    assert losses[0] == pytest.approx(-math.log(2), abs=0.01)
    assert losses[1] == pytest.approx(0, abs=0.01)
    assert losses[2] == pytest.approx(0, abs=0.01)


# --- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (8, 8), (5, 11), (9, 16)])
def test_partition_and_merge_are_inverse(h: int, w: int, shift: int) -> None:
    x = torch.randn(2, 3, h, w, 5)
    windows, grid = partition(x, shift)
    assert windows.shape == (2 * grid[0] * grid[1], 3 * 64, 5)
    assert torch.equal(merge(windows, (2, 3, h, w), grid, shift), x)
    mask = window_mask(2, 3, h, w, shift, x.device)
    own = mask.expand(-1, 1, 192, 192).diagonal(dim1=-2, dim2=-1)  # who may look at itself: all but padding
    assert int(own.sum()) == 2 * 3 * h * w


@pytest.mark.parametrize("frames", [1, 3])
def test_attention_is_the_same_with_and_without_gradients(frames: int) -> None:
    network = shaken(WindowTransformer(6, 6, 3, **SMALL))
    x, condition = torch.randn(2, frames, 5, 11, 6), torch.randn(2, 3)
    trained = network(x, condition)
    with torch.no_grad():
        torch.testing.assert_close(network(x, condition), trained.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gradients", [True, False])
def test_padding_does_not_leak(monkeypatch: pytest.MonkeyPatch, gradients: bool) -> None:
    network = shaken(WindowTransformer(6, 6, 3, **SMALL))
    x, condition = torch.randn(1, 1, 5, 11, 6), torch.randn(1, 3)
    real = torch.nn.functional.pad
    with torch.set_grad_enabled(gradients):  # chooses the kernel of attention
        clean = network(x, condition)
        monkeypatch.setattr(
            "bsqcodec.tokenizer.network.F.pad", lambda t, p: real(t, p, value=7.5 if t.shape[-1] > 1 else 0)
        )
        assert torch.equal(network(x, condition), clean)


def test_far_tokens_do_not_matter() -> None:
    """Windows of 8, shifted by 4 in every second block: two blocks see at most 11 tokens away."""
    network = shaken(WindowTransformer(6, 6, 3, **SMALL))
    x, condition = torch.randn(1, 1, 4, 40, 6), torch.randn(1, 3)
    before = network(x, condition)
    x[..., 24:, :] += 1.0
    after = network(x, condition)
    assert torch.equal(after[..., :8, :], before[..., :8, :])
    assert not torch.equal(after[..., 20:24, :], before[..., 20:24, :])


@pytest.mark.parametrize("changed", [0, 1, 3])
def test_frames_never_see_later_frames(changed: int) -> None:
    tokenizer = shaken(CausalTokenizer(CausalConfig(bits=18, **SMALL)))
    assert isinstance(tokenizer, CausalTokenizer)
    frames = torch.randint(0, 256, (1, 4, 5, 9, 96)).float()
    other = frames.clone()
    other[:, changed] = torch.randint(0, 256, other[:, changed].shape).float()
    which = torch.tensor([100])
    codes, moved = tokenizer.project(frames, which), tokenizer.project(other, which)
    assert torch.equal(codes[:, :changed], moved[:, :changed])
    assert not torch.equal(codes[:, changed], moved[:, changed])
    pixels, shifted = (tokenizer.from_levels(tokenizer.levels(x, which), which) for x in (frames, other))
    assert torch.equal(pixels[:, :changed], shifted[:, :changed])
    assert not torch.equal(pixels[:, changed:], shifted[:, changed:])
    if changed < 3:  # what comes behind does lean on it
        assert not torch.equal(codes[:, -1], moved[:, -1])


def test_quality_basis_is_a_partition_of_one() -> None:
    basis = quality_basis(torch.arange(256))
    assert torch.allclose(basis.sum(1), torch.ones(256), atol=1e-5)
    assert torch.allclose(basis[::17], torch.eye(16), atol=1e-5)


# --- the predictive tokenizer --------------------------------------------------------------------


def test_untrained_tokenizer_is_the_dct() -> None:
    """Warm start: what the design begins with is a transform codec, whose error the step bounds."""
    tokenizer = PredictiveTokenizer(PredictiveConfig(**SMALL)).eval().requires_grad_(False)
    tokenizer.decoder.offset.zero_()
    target, prediction = (transform.pack(planes(3, 4, seed)).float()[None] for seed in (1, 2))
    for index, kind in ((0, INTER), (84, 0)):
        which = torch.tensor([index]), torch.tensor([kind])
        latent = tokenizer.latents(target, prediction, *which)
        assert torch.allclose(
            latent[0] * tokenizer.steps[index] * tokenizer.scale,
            (target - prediction)[0] @ transform.dct_matrix().T,
            atol=1e-2,
        )
        n = tokenizer.levels(latent, which[1])
        back = tokenizer.reconstruct(tokenizer.decoder.dequantise(n), prediction, *which)
        worst = 0.66 * quality.step(index) * math.sqrt(64)
        assert float((back - target).abs().max()) <= worst + 1 / 16


def test_what_an_encoder_rounds_away_is_little() -> None:
    """Without gradients products may be of bfloat16; latents move by a small part of what the network corrects."""
    torch.manual_seed(3)
    tokenizer = PredictiveTokenizer(PredictiveConfig(**SMALL)).eval().requires_grad_(False)
    torch.nn.init.normal_(tokenizer.encoder.head.weight, std=0.05)
    target, prediction = (transform.pack(planes(3, 4, seed)).float()[None] for seed in (1, 2))
    which = torch.tensor([150]), torch.tensor([INTER])
    exact = tokenizer.latents(target, prediction, *which)
    with torch.inference_mode():
        rounded = tokenizer.latents(target, prediction, *which)
        again = tokenizer.latents(target, prediction, *which)
    correction = (exact - tokenizer.coefficients(target - prediction, which[0])).abs().mean()
    assert rounded.dtype == torch.float32 and torch.equal(rounded, again)
    assert correction > 0.1 and float((rounded - exact).abs().mean()) < 0.05 * float(correction)


def test_dequantise_adds_the_learned_offsets_away_from_zero() -> None:
    tokenizer = PredictiveTokenizer(PredictiveConfig(**SMALL)).eval().requires_grad_(False)
    tokenizer.decoder.offset.copy_(torch.arange(96 * 3).reshape(96, 3) / 1000)
    n = torch.tensor([0, 1, -1, 2, -2, 3, -3, 4, 4095, -4095], dtype=torch.int16)
    got = tokenizer.decoder.dequantise(n[:, None].expand(-1, 96).reshape(1, 1, 10, 96))[0, 0]
    for row, level in enumerate(n.tolist()):
        for channel in (0, 1, 50, 95):
            size = abs(level)
            offset = 0.0 if not size else float(tokenizer.decoder.offset[channel, min(size, 3) - 1])
            assert float(got[row, channel]) == pytest.approx(math.copysign(size + offset, level) if size else 0.0)


# --- scale recursion -----------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 9), (3, 5), (45, 80), (7, 2)])
def test_pyramid_sizes(h: int, w: int) -> None:
    grids = pyramid.level_grids(h, w)
    assert grids[0] == (h, w)
    assert len(grids) == pyramid.LEVELS
    for k, (rows, columns) in enumerate(grids):
        assert (rows, columns) == (-(-h // (1 << k)), -(-w // (1 << k)))
    built = pyramid.build(planes(h, w), h, w)
    for (rows, columns), frame in zip(grids, built, strict=True):
        assert [tuple(plane.shape) for plane in frame] == [(8 * rows, 8 * columns)] + [(4 * rows, 4 * columns)] * 2
    for small, large, (rows, columns) in zip(built[1:], built, grids, strict=False):
        up = pyramid.upsample(small, rows, columns)
        assert [plane.shape for plane in up] == [plane.shape for plane in large]


def test_pyramid_keeps_flat_pictures_flat() -> None:
    for value in (0, 1, 128, 255):
        frame = tuple(torch.full_like(plane, value) for plane in planes(3, 5))
        for level in pyramid.build(frame, 3, 5):
            assert all(bool((plane == value).all()) for plane in level)
        small = pyramid.build(frame, 3, 5)[1]
        assert all(bool((plane == value).all()) for plane in pyramid.upsample(small, 3, 5))
    assert all(bool((plane == 128).all()) for plane in pyramid.grey(2, 3, torch.device("cpu")))


def doubled(plane: np.ndarray) -> np.ndarray:
    """Twice the size by the definition, in Python integers: rows first, so that the order is not the room's."""
    rows, columns = plane.shape
    taps = {0: ((-2, -3), (-1, 29), (0, 111), (1, -9)), 1: ((-1, -9), (0, 111), (1, 29), (2, -3))}
    out = np.zeros((2 * rows, 2 * columns), np.uint8)
    for y, x in np.ndindex(out.shape):
        total = 0
        for dy, ty in taps[y % 2]:
            for dx, tx in taps[x % 2]:
                row = min(max(y // 2 + dy, 0), rows - 1)
                column = min(max(x // 2 + dx, 0), columns - 1)
                total += ty * tx * int(plane[row, column])
        out[y, x] = min(max((total + 8192) >> 14, 0), 255)
    return out


@pytest.mark.parametrize("seed", range(3))
def test_upsample_is_exact_integer_arithmetic(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = ((16, 24), (8, 12), (8, 12))
    frame = tuple(torch.from_numpy(rng.choice([0, 3, 128, 250, 255], s).astype(np.uint8)) for s in shapes)
    got = pyramid.upsample(frame, 3, 5)
    for plane, small, size in zip(got, frame, (8, 4, 4), strict=True):
        assert np.array_equal(plane.numpy(), doubled(small.numpy())[: 3 * size, : 5 * size])


def test_upsample_rounds_exact_halves_up() -> None:
    """Sums that lie halfway are rare (one in 16,384), so many samples, in int64 arrays."""
    plane = np.random.default_rng(0).integers(0, 256, (320, 320))
    wide = np.pad(plane, 2, mode="edge")
    taps = {0: (-3, 29, 111, -9), 1: (-9, 111, 29, -3)}
    total = np.zeros((640, 640), np.int64)
    for down, right in np.ndindex(2, 2):
        for i, ty in enumerate(taps[down]):
            for j, tx in enumerate(taps[right]):
                total[down::2, right::2] += ty * tx * wide[down + i : down + i + 320, right + j : right + j + 320]
    assert ((total % 16384) == 8192).sum() >= 5
    frame = (torch.from_numpy(plane.astype(np.uint8)),) * 3
    got = pyramid.upsample(frame, 80, 80)[0]
    assert np.array_equal(got.numpy(), np.clip((total + 8192) >> 14, 0, 255))
