"""The entropy room, and the specification's integer range coder against the library that writes the files."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_range_coder import decode, encode, split_point

from bsqcodec.entropy import BitDecoder, BitEncoder, cost_bits
from bsqcodec.errors import BitstreamError


def draw(seed: int, count: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Bits that follow their probabilities: (uint8, uint16), from uniform (0) to nearly certain (12)."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, sharpness, count)
    p = np.clip(65536 / (1 + np.exp(-odds)), 1, 65535).astype(np.uint16)
    return (rng.random(count) * 65536 < p).astype(np.uint8), p


def words_of(data: bytes) -> list[int]:
    return np.frombuffer(data, "<u4").tolist()


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 4.0, 12.0])
def test_reference_coder_agrees_on_random_bits(sharpness: float) -> None:
    for seed in range(30):
        bits, p = draw(seed, 1 + 37 * seed, sharpness)
        coder = BitEncoder()
        coder.encode(bits, p)
        words = words_of(coder.words())
        assert encode(bits.tolist(), p.tolist()) == words
        assert decode(words, p.tolist()) == bits.tolist()


def test_carries_run_through_held_words() -> None:
    # Impossible-looking bits make the interval tiny and close to the top: words are held back, then carried into.
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        bits = (rng.random(400) < 0.97).astype(np.uint8)
        p = np.where(rng.random(400) < 0.5, 1, 65535).astype(np.uint16)
        coder = BitEncoder()
        coder.encode(bits, p)
        words = words_of(coder.words())
        assert encode(bits.tolist(), p.tolist()) == words
        assert decode(words, p.tolist()) == bits.tolist()
        held += words.count(0) + words.count(2**32 - 1)
    assert held > 0  # the case was met


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 65535)), max_size=200))
@settings(deadline=None)
def test_reference_coder_agrees_on_any_bits(pairs: list[tuple[int, int]]) -> None:
    bits, p = np.array([b for b, _ in pairs], np.uint8), np.array([q for _, q in pairs], np.uint16)
    coder = BitEncoder()
    coder.encode(bits, p)
    assert encode(bits.tolist(), p.tolist()) == words_of(coder.words())
    assert BitDecoder(coder.words()).decode(p).tolist() == bits.tolist()


def test_split_point_of_every_probability() -> None:
    """The library decides for bit 1 exactly from the specification's split point on."""
    model = constriction.stream.model.Bernoulli(perfect=False)
    scale = (2**64 - 1) >> 24
    for p in range(1, 65536):
        for below in (0, 1):
            point = scale * split_point(p) - below
            coder = constriction.stream.queue.RangeDecoder(np.array([point >> 32, point % 2**32], np.uint32))
            assert coder.decode(model, np.array([p / 65536], np.float32))[0] == 1 - below, p


@given(st.lists(st.integers(0, 2**32 - 1), max_size=8), st.lists(st.integers(1, 65535), min_size=1, max_size=300))
@settings(deadline=None)
def test_forged_words_decode_the_same_or_fail_alike(words: list[int], probabilities: list[int]) -> None:
    data, p = np.array(words, "<u4").tobytes(), np.array(probabilities, np.uint16)
    try:
        expected = decode(words, probabilities)
    except ValueError:
        with pytest.raises(BitstreamError):
            BitDecoder(data).decode(p)
    else:
        assert BitDecoder(data).decode(p).tolist() == expected


def test_words_of_all_ones_are_refused() -> None:
    with pytest.raises(BitstreamError, match="damaged"):
        BitDecoder(b"\xff" * 12).decode(np.full(300, 32768, np.uint16))


def test_golden_words() -> None:
    """The stream must never change: bits 0, 1 with steep and even odds."""
    coder = BitEncoder()
    coder.encode(np.array([1, 0, 1, 1, 0], np.uint8), np.array([1, 32768, 65535, 20000, 300], np.uint16))
    assert coder.words().hex() == "4a58ffff"


def test_calls_add_up_and_keep_their_shape() -> None:
    bits, p = draw(7, 600, 2.0)
    whole, parts = BitEncoder(), BitEncoder()
    whole.encode(bits, p)
    for start in range(0, 600, 150):
        parts.encode(bits[start : start + 150].reshape(10, 15).astype(bool), p[start : start + 150].reshape(10, 15))
    parts.encode(bits[:0], p[:0])
    assert parts.words() == whole.words()
    decoder = BitDecoder(whole.words())
    first = decoder.decode(p[:300].reshape(3, 100))
    assert first.shape == (3, 100) and first.dtype == np.uint8
    assert decoder.decode(p[:0]).size == 0
    assert not decoder.exhausted()
    assert np.array_equal(decoder.decode(p[300:]), bits[300:])
    assert decoder.exhausted()


def test_no_bits_take_no_words() -> None:
    assert BitEncoder().words() == b""


def test_length_comes_near_the_ideal() -> None:
    bits, p = draw(3, 200_000, 2.0)
    coder = BitEncoder()
    coder.encode(bits, p)
    ideal = cost_bits(bits, p)
    assert ideal <= 8 * len(coder.words()) <= 1.001 * ideal + 64


def test_bad_arguments_are_refused() -> None:
    p, bits = np.array([1, 65535], np.uint16), np.array([0, 1], np.uint8)
    bad = [
        (bits, np.array([0, 5], np.uint16)),
        (bits, p.astype(np.float32)),
        (bits, p[:1]),
        (bits * 2, p),
        (bits.astype(np.int64), p),
    ]
    for some_bits, some_p in bad:
        with pytest.raises(ValueError):
            BitEncoder().encode(some_bits, some_p)
    with pytest.raises(ValueError):
        BitDecoder(b"").decode(np.zeros(3, np.uint16))
    with pytest.raises(BitstreamError, match="32-bit"):
        BitDecoder(b"abc")
