"""Make or refresh the virtual environment `.venv` of this clone; stdlib only, one line of talk on stderr.

The stamp `.venv/.bsqcodec-stamp` is a hash of all that decides the environment; while it holds, a call costs
a few milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".bsqcodec-stamp"


def wanted_stamp() -> str:
    """Hash of the two requirement files, the interpreter and the clone's place (a moved environment is broken)."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    digest.update(f"{sys.version_info[:2]} {ROOT}".encode())
    return digest.hexdigest()


def is_current() -> bool:
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted_stamp()


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let one process at a time build the environment; the lock goes when its holder does, even if killed."""
    with Path(__file__).open() as handle:  # this file is the lock: nothing to create, nothing left over
        try:
            import fcntl
        except ImportError:  # no such lock on Windows: two first runs at once are the user's to avoid
            yield
            return
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def works() -> bool:
    """Whether `.venv` has an interpreter of this version that starts."""
    if not PYTHON.exists():
        return False
    probe = [str(PYTHON), "-c", "import sys, pip; print(sys.version_info[:2])"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == str(sys.version_info[:2])


def build() -> None:
    """Create `.venv` if there is no working one, then install the clone (editable) with its pinned tools."""
    if not works():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True, stdin=subprocess.DEVNULL)
    STAMP.unlink(missing_ok=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    pip += ["--constraint", str(ROOT / "constraints.txt"), "--editable", f"{ROOT}[dev]"]
    subprocess.run(pip, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    STAMP.write_text(wanted_stamp())


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older Python runs into first
        print(f"setup-env: Python {sys.version.split()[0]} is too old; set PYTHON to 3.11 or newer", file=sys.stderr)
        return 1
    if is_current():
        return 0
    with locked():
        if is_current():  # another process built it while this one waited
            return 0
        print("setup-env: installing into .venv (about a minute, some 250 MB with a CPU torch) ...", file=sys.stderr)
        try:
            build()
        except subprocess.CalledProcessError as error:
            print(f"setup-env: failed with exit code {error.returncode}; see pip's message above", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
