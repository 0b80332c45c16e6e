"""The command line tool; knows only the public API. `main` is the entry point."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `bsqcodec` with `argv` (None = the process's own arguments) and return the exit code."""
    from bsqcodec.cli.exits import run
    from bsqcodec.cli.tool import cli

    return run(cli, argv)
