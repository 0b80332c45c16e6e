"""The framing: signature and version, then chunks of type, length, payload and CRC.

A `ChunkSource` works on a pipe; where the file can seek, skipping a payload costs nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO

from bsqcodec.container.types import FORMAT_MAJOR, FORMAT_MINOR, MAX_CHUNK
from bsqcodec.errors import BitstreamError, TruncatedError, UnsupportedVersionError, UsageError

SIGNATURE = b"\x89BSQ\r\n\x1a\n"
PREAMBLE = SIGNATURE + bytes([FORMAT_MAJOR, FORMAT_MINOR, 0, 0])
FRAMING = 12  # bytes of a chunk besides its payload: type 4, length 4, CRC 4
_PIECE = 2**20  # bytes read at once, so that a forged length allocates nothing


def pack_chunk(kind: bytes, payload: bytes) -> bytes:
    """Type, length, payload and CRC-32 over all three."""
    if len(payload) > MAX_CHUNK:
        raise UsageError(f"a {kind.decode()} chunk of {len(payload)} bytes; the format's limit is {MAX_CHUNK}")
    body = kind + len(payload).to_bytes(4, "little") + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def is_critical(kind: bytes) -> bool:
    """A reader that does not know a critical chunk must refuse the file; others are skipped."""
    return not kind[0] & 0x20


@dataclass(frozen=True)
class ChunkHead:
    """Type, payload bytes, and the offset of the chunk's first byte."""

    kind: bytes
    length: int
    offset: int

    @property
    def payload_offset(self) -> int:
        """Offset of the payload's first byte."""
        return self.offset + 8

    @property
    def size(self) -> int:
        """Bytes of the whole chunk."""
        return self.length + FRAMING


class ChunkSource:
    """Walks the chunks of a file: `begin`, `take` as much of the payload as needed, `end`.

    file: open for binary reading; name: for messages; offset: byte to start at, counted from `base`.
    """

    def __init__(self, file: BinaryIO, name: str, offset: int = 0, base: int | None = None) -> None:
        self.file, self.name, self.offset = file, name, offset
        self.seekable = _can_seek(file)
        self.base = base if base is not None else (file.tell() if self.seekable else 0)
        self.size = _end_of(file) - self.base if self.seekable else None
        self._left = self._crc = 0
        self._head = ChunkHead(b"", 0, 0)

    def preamble(self) -> tuple[int, int]:
        """Check signature and version; returns (major, minor)."""
        self.align()
        data = self._read(len(PREAMBLE))
        if not data.startswith(SIGNATURE):
            if len(data) < len(SIGNATURE) and SIGNATURE.startswith(data) and data:
                raise TruncatedError(f"{self.name}: byte {len(data)}: the file ends inside its signature")
            raise BitstreamError(f"{self.name}: byte 0: not a .bsq file (wrong signature); give one that bsqcodec made")
        if len(data) < len(PREAMBLE):
            raise TruncatedError(f"{self.name}: byte {len(data)}: the file ends inside its version")
        major, minor = data[8], data[9]
        if major != FORMAT_MAJOR:
            found = f"{self.name}: byte 8: format version {major}.{minor}; this program reads {FORMAT_MAJOR}.x"
            remedy = "update it" if major > FORMAT_MAJOR else "that was a draft, encode the original again"
            raise UnsupportedVersionError(f"{found}, {remedy}")
        return major, minor

    def align(self) -> None:
        """Put the file where this source is: others may have moved it."""
        if self.seekable:
            self.file.seek(self.base + self.offset)

    def begin(self) -> ChunkHead | None:
        """Read the next chunk's type and length; None where the file ends."""
        self.align()
        start, data = self.offset, self._read(8)
        if not data:
            return None
        if len(data) < 8:
            raise TruncatedError(f"{self.name}: byte {self.offset}: the file ends inside a chunk's head")
        kind, length = data[:4], int.from_bytes(data[4:], "little")
        if not (kind.isalpha() and kind.isascii()):
            raise BitstreamError(f"{self.name}: byte {start}: no chunk begins here; the file is damaged")
        if length > MAX_CHUNK:
            raise BitstreamError(
                f"{self.name}: byte {start + 4}: {kind.decode()} chunk of {length} bytes, the limit is {MAX_CHUNK};"
                " the file is damaged"
            )
        self._head, self._left, self._crc = ChunkHead(kind, length, start), length, zlib.crc32(data)
        return self._head

    def take(self, size: int, where: str = "") -> bytes:
        """The next `size` bytes of the payload, or what is left of it."""
        data = self._read(min(size, self._left))
        if len(data) < min(size, self._left):
            raise self._cut(where)
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        return data

    def end(self, where: str = "", check: bool = True) -> None:
        """Go to the next chunk; with `check`, read what was not taken and compare the CRC."""
        if not check and self.seekable:
            self._skip(where)
            return
        while self._left:
            self.take(_PIECE, where)
        stored = self._read(4)
        if len(stored) < 4:
            raise self._cut(where)
        if check and int.from_bytes(stored, "little") != self._crc:
            raise self.damaged(self._head.offset, where, "CRC mismatch; the file is damaged")

    def payload(self, where: str = "") -> bytes:
        """The whole payload, with its CRC checked."""
        data = self.take(self._left, where)
        self.end(where)
        return data

    def damaged(self, offset: int, where: str, problem: str) -> BitstreamError:
        """An error in the present chunk; `where` replaces its type in the message."""
        return BitstreamError(f"{self.name}: byte {offset}: {where or self._head.kind.decode() + ' chunk'}: {problem}")

    def _skip(self, where: str) -> None:
        self.offset += self._left + 4
        if self.size is not None and self.offset > self.size:
            self.offset = self.size
            raise self._cut(where)

    def _cut(self, where: str) -> TruncatedError:
        at = where or f"{self._head.kind.decode()} chunk"
        return TruncatedError(f"{self.name}: byte {self.offset}: {at}: the file is cut short here")

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only where the file ends."""
        pieces: list[bytes] = []
        while size:
            piece = self.file.read(min(size, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
            self.offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _can_seek(file: BinaryIO) -> bool:
    try:
        return file.seekable()
    except AttributeError:
        return False


def _end_of(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end
