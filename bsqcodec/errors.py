"""Every error bsqcodec raises on purpose, and the exit code each one becomes.

A message is one line that says what went wrong, where, and what to do about it.
Each class also inherits the closest builtin, so `except ValueError` keeps working.
"""

from __future__ import annotations


class BsqError(Exception):
    """Base of all errors raised on purpose; exit code 1 (I/O or run time)."""

    exit_code = 1


class VideoError(BsqError, OSError):
    """The input video cannot be read, or the output video cannot be written."""


class DeviceError(BsqError, RuntimeError):
    """The device asked for does not exist here."""


class WorkerError(BsqError, RuntimeError):
    """A process that was to code groups or to measure points has died, or cannot be had."""


class UsageError(BsqError, ValueError):
    """Arguments that contradict each other or lie outside their range; exit code 2."""

    exit_code = 2


class BitstreamError(BsqError, ValueError):
    """The stream is damaged or is not a .bsq stream; exit code 3."""

    exit_code = 3


class TruncatedError(BitstreamError, EOFError):
    """The stream ends before it should."""


class LimitError(BitstreamError):
    """The stream asks for more than the caller's limits allow; it may well be in order."""


class UnsupportedVersionError(BsqError, ValueError):
    """The stream needs a newer decoder (format version or critical chunk); exit code 4."""

    exit_code = 4


class WeightsMismatchError(BsqError, ValueError):
    """The stream was made with other weights than those at hand; exit code 4."""

    exit_code = 4
