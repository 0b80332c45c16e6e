"""Groups: what the encoder reconstructs is what decoders see; cuts, quality, models. Run: pytest tests/test_codec.py"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bsqcodec
from bsqcodec.codec import EncodedGroup, GroupEncoder, Model, check_model, decode_group, load_model
from bsqcodec.codec.group import to_planes
from bsqcodec.codec.model import ModelConfig, save_model
from bsqcodec.codec.settings import (
    INTER_OFFSETS,
    LOOKAHEAD,
    TAIL_OFFSETS,
    first_quality,
    inter_quality,
    intra_quality,
    is_cut,
    tail_quality,
)
from bsqcodec.container import Group, StreamHeader, StreamReader
from bsqcodec.errors import BitstreamError, DeviceError, UsageError, WeightsMismatchError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.integer.kernels import KERNEL_VARIABLE
from bsqcodec.motion import default_tables as motion_tables
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import default_tables
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.verify import frame_crc

Picture = tuple[np.ndarray, np.ndarray, np.ndarray]


def scene(number: int, width: int, height: int, seed: int = 0) -> Picture:
    """Frame `number` of a smooth texture that moves by (2, 1) pixels a frame; another seed is another scene."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.05, 0.9, (12, 2)) * rng.choice([-1, 1], (12, 2))
    phases, heights = rng.uniform(0, 6.3, 12), rng.uniform(4, 14, 12)
    y, x = np.mgrid[:height, :width]
    moved = [
        a * np.sin(fx * (x + 2 * number) + fy * (y + number) + p)
        for (fx, fy), p, a in zip(waves, phases, heights, strict=True)
    ]
    luma = np.clip(np.round(sum(moved) + 125), 0, 255).astype(np.uint8)
    small = luma[::2, ::2]
    return luma, 64 + small // 2, 255 - small // 3


