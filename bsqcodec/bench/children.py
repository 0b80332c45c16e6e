"""Work in a fresh process of its own, so that its time and its peak memory are its own.

The process ends with its parent, however that ends. Ctrl-C is the parent's business: it ends the child.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from bsqcodec.errors import BsqError
from bsqcodec.signals import held, taken

T = TypeVar("T")

_NEXT = "next"


@dataclass(frozen=True)
class _End:
    """The last message; error: what the work ended with."""

    error: BsqError | None = None


def messages_of(what: str, work: Callable[..., Iterator[T]], *args: Any) -> Generator[T, None, None]:
    """Run the generator function `work(*args)` in a new process and yield what it yields.

    what: names the work in messages; work and args have to be importable and picklable. Each message is worked on
    only when it is asked for, so that what this process does between two messages takes no time from the other's.
    The process is killed when this generator is closed before its end, so close it (`contextlib.closing`).
    Raises the BsqError that the work raised; any other error and a process that dies become a BsqError of one line.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, what, work, args), daemon=True)
    try:
        with held(signal.SIGINT, signal.SIGTERM):
            process.start()
        there.close()
        while not isinstance(message := _ask(here, process, what), _End):
            yield message
        if message.error is not None:
            raise message.error
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
        here.close()


def _ask(here: Connection[Any, Any], process: multiprocessing.process.BaseProcess, what: str) -> Any:
    try:
        here.send(_NEXT)
        return here.recv()
    except (EOFError, OSError):
        process.join()
        raise BsqError(
            f"{what}: its process died (exit code {process.exitcode}); -9 means that memory ran out, try fewer --jobs"
        ) from None


def _serve(there: Connection[Any, Any], what: str, work: Callable[..., Iterator[Any]], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    taken(signal.SIGTERM)
    end_with_parent()
    end = _End()
    messages = work(*args)
    with contextlib.suppress(EOFError, ConnectionError):  # nobody wants the rest
        while there.recv() == _NEXT:
            try:
                message = next(messages, end)
            except BsqError as error:
                message = _End(error)
            except Exception as error:
                message = _End(BsqError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}"))
            there.send(message)


def end_with_parent() -> None:
    """From here on this process ends with the one that started it, even where that one is killed."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def peak_mib() -> float | None:
    """Largest resident memory of this process so far in MiB, Python and its libraries included; None = not known.

    On Linux from VmHWM: getrusage's ru_maxrss also counts the process that this one was started from.
    """
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
