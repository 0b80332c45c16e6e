"""Outputs that appear whole or not at all: write `<name>.part` in the same folder, then give it its name."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from bsqcodec.errors import BsqError, UsageError, VideoError
from bsqcodec.partfile import PartFile
from bsqcodec.profile import stage

STDIO = "-"
# Write errors that name no file: the disk is full, a quota is used up, the file system's largest file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

StrPath = str | os.PathLike[str]


class AtomicOutput:
    """Context manager that owns the unfinished file of one output.

    Making it checks everything that can be checked before work starts: the output is not the
    input, does not exist (unless `overwrite`), and its folder can be written. `part` is the path to
    write to, another for each run that is going on (`partfile`). Leaving the block without an error syncs the file and
    gives it its name; leaving it with any error, Ctrl-C included, removes it. Standard output ("-") and things that are
    not regular files, such as named pipes, are written directly.

    src: the input, to be told apart from the output; overwrite: the output may exist; readable: the
    unfinished file will be read back, so a pipe will not do.
    Raises UsageError for output == input and an unreadable output, VideoError for the rest.
    """

    def __init__(
        self, dst: StrPath, *, src: StrPath | None = None, overwrite: bool = False, readable: bool = False
    ) -> None:
        self.name = os.fspath(dst)
        self.is_stdout = self.name == STDIO
        self.part = self._target = Path(self.name)
        self._src, self._overwrite = src, overwrite
        self._held: PartFile | None = None
        self._direct = self.is_stdout or (self._target.exists() and not self._target.is_file())
        if readable and self._direct:
            raise UsageError(f"{self.name}: cannot be read back to check it; give the name of a file")
        if self.is_stdout:
            return
        if self._target.is_dir():
            raise VideoError(f"{self.name}: is a folder; give the name of a file")
        # Renaming onto a symbolic link would replace the link, so follow it first.
        self._target = Path(os.path.realpath(self._target))
        self.part = self._target if self._direct else self._target.with_name(self._target.name + ".part")
        self._check()

    def _check(self) -> None:
        self.refuse_input(self._src)
        if not self._direct and self._target.exists() and not self._overwrite:
            raise self._exists()
        if not self._target.parent.is_dir():
            raise VideoError(f"{self.name}: there is no folder {os.fspath(Path(self.name).parent)}; make it first")

    def refuse_input(self, src: StrPath | None) -> None:
        """Raise UsageError where `src` is the output, or what is written until that is whole."""
        for path in () if self.is_stdout else (self._target, self.part):
            if same_file(src, path):
                raise UsageError(f"{self.name}: output and input are the same file; choose another name")

    def _exists(self) -> VideoError:
        return VideoError(f"{self.name}: already exists; use -y (overwrite=True) to replace it")

    def __enter__(self) -> AtomicOutput:
        if self._direct:
            return self
        try:
            self._held = PartFile(self._target, lambda path: same_file(self._src, path))
        except OSError as error:
            raise VideoError(f"{self.name}: cannot write here: {error.strerror}; choose another folder") from error
        self.part = self._held.path
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._held is not None:
                with stage("write"):
                    self._guarded(self._commit)
            elif error is not None:
                self.discard()
                self._renamed(error)
        finally:
            if self._held is not None:
                self._held.release()

    def discard(self) -> None:
        """Remove the unfinished file."""
        if self._held is not None:
            self._held.remove()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:
            self.discard()
            self._renamed(error)
            raise

    def _commit(self) -> None:
        _sync(self.part, os.O_RDWR)  # Windows syncs only what may be written
        if self._overwrite:
            self.part.replace(self._target)
        else:
            self._name_unless_taken()
        if os.name == "posix":  # elsewhere a folder cannot be opened, and needs no sync
            _sync(self._target.parent, os.O_RDONLY)

    def _name_unless_taken(self) -> None:
        """Give the file its name, unless another run made one of that name since this one began."""
        try:
            self._target.hardlink_to(self.part)  # unlike a rename, this never replaces
        except FileExistsError:
            raise self._exists() from None
        except OSError:  # no hard links on this file system
            if self._target.exists():
                raise self._exists() from None
            self.part.replace(self._target)
        else:
            self.part.unlink()

    def _renamed(self, error: BaseException) -> None:
        """Raise errors that speak of the unfinished file, or of a full disk and no file, under the output's name."""
        if isinstance(error, BsqError) and not self._direct and str(self.part) in str(error):
            raise type(error)(str(error).replace(str(self.part), self.name)) from error
        if isinstance(error, OSError) and error.errno in _FULL and not isinstance(error, BsqError):
            raise VideoError(f"{self.name}: {error.strerror}; free some space or choose another folder") from error


@contextmanager
def output_file(output: AtomicOutput) -> Iterator[BinaryIO]:
    """The unfinished file of an output, or standard output, for binary writing."""
    if output.is_stdout:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with output.part.open("wb") as file:
            yield file


def _sync(path: Path, access: int) -> None:
    handle = os.open(path, access)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without fsync
            raise
    finally:
        os.close(handle)


def same_file(src: StrPath | None, path: Path) -> bool:
    """Whether both exist and are one file, by whatever names."""
    if src is None or os.fspath(src) == STDIO:
        return False
    try:
        return path.samefile(src)
    except OSError:  # one of them does not exist
        return False
