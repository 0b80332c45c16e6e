"""The codec against a decoder that was written from bitstream_spec.md alone: the specification is enough, and right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_decoder
import torch

from bsqcodec.codec import GroupEncoder, decode_group, load_model
from bsqcodec.codec.model import ModelConfig, save_model
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.motion import default_tables as motion_tables
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import default_tables
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer

WIDTH, HEIGHT = 75, 41  # 10 x 6 tokens: more than one window, odd numbers of blocks
SIZES = {"dim": 16, "depth": 2, "heads": 2, "mlp": 24}
PRIOR = {**SIZES, "embed": 8, "mix": 24, "hidden": 16}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def video(frames: int) -> list[Frame]:
    """Three parts that move in different ways, and a little noise."""
    rng, out = np.random.default_rng(0), []
    for t in range(frames):
        y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
        x = np.where(x < 30, x - 1.5 * t, np.where(y < 20, x + 2.25 * t, x))
        luma = 120 + 60 * np.sin(x / 4) * np.cos(y / 5 + 0.3 * t) + rng.normal(0, 3, y.shape)
        u, v = 128 + 40 * np.sin(x[::2, ::2] / 6), 128 + 30 * np.cos(y[::2, ::2] / 4)
        out.append(Frame(*(np.rint(p).clip(0, 255).astype(np.uint8) for p in (luma, u, v)), pts=t))
    return out


def weights_file(kind: str, path: Path) -> None:
    """A model without training, every part of which has some effect."""
    torch.manual_seed(1)
    if kind == "predictive":
        config = ModelConfig("small", "psnr", PredictiveConfig(**SIZES), PriorConfig(**PRIOR))
        tokenizer = PredictiveTokenizer(config.tokenizer)
        torch.nn.init.uniform_(tokenizer.offset, -0.2, 0.1)
    else:
        prior = PriorConfig(18, "signs", (6, 12, 18), 18, **PRIOR)
        config = ModelConfig("small", "psnr", CausalConfig(18, **SIZES), prior)
        tokenizer = CausalTokenizer(config.tokenizer)
    network = PriorNetwork(config.prior)
    with torch.no_grad():
        for name, parameter in (*tokenizer.decoder.named_parameters(), *network.named_parameters()):
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
        for name, parameter in tokenizer.decoder.named_parameters():
            if name.endswith(("out.weight", "down.weight", "head.weight")):
                parameter.normal_(std=0.1)
    save_model(path, config, tokenizer, network, default_tables(), motion_tables())


@pytest.mark.parametrize(("kind", "crf"), [("predictive", 20.0), ("predictive", 36.0), ("causal", 28.0)])
def test_a_decoder_from_the_specification_decodes_our_groups(kind: str, crf: float, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    weights_file(kind, path)
    model, info, frames = load_model(path, device="cpu"), VideoInfo(WIDTH, HEIGHT), video(4)
    encoder = GroupEncoder(model, info, crf=crf, keyint=9)
    groups = [done for frame in frames for done in encoder.push(frame)] + encoder.flush()
    assert len(groups) == 1
    group = groups[0].group
    ours = list(decode_group(model, group, info))
    weights = reference_decoder.Weights(path.read_bytes())
    theirs = reference_decoder.decode_group(weights, WIDTH, HEIGHT, group.qualities, group.motion, group.tokens)
    differing = samples = 0
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip((mine.y, mine.u, mine.v), other, strict=True):
            assert a.shape == b.shape
            error = np.abs(a.astype(int) - b)
            assert error.max() <= 1  # float32 against float64; a wrong bit would be noise
            differing, samples = differing + int(error.sum()), samples + error.size
    assert differing <= samples // 2000
