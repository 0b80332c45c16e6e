"""`bsqcodec.Tokenizer`: frames to tokens to frames, against the file codec with the same model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bsqcodec
from bsqcodec import tokens
from bsqcodec.codec import GroupEncoder, decode_group, load_model
from bsqcodec.codec.model import ModelConfig, save_model
from bsqcodec.codec.uncoded import Keeping, NoCoder, PassThrough
from bsqcodec.container.types import MAX_GROUP_FRAMES
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.motion import default_tables as motion_tables
from bsqcodec.motion.compensate import VECTOR_LIMIT
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import default_tables
from bsqcodec.tokenizer import levels, transform
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.quality import STEP_Q8

WIDTH, HEIGHT = 70, 45  # odd: 9 x 6 tokens, 5 x 3, 3 x 2, 2 x 1
SMALL = {"dim": 16, "depth": 2, "heads": 2, "mlp": 16}
PRIOR = {**SMALL, "embed": 8, "mix": 16, "hidden": 16}
SIGNS = 18


def picture(number: int) -> Frame:
    """A blurred texture that moves 1.25 samples right and half a sample down each frame."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    x, y = columns - 1.25 * number, rows - 0.5 * number
    luma = 120 + 60 * np.sin(x / 5) * np.cos(y / 4) + 20 * np.sin((x + 2 * y) / 2.5)
    u, v = 128 + 30 * np.sin(x[::2, ::2] / 9), 128 + 20 * np.cos(y[::2, ::2] / 7)
    return Frame(*(plane.round().astype(np.uint8) for plane in (luma, u, v)), pts=number)


def build(kind: str) -> tuple[ModelConfig, PredictiveTokenizer | CausalTokenizer]:
    if kind == "predictive":
        config = ModelConfig("small", "psnr", PredictiveConfig(**SMALL), PriorConfig(**PRIOR))
        return config, PredictiveTokenizer(config.tokenizer)
    prior = PriorConfig(channels=SIGNS, layout="signs", bands=(6, 12, SIGNS), signed=SIGNS, **PRIOR)
    config = ModelConfig("small", "psnr", CausalConfig(SIGNS, **SMALL), prior)
    return config, CausalTokenizer(config.tokenizer)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The weights file of an untrained model of a kind whose networks do correct the pixels."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            torch.manual_seed(3)
            config, tokenizer = build(kind)
            for network in (tokenizer.encoder, tokenizer.decoder):
                torch.nn.init.normal_(network.head.weight, std=0.05)
            made[kind] = tmp_path_factory.mktemp(kind) / f"{kind}.safetensors"
            network = PriorNetwork(config.prior)
            save_model(made[kind], config, tokenizer, network, default_tables(), motion_tables())
        return made[kind]

    return of


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def through_the_file_codec(weights: Path, frames: list[Frame], crf: float) -> tuple[list[Frame], tuple[int, ...]]:
    """What a file would hold, decoded; and the quality indices in it."""
    model, info = load_model(weights, device="cpu"), VideoInfo(WIDTH, HEIGHT)
    encoder = GroupEncoder(model, info, crf=crf, keyint=len(frames) + 1)
    left = range(len(frames) - 1, -1, -1)
    groups = [group for frame, ahead in zip(frames, left, strict=True) for group in encoder.push(frame, ahead)]
    groups += encoder.flush()
    assert len(groups) == 1, "the frames must hold no cut"
    return list(decode_group(model, groups[0].group, info)), groups[0].group.qualities


def same_pictures(one: list[Frame], other: list[Frame]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(getattr(a, plane), getattr(b, plane)) for a, b in zip(one, other, strict=True) for plane in "yuv"
    )


