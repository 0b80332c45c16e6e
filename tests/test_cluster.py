"""`encode --cluster` and `bench --cluster`: a real Ray of two workers, one killed in the middle; without Ray, one clear
error. What a bench asks of Ray: test_bench_cluster.py.
"""

from __future__ import annotations

import csv
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import clips
import pytest
import standin
from bench_video import FakeCodec, textured_frames, write_ffv1

import bsqcodec
from bsqcodec.bench.codecs import Encoded, codec
from bsqcodec.bench.datasets import find_clips
from bsqcodec.bench.plan import Settings, make_plan
from bsqcodec.bench.run import run
from bsqcodec.bench.stills import Still
from bsqcodec.bench.tables import write_csv
from bsqcodec.errors import UsageError, WorkerError
from bsqcodec.parallel import cluster


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """A cluster of two CPUs on this machine, whose workers can import the tests."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        tests = Path(__file__).resolve().parent
        patch.setenv("PYTHONPATH", f"{tests}{os.pathsep}{tests.parent}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
        yield ray
        ray.shutdown()


@dataclass(frozen=True)
class Deadly:
    """A task whose worker is killed the first time it does it."""

    task: Any
    mark: Path

    def run(self, model):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.task.run(model)


@pytest.mark.slow  # a Ray takes some ten seconds to start
def test_the_file_is_the_local_one_though_a_worker_dies(ray, tmp_path, monkeypatch):
    weights = standin.standin_weights(tmp_path / "small.safetensors")
    source, mark = tmp_path / "in.y4m", tmp_path / "killed"
    source.write_bytes(clips.y4m_bytes(7, 16, 16))
    submit = cluster.RayWorkers.submit
    monkeypatch.setattr(
        cluster.RayWorkers,
        "submit",
        lambda self, task: submit(self, Deadly(task, mark) if task.first_frame == 2 else task),
    )
    seen = {}
    for name, options in (("one", {}), ("many", {"cluster": "auto"})):
        reports = seen[name] = []
        bsqcodec.encode(
            source,
            tmp_path / name,
            keyint=2,
            weights=weights,
            on_progress=lambda p, reports=reports: reports.append((p.frames, p.bytes, p.total)),
            **options,
        )
    assert mark.exists(), "no worker was killed"
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()
    assert seen["one"] == seen["many"]


@dataclass(frozen=True)
class Murderer(FakeCodec):
    """Its encoder kills the worker that started it where `armed` exists, and takes that away."""

    armed: Path = Path()

    def encode(
        self, source: Path, out: Path, quality: float, *, keyint: int, threads: int = 1, limit: int | None = None
    ) -> Encoded:
        with suppress(FileNotFoundError):  # one of those side by side
            self.armed.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
        return super().encode(source, out, quality, keyint=keyint, threads=threads, limit=limit)


def figures(path: Path) -> list[dict[str, str]]:
    """The rows of a results.csv without what no two runs have the same."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    measured = {f"{side}_{name}" for side in ("encode", "decode") for name in ("seconds", "fps", "peak_mib")}
    assert rows and all(row[name] for row in rows for name in measured)
    return [{name: value for name, value in row.items() if name not in {*measured, "made"}} for row in rows]


@pytest.mark.slow
def test_a_bench_has_the_rows_of_a_local_one_though_a_worker_dies(ray, tmp_path):
    armed, videos = tmp_path / "armed", tmp_path / "clips"
    videos.mkdir()
    for number, name in enumerate(("cat", "dog")):
        write_ffv1(videos / f"{name}.mkv", textured_frames(3, 70, 90, seed=number))
    found = find_clips(str(videos), None, frames=3, scale=(80, 64))  # so that there is something to prepare
    ours, anchor = codec("bsqcodec", device="cpu"), codec("x264")
    codecs = [ours, anchor, Murderer(armed=armed), Murderer("short", armed)]
    tasks = make_plan(found, codecs, Settings(keyint=2), {"x264": (20.0, 40.0), "bsqcodec": (30.0,)})
    stills = [Still(task, anchor) for task in tasks if task.codec == ours]
    outcomes = []
    for name, options in (("here", {"jobs": 2}), ("there", {"cluster": "auto"})):
        steps = []
        outcome = run(tasks, tmp_path / name, stills=stills, on_step=steps.append, **options)
        assert [step.done for step in steps] == list(range(1, len(tasks) + len(stills) + 1))
        write_csv(tmp_path / name / "results.csv", outcome.records)
        outcomes.append(outcome)
        if name == "here":
            armed.touch()
    assert not armed.exists(), "no worker was killed"
    here, there = outcomes
    assert len(here.records) == 8 and len(here.failures) == 2
    assert figures(tmp_path / "here" / "results.csv") == figures(tmp_path / "there" / "results.csv")
    assert sorted(here.failures) == sorted(there.failures)
    assert all(still.finished(tmp_path / "there") for still in stills)
    assert not list(Path(tempfile.gettempdir()).glob("bsqcodec-bench-*"))


def test_without_ray_one_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(2))
    with pytest.raises(WorkerError, match=r"^--cluster needs Ray, .*pip install 'bsqcodec\[ray\]'$"):
        bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "out.bsq", cluster="auto")
    assert [path.name for path in tmp_path.iterdir()] == ["in.y4m"]


def test_jobs_and_cluster_contradict_each_other(tmp_path):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(2))
    with pytest.raises(UsageError, match="jobs 2, cluster auto: contradict each other"):
        bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "out.bsq", jobs=2, cluster="auto")


def test_termination_is_still_told_in_our_way(monkeypatch):
    def init(**_options):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def ours(_signal, _frame):
        raise AssertionError

    fake = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", fake)
    before = signal.signal(signal.SIGTERM, ours)
    try:
        assert cluster.connect("auto") == (fake, True)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
