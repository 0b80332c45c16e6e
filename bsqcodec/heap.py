"""The C library's heap, told to keep what is freed: for the processes of the command line tool, which are our own."""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters and values (glibc's malloc.h)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_FROM_HEAP = 32 << 20  # bytes, the most that glibc takes
_KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Large tensors come from the heap and stay there when they are freed; without it each is mapped, and its pages
    cleared, anew. 1 to 8 % of the time of a decode. Does nothing where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_TRIM_THRESHOLD, _KEPT)