@pytest.mark.parametrize("kind", ["predictive", "causal"])
@pytest.mark.parametrize(("count", "crf"), [(1, 28.0), (4, 20.5), (3, 45.0)])
def test_the_same_frames_as_through_a_file(weights, kind, count, crf) -> None:
    frames = [picture(i) for i in range(count)]
    tokenizer = bsqcodec.Tokenizer(weights(kind), device="cpu", threads=1)
    tokens = tokenizer.encode(frames, crf=crf)
    decoded = tokenizer.decode(tokens)
    expected, qualities = through_the_file_codec(weights(kind), frames, crf)
    assert tokens.qualities == qualities
    assert same_pictures(decoded, expected)
    assert [frame.pts for frame in decoded] == list(range(count))
    assert decoded[0].y.shape == (HEIGHT, WIDTH) and decoded[0].u.shape == (23, 35)


def test_predictive_tokens(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("predictive"), device="cpu")
    tokens = tokenizer.encode([picture(i) for i in range(3)], crf=16)
    assert tokenizer.name == "small"
    assert tokens.levels.shape == (3, 6, 9, 96) and tokens.levels.dtype == np.int16
    assert [part.shape for part in tokens.coarse] == [(3, 5, 96), (2, 3, 96), (1, 2, 96)]
    assert tokens.vectors.shape == (2, 6, 9, 2) and tokens.vectors.dtype == np.int16
    assert tokens.split.shape == (2, 3, 5) and tokens.split.dtype == np.bool_
    assert len(tokens.qualities) == 3 and (tokens.width, tokens.height) == (WIDTH, HEIGHT)
    assert abs(np.median(tokens.vectors[0, ..., 0]) + 5) <= 2  # 1.25 samples are 5 quarters; the reference is coarse
    assert "3 frames of 70x45" in repr(tokens)


def test_better_quality_takes_more_levels_and_comes_closer(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("predictive"), device="cpu")
    errors, spent = [], []
    for crf in (16, 28, 40):
        tokens = tokenizer.encode([picture(0), picture(1)], crf=crf)
        y = tokenizer.decode(tokens)[1].y.astype(int)
        errors.append(((y - picture(1).y) ** 2).mean())
        spent.append(np.abs(tokens.levels).sum())
    assert errors[2] > max(errors[:2])
    assert spent == sorted(spent, reverse=True) and spent[0] > spent[2]


def test_bits_are_all_of_the_levels(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("predictive"), device="cpu")
    tokens = tokenizer.encode([picture(0), picture(1)], crf=20)
    bits = tokens.bits
    assert bits.shape == (2, 6, 9, 96, 24) and bits.dtype == np.uint8 and bits.max() == 1
    assert np.array_equal(bits[..., 0] == 1, tokens.levels == 0)
    assert np.array_equal(bits[..., 1] == 1, tokens.levels > 0)
    blank = replace(tokens, levels=np.zeros_like(tokens.levels))
    assert np.array_equal(blank.with_bits(bits).levels, tokens.levels)
    assert np.abs(tokens.levels).max() >= 4  # several bit planes are in use


def test_other_bits_are_other_pictures(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("predictive"), device="cpu")
    tokens = tokenizer.encode([picture(0)], crf=20)
    bits = tokens.bits.copy()
    bits[..., 1] ^= 1  # every sign
    before, after = tokenizer.decode(tokens)[0].y, tokenizer.decode(tokens.with_bits(bits))[0].y
    assert np.mean(before != after) > 0.5


def test_packed_bits_of_the_papers_configuration(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("causal"), device="cpu")
    tokens = tokenizer.encode([picture(i) for i in range(3)])
    packed = tokens.unpacked()
    assert packed.shape == (3, 6, 9, SIGNS) and packed.dtype == np.uint8
    assert 0 < packed.mean() < 1
    again = bsqcodec.Tokens.from_bits(packed, quality=tokens.qualities[0], width=WIDTH, height=HEIGHT)
    assert np.array_equal(again.levels, tokens.levels)
    assert same_pictures(tokenizer.decode(again), tokenizer.decode(tokens))
    packed[2] ^= 1  # causal: frames before do not change
    changed = bsqcodec.Tokens.from_bits(packed, quality=tokens.qualities[0], width=WIDTH, height=HEIGHT)
    a, b = tokenizer.decode(tokens), tokenizer.decode(changed)
    assert same_pictures(a[:2], b[:2]) and not same_pictures(a, b)


