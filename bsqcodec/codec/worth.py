"""How much of a group rests on each token, and what that makes of the price of its levels: a second pass's prices.

A token that stays a copy shows, frame after frame, what it was copied from; one that is coded anew shows little of it.
So the worth of a token is 1 and what the frames behind take from it, followed back along the motion, as in x264's
macroblock tree (J. Garrett-Glaser, "A novel macroblock-tree algorithm", 2009). Encoder only.
Legend: T frames of a group, h w token rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TOKEN = 32  # quarter luma samples
KEPT = 0.7  # share of a token's worth that rests on its prediction where it has levels; all of it where it has none
STRENGTH = 0.5  # exponent of worth, relative to its mean over the frame, in a bit's price
RANGE = (0.4, 2.5)  # factors of a price

Factors = npt.NDArray[np.float32]


def price_factors(silent: Sequence[npt.NDArray[np.bool_]], vectors: Sequence[npt.NDArray[np.integer]]) -> list[Factors]:
    """Factors of the levels' prices: [h, w] for each of T frames.

    silent: tokens of each frame that have no levels, [h, w]; vectors: where the T - 1 frames behind the first are
    predicted from, (dx, dy) in quarter luma samples, [h, w, 2].
    """
    worth = np.ones(silent[-1].shape)
    factors = [_factors(worth)]
    for quiet, moved in zip(silent[:0:-1], vectors[::-1], strict=True):
        worth = 1 + _handed_back(worth * np.where(quiet, 1.0, KEPT), moved)
        factors.append(_factors(worth))
    return factors[::-1]


def _factors(worth: npt.NDArray[np.float64]) -> Factors:
    factors: Factors = np.clip((worth / worth.mean()) ** -STRENGTH, *RANGE).astype(np.float32)
    return factors


def _handed_back(share: npt.NDArray[np.float64], vectors: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """What tokens [h, w] give to those of the frame before: each to the four it is copied from, by how much of them."""
    h, w = share.shape
    row = np.clip(np.arange(h)[:, None] + vectors[..., 1] / TOKEN, 0, h - 1)
    column = np.clip(np.arange(w)[None] + vectors[..., 0] / TOKEN, 0, w - 1)
    top, left = row.astype(np.intp), column.astype(np.intp)
    down, right = row - top, column - left
    total = np.zeros((h, w))
    for i, part in ((0, 1 - down), (1, down)):
        for j, piece in ((0, 1 - right), (1, right)):
            where = np.minimum(top + i, h - 1), np.minimum(left + j, w - 1)
            np.add.at(total, where, share * part * piece)
    return total
