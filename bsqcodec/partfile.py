"""The unfinished file of an output: a name that no other run writes to, and none that a killed run blocks for ever."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows; then every name must be new
    fcntl = None  # type: ignore[assignment]


_MOST = 100  # runs that write to one name at once


class PartFile:
    """`out.mp4.part` beside the target `out.mp4`, or `out.2.mp4.part` and so on while other runs hold those before.

    A lock tells who is still writing: it goes with its process, killed or not, so what a killed run left behind is
    taken over. avoid: says of a path that it must be left alone (the input).
    Raises OSError where nothing can be made in the folder.
    """

    def __init__(self, target: Path, avoid: Callable[[Path], bool]) -> None:
        self._handle: int | None = None
        for number in range(1, _MOST + 1):
            middle = "" if number == 1 else f".{number}"
            self.path = target.with_name(f"{target.stem}{middle}{target.suffix}.part")
            if not avoid(self.path):
                self._handle = _new(self.path) if fcntl is None else _claimed(self.path)
            if self._handle is not None:
                break
        else:
            raise FileExistsError(errno.EEXIST, f"{self.path.name} and those before it are in use", str(self.path))
        if fcntl is None:  # an open file could not be renamed
            self.release()

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let go of the file, which by now has another name or none. A second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None


def _claimed(path: Path) -> int | None:
    """An open, empty, locked file of this name; None where it belongs to another run."""
    handle, is_new = _new(path), True
    if handle is None:
        handle, is_new = _old(path), False
    if handle is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks: only what is new is surely ours
        if is_new:
            return handle
        os.close(handle)
        return None
    # Between opening and locking, the run that held it may have given it its final name: then it is not ours.
    if not _is_at(handle, path):
        os.close(handle)
        return None
    os.truncate(handle, 0)
    return handle


def _new(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None


def _old(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR)
    except (FileNotFoundError, PermissionError):  # gone this moment, or somebody else's
        return None


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