@pytest.mark.parametrize("kind", ["predictive", "causal"])
def test_packed_and_unpacked_bits_are_the_tokens(weights, kind) -> None:
    tokenizer = bsqcodec.Tokenizer(weights(kind), device="cpu")
    tokens = tokenizer.encode([picture(0), picture(1)], crf=20)
    other = replace(tokens, levels=np.full_like(tokens.levels, 1 if kind == "causal" else 3))
    length = SIGNS if kind == "causal" else 96 * 24
    unpacked, packed = tokens.unpacked(), tokens.packed()
    assert unpacked.shape == (2, 6, 9, length) and set(np.unique(unpacked)) == {0, 1}
    assert packed.shape == (2, 6, 9, -(-length // 8)) and packed.dtype == np.uint8
    assert packed[0, 0, 0, 0] == int("".join(map(str, unpacked[0, 0, 0, :8])), 2)
    assert np.array_equal(other.with_unpacked(unpacked).levels, tokens.levels)
    assert np.array_equal(other.with_packed(packed).levels, tokens.levels)
    for wrong in (packed[..., 1:], packed.astype(np.int16), packed[:1]):
        with pytest.raises(UsageError, match="packed bits"):
            other.with_packed(wrong)
    for wrong in (unpacked[:1], unpacked + 2, unpacked[0]):
        with pytest.raises(UsageError, match="bits of"):
            other.with_unpacked(wrong)


def test_tokens_as_numbers(weights) -> None:
    tokens = bsqcodec.Tokenizer(weights("causal"), device="cpu").encode([picture(0), picture(1)])
    indices = tokens.indices()
    assert indices.shape == (2, 6, 9) and indices.dtype == np.int64
    assert 0 <= indices.min() and indices.max() < 2**SIGNS and len(np.unique(indices)) > 1
    assert indices[1, 2, 3] == int("".join(map(str, tokens.unpacked()[1, 2, 3])), 2)
    with pytest.raises(UsageError, match="no one number"):
        bsqcodec.Tokenizer(weights("predictive"), device="cpu").encode([picture(0)]).indices()


def test_rgb_videos_are_frames(weights) -> None:
    """numpy [T, H, W, 3], torch [T, 3, H, W] and floats of them give the same tokens."""
    tokenizer = bsqcodec.Tokenizer(weights("predictive"), device="cpu")
    rgb = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    tensor = torch.from_numpy(rgb).permute(0, 3, 1, 2)
    levels = tokenizer.encode(rgb).levels
    assert np.array_equal(tokenizer.encode(tensor).levels, levels)
    assert np.array_equal(tokenizer.encode(tensor.double() / 255).levels, levels)
    assert not np.array_equal(tokenizer.encode(255 - rgb).levels, levels)


def test_tuples_of_planes_are_frames(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("predictive"), device="cpu")
    frame = picture(0)
    assert np.array_equal(tokenizer.encode([(frame.y, frame.u, frame.v)]).levels, tokenizer.encode([frame]).levels)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "0 frames"),
        ([(np.zeros((4, 4, 3), np.uint8),) * 3], "luma of shape"),
        ([np.zeros((4, 4), np.uint8)], r"frame 0: array of uint8 \(4, 4\)"),
        ([torch.zeros(4, 4, 3, dtype=torch.uint8)], r"RGB \[3, H, W\]"),
        ([torch.zeros(3, 4, 4, dtype=torch.int32)], "floating point"),
        ([(picture(0).y, picture(0).u)], "a tuple of 2"),
        (["a name"], "str is no picture"),
        ([(picture(0).y, picture(0).u, picture(0).y)], "frame 0: planes of"),
        ([picture(0), (picture(0).y[1:], picture(0).u, picture(0).v)], "frame 1: planes of"),
        ([(picture(0).y.astype(np.uint16), picture(0).u, picture(0).v)], "must be uint8"),
    ],
)
def test_bad_frames_are_refused(weights, frames, message) -> None:
    with pytest.raises(UsageError, match=message):
        bsqcodec.Tokenizer(weights("predictive"), device="cpu").encode(frames)


