"""Fetching the files of a named dataset from where their authors publish them, going on where a transfer broke off.

`plan` says what would be fetched, `download` does it; the caller shows the plan first. Each file is written as
`NAME.part`, which stays when a transfer breaks off or is interrupted, and gets its name when its size is the published
one and, where one is known (kodak), its SHA-256 too. A .7z holds its own checksums, which are compared when it is
unpacked.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from bsqcodec import __version__
from bsqcodec.bench.catalogue import DATASETS, Dataset
from bsqcodec.bench.named import find_files
from bsqcodec.errors import UsageError, VideoError

CHUNK = 1 << 20  # bytes read at once
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row without a byte more
MAX_PAUSE = 30.0  # seconds between attempts
LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}  # not the net's fault
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"  # how a .7z begins
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses worth another attempt

TransferProgress = Callable[[str, int, int | None], None]  # name of the file, bytes there, bytes in all (None unknown)


@dataclass(frozen=True)
class Remote:
    """One file to fetch. path: where it goes; bytes, sha256 (hex): as published, None = not known."""

    url: str
    path: Path
    bytes: int | None
    sha256: str | None

    @property
    def part(self) -> Path:
        """The unfinished file."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def here(self) -> int:
        """Bytes of the unfinished file."""
        return self.part.stat().st_size if self.part.exists() else 0


@dataclass(frozen=True)
class Plan:
    """What `download` would fetch: the files that are not in the folder in any form."""

    dataset: Dataset
    remotes: tuple[Remote, ...]

    @property
    def bytes(self) -> int:
        """Bytes still to come of the files whose size is known."""
        return sum(max(r.bytes - r.here, 0) for r in self.remotes if r.bytes is not None)

    @property
    def unknown(self) -> int:
        """How many files have no published size."""
        return sum(r.bytes is None for r in self.remotes)

    def __str__(self) -> str:
        """One line to show before it happens: what, how much, from where, under which licence."""
        if not self.remotes:
            return f"{self.dataset.name}: all files are there, nothing to download"
        size = f"{self.bytes / 1e9:.3g} GB" if self.unknown < len(self.remotes) else ""
        more = f"{self.unknown} of unknown size" if self.unknown else ""
        hosts = ", ".join(dict.fromkeys(urlsplit(r.url).netloc for r in self.remotes))
        return (
            f"{self.dataset.name}: download of {len(self.remotes)} files ({' and '.join(filter(None, (size, more)))}) "
            f"from {hosts} to {self.remotes[0].path.parent}; {self.dataset.title}; licence: {self.dataset.licence}"
        )


def plan(dataset: str, data: Path, *, base_url: str | None = None) -> Plan:
    """What is missing in the folder `data` and can be fetched.

    base_url: another place (http or https) that holds the published files under their names, such as a mirror.
    Raises UsageError for an unknown dataset, or when there is no address to fetch a missing file from.
    """
    named = DATASETS.get(dataset)
    if named is None:
        raise UsageError(f"{dataset}: is no dataset that can be downloaded; choose one of {', '.join(DATASETS)}")
    if named.name == "mini":
        return Plan(named, ())
    if base_url is not None and urlsplit(base_url).scheme not in ("http", "https"):
        raise UsageError(f"{base_url}: must start with http:// or https://")
    there = find_files(named, data) if data.is_dir() else {}
    missing = [item for item in named.items if item not in there]
    if base_url is None and any(item.url is None for item in missing):
        raise UsageError(
            f"{named.name}: its authors give no address that a program may fetch; get the files from {named.home} "
            f"(licence: {named.licence}) and give their folder with --data"
        )
    remotes = []
    for item in missing:
        url = item.url if base_url is None else f"{base_url.rstrip('/')}/{item.published}"
        assert url is not None
        remotes.append(Remote(url, data / item.published, item.bytes, item.sha256))
    return Plan(named, tuple(remotes))


def download(
    dataset: str,
    data: Path,
    *,
    base_url: str | None = None,
    progress: TransferProgress | None = None,
    pause: float = 1.0,
) -> list[Path]:
    """Fetch what `plan` says into the folder `data`; returns the new files.

    progress: called with (name, bytes there, bytes in all) as a file grows. pause: seconds before the second attempt,
    doubled for every further one; a transfer is given up after `ATTEMPTS` attempts that bring no byte.

    Raises UsageError as `plan`, and when the disk is too small; VideoError when a transfer fails for good or brings
    another file than the published one.
    """
    wanted = plan(dataset, data, base_url=base_url)
    if wanted.remotes:
        data.mkdir(parents=True, exist_ok=True)
        _check_space(data, wanted.bytes)
    for remote in wanted.remotes:
        _fetch(remote, progress or (lambda name, done, total: None), pause)
    return [remote.path for remote in wanted.remotes]


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(f"{folder}: {needed} bytes to download, {free} free; free some space or choose another --data")


