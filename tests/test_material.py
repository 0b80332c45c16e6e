"""The real command line on every kind of material: lengths, sizes, times, sound, colour, pipes, bad input, signals.

Run: pytest tests/test_material.py; `-m slow` for full sizes and memory, BSQ_TEST_FULL_SIZE=1 for memory at 640x360.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from click.testing import CliRunner, Result
from test_codec import causal_weights, noise, scene, write_y4m
from test_video import clip_with_audio, raw_clip

import bsqcodec
from bsqcodec.cli.tool import cli
from bsqcodec.codec import GroupEncoder
from bsqcodec.container import Group, StreamHeader, StreamReader, StreamWriter
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.video import create_video

ROOT = Path(__file__).resolve().parent.parent
FULL_SIZE = "BSQ_TEST_FULL_SIZE"
MIB = 2**20


@pytest.fixture
def tool(weights):
    """The tool in this process, with the model of the tests."""

    def invoke(command: str, *args: object) -> Result:
        options = [] if command == "info" else ["--weights", str(weights), "--device", "cpu"]
        return CliRunner().invoke(cli, [command, *map(str, args), *options])

    return invoke


def environment(**extra: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BSQCODEC_")}
    paths = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": paths, "COLUMNS": "200", **extra}


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "bsqcodec", *map(str, args)]


def ok(result: Result) -> Result:
    assert result.exit_code == 0, result.stderr
    return result


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def facts(tool, path: Path) -> dict:
    return json.loads(ok(tool("info", path, "--json")).stdout)


def there_and_back(
    tool, tmp_path: Path, source: Path, *options: object
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Encode with --verify, decode to YUV4MPEG2; the decoded planes of every frame."""
    ok(tool("encode", source, tmp_path / "out.bsq", "--verify", *options))
    ok(tool("decode", tmp_path / "out.bsq", tmp_path / "back.y4m"))
    return clips.read_y4m((tmp_path / "back.y4m").read_bytes())


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(((one.astype(int) - other) ** 2).mean())
    return 10 * np.log10(255**2 / error) if error else 100.0


