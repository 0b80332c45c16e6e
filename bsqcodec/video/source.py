"""Opening an input: what it is called in messages, and how many bytes its container promises.

FFmpeg returns fewer frames from a file that is cut short and reports no error, so the containers that say
how long they are (MP4/MOV, Matroska, AVI, YUV4MPEG2) are checked against the bytes that are there.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import BinaryIO, cast

import av
import av.error
from av.container import InputContainer

from bsqcodec.errors import VideoError
from bsqcodec.video.formats import RAW_SUFFIXES, InputFormat

HEAD = 4096  # bytes kept of the start of the input
FRAME_HEADER = b"FRAME\n"  # of a YUV4MPEG2 frame without parameters
TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}  # FFmpeg "plays" text files as ANSI art; nobody means that
MOV_BOXES = {b"mdat", b"moov", b"moof"}
EBML_HEADER, EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class CountingReader:
    """A pipe as PyAV wants it: `read` only, so that nothing seeks. Counts bytes and keeps the first `HEAD`."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.head = b""
        self.total = 0

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size) or b""
        self.head += data[: HEAD - len(self.head)]
        self.total += len(data)
        return data


class Source:
    """An opened input: `container` (PyAV), `name` for messages, `format` (FFmpeg's short names)."""

    def __init__(self, src: str | os.PathLike[str] | BinaryIO, form: InputFormat | None = None) -> None:
        self._form = form
        self.name = display_name(src)
        self.path: Path | None = None
        self.stream: BinaryIO | None = None
        self.counter: CountingReader | None = None
        self.fifo: BinaryIO | None = None
        if isinstance(src, (str, os.PathLike)):
            if os.fspath(src) == "-":
                self.stream = sys.stdin.buffer
                self._form = form or InputFormat("yuv4mpegpipe")
            else:
                path = existing_file(Path(src), self.name)
                if path.is_fifo():  # read once, from front to back
                    self.stream = self.fifo = path.open("rb")
                else:
                    self.path = path
        else:
            self.stream = src
        self.container = self._open()
        self.format = self.container.format.name
        if self.format in TEXT_ART:
            self.close()
            raise VideoError(f"{self.name}: not a video (it looks like text); give a file that FFmpeg can play")

    def close(self) -> None:
        """Release what was opened here, not a stream that was handed in. A second call does nothing."""
        self.container.close()
        if self.fifo is not None:
            self.fifo.close()

    def _open(self) -> InputContainer:
        form = self._form
        file: object = f"file:{self.path}"  # the prefix keeps a colon in the name from being read as a protocol
        if self.stream is not None:
            file = self.stream if form is None and self.stream.seekable() else CountingReader(self.stream)
            self.counter = file if isinstance(file, CountingReader) else None
        try:
            return av.open(file, "r", format=form.name if form else None, options=dict(form.options) if form else {})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"{self.name}: {self._why_not(error)}") from error

    def _why_not(self, error: Exception) -> str:
        head = self.head()
        if not head:
            return "the input is empty; give a video file"
        if head[4:8] == b"ftyp":
            return "the file is cut short or damaged (no MP4 index); copy or download it again"
        if isinstance(error, PermissionError):
            return "permission denied; check the rights of the file"
        if self._form is None and self.path is not None and self.path.suffix.lower() in RAW_SUFFIXES:
            return "raw video does not say what it is; add --format raw --video-size 640x360 --framerate 25"
        reason = getattr(error, "strerror", None) or str(error)
        if self._form is not None:
            return f"not {self._form.name} ({reason}); give another --format"
        return f"not a video that FFmpeg can read ({reason}); give a file that FFmpeg can play"

    def head(self) -> bytes:
        """The first bytes of the input (at most `HEAD`)."""
        return self.counter.head if self.counter is not None else self._read_at(0, HEAD)

    def total(self) -> int | None:
        """Bytes there are; of a pipe, bytes read so far."""
        if self.counter is not None:
            return self.counter.total
        if self.path is not None:
            try:
                return self.path.stat().st_size
            except OSError as error:
                raise VideoError(f"{self.name}: vanished while it was read; leave it in place until the end") from error
        stream = cast(BinaryIO, self.stream)
        here = stream.tell()
        end = stream.seek(0, os.SEEK_END)
        stream.seek(here)
        return end

    def _read_at(self, offset: int, size: int) -> bytes:
        if self.path is not None:
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        if self.stream is None or self.counter is not None:
            return b""
        here = self.stream.tell()
        self.stream.seek(offset)
        data = self.stream.read(size)
        self.stream.seek(here)
        return data

    def is_cut_short(self, frames: int, frame_bytes: int) -> bool:
        """True when the container promises more bytes than there are.

        frames, frame_bytes: video packets read and the size of one; both used for YUV4MPEG2 only.
        """
        total = self.total()
        if total is None:
            return False
        if self.format == "yuv4mpegpipe":
            return self._y4m_rest(total, frames, frame_bytes) > 0
        if "mp4" in self.format:
            return self.counter is None and self._mov_end(total) > total
        return promised_end(self.head()) > total

    def _y4m_rest(self, total: int, frames: int, frame_bytes: int) -> int:
        head = self.head()
        start = head.find(b"\n") + 1
        if not head.startswith(FRAME_HEADER, start):
            return 0 if frames else total - start  # frames with parameters: their headers' length is not known
        return total - start - frames * (len(FRAME_HEADER) + frame_bytes)

    def _mov_end(self, total: int) -> int:
        """Where the last known top-level box of an MP4/MOV file ends, in bytes."""
        end = position = 0
        while position + 8 <= total:
            header = self._read_at(position, 16)
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if size == 1 and len(header) == 16:
                size = int.from_bytes(header[8:], "big")
            if size < 8:  # 0 = up to the end of the file; anything else is no box
                break
            position += size
            if kind in MOV_BOXES:
                end = position
        return end


def display_name(src: str | os.PathLike[str] | BinaryIO) -> str:
    """What a message calls the input or output."""
    if isinstance(src, (str, os.PathLike)):
        text = os.fspath(src)
        return "standard input" if text == "-" else text
    name = getattr(src, "name", None)
    return name if isinstance(name, str) else "stream"


def existing_file(path: Path, name: str) -> Path:
    """The path itself. Raises VideoError when it is missing, a directory or empty."""
    try:
        empty = path.stat().st_size == 0
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise VideoError(f"{name}: {reason}; check the name of the input") from error
    if path.is_dir():
        raise VideoError(f"{name}: is a directory; give a video file")
    if empty and path.is_file():
        raise VideoError(f"{name}: the file is empty; give a video file")
    return path


def promised_end(head: bytes) -> int:
    """Bytes that an AVI or Matroska file says it has, from its first bytes; 0 when it does not say."""
    if head[:4] == b"RIFF" and len(head) >= 8:
        return 8 + int(struct.unpack("<I", head[4:8])[0])
    if head[:4] != EBML_HEADER:
        return 0
    size, start = ebml_size(head, 4)
    position = start + size
    if head[position : position + 4] != EBML_SEGMENT:
        return 0
    size, start = ebml_size(head, position + 4)
    return start + size if size else 0


def ebml_size(data: bytes, position: int) -> tuple[int, int]:
    """An EBML length (RFC 8794) and the position behind it; length 0 also stands for "unknown" and "not there"."""
    if position >= len(data) or data[position] == 0:
        return 0, position
    length = 9 - data[position].bit_length()  # bytes
    value = int.from_bytes(data[position : position + length], "big") & ((1 << (7 * length)) - 1)
    unknown = value == (1 << (7 * length)) - 1
    return (0 if unknown else value), position + length
