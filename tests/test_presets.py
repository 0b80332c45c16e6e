"""Presets: how long an encoder searches. Same decoder, smaller files; the second look at latents is what it claims."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import clips
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import bsqcodec
from bsqcodec.cli.tool import cli
from bsqcodec.codec import GroupEncoder, decode_group
from bsqcodec.codec.dissect import Observed
from bsqcodec.codec.group import to_planes
from bsqcodec.codec.predictive import PredictiveCoder
from bsqcodec.codec.settings import LEVEL_PRICES
from bsqcodec.entropy import BitEncoder
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.integer.arithmetic import Float32, exp_table
from bsqcodec.presets import PRESETS
from bsqcodec.prior.coding import Writer
from bsqcodec.tokenizer.predictive import INTER, PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.quality import step
from bsqcodec.tokenizer.refinement import refined
from bsqcodec.verify import frame_crc
from bsqcodec.video import open_video

BEE = Path(__file__).parent.parent / "benchmarks" / "data" / "bee_640x360.mp4"
SIDE, FRAMES, CRF = 64, 3, 30


@pytest.fixture(scope="module")
def pictures() -> list[Frame]:
    """A corner of a real clip."""
    with open_video(BEE) as video:
        frames = [item for item in islice(video, 20) if isinstance(item, Frame)][:FRAMES]
    left, top = 240, 120
    luma = (slice(top, top + SIDE), slice(left, left + SIDE))
    chroma = (slice(top // 2, (top + SIDE) // 2), slice(left // 2, (left + SIDE) // 2))
    cut = [(f.y[luma], f.u[chroma], f.v[chroma]) for f in frames]
    return [Frame(*(plane.copy() for plane in planes), pts=n) for n, planes in enumerate(cut)]


@pytest.fixture(scope="module")
def coded(model, pictures):
    """The groups of every preset."""
    found = {}
    for name, search in PRESETS.items():
        encoder = GroupEncoder(model, VideoInfo(SIDE, SIDE), crf=CRF, keyint=32, search=search)
        (found[name],) = [group for frame in pictures for group in encoder.push(frame)] + encoder.flush()
    return found


def test_any_decoder_reads_every_preset(model, coded):
    for group in coded.values():
        frames = list(decode_group(model, group.group, VideoInfo(SIDE, SIDE)))
        assert [frame_crc(frame) for frame in frames] == [stats.crc for stats in group.frames]
    assert len({group.group.tokens for group in coded.values()}) == len(PRESETS)
    assert len({group.group.qualities for group in coded.values()}) == 1


def cost(group) -> float:
    """What an encoder minimises: each frame's error, and its bits at the price of a first frame's level, in steps^2."""
    frames = zip(group.frames, group.group.qualities, strict=True)
    return sum(f.sse_y / step(quality) ** 2 + LEVEL_PRICES["psnr"][0] * f.bits for f, quality in frames)


def test_a_second_look_pays(coded):
    assert cost(coded["medium"]) < 0.99 * cost(coded["fast"])
    assert cost(coded["slow"]) < cost(coded["fast"])
    assert sum(f.bits for f in coded["medium"].frames) < sum(f.bits for f in coded["fast"].frames)


def test_a_second_pass_prices_each_token_by_itself(model, pictures):
    """Half of a first frame's tokens at a high price: they cost fewer bits than before, the others about as many."""
    side = SIDE // 8
    factors = np.ones((side, side), np.float32)
    factors[:, : side // 2] = 2.5
    bits = []
    for given in ((), (factors,)):
        writer = Writer(BitEncoder())
        coder = PredictiveCoder(model.tokenizer, Observed(model.tokens), side, side, model.device, factors=given)
        coder.first(writer, 120, to_planes(pictures[0], model.device))
        bits.append(coder.tokens.seen[-1][1])  # of the full size
    plain, priced = bits
    assert priced[:, : side // 2].sum() < 0.95 * plain[:, : side // 2].sum()
    assert priced[:, side // 2 :].sum() == pytest.approx(plain[:, side // 2 :].sum(), rel=0.1)


def samples(seed: int, h: int = 3, w: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, h, w, 96))).float()


@pytest.mark.parametrize(("index", "kind"), [(84, 0), (150, INTER)])
def test_of_a_linear_decoder_the_best_latents_are_the_transform(index, kind):
    """Without a correction the error is the distance of the latents, so one look ends at the transform itself."""
    tokenizer = PredictiveTokenizer(PredictiveConfig(dim=16, depth=1, heads=2, mlp=16)).requires_grad_(False)
    tokenizer.decoder.freeze(Float32(exp_table()))  # its head is zero until it is trained
    target, prediction, which = samples(1), samples(2), (torch.tensor([index]), torch.tensor([kind]))
    exact = tokenizer.analysis(target - prediction) / (tokenizer.steps[index] * tokenizer.scale)
    start = exact + torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = refined(tokenizer, start, target, prediction, *which)
    assert torch.allclose(found, exact, atol=0.1)  # samples have sixteenths


def test_presets_through_command_line_python_and_processes(weights, tmp_path):
    clip, place = tmp_path / "in.y4m", ["--device", "cpu", "--threads", "1", "--weights", str(weights)]
    clip.write_bytes(clips.y4m_bytes(3, 16, 16))
    for name in PRESETS:
        out = tmp_path / f"{name}.bsq"
        result = CliRunner().invoke(cli, ["encode", str(clip), str(out), "--preset", name, "--keyint", "2", *place])
        assert result.exit_code == 0, result.output
        bsqcodec.decode(out, tmp_path / f"{name}.y4m", weights=weights, device="cpu")
    buffer = io.BytesIO()
    with bsqcodec.Encoder(buffer, fps=25, keyint=2, preset="fast", weights=weights, device="cpu", threads=1) as encoder:
        for planes in clips.read_y4m(clip.read_bytes()):
            encoder.write(planes)
    assert len(buffer.getvalue()) == pytest.approx((tmp_path / "fast.bsq").stat().st_size, abs=40)
    bsqcodec.encode(
        clip, tmp_path / "jobs.bsq", preset="slow", keyint=2, weights=weights, device="cpu", threads=1, jobs=2
    )
    assert (tmp_path / "jobs.bsq").read_bytes() == (tmp_path / "slow.bsq").read_bytes()


def test_an_unknown_preset_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="preset 'placebo': must be one of fast, medium, slow"):
        bsqcodec.encode(BEE, tmp_path / "out.bsq", preset="placebo")
    result = CliRunner().invoke(cli, ["encode", str(BEE), str(tmp_path / "out.bsq"), "--preset", "placebo"])
    assert result.exit_code == 2 and "'placebo' is not one of 'fast', 'medium', 'slow'" in result.output


def test_the_search_grows_from_preset_to_preset():
    ranks = [(search.motion, search.looks, search.again) for search in PRESETS.values()]
    assert ranks == sorted(ranks) and len(set(ranks)) == len(ranks)
