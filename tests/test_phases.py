"""First frames in phases: what predicts them, the loop that codes them, and all that looks at their tokens."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_set import FOLDER
from test_codec import frames_of, scene

from bsqcodec.codec import GroupEncoder, decode_group, load_model
from bsqcodec.codec.dissect import dissect, group_levels
from bsqcodec.codec.model import Model
from bsqcodec.codec.phases import Canvas, first_choice, prediction
from bsqcodec.codec.pyramid import upsample
from bsqcodec.codec.thumbnail import decode_thumbnail
from bsqcodec.codec.uncoded import synthesise
from bsqcodec.container import Group
from bsqcodec.errors import UsageError
from bsqcodec.frames import VideoInfo
from bsqcodec.tokenizer.phases import PhasePredictor
from bsqcodec.tokenizer.predictive import PredictiveConfig
from bsqcodec.tokenizer.transform import PHASES, pack
from bsqcodec.tokens import Tokenizer
from bsqcodec.training.loop import train
from bsqcodec.training.phases import PicturePool, phases_task

WEIGHTS = FOLDER / "phases.safetensors"
INFO = VideoInfo(88, 56)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(WEIGHTS, device="cpu")


@pytest.fixture(scope="module")
def group(model: Model) -> Group:
    encoder = GroupEncoder(model, INFO, crf=24, keyint=3)
    pushed = [encoder.push(frame) for frame in frames_of([scene(n, INFO.width, INFO.height) for n in range(3)])]
    return next(done for groups in pushed for done in groups).group


def enlarged(seed: int, h: int, w: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, h, w, 96))).float()


def test_a_phase_hangs_on_earlier_ones_alone(model: Model) -> None:
    decoder, start, quality = model.tokenizer.decoder, enlarged(1, 4, 6), torch.tensor([90])
    levels = torch.from_numpy(np.random.default_rng(2).integers(-2, 3, (4, 6, 96)).astype(np.int16))
    seen = prediction(decoder, levels, start, quality)
    for phase in range(len(PHASES)):
        other = levels.clone()
        for later in PHASES[phase:]:
            other[later[0] :: 2, later[1] :: 2] *= -1
        found = prediction(decoder, other, start, quality)
        for earlier in PHASES[: phase + 1]:
            part = np.s_[:, earlier[0] :: 2, earlier[1] :: 2]
            assert torch.equal(found[part], seen[part])
        if phase < 3:
            after = PHASES[phase + 1]
            assert not torch.equal(found[:, after[0] :: 2, after[1] :: 2], seen[:, after[0] :: 2, after[1] :: 2])


@pytest.mark.parametrize("quality", [0, 128, 255])
def test_predictions_are_whole_samples(model: Model, quality: int) -> None:
    canvas = Canvas(model.tokenizer.decoder, enlarged(3, 3, 5), torch.tensor([quality]))
    canvas.known = enlarged(4, 3, 5)
    for phase in range(4):
        samples = model.tokenizer.decoder.predicted(canvas.known, canvas.enlarged, canvas.quality, phase)
        assert torch.equal(samples, samples.round())
        part = canvas.predict(phase)
        assert part.min() >= 0 and part.max() <= 255 and torch.equal(part, part.round())


def test_a_predictor_of_nothing_says_what_was_enlarged() -> None:
    predictor = PhasePredictor(8)
    for layer in predictor.heads:
        torch.nn.init.zeros_(layer.bias)
    from bsqcodec.integer.arithmetic import Training

    start = enlarged(5, 2, 2)
    step, reciprocal = (torch.full((1, 1, 1, 1), n, dtype=torch.float64) for n in (512.0, 32768.0))
    samples = predictor(enlarged(6, 2, 2), start, 0, Training(), step, reciprocal, torch.zeros(1, 16))
    assert torch.equal(samples, start[:, ::2, ::2] * 16)


def test_the_encoder_knows_what_the_decoder_predicts(model: Model) -> None:
    planes = tuple(torch.from_numpy(p) for p in scene(0, 64, 48))
    samples, start = pack(planes).float().unsqueeze(0), enlarged(7, 6, 8)
    quality, kind = torch.tensor([100]), torch.tensor([0])
    levels, seen = first_choice(model.tokenizer, samples, start, quality, kind)
    assert torch.equal(prediction(model.tokenizer.decoder, levels, start, quality), seen)


def test_a_group_tells_all_of_its_tokens(model: Model, group: Group) -> None:
    found = group_levels(model, group, INFO)
    assert [tuple(part.shape) for part in found.coarse] == [(2, 3, 96), (1, 2, 96)]
    frames = list(decode_group(model, group, INFO))
    for planes, frame in zip(synthesise(model, found), frames, strict=True):
        assert np.array_equal(planes[0].numpy()[: INFO.height, : INFO.width], frame.y)
    parts = list(dissect(model, group, INFO))
    assert sum(part.token_bits.sum() for part in parts) == pytest.approx(8 * len(group.tokens), rel=0.05)


def test_tokens_of_other_sizes_are_refused() -> None:
    tokenizer = Tokenizer(WEIGHTS, device="cpu")
    tokens = tokenizer.encode(frames_of([scene(0, 48, 32)]), crf=30)
    assert [part.shape for part in tokens.coarse] == [(1, 2, 96), (1, 1, 96)]
    assert len(tokenizer.decode(tokens)) == 1
    with pytest.raises(UsageError, match="coarse: 3 arrays, this model needs 2"):
        tokenizer.decode(replace(tokens, coarse=(tokens.coarse[0], *tokens.coarse)))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_thumbnails_of_every_scale(model: Model, group: Group, level: int) -> None:
    full = next(decode_group(model, group, INFO)).y.astype(float)
    small = decode_thumbnail(model, group, INFO, level).y
    assert small.shape == (-(-INFO.height // 2**level), -(-INFO.width // 2**level))
    if level == 1:  # not coded: made from the full size, which is noise in places
        mean = full.reshape(INFO.height // 2, 2, INFO.width // 2, 2).mean((1, 3))
        assert np.abs(mean - small).mean() < 6


def test_damaged_filters_are_refused(tmp_path) -> None:
    import safetensors
    import safetensors.numpy

    from bsqcodec.errors import WeightsMismatchError

    with safetensors.safe_open(WEIGHTS, "np") as file:
        arrays, meta = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    arrays["decoder.phases.filters"] = arrays["decoder.phases.filters"][:, :95]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, meta))
    with pytest.raises(WeightsMismatchError, match="filters is not int16"):
        load_model(path, device="cpu")


def test_the_predictor_learns(tmp_path) -> None:
    """A few steps on recorded pictures whose quarter says nearly all: filters beat the enlargement."""
    config = PredictiveConfig(dim=16, depth=1, heads=2, mlp=24, phases=16)
    rng = np.random.default_rng(3)
    samples = []
    for _ in range(6):
        coarse = torch.from_numpy(rng.integers(0, 256, (1, 1, 30, 30))).float()
        luma = torch.nn.functional.interpolate(coarse, (160, 160), mode="bicubic")[0, 0].clamp(0, 255)
        y = luma.to(torch.uint8)
        planes = (y, y[::2, ::2].contiguous(), y[1::2, ::2].contiguous())
        small = tuple(plane[::4, ::4].contiguous() for plane in planes)
        large = upsample(upsample(small, 10, 10), 20, 20)
        sample = {"target": pack(planes), "enlarged": pack(large), "quality": 110}
        samples.append(sample | {"levels": torch.zeros(20, 20, 1)})
    (tmp_path / "pool").mkdir()
    torch.save({"samples": samples}, tmp_path / "pool" / "0.pt")
    pool = PicturePool([tmp_path / "pool"])
    train(phases_task(config, 3e-3), pool, pool, tmp_path / "out", steps=25, batch=4)
    first, *_, last = [json.loads(line)["loss"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert first == pytest.approx(1, abs=0.05) and last < 0.9 * first


def test_pictures_without_phases_are_refused(tmp_path) -> None:
    torch.save({"samples": [{"enlarged": None, "levels": torch.zeros(20, 20, 1)}]}, tmp_path / "0.pt")
    with pytest.raises(UsageError, match=r"no first frames of 20x20 tokens; make material with tokenizer\.phases set"):
        PicturePool([tmp_path])
