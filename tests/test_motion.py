"""Motion: exact compensation, block search, and coding of the vectors. Run: pytest tests/test_motion.py"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_motion import compensated

from bsqcodec.entropy import BitDecoder, BitEncoder
from bsqcodec.errors import BitstreamError
from bsqcodec.motion import (
    MotionField,
    MotionState,
    MotionTables,
    compensate,
    compensate_overlapped,
    count_statistics,
    decode_field,
    default_tables,
    empty_counts,
    encode_field,
    estimate,
    field_bits,
    regions,
    search,
    settling,
    tables_from_counts,
)
from bsqcodec.motion.compensate import CHROMA_TAPS, LUMA_TAPS, Planes
from bsqcodec.motion.matching import MERGE_BITS, SAME_BITS, Matcher
from bsqcodec.motion.overlap import WHOLE, weights
from bsqcodec.training.clips import read_clip

TABLES = default_tables()
MERGING = default_tables(merging=True)


def random_field(rng: np.random.Generator, h8: int, w8: int, limit: int, share: float = 0.3) -> MotionField:
    """Vectors without any order, and `share` of the blocks split."""
    vectors = rng.integers(-limit, limit + 1, (h8, w8, 2))
    split = rng.random(((h8 + 1) // 2, (w8 + 1) // 2)) < share
    if h8 % 2 and w8 % 2:
        split[-1, -1] = False
    whole = vectors[::2, ::2].repeat(2, 0).repeat(2, 1)[:h8, :w8]
    divided = split.repeat(2, 0).repeat(2, 1)[:h8, :w8, None]
    chosen = np.where(divided, vectors, whole).astype(np.int32)
    return MotionField(torch.from_numpy(chosen), torch.from_numpy(split))


def random_planes(rng: np.random.Generator, height: int, width: int) -> tuple[torch.Tensor, ...]:
    """Noise of full range, so that clamping happens."""
    shapes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return tuple(torch.from_numpy(rng.choice([0, 40, 200, 255], s).astype(np.uint8)) for s in shapes)


def slow_prediction(plane: np.ndarray, vectors: np.ndarray, size: int, taps: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """The definition, sample by sample, in Python integers."""
    height, width = plane.shape
    phases, first = len(taps), len(taps[0]) // 2 - 1
    out = np.zeros_like(plane)
    for y, x in np.ndindex(plane.shape):
        dx, dy = (int(v) for v in vectors[y // size, x // size])
        total = 0
        for i, ty in enumerate(taps[dy % phases]):
            for j, tx in enumerate(taps[dx % phases]):
                row = min(max(y + dy // phases + i - first, 0), height - 1)
                column = min(max(x + dx // phases + j - first, 0), width - 1)
                total += ty * tx * int(plane[row, column])
        out[y, x] = min(max((total + 2048) >> 12, 0), 255)
    return out


@pytest.mark.parametrize(("h8", "w8", "limit"), [(1, 1, 511), (2, 3, 6), (3, 2, 40), (2, 2, 511)])
def test_compensation_is_its_definition(h8: int, w8: int, limit: int) -> None:
    rng = np.random.default_rng(h8 * 10 + w8 + limit)
    planes = random_planes(rng, 8 * h8, 8 * w8)
    field = random_field(rng, h8, w8, limit, 1.0)
    predicted = compensate(planes, field)
    for got, plane, size, taps in zip(predicted, planes, (8, 4, 4), (LUMA_TAPS, CHROMA_TAPS, CHROMA_TAPS), strict=True):
        assert got.dtype == torch.uint8
        assert np.array_equal(got.numpy(), slow_prediction(plane.numpy(), field.vectors.numpy(), size, taps))


def test_filters_are_those_of_the_claim() -> None:
    for taps, largest in ((LUMA_TAPS, 112), (CHROMA_TAPS, 84)):
        assert all(sum(row) == 64 for row in taps)
        assert max(sum(abs(t) for t in row) for row in taps) == largest


@pytest.mark.parametrize(("h8", "w8", "limit"), [(1, 1, 511), (2, 3, 6), (3, 2, 40)])
def test_overlapped_compensation_is_its_definition(h8: int, w8: int, limit: int) -> None:
    rng = np.random.default_rng(h8 + 10 * w8 + limit)
    planes, field = random_planes(rng, 8 * h8, 8 * w8), random_field(rng, h8, w8, limit, 1.0)
    vectors = {(y, x): tuple(map(int, field.vectors[y, x])) for y in range(h8) for x in range(w8)}
    for got, plane, size in zip(compensate_overlapped(planes, field), planes, (8, 4, 4), strict=True):
        assert got.dtype == torch.uint8
        assert np.array_equal(got.numpy(), compensated(plane.numpy(), vectors, size, overlap=True))


def test_blocks_of_one_motion_have_nothing_to_overlap() -> None:
    planes, field = random_planes(np.random.default_rng(3), 24, 40), MotionField.zeros(3, 5)
    field.vectors[:] = torch.tensor([5, -7])
    for one, other in zip(compensate(planes, field), compensate_overlapped(planes, field), strict=True):
        assert torch.equal(one, other)


def test_overlapping_weights_leave_a_block_most_of_itself() -> None:
    for size in (8, 4):
        total = sum(weights(side, size) for side in range(4))
        assert int(total.min()) > 0 and int(total.max()) <= WHOLE // 2


@pytest.mark.parametrize("predict", [compensate, compensate_overlapped])
def test_compensation_without_motion_copies(predict) -> None:
    planes = random_planes(np.random.default_rng(1), 24, 40)
    for got, plane in zip(predict(planes, MotionField.zeros(3, 5)), planes, strict=True):
        assert torch.equal(got, plane)


@pytest.mark.parametrize("predict", [compensate, compensate_overlapped])
def test_compensation_refuses_another_size(predict) -> None:
    with pytest.raises(ValueError, match="luma plane"):
        predict(random_planes(np.random.default_rng(1), 24, 40), MotionField.zeros(3, 4))


def test_compensation_ignores_the_matmul_precision_setting() -> None:
    rng = np.random.default_rng(5)
    planes, field = random_planes(rng, 64, 64), random_field(rng, 8, 8, 60, 1.0)
    before = compensate(planes, field)
    setting = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        after = compensate(planes, field)
    finally:
        torch.set_float32_matmul_precision(setting)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def texture(rng: np.random.Generator, height: int, width: int) -> torch.Tensor:
    """Smooth random texture with detail at several scales: uint8 [height, width]."""
    total = np.zeros((height, width))
    for scale in (4, 8, 24):
        coarse = torch.from_numpy(rng.normal(size=(1, 1, height // scale + 2, width // scale + 2)))
        total += torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0, 0].numpy()
    return torch.from_numpy((128 + 35 * total).clip(0, 255).astype(np.uint8))


def as_planes(luma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chroma = torch.full((luma.shape[0] // 2, luma.shape[1] // 2), 128, dtype=torch.uint8)
    return luma.contiguous(), chroma, chroma


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = float(((a.float() - b.float()) ** 2).mean())
    return 10 * np.log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize("effort", [0, 1, 2])
@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-18, 7), (2, 1), (97, -150), (-300, 260)])
def test_search_recovers_a_known_shift(shift: tuple[int, int], effort: int) -> None:
    reference = as_planes(texture(np.random.default_rng(3), 168, 216))
    truth = MotionField.zeros(21, 27)
    truth.vectors[:] = torch.tensor(shift, dtype=torch.int32)
    current = compensate(reference, truth)
    found = estimate(current, reference, 4.0, effort=effort)
    reach = [abs(s) // 4 // 8 + 2 for s in shift]  # blocks that see beyond the frame's edge may do with less
    inner = found.vectors[reach[1] : 21 - reach[1], reach[0] : 27 - reach[0]]
    assert inner.numel() and (inner == truth.vectors[0, 0]).all()
    assert psnr(compensate(reference, found)[0], current[0]) > 24


def test_search_separates_two_motions() -> None:
    rng = np.random.default_rng(8)
    back, front = texture(rng, 128, 160), texture(rng, 128, 160)
    reference, current = back.clone(), back.roll(3, 1)
    reference[40:88, 40:88] = front[40:88, 40:88]
    current[44:92, 48:96] = front[40:88, 40:88]  # moves by (8, 4) pixels, not on the block grid
    field = estimate(as_planes(current), as_planes(reference), 4.0)
    assert field.vectors[8, 8].tolist() == [-32, -16]
    assert field.vectors[1, 8].tolist() == field.vectors[14, 12].tolist() == [-12, 0]
    assert field.split.any() and not field.split.all()


@pytest.mark.parametrize("level", [0, 16, 255])
def test_search_leaves_flat_and_still_content_alone(level: int) -> None:
    flat = as_planes(torch.full((72, 88), level, dtype=torch.uint8))
    still = as_planes(texture(np.random.default_rng(2), 72, 88))
    for planes in (flat, still):
        field = estimate(planes, planes, 8.0)
        assert not field.vectors.any() and not field.split.any() and field.cost == 0
        assert field_bits(field, None, TABLES) < 40


def test_only_blocks_with_an_error_worth_bits_are_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is worth it the search ends at whole pixels; a part of the blocks is measured as all of them."""
    rng = np.random.default_rng(8)
    back, front = texture(rng, 128, 160), texture(rng, 128, 160)
    current = back.clone()
    current[44:92, 48:96] = front[40:88, 40:88]
    field = estimate(as_planes(current), as_planes(back), 4.0)
    assert field.split.any() and (field.vectors % 4).any()
    work = Matcher(current, back, 4.0)
    blocks = torch.tensor([0, 17, 33])
    vectors = torch.from_numpy(rng.integers(-9, 9, (3, 4, 80, 2), np.int32))
    whole = work.distortions(vectors, True)
    assert torch.equal(work.part(blocks).distortions(vectors[:, :, blocks], True), whole[..., blocks])
    for floor in ("REFINE_FLOOR", "SPLIT_FLOOR"):
        monkeypatch.setattr(search, floor, 1e9)
    coarse = estimate(as_planes(current), as_planes(back), 4.0)
    assert not coarse.split.any() and not (coarse.vectors % 4).any()


