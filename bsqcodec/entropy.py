"""Bits and their integer probabilities to 32-bit words and back, through constriction's range coder.

A probability is an integer P in 1..65535 and means p(bit = 1) = P / 65536. P / 65536 is exact in float32, so
what the coder makes of it is the same everywhere. Chapter 8 of bitstream_spec.md gives the coder in integers.
"""

from __future__ import annotations

import constriction
import numpy as np
import numpy.typing as npt

from bsqcodec.errors import BitstreamError

P_BITS = 16  # a probability is a count of 1/65536ths
_ONE_PART = np.float32(2.0**-P_BITS)
# `perfect` must be given: its two values make different streams.
_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)
_WORD = np.dtype("<u4")

Bits = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.uint16]


class BitEncoder:
    """Encodes bits in the order given; any number of calls, then `words`."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, bits: Bits | npt.NDArray[np.bool_], p: Probabilities) -> None:
        """Append `bits` (uint8 0/1 or bool, any shape, C order) with probabilities `p` (uint16 >= 1, same shape).

        Raises ValueError for other types, other shapes, a bit above 1 or a P of 0.
        """
        _check_bits(bits, p)
        if p.size:
            self._coder.encode(bits.ravel().astype(np.int32), _BERNOULLI, _as_float(p))

    def words(self) -> bytes:
        """What was encoded so far: little-endian u32 words; empty when no bit was encoded."""
        packed: np.ndarray = self._coder.get_compressed()
        return packed.astype(_WORD, copy=False).tobytes()


class BitDecoder:
    """Decodes what `BitEncoder.words` returned, given the same probabilities in the same order.

    Damaged words decode to wrong bits without an error in most cases: check the chunk's CRC first.
    """

    def __init__(self, words: bytes) -> None:
        if len(words) % 4:
            raise BitstreamError(f"range coder: {len(words)} bytes are no whole number of 32-bit words")
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(words, dtype=_WORD).astype(np.uint32))

    def decode(self, p: Probabilities) -> Bits:
        """Decode `p.size` bits with probabilities `p` (uint16 >= 1); uint8 0/1 in the shape of `p`.

        Raises ValueError for a bad `p`, BitstreamError where the words cannot come from an encoder.
        """
        _check_probabilities(p)
        if not p.size:
            return np.zeros(p.shape, np.uint8)
        try:
            bits: np.ndarray = self._coder.decode(_BERNOULLI, _as_float(p))
        except BaseException as error:
            if _is_coder_failure(error):
                raise BitstreamError("range coder: the words do not fit the model; the stream is damaged") from error
            raise
        return bits.astype(np.uint8).reshape(p.shape)

    def exhausted(self) -> bool:
        """True where all words were used, as they are after the last bit of an undamaged stream."""
        return bool(self._coder.maybe_exhausted())


def cost_bits(bits: Bits | npt.NDArray[np.bool_], p: Probabilities) -> float:
    """Ideal length in bits of `bits` under `p`; the coder comes within 0.1 % plus two words of it."""
    _check_bits(bits, p)
    ones = p.astype(np.float64)
    chosen = np.where(bits.astype(bool), ones, 2.0**P_BITS - ones)
    return float(P_BITS * p.size - np.log2(chosen).sum())


def _as_float(p: Probabilities) -> npt.NDArray[np.float32]:
    return np.multiply(p.ravel(), _ONE_PART, dtype=np.float32)


def _check_bits(bits: np.ndarray, p: np.ndarray) -> None:
    _check_probabilities(p)
    if bits.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"bits must be uint8 or bool, not {bits.dtype}")
    if bits.shape != p.shape:
        raise ValueError(f"bits of shape {bits.shape} need as many probabilities, not {p.shape}")
    if bits.size and bits.max() > 1:
        raise ValueError("bits must be 0 or 1")


def _check_probabilities(p: np.ndarray) -> None:
    if p.dtype != np.uint16:
        raise ValueError(f"probabilities must be uint16, not {p.dtype}")
    if p.size and not p.all():
        raise ValueError("a probability of 0 cannot be coded; the range is 1..65535")


def _is_coder_failure(error: BaseException) -> bool:
    """constriction raises AssertionError, or pyo3's PanicException, which no `except Exception` catches."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
