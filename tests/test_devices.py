"""Several GPUs for one video, pretended: the bytes of one device, a process on each, and what is refused at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import clips
import numpy as np
import pytest
import standin
import torch

import bsqcodec
from bsqcodec.codec import group
from bsqcodec.errors import DeviceError, UsageError
from bsqcodec.frames import Frame
from bsqcodec.parallel.start import Spread
from bsqcodec.parallel.tasks import Setup

TWO = "cuda:0,cuda:1"
SEEN = "BSQCODEC_TEST_SEEN"  # the folder in which workers leave their device


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return standin.standin_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@dataclass(frozen=True)
class PretendedSetup(Setup):
    """What a worker gets; its GPU is the CPU, and it notes for which one it was started."""

    def load(self):
        (Path(os.environ[SEEN]) / str(os.getpid())).write_text(self.device)
        return replace(Setup(**vars(self)), device="cpu").load()


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """GPUs 0 and 1, which are the CPU; the folder of what the workers saw."""

    def find_device(name):
        if name not in ("cuda:0", "cuda:1"):
            raise DeviceError(f"{name}: no such GPU, this machine offers 2; use --device cpu")
        return torch.device("cpu"), f"{name} (pretended)"

    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv(SEEN, str(seen))
    monkeypatch.setattr("bsqcodec.codec.model.find_device", find_device)
    monkeypatch.setattr("bsqcodec.parallel.tasks.Setup", PretendedSetup)
    return seen


def devices_of_workers(seen: Path) -> list[str]:
    found = sorted(path.read_text() for path in seen.iterdir())
    for path in seen.iterdir():
        path.unlink()
    return found


def test_each_gpu_has_a_process_and_the_bytes_are_those_of_one(tmp_path, small, two_gpus, caplog):
    source = tmp_path / "in.y4m"
    source.write_bytes(clips.y4m_bytes(6, 16, 16))
    bsqcodec.encode(source, tmp_path / "1.bsq", keyint=2, weights=small, device="cuda:1")
    bsqcodec.decode(tmp_path / "1.bsq", tmp_path / "1.y4m", weights=small, device="cuda:1")
    assert devices_of_workers(two_gpus) == []
    caplog.set_level("INFO", logger="bsqcodec")
    stats = bsqcodec.encode(source, tmp_path / "2.bsq", keyint=2, weights=small, device=TWO, verify=True)
    assert stats.groups == 3
    assert "device: cuda:0 (pretended), cuda:1 (pretended)" in caplog.messages
    assert devices_of_workers(two_gpus) == ["cuda:0", "cuda:1"]
    bsqcodec.decode(tmp_path / "2.bsq", tmp_path / "2.y4m", weights=small, device=TWO)
    assert devices_of_workers(two_gpus) == ["cuda:0", "cuda:1"]
    assert (tmp_path / "1.bsq").read_bytes() == (tmp_path / "2.bsq").read_bytes()
    assert (tmp_path / "1.y4m").read_bytes() == (tmp_path / "2.y4m").read_bytes()


@pytest.mark.parametrize(
    ("jobs", "devices"),
    [(1, ["cuda:0", "cuda:1"]), (2, ["cuda:0", "cuda:1"]), (5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"])],
)
def test_jobs_are_shared_out_in_turn_and_no_gpu_is_idle(small, two_gpus, monkeypatch, jobs, devices):
    given = []
    monkeypatch.setattr("bsqcodec.parallel.local.LocalWorkers.__init__", lambda self, setups: given.extend(setups))
    monkeypatch.setattr("bsqcodec.parallel.local.LocalWorkers.close", lambda self: None)
    monkeypatch.setattr("os.cpu_count", lambda: 11)
    spread = Spread(small, TWO, 0, jobs)
    with spread.started(spread.model("psnr")):
        pass
    assert [setup.device for setup in given] == devices
    assert {setup.threads for setup in given} == {11 // len(devices)}


@pytest.mark.parametrize("device", ["cuda:0,cuda:7", "cuda:7,cuda:0"])
def test_a_gpu_that_is_missing_is_one_error_before_any_work(tmp_path, small, two_gpus, device):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(2, 16, 16))
    (tmp_path / "in.bsq").write_bytes(standin.stream(bsqcodec.codec.load_model(small, device="cuda:0")))
    for code, src, dst in ((bsqcodec.encode, "in.y4m", "out.bsq"), (bsqcodec.decode, "in.bsq", "out.y4m")):
        with pytest.raises(DeviceError, match=r"^cuda:7: no such GPU, this machine offers 2; use --device cpu$"):
            code(tmp_path / src, tmp_path / dst, weights=small, device=device)
    assert devices_of_workers(two_gpus) == []
    assert {path.name for path in tmp_path.iterdir()} == {"in.y4m", "in.bsq", "seen"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu,cuda:0"}, "device cpu,cuda:0: only GPUs can be several, as in cuda:0,cuda:1"),
        ({"device": "cuda:0,"}, "device cuda:0,: only GPUs can be several"),
        ({"device": "cuda:1,cuda:1"}, "device cuda:1,cuda:1: names a GPU twice; for several processes on one"),
        ({"device": TWO, "cluster": "auto"}, f"device {TWO}, cluster auto: a cluster has GPUs of its own"),
        ({"device": TWO, "bitrate": "500k"}, f"device {TWO}: with a bitrate as the goal"),
        ({"device": TWO, "profile": True}, f"device {TWO}: a profile is of one process"),
    ],
)
def test_what_cannot_be_spread_is_refused(tmp_path, options, message):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(2))
    with pytest.raises(UsageError, match=f"^{message}"):
        bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "out.bsq", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.y4m"]


def test_small_previews_are_of_one_process(tmp_path, small, two_gpus):
    (tmp_path / "in.bsq").write_bytes(standin.stream(bsqcodec.codec.load_model(small, device="cuda:0")))
    with pytest.raises(UsageError, match=rf"^device {TWO}: a smaller scale is decoded by one process"):
        bsqcodec.decode(tmp_path / "in.bsq", tmp_path / "out.y4m", device=TWO, keyframes=True, scale="1/2")


def test_planes_go_to_a_gpu_from_pinned_memory(monkeypatch):
    """torch without CUDA can do neither step, so both are noted only."""
    steps = []

    def pin(plane):
        return steps.append("pin") or plane

    def to(plane, device, non_blocking=False):
        return steps.append((device, non_blocking)) or plane

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    y, u, v = (np.full(shape, 7, np.uint8) for shape in ((4, 6), (2, 3), (2, 3)))
    gpu = torch.device("cuda", 1)
    planes = group.to_planes(Frame(y[:, ::-1], u, v, 0, 1), gpu)
    assert steps == ["pin", (gpu, True)] * 3
    assert [plane.shape for plane in planes] == [(4, 6), (2, 3), (2, 3)]
