"""The README is true: its commands run, those that cannot run here parse, its files and links are there.

A block whose commands need the network, a data set, hours or Ctrl-C has a comment above it, `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import clips
import pytest
from click.testing import CliRunner
from test_house import ROOT

import bsqcodec
from bsqcodec.cli.tool import cli

README = (ROOT / "README.md").read_text(encoding="utf-8")
BEE = ROOT / "benchmarks" / "data" / "bee_640x360.mp4"
PLAYERS = {"ffplay"}  # programs of others that a pipe may end in


@dataclass(frozen=True)
class Block:
    """text: of a fenced block; reason: why it is not run, "" where it is."""

    text: str
    reason: str

    @property
    def lines(self) -> list[list[str]]:
        """The commands as words; | and < are words of their own."""
        lexers = [shlex.shlex(line, posix=True, punctuation_chars="|<>") for line in self.text.splitlines()]
        for lexer in lexers:
            lexer.whitespace_split = True
        return [words for lexer in lexers if (words := list(lexer))]


def blocks(language: str) -> list[Block]:
    """The fenced blocks of the README in a language ("" for none)."""
    found = re.findall(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", README, re.M | re.S)
    return [Block(text, reason) for reason, name, text in found if name == language]


BASH = blocks("bash")
RUN = [block for block in BASH if not block.reason]
NOT_RUN = [words for block in BASH if block.reason for words in block.lines]


def is_tool(words: list[str]) -> bool:
    return words[0].rpartition("/")[2] == "bsqcodec"


# --- commands ------------------------------------------------------------------------------------


FRAMES = 6  # so that there is a frame 5


def write_clip(path: Path, codec: str, rate: Fraction, frames: int = FRAMES) -> None:
    """The first frames of the demo clip at 48x32, without loss."""
    with av.open(str(BEE)) as source, av.open(str(path), "w") as out:
        options = {"qp": "0"} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number, frame in enumerate(islice(source.decode(video=0), frames)):
            small = frame.reformat(48, 32, "yuv420p")
            small.pts, small.time_base = number, 1 / rate
            out.mux(stream.encode(small))
        out.mux(stream.encode(None))


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """Every file that the README's commands read: a clip of some frames, and a stream that plays for 70 seconds."""
    folder = tmp_path_factory.mktemp("readme")
    write_clip(folder / "in.mp4", "libx264", Fraction(25))
    write_clip(folder / "x265.mkv", "ffv1", Fraction(25))
    write_clip(folder / "slow.mkv", "ffv1", Fraction(1, 7), frames=10)
    bsqcodec.encode(folder / "in.mp4", folder / "out.bsq", device="cpu")
    bsqcodec.encode(folder / "slow.mkv", folder / "in.bsq", keyint=4, device="cpu")
    (folder / "in.yuv").write_bytes(bytes(640 * 360 * 3 // 2))
    for name in ("one.bsq", "two.bsq"):
        shutil.copy(folder / "out.bsq", folder / name)
    (folder / "benchmarks" / "data").mkdir(parents=True)
    shutil.copy(folder / "in.mp4", folder / "benchmarks" / "data" / BEE.name)
    return folder


def outputs(block: Block) -> set[str]:
    """What the block's commands make: it must not be there before."""
    made = {words[3] for words in block.lines if words[1] in ("encode", "decode")}
    return made | {words[-1] for words in block.lines if words[1] == "join"}


def run_line(words: list[str]) -> None:
    """Run one command of the tool; standard input comes from a file, standard output goes to a player of video."""
    cut = words.index("|") if "|" in words else len(words)
    words, reader, stdin = words[:cut], words[cut + 1 :], b""
    if "<" in words:
        at = words.index("<")
        stdin, words = Path(words[at + 1]).read_bytes(), words[:at]
    done = CliRunner().invoke(cli, words[1:], input=stdin)
    assert done.exit_code == 0, f"{shlex.join(words)}: {done.stderr}"
    if reader:
        assert reader[0] in PLAYERS and reader[1:] == ["-"]
        assert len(clips.read_y4m(done.stdout_bytes)) == FRAMES


@pytest.mark.parametrize("block", RUN, ids=lambda block: shlex.join(block.lines[0]))
def test_the_commands_run_in_their_order(block, material, tmp_path, monkeypatch):
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    for name in outputs(block):
        (tmp_path / name).unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    for words in block.lines:
        assert is_tool(words), f"{words[0]}: only the tool's own commands run here; say above the block why it does not"
        run_line(words)
    assert all(Path(name).stat().st_size for name in outputs(block) - {"-"})
    assert not [path for path in set(tmp_path.rglob("*")) - before if path.suffix == ".part"]


@pytest.mark.parametrize("words", [words for words in NOT_RUN if is_tool(words)], ids=shlex.join)
def test_the_options_parse_of_what_is_not_run(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    (tmp_path / "bsqcodec").symlink_to(ROOT / "bsqcodec")
    context = cli.commands[words[1]].make_context(words[1], words[2:])
    assert not context.args
    with pytest.raises(Exception, match="No such option"):
        cli.commands[words[1]].make_context(words[1], [*words[2:], "--no-such-option"])


def test_every_command_is_there():
    assert len(RUN) >= 5 and NOT_RUN
    for words in [words for block in BASH for words in block.lines]:
        if "/" in words[0]:
            assert os.access(ROOT / words[0], os.X_OK), f"{words[0]} is not an executable of the repository"
        else:
            assert words[0] in ("bsqcodec", "pip"), f"the README runs {words[0]}, which nothing here provides"


def test_the_options_of_scripts_are_theirs():
    scripts = [words for words in NOT_RUN if words[0].startswith("bin/") and not is_tool(words)]
    assert scripts
    for name, *options in scripts:
        assert all(option in (ROOT / name).read_text(encoding="utf-8") for option in options)


def test_bash_parses():
    for block in BASH:
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


# --- files ---------------------------------------------------------------------------------------


def tree_entries(text: str) -> list[str]:
    """Paths named by a drawn file tree, one level deep."""
    entries, folder = [], ""
    for line in text.splitlines():
        drawn = re.match(r"(?:[├└]── )?(\S+)", line)
        assert drawn, f"not a line of a file tree: {line!r}"
        nested = line[0] in "├└"
        folder = folder if nested else drawn[1]
        entries.append(folder + drawn[1] if nested else drawn[1])
    return entries


def test_the_file_tree_is_there():
    (drawn,) = [block.text for block in blocks("") if "──" in block.text]
    entries = tree_entries(drawn)
    assert {"bsqcodec/", "bsqcodec/cli/", "bin/test", "CHANGELOG.md"} <= set(entries)
    assert [entry for entry in entries if not (ROOT / entry).exists()] == []
    assert [entry for entry in entries if (ROOT / entry).is_dir() and not any((ROOT / entry).iterdir())] == []


def test_the_links_are_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
