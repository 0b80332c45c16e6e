"""The house: what the tree must not hold, and that the README is true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 12 * 2**20  # the largest set of weights that may ship
SKIPPED = {".git", ".venv", "demo_out", "runs", "dist", "build", "__pycache__"}
# A path of somebody's machine; the look-behind leaves URLs and relative paths alone.
MACHINE_PATH = re.compile(r"(?<![\w.~:}/-])/(?:home|root|Users|work|mnt|opt)/[\w.]")


def tree() -> list[Path]:
    """The files that are in git or would be added to it; without git, all but the known outputs."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        files = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        files = [p for p in ROOT.rglob("*") if not SKIPPED & set(p.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


def readme_blocks(language: str) -> list[str]:
    """The fenced blocks of the README in a language ("" for none)."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    return [text for name, text in blocks if name == language]


def readme_commands() -> list[list[str]]:
    """Every command of the README's bash blocks, as words; a pipe's later parts are others' programs."""
    lines = [line for block in readme_blocks("bash") for line in block.splitlines() if line.strip()]
    return [shlex.split(line.split("|")[0], comments=True) for line in lines]


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


@cache
def help_of(*words: str) -> str:
    """The help text of the tool or of one of its commands, through the real entry point."""
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "bsqcodec", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_file_is_over_12_megabytes() -> None:
    files = tree()
    assert ROOT / "pyproject.toml" in files
    assert [f"{p.relative_to(ROOT)}: {p.stat().st_size}" for p in files if p.stat().st_size > MAX_BYTES] == []


def test_no_path_of_a_machine_in_any_text_file() -> None:
    assert MACHINE_PATH.search("see " + "/home" + "/someone/clip.mp4")  # the pattern does find one
    assert not MACHINE_PATH.search("https://example.org/home/page and docs/work/x")
    found = []
    for path in tree():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # video, weights, golden streams
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_readme_file_tree_is_there() -> None:
    blocks = [block for block in readme_blocks("") if "──" in block]
    assert len(blocks) == 1
    entries = tree_entries(blocks[0])
    assert {"bsqcodec/", "bsqcodec/cli/", "bin/test", "CHANGELOG.md"} <= set(entries)
    missing = [entry for entry in entries if not (ROOT / entry).exists()]
    assert missing == []
    empty = [entry for entry in entries if (ROOT / entry).is_dir() and not any((ROOT / entry).iterdir())]
    assert empty == []


def test_readme_links_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_bash_parses() -> None:
    for block in readme_blocks("bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_readme_commands_exist() -> None:
    commands = readme_commands()
    assert commands
    for words in commands:
        program = words[0]
        if "/" in program:
            assert os.access(ROOT / program, os.X_OK), f"{program} is not an executable of the repository"
        else:
            assert program in ("bsqcodec", "pip"), f"the README runs {program}, which nothing here provides"


@pytest.mark.parametrize(
    "words", [w for w in readme_commands() if w[0].rpartition("/")[2] == "bsqcodec"], ids=lambda words: " ".join(words)
)
def test_readme_options_are_options_of_the_tool(words: list[str]) -> None:
    help_text = help_of(words[1])
    for word in words[2:]:
        if word.startswith("--"):
            assert re.search(rf"{word.split('=')[0]}\b", help_text), f"{words[1]} has no option {word}"


@pytest.mark.parametrize("script", ["bin/bsqcodec", "bin/demo", "bin/setup-env", "bin/test", ".ci/run"])
def test_scripts_parse_and_are_executable(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_constraints_pin_every_direct_dependency_within_its_range() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {r.name: r for r in map(Requirement, chain(*groups)) if r.name != "bsqcodec"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert set(pins) == set(wanted)
    assert [name for name, pin in pins.items() if pin not in wanted[name].specifier] == []


def test_nothing_unpickles_or_evaluates_what_it_reads() -> None:
    """Weights, caches and streams may come from anywhere. `torch.load` is allowed where it builds tensors only."""
    risky = re.compile(
        r"pickle\.loads?\(|allow_pickle=True|(?<![\w.])(?:eval|exec)\(|torch\.load\((?!.*weights_only=True)"
    )
    assert risky.search("torch.load(path)") and not risky.search("torch.load(path, weights_only=True)")
    code = [path for path in tree() if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts]
    assert len(code) > 50
    found = [
        f"{path.name}: {line.strip()}" for path in code for line in path.read_text().splitlines() if risky.search(line)
    ]
    assert found == []