@pytest.mark.parametrize("residual", [False, True])
def test_what_was_looked_at_before_is_not_looked_at_again(residual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    work = Matcher(texture(rng, 120, 152), texture(rng, 120, 152), 8.0)
    vectors, *candidates = torch.from_numpy(rng.integers(-1, 2, (7, work.h16 * work.w16, 2), np.int32))
    offered = torch.stack(candidates)  # of nine vectors: some are a block's own, many come twice
    distortion = work.distortions(vectors[None, None], residual).sum(1)[0]
    everything = work.best(offered, vectors, distortion, residual, floor=-1.0)
    blocks = torch.tensor([3, 0, 3, 8])
    some = work.distortions_of(blocks, offered[0, blocks], residual)
    assert torch.equal(some, work.distortions(offered[:1, None], residual).sum(1)[0, blocks])
    looked: list[int] = []
    look = Matcher._distortion
    monkeypatch.setattr(Matcher, "_distortion", lambda *args: looked.append(args[1].shape[-2]) or look(*args))
    assert all(map(torch.equal, work.best(offered, vectors, distortion, residual), everything))
    own = vectors.tolist()
    assert sum(looked) == sum(
        len({*map(tuple, found)} - {tuple(own[i])}) for i, found in enumerate(offered.transpose(0, 1).tolist())
    )


def test_residuals_count_as_much_as_they_are_visible() -> None:
    rng = np.random.default_rng(3)
    current, reference = texture(rng, 40, 56), texture(rng, 40, 56)  # half a block more than 2 x 3
    visible = torch.from_numpy(rng.random((5, 7), np.float32))
    plain, weighed = Matcher(current, reference, 4.0), Matcher(current, reference, 4.0, visible)
    vectors = torch.from_numpy(rng.integers(-9, 9, (2, 4, 12, 2), np.int32))
    counts = torch.zeros(6, 8)
    counts[:5, :7] = visible
    order = counts.reshape(3, 2, 4, 2).permute(1, 3, 0, 2).reshape(4, 12)
    assert torch.allclose(weighed.distortions(vectors, True), plain.distortions(vectors, True) * order)
    assert torch.equal(weighed.distortions(vectors, False), plain.distortions(vectors, False))
    one = torch.tensor([5])
    whole = weighed.distortions(vectors, True)
    assert torch.allclose(weighed.part(one).distortions(vectors[:, :, one], True), whole[..., one])


def test_any_neighbours_vector_costs_a_merge() -> None:
    still = torch.zeros(48, 48, dtype=torch.uint8)
    work = Matcher(still, still, 4.0)
    field = torch.zeros(9, 2, dtype=torch.int32)
    field[1] = torch.tensor((40, -8))  # above the one in the middle, where the other sides say 0
    candidates = torch.tensor([(0, 0), (40, -8), (40, -7)], dtype=torch.int32)[:, None].expand(3, 9, 2)
    same, merged, other = work.bits(candidates, field)[:, 4].tolist()
    assert same < merged == MERGE_BITS < other
    assert work.bits(candidates, field)[1, 1] > MERGE_BITS  # above that block is nothing, not the block itself
    work.before = candidates[2]
    assert work.bits(candidates, field)[2, 4] == SAME_BITS


@pytest.mark.parametrize("shape", [(9, 9), (10, 14), (1, 1), (3, 12)])
def test_squares_of_blocks_unite_only_where_all_in_all_is_saved(shape: tuple[int, int]) -> None:
    h16, w16 = shape
    rng = np.random.default_rng(w16)
    current, reference = (texture(rng, 16 * h16, 16 * w16) for _ in range(2))
    work = Matcher(current, reference, 20.0)
    vectors = torch.from_numpy(rng.integers(-2, 3, (h16 * w16, 2), np.int32)) * 4
    distortion = work.distortions(vectors[None, None], True).sum(1)[0]
    changed = 0
    for size, shift in ((4, 0), (4, 2), (2, 0), (2, 1)):
        squares = regions._squares(h16, w16, size, shift, work.device)
        for phase in range(4):
            before = float((distortion + work.lam * work.bits(vectors, vectors)).sum())
            found, distortion = regions._unite_phase(work, squares, phase, vectors, distortion)
            after = float((distortion + work.lam * work.bits(found, found)).sum())
            assert after < before if (found != vectors).any() else after == before
            changed += int((found != vectors).any())
            vectors = found
    assert changed >= 4 or h16 == 1
    assert torch.allclose(distortion, work.distortions(vectors[None, None], True).sum(1)[0], rtol=1e-4)


def test_united_blocks_cost_less(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = read_clip(Path(search.__file__).parents[1] / "bench" / "data" / "butterfly_640x360.mp4", 0, 3)
    reference, current = clip[0], clip[2]
    work, costs = Matcher(current[0], reference[0], 30.0), []
    for level in (search.EFFORTS[1], replace(search.EFFORTS[1], unite=False)):
        monkeypatch.setattr(search, "EFFORTS", (level,))
        field = estimate(current, reference, 30.0, effort=0)
        bits = field_bits(field, None, MERGING)
        costs.append((float(overlapped_cost(work, current, reference, field).sum()) + 30 * bits, bits))
    assert costs[0][0] < 0.995 * costs[1][0] and costs[0][1] < 0.97 * costs[1][1], costs


def overlapped_cost(work: Matcher, current: Planes, reference: Planes, field: MotionField) -> torch.Tensor:
    """What the residual of the overlapped prediction costs in each 8x8 block: [h8, w8]."""
    h8, w8 = field.shape
    error = compensate_overlapped(reference, field)[0].float() - current[0].float()
    return work.residual_cost(error.reshape(h8, 8, w8, 8).transpose(1, 2).reshape(h8, w8, 64) @ work.hadamard)


@pytest.mark.parametrize(("h8", "w8"), [(8, 10), (7, 9), (1, 1)])
def test_settling_measures_the_overlapped_prediction(h8: int, w8: int) -> None:
    rng = np.random.default_rng(h8)
    current, reference = (as_planes(texture(rng, 8 * h8, 8 * w8)) for _ in range(2))
    field = random_field(rng, h8, w8, 40)
    work = Matcher(current[0], reference[0], 8.0)
    grid = torch.zeros(2 * work.h16, 2 * work.w16, 2, dtype=torch.int32)
    grid[:h8, :w8] = field.vectors
    places = torch.arange(h8)[:, None] * 2 * work.w16 + torch.arange(w8)
    found = settling._Overlapped(work).cost(grid, places)
    assert torch.allclose(found, overlapped_cost(work, current, reference, field), rtol=0.02)  # it does not round


def test_settled_vectors_cost_less_where_blocks_overlap() -> None:
    clip = read_clip(Path(search.__file__).parents[1] / "bench" / "data" / "butterfly_640x360.mp4", 0, 3)
    frames = [(y[100:228, 200:360], u[50:114, 100:180], v[50:114, 100:180]) for y, u, v in clip]
    reference, current = (tuple(plane.contiguous() for plane in planes) for planes in (frames[0], frames[2]))
    work, costs = Matcher(current[0], reference[0], 30.0), []
    for overlap in (False, True):
        field = estimate(current, reference, 30.0, effort=2, overlap=overlap)
        costs.append(
            float(overlapped_cost(work, current, reference, field).sum()) + 30 * field_bits(field, None, MERGING)
        )
        round_trip([field], MERGING)
    assert costs[1] < 0.98 * costs[0]


def test_price_of_bits_buys_smoothness() -> None:
    rng = np.random.default_rng(4)
    clean = texture(rng, 96, 128)
    noise = torch.from_numpy(rng.normal(0, 12, (2, 96, 128)))
    noisy = [as_planes((clean + n).clamp(0, 255).to(torch.uint8)) for n in noise]
    bits = [field_bits(estimate(noisy[1], noisy[0], lam), None, TABLES) for lam in (0.0, 24.0, 96.0)]
    assert bits[0] > 1.5 * bits[1] and bits[1] > 1.5 * bits[2], bits


def test_previous_field_finds_motion_out_of_the_search_range() -> None:
    reference = as_planes(texture(np.random.default_rng(3), 64, 640))
    truth = MotionField.zeros(8, 80)
    truth.vectors[:] = torch.tensor((-508, 0), dtype=torch.int32)
    current = compensate(reference, truth)
    found = estimate(current, reference, 4.0, truth, effort=0)
    assert (found.vectors[:, 20:] == truth.vectors[0, 0]).all()


def test_cost_is_the_mean_absolute_difference() -> None:
    rng = np.random.default_rng(6)
    reference, current = as_planes(texture(rng, 40, 56)), as_planes(texture(rng, 40, 56))
    field = estimate(current, reference, 2.0)
    error = (compensate(reference, field)[0].float() - current[0].float()).abs().mean()
    assert field.cost == pytest.approx(float(error), abs=1e-4)


def round_trip(fields: list[MotionField], tables: MotionTables, adapt: bool = True) -> bytes:
    """Code fields one after the other, decode them, and compare."""
    encoder, state, previous = BitEncoder(), MotionState(tables) if adapt else None, None
    for field in fields:
        encode_field(encoder, field, previous, tables, state)
        previous = field
    words = encoder.words()
    decoder, state, previous = BitDecoder(words), MotionState(tables) if adapt else None, None
    for field in fields:
        previous = decode_field(decoder, field.shape, previous, tables, state)
        assert torch.equal(previous.vectors, field.vectors) and torch.equal(previous.split, field.split)
    return words


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0, 1, 7, 511]),
    st.booleans(),
    st.sampled_from([TABLES, MERGING]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_fields_round_trip(h8: int, w8: int, limit: int, adapt: bool, tables: MotionTables, seed: int) -> None:
    rng = np.random.default_rng(seed)
    round_trip([random_field(rng, h8, w8, limit, rng.random()) for _ in range(3)], tables, adapt)


def test_merges_make_vectors_of_any_neighbour_cheap() -> None:
    rng = np.random.default_rng(5)
    palette = torch.from_numpy(rng.integers(-200, 201, (3, 2)).astype(np.int32))
    few = palette[torch.from_numpy(rng.integers(0, 3, (20, 20)))].repeat_interleave(2, 0).repeat_interleave(2, 1)
    field = MotionField(few, torch.zeros(20, 20, dtype=torch.bool))
    assert field_bits(field, None, MERGING) < 0.85 * field_bits(field, None, TABLES)
    round_trip([field, field], MERGING)


def test_tables_know_whether_vectors_merge() -> None:
    assert MotionTables.from_arrays(MERGING.to_arrays(), merging=True).merging
    assert not MotionTables.from_arrays(MERGING.to_arrays()).merging
    with pytest.raises(ValueError, match=r"motion\.merge"):
        MotionTables.from_arrays(TABLES.to_arrays(), merging=True)


@pytest.mark.parametrize(("h8", "w8"), [(1, 300), (300, 1), (135, 240), (67, 33)])
def test_large_fields_round_trip(h8: int, w8: int) -> None:
    rng = np.random.default_rng(h8)
    fields = [random_field(rng, h8, w8, 511), random_field(rng, h8, w8, 511)]
    fields[1].vectors[:] = torch.tensor((511, -511), dtype=torch.int32)
    fields[1].split[:] = False
    round_trip([*fields, fields[0]], TABLES)


def test_coded_size_is_what_field_bits_says() -> None:
    field = random_field(np.random.default_rng(1), 31, 44, 20)
    encoder = BitEncoder()
    spent = encode_field(encoder, field, None, TABLES, None)
    assert spent == pytest.approx(field_bits(field, None, TABLES))
    assert len(encoder.words()) * 8 == pytest.approx(spent, rel=0.005, abs=64)


def test_repeated_motion_is_nearly_free() -> None:
    regions = np.random.default_rng(1).integers(-200, 201, (3, 3, 2)).repeat(10, 0).repeat(10, 1)
    field = MotionField(torch.from_numpy(regions.astype(np.int32)), torch.zeros(15, 15, dtype=torch.bool))
    first, again = field_bits(field, None, TABLES), field_bits(field, field, TABLES)
    assert again < first / 2


def test_state_learns_the_group() -> None:
    rng = np.random.default_rng(9)
    fields = [random_field(rng, 24, 24, 2, 0.0) for _ in range(6)]
    assert len(round_trip(fields, TABLES)) < 0.98 * len(round_trip(fields, TABLES, adapt=False))


def test_fitted_tables_beat_the_default_and_survive_storage() -> None:
    rng = np.random.default_rng(7)
    counts = empty_counts()
    for _ in range(20):
        count_statistics(random_field(rng, 20, 20, 3), None, counts)
    arrays = tables_from_counts(counts).to_arrays()
    tables, field = MotionTables.from_arrays(arrays), random_field(rng, 20, 20, 3)
    assert field_bits(field, None, tables) < field_bits(field, None, TABLES)
    round_trip([field], tables)


@pytest.mark.parametrize("damage", ["missing", "size", "zero", "type"])
def test_bad_tables_are_refused(damage: str) -> None:
    arrays = TABLES.to_arrays()
    good = arrays.pop("motion.split")
    if damage != "missing":
        bad = {"size": good[1:], "zero": good * 0, "type": good.astype(np.int64)}
        arrays["motion.split"] = bad[damage]
    with pytest.raises(ValueError, match=r"motion\.split"):
        MotionTables.from_arrays(arrays)


@given(st.binary(max_size=400), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=150, deadline=None)
def test_garbage_decodes_in_range_or_is_refused(data: bytes, h8: int, w8: int) -> None:
    state, previous = MotionState(TABLES), None
    try:
        decoder = BitDecoder(data[: len(data) // 4 * 4])
        for _ in range(3):
            previous = decode_field(decoder, (h8, w8), previous, TABLES, state)
            assert previous.vectors.abs().max() <= 511
    except BitstreamError:
        pass


class Ones(BitDecoder):
    """A decoder whose every bit is the same: the largest residuals there are."""

    def __init__(self, bit: dict[int, int]) -> None:
        self.bit, self.calls = bit, 0

    def decode(self, p: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.full(p.shape, self.bit.get(self.calls, 1), np.uint8)


def test_vector_out_of_range_is_a_damaged_stream() -> None:
    decoder = Ones({1: 0, 2: 0, 3: 0, 4: 0})  # neither equal, nor alternative, nor zero components
    with pytest.raises(BitstreamError, match="511"):
        decode_field(decoder, (2, 2), None, TABLES, None)


def test_invalid_fields_are_refused() -> None:
    field = MotionField.zeros(4, 4)
    field.vectors[1, 1] = 3
    with pytest.raises(ValueError, match="not split"):
        encode_field(BitEncoder(), field, None, TABLES, None)
    field = MotionField.zeros(4, 4)
    field.vectors[:] = 512
    with pytest.raises(ValueError, match="511"):
        encode_field(BitEncoder(), field, None, TABLES, None)
    with pytest.raises(ValueError, match="same"):
        encode_field(BitEncoder(), MotionField.zeros(4, 4), MotionField.zeros(4, 5), TABLES, None)
