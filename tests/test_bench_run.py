"""A benchmark's plan and run: what is measured, what is not measured again, failures, interruption, the command."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from bench_video import FakeCodec, textured_frames, write_ffv1
from click.testing import CliRunner

from bsqcodec.bench.codecs import codec
from bsqcodec.bench.datasets import find_clips
from bsqcodec.bench.plan import Settings, Task, make_plan, write_record
from bsqcodec.bench.promises import broken_promises
from bsqcodec.bench.run import Step, run
from bsqcodec.bench.stills import Still
from bsqcodec.cli.tool import cli
from bsqcodec.errors import UsageError

PSNR = Settings(keyint=4, metrics=("psnr",))
COUNT = 4


@dataclass(frozen=True)
class Versioned(FakeCodec):
    """A codec of a version: measurements of another one are stale."""

    version: int = 1

    def identity(self) -> str:
        return f"fake {self.version}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(("cat", "dog")):
        write_ffv1(made / f"{name}.mkv", textured_frames(COUNT, 64, 80, seed=number))
    return made


def names(tasks: list[Task]) -> list[str]:
    return [task.name for task in tasks]


def test_plan_is_clip_by_clip_cheap_codecs_first(folder: Path) -> None:
    codecs = [codec("x265:best"), codec("x264:paper"), codec("bsqcodec")]
    qualities = {"x264": (30.0, 20.0, 30.0), "x265:best": (28.0,), "bsqcodec": (31.5,)}
    tasks = make_plan(find_clips(str(folder), None), codecs, PSNR, qualities)
    of_a_clip = ["x264:paper 30", "x264:paper 20", "x265:best 28", "bsqcodec:psnr 31.5"]
    assert names(tasks) == [f"{clip} {point}" for clip in ("cat", "dog") for point in of_a_clip]
    assert len({task.path(folder) for task in tasks}) == len(tasks)


def test_plan_refuses_before_any_work(folder: Path) -> None:
    clips = find_clips(str(folder), None)
    with pytest.raises(UsageError, match=r"x264: quality 90"):
        make_plan(clips, [codec("x264")], PSNR, {"x264": (90.0,)})
    with pytest.raises(UsageError, match="nothing to measure"):
        make_plan(clips, [], PSNR)


def test_records_are_kept_and_used_again(folder: Path, tmp_path: Path) -> None:
    tasks = make_plan(find_clips(str(folder), None), [codec("x264")], PSNR, {"x264": (20.0, 40.0)})
    steps: list[Step] = []
    first = run(tasks, tmp_path, jobs=2, on_step=steps.append)
    assert (first.measured, first.failures, len(first.records)) == (4, [], 4)
    assert [step.done for step in steps] == [1, 2, 3, 4] and steps[-1].total == 4
    assert steps[0].eta is not None and steps[0].eta > 0 and steps[-1].eta == 0
    assert not (tmp_path / "work").exists()
    for task, record in zip(tasks, first.records, strict=True):
        assert json.loads(task.path(tmp_path).read_text()) == record
        assert (record["clip"]["name"], record["quality"]) == (task.clip.name, task.quality)
    again = run(tasks, tmp_path, jobs=1, on_step=lambda step: pytest.fail("nothing is left to measure"))
    assert (again.measured, again.records) == (0, first.records)


def test_what_a_figure_hangs_on_makes_a_record_stale(folder: Path, tmp_path: Path) -> None:
    clip = find_clips(str(folder), None)[0]
    task = Task(clip, Versioned(), 1.0, PSNR)
    run([task], tmp_path)
    assert task.finished(tmp_path) is not None
    changed = [
        replace(task, clip=replace(clip, frames=2)),
        replace(task, clip=replace(clip, scale=(64, 64), width=64)),
        replace(task, clip=replace(clip, path=folder / "dog.mkv")),
        replace(task, codec=Versioned(version=2)),
        replace(task, settings=replace(PSNR, metrics=("psnr", "ms-ssim"))),
        replace(task, quality=2.0),
    ]
    assert [other.finished(tmp_path) for other in changed] == [None] * len(changed)
    assert run([changed[3]], tmp_path).measured == 1
    assert task.finished(tmp_path) is None  # one file a point: the new version's record took its place


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"identity": "other"}'])
def test_a_damaged_record_is_measured_again(folder: Path, tmp_path: Path, damage: str) -> None:
    task = Task(find_clips(str(folder), None)[0], FakeCodec(), 1.0, PSNR)
    task.path(tmp_path).parent.mkdir(parents=True)
    task.path(tmp_path).write_text(damage)
    assert task.finished(tmp_path) is None


def test_a_record_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_record(path, {"x": 1})
    with pytest.raises(ValueError):
        write_record(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}


def test_a_point_that_fails_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    clips = find_clips(str(folder), None)
    tasks = [Task(clips[0], FakeCodec("short"), 1.0, PSNR), Task(clips[1], FakeCodec(), 1.0, PSNR)]
    steps: list[Step] = []
    outcome = run(tasks, tmp_path, on_step=steps.append)
    assert [r["clip"]["name"] for r in outcome.records] == ["dog"]
    (failure,) = outcome.failures
    assert failure.startswith("cat fake:plain 1: ") and "\n" not in failure
    assert [bool(step.error) for step in steps] == [True, False]
    assert not tasks[0].path(tmp_path).exists()
    assert run(tasks, tmp_path).measured == 0  # only the failed one is tried again


def test_a_worker_that_dies_is_an_error_of_one_line(folder: Path, tmp_path: Path) -> None:
    task = Task(find_clips(str(folder), None)[0], FakeCodec("crash"), 1.0, PSNR)
    outcome = run([task], tmp_path)
    assert len(outcome.failures) == 1 and not outcome.records


def test_stills_are_the_same_frame_at_the_same_size(folder: Path, tmp_path: Path) -> None:
    task = Task(find_clips(str(folder), None)[0], codec("x264"), 30.0, PSNR)
    still = Still(task, codec("x265"))
    assert still.picture(tmp_path) is None
    assert run([], tmp_path, stills=[still]).failures == []
    assert still.finished(tmp_path)
    picture = still.picture(tmp_path)
    assert picture is not None and picture.index == still.index == 1
    original, ours, other = picture.shots
    assert ours.bytes is not None and other.bytes is not None
    assert 0.7 < other.bytes / ours.bytes < 1.4
    assert original.rgb.shape == ours.rgb.shape == (64, 80, 3)
    assert ours.psnr is not None and ours.psnr > 20 and other.psnr is not None and other.psnr > 20
    assert not replace(still, ours=replace(task, quality=31.0)).finished(tmp_path)


def point(crf: float, size: int, psnr: float, reported: float) -> dict[str, Any]:
    return {
        "clip": {"name": "cat"},
        "codec": {"name": "bsqcodec", "setting": "psnr"},
        "quality": crf,
        "bytes": size,
        "reported_psnr_yuv": reported,
        "metrics": {"psnr_yuv": {"mean": psnr}},
    }


def test_broken_promises_are_found() -> None:
    kept = [point(20, 900, 40.0, 40.009), point(40, 100, 30.0, 30.0), point(30, 300, 35.0, 34.991)]
    assert broken_promises(kept) == []
    anchor = point(50, 999, 50.0, 1.0) | {"codec": {"name": "x264", "setting": "paper"}}
    assert broken_promises([*kept, anchor]) == []  # of others nothing is promised
    larger, better, other = broken_promises([*kept, point(41, 100, 30.0, 30.1)])
    assert "rate does not fall from crf 40 to 41" in larger and "PSNR does not fall" in better
    assert "30.100 dB reported, 30.000 dB decoded" in other and other.startswith("cat bsqcodec:psnr: crf 41")


# --- the command ---------------------------------------------------------------------------------


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def bench(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bsqcodec", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, **more)


SMALL = ("--crf", "24,30,36,42", "--anchor-crf", "20,27,34,41", "--metrics", "psnr", "--jobs", "2", "--frames", "3")


def test_bench_leaves_tables_plots_and_a_report(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    words = ("--dataset", folder / "cat.mkv", "--anchors", "x264", "-o", out, *SMALL)
    planned = bench(*words, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert len(planned.stdout.splitlines()) == 8 and all(line[:4] == "todo" for line in planned.stdout.splitlines())
    assert not out.exists()
    done = bench(*words)
    assert done.returncode == 0, done.stderr
    assert "BD-rate by PSNR against x264:paper" in done.stdout and "cat picture: done" in done.stderr
    found = {path.name for path in out.iterdir()}
    assert found == {"points", "pictures", "rd_psnr.png", "rd_psnr.svg", "results.csv", "report.html"}
    with (out / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8
    page = (out / "report.html").read_text()
    assert "cat" in page and "data:image/webp" in page
    before = {path: path.stat().st_mtime_ns for path in (out / "points").rglob("*.json")}
    again = bench(*words, "--json")
    assert again.returncode == 0, again.stderr
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["done"]
    assert (lines[0]["points"], lines[0]["measured"], lines[0]["anchor"]) == (8, 0, "x264:paper")
    assert set(lines[0]["bd_rate"]) == {"psnr_yuv"}
    assert before == {path: path.stat().st_mtime_ns for path in (out / "points").rglob("*.json")}


def test_bench_without_arguments_plans_the_mini_set(tmp_path: Path) -> None:
    planned = bench("--dry-run", "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    points = [json.loads(line)["point"] for line in planned.stdout.splitlines()]
    codecs = ("bsqcodec:psnr", "x264:paper", "x265:paper")
    wanted = {f"{c} {k} {q}" for c in ("bee", "butterfly", "flower") for k in codecs for q in (20, 25, 30, 35, 40)}
    assert set(points) == wanted
    fewer = bench("--dry-run", "--crf", "30", "--anchor-crf", "20,30", cwd=tmp_path)
    assert len(fewer.stdout.splitlines()) == 3 * (1 + 2 + 2)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a list of processes")
def test_workers_end_with_a_run_that_is_killed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    command = [sys.executable, "-m", "bsqcodec", "bench", "--dataset", str(folder / "cat.mkv"), "-o", str(out), *SMALL]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not list(out.glob("points/*/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(session(process.pid)) > 1
    process.kill()
    process.wait()
    while session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert session(process.pid) == []


def session(leader: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("--device", "cuda:77"), "cuda:77", 1),
        (("--weights", "nowhere.safetensors"), "nowhere.safetensors", 4),
        (("--metrics", ""), "metrics", 2),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_measured(
    folder: Path, tmp_path: Path, words: tuple[str, ...], message: str, code: int
) -> None:
    out = tmp_path / "results"
    refused = bench("--dataset", folder / "cat.mkv", "-o", out, *SMALL, *words)
    assert refused.returncode == code, refused.stderr
    assert message in refused.stderr and len(refused.stderr.splitlines()) == 1 and not out.exists()


def test_a_clip_too_small_for_the_only_metric_still_gets_a_report(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    words = ("--anchors", "x264", "--crf", "40", "--anchor-crf", "41", "--frames", "1", "--metrics", "ms-ssim")
    done = bench("--dataset", folder / "cat.mkv", "-o", out, *words)
    assert done.returncode == 0, done.stderr
    assert "that MS-SSIM needs" in (out / "report.html").read_text()


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    command = [sys.executable, "-m", "bsqcodec", "bench", "--dataset", str(folder / "cat.mkv"), "-o", str(out), *SMALL]
    process = subprocess.Popen(
        [*command, "--anchors", "x264,x265"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("points/*/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "keeps the points that are finished" in errors and "Traceback" not in errors
    assert "no output was written" not in errors
    kept = {path: path.read_bytes() for path in out.glob("points/*/*.json")}
    assert 2 <= len(kept) < 12 and not (out / "work").exists() and not (out / "report.html").exists()
    done = bench("--dataset", folder / "cat.mkv", "-o", out, *SMALL, "--anchors", "x264,x265")
    assert done.returncode == 0, done.stderr
    assert f"12 points, {len(kept)} of them done already" in done.stderr
    assert kept == {path: path.read_bytes() for path in kept}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dataset", "nowhere"), "nowhere"),
        (("--anchors", "x266"), "x266"),
        (("--anchors", "bsqcodec"), "--tune"),
        (("--crf", "20,sharp"), "20,sharp"),
        (("--crf", "77"), "77"),
        (("--scale", "wide"), "wide"),
        (("--metrics", "beauty"), "beauty"),
        (("--tune", "grain"), "grain"),
        (("--preset", "medium,placebo"), "placebo"),
        (("--dataset", "uvg"), "uvg"),
        (("--dataset", "uvg", "--download"), "--data"),
        (("-q", "-v"), "-q"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = bench(*words, "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout and list(tmp_path.iterdir()) == []


def test_points_that_fail_are_told_and_the_report_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("bsqcodec.bench.ours.Bsqcodec.check", lambda _: None)  # which would see it before the start
    words = ("--dataset", folder / "cat.mkv", "--anchors", "x264", "--device", "cuda:99", "-o", out, *SMALL)
    done = CliRunner().invoke(cli, ["bench", *map(str, words)])
    assert done.exit_code == 1, done.output
    assert "points failed" in done.stderr and "cuda:99" in done.stderr and "Traceback" not in done.stderr
    assert (out / "report.html").exists()
