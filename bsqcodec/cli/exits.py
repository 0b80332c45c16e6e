"""Every way a run can end, and its exit code.

0 ok; 1 I/O or run time; 2 usage; 3 damaged stream; 4 unsupported version or wrong weights;
130 interrupted, 143 terminated or hung up. A reader of our stdout that goes away ends the run quietly with 1.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from bsqcodec.cli.terminal import Terminal
from bsqcodec.errors import BsqError

FAILED = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM
# What writing to a pipe without a reader fails with; Windows says EINVAL, and Python does not translate it.
BROKEN_PIPE = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}
NOTHING_LEFT = "no output was written"  # unless the exception's text says what was


class Terminated(BaseException):
    """SIGTERM or SIGHUP, raised where the run is so that unfinished files are removed."""


def run(command: click.Command, argv: Sequence[str] | None) -> int:
    """Run a click command as the process's main work."""
    _watch_termination()
    try:
        code = command.main(args=argv, prog_name="bsqcodec", standalone_mode=False)
        return code if isinstance(code, int) else 0  # click returns the code of an Exit
    except SystemExit as leave:  # the help of a bare `bsqcodec`
        return leave.code if isinstance(leave.code, int) else FAILED
    except click.Abort:
        return report(KeyboardInterrupt(), Terminal())
    except BaseException as error:  # raised outside of a command body, while arguments are read
        return report(error, Terminal())


def report(error: BaseException, terminal: Terminal) -> int:
    """Say in one line what happened and return the exit code it stands for."""
    if _is_broken_pipe(error):
        _silence_stdout()
        return FAILED
    message, code = _explain(error)
    if terminal.verbosity >= 2:
        terminal.line("".join(traceback.format_exception(error)).rstrip())
    try:
        terminal.error(message, code)
    except BrokenPipeError:  # --json into a pipe that is gone as well
        _silence_stdout()
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case BsqError():
            return str(error), error.exit_code
        case click.ClickException():
            return _usage_line(error), error.exit_code
        case KeyboardInterrupt():
            return f"interrupted; {str(error) or NOTHING_LEFT}", INTERRUPTED
        case Terminated():
            return f"terminated; {str(error) or NOTHING_LEFT}", TERMINATED
        case _ if _is_out_of_memory(error):
            return "out of memory; the picture is too large for this machine", FAILED
        case OSError():
            return _os_line(error), FAILED
    return f"{type(error).__name__}: {error}; -vv for the traceback", FAILED


def _is_out_of_memory(error: BaseException) -> bool:
    """torch says it in a RuntimeError's text."""
    no_room = isinstance(error, RuntimeError) and re.search(r"out of memory|n't allocate memory", str(error))
    return isinstance(error, MemoryError) or bool(no_room)


def _usage_line(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context is not None else ""
    return error.format_message().rstrip(".") + hint


def _os_line(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {what}" if error.filename is not None else what


def _is_broken_pipe(error: BaseException) -> bool:
    if isinstance(error, BsqError) or not isinstance(error, OSError):
        return False
    return isinstance(error, BrokenPipeError) or (error.errno in BROKEN_PIPE and error.filename is None)


def _silence_stdout() -> None:
    """Point stdout at nothing, or the interpreter complains when it flushes at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is not a file, as under a test runner
        pass


def _watch_termination() -> None:
    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)
        hangup = getattr(signal, "SIGHUP", None)  # the terminal is gone; not on Windows
        if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(hangup, terminate)
