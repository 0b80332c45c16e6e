"""7-Zip archives of raw video, as the UVG site publishes them: what is in one, and getting it out (py7zr)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from bsqcodec.errors import BsqError, UsageError, VideoError

SUFFIXES = (".yuv", ".y4m")  # of the video in an archive


@dataclass(frozen=True)
class Member:
    """The video in an archive. name: with its folders; bytes: unpacked."""

    name: str
    bytes: int

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


def find_member(archive: Path) -> Member:
    """The one raw video in an archive, from the archive's index.

    Raises UsageError without py7zr, VideoError when the archive is damaged or does not hold exactly one video.
    """
    with _opened(archive) as opened:
        members = [Member(entry.filename, int(entry.uncompressed)) for entry in opened.list()]
    videos = [member for member in members if member.suffix in SUFFIXES]
    if len(videos) != 1:
        raise VideoError(
            f"{archive}: holds {len(videos)} {' or '.join(SUFFIXES)} files, one expected; extract it by hand"
        )
    return videos[0]


@contextmanager
def extracted(archive: Path, work: Path) -> Iterator[Path]:
    """Unpack the video of an archive below the folder `work`, and remove it again at the end of the block.

    Raises UsageError when it does not fit on the disk, VideoError when the archive is damaged.
    """
    member = find_member(archive)
    free = shutil.disk_usage(work).free
    if member.bytes > free:
        raise UsageError(f"{work}: {member.bytes} bytes needed to unpack {archive.name}, {free} free; free some space")
    folder = work / f"{archive.name}.part"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir()
    try:
        path = folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)  # py7zr makes only folders that are targets themselves
        with _opened(archive) as opened:
            opened.extract(path=folder, targets=[member.name])
        if not path.is_file() or path.stat().st_size != member.bytes:
            raise VideoError(f"{archive}: {member.name} does not come out whole; download the archive again")
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(archive: Path) -> Iterator[Any]:
    try:
        py7zr = import_module("py7zr")
    except ImportError:
        raise UsageError(
            f"{archive}: reading .7z needs py7zr; install it with: pip install 'bsqcodec[bench]', or extract it by hand"
        ) from None
    try:
        with py7zr.SevenZipFile(archive, "r") as opened:
            yield opened
    except BsqError:
        raise
    except Exception as error:  # py7zr lets errors of its decompressors through: lzma, zlib, EOFError, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise VideoError(f"{archive}: {error.strerror}; check rights and space") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VideoError(f"{archive}: not a whole 7-Zip archive ({reason}); download it again") from error
