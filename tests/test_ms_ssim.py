"""The tune for MS-SSIM: steps by sensitivity, the decoder's loss, prices that follow the picture, the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as library_ms_ssim
from torch import nn

from bsqcodec.codec import GroupEncoder, decode_group, load_model
from bsqcodec.codec.model import load_modules, shipped_path
from bsqcodec.codec.settings import LEVEL_PRICES, chroma_price, level_prices, visibility
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.integer.blocks import integers
from bsqcodec.metrics import compare
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.tokenizer.sensitivity import SCALE_WEIGHTS, channel_steps, sensitivity
from bsqcodec.tokenizer.transform import LUMA, channel_order, dct_matrix
from bsqcodec.training.checkpoint import load_part, load_shared
from bsqcodec.training.clips import read_clip
from bsqcodec.training.shipped import converted, write_start
from bsqcodec.training.ssim import SCALES, ms_ssim
from bsqcodec.training.tokenizer import Laplace

CLIP = Path(__file__).resolve().parent.parent / "benchmarks" / "data" / "bee_640x360.mp4"
SMALL = PredictiveConfig(dim=16, depth=1, heads=2, mlp=16)


def shown(channel: int, amplitude: float) -> torch.Tensor:
    """How much MS-SSIM a grey picture with some texture loses by one luma channel's noise in every block."""
    rng = torch.Generator().manual_seed(channel)
    texture = 128 + 12 * torch.randn(24, 24, 64, generator=rng)
    pattern = dct_matrix()[channel, :LUMA]
    noise = amplitude * torch.randn(24, 24, 1, generator=rng) * pattern
    planes = [x.reshape(24, 24, 8, 8).transpose(1, 2).reshape(1, 1, 192, 192) for x in (texture, texture + noise)]
    return 1 - library_ms_ssim(*planes, data_range=255)


def test_steps_follow_what_ms_ssim_sees() -> None:
    order = channel_order()
    steps = channel_steps(1.0)
    assert sensitivity(0, 0) == pytest.approx(sum(SCALE_WEIGHTS)) and sensitivity(7, 7) < 0.1
    assert torch.equal(channel_steps(0.0), torch.ones(96))
    assert all(steps[c] == 1 for c, i in enumerate(order) if i >= LUMA)
    low, high = order.index(1), order.index(63)
    assert steps[high] > 3 * steps[low]
    # errors as large as the steps count about the same, errors of one size do not
    assert 5 < float(shown(low, 10) / shown(high, 10))
    assert 0.3 < float(shown(low, 10 * float(steps[low])) / shown(high, 10 * float(steps[high]))) < 4


def test_the_loss_is_ms_ssim_of_its_scales() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.nn.functional.avg_pool2d(255 * torch.rand(2, 1, 400, 400, generator=rng), 2)
    y = (x + 9 * torch.randn(x.shape, generator=rng)).clamp(0, 255)
    weights = torch.tensor(SCALE_WEIGHTS[:SCALES])
    theirs = library_ms_ssim(x, y, data_range=255, size_average=False, weights=(weights / weights.sum()).tolist())
    assert ms_ssim(x[:, 0], y[:, 0]) == pytest.approx(theirs, abs=1e-5)


def test_a_converted_tokenizer_does_the_same_in_other_steps() -> None:
    torch.manual_seed(0)
    source = PredictiveTokenizer(SMALL)
    for network in (source.encoder, source.decoder):
        torch.nn.init.normal_(network.head.weight, std=0.05)
        torch.nn.init.normal_(network.head.bias, std=0.05)
    config = replace(SMALL, falloff=1.2, chroma_step=0.7)
    target = converted(source, config)
    units = channel_steps(1.2) * target.scale / source.scale
    samples, prediction = 80 + 60 * torch.rand(1, 3, 5, 96), torch.full((1, 3, 5, 96), 110.0)
    quality, kind = torch.tensor([160]), torch.tensor([4])  # a step so large that no input saturates
    # as in training: without gradients an encoder may round to bfloat16
    ours, theirs = (t.latents(samples, prediction, quality, kind).detach() for t in (target, source))
    assert torch.allclose(ours * units, theirs, atol=1e-3)
    with torch.no_grad():
        pictures = [
            tokenizer.reconstruct(latent, prediction, quality, kind)
            for tokenizer, latent in ((target, ours), (source, theirs))
        ]
    difference = (pictures[0] - pictures[1]).abs()  # the columns of the latents are rounded to other integers
    assert float(difference.max()) < 1 and float(difference.mean()) < 0.2