# --- lengths and sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
def test_lengths(tool, tmp_path, count):
    pictures = [scene(n, 24, 16) for n in range(count)]
    write_y4m(tmp_path / "in.y4m", pictures)
    ok(tool("encode", tmp_path / "in.y4m", tmp_path / "out.bsq"))
    ok(tool("decode", tmp_path / "out.bsq", tmp_path / "back.y4m"))
    back = clips.read_y4m((tmp_path / "back.y4m").read_bytes())
    assert len(back) == count
    # every frame is its own picture, not its neighbour
    for number in {0, count // 2, count - 1}:
        assert psnr(back[number][0], pictures[number][0]) > 24
    info = facts(tool, tmp_path / "out.bsq")
    assert (info["frames"], len(info["groups"])) == (count, -(-count // 32))


SIZES = [(16, 16, 3), (353, 289, 2), (360, 640, 2), (17, 200, 2)]


@pytest.mark.parametrize(("width", "height", "count"), SIZES, ids=[f"{w}x{h}" for w, h, _ in SIZES])
def test_sizes(tool, tmp_path, width, height, count):
    check_size(tool, tmp_path, width, height, count)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "count"), [(1920, 1080, 2), (353, 289, 33), (360, 640, 33)])
def test_full_sizes(tool, tmp_path, width, height, count):
    check_size(tool, tmp_path, width, height, count)


def check_size(tool, tmp_path, width, height, count):
    pictures = [scene(n, width, height) for n in range(count)]
    write_y4m(tmp_path / "in.y4m", pictures)
    back = there_and_back(tool, tmp_path, tmp_path / "in.y4m", "--crf", "30")
    assert [planes[0].shape for planes in back] == [(height, width)] * count
    half = (-(-height // 2), -(-width // 2))
    for planes, original in zip(back, pictures, strict=True):
        assert planes[1].shape == planes[2].shape == half
        assert all(psnr(a, b) > 26 for a, b in zip(planes, original, strict=True))
    info = facts(tool, tmp_path / "out.bsq")["video"]
    assert (info["width"], info["height"]) == (width, height)


# --- what is in the pictures ---------------------------------------------------------------------


def test_cut_black_and_noise_in_one_video(tool, tmp_path):
    black = (np.full((48, 64), 16, np.uint8), np.full((24, 32), 128, np.uint8), np.full((24, 32), 128, np.uint8))
    dark = [tuple(plane // 3 for plane in scene(n, 64, 48, seed=2)) for n in range(4)]
    parts = [scene(n, 64, 48, seed=1) for n in range(4)], dark, [black] * 4, [noise(n, 64, 48) for n in range(3)]
    pictures = [planes for part in parts for planes in part]
    write_y4m(tmp_path / "in.y4m", pictures)
    back = there_and_back(tool, tmp_path, tmp_path / "in.y4m", "--crf", "26")
    quality = [psnr(after[0], before[0]) for after, before in zip(back, pictures, strict=True)]
    assert min(quality[:8]) > 26
    assert min(quality[9:12]) > 38
    assert min(quality[12:]) > 18
    with (tmp_path / "out.bsq").open("rb") as file:
        starts = [item.first_frame for item in StreamReader(file) if isinstance(item, Group)]
    assert starts[:2] == [0, 4]  # the hard cut between two moving scenes


def test_ten_bit_444_is_converted_and_info_says_so(tool, tmp_path):
    rows, columns = np.mgrid[:34, :50]
    luma = (256 + 10 * rows + 2 * columns).astype("<u2")
    chroma = [np.full((34, 50), value, "<u2") for value in (500, 540)]
    raw_clip(tmp_path / "in.mkv", "yuv444p10le", [luma, *chroma])
    back = there_and_back(tool, tmp_path, tmp_path / "in.mkv", "--crf", "16")
    assert facts(tool, tmp_path / "out.bsq")["video"]["source_format"] == "yuv444p10le"
    assert "yuv444p10le" in ok(tool("info", tmp_path / "out.bsq")).stdout
    assert back[0][0].shape == (34, 50)
    assert psnr(back[0][0], np.round(luma / 4)) > 34
    assert abs(float(back[0][1].mean()) - 125) < 3
    assert abs(float(back[0][2].mean()) - 135) < 3


# --- times and sound -----------------------------------------------------------------------------


def test_variable_frame_rate_is_kept(tool, tmp_path):
    times = [0, 40, 47, 120, 500, 533, 1700]
    info = VideoInfo(34, 26, Fraction(1, 1000), Fraction(4))
    with create_video(tmp_path / "in.mkv", info, [], codec="ffv1") as out:
        for number, time in enumerate(times):
            out.write(Frame(*scene(number, 34, 26), pts=time))
    ok(tool("encode", tmp_path / "in.mkv", tmp_path / "out.bsq", "--keyint", "3"))
    ok(tool("decode", tmp_path / "out.bsq", tmp_path / "back.mkv"))
    assert video_times(tmp_path / "in.mkv") == [Fraction(time, 1000) for time in times]
    assert video_times(tmp_path / "back.mkv") == [Fraction(time, 1000) for time in times]


def video_times(path: Path) -> list[Fraction]:
    """Time stamps of all frames in seconds."""
    with av.open(str(path)) as source:
        found = []
        for frame in source.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            found.append(frame.pts * frame.time_base)
        return found


def sound_packets(path: Path) -> list[tuple[bytes, Fraction]]:
    """Bytes and time in seconds of every audio packet."""
    with av.open(str(path)) as source:
        packets = [packet for packet in source.demux(audio=0) if packet.size]
        return [(bytes(packet), (packet.pts or 0) * packet.time_base) for packet in packets]


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_audio_is_untouched_and_in_step(tool, tmp_path, container):
    """Packets identical; every distance between a frame and a packet changes by less than 1 ms."""
    source, back = clip_with_audio(tmp_path / f"in.{container}"), tmp_path / f"back.{container}"
    ok(tool("encode", source, tmp_path / "out.bsq", "--keyint", "8"))
    ok(tool("decode", tmp_path / "out.bsq", back))
    before, after = sound_packets(source), sound_packets(back)
    assert len(before) > 20
    assert [data for data, _ in after] == [data for data, _ in before]
    pictures, pictures_after = video_times(source), video_times(back)
    assert len(pictures) == len(pictures_after) == 25
    shift = pictures_after[0] - pictures[0]
    moved = [then + shift - now for then, now in zip(pictures, pictures_after, strict=True)]
    moved += [then + shift - now for (_, then), (_, now) in zip(before, after, strict=True)]
    assert max(map(abs, moved)) <= Fraction(1, 1000)


# --- pipes ---------------------------------------------------------------------------------------


def test_y4m_through_pipes(weights):
    source = clips.y4m_bytes(5, 50, 34)
    options = ("--weights", weights, "--device", "cpu")
    encoded = subprocess.run(
        command("encode", "-", "-", "--keyint", "2", *options), input=source, capture_output=True, env=environment()
    )
    assert encoded.returncode == 0, encoded.stderr
    decoded = subprocess.run(
        command("decode", "-", "-", *options), input=encoded.stdout, capture_output=True, env=environment()
    )
    assert decoded.returncode == 0, decoded.stderr
    assert decoded.stdout.split(b"\n")[0].split()[:3] == source.split(b"\n")[0].split()[:3]
    for before, after in zip(clips.read_y4m(source), clips.read_y4m(decoded.stdout), strict=True):
        assert psnr(before[0], after[0]) > 25


# --- bad input -----------------------------------------------------------------------------------


def one_error(result: Result) -> str:
    """The error line, which must be the only thing said besides the device."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("device:")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("bsqcodec: error: ")
    assert "Traceback" not in result.output
    return lines[0]


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.y4m"
    path.write_bytes(clips.y4m_bytes(4, 34, 26))
    return path


@pytest.fixture
def stream(tool, clip, tmp_path):
    ok(tool("encode", clip, tmp_path / "good.bsq", "--keyint", "2"))
    return tmp_path / "good.bsq"


def bad_source(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "bad.mp4"
    if kind == "truncated":
        whole = clip_with_audio(tmp_path / "whole.mp4").read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif kind != "missing":
        path.write_bytes({"text": b"not a video, only text\n" * 50, "empty": b""}[kind])
    return path


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "missing"])
def test_unusable_videos(tool, tmp_path, kind):
    source = bad_source(kind, tmp_path)
    before = files(tmp_path)
    result = tool("encode", source, tmp_path / "out.bsq")
    assert result.exit_code == 1
    assert "bad.mp4" in one_error(result)
    assert files(tmp_path) == before


def test_unusable_outputs(tool, clip, tmp_path):
    (tmp_path / "taken.bsq").write_bytes(b"old")
    before = files(tmp_path)
    cases = [
        (tmp_path / "taken.bsq", 1, "already exists"),
        (clip, 2, "same file"),
        (Path("/proc/out.bsq"), 1, "/proc"),
        (tmp_path / "nowhere" / "out.bsq", 1, "no folder"),
    ]
    for out, code, says in cases:
        result = tool("encode", clip, out)
        assert (result.exit_code, says in one_error(result)) == (code, True), result.stderr
    assert files(tmp_path) == before
    assert (tmp_path / "taken.bsq").read_bytes() == b"old"
    assert clip.read_bytes() == clips.y4m_bytes(4, 34, 26)


def test_no_gpu(clip, tmp_path, weights):
    """A GPU that is not there is one line; hiding all of them makes this true on any machine."""
    before = files(tmp_path)
    args = command("encode", clip, tmp_path / "out.bsq", "--gpu", "0", "--weights", weights)
    done = subprocess.run(args, capture_output=True, text=True, env=environment(CUDA_VISIBLE_DEVICES=""))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "cuda:0: no such GPU" in done.stderr
    assert files(tmp_path) == before


def flipped(data: bytes) -> bytes:
    """One bit of the first group's words."""
    middle = data.index(b"GRUP") + 100
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


DAMAGES = {
    "signature": (lambda data: b"X" + data[1:], 3, "not a"),
    "empty": (lambda data: b"", 3, ""),
    "newer": (lambda data: data[:8] + b"\x03" + data[9:], 4, "version"),
    "flipped": (flipped, 3, "damaged"),
    "cut": (lambda data: data[: len(data) * 3 // 4], 3, "cut short"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("out", ["back.y4m", "back.mp4"])
def test_damaged_streams(tool, stream, tmp_path, damage, out):
    change, code, says = DAMAGES[damage]
    (tmp_path / "bad.bsq").write_bytes(change(stream.read_bytes()))
    before = files(tmp_path)
    result = tool("decode", tmp_path / "bad.bsq", tmp_path / out)
    line = one_error(result)
    assert result.exit_code == code, line
    assert "bad.bsq" in line
    assert says in line
    assert files(tmp_path) == before


def test_every_flipped_byte_is_noticed(weights, stream, tmp_path):
    """Through the decoder: no flipped byte gives other pictures without an error."""
    data = stream.read_bytes()
    rng = np.random.default_rng(0)
    for place in sorted(rng.choice(len(data), 24, replace=False)):
        bad = bytearray(data)
        bad[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "bad.bsq").write_bytes(bad)
        with pytest.raises(bsqcodec.BsqError) as caught:
            bsqcodec.decode(tmp_path / "bad.bsq", tmp_path / "back.y4m", weights=weights)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "back.y4m").exists()


def test_other_weights(tool, stream, tmp_path):
    other = causal_weights(tmp_path / "other.safetensors")
    before = files(tmp_path)
    args = ["decode", str(stream), str(tmp_path / "back.y4m"), "--weights", str(other), "--device", "cpu"]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 4
    assert "--weights" in one_error(result)
    assert files(tmp_path) == before


@pytest.mark.parametrize("what", ["encode", "decode"])
def test_interrupt_leaves_nothing(weights, tmp_path, what):
    """Ctrl-C after the first frames: exit code 130, one line, no file."""
    if what == "encode":
        source, out = tmp_path / "in.y4m", tmp_path / "out.bsq"
        source.write_bytes(clips.y4m_bytes(400, 96, 64))
    else:
        source, out = tmp_path / "in.bsq", tmp_path / "out.y4m"
        repeated(weights, source, VideoInfo(96, 64), 2, 400)
    before = files(tmp_path)
    args = command(what, source, out, "--json", "--weights", weights, "--device", "cpu")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(args, env=environment(), **pipes) as process:
        assert process.stdout is not None
        progress = json.loads(process.stdout.readline())
        assert progress["type"] == "progress"
        assert files(tmp_path) == before | {out.name + ".part"}
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in talk.decode().splitlines() if not line.startswith("device:")]
    assert len(lines) == 1, lines
    assert "interrupted" in lines[0]
    assert files(tmp_path) == before


# --- memory --------------------------------------------------------------------------------------


def repeated(weights: Path, path: Path, info: VideoInfo, group: int, frames: int) -> None:
    """A stream of many frames, quickly: one group of `group` frames again and again."""
    from bsqcodec.codec import load_model

    model = load_model(weights, device="cpu")
    encoder = GroupEncoder(model, info, crf=36, keyint=group)
    done = [
        found
        for n in range(group)
        for found in encoder.push(Frame(*scene(n, info.width, info.height), pts=n, duration=1))
    ]
    first = done[0].group
    assert len(first.pts) == group
    with path.open("wb") as file:
        writer = StreamWriter(file, StreamHeader(info, group, model.tune, 36, model.sha256, model.name))
        for start in range(0, frames, group):
            pts = tuple(range(start, start + group))
            writer.write_group(Group(start, pts, first.durations, first.qualities, first.motion, first.tokens))
        writer.close()


PEAK = """
import sys
from bsqcodec.cli import main
code = main(sys.argv[1:])
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(code or 0, peak, file=sys.stderr)
"""


def peak_memory(*args: object) -> int:
    """Bytes of the largest resident set of a run of the tool (VmHWM: not what the parent had before exec)."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, args)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    code, peak = done.stderr.split()[-2:]
    assert (done.returncode, code) == (0, b"0"), done.stderr
    return int(peak) * 1024


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak that Linux keeps")


@needs_proc
@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(weights, tmp_path):
    """1,800 frames take no more than 180 (within 10 %), to a raw stream and to H.264."""
    full = bool(os.environ.get(FULL_SIZE))
    info = VideoInfo(640, 360) if full else VideoInfo(96, 64)
    for frames in (180, 1800):
        repeated(weights, tmp_path / f"{frames}.bsq", info, 30, frames)
    options = ("--weights", weights, "--device", "cpu", "-q")
    for out in ("-",) if full else ("-", tmp_path / "back.mp4"):
        peaks = [peak_memory("decode", tmp_path / f"{n}.bsq", out, *options, "-y") for n in (180, 1800)]
        assert peaks[1] < 1.1 * peaks[0], peaks


@needs_proc
@pytest.mark.slow
def test_1080p_stays_under_2_gib(weights, tmp_path):
    write_y4m(tmp_path / "in.y4m", [scene(n, 1920, 1080) for n in range(3)])
    options = ("--weights", weights, "--device", "cpu", "-q")
    assert peak_memory("encode", tmp_path / "in.y4m", tmp_path / "out.bsq", *options) < 2048 * MIB
    assert peak_memory("decode", tmp_path / "out.bsq", tmp_path / "back.mp4", *options) < 2048 * MIB