def noise(number: int, width: int, height: int) -> Picture:
    rng = np.random.default_rng(number)
    half = (-(-height // 2), -(-width // 2))
    y, u, v = (rng.integers(0, 256, shape).astype(np.uint8) for shape in ((height, width), half, half))
    return y, u, v


def frames_of(pictures: list[Picture], step: int = 1) -> list[Frame]:
    return [Frame(*planes, pts=step * n, duration=step) for n, planes in enumerate(pictures)]


def encoded(model: Model, frames: list[Frame], *, crf: float = 28, keyint: int = 32) -> list[EncodedGroup]:
    height, width = frames[0].y.shape
    encoder = GroupEncoder(model, VideoInfo(width, height), crf=crf, keyint=keyint)
    groups = [group for frame in frames for group in encoder.push(frame)] + encoder.flush()
    assert encoder.frames_done == len(frames)
    assert encoder.bytes_done == sum(len(g.group.motion) + len(g.group.tokens) for g in groups)
    assert encoder.flush() == []
    return groups


def size_of(groups: list[EncodedGroup]) -> int:
    """Bytes of the coded words."""
    return sum(len(group.group.motion) + len(group.group.tokens) for group in groups)


def check_decodes(model: Model, groups: list[EncodedGroup], frames: list[Frame]) -> None:
    """Decode every group by itself, last one first, and compare with what the encoder said."""
    height, width = frames[0].y.shape
    for encoded_group in reversed(groups):
        group = encoded_group.group
        decoded = list(decode_group(model, group, VideoInfo(width, height)))
        originals = frames[group.first_frame : group.first_frame + len(decoded)]
        for original, frame, stats in zip(originals, decoded, encoded_group.frames, strict=True):
            assert frame_crc(frame) == stats.crc
            assert (frame.pts, frame.duration) == (original.pts, original.duration)
            errors = [
                int(((a.astype(int) - b) ** 2).sum())
                for a, b in zip((original.y, original.u, original.v), (frame.y, frame.u, frame.v), strict=True)
            ]
            assert errors == [stats.sse_y, stats.sse_u, stats.sse_v]


# --- the encoder's reconstruction is the decoder's output ----------------------------------------


@given(
    width=st.integers(16, 70),
    height=st.integers(16, 70),
    count=st.integers(1, 5),
    crf=st.floats(0, 51),
    keyint=st.integers(1, 4),
    rough=st.booleans(),
)
@settings(max_examples=14, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reconstruction_is_what_decoders_see(model, width, height, count, crf, keyint, rough):
    source = noise if rough else scene
    frames = frames_of([source(n, width, height) for n in range(count)], step=3)
    groups = encoded(model, frames, crf=crf, keyint=keyint)
    starts = [group.group.first_frame for group in groups]
    assert starts[0] == 0
    assert all(len(group.frames) <= keyint for group in groups)
    assert sum(len(group.frames) for group in groups) == count
    check_decodes(model, groups, frames)


@pytest.mark.parametrize(("count", "keyint", "lengths"), [(1, 32, [1]), (3, 1, [1, 1, 1]), (5, 2, [2, 2, 1])])
def test_group_lengths(model, count, keyint, lengths):
    frames = frames_of([scene(n, 24, 18) for n in range(count)])
    groups = encoded(model, frames, keyint=keyint)
    assert [len(group.frames) for group in groups] == lengths
    check_decodes(model, groups, frames)


def test_a_group_decodes_the_same_wherever_it_stands(model):
    frames = frames_of([scene(n, 34, 26) for n in range(6)])
    together = encoded(model, frames, keyint=3)[1]
    alone = encoded(model, frames[3:], keyint=3)[0]
    assert alone.group.tokens == together.group.tokens
    assert alone.group.motion == together.group.motion
    info = VideoInfo(34, 26)
    crcs = [frame_crc(frame) for frame in decode_group(model, together.group, info)]
    moved = replace(together.group, first_frame=1000)
    assert [frame_crc(frame) for frame in decode_group(model, moved, info)] == crcs


def test_decoding_is_lazy_and_frames_depend_on_the_ones_before_only(model):
    frames = frames_of([scene(n, 34, 26) for n in range(4)])
    long, short = encoded(model, frames)[0], encoded(model, frames[:2])[0]
    assert [stats.crc for stats in long.frames[:2]] == [stats.crc for stats in short.frames]
    pictures = decode_group(model, long.group, VideoInfo(34, 26))
    assert frame_crc(next(pictures)) == short.frames[0].crc


def test_bits_are_accounted_for(model):
    groups = encoded(model, frames_of([scene(n, 70, 50) for n in range(4)]))
    ideal = sum(groups[0].plane_bits.values())
    assert ideal == pytest.approx(sum(stats.bits for stats in groups[0].frames))
    assert abs(8 * size_of(groups) - ideal) <= 128 + ideal / 500
    assert groups[0].plane_bits["motion"] > 0


def test_truncated_and_foreign_words_are_an_error_or_pictures(model):
    """Behind a wrong CRC nothing may crash: words that do not fit raise BitstreamError, others give pictures."""
    group = encoded(model, frames_of([scene(n, 24, 24) for n in range(3)]))[0].group
    rng = np.random.default_rng(0)
    for seed in range(6):
        words = rng.integers(0, 1 << 32, 20 * seed, dtype=np.uint32).astype("<u4").tobytes()
        bad = replace(group, tokens=words, motion=words[:40])
        try:
            decoded = list(decode_group(model, bad, VideoInfo(24, 24)))
        except BitstreamError as error:
            assert "\n" not in str(error)
        else:
            assert [frame.y.shape for frame in decoded] == [(24, 24)] * 3


# --- quality -------------------------------------------------------------------------------------


def psnr_y(groups: list[EncodedGroup], pixels: int) -> float:
    errors = [stats.sse_y for group in groups for stats in group.frames]
    return float(np.mean([10 * np.log10(255**2 * pixels / max(error, 1)) for error in errors]))


def test_higher_crf_is_smaller_and_worse(model):
    frames = frames_of([scene(n, 96, 64, seed=3) for n in range(4)])
    coded = [encoded(model, frames, crf=crf) for crf in (8, 16, 24, 32, 40, 48)]
    sizes = [size_of(groups) for groups in coded]
    quality = [psnr_y(groups, 96 * 64) for groups in coded]
    assert all(a > b for a, b in itertools.pairwise(sizes)), sizes
    assert all(a > b for a, b in itertools.pairwise(quality)), quality
    assert quality[0] - quality[-1] > 10
    assert sizes[0] > 8 * sizes[-1]


def test_motion_is_found_and_pays(model):
    """A clip that only moves costs much less behind its first frame than the same clip of first frames."""
    frames = frames_of([scene(n, 96, 64, seed=3) for n in range(6)])
    assert size_of(encoded(model, frames, crf=24)) < 0.7 * size_of(encoded(model, frames, crf=24, keyint=1))


def test_black_frames_cost_nearly_nothing(model):
    planes = (np.full((64, 96), 16, np.uint8), *(np.full((32, 48), 128, np.uint8) for _ in range(2)))
    groups = encoded(model, frames_of([planes] * 12))
    assert len(groups) == 1
    assert sum(stats.bits for stats in groups[0].frames[1:]) / 11 / (96 * 64) < 0.01
    assert size_of(groups) < 0.05 * 12 * 96 * 64 / 8
    for stats in groups[0].frames:
        assert stats.sse_y <= 4 * 96 * 64  # off by two at most: half a step (17 / 8 = 2.1 levels of the mean) at crf 28


def test_crf_0_is_nearly_lossless(model):
    frames = frames_of([scene(n, 40, 40) for n in range(2)])
    assert psnr_y(encoded(model, frames, crf=0), 1600) > 45


def test_quality_index_of_a_crf():
    indices = [intra_quality(crf) for crf in range(52)]
    assert all(a <= b for a, b in itertools.pairwise(indices))
    assert 0 <= indices[0] < indices[-1] <= 255
    curve = [(40.0, 200.0), (20.0, 100.0), (30.0, 140.0)]
    assert [intra_quality(crf, curve) for crf in (0, 20, 25, 30, 35, 51)] == [20, 100, 120, 140, 170, 255]
    assert intra_quality(33, [(20.0, 77.0)]) == 77
    assert [inter_quality(q, t, "psnr") for q, t in ((0, 1), (30, 8), (250, 7))] == [
        INTER_OFFSETS["psnr"][1],
        30 + INTER_OFFSETS["psnr"][0],
        255,
    ]


def test_first_frames_of_short_groups_are_coarser():
    indices = [first_quality(100, frames) for frames in range(1, 40)]
    assert all(a >= b for a, b in itertools.pairwise(indices))
    assert indices[0] > 100 + max(INTER_OFFSETS["psnr"]) and indices[LOOKAHEAD:] == [100] * (39 - LOOKAHEAD)
    assert first_quality(250, 1) == 255


@pytest.mark.parametrize("tune", TAIL_OFFSETS)
def test_the_few_frames_left_at_the_end_are_coarser_still(tune):
    indices = [tail_quality(100, frames, 32, tune) for frames in range(1, 33)]
    assert all(a >= b for a, b in itertools.pairwise(indices))
    assert all(index > first_quality(100, frames) for frames, index in enumerate(indices[:6], 1))
    assert indices[6:] == [first_quality(100, frames) for frames in range(7, 33)]
    assert [tail_quality(100, frames, 4, tune) for frames in (1, 2)] == [first_quality(100, 1), first_quality(100, 2)]
    assert tail_quality(250, 1, 32, tune) == 255


def test_the_last_group_of_a_video_knows_that_it_is_short(weights, tmp_path):
    source, coded = tmp_path / "in.y4m", tmp_path / "out.bsq"
    source.write_bytes(clips.y4m_bytes(LOOKAHEAD + 4, 16, 16))
    bsqcodec.encode(source, coded, keyint=LOOKAHEAD + 2, crf=28, weights=weights, device="cpu")
    with coded.open("rb") as file:
        long, short = [group.qualities for group in StreamReader(file) if isinstance(group, Group)]
    assert len(short) == 2 and short[0] == tail_quality(long[0], 2, LOOKAHEAD + 2, "psnr")
    assert short[1] == long[1]


def test_planes_that_must_not_be_written_are_taken_without_a_warning(recwarn):
    frame = frames_of([scene(0, 16, 16)])[0]
    for plane in (frame.y, frame.u, frame.v):
        plane.flags.writeable = False
    torch.set_warn_always(True)  # else torch warns but once in a process
    try:
        planes = to_planes(frame, torch.device("cpu"))
    finally:
        torch.set_warn_always(False)
    assert not recwarn.list
    assert np.array_equal(planes[0].numpy(), frame.y)


# --- cuts ----------------------------------------------------------------------------------------


def lengths(model: Model, pictures: list[Picture]) -> list[int]:
    return [len(group.frames) for group in encoded(model, frames_of(pictures))]


def test_a_hard_cut_starts_a_group(model):
    dark = [tuple(plane // 3 for plane in scene(n, 96, 64, seed=2)) for n in range(4)]
    pictures = [scene(n, 96, 64, seed=1) for n in range(4)] + dark
    frames = frames_of(pictures)
    groups = encoded(model, frames)
    assert [len(group.frames) for group in groups] == [4, 4]
    check_decodes(model, groups, frames)


def test_what_is_no_cut_starts_none(model):
    still = [scene(0, 96, 64, seed=1)] * 6
    moving = [scene(n, 96, 64, seed=1) for n in range(6)]
    grainy = [noise(n, 96, 64) for n in range(6)]
    fade = [tuple((plane * (1 - n / 8)).astype(np.uint8) for plane in scene(0, 96, 64, seed=1)) for n in range(6)]
    for pictures in (still, moving, grainy, fade):
        assert lengths(model, pictures) == [6]


def test_the_rule_for_cuts():
    busy = torch.from_numpy(scene(0, 64, 64)[0])
    assert is_cut(busy, cost=30.0, before=3.0)
    assert not is_cut(busy, cost=30.0, before=None)  # nothing to compare with
    assert not is_cut(busy, cost=5.0, before=0.1)  # too small to matter
    assert not is_cut(busy, cost=30.0, before=20.0)  # prediction was bad before
    coarse = torch.from_numpy(noise(0, 64, 64)[0])
    assert not is_cut(coarse, cost=30.0, before=3.0)  # coding it from nothing would be dearer still


# --- through the API -----------------------------------------------------------------------------


@pytest.mark.parametrize("crf", [20, 36])
def test_reported_psnr_is_the_measured_one(weights, tmp_path, crf):
    from bsqcodec.results import psnr_of

    source = [scene(n, 50, 34) for n in range(4)]
    write_y4m(tmp_path / "in.y4m", source)
    stats = bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "out.bsq", crf=crf, weights=weights, verify=True)
    bsqcodec.decode(tmp_path / "out.bsq", tmp_path / "back.y4m", weights=weights)
    back = clips.read_y4m((tmp_path / "back.y4m").read_bytes())
    each = np.array(
        [
            [psnr_of(int(((a.astype(int) - b) ** 2).sum()), a.size) for a, b in zip(before, after, strict=True)]
            for before, after in zip(source, back, strict=True)
        ]
    ).mean(0)
    assert (stats.psnr_y, stats.psnr_u, stats.psnr_v) == pytest.approx(tuple(each), abs=0.01)
    assert stats.psnr == pytest.approx((6 * each[0] + each[1] + each[2]) / 8, abs=0.01)
    assert stats.bpp == pytest.approx((tmp_path / "out.bsq").stat().st_size * 8 / (50 * 34 * 4))


def write_y4m(path: Path, pictures: list[Picture]) -> None:
    height, width = pictures[0][0].shape
    body = b"".join(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes) for planes in pictures)
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode() + body)


def test_seeking_gives_the_frames_of_playing(weights, tmp_path):
    write_y4m(tmp_path / "in.y4m", [scene(n, 34, 26) for n in range(7)])
    bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "out.bsq", keyint=3, weights=weights)
    with bsqcodec.open(tmp_path / "out.bsq", weights=weights) as video:
        played = list(video)
        assert [frame.pts for frame in played] == [Fraction(n, 25) for n in range(7)]
        for number in (5, 0, 6, 2):
            video.seek(number)
            frame = next(iter(video))
            assert frame.index == number
            assert np.array_equal(frame.y, played[number].y)


# --- the paper's configuration -------------------------------------------------------------------


def causal_weights(path: Path, bits: int = 18) -> Path:
    """An untrained causal model as a weights file."""
    torch.manual_seed(0)
    size = {"dim": 16, "depth": 2, "heads": 2, "mlp": 24}
    tokenizer = CausalTokenizer(CausalConfig(bits=bits, **size))
    prior = PriorNetwork(
        PriorConfig(
            channels=bits, layout="signs", bands=(bits // 2, bits), signed=bits // 2, embed=8, mix=16, hidden=16, **size
        )
    )
    with torch.no_grad():
        for parameter in [*tokenizer.parameters(), *prior.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    config = ModelConfig("paper", "psnr", tokenizer.config, prior.config)
    save_model(path, config, tokenizer, prior, default_tables(), motion_tables())
    return path


@pytest.mark.parametrize("bits", [18, 36])
def test_the_papers_configuration_round_trips(tmp_path, bits):
    path = causal_weights(tmp_path / "paper.safetensors", bits)
    write_y4m(tmp_path / "in.y4m", [scene(n, 70, 37) for n in range(7)])
    stats = bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "out.bsq", keyint=3, weights=path, verify=True)
    assert (stats.frames, stats.groups) == (7, 3)
    decoded = bsqcodec.decode(tmp_path / "out.bsq", tmp_path / "back.y4m", weights=path)
    assert (decoded.frames, decoded.groups) == (7, 3)
    assert set(stats.bits) == {"motion", "tokens/sign"}
    assert stats.bits["motion"] == 0
    ideal = stats.bits["tokens/sign"] / 8
    assert ideal <= stats.bytes <= 1.01 * ideal + 700  # header, index, statistics
    with bsqcodec.open(tmp_path / "out.bsq", weights=path) as video:
        video.seek(4)  # inside the second group
        again = next(iter(video)).y
    assert np.array_equal(again, clips.read_y4m((tmp_path / "back.y4m").read_bytes())[4][0])


def test_causal_groups_decode_alone_and_to_the_encoders_pictures(tmp_path):
    model = load_model(causal_weights(tmp_path / "paper.safetensors"), device="cpu")
    frames = frames_of([scene(n, 33, 17) for n in range(5)])
    groups = encoded(model, frames, keyint=2)
    assert [len(group.frames) for group in groups] == [2, 2, 1]
    check_decodes(model, groups, frames)
    mixed = replace(groups[0].group, qualities=(10, 20))
    with pytest.raises(BitstreamError, match="one quality"):
        list(decode_group(model, mixed, VideoInfo(33, 17)))


# --- models --------------------------------------------------------------------------------------


def test_weights_describe_themselves(model, weights):
    import hashlib

    assert model.sha256 == hashlib.sha256(weights.read_bytes()).digest()
    assert ModelConfig.from_json(model.config.to_json()) == model.config
    assert model.tune in ("psnr", "ms-ssim")
    assert model.name
    assert "cpu" in model.device_note


def test_unknown_properties_of_later_versions(model):
    """What describes the file is ignored; what describes a network may change what streams mean."""
    raw = json.loads(model.config.to_json())
    raw["later"] = 2
    assert ModelConfig.from_json(json.dumps(raw)) == model.config
    for part in ("tokenizer", "prior"):
        with pytest.raises(TypeError, match="later"):
            ModelConfig.from_json(json.dumps(raw | {part: raw[part] | {"later": 1}}))


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "other", "missing"])
def test_what_is_no_weights_file(weights, tmp_path, damage):
    import safetensors.numpy

    path = tmp_path / "bad.safetensors"
    data = weights.read_bytes()
    if damage == "other":
        data = safetensors.numpy.save({"x": np.zeros(3)}, metadata={"bsqcodec": "{}"})
    elif damage != "missing":
        data = {"empty": b"", "text": b"not weights, only text", "cut": data[: len(data) // 2]}[damage]
    if damage != "missing":
        path.write_bytes(data)
    with pytest.raises(WeightsMismatchError, match="--weights") as caught:
        load_model(path, device="cpu")
    assert "\n" not in str(caught.value)


def test_other_weights_are_refused(model, tmp_path):
    header = StreamHeader(VideoInfo(16, 16), 32, "psnr", 28.0, model.sha256, model.name)
    check_model(model, header)
    other = load_model(causal_weights(tmp_path / "other.safetensors"), device="cpu")
    with pytest.raises(WeightsMismatchError, match=model.sha256.hex()[:8]):
        check_model(other, header)


def test_devices_and_kernels(weights, monkeypatch):
    for name in ("gpu", "cuda:x", "cuda:"):
        with pytest.raises(UsageError, match="cpu or cuda:N"):
            load_model(weights, device=name)
    with pytest.raises(DeviceError, match="no such GPU"):
        load_model(weights, device="cuda:99")
    with pytest.raises(UsageError, match="no weights for --tune vmaf"):
        load_model(None, tune="vmaf")
    monkeypatch.setenv(KERNEL_VARIABLE, "int4")
    with pytest.raises(UsageError, match="int8, float32"):
        load_model(weights, device="cpu")
    monkeypatch.setenv(KERNEL_VARIABLE, "float32")
    assert load_model(weights, device="cpu").tokens.ops.name == "float32"
