"""Training: both kinds of model end to end on small clips, resume, determinism, calibration, and what is refused."""

from __future__ import annotations

import itertools
import json
import logging
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import bsqcodec
from bsqcodec.cli.tool import cli
from bsqcodec.codec import load_model
from bsqcodec.codec.causal import _features
from bsqcodec.codec.settings import intra_quality
from bsqcodec.errors import UsageError, VideoError
from bsqcodec.frames import Frame
from bsqcodec.prior.network import PriorNetwork
from bsqcodec.prior.tables import fit_tables
from bsqcodec.training import checkpoint, loop, run
from bsqcodec.training.calibrate import (
    KNOTS,
    Calibration,
    calibrate,
    complete,
    index_value,
    solve,
    with_curve,
    x264_value,
)
from bsqcodec.training.causal import QUALITY, CausalLoss, ClipPool, CodePool, Cutting, causal_loss, causal_shard
from bsqcodec.training.clips import Excerpts, find_sources, scene, split_clips, steady_excerpts
from bsqcodec.training.config import read_config
from bsqcodec.training.export import fit_material
from bsqcodec.training.generate import fill, missing, shard_path
from bsqcodec.training.pool import Pool
from bsqcodec.training.prior import prior_features

CONFIGS = Path(bsqcodec.__file__).parent / "training" / "configs"
TINY = CONFIGS / "tiny.toml"
CAUSAL = """
name = "small"
kind = "causal"
compile = false
threads = 1
[tokenizer]
bits = 18
dim = 32
depth = 1
heads = 2
mlp = 64
[prior]
dim = 16
depth = 1
heads = 2
mlp = 32
embed = 8
mix = 32
hidden = 32
[[stages]]
do = "material"
name = "clips"
shards = 1
samples = 12
lengths = [2]
crop = 6
processes = 1
[[stages]]
do = "tokenizer"
name = "tokenizer"
pools = ["clips"]
steps = 60
batch = 4
rate = 4e-3
[[stages]]
do = "prior"
name = "prior"
pools = ["clips"]
steps = 30
batch = 4
rate = 4e-3
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The exports are the same bytes only with the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def texture(number: int) -> list[np.ndarray]:
    """Six luma pictures [48, 64] of blocks that move."""
    blocks = np.random.default_rng(number).integers(30, 220, (20, 24))
    wide = np.kron(blocks, np.ones((6, 6)))
    return [np.roll(wide, (t * (number + 1), 2 * t), (0, 1))[:48, :64].astype(np.uint8) for t in range(6)]


def write_clip(path: Path, pictures: list[np.ndarray]) -> None:
    """FFV1 video whose chroma follows its luma."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = pictures[0].shape
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = columns, rows, "yuv420p"
        for t, y in enumerate(pictures):
            half = y[::2, ::2] // 8
            packed = np.concatenate([y.ravel(), (120 + half).ravel(), (140 - half).ravel()])
            frame = av.VideoFrame.from_ndarray(packed.reshape(rows * 3 // 2, columns), format="yuv420p")
            frame.pts = t
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder of three clips: two scenes train, one validates."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(3):
        write_clip(folder / f"clip{number}.mkv", texture(number))
    return folder


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory) -> Path:
    """The outcome of the tiny config."""
    out = tmp_path_factory.mktemp("trained")
    run(TINY, clips, out, resume=False)
    return out


@pytest.fixture(scope="module")
def causal(clips, tmp_path_factory) -> Path:
    """The outcome of a small causal config."""
    out = tmp_path_factory.mktemp("causal")
    (out / "causal.toml").write_text(CAUSAL)
    run(out / "causal.toml", clips, out / "run", resume=False)
    return out / "run"


def figures(folder: Path, name: str) -> list[float]:
    """A figure on the validation batches: before training and at its end."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0
    return [lines[0][name], lines[-1][name]]


def round_trip(weights: Path, clip: Path, folder: Path, crf: float) -> tuple[float, int]:
    """Encode, verify and decode through the files; mean PSNR in dB and bytes."""
    stream = folder / "a.bsq"
    stats = bsqcodec.encode(clip, stream, crf=crf, weights=weights, verify=True, overwrite=True, device="cpu")
    done = bsqcodec.decode(stream, folder / "a.y4m", weights=weights, overwrite=True, device="cpu")
    assert done.frames == stats.frames == 6
    return stats.psnr, stats.bytes


# --- both kinds, end to end ----------------------------------------------------------------------


def test_predictive_training_learns(trained):
    before, after = figures(trained / "tokenizer", "logcost")
    assert after < before - 0.1
    before, after = figures(trained / "prior-start", "bits")
    assert after < 0.95 * before
    before, after = figures(trained / "prior", "bits")
    assert after < 0.95 * before


def test_predictive_weights_code_a_file(trained, clips, tmp_path):
    weights = trained / "tiny.safetensors"
    fine, _ = round_trip(weights, clips / "clip0.mkv", tmp_path, crf=16)
    coarse, _ = round_trip(weights, clips / "clip0.mkv", tmp_path, crf=40)
    assert fine > 40 and fine > coarse + 8
    assert load_model(weights, device="cpu").name == "tiny"


def test_trained_material_is_made_with_the_trained_weights(trained):
    def levels(stage: str) -> float:
        shards = [checkpoint.read(path)["samples"] for path in (trained / stage).glob("*.pt")]
        return float(np.mean([(s["levels"] != 0).float().mean() for shard in shards for s in shard]))

    assert levels("trained") < levels("start")  # choice at the prior's price zeroes some


def test_causal_training_learns(causal):
    before, after = figures(causal / "tokenizer", "error")
    assert after < 0.5 * before
    before, after = figures(causal / "tokenizer", "cost")
    assert after < before
    before, after = figures(causal / "prior", "bits")
    assert after < 0.95 * before


def test_causal_weights_code_a_file_at_one_quality(causal, clips, tmp_path):
    results = [round_trip(causal / "small.safetensors", clips / "clip0.mkv", tmp_path, crf) for crf in (5, 45)]
    assert results[0] == results[1]
    assert results[0][0] > 12


def test_causal_prior_learns_from_the_features_the_codec_gives_it(causal):
    model = load_model(causal / "small.safetensors", device="cpu")
    pool = CodePool(ClipPool([causal / "clips"]), model.tokenizer)
    batch = pool.batch(6, random.Random(3))
    positions = [bool(extra[..., 16].any()) for extra in batch.extra]  # the flag of first frames
    assert set(positions) == {False, True}
    features = prior_features(batch, PriorNetwork(model.config.prior))
    for i, first in enumerate(positions):
        before = None if first else batch.reference[i].to(torch.int16)
        told = _features(model, before, batch.levels[i].to(torch.int16), 0 if first else 1, QUALITY)
        assert torch.equal(features[i], told)


def test_causal_loss_prices_certainty(causal):
    tokenizer = load_model(causal / "small.safetensors", device="cpu").tokenizer
    clips = ClipPool([causal / "clips"]).batch(2, random.Random(0))
    parts = [causal_loss(clips, tokenizer, CausalLoss(weight))[1] for weight in (0.01, 1.0)]
    assert parts[0]["error"] == parts[1]["error"]
    assert parts[1]["cost"] - parts[0]["cost"] == pytest.approx(0.99 * parts[0]["entropy"], abs=1e-5)


# --- resume and determinism ----------------------------------------------------------------------


def test_killed_and_interrupted_training_ends_in_the_same_bytes(trained, clips, tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "bsqcodec", "train"]
    options = ["--config", str(TINY), "--data", str(clips), "--out", str(out)]
    child = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("start/*.pt")) and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert list(out.glob("start/*.pt")) and not (out / "tiny.safetensors").exists()

    whole = loop._step
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)  # every step
    monkeypatch.setattr(loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(TINY, clips, out, resume=True)
    assert 0 < checkpoint.steps_done(out / "tokenizer" / checkpoint.NAME) < 20
    monkeypatch.undo()
    run(TINY, clips, out, resume=True)
    assert (out / "tiny.safetensors").read_bytes() == (trained / "tiny.safetensors").read_bytes()
    assert not list(out.rglob("*.part"))


def test_complete_stages_are_skipped(trained, clips):
    files = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    run(TINY, clips, trained, resume=True)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()} == files


def test_shards_are_the_same_whoever_makes_them(clips, tmp_path):
    make = partial(causal_shard, Cutting(samples=4, lengths=(2,), crop=4), find_sources(clips, False))
    fill(tmp_path / "one", 3, 7, make, 1)
    fill(tmp_path / "two", 3, 7, make, 2)
    for index in range(3):
        one, two = (checkpoint.read(shard_path(tmp_path / name, 7, index))["clips"] for name in ("one", "two"))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0], checkpoint.read(shard_path(tmp_path / "one", 7, 0))["clips"][0])
    shard_path(tmp_path / "one", 7, 1).unlink()
    assert missing(tmp_path / "one", 3, 7) == [1]


def test_learning_rate_warms_up_and_falls():
    rates = [loop.schedule(step, 1000) for step in range(1000)]
    assert rates[0] < 0.02 and max(rates) == rates[100 - 1] > 0.95
    assert rates[-1] == pytest.approx(loop.FINAL, abs=1e-4)
    assert all(a <= b for a, b in itertools.pairwise(rates[:100]))
    assert all(a >= b for a, b in itertools.pairwise(rates[99:]))


# --- the data folder -----------------------------------------------------------------------------


def test_splits_are_by_scene_and_leave_the_demo_out(tmp_path):
    for number in range(30):
        for part in range(2):
            (tmp_path / f"s{number:02d}-{part}.mp4").touch()
    before = split_clips(tmp_path, True)
    for part in range(2):
        (tmp_path / f"bee-{part}.mp4").touch()
    training, validation = (split_clips(tmp_path, split) for split in (False, True))
    assert len(training) + len(validation) == 60
    assert not {scene(p) for p in training} & {scene(p) for p in validation}
    assert "bee" not in {scene(p) for p in training + validation}
    assert before and validation  # 'bee' sorts first and moves the places, never into a split


def test_folder_layout(clips, tmp_path):
    write_clip(tmp_path / "train" / "a.mkv", texture(0))
    write_clip(tmp_path / "photos" / "b.mkv", texture(1)[:1])
    write_clip(tmp_path / "test" / "c.mkv", texture(2))
    sources = find_sources(tmp_path, False)
    assert [s.share for s in sources] == [0.75, 0.10]
    assert [p.name for s in sources for p in s.clips] == ["a.mkv", "b.mkv"]
    assert [p.name for s in find_sources(clips, False) for p in s.clips] == ["clip0.mkv", "clip1.mkv"]
    assert [p.name for s in find_sources(clips, True) for p in s.clips] == ["clip2.mkv"]


def test_unreadable_clips_are_left_out_with_a_note(clips, tmp_path, caplog):
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 50)
    write_clip(tmp_path / "good.mkv", texture(0))
    sources = find_sources(tmp_path, False) + find_sources(tmp_path, True)
    excerpts = Excerpts(sources, random.Random(0))
    with caplog.at_level(logging.WARNING, "bsqcodec"):
        drawn = [excerpts.draw((3,)) for _ in range(8)]
    assert all(len(frames) <= 3 and frames[0][0].shape == (48, 64) for frames in drawn)
    (note,) = caplog.messages
    assert "broken.mp4" in note and "left out" in note and "\n" not in note
    (tmp_path / "good.mkv").unlink()
    with pytest.raises(VideoError, match="none of the training clips"):
        Excerpts(find_sources(tmp_path, False), random.Random(0)).draw((3,))


# --- being told no -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 1", "sede = 1", "sede: unknown; known are name"),
        ("seed = 1", 'seed = "1"', "seed = '1': must be of type int"),
        ("seed = 1", "seed = -1", "seed = -1: must be 0 or more"),
        ('name = "tiny"\n', "", "needs 'name'"),
        ('name = "tiny"', 'name = "../tiny"', "must be letters"),
        ('kind = "predictive"', 'kind = "diffusion"', "must be one of predictive, causal"),
        ("[tokenizer]", "[tokenizer]\nbits = 36", "tokenizer.bits: unknown"),
        ("[prior]", "[prior]\nchannels = 3", "prior.channels: follows from the tokenizer"),
        ("[prior]", "[prior]\nbands = [8, 4, 96]", "must rise and end at 96"),
        ("mix = 32", "mix = 2000", "at most 1024 sum exactly"),
        ("heads = 2", "heads = 3", "must be a multiple of"),
        ("lengths = [3]", "lengths = []", "must be a list that is not empty"),
        ("steps = 20", "steps = 0", "stages[1].steps = 0: must be above 0"),
        ("rate = 1e-3", "rate = nan", "must be above 0"),
        ('do = "prior"', 'do = "posterior"', "must be one of weights, material, tokenizer, decoder, phases, prior"),
        ("[[stages]]", '[[stages]]\ndo = "weights"\nname = "w"\ntune = "vmaf"\n[[stages]]', "one of psnr, ms-ssim"),
        ('pools = ["start"]', 'pools = ["trained"]', "needs a material stage 'trained' before it"),
        ('start = "prior-start"', 'start = "tokenizer"', "needs a prior stage 'tokenizer' before it"),
        ('prices = "prior-start"', 'prices = "prior"', "needs a prior stage 'prior' before it"),
        ('name = "trained"', 'name = "start"', "that no other stage has"),
        ("seed = 1", "seed = 1 =", "not TOML"),
        ("seed = 1", "seed = 1\n[loss]", "only a causal tokenizer"),
    ],
)
def test_bad_configs_are_named_in_one_line(tmp_path, old, new, message):
    text = TINY.read_text()
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new, 1) if "[loss]" not in new else text + "\n[loss]\nentropy_weight = 0.1\n")
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_needs_all_parts(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text('name = "x"\n[[stages]]\ndo = "material"\nname = "m"\n')
    with pytest.raises(UsageError, match="none with do = 'tokenizer'"):
        read_config(path)


@pytest.mark.parametrize("name", ["release", "paper", "tiny"])
def test_shipped_configs_are_valid(name):
    plan = read_config(CONFIGS / f"{name}.toml")
    assert plan.compile == (name != "tiny")
    assert plan.prior.channels == (96 if plan.kind == "predictive" else 36)


def test_command_says_what_is_wrong_in_one_line(clips, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.toml").write_text(TINY.read_text() + "\n# changed\n")
    cases = [
        (tmp_path / "gone.toml", clips, tmp_path / "out", [], "gone.toml"),
        (TINY, tmp_path / "empty", tmp_path / "out", [], "no videos or photographs"),
        (TINY, clips, trained, [], "go on with --resume"),
        (tmp_path / "other.toml", clips, trained, ["--resume"], "another config"),
    ]
    for config, data, out, more, message in cases:
        options = ["train", "--config", str(config), "--data", str(data), "--out", str(out), *more]
        result = CliRunner().invoke(cli, options)
        assert result.exit_code == 2
        assert message in result.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_do_not_fit_are_named(trained, tmp_path):
    network = PriorNetwork(read_config(CONFIGS / "release.toml").prior)
    with pytest.raises(UsageError, match="does not fit this prior"):
        checkpoint.load_part(network, trained / "prior" / checkpoint.NAME, "prior")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(UsageError, match="not a checkpoint"):
        checkpoint.read(tmp_path / "junk.pt")
    with pytest.raises(UsageError, match="cannot read the checkpoint"):
        checkpoint.read(tmp_path / "gone.pt")
    with pytest.raises(UsageError, match="no shards"):
        Pool([tmp_path / "gone"])


# --- export and calibration ----------------------------------------------------------------------


def test_tables_come_from_the_material(trained):
    tables, motion = fit_material([trained / "trained"], merging=False)
    merging = fit_material([trained / "trained"], merging=True)[1]
    assert set(merging.probabilities) - set(motion.probabilities) == {"merge"} and merging.merging
    shards = [checkpoint.read(path) for path in sorted((trained / "trained").glob("*.pt"))]
    levels = np.concatenate([s["levels"].numpy().ravel() for shard in shards for s in shard["samples"]])
    expected = fit_tables(levels)
    assert np.array_equal(tables.exponent, expected.exponent) and np.array_equal(tables.mantissa, expected.mantissa)
    shipped = load_model(trained / "tiny.safetensors", device="cpu")
    assert np.array_equal(shipped.tokens.tables.exponent, expected.exponent)
    assert all(np.array_equal(shipped.motion.probabilities[k], p) for k, p in motion.probabilities.items())


def test_solve_inverts_a_falling_measure():
    def psnr(index: int) -> float:
        return 62 - 0.17 * index + 3 * np.sin(index / 40)

    wanted = [51.0 - 0.72 * crf for crf in KNOTS]
    curve = solve(wanted, psnr)
    assert [crf for crf, _ in curve] == list(KNOTS)
    for (_, index), value in zip(curve, wanted, strict=True):
        assert psnr(index) == pytest.approx(value, abs=0.1)  # type: ignore[arg-type]
    whole = complete(curve)
    indices = [intra_quality(crf, whole) for crf in range(52)]
    assert whole[0][0] == 0 and whole[-1][0] == 51
    assert indices == sorted(indices) and 0 <= indices[0] < indices[-1] <= 255


def test_calibrated_crf_gives_the_psnr_of_x264(trained, clips, tmp_path):
    weights, out = trained / "tiny.safetensors", tmp_path / "calibrated.safetensors"
    model = load_model(weights, device="cpu")
    with_curve(weights, calibrate(model, clips, Calibration(clips=2, frames=4, side=48)), out)
    calibrated = load_model(out, device="cpu")
    assert len(calibrated.config.crf_curve) == len(KNOTS) + 2 and calibrated.sha256 != model.sha256
    state = calibrated.tokenizer.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.tokenizer.state_dict().items())
    (excerpt,) = (
        [Frame(*(p.numpy().copy() for p in planes), i) for i, planes in enumerate(clip)]
        for clip in steady_excerpts(find_sources(clips, True), 2, 4, 48)
    )
    for crf in (20, 32):
        ours = index_value(calibrated, excerpt, intra_quality(crf, calibrated.config.crf_curve))
        assert ours == pytest.approx(x264_value(excerpt, crf, "psnr"), abs=0.6)


def test_x264_and_index_run_the_same_way(trained):
    frames = [Frame(y, y[::2, ::2].copy(), y[::2, ::2].copy(), t) for t, y in enumerate(texture(4))]
    model = load_model(trained / "tiny.safetensors", device="cpu")
    for values in (
        [x264_value(frames, crf, "psnr") for crf in (16, 28, 40)],
        [index_value(model, frames, index) for index in (60, 130, 200)],
    ):
        assert values == sorted(values, reverse=True) and values[0] > values[-1] + 6


def test_calibration_refuses_what_has_no_curve(trained, causal, clips):
    with pytest.raises(UsageError, match="one quality"):
        calibrate(load_model(causal / "small.safetensors", device="cpu"), clips, Calibration())
    with pytest.raises(UsageError, match="no clip of 60 frames"):
        calibrate(load_model(trained / "tiny.safetensors", device="cpu"), clips, Calibration(frames=60))
