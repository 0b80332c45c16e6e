"""The house: what the tree must not hold, scripts, pins."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
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
