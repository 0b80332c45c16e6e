"""Signals that wait for the end of a block."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held(*numbers: signal.Signals) -> Iterator[None]:
    """Keep signals from this thread until the block ends; what is started inside never takes them (see `taken`).

    A process whose parent is interrupted while it is told what to do, or that is interrupted itself before it knows,
    leaves a traceback. Nothing is held on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def taken(*numbers: signal.Signals) -> None:
    """Take signals again that were held when this process was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
