"""Several processes for one video: the bytes and pictures of one process, whatever is guessed, killed or damaged."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import clips
import numpy as np
import pytest
import standin

import bsqcodec
from bsqcodec.codec import GroupEncoder, load_model
from bsqcodec.container import StreamHeader
from bsqcodec.errors import UsageError, VideoError, WorkerError
from bsqcodec.frames import Frame, TrackPacket, VideoInfo
from bsqcodec.parallel.encoding import ParallelEncoder
from bsqcodec.parallel.local import LocalWorkers
from bsqcodec.parallel.tasks import Setup
from bsqcodec.progress import ProgressMeter
from bsqcodec.rate.survey import Changes
from bsqcodec.runs import EncodeRun

WIDTH, HEIGHT, KEYINT = 16, 16, 4
SCENES = (5, 1, 3, 4)  # frames; cuts at the second frames of groups, and inside of one


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return standin.standin_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def small_model(small):
    return load_model(small, device="cpu", threads=1)


def scenes() -> list[Frame]:
    """Frames of a still picture a scene, with a little noise."""
    noise = np.random.default_rng(3)
    frames = []
    for length in SCENES:
        still = noise.integers(0, 256, (HEIGHT // 4, WIDTH // 4)).repeat(4, 0).repeat(4, 1)
        for _ in range(length):
            y = (still + noise.integers(0, 3, still.shape)).clip(0, 255).astype(np.uint8)
            frames.append(Frame(y, y[::2, ::2].copy(), 255 - y[::2, ::2], pts=len(frames), duration=1))
    return frames


class Clip:
    """A source of frames with sound between them."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.info, self.tracks = VideoInfo(WIDTH, HEIGHT), (standin.SOUND,)
        self._fails_after = fails_after

    def __iter__(self):
        for number, frame in enumerate(scenes()):
            if number == self._fails_after:
                raise VideoError("the clip ends badly")
            yield frame
            yield TrackPacket(0, bytes([number]) * 8, 320 * number, 320 * number, 320, True)


class Inline:
    """Workers that do a task, in this process, when its result is asked for; counts what is under way."""

    def __init__(self, model, size: int) -> None:
        self.size, self._model, self._tasks, self._next = size, model, {}, 0
        self.done = self.most = 0

    def submit(self, task) -> int:
        self._next += 1
        self._tasks[self._next] = task
        self.most = max(self.most, len(self._tasks))
        return self._next

    def result(self, ticket: int):
        self.done += 1
        return self._tasks.pop(ticket).run(self._model)

    def drop(self, ticket: int) -> None:
        del self._tasks[ticket]

    def close(self) -> None:
        pass


def encoded(model, source, encoder, progress=None) -> tuple[bytes, EncodeRun]:
    file = io.BytesIO()
    header = StreamHeader(source.info, KEYINT, model.tune, 20.0, model.sha256, model.name)
    run = EncodeRun(file, header, source, encoder, ProgressMeter(progress, rate=source.info.fps, total=None))
    run.run(keep_crcs=True)
    return file.getvalue(), run


def alone(model, progress=None, clip=None) -> tuple[bytes, EncodeRun]:
    clip = clip or Clip()
    return encoded(model, clip, GroupEncoder(model, clip.info, crf=20, keyint=KEYINT), progress)


def together(model, size: int, progress=None, clip=None) -> tuple[bytes, EncodeRun, Inline]:
    workers = Inline(model, size)
    source = ParallelEncoder(clip or Clip(), workers, crf=20, keyint=KEYINT, cuts=True)
    return *encoded(model, source, source, progress), workers


