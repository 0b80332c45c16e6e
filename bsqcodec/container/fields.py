"""Integers, fractions and strings as they lie in a chunk: writing them, and reading them with every bound checked.

varint: unsigned LEB128, 7 bits a byte, lowest first, at most 10 bytes and below 2**64.
svarint: a signed 64-bit integer n, zigzag-mapped (0, -1, 1, -2, ... -> 0, 1, 2, 3, ...), then LEB128.
"""

from __future__ import annotations

from fractions import Fraction

from bsqcodec.container.types import MAX_NAME
from bsqcodec.errors import BitstreamError, UsageError

U32 = 2**32 - 1
U64 = 2**64 - 1
I64 = 2**63 - 1


def pack_varint(value: int) -> bytes:
    """LEB128 of 0 <= value < 2**64; UsageError outside."""
    if not 0 <= value <= U64:
        raise UsageError(f"{value} does not fit an unsigned 64-bit field of the container")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pack_svarint(value: int) -> bytes:
    """Zigzag LEB128 of a signed 64-bit integer; UsageError outside."""
    if not -I64 - 1 <= value <= I64:
        raise UsageError(f"{value} does not fit a signed 64-bit field of the container")
    return pack_varint(value << 1 if value >= 0 else (-value << 1) - 1)


def pack_uint(value: int, size: int, what: str) -> bytes:
    """Little-endian unsigned integer of `size` bytes; UsageError where it does not fit."""
    if not 0 <= value < 1 << 8 * size:
        raise UsageError(f"{what} {value} is outside 0..{(1 << 8 * size) - 1}")
    return value.to_bytes(size, "little")


def pack_fraction(value: Fraction, what: str) -> bytes:
    """Numerator and denominator, u32 each, both above 0."""
    if value <= 0:
        raise UsageError(f"{what} {value} must be above 0")
    return pack_uint(value.numerator, 4, f"numerator of {what}") + pack_uint(value.denominator, 4, f"part of {what}")


def pack_string(text: str, what: str, limit: int = MAX_NAME) -> bytes:
    """Length in bytes (varint), then UTF-8."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} cannot be written as UTF-8") from error
    if len(data) > limit:
        raise UsageError(f"{what} takes {len(data)} bytes; the limit is {limit}")
    return pack_varint(len(data)) + data


class FieldReader:
    """Reads fields off a payload; every failure is a BitstreamError that names the byte.

    offset: of the payload's first byte in the file; where: "byte" is put before it, this after it.
    """

    def __init__(self, data: bytes, offset: int = 0, name: str = "stream", where: str = "chunk") -> None:
        self.data = data
        self.position = 0
        self._offset, self._name, self._where = offset, name, where

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.position

    def error(self, problem: str) -> BitstreamError:
        """An error at the present position."""
        return BitstreamError(f"{self._name}: byte {self._offset + self.position}: {self._where}: {problem}")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise self.error(f"{size} bytes expected, {self.left} left; the file is damaged")
        self.position += size
        return self.data[self.position - size : self.position]

    def uint(self, size: int) -> int:
        """Little-endian unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def varint(self, limit: int = U64, what: str = "value") -> int:
        """LEB128, at most 10 bytes, at most `limit`."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.uint(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        else:
            raise self.error("a number of more than 10 bytes; the file is damaged")
        if value > limit:
            raise self.error(f"{what} {value} is above {limit}; the file is damaged")
        return value

    def svarint(self) -> int:
        """Zigzag LEB128: a signed 64-bit integer."""
        value = self.varint()
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def fraction(self, what: str) -> Fraction:
        """Two u32, both above 0."""
        numerator, denominator = self.uint(4), self.uint(4)
        if not numerator or not denominator:
            raise self.error(f"{what} {numerator}/{denominator} is no positive fraction; the file is damaged")
        return Fraction(numerator, denominator)

    def string(self, what: str, limit: int = MAX_NAME) -> str:
        """Length (varint, at most `limit` bytes), then UTF-8."""
        data = self.take(self.varint(limit, f"length of {what}"))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is no UTF-8 text; the file is damaged") from error
