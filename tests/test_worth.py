"""Prices of a second pass: what stays a copy for long is priced low, where the motion says it came from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsqcodec.codec.worth import RANGE, price_factors

STILL = np.zeros((4, 6, 2), np.int16)


def test_frames_that_are_copied_alike_keep_their_prices():
    silent = [np.ones((4, 6), bool)] * 5
    for factors in price_factors(silent, [STILL] * 4):
        assert factors == pytest.approx(np.ones((4, 6)))


def test_a_token_that_stays_is_cheaper_to_code_than_one_that_is_coded_anew():
    silent = [np.zeros((4, 6), bool) for _ in range(6)]
    for quiet in silent:
        quiet[1, 2] = True
    first, *_, last = price_factors(silent, [STILL] * 5)
    others = np.delete(first.ravel(), 1 * 6 + 2)
    assert first[1, 2] < 0.95 * others.min()
    assert last == pytest.approx(np.ones((4, 6)))  # nothing rests on the last frame


def test_worth_goes_where_the_motion_points():
    silent = [np.zeros((4, 6), bool), np.zeros((4, 6), bool)]
    silent[1][2, 1] = True
    vectors = STILL.copy()
    vectors[2, 1] = (64, -32)  # two tokens right, one up
    first, _ = price_factors(silent, [vectors])
    assert np.unravel_index(first.argmin(), first.shape) == (1, 3)


def test_between_two_tokens_both_get_a_part():
    silent = [np.zeros((4, 6), bool), np.ones((4, 6), bool)]
    vectors = np.zeros((4, 6, 2), np.int16)
    vectors[..., 0] = 16  # half a token: the leftmost column serves half as much as the others
    first, _ = price_factors(silent, [vectors])
    assert first[:, 0] == pytest.approx(first[0, 0]) and (first[:, 0] > first[:, 1]).all()


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_group_gives_prices_in_range(frames, h, w, seed):
    rng = np.random.default_rng(seed)
    silent = [rng.random((h, w)) < 0.7 for _ in range(frames)]
    vectors = [rng.integers(-511, 512, (h, w, 2)) for _ in range(frames - 1)]
    factors = price_factors(silent, vectors)
    assert len(factors) == frames
    for one in factors:
        assert one.shape == (h, w) and RANGE[0] <= one.min() and one.max() <= RANGE[1]
