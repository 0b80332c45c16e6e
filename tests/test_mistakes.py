"""What a new user gets wrong first: each ends in one line that says what to do, an exit code, and no file."""

from __future__ import annotations

import re
from pathlib import Path

import clips
import pytest
from click.testing import CliRunner
from test_cli import files, one_error

import bsqcodec
from bsqcodec.cli.tool import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A video in.y4m, its stream out.bsq, and a text."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "in.y4m").write_bytes(clips.y4m_bytes(3))
    (folder / "notes.txt").write_text("no video in here\n" * 40)
    bsqcodec.encode(folder / "in.y4m", folder / "out.bsq", device="cpu")
    return folder


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        # the wrong file
        ("encode gone.mp4 new.bsq", 1, "gone.mp4: no such file; check the name"),
        ("encode notes.txt new.bsq", 1, "notes.txt: not a video .*; give a file that FFmpeg can play"),
        ("encode out.bsq new.bsq", 2, r"out.bsq: is a \.bsq file already; .* use decode"),
        ("decode in.y4m new.mp4", 3, r"in.y4m: .*not a \.bsq file .*; give one"),
        ("info in.y4m", 3, r"in.y4m: .*not a \.bsq file .*; give one"),
        # swapped arguments, which must never end in the advice to replace the video
        ("encode out.bsq in.y4m", 2, "in.y4m: encode writes .*; give the video first"),
        ("encode new.bsq in.y4m -y", 2, "in.y4m: encode writes .*; give the video first"),
        ("decode new.mp4 out.bsq", 2, r"out.bsq: decode writes a video; give the \.bsq file first"),
        ("encode in.y4m new.mp4", 2, r"new.mp4: encode writes a \.bsq file"),
        # an output that is there
        ("encode in.y4m out.bsq", 1, "out.bsq: already exists; use -y"),
        ("decode out.bsq in.y4m", 1, "in.y4m: already exists; use -y"),
        # an impossible bitrate
        ("encode in.y4m new.bsq -b 500 --device cpu -q", 2, r"alone take .* kbit/s; ask for more \(is 500k meant"),
        ("encode in.y4m new.bsq -b fast", 2, "'fast': not an amount; write 500k"),
        # an unknown option or command
        ("encode in.y4m new.bsq --cfr 28", 2, "No such option '--cfr'.*'--crf'"),
        ("encod in.y4m new.bsq", 2, "No such command 'encod'.*'encode'"),
        ("encode in.y4m", 2, "Missing argument 'OUT'"),
        # a GPU that is not there
        ("encode in.y4m new.bsq --gpu 99", 1, "cuda:99: no such GPU, .*; use --device cpu"),
        ("decode out.bsq new.mp4 --device cuda:99", 1, "cuda:99: no such GPU, .*; use --device cpu"),
    ],
)
def test_a_mistake_is_one_line(folder, monkeypatch, line, code, says):
    monkeypatch.chdir(folder)
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    result = CliRunner().invoke(cli, line.split())
    assert (result.exit_code, result.stdout) == (code, "")
    assert re.search(says, one_error(result.stderr)), result.stderr
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before
