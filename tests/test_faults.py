"""Faults while running: a full disk, a kill, two runs at once, an input that changes. The codec is that of `fakes`."""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import clips
import pytest
from test_cli import environment, files, one_error, run, started

import bsqcodec
from bsqcodec.errors import VideoError
from bsqcodec.outputs import AtomicOutput
from bsqcodec.partfile import PartFile

HERE = Path(__file__).parent


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "in.y4m"
    path.write_bytes(clips.y4m_bytes(40, 64, 64))
    return path


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE / "fakes"))
    monkeypatch.setitem(sys.modules, "bsqcodec.codec", importlib.import_module("fake_codec"))


def verifies(path: Path, frames: int) -> bool:
    summary = bsqcodec.inspect(path, check=True)
    return summary.complete and summary.damage is None and summary.frames == frames


# --- killed --------------------------------------------------------------------------------------


def test_kill_9_at_50_random_moments_leaves_no_broken_file():
    done = subprocess.run([sys.executable, str(HERE / "kills.py")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("50 kills within")
    assert done.stdout.count("'") >= 6, done.stdout  # they met more than one stage of a run


def test_what_a_killed_run_left_is_taken_over(clip, tmp_path):
    process = started("encode", clip, tmp_path / "out.bsq", "-v", env={"FAKE_DELAY": "1"}, stderr=subprocess.PIPE)
    until(process, b"model:")
    process.kill()
    process.communicate()
    assert files(tmp_path) == {"in.y4m", "out.bsq.part"}
    assert run("encode", clip, tmp_path / "out.bsq").returncode == 0
    assert files(tmp_path) == {"in.y4m", "out.bsq"}
    assert verifies(tmp_path / "out.bsq", 40)


def until(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Wait for a line on standard error."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(text):
            return
    pytest.fail(f"no {text!r}")


# --- two at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [True, False])
def test_two_encodes_into_one_name(tmp_path, overwrite):
    """Each has a part file of its own; what the name stands for in the end is the whole file of one of them."""
    options = ["-q", *(["-y"] if overwrite else [])]
    out, pipes = tmp_path / "out.bsq", [tmp_path / "first", tmp_path / "second"]
    for pipe in pipes:
        os.mkfifo(pipe)  # each encode waits for its input, so both are at work at once
    pair = [started("encode", pipe, out, *options, stderr=subprocess.PIPE) for pipe in pipes]
    deadline = time.monotonic() + 60
    while files(tmp_path) != {"first", "second", "out.bsq.part", "out.2.bsq.part"}:
        assert time.monotonic() < deadline, files(tmp_path)
        time.sleep(0.02)
    talk = []
    for pipe, process, frames in zip(pipes, pair, (20, 30), strict=True):
        pipe.write_bytes(clips.y4m_bytes(frames))
        talk.append(process.communicate(timeout=60)[1].decode())
    assert files(tmp_path) == {"first", "second", "out.bsq"}
    if overwrite:
        assert [process.returncode for process in pair] == [0, 0]
        assert verifies(out, 30)  # the one that ended last
    else:
        assert [process.returncode for process in pair] == [0, 1]
        assert "already exists" in one_error(talk[1])
        assert verifies(out, 20)


def test_a_name_that_was_taken_meanwhile_is_not_replaced(clip, tmp_path, stand_in):
    def take(progress):
        (tmp_path / "out.bsq").write_bytes(b"somebody else's")

    with pytest.raises(VideoError, match="already exists"):
        bsqcodec.encode(clip, tmp_path / "out.bsq", on_progress=take)
    assert (tmp_path / "out.bsq").read_bytes() == b"somebody else's"
    assert files(tmp_path) == {"in.y4m", "out.bsq"}


def test_without_hard_links_it_works_as_well(tmp_path, monkeypatch):
    def fails(*_args):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", fails)
    with AtomicOutput(tmp_path / "out.txt") as output:
        output.part.write_bytes(b"whole")
    assert files(tmp_path) == {"out.txt"}
    with pytest.raises(VideoError, match="already exists"), AtomicOutput(tmp_path / "new.txt") as output:
        (tmp_path / "new.txt").write_bytes(b"taken")
    assert files(tmp_path) == {"out.txt", "new.txt"}


def test_part_files_of_one_moment_differ(tmp_path):
    """Many threads claim, write and rename at once; none ever touches what another has."""
    problems: list[str] = []

    def work(number: int) -> None:
        for _ in range(30):
            part = PartFile(tmp_path / "out.bin", lambda path: False)
            text = f"{number}" * 50
            part.path.write_text(text)
            time.sleep(0.0005)
            if part.path.read_text() != text:
                problems.append("another wrote to it")
            part.path.replace(tmp_path / "out.bin")
            if len(set((tmp_path / "out.bin").read_text())) != 1:
                problems.append("a broken file under the final name")
            part.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_file_of_another_user_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "out.bin.part").mkdir()
    with pytest.raises(OSError):
        PartFile(tmp_path / "out.bin", lambda path: False)
    part = PartFile(tmp_path / "out.bin", lambda path: path.name == "out.bin.part")
    assert part.path.name == "out.2.bin.part"
    part.remove()
    part.release()
    part.release()


# --- no room -------------------------------------------------------------------------------------


def limited(size: int, *args: object) -> subprocess.CompletedProcess[bytes]:
    """The command where no file may become larger than `size` bytes."""
    command = [sys.executable, "-m", "bsqcodec", *map(str, args)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    return subprocess.run(command, env=environment(), capture_output=True, preexec_fn=limit, timeout=60)


@pytest.mark.parametrize("name", ["out.bsq", "out.y4m", "out.mkv", "out.mp4"])
def test_a_full_disk_leaves_nothing(clip, tmp_path, name):
    """In the middle, and at the very last byte, which is written when the file is closed."""
    command, src = ("encode", clip) if name == "out.bsq" else ("decode", tmp_path / "in.bsq")
    assert run("encode", clip, tmp_path / "in.bsq", "--crf", 0).returncode == 0
    options = ("--crf", 0) if command == "encode" else ()
    assert run(command, src, tmp_path / name, *options).returncode == 0
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    before = files(tmp_path)
    for room in (size // 2, size - 1):
        done = limited(room, command, src, tmp_path / name, *options)
        assert done.returncode == 1
        assert name in one_error(done.stderr.decode()) and b"File too large" in done.stderr
        assert files(tmp_path) == before


def test_a_reader_of_encoded_data_that_leaves(clip, tmp_path):
    env = {"FAKE_DELAY": "0.01"}
    process = started("encode", clip, "-", "--keyint", 1, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(4) == b"\x89BSQ"
    process.stdout.close()
    talk = process.stderr.read().decode()
    assert process.wait(timeout=30) == 1
    assert "rror" not in talk and "Traceback" not in talk


# --- the input changes ---------------------------------------------------------------------------


def vanish(path: Path) -> None:
    path.unlink()


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow_by_half_a_frame(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"FRAME\n" + b"x" * 100)


def zero(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:  # in place: a file that is empty for a moment would be one that ends there
        file.write(bytes(size))


@pytest.mark.parametrize(
    ("change", "says"),
    [(vanish, "vanished"), (shrink, "cut short"), (grow_by_half_a_frame, "cut short"), (zero, "damaged")],
)
def test_an_input_that_changes_is_an_error(tmp_path, change, says):
    src = tmp_path / "in.y4m"
    src.write_bytes(clips.y4m_bytes(150, 96, 96))
    process = started("encode", src, tmp_path / "out.bsq", "-v", env={"FAKE_DELAY": "0.02"}, stderr=subprocess.PIPE)
    until(process, b"model:")
    change(src)
    rest = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    error = [line for line in rest.splitlines() if "error" in line]
    assert len(error) == 1 and says in error[0] and "in.y4m" in error[0]
    assert files(tmp_path) <= {"in.y4m"}


@pytest.mark.parametrize(("change", "code"), [(vanish, 0), (shrink, 3), (zero, 3)])
def test_a_stream_that_changes_is_an_error(clip, tmp_path, change, code):
    """One that vanishes stays readable to who has it open."""
    src = tmp_path / "in.bsq"
    assert run("encode", clip, src, "--keyint", 2, "--crf", 0).returncode == 0
    process = started("decode", src, tmp_path / "out.y4m", "-v", env={"FAKE_DELAY": "0.02"}, stderr=subprocess.PIPE)
    until(process, b"model:")
    change(src)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert (tmp_path / "out.y4m").exists() == (code == 0)
    assert files(tmp_path) <= {"in.y4m", "in.bsq", "out.y4m"}
