"""`encode --cluster`: a real Ray of two workers, one killed in the middle; without Ray, one clear error."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clips
import pytest
import standin

import bsqcodec
from bsqcodec.errors import UsageError, WorkerError
from bsqcodec.parallel import cluster


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """A cluster of two CPUs on this machine, whose workers can import the tests."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
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
