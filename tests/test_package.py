"""The package as its users get it: an sdist, the wheel made of that, and the wheel at work far from the sources."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import av
import clips
import pytest
from test_house import ROOT, tree

BEE = ROOT / "benchmarks" / "data" / "bee_640x360.mp4"


def call(*words: str | Path, cwd: Path, **environment: str) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    call(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder, cwd=ROOT)
    (archive,) = folder.glob("bsqcodec-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sources) -> Path:
    """The wheel, made of the sdist alone."""
    folder = sources.parent / "wheel"
    call(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=sources)
    (path,) = folder.glob("bsqcodec-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that pip installed the wheel to; its dependencies are those of this interpreter."""
    folder = tmp_path_factory.mktemp("installed")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--disable-pip-version-check")
    call(sys.executable, "-m", "pip", "install", "--quiet", *options, "--target", folder, wheel, cwd=folder)
    return folder


def test_the_sdist_holds_the_repository(sources):
    held = {path.relative_to(sources).as_posix() for path in sources.rglob("*") if path.is_file()}
    wanted = {path.relative_to(ROOT).as_posix() for path in tree()}
    assert {name for name in wanted - held if not name.startswith(".ci/")} == set()
    assert held - wanted <= {"PKG-INFO", ".gitignore"}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    assert "bsqcodec = bsqcodec.cli:main" in entry_points
    package = {p.relative_to(ROOT).as_posix() for p in tree() if p.is_relative_to(ROOT / "bsqcodec")}
    assert package | {"bsqcodec/py.typed"} <= names
    assert any(re.fullmatch(r"bsqcodec/weights/\w[^/]*\.safetensors", name) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"bsqcodec"}


def test_the_readme_states_the_size_of_the_wheel(wheel):
    stated = re.search(r"wheel \((\d+) MB\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert stated and float(stated[1]) == pytest.approx(wheel.stat().st_size / 1e6, abs=1)


def test_the_installed_wheel_encodes_and_decodes(installed, tmp_path):
    with av.open(str(BEE)) as video:
        frames = [next(video.decode(video=0)).reformat(64, 48, "yuv420p").to_ndarray() for _ in range(3)]
    body = b"".join(b"FRAME\n" + frame.tobytes() for frame in frames)
    (tmp_path / "in.y4m").write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n" + body)

    def tool(*words: str) -> str:
        return call(sys.executable, "-m", "bsqcodec", *words, cwd=tmp_path, PYTHONPATH=str(installed))

    where = "import bsqcodec; print(bsqcodec.__file__)"
    found = call(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(found.strip()).is_relative_to(installed)  # not the sources, which the interpreter knows as well
    tool("encode", "in.y4m", "out.bsq", "--crf", "20", "--device", "cpu")
    tool("decode", "out.bsq", "back.y4m", "--device", "cpu")
    back = clips.read_y4m((tmp_path / "back.y4m").read_bytes())
    assert len(back) == len(frames)
    for frame, (y, _, _) in zip(frames, back, strict=True):
        assert abs(frame[:48].astype(int) - y).mean() < 4


def test_the_installed_command_starts(installed, tmp_path):
    (command,) = [path for path in (installed / "bin", installed / "Scripts") if path.is_dir()]
    (script,) = command.glob("bsqcodec*")
    assert call(script, "--version", cwd=tmp_path, PYTHONPATH=str(installed)).startswith("bsqcodec ")
