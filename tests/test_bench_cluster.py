"""`bench --cluster` with a pretended Ray, whose workers are this process: what comes back, deaths, machines that lack
files, the command. A real one: test_cluster.py.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from bench_video import FakeCodec, textured_frames, write_ffv1
from click.testing import CliRunner

from bsqcodec.bench import cluster
from bsqcodec.bench.codecs import codec
from bsqcodec.bench.datasets import find_clips
from bsqcodec.bench.plan import Settings, Task, write_record
from bsqcodec.bench.run import Step, run
from bsqcodec.bench.stills import Still
from bsqcodec.cli.tool import cli
from bsqcodec.errors import VideoError, WorkerError

PSNR = Settings(keyint=4, metrics=("psnr",))


class RayError(Exception):
    pass


class WorkerCrashedError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__("a long account\nof where")
        self.cause = cause


@dataclass
class FakeRay:
    """Does each task in this process when it is waited for, the newest first.

    deaths: how many workers die at it, by the task's name; raised: what a task raises, by name. What was asked of it:
    options by name; tries and cancelled: names of tasks; swept: what was done on which machine; ended: how often it
    was shut down.
    """

    deaths: dict[str, int] = field(default_factory=dict)
    raised: dict[str, Exception] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    tries: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)
    ended: int = 0

    def module(self) -> ModuleType:
        made = ModuleType("ray")
        none = type("NeverError", (RayError,), {})
        kinds = {"RayError": RayError, "WorkerCrashedError": WorkerCrashedError}
        kinds |= dict.fromkeys(("NodeDiedError", "OutOfMemoryError", "ObjectLostError"), none)
        names = {name: getattr(self, name) for name in ("init", "remote", "wait", "get", "cancel", "nodes", "shutdown")}
        vars(made).update(names, is_initialized=lambda: False, exceptions=SimpleNamespace(**kinds))
        return made

    def init(self, **_options: Any) -> None:
        pass

    def nodes(self) -> list[dict[str, Any]]:
        alive = {"NodeID": "a", "Alive": True, "Resources": {"CPU": 2.0}}
        return [alive, {"NodeID": "b", "Alive": False, "Resources": {}}]

    def remote(self, **options: Any) -> Any:
        def of(work: Any) -> SimpleNamespace:
            def submit(*args: Any) -> Any:
                if "scheduling_strategy" in options:
                    self.swept.append(f"{work.__name__} on {options['scheduling_strategy']}")
                    return work(*args)
                reference = Reference(cluster.name_of(args[0].job), lambda: work(*args))
                self.options[reference.name] = options
                return reference

            return SimpleNamespace(remote=submit)

        return of

    def wait(self, references: list[Any], *, num_returns: int, timeout: float | None = None) -> tuple[list[Any], Any]:
        return references[-num_returns:], []

    def get(self, reference: Reference) -> Any:
        self.tries.append(reference.name)
        if self.deaths.get(reference.name, 0) > 0:
            self.deaths[reference.name] -= 1
            raise WorkerCrashedError("gone")
        if reference.name in self.raised:
            raise RayTaskError(self.raised[reference.name])
        return reference.work()

    def cancel(self, reference: Reference, *, force: bool) -> None:
        assert force
        self.cancelled.append(reference.name)

    def shutdown(self) -> None:
        self.ended += 1


@dataclass(frozen=True, eq=False)
class Reference:
    name: str
    work: Any


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRay:
    """A cluster of one machine, whose temporary files are in `machine`."""
    fake = FakeRay()
    (tmp_path / "machine").mkdir()
    strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    monkeypatch.setitem(sys.modules, "ray", fake.module())
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "machine"))
    monkeypatch.setattr(cluster, "do", pretend)
    return fake


def pretend(job: Any, out: Path) -> None:
    """Work that leaves what `jobs.do` leaves."""
    assert not hasattr(sys.modules["__main__"], "__file__"), "children would import this process's main module"
    if isinstance(job, Still):
        job.path(out).parent.mkdir(parents=True, exist_ok=True)
        job.path(out).write_bytes(b"a picture")
        return
    if job.quality == 9:
        raise VideoError("no such picture")
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    (work / f"{job.clip.name}-0123.mkv").touch()
    write_record(
        job.path(out),
        {"identity": job.identity(), "quality": job.quality, "path": str(job.clip.path), "bpp": 1.0, "metrics": {}},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(("cat", "dog")):
        write_ffv1(made / f"{name}.mkv", textured_frames(2, 64, 80, seed=number))
    return made


def plan(folder: Path, *qualities: float) -> list[Task]:
    return [Task(clip, FakeCodec(), q, PSNR) for clip in find_clips(str(folder), None) for q in qualities]


def test_records_lie_where_a_local_run_leaves_them_in_the_plans_order(
    ray: FakeRay, folder: Path, tmp_path: Path
) -> None:
    tasks, out, steps = plan(folder, 1, 2), tmp_path / "out", list[Step]()
    outcome = run(tasks, out, cluster="auto", on_step=steps.append)
    assert (outcome.measured, outcome.failures) == (4, [])
    assert [record["quality"] for record in outcome.records] == [1, 2, 1, 2] and ray.tries[0] == tasks[-1].name
    assert [task.finished(out) for task in tasks] == outcome.records
    assert [(step.done, step.total) for step in steps] == [(n, 4) for n in (1, 2, 3, 4)] and steps[-1].eta == 0
    assert run(tasks, out, cluster="auto").measured == 0 and ray.ended == 1  # nothing to do, no cluster
    assert list((tmp_path / "machine").iterdir()) == []
    assert ray.swept == ["_forget on a", "_remove on a"]


def test_pictures_come_back_too(ray: FakeRay, folder: Path, tmp_path: Path) -> None:
    still = Still(plan(folder, 1)[0], codec("x264"))
    assert run([], tmp_path / "out", stills=[still], cluster="auto").failures == []
    assert still.path(tmp_path / "out").read_bytes() == b"a picture"


def test_the_prepared_file_of_a_clip_that_is_done_goes(ray: FakeRay, folder: Path, tmp_path: Path) -> None:
    seen = []

    def look(_step: Step) -> None:
        seen.append(sorted(path.name for path in (tmp_path / "machine").glob("*/work/*.mkv")))

    run(plan(folder, 1, 2), tmp_path / "out", cluster="auto", on_step=look)
    assert seen == [["dog-0123.mkv"], [], ["cat-0123.mkv"], ["cat-0123.mkv"]]


def test_a_point_whose_worker_dies_is_done_again(ray: FakeRay, folder: Path, tmp_path: Path) -> None:
    tasks = plan(folder, 1, 2)
    ray.deaths = {tasks[1].name: 2}
    outcome = run(tasks, tmp_path / "out", cluster="auto")
    assert (len(outcome.records), outcome.failures) == (4, [])
    assert ray.tries.count(tasks[1].name) == 3 and all(o["max_retries"] == 0 for o in ray.options.values())


def test_a_point_that_kills_every_worker_is_a_failure_like_others(ray: FakeRay, folder: Path, tmp_path: Path) -> None:
    tasks, steps = plan(folder, 1, 9), list[Step]()
    ray.deaths = {tasks[0].name: 99}
    outcome = run(tasks, tmp_path / "out", cluster="auto", on_step=steps.append)
    assert [record["path"][-7:] for record in outcome.records] == ["dog.mkv"] and len(steps) == 4
    assert outcome.failures == [
        f"{tasks[3].name}: no such picture",
        f"{tasks[1].name}: no such picture",
        f"{tasks[0].name}: its process on the cluster died, 4 times; out of memory perhaps, see Ray's logs",
    ]
    assert ray.tries.count(tasks[0].name) == 1 + cluster.RETRIES


def test_an_error_that_is_not_ours_ends_the_run(ray: FakeRay, folder: Path, tmp_path: Path) -> None:
    tasks = plan(folder, 1, 2)
    ray.raised = {tasks[2].name: TypeError("not a\nnumber")}
    with pytest.raises(WorkerError, match=r"^dog fake:plain 1: on the cluster: TypeError: not a$"):
        run(tasks, tmp_path / "out", cluster="auto")
    assert [task.finished(tmp_path / "out") is not None for task in tasks] == [False, False, False, True]
    assert ray.cancelled == [tasks[0].name, tasks[1].name] and ray.ended == 1


def test_ctrl_c_ends_the_tasks_and_keeps_what_is_done(ray: FakeRay, folder: Path, tmp_path: Path) -> None:
    def interrupt(_step: Step) -> None:
        raise KeyboardInterrupt

    tasks = plan(folder, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        run(tasks, tmp_path / "out", cluster="auto", on_step=interrupt)
    assert ray.cancelled == [task.name for task in tasks[:3]] and ray.ended == 1
    assert tasks[3].finished(tmp_path / "out") is not None
    assert list((tmp_path / "machine").iterdir()) == []


def test_a_machine_without_a_clip_ends_the_run_whichever_point_it_gets(
    ray: FakeRay, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = folder / "cat.mkv"
    check = cluster.Errand._check

    def elsewhere(errand: cluster.Errand) -> None:
        files = {path.with_name("absent.mkv") if path == absent else path: n for path, n in errand.files.items()}
        check(replace(errand, files=files))

    monkeypatch.setattr(cluster.Errand, "_check", elsewhere)
    with pytest.raises(WorkerError, match=r"absent\.mkv: No such file or directory on .+ must read it at this path$"):
        run(plan(folder, 1), tmp_path / "out", cluster="auto")
    assert ray.tries == ["dog fake:plain 1"]


def test_a_machine_with_another_clip_or_codec_ends_the_run(folder: Path) -> None:
    task = plan(folder, 1)[0]
    size = task.clip.path.stat().st_size
    errand = cluster.Errand(task, "another", {task.clip.path: size}, "unused")
    kept, error = errand.run()
    assert kept == b"" and isinstance(error, WorkerError)
    assert "cat.mkv or another bsqcodec than where the run was started" in str(error)
    _, error = replace(errand, files={task.clip.path: 1}).run()
    assert isinstance(error, WorkerError) and f"cat.mkv: has {size} bytes on " in str(error)


def test_paths_hang_on_no_folder_and_points_on_a_gpu_are_alone_with_it(
    ray: FakeRay, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "small.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").symlink_to(folder)
    clip = find_clips("clips", None)[0]
    ours = codec("bsqcodec", device="cuda:0", weights="small.safetensors")
    tasks = [Task(clip, ours, 30.0, replace(PSNR, threads=2)), Task(clip, FakeCodec(), 1.0, replace(PSNR, threads=0))]
    outcome = run(tasks, tmp_path / "out", cluster="auto")
    assert [record["path"] for record in outcome.records] == [str(tmp_path / "clips" / "cat.mkv")] * 2
    assert [task.finished(tmp_path / "out") for task in tasks] == outcome.records  # under the names as given
    needs = [(ray.options[task.name]["num_cpus"], ray.options[task.name]["num_gpus"]) for task in tasks]
    assert needs == [(2, 1), (1, 0)]
    assert [r.message for r in caplog.records if "waiting" in r.message] == [
        "no machine of the cluster has 2 CPUs and 1 GPU, which a point takes; waiting for one"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--jobs", "2"), "jobs 2, cluster auto: contradict each other; give one"),
        (("--jobs", "1"), "jobs 1, cluster auto: contradict each other; give one"),
        (("--device", "cuda:1"), "device cuda:1, cluster auto: Ray gives a point a GPU, its cuda:0; give that"),
    ],
)
def test_what_contradicts_a_cluster_is_refused(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", "--cluster", "auto", "-o", str(tmp_path / "out"), *words])
    assert done.exit_code == 2 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_the_command_measures_on_the_cluster(
    ray: FakeRay, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bsqcodec.cli.bench._finish", lambda *_: None)  # there are no figures for a report
    words = ("--dataset", str(folder / "cat.mkv"), "--anchors", "x264", "--crf", "30", "--anchor-crf", "30")
    done = CliRunner().invoke(cli, ["bench", *words, "--cluster", "auto", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "2 points, 0 of them done already; on cluster auto" in done.stderr
    assert sorted(ray.tries) == ["cat bsqcodec:psnr 30", "cat picture", "cat x264:paper 30"]


def test_without_ray_one_error_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkerError, match=r"pip install 'bsqcodec\[ray\]'$"):
        run(plan(folder, 1), tmp_path / "out", cluster="auto")


def test_what_comes_back_is_the_record_of_a_local_run(folder: Path, tmp_path: Path) -> None:
    task = plan(folder, 1)[0]
    (here,) = run([task], tmp_path / "here").records
    kept, error = cluster.Errand(task, task.identity(), {}, str(tmp_path / "there")).run()
    assert error is None
    there = json.loads(kept)
    assert {key for key in here if here[key] != there[key]} <= {"encode", "decode", "made"}
    assert here.keys() == there.keys() and here["machine"] == there["machine"]
