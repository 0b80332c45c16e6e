"""An input that must be read more than once: the file itself, or a temporary copy of a pipe."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bsqcodec.errors import BsqError, VideoError
from bsqcodec.outputs import STDIO, StrPath

_log = logging.getLogger("bsqcodec")


@contextmanager
def rereadable(src: StrPath, needed: bool) -> Iterator[StrPath]:
    """The source, or where `needed` and a pipe, the path of its copy, which is gone at the end of the block.

    The whole pipe is copied first, to the folder for temporary files (TMPDIR). Errors that name the copy are raised
    under the name of the pipe. Raises VideoError where the copy cannot be written.
    """
    is_stdin = os.fspath(src) == STDIO
    if not needed or not (is_stdin or Path(src).is_fifo()):
        yield src
        return
    name = "standard input" if is_stdin else os.fspath(src)
    with tempfile.TemporaryDirectory(prefix="bsqcodec-") as folder:
        copy = Path(folder) / "input"
        _log.info("%s: copied to a temporary file first, because a goal takes two passes", name)
        _copy(src, is_stdin, copy, name)
        try:
            yield copy
        except BsqError as error:
            if str(copy) not in str(error):
                raise
            raise type(error)(str(error).replace(str(copy), name)) from error


def _copy(src: StrPath, is_stdin: bool, copy: Path, name: str) -> None:
    try:
        with copy.open("wb") as out:
            if is_stdin:
                shutil.copyfileobj(sys.stdin.buffer, out)
            else:
                with Path(src).open("rb") as pipe:
                    shutil.copyfileobj(pipe, out)
    except OSError as error:
        where = copy.parent.parent
        raise VideoError(
            f"{name}: cannot be copied to {where}: {error.strerror}; set TMPDIR to a larger disk"
        ) from error
