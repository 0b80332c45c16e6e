"""What only POSIX has: names and modules that are missing on Windows, and how to take them away."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
SIGNALS = tuple("SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2".split())
OS_NAMES = tuple(
    "chown fchmod fchown fdatasync fork forkpty geteuid getgid getloadavg getpgid getuid killpg lchown mkfifo nice "
    "openpty pipe2 posix_fadvise posix_fallocate pread pwrite sched_getaffinity sched_setaffinity "
    "sendfile setsid statvfs sync sysconf wait O_CLOEXEC O_DIRECTORY O_NONBLOCK O_NOFOLLOW WNOHANG".split()
)


def remove() -> None:
    """Take them from this process, and let fsync refuse, as Windows does, a file that is open for reading only."""
    import fcntl
    import subprocess  # noqa: F401  the standard library's Linux side keeps what it imported

    synced = os.fsync

    def fsync(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)  # only opened where os.name says posix
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY and not is_folder:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced(handle)

    os.fsync = fsync
    for module, names in ((signal, SIGNALS), (os, OS_NAMES)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.modules.update(dict.fromkeys(MODULES))  # importing one of them is an ImportError from here on
