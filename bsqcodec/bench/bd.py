"""BD-rate: the average difference of two rate-distortion curves in rate at equal quality.

G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001, as the `bjontegaard`
package computes it: log10 of the rate is interpolated over quality in dB, and the mean distance of the two curves over
the qualities that both cover becomes a percentage. PCHIP is the interpolation of the JVET common test conditions;
Akima is the other sound one (Herglotz et al., arXiv 2202.12565). Plain cubic fits swing between points: not offered.

Points that another point of the same curve beats or equals in both rate and quality are left out before: an encoder
whose quality saturates gives a curve that is no function of quality, and one more setting must not punish it.
Four points have to be left on each curve, as in the original method; with fewer an interpolation is mostly invention.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from bsqcodec.errors import UsageError

Curve = list[tuple[float, float]]

METHODS = ("pchip", "akima")
MIN_POINTS = 4  # of each curve
MIN_OVERLAP = 0.25  # of the shorter quality range


@dataclass(frozen=True)
class BdRate:
    """percent: rate of the test over the anchor at equal quality minus 100 %, negative = smaller; None = no figure.

    overlap: share 0..1 of the shorter of the two quality ranges that both curves cover.
    reason: why there is no figure, "" when there is one.
    """

    percent: float | None
    overlap: float
    reason: str


def bd_rate(anchor: Curve, test: Curve, *, method: str = "pchip", min_overlap: float = MIN_OVERLAP) -> BdRate:
    """BD-rate of `test` against `anchor`, both lists of (rate in bpp or any other unit, quality in dB), in any order.

    Points without a finite quality are left out, and so are dominated ones (see the module).
    Raises UsageError for an unknown method, a rate that is not above 0, or a missing `bjontegaard`.
    """
    if method not in METHODS:
        raise UsageError(f"BD-rate method {method!r}: must be one of {', '.join(METHODS)}")
    first, second = _efficient(anchor), _efficient(test)
    for name, curve in (("anchor", first), ("test", second)):
        if not curve:
            return BdRate(None, 0.0, f"the {name} has no point with a value of this metric")
        if len(curve) < MIN_POINTS:
            return BdRate(None, 0.0, f"the {name} has {len(curve)} usable points, {MIN_POINTS} are needed")
    overlap = _overlap(first, second)
    if overlap < min_overlap or overlap == 0:
        reason = "the curves do not overlap"
        if overlap > 0:
            reason = f"the curves share {overlap:.0%} of the shorter quality range, {min_overlap:.0%} are needed"
        return BdRate(None, overlap, reason)
    return BdRate(_percent(first, second, method), overlap, "")


def _efficient(points: Curve) -> Curve:
    """The points that no other one beats, by rising quality (and so by rising rate)."""
    if any(not (rate > 0 and math.isfinite(rate)) for rate, _ in points):
        raise UsageError("BD-rate needs rates above 0; leave out points without bytes")
    kept: Curve = []
    for rate, quality in sorted((p for p in points if math.isfinite(p[1])), key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:  # of points with equal rates the best comes first
            kept.append((rate, quality))
    return kept


def _overlap(anchor: Curve, test: Curve) -> float:
    """Both curves by rising quality."""
    shared = min(anchor[-1][1], test[-1][1]) - max(anchor[0][1], test[0][1])
    return max(0.0, shared) / min(curve[-1][1] - curve[0][1] for curve in (anchor, test))


def _percent(anchor: Curve, test: Curve, method: str) -> float:
    try:
        import bjontegaard
    except ImportError:
        raise UsageError("BD-rate needs bjontegaard; install it with: pip install 'bsqcodec[bench]'") from None
    columns = [list(column) for curve in (anchor, test) for column in zip(*curve, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own limit on the overlap; ours is checked before
        return float(bjontegaard.bd_rate(*columns, method=method, require_matching_points=False, min_overlap=0))