def test_shipped_weights_as_the_start_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / "start.pt"
    write_start(path, "psnr", PredictiveConfig(falloff=1.0), PriorConfig())
    shipped, tokenizer, prior = load_modules(shipped_path("psnr"))
    network = PriorNetwork(PriorConfig())
    load_part(network, path, "prior")
    assert all(np.array_equal(a, integers(prior)[name]) for name, a in integers(network).items())
    target = PredictiveTokenizer(PredictiveConfig(falloff=1.0))
    load_part(target, path, "tokenizer")
    assert isinstance(tokenizer, PredictiveTokenizer) and shipped.tune == "psnr"
    shipped_synthesis, synthesis = tokenizer.decoder.synthesis, target.decoder.synthesis
    assert torch.allclose(synthesis, shipped_synthesis * channel_steps(1.0))
    assert not torch.allclose(synthesis, shipped_synthesis)
    fresh = nn.ModuleDict({"tokenizer": PredictiveTokenizer(PredictiveConfig()), "laplace": Laplace()})
    load_shared(fresh, path)  # a tokenizer's training starts with a Laplace model of its own
    assert torch.equal(fresh["tokenizer"].decoder.synthesis, synthesis)
    with pytest.raises(UsageError, match="no laplace"):
        load_shared(nn.ModuleDict({"laplace": Laplace()}), path)
    with pytest.raises(UsageError, match="other sizes"):
        write_start(tmp_path / "other.pt", "psnr", SMALL, PriorConfig())


def test_prices_follow_the_variance_for_ms_ssim_only() -> None:
    luma = torch.full((16, 24), 90, dtype=torch.uint8)
    luma[:8, :8] = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8))
    for kind in range(5):
        plain, price = LEVEL_PRICES["psnr"][kind], LEVEL_PRICES["ms-ssim"][kind]
        assert torch.equal(level_prices(luma, kind, "psnr"), torch.full((2, 3), plain))
        prices = level_prices(luma, kind, "ms-ssim")
        if kind in (0, 4):
            assert prices[0, 0] > price > prices[1, 1] > 0
        else:
            assert torch.equal(prices, torch.full((2, 3), price))
    for tune in ("psnr", "ms-ssim"):
        counts = visibility(luma, tune)
        assert counts[0, 0] < 1 < counts[1, 1]


def test_chroma_costs_more_where_luma_is_fine_for_ms_ssim_only() -> None:
    prices = [chroma_price(quality, "ms-ssim") for quality in range(256)]
    assert prices == sorted(prices, reverse=True) and prices[0] == 2 and prices[-1] == 1
    assert {chroma_price(quality, "psnr") for quality in (0, 100, 255)} == {1.0}


def points(tune: str, frames: list[Frame], crfs: tuple[float, ...]) -> list[tuple[float, float]]:
    """(bytes, MS-SSIM in dB) of a clip at some crf."""
    model, info = load_model(tune=tune, device="cpu"), VideoInfo(*frames[0].y.shape[::-1])
    found = []
    for crf in crfs:
        encoder = GroupEncoder(model, info, crf=crf, keyint=32)
        groups = [g for frame in frames for g in encoder.push(frame)] + encoder.flush()
        decoded = (frame for g in groups for frame in decode_group(model, g.group, info))
        value = compare(frames, decoded, ms_ssim=True).ms_ssim
        assert value is not None
        found.append((sum(len(g.group.motion) + len(g.group.tokens) for g in groups), -10 * np.log10(1 - value)))
    return found


def test_shipped_weights_for_ms_ssim_are_the_better_ones_for_it() -> None:
    """On a clip that neither was trained on."""
    planes = [tuple(p[:192, :256] if i == 0 else p[:96, :128] for i, p in enumerate(f)) for f in read_clip(CLIP, 0, 6)]
    frames = [Frame(*(np.ascontiguousarray(p.numpy()) for p in frame), pts=i) for i, frame in enumerate(planes)]
    reference = sorted(points("psnr", frames, (24.0, 30.0, 36.0)))
    sizes, values = np.log([size for size, _ in reference]), [value for _, value in reference]
    size, value = points("ms-ssim", frames, (30.0,))[0]
    assert reference[0][0] < size < reference[-1][0]
    assert value > np.interp(np.log(size), sizes, values) + 0.3