@pytest.mark.parametrize("crf", [-1, 51.5, float("nan")])
def test_bad_crf_is_refused(weights, crf) -> None:
    with pytest.raises(UsageError, match=r"crf .*0\.\.51"):
        bsqcodec.Tokenizer(weights("predictive"), device="cpu").encode([picture(0)], crf=crf)


def test_inconsistent_tokens_are_refused(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("predictive"), device="cpu")
    tokens = tokenizer.encode([picture(0), picture(1)])
    for message, wrong in {
        "levels": replace(tokens, levels=tokens.levels[:, :5]),
        r"levels.*-4095\.\.4095": replace(tokens, levels=np.full_like(tokens.levels, 4096)),
        "coarse: 2 arrays": replace(tokens, coarse=tokens.coarse[1:]),
        "coarse: int16": replace(tokens, coarse=tokens.coarse[::-1]),
        "vectors": replace(tokens, vectors=tokens.vectors[:0]),
        r"vectors.*-511\.\.511": replace(tokens, vectors=np.full_like(tokens.vectors, 512)),
        "split": replace(tokens, split=tokens.split[:, 1:]),
        "qualities": replace(tokens, qualities=(0, 256)),
        "levels.*3, 6": replace(tokens, qualities=(1, 1, 1)),
    }.items():
        with pytest.raises(UsageError, match=message):
            tokenizer.decode(wrong)
    with pytest.raises(UsageError, match="levels"):
        bsqcodec.Tokenizer(weights("causal"), device="cpu").decode(replace(tokens, qualities=(9, 9)))


def test_causal_tokens_have_one_quality_and_one_bit_a_channel(weights) -> None:
    tokenizer = bsqcodec.Tokenizer(weights("causal"), device="cpu")
    tokens = tokenizer.encode([picture(0), picture(1)])
    with pytest.raises(UsageError, match="one quality"):
        tokenizer.decode(replace(tokens, qualities=(3, 4)))
    with pytest.raises(UsageError, match="amplitudes"):
        tokenizer.decode(replace(tokens, levels=2 * tokens.levels))


def test_bad_bits_are_refused(weights) -> None:
    tokens = bsqcodec.Tokenizer(weights("causal"), device="cpu").encode([picture(0)])
    for bits in (tokens.bits[..., :3], tokens.bits + 2, tokens.bits.astype(bool)):
        with pytest.raises(UsageError, match="bits of"):
            tokens.with_bits(bits)
    with pytest.raises(UsageError, match="must be"):
        bsqcodec.Tokens.from_bits(tokens.unpacked()[0], quality=1, width=WIDTH, height=HEIGHT)


def test_what_passes_through_is_unchanged() -> None:
    config, levels, nothing = PriorConfig(), torch.arange(6).reshape(1, 2, 3), torch.zeros(0)
    passing = PassThrough(config, [levels])
    keeping = Keeping(passing)
    assert keeping.config is config
    assert torch.equal(keeping.code(NoCoder(), nothing, levels + 1), levels + 1)
    assert keeping.code(NoCoder(), nothing, None) is levels
    assert [int(part.sum()) for part in keeping.seen] == [21, 15]


def test_a_coder_of_nothing_cannot_read() -> None:
    bits = np.ones(2, np.uint8)
    assert NoCoder().code("zero", bits, np.full(2, 9, np.uint16)) is bits
    with pytest.raises(ValueError, match="no stream"):
        NoCoder().code("zero", None, np.full(2, 9, np.uint16))


def test_limits_are_those_of_the_rooms() -> None:
    assert tokens.TOKEN == transform.TOKEN
    assert (tokens.MAX_LEVEL, tokens.MAX_VECTOR) == (levels.MAX_LEVEL, VECTOR_LIMIT)
    assert (tokens.MAX_QUALITY, tokens.MAX_FRAMES) == (len(STEP_Q8) - 1, MAX_GROUP_FRAMES)


def test_the_names_come_without_torch() -> None:
    code = "import sys, bsqcodec; bsqcodec.Tokenizer; bsqcodec.Tokens; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
