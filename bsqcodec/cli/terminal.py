"""Where the tool talks: one rich console on stderr, data on stdout, and how much it says."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from rich.console import Console


class Terminal:
    """The console of one run and what the user wants to see there.

    verbosity: -1 quiet (errors only), 0 normal, 1 details, 2 tracebacks. json: NDJSON on stdout.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.verbosity = 0
        self.json = False

    def configure(self, *, quiet: bool = False, verbose: int = 0, json: bool = False) -> None:
        """Take the user's options and send the library's log to the console."""
        self.verbosity = -1 if quiet else verbose
        self.json = json
        logger = logging.getLogger("bsqcodec")
        logger.handlers = [_ConsoleHandler(self)]
        logger.propagate = False
        logger.setLevel({-1: logging.ERROR, 0: logging.INFO}.get(self.verbosity, logging.DEBUG))

    def say(self, text: str) -> None:
        """One line on stderr, unless quiet."""
        if self.verbosity >= 0:
            self.line(text)

    def line(self, text: str) -> None:
        """One line on stderr, always; markup in it is shown as it is."""
        self.console.print(text, markup=False)

    def error(self, message: str, exit_code: int) -> None:
        """The one line an error becomes; with --json an object on stdout as well."""
        self.line(f"bsqcodec: error: {' '.join(message.split())}")
        if self.json:
            self.data({"type": "error", "message": message, "exit_code": exit_code})

    def data(self, item: dict[str, Any]) -> None:
        """One JSON object on one line of stdout, in ASCII, which is UTF-8 whatever the encoding of the system is."""
        sys.stdout.write(json.dumps(item) + "\n")
        sys.stdout.flush()


class _ConsoleHandler(logging.Handler):
    """Prints log records through the console, so that a progress bar stays in one piece."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self._terminal.line(prefix + record.getMessage())
