"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import bsqcodec


@lru_cache
def machine() -> dict[str, Any]:
    """Processor, cores, versions, and the commit of the working tree that runs (None outside of one)."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "bsqcodec": bsqcodec.__version__,
        "commit": commit_of(Path(bsqcodec.__file__).resolve().parent.parent),
    }


def commit_of(folder: Path) -> str | None:
    """Short hash of the commit that `folder` is the working tree of, "-dirty" behind it where files differ from it."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():  # not the repository around some folder of packages
        return None
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
