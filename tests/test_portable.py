"""Windows and macOS, as far as Linux can tell: nothing leans on names that only POSIX has."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import clips
import windows_names
from test_cli import environment
from test_house import ROOT, tree

CODE = sorted((ROOT / "bsqcodec").rglob("*.py"))

WITHOUT = """
import importlib, os, pkgutil, sys
import windows_names
windows_names.remove()
from bsqcodec.cli import main
from bsqcodec.cli.tool import cli
assert main(["--help"]) == 0 and main(["--version"]) == 0
assert all(main([name, "--help"]) == 0 for name in cli.commands)
assert "torch" not in sys.modules
assert main(["encode", "in.y4m", "out.bsq", "--device", "cpu"]) == 0
assert main(["encode", "in.y4m", "out.bsq", "--device", "cpu"]) == 1
assert main(["encode", "in.y4m", "out.bsq", "--device", "cpu", "-y"]) == 0
assert main(["decode", "out.bsq", "back.y4m", "--device", "cpu"]) == 0
import bsqcodec
for module in pkgutil.walk_packages(bsqcodec.__path__, "bsqcodec."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_the_tool_works_without_what_windows_lacks(tmp_path):
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(3))
    paths = {"PYTHONPATH": f"{ROOT}:{Path(windows_names.__file__).parent}"}
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=tmp_path, env=environment() | paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "already exists; use -y" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.y4m", "in.y4m", "out.bsq"]
    assert len(clips.read_y4m((tmp_path / "back.y4m").read_bytes())) == 3


def posix_only(source: str) -> list[str]:
    """Uses of names that Windows lacks, except modules that are imported where a missing one is caught."""
    parsed, found = ast.parse(source), []
    guarded = {
        id(node)
        for attempt in ast.walk(parsed)
        if isinstance(attempt, ast.Try) and any("ImportError" in ast.dump(handler) for handler in attempt.handlers)
        for statement in attempt.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(parsed):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = {"os": windows_names.OS_NAMES, "signal": windows_names.SIGNALS}.get(node.value.id, ())
            found += [f"{node.value.id}.{node.attr}"] if node.attr in names else []
        elif isinstance(node, ast.Import) and id(node) not in guarded:
            found += [alias.name for alias in node.names if alias.name in windows_names.MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if node.module in windows_names.MODULES else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/dev/"):
            found.append(node.value)
    return found


def test_no_code_leans_on_posix():
    assert posix_only("import os, fcntl\nos.fork()\nopen('/dev/stdout')") == ["fcntl", "os.fork", "/dev/stdout"]
    assert posix_only("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None") == []
    found = {path.relative_to(ROOT).as_posix(): posix_only(path.read_text(encoding="utf-8")) for path in CODE}
    assert len(found) > 100
    assert {name: names for name, names in found.items() if names} == {}


def test_no_two_files_differ_in_case_alone_or_have_names_windows_refuses():
    listed = tree()
    names = [path.relative_to(ROOT).as_posix() for path in listed]
    assert len({name.casefold() for name in names}) == len(names)
    reserved = {"con", "prn", "aux", "nul"}
    assert [p for p in listed if p.stem.casefold() in reserved or set(p.name) & set('<>:"|?*\\')] == []
