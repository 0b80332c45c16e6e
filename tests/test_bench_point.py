"""One measured point: its record, whose time and memory it counts, and processes that fail or are interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bench_video import RATE, FakeCodec, textured_frames, write_ffv1

from bsqcodec.bench.children import messages_of, peak_mib
from bsqcodec.bench.clip import Clip
from bsqcodec.bench.codecs import codec
from bsqcodec.bench.machine import commit_of
from bsqcodec.bench.point import file_hash, measure
from bsqcodec.bench.quality import Measurement, measure_quality
from bsqcodec.errors import BsqError, UsageError, VideoError
from bsqcodec.frames import Frame

COUNT = 5
FRAMES = textured_frames(COUNT, 64, 80)
KEYS = {
    "schema",
    "clip",
    "codec",
    "quality",
    "keyint",
    "threads",
    "bytes",
    "bpp",
    "kbps",
    "frame_bits",
    "reported_psnr_yuv",
}
KEYS |= {"encode", "decode", "metrics", "machine", "made"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = write_ffv1(tmp_path_factory.mktemp("point") / "clip.mkv", FRAMES)
    return Clip("clip", path, 80, 64, RATE, COUNT)


def test_record_of_an_anchor(clip: Clip, tmp_path: Path) -> None:
    anchor = codec("x264:best")
    record = measure(
        clip, clip.path, anchor, 24.0, work=tmp_path / "work", keyint=4, metrics=["psnr"], keep=tmp_path / "kept.264"
    )
    assert set(record) == KEYS
    assert record["schema"] == "bsqcodec-bench-point/1"
    assert record["clip"] == {
        "name": "clip", "width": 80, "height": 64, "fps": "30000/1001", "frames": COUNT, "sha256": file_hash(clip.path)
    }  # fmt: skip
    assert record["codec"]["options"] == "-c:v libx264 -preset slow -tune psnr -g 4 -crf 24 -threads 1"
    assert record["codec"]["library"].startswith("x264 core ")
    assert (record["codec"]["name"], record["codec"]["setting"]) == ("x264", "best")
    assert (record["quality"], record["keyint"], record["threads"]) == (24.0, 4, 1)
    assert list((tmp_path / "work").iterdir()) == []
    size = (tmp_path / "kept.264").stat().st_size
    assert record["bytes"] == size
    assert record["bpp"] == pytest.approx(8 * size / (80 * 64 * COUNT))
    assert record["kbps"] == pytest.approx(8 * size / (COUNT / float(RATE)) / 1000, abs=1e-3)
    assert sum(record["frame_bits"]) == 8 * size
    quality = measure_quality(FRAMES, anchor.decode(tmp_path / "kept.264"), ["psnr"], fps=RATE)
    assert record["metrics"] == quality
    for side in ("encode", "decode"):
        assert record[side]["fps"] == pytest.approx(COUNT / record[side]["seconds"], rel=0.01)
        assert 10 < record[side]["peak_mib"] < 1000
    assert record["machine"]["cores"] == os.cpu_count()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_record_of_bsqcodec(clip: Clip, tmp_path: Path, weights: Path) -> None:
    ours = codec("bsqcodec:psnr", device="cpu", weights=weights)
    kept = tmp_path / "kept.bsq"
    record = measure(clip, clip.path, ours, 30, work=tmp_path, keyint=3, metrics=["psnr", "xpsnr"], keep=kept)
    assert record["bytes"] == kept.stat().st_size
    assert record["codec"]["options"].startswith(
        "--crf 30 --tune psnr --preset medium --keyint 3 --device cpu --threads 1 --weights "
    )
    assert str(weights.parent) not in json.dumps(record)
    hash_of_weights = file_hash(weights)[:8]
    assert hash_of_weights in record["codec"]["library"]
    assert "format 2." in record["codec"]["library"]
    assert record["encode"]["peak_mib"] > 100  # torch is in there
    bits = record["frame_bits"]
    assert len(bits) == COUNT
    assert bits[0] > 2 * max(bits[1:3]) and bits[3] > 2 * bits[4]  # groups of 3 begin with a frame coded by itself
    assert 0.6 * 8 * record["bytes"] < sum(bits) < 8 * record["bytes"]
    quality = measure_quality(FRAMES, ours.decode(kept), ["psnr", "xpsnr"], fps=RATE)
    assert record["metrics"] == quality
    assert {path.name for path in tmp_path.iterdir()} == {"kept.bsq"}


def test_limit_of_the_clip_and_the_paper_setting_without_key_frames(clip: Clip, tmp_path: Path) -> None:
    part = Clip("part", clip.path, 80, 64, Fraction(25), 2)
    record = measure(part, clip.path, codec("x264:paper"), 30, work=tmp_path, metrics=["psnr"])
    assert (record["clip"]["frames"], len(record["frame_bits"]), record["keyint"]) == (2, 2, None)
    everything = Clip("all", clip.path, 80, 64, Fraction(25), None)
    record = measure(everything, clip.path, FakeCodec(), 1, work=tmp_path, metrics=["psnr", "ms-ssim"])
    assert record["clip"]["frames"] == COUNT
    assert record["metrics"]["psnr_yuv"]["mean"] == 100
    assert not any(name.startswith("ms_ssim") for name in record["metrics"])  # too small for it


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("short", r"stops after 4 frames"),
        ("long", r"more than the 5 frames"),
        ("small", r"frame 0 comes back as 80x62 and not 80x64"),
        ("crash", r"encoding: RuntimeError: two lines$"),
        ("die", r"encoding: its process died \(exit code 9\)"),
    ],
)
def test_a_broken_codec_is_one_line(fault: str, message: str, clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(BsqError, match=r"^clip: fake:plain at 1: .*" + message) as caught:
        measure(clip, clip.path, FakeCodec(fault), 1, work=tmp_path, metrics=["psnr"])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_encoder_arrives_as_it_is(clip: Clip, tmp_path: Path) -> None:
    missing = tmp_path / "missing.mkv"
    with pytest.raises(VideoError) as there:
        codec("x264").encode(missing, tmp_path / "out", 30, keyint=4)
    with pytest.raises(VideoError) as here:
        measure(clip, missing, codec("x264"), 30, work=tmp_path)
    assert str(here.value) == str(there.value)
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_checked_before_work(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x264: quality 60: must lie in 1\.\.51"):
        measure(clip, clip.path, codec("x264"), 60, work=tmp_path / "work")
    with pytest.raises(UsageError, match="metric 'ssim'"):
        measure(clip, clip.path, codec("x264"), 30, work=tmp_path / "work", metrics=["ssim"])
    assert not (tmp_path / "work").exists()


def test_memory_is_the_childs_own(clip: Clip, tmp_path: Path) -> None:
    ballast = np.ones(500 * 2**17)  # 500 MiB in this process
    small = measure(clip, clip.path, FakeCodec(), 1, work=tmp_path, metrics=["psnr"])
    big = measure(clip, clip.path, FakeCodec("big"), 1, work=tmp_path, metrics=["psnr"])
    own = peak_mib()
    assert own is None or own > ballast.nbytes / 2**20
    assert small["encode"]["peak_mib"] < 400
    assert big["encode"]["peak_mib"] > small["encode"]["peak_mib"] + 350
    assert big["decode"]["peak_mib"] < 400


def test_decode_time_is_the_decoders_own(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Measurement.add

    def slowly(self: Measurement, reference: Frame, decoded: Frame) -> None:
        time.sleep(0.4)  # measuring is slower than decoding
        add(self, reference, decoded)

    monkeypatch.setattr(Measurement, "add", slowly)
    start = time.perf_counter()
    record = measure(clip, clip.path, FakeCodec("slow"), 1, work=tmp_path, metrics=["psnr"])
    assert time.perf_counter() - start > COUNT * 0.4
    assert COUNT * 0.1 <= record["decode"]["seconds"] < COUNT * 0.3


def count_forever() -> Iterator[int]:
    yield os.getpid()
    yield from range(10**9)


def note_each_step(path: Path) -> Iterator[int]:
    for number in range(5):
        path.write_text(str(number))
        yield number


def test_work_is_done_only_when_it_is_asked_for(tmp_path: Path) -> None:
    with closing(messages_of("stepping", note_each_step, tmp_path / "step")) as messages:
        assert [next(messages), next(messages)] == [0, 1]
        time.sleep(0.3)
        assert (tmp_path / "step").read_text() == "1"
        assert list(messages) == [2, 3, 4]


def test_closing_early_ends_the_process() -> None:
    with closing(messages_of("counting", count_forever)) as messages:
        child = next(messages)
        assert [next(messages), next(messages)] == [0, 1]
        os.kill(child, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
from bench_video import FakeCodec, RATE
from bsqcodec.bench.clip import Clip
from bsqcodec.bench.point import measure

class Sleeper(FakeCodec):
    def encode(self, source, out, quality, **options):
        import os
        out.write_bytes(b"unfinished")
        Path({pid!r}).write_text(str(os.getpid()))
        time.sleep(60)

if __name__ == "__main__":
    clip = Clip("clip", Path({clip!r}), 80, 64, RATE, 2)
    measure(clip, clip.path, Sleeper(), 1, work=Path({work!r}), metrics=["psnr"])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_child_ends_with_its_parent(how: signal.Signals, clip: Clip, tmp_path: Path) -> None:
    pid_file, work, script = tmp_path / "pid", tmp_path / "work", tmp_path / "script.py"
    values = {"paths": sys.path, "pid": str(pid_file), "clip": str(clip.path), "work": str(work)}
    script.write_text(SCRIPT.format(**values))
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as parent:
        wait_for(lambda: pid_file.exists() and bool(pid_file.read_text()))
        child = int(pid_file.read_text())
        if how is signal.SIGINT:
            os.killpg(parent.pid, how)  # as a terminal does on Ctrl-C: to all of them
        else:
            parent.kill()
        talk = parent.communicate(timeout=30)[1]
    wait_for(lambda: not alive(child))
    if how is signal.SIGINT:
        assert list(work.iterdir()) == []
        assert talk.count("KeyboardInterrupt") == 1  # the parent's; the child says nothing


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state != "Z"  # a zombie whose parent is gone and that nobody has collected


def wait_for(condition: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_commit_is_that_of_the_working_tree_only(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    clean = commit_of(tmp_path)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert clean is not None
    assert head.startswith(clean)
    (tmp_path / "file").write_text("2")
    assert commit_of(tmp_path) == f"{clean}-dirty"
    (tmp_path / "inside").mkdir()
    assert commit_of(tmp_path / "inside") is None


SLOW_START = """
import time
from multiprocessing.popen_spawn_posix import Popen
from bsqcodec.bench.children import messages_of

launch = Popen._launch
def slowly(self, process):
    print("starting", flush=True)
    time.sleep(1)
    launch(self, process)
Popen._launch = slowly
print(list(messages_of("a list", iter, [1, 2])), flush=True)
time.sleep(30)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes of Windows know no SIGTERM")
def test_a_process_that_is_ended_while_it_starts_another_leaves_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_START], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "starting\n"
    process.terminate()
    begin = time.monotonic()
    out, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM and time.monotonic() - begin > 0.5  # the start was finished first
    assert "Traceback" not in errors and out == ""
