"""The command line tool; knows only the public API. `main` is the entry point."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `bsqcodec` with `argv` (None = the process's own arguments) and return the exit code."""
    # Before torch is loaded: GNU OpenMP's threads spin for long while they wait, and two of our tools on two cores then
    # decode at 0.1 to 1.5 frames/s each instead of 2.9. A short spin costs a tool that is alone 9 %, sleeping 30 %.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from bsqcodec.cli.exits import run
    from bsqcodec.cli.tool import cli
    from bsqcodec.heap import keep_freed_memory

    keep_freed_memory()
    return run(cli, argv)
