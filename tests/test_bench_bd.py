"""BD-rate against published tables, closed formulas and an integral of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bsqcodec.bench.bd import bd_rate
from bsqcodec.errors import UsageError

pytest.importorskip("bjontegaard")

PUBLISHED = Path(__file__).parent.parent / "benchmarks" / "published" / "uvg_compressai.json"
ANCHOR = [(0.02 * 2**i, 30.0 + 2 * i + 0.1 * i * i) for i in range(6)]


def published(codec: str, quality: str) -> list[tuple[float, float]]:
    points = json.loads(PUBLISHED.read_text())["curves"][codec]["points"]
    return [(point["bpp"], point[quality]) for point in points]


@pytest.mark.parametrize(
    ("anchor", "test", "quality", "method", "expected"),
    [
        ("x264", "x265", "psnr_rgb", "pchip", -34.87),
        ("x264", "x265", "psnr_rgb", "akima", -34.83),
        ("x264", "x265", "psnr_yuv", "pchip", -36.19),
        ("x265", "vtm", "psnr_rgb", "pchip", -60.73),
        ("x265", "vtm", "psnr_rgb", "akima", -60.73),
    ],
)
def test_published_uvg_curves(anchor: str, test: str, quality: str, method: str, expected: float) -> None:
    result = bd_rate(published(anchor, quality), published(test, quality), method=method)
    assert result.percent == pytest.approx(expected, abs=0.05)
    assert result.overlap > 0.9
    assert result.reason == ""


@pytest.mark.parametrize("method", ["pchip", "akima"])
@pytest.mark.parametrize("factor", [0.5, 1.1, 3.0])
def test_the_same_curve_at_other_rates(method: str, factor: float) -> None:
    test = [(factor * rate, quality) for rate, quality in reversed(ANCHOR)]
    result = bd_rate(ANCHOR, test, method=method)
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-6)
    assert result.overlap == 1


def test_agrees_with_an_integral_of_its_own() -> None:
    from scipy.interpolate import PchipInterpolator

    test = [(0.017 * 1.9**i, 29.0 + 2.3 * i - 0.05 * i * i) for i in range(5)]
    curves = [PchipInterpolator([q for _, q in c], [math.log10(r) for r, _ in c]) for c in (ANCHOR, test)]
    at = np.linspace(30.0, min(ANCHOR[-1][1], test[-1][1]), 200_001)
    difference = np.trapezoid(curves[1](at) - curves[0](at), at) / (at[-1] - at[0])
    result = bd_rate(ANCHOR, test)
    assert result.percent == pytest.approx(100 * (10**difference - 1), abs=1e-3)


def test_points_that_another_one_beats_are_left_out() -> None:
    test = [(1.1 * rate, quality) for rate, quality in ANCHOR]
    worse = [(test[2][0] * 1.01, test[2][1] - 0.5), (test[4][0], test[4][1] - 3), (99.0, test[5][1])]
    assert bd_rate(ANCHOR, test + worse).percent == pytest.approx(10, abs=1e-6)


def test_identical_quality_without_a_number_is_left_out() -> None:
    assert bd_rate(ANCHOR, [*ANCHOR, (50.0, math.inf), (0.001, math.nan)]).percent == pytest.approx(0, abs=1e-9)


def test_overlap_is_the_share_of_the_shorter_range() -> None:
    def curve(low: float, high: float) -> list[tuple[float, float]]:
        return [(2.0 ** (i / 2), low + (high - low) * i / 3) for i in range(4)]

    assert bd_rate(curve(30, 40), curve(38, 42)).overlap == pytest.approx(0.5)
    assert bd_rate(curve(30, 40), curve(39, 43)).percent is not None  # exactly a quarter
    refused = bd_rate(curve(30, 40), curve(39.1, 43.1))
    assert refused.percent is None
    assert refused.overlap == pytest.approx(0.225)
    assert "22%" in refused.reason
    assert bd_rate(curve(30, 40), curve(39.1, 43.1), min_overlap=0.2).percent is not None
    apart = bd_rate(curve(30, 34), curve(35, 39), min_overlap=0)
    assert (apart.percent, apart.overlap) == (None, 0)
    assert "do not overlap" in apart.reason


def test_too_few_points_are_no_curve() -> None:
    result = bd_rate(ANCHOR, [*ANCHOR[:3], (ANCHOR[2][0] * 2, ANCHOR[2][1])])
    assert result.percent is None
    assert "test has 3 usable points" in result.reason
    assert "anchor has no point with a value" in bd_rate([], ANCHOR).reason


def test_refuses_what_makes_no_sense() -> None:
    with pytest.raises(UsageError, match="pchip, akima"):
        bd_rate(ANCHOR, ANCHOR, method="cubic")
    with pytest.raises(UsageError, match="above 0"):
        bd_rate(ANCHOR, [(0.0, 30.0), *ANCHOR])


def test_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bjontegaard", None)
    with pytest.raises(UsageError, match=r"bsqcodec\[bench\]"):
        bd_rate(ANCHOR, ANCHOR)