class _Stop(Exception):
    """A reason for which no further attempt helps."""


def _fetch(remote: Remote, progress: TransferProgress, pause: float) -> None:
    failures = 0
    while True:
        before = remote.here
        try:
            _transfer(remote, progress)
            break
        except _Stop as error:
            raise VideoError(f"{remote.path}: {remote.url} {error}") from error
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in LOCAL:
                raise VideoError(f"{remote.path}: cannot be written ({error}); choose another --data") from error
            failures = 1 if remote.here > before else failures + 1
            if failures >= ATTEMPTS:
                raise VideoError(
                    f"{remote.path}: download from {remote.url} failed {ATTEMPTS} times ({_reason(error)}); "
                    "run it again to go on where it stopped"
                ) from error
        time.sleep(min(pause * 2 ** (failures - 1), MAX_PAUSE))
    _finish(remote)


def _transfer(remote: Remote, progress: TransferProgress) -> None:
    """One attempt: bring the unfinished file to its full size, or raise."""
    if remote.bytes is not None and remote.here > remote.bytes:
        remote.part.unlink()  # not a beginning of this file
    start = remote.here
    if start and start == remote.bytes:
        return
    headers = {"User-Agent": f"bsqcodec/{__version__}"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            _explain_status(error, remote, start)
        raise
    with response:
        if response.status != 206:
            start = 0  # the server sends all of it
        elif _range_start(response) != start:
            remote.part.unlink(missing_ok=True)
            raise ConnectionError("the server sends another part than was asked for")
        total = _total(response, start)
        if remote.bytes is not None and total is not None and total != remote.bytes:
            raise _Stop(f"is {total} bytes there, {remote.bytes} published; not the file that the benchmark is about")
        _check_space(remote.path.parent, (total or 0) - start)
        with remote.part.open("ab" if start else "wb") as file:
            _copy(response, file, remote, start, total, progress)


def _explain_status(error: urllib.error.HTTPError, remote: Remote, start: int) -> None:
    """Raise `_Stop` where another attempt does not help; forget a beginning that the server cannot go on from."""
    if error.code == 416 and start:
        remote.part.unlink()
    elif error.code not in PASSING:
        raise _Stop(f"is not there (HTTP {error.code} {error.reason}); look on the page of the dataset")


def _copy(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    remote: Remote,
    start: int,
    total: int | None,
    progress: TransferProgress,
) -> None:
    done = start
    progress(remote.path.name, done, total or remote.bytes)
    while chunk := response.read(CHUNK):
        file.write(chunk)
        done += len(chunk)
        progress(remote.path.name, done, total or remote.bytes)
    expected = total if total is not None else remote.bytes
    if expected is not None and done < expected:
        raise ConnectionError(f"connection lost after {done} of {expected} bytes")


def _range_start(response: http.client.HTTPResponse) -> int | None:
    """The first byte of a partial answer, of "Content-Range: bytes 100-199/200"."""
    words = (response.headers.get("Content-Range") or "").replace("-", " ").split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    """Bytes of the whole file, as far as the server says."""
    length = response.headers.get("Content-Length") or ""
    return start + int(length) if length.isdigit() else None


def _finish(remote: Remote) -> None:
    """Compare the whole file with what is published and give it its name."""
    wrong = _what_is_wrong(remote)
    if wrong:
        remote.part.unlink()
        raise VideoError(f"{remote.path}: what {remote.url} sends {wrong}; it was removed, run it again or look there")
    with remote.part.open("rb+") as file:
        os.fsync(file.fileno())
    remote.part.replace(remote.path)


def _what_is_wrong(remote: Remote) -> str:
    if remote.bytes is not None and remote.here != remote.bytes:
        return f"has {remote.here} bytes, {remote.bytes} published"
    with remote.part.open("rb") as file:
        if remote.path.suffix == ".7z" and file.read(len(SEVEN_ZIP)) != SEVEN_ZIP:
            return "is no 7-Zip archive"
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest() if remote.sha256 is not None else None
    return "" if digest == remote.sha256 else f"has the SHA-256 {digest}, {remote.sha256} published"


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return " ".join(str(inner).split()) or type(error).__name__