@pytest.fixture(scope="module")
def wanted(small_model):
    """File, run and progress of one process."""
    seen = []
    data, run = alone(small_model, lambda p: seen.append((p.frames, p.bytes)))
    assert run.tally.groups > -(-sum(SCENES) // KEYINT), "no cut in the clip"
    return data, run, seen


@pytest.mark.parametrize(("guess", "size"), [("as made", 3), ("never", 2), ("always", 1)])
def test_all_is_as_with_one_process_whatever_is_guessed(small_model, monkeypatch, wanted, guess, size):
    if guess != "as made":
        monkeypatch.setattr(Changes, "is_cut", lambda self, frame: guess == "always")
    seen = []
    data, run, workers = together(small_model, size, lambda p: seen.append((p.frames, p.bytes)))
    assert data == wanted[0]
    assert run.crcs == wanted[1].crcs
    assert run.tally.stats(size=1, seconds=1) == wanted[1].tally.stats(size=1, seconds=1)
    assert seen == wanted[2]
    assert workers.most <= size + 1
    assert run.tally.groups <= workers.done <= 4 * run.tally.groups


def test_groups_before_a_failing_source_are_written(small_model):
    with pytest.raises(VideoError, match="ends badly"):
        together(small_model, 2, clip=Clip(fails_after=7))


def test_causal_models_have_no_cuts(tmp_path):
    model = load_model(standin.standin_weights(tmp_path / "causal.safetensors", causal=True), device="cpu", threads=1)
    expected, _ = alone(model)
    workers = Inline(model, 2)
    source = ParallelEncoder(Clip(), workers, crf=20, keyint=KEYINT, cuts=False)
    assert encoded(model, source, source)[0] == expected


def test_processes_make_the_file_and_the_video_of_one(tmp_path, small):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(5, 16, 16))
    for jobs in (1, 2):
        coded = bsqcodec.encode(tmp_path / "in.y4m", tmp_path / f"{jobs}.bsq", keyint=2, weights=small, jobs=jobs)
        bsqcodec.decode(tmp_path / f"{jobs}.bsq", tmp_path / f"{jobs}.y4m", weights=small, jobs=jobs)
        assert coded.groups == 3
    assert (tmp_path / "1.bsq").read_bytes() == (tmp_path / "2.bsq").read_bytes()
    assert (tmp_path / "1.y4m").read_bytes() == (tmp_path / "2.y4m").read_bytes()


def test_a_worker_that_dies_is_one_error_and_none_outlives_the_run(small, small_model):
    workers = LocalWorkers([Setup(str(small), "psnr", "cpu", 1, small_model.sha256)] * 2)
    processes = list(workers._processes.values())
    try:
        source = ParallelEncoder(Clip(), workers, crf=20, keyint=KEYINT, cuts=True)
        items = iter(source)
        next(items)
        os.kill(processes[0].pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"^a worker process ended by signal 9; if memory ran out, use fewer"):
            encoded(small_model, source, source)
    finally:
        workers.close()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_ctrl_c_leaves_nothing_behind(tmp_path, small):
    """Ctrl-C goes to all processes of the terminal's group; only the run itself speaks."""
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(200, 256, 192))
    command = [sys.executable, "-m", "bsqcodec", "encode", "in.y4m", "out.bsq", "--jobs", "2", "--weights", str(small)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        deadline = time.monotonic() + 60
        while len(children(run.pid)) < 3 and time.monotonic() < deadline:  # two workers and multiprocessing's tracker
            time.sleep(0.05)
        workers = children(run.pid)
        os.killpg(run.pid, signal.SIGINT)
        errors = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert errors.strip().splitlines()[-1] == "bsqcodec: error: interrupted; no output was written", errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["in.y4m"]
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers and not any(map(lives, workers))


def children(pid: int) -> list[int]:
    """Processes started by a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may still be in the list."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs 0: must be 1 or more"),
        ({"jobs": 2, "bitrate": "500k"}, "jobs 2: with a bitrate as the goal"),
        ({"jobs": 2, "target": "psnr=38"}, "jobs 2: with a psnr as the goal"),
    ],
)
def test_what_cannot_be_done_side_by_side_is_refused(tmp_path, options, message):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(2))
    with pytest.raises(UsageError, match=message):
        bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "out.bsq", **options)
    assert not (tmp_path / "out.bsq").exists()


def test_damage_inside_of_a_group_is_met_where_one_process_meets_it(tmp_path, small, small_model):
    """The words of a group are exchanged for others, with a right checksum."""
    from bsqcodec.container import StreamReader, StreamWriter

    made = io.BytesIO(standin.stream(small_model, frames=6, keyint=2))
    reader = StreamReader(made)
    groups = [item for item in reader if not isinstance(item, list)]
    with (tmp_path / "bad.bsq").open("wb") as file:
        writer = StreamWriter(file, reader.header)
        for number, group in enumerate(groups):
            writer.write_group(replace(group, motion=b"\xff" * 64) if number == 1 else group)
        writer.close()
    results = []
    for jobs in (1, 2):
        name = tmp_path / f"{jobs}.y4m"
        stats = bsqcodec.decode(tmp_path / "bad.bsq", name, weights=small, on_error="conceal", jobs=jobs)
        results.append((name.read_bytes(), stats.lost_frames, stats.damage))
    assert results[0] == results[1]
    assert results[0][1] == 1  # the group's first frame needs no motion
