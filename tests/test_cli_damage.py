"""`decode` of damaged files on the command line: what it says, and its exit code. The codec is that of `fakes`."""

from __future__ import annotations

import json
from pathlib import Path

import clips
import pytest
from test_cli import clip, files, invoke, one_error, run, stream  # noqa: F401  (fixtures)

from bsqcodec.cli.damage import MAX_PIXELS
from bsqcodec.container import types


@pytest.fixture
def damaged(stream, tmp_path) -> Path:  # noqa: F811
    """Three groups of three, three and one frames, the second damaged."""
    data = bytearray(stream.read_bytes())
    data[data.index(b"GRUP", data.index(b"GRUP") + 1) + 60] ^= 1
    (tmp_path / "bad.bsq").write_bytes(data)
    return tmp_path / "bad.bsq"


def test_the_default_writes_nothing(damaged, tmp_path, invoke):  # noqa: F811
    result = invoke("decode", damaged, tmp_path / "out.y4m")
    assert result.exit_code == 3
    error = one_error(result.stderr)
    assert "group 1 (frames 3-5): CRC mismatch" in error and "--on-error skip or conceal" in error
    damaged.write_bytes(damaged.read_bytes().replace(b"HEAD", b"HEAx"))
    assert "--on-error" not in one_error(invoke("decode", damaged, tmp_path / "out.y4m").stderr)
    assert not (tmp_path / "out.y4m").exists()


@pytest.mark.parametrize(
    ("options", "frames", "says"),
    [
        (("--on-error", "skip"), 4, "3 frames lost, left out"),
        (("--on-error", "conceal"), 7, "3 frames lost, 3 of them filled in (freeze)"),
        (("--on-error", "conceal", "--fill", "grey"), 7, "3 frames lost, 3 of them filled in (grey)"),
    ],
)
def test_what_is_saved_is_written_with_exit_code_3(damaged, tmp_path, invoke, options, frames, says):  # noqa: F811
    result = invoke("decode", damaged, tmp_path / "out.y4m", *options)
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert lines[-1].endswith(f"out.y4m: written from a damaged file: {says}")
    assert "bad.bsq: byte" in lines[-2] and lines[-2].endswith("(frames 3-5 lost)")
    assert lines[-2].startswith("damaged: ")
    assert len(clips.read_y4m((tmp_path / "out.y4m").read_bytes())) == frames
    quiet = invoke("decode", damaged, tmp_path / "out.y4m", *options, "-y", "-q")
    assert (quiet.exit_code, quiet.stderr.splitlines()) == (3, lines[-2:])


def test_json_tells_what_was_lost(damaged, tmp_path, invoke):  # noqa: F811
    result = invoke("decode", damaged, tmp_path / "out.y4m", "--on-error", "conceal", "--json")
    done = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, done["type"], done["frames"], done["groups"]) == (3, "done", 7, 2)
    assert (done["lost_frames"], done["concealed_frames"]) == (3, 3)
    (loss,) = done["damage"]
    assert (loss["first_frame"], loss["frames"]) == (3, 3)
    data = damaged.read_bytes()
    assert data[loss["offset"] :][:4] == b"GRUP" == data[loss["offset"] + loss["size"] :][:4]
    assert "CRC mismatch" in loss["message"]


def test_an_undamaged_file_is_exit_code_0(stream, tmp_path, invoke):  # noqa: F811
    for mode in ("skip", "conceal"):
        result = invoke("decode", stream, tmp_path / "out.y4m", "-y", "--on-error", mode, "--json")
        done = json.loads(result.stdout.splitlines()[-1])
        assert (result.exit_code, done["lost_frames"], done["damage"]) == (0, 0, [])
        assert "damaged:" not in result.stderr


def test_pipes(damaged):
    """A damaged pipe is put aside until it is whole; it may be cut as well."""
    data = damaged.read_bytes()
    done = run("decode", "-", "-", "--on-error", "conceal", stdin=data)
    assert done.returncode == 3 and len(clips.read_y4m(done.stdout)) == 7
    assert b"standard input: byte" in done.stderr
    done = run("decode", "-", "-", "--on-error", "skip", stdin=data[:-200])
    assert done.returncode == 3 and len(clips.read_y4m(done.stdout)) in (3, 4)
    assert b"cut short" in done.stderr


def test_many_places_are_counted_not_listed(tmp_path, invoke):  # noqa: F811
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(60, 16, 16))
    assert invoke("encode", tmp_path / "in.y4m", tmp_path / "in.bsq", "--keyint", 1).exit_code == 0
    data = bytearray((tmp_path / "in.bsq").read_bytes())
    at = 0
    for number in range(50):
        at = data.index(b"GRUP", at + 1)
        data[at + 20] ^= number % 2  # every second one
    (tmp_path / "bad.bsq").write_bytes(data)
    result = invoke("decode", tmp_path / "bad.bsq", tmp_path / "out.y4m", "--on-error", "skip")
    lines = [line for line in result.stderr.splitlines() if line.startswith("damaged: ")]
    assert len(lines) == 21 and lines[-1] == "damaged: and 5 places more"
    assert "25 frames lost" in result.stderr


def test_limits_exit_3_and_name_the_option(stream, tmp_path, invoke):  # noqa: F811
    assert MAX_PIXELS == types.MAX_PIXELS
    before = files(tmp_path)
    for option, value in (("--max-pixels", 34 * 26 - 1), ("--max-frames", clips.FRAMES - 1)):
        for mode in ("fail", "skip"):
            result = invoke("decode", stream, tmp_path / "out.y4m", option, value, "--on-error", mode)
            assert result.exit_code == 3
            assert option in one_error(result.stderr)
    assert files(tmp_path) == before
    options = ("--max-pixels", 34 * 26, "--max-frames", clips.FRAMES)
    assert invoke("decode", stream, tmp_path / "out.y4m", *options).exit_code == 0
