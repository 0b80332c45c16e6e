"""Pipes through the real entry point: what goes in and out, what stays off stdout, and readers that leave."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction

import av
import clips
import numpy as np
import pytest
import streams
from test_cli import environment, files, one_error, run

import bsqcodec
from bsqcodec.errors import UsageError
from bsqcodec.video.formats import InputFormat, input_format

SIZE = f"{clips.WIDTH}x{clips.HEIGHT}"


def raw_bytes(frames: int = clips.FRAMES) -> bytes:
    """The planes of `clips.picture` and nothing else."""
    return b"".join(plane.tobytes() for n in range(frames) for plane in clips.picture(n))


def pictures(coded: bytes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    decoded = run("decode", "-", "-", "-q", stdin=coded)
    assert (decoded.returncode, decoded.stderr) == (0, b"")
    return clips.read_y4m(decoded.stdout)


def check(coded: bytes) -> None:
    found = pictures(coded)
    assert len(found) == clips.FRAMES
    for number, planes in enumerate(found):
        for got, expected in zip(planes, clips.picture(number), strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("source", ["-", "in.yuv", "in.bin"])
def test_raw_video(tmp_path, source):
    (tmp_path / "in.yuv").write_bytes(raw_bytes())
    (tmp_path / "in.bin").write_bytes(raw_bytes())
    name, data = (source, raw_bytes()) if source == "-" else (str(tmp_path / source), b"")
    options = ("--format", "raw", "--video-size", SIZE, "--framerate", "30000/1001")
    done = run("encode", name, tmp_path / "out.bsq", *options, "--crf", 0, stdin=data)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, bsqcodec.inspect(tmp_path / "out.bsq").video.fps) == (b"", Fraction(30000, 1001))
    check((tmp_path / "out.bsq").read_bytes())


def test_raw_video_of_another_pixel_format(tmp_path):
    interleaved = b""
    for number in range(clips.FRAMES):
        y, u, v = clips.picture(number)
        interleaved += y.tobytes() + np.stack([u, v], axis=-1).tobytes()
    options = ("--format", "rawvideo", "--video-size", SIZE, "--pix-fmt", "nv12", "--crf", 0)
    done = run("encode", "-", "-", *options, stdin=interleaved)
    assert done.returncode == 0, done.stderr
    check(done.stdout)


def test_other_formats_come_through_a_pipe_by_name():
    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as out, av.open(io.BytesIO(clips.y4m_bytes())) as source:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = clips.WIDTH, clips.HEIGHT, "yuv420p"
        for frame in source.decode(video=0):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    done = run("encode", "-", "-", "--format", "mkv", "--crf", 0, stdin=memory.getvalue())
    assert done.returncode == 0, done.stderr
    check(done.stdout)
    wrong = run("encode", "-", "-", stdin=memory.getvalue())
    assert wrong.returncode == 1
    assert "--format" in one_error(wrong.stderr.decode())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--format", "raw"), "add --video-size"),
        (("--format", "raw", "--video-size", "big"), "not a size"),
        (("--format", "raw", "--video-size", SIZE, "--framerate", "0"), "not a rate"),
        (("--format", "raw", "--video-size", SIZE, "--framerate", "1/0"), "not a rate"),
        (("--format", "raw", "--video-size", SIZE, "--pix-fmt", "yuv421q"), "pixel format"),
        (("--format", "betamax"), "FFmpeg reads none"),
        (("--framerate", "30"), "add --format raw"),
        (("--video-size", SIZE, "--format", "mkv"), "add --format raw"),
    ],
)
def test_usage_errors(tmp_path, options, says):
    done = run("encode", "-", tmp_path / "out.bsq", *options, stdin=raw_bytes())
    assert done.returncode == 2
    assert says in one_error(done.stderr.decode())
    assert files(tmp_path) == set()


def test_raw_errors_name_the_remedy(tmp_path):
    (tmp_path / "in.yuv").write_bytes(raw_bytes())
    done = run("encode", tmp_path / "in.yuv", tmp_path / "out.bsq")
    assert done.returncode == 1
    assert "--format raw --video-size" in one_error(done.stderr.decode())
    cut = run("encode", "-", tmp_path / "out.bsq", "--format", "raw", "--video-size", SIZE, stdin=raw_bytes()[:-5])
    assert cut.returncode == 1
    assert "cut short" in one_error(cut.stderr.decode())
    assert files(tmp_path) == {"in.yuv"}


def test_options_become_ffmpegs():
    assert input_format(None, None, None, None) is None
    assert input_format("y4m", None, None, None) == InputFormat("yuv4mpegpipe")
    options = {"video_size": "64x48", "framerate": "2997/100", "pixel_format": "gray"}
    assert input_format("raw", "64X48", 29.97, "gray") == InputFormat("rawvideo", options)
    with pytest.raises(UsageError, match="--pix-fmt"):
        input_format(None, None, None, "nv12")


# --- what is where -------------------------------------------------------------------------------


def test_stdout_carries_data_alone(tmp_path):
    """Loud and slow enough for progress: all talk goes to stderr."""
    coded = run("encode", "-", "-", "-v", "--keyint", 3, stdin=clips.y4m_bytes())
    assert coded.stdout.startswith(b"\x89BSQ") and b"model:" in coded.stderr
    assert bsqcodec.inspect(_saved(tmp_path / "a.bsq", coded.stdout), check=True).damage is None
    decoded = run("decode", "-", "-", "-v", stdin=coded.stdout)
    assert len(clips.read_y4m(decoded.stdout)) == clips.FRAMES and b"frames in 3 groups" in decoded.stderr
    part = run("cut", tmp_path / "a.bsq", "-", "--limit", 3, "-v")
    assert bsqcodec.inspect(_saved(tmp_path / "b.bsq", part.stdout), check=True).frames == 3


def test_a_part_of_a_pipe(tmp_path):
    coded = run("encode", "-", "-", "-q", "--crf", 0, "--keyint", 2, stdin=clips.y4m_bytes()).stdout
    decoded = run("decode", "-", "-", "-q", "--skip", 3, "--limit", 2, stdin=coded)
    assert (decoded.returncode, decoded.stderr) == (0, b"")
    for number, planes in zip((3, 4), clips.read_y4m(decoded.stdout), strict=True):
        np.testing.assert_array_equal(planes[0], clips.picture(number)[0])


def _saved(path, data: bytes):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("command", ["encode", "decode", "cut"])
def test_a_reader_that_leaves_at_once_is_no_error(tmp_path, command):
    """More than a pipe holds, so that the writer meets the closed end."""
    (tmp_path / "long.y4m").write_bytes(clips.y4m_bytes(150, 64, 64))
    coded = run("encode", tmp_path / "long.y4m", tmp_path / "long.bsq", "--crf", 0, "--keyint", 10, "-q")
    assert coded.returncode == 0
    (tmp_path / "wide.bsq").write_bytes(streams.stream([8] * 200, words=2000))
    source = {"encode": "long.y4m", "decode": "long.bsq", "cut": "wide.bsq"}[command]
    arguments = [sys.executable, "-m", "bsqcodec", command, str(tmp_path / source), "-"]
    arguments += ["--crf", "0", "--keyint", "10"] if command == "encode" else []
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(4)
    process.stdout.close()
    talk = process.stderr.read().decode()
    assert process.wait(timeout=60) == 1
    assert "rror" not in talk and "Traceback" not in talk
    process.stderr.close()
