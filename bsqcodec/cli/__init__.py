"""The command line tool; knows only the public API. `main` is the entry point."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `bsqcodec` with `argv` (None = the process's own arguments) and return the exit code."""
    # Before torch is loaded: threads that spin while they wait for work slow each other down tenfold and more as soon
    # as another program wants the same cores; threads that sleep cost nothing on an idle machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from bsqcodec.cli.exits import run
    from bsqcodec.cli.tool import cli

    return run(cli, argv)
