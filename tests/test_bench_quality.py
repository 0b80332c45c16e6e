"""Every measure of the benchmark against an independent one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from bench_video import textured_frames

from bsqcodec.bench import filters
from bsqcodec.bench.quality import (
    FAMILIES,
    Measurement,
    RgbConverter,
    available,
    check_families,
    measure_quality,
    ms_ssim_db,
    pooled,
)
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame
from bsqcodec.metrics import ms_ssim_of

FPS = Fraction(25)


def noisy(frame: Frame, sigma: float, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    planes = [np.clip(p + rng.normal(0, sigma, p.shape), 0, 255).astype(np.uint8) for p in (frame.y, frame.u, frame.v)]
    return Frame(*planes, frame.pts)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / float(np.mean((a.astype(float) - b.astype(float)) ** 2)))


def independent_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang, Simoncelli, Bovik, "Multiscale structural similarity", 2003, in float64 by scipy; sides divide by 16."""
    from scipy.ndimage import gaussian_filter

    def blur(x: np.ndarray) -> np.ndarray:  # 11 taps, only where the window lies inside
        return gaussian_filter(x, 1.5, truncate=3.4, mode="constant")[5:-5, 5:-5]

    x, y = a.astype(float), b.astype(float)
    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        structure = (2 * cov + 58.5225) / (vx + vy + 58.5225)  # (0.03 * 255)^2
        luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)  # (0.01 * 255)^2
        product *= np.mean(structure * luminance if scale == 4 else structure) ** weight
        if scale < 4:
            x, y = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (x, y))
    return float(product)


def exact_rgb(frame: Frame, kr: float, kb: float, full_range: bool) -> np.ndarray:
    """Bicubic chroma (B = 0, C = 0.6) in the middle of its luma samples, then the definition of Y'CbCr, rounded."""

    def kernel(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        near, far = 1.4 * t**3 - 2.4 * t**2 + 1, -0.6 * t**3 + 3 * t**2 - 4.8 * t + 2.4
        return np.where(t < 1, near, np.where(t < 2, far, 0))

    def twice(plane: np.ndarray, axis: int) -> np.ndarray:
        at = (np.arange(2 * plane.shape[axis]) - 0.5) / 2
        nearest = np.floor(at).astype(int)[:, None] + np.arange(-1, 3)
        taps = np.take(plane, np.clip(nearest, 0, plane.shape[axis] - 1), axis)
        return np.einsum("nkj,nk->nj" if axis == 0 else "jnk,nk->jn", taps, kernel(at[:, None] - nearest))

    luma, cb, cr = frame.y.astype(float), *(twice(twice(p.astype(float), 0), 1) - 128 for p in (frame.u, frame.v))
    if not full_range:
        luma, cb, cr = (luma - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.rint(np.stack([red, green, blue], -1)), 0, 255)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (9, 0.2627, 0.0593)])
def test_rgb_is_the_definition_of_the_colour_space(matrix: int, kr: float, kb: float, full_range: bool) -> None:
    frame = noisy(textured_frames(1)[0], 4)
    made = RgbConverter(matrix, full_range).rgb(frame)
    expected = exact_rgb(frame, kr, kb, full_range)
    assert made.shape == (96, 128, 3)
    difference = np.abs(made - expected)
    assert difference.max() <= 2  # swscale's fixed point
    assert difference.mean() < 0.05
    other = exact_rgb(frame, kr, kb, not full_range)
    assert np.abs(made - other).mean() > 2  # so the range does matter


def test_psnr_of_planes_weighted_and_rgb_are_the_plain_formula() -> None:
    frames = textured_frames(3)
    decoded = [noisy(frame, 5, seed) for seed, frame in enumerate(frames)]
    result = measure_quality(frames, decoded, ["psnr"], fps=FPS)
    for number, (a, b) in enumerate(zip(frames, decoded, strict=True)):
        y, u, v = (psnr(getattr(a, p), getattr(b, p)) for p in "yuv")
        rgb = psnr(*(exact_rgb(f, 0.2126, 0.0722, False) for f in (a, b)))
        found = {name: record["frames"][number] for name, record in result.items()}
        expected = {"psnr_y": y, "psnr_u": u, "psnr_v": v, "psnr_yuv": (6 * y + u + v) / 8}
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-7)
        assert found["psnr_rgb"] == pytest.approx(rgb, abs=0.02)
    assert set(result) == {"psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "psnr_rgb"}
    assert result["psnr_y"]["mean"] == pytest.approx(np.mean(result["psnr_y"]["frames"]), abs=1e-7)


def test_ms_ssim_agrees_with_one_in_double_precision() -> None:
    pytest.importorskip("pytorch_msssim")
    frame = textured_frames(1, 192, 176)[0]
    for sigma in (2, 8, 30):
        decoded = noisy(frame, sigma)
        result = measure_quality([frame], [decoded], ["ms-ssim"], fps=FPS)
        luma = independent_ms_ssim(frame.y, decoded.y)
        pictures = [RgbConverter().rgb(f) for f in (frame, decoded)]
        rgb = np.mean([independent_ms_ssim(pictures[0][..., c], pictures[1][..., c]) for c in range(3)])
        assert result["ms_ssim_y"]["mean"] == pytest.approx(luma, abs=2e-5)
        assert result["ms_ssim_rgb"]["mean"] == pytest.approx(rgb, abs=2e-5)
        assert result["ms_ssim_y_db"]["mean"] == pytest.approx(-10 * math.log10(1 - luma), abs=0.02)
        assert 0.1 < luma < 0.9999


def test_ms_ssim_in_db_is_pooled_as_published_curves_are() -> None:
    frame = textured_frames(1, 176, 176)[0]
    decoded = [noisy(frame, sigma) for sigma in (3, 30)]
    result = measure_quality([frame, frame], decoded, ["ms-ssim"], fps=FPS)
    plain, decibel = result["ms_ssim_y"], result["ms_ssim_y_db"]
    assert decibel["mean"] == pytest.approx(-10 * math.log10(1 - np.mean(plain["frames"])), abs=1e-5)
    assert decibel["min"] == pytest.approx(min(decibel["frames"]), abs=1e-6)
    assert decibel["mean"] < np.mean(decibel["frames"])  # what the mean of the decibels would be


def test_identical_videos_are_infinite_or_one_and_their_record_is_json() -> None:
    frames = textured_frames(2, 176, 176)
    result = measure_quality(frames, [replace(f) for f in frames], ["psnr", "ms-ssim", "xpsnr"], fps=FPS)
    for name, record in result.items():
        plain = name in ("ms_ssim_y", "ms_ssim_rgb")
        assert record["frames"] == ([1.0, 1.0] if plain else ["inf", "inf"]), name
        assert [record[pool] for pool in ("mean", "min", "harmonic")] == [1.0 if plain else 100.0] * 3, name
    assert set(result) >= {"psnr_yuv", "psnr_rgb", "ms_ssim_rgb_db", "xpsnr_y"}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_one_identical_frame_counts_as_100_db() -> None:
    frames = textured_frames(2)
    luma_only = replace(frames[1], y=noisy(frames[1], 6).y)
    result = measure_quality(frames, [frames[0], luma_only], ["psnr"], fps=FPS)
    y = psnr(frames[1].y, luma_only.y)
    assert result["psnr_y"]["frames"] == ["inf", pytest.approx(y)]
    assert result["psnr_y"]["mean"] == pytest.approx((100 + y) / 2)
    assert result["psnr_yuv"]["frames"] == ["inf", pytest.approx((6 * y + 200) / 8)]
    assert result["psnr_u"]["min"] == 100


def test_pools() -> None:
    assert pooled([20.0, 40.0]) == {"mean": 30, "min": 20, "harmonic": pytest.approx(80 / 3), "frames": [20, 40]}
    assert pooled([0.0, 40.0])["harmonic"] == 0
    assert ms_ssim_db(0.99) == pytest.approx(20)
    assert ms_ssim_db(1.0) == math.inf


def test_ms_ssim_has_no_value_for_small_frames() -> None:
    frame = textured_frames(1, 160, 176)[0]
    result = measure_quality([frame], [noisy(frame, 3)], ["psnr", "ms-ssim"], fps=FPS)
    assert set(result) == {"psnr_y", "psnr_u", "psnr_v", "psnr_yuv", "psnr_rgb"}
    rgb = RgbConverter().rgb(frame)
    assert ms_ssim_of(rgb, rgb) is None


def independent_xpsnr(reference: np.ndarray, before: np.ndarray, decoded: np.ndarray) -> float:
    """Helmrich et al., "XPSNR", ICASSP 2020, at up to 32 frames/s and above 640x480 px, where weights are not smoothed.

    before: the reference's frame before. The weight of a block is a_pic over its spatial and temporal activity.
    """
    from scipy.ndimage import convolve

    height, width = reference.shape
    share = height * width / (3840 * 2160)
    size = 4 * int(32 * math.sqrt(share) + 0.5)  # of a block
    average = math.sqrt(16 * 2**7 / math.sqrt(share))
    now = reference.astype(float)
    spatial = np.abs(convolve(now, np.array([[-1, -2, -1], [-2, 12, -2], [-1, -2, -1]])))
    spatial[[0, -1], :] = spatial[:, [0, -1]] = np.nan  # the border has no neighbours
    temporal = np.abs(now - before)
    total = 0.0
    for y in range(0, height, size):
        for x in range(0, width, size):
            block = slice(y, y + size), slice(x, x + size)
            activity = max(4.0, np.nanmean(spatial[block]) + 2 * np.mean(temporal[block]))
            total += np.sum((now[block] - decoded[block]) ** 2) * average / activity
    return 10 * math.log10(height * width * 255**2 / total)


def test_xpsnr_is_the_formula_of_its_paper() -> None:
    frames = textured_frames(3, 484, 648)
    decoded = [noisy(frame, 6, seed) for seed, frame in enumerate(frames)]
    result = measure_quality(frames, decoded, ["xpsnr"], fps=FPS)
    before = [np.zeros((484, 648)), frames[0].y, frames[1].y]
    expected = [independent_xpsnr(a.y, b, d.y) for a, b, d in zip(frames, before, decoded, strict=True)]
    assert result["xpsnr_y"]["frames"] == pytest.approx(expected, abs=1e-3)
    assert set(result) == {"xpsnr_y"}


@pytest.mark.parametrize(("side", "has_value"), [(16, False), (44, False), (46, True)])
def test_xpsnr_has_no_value_for_pictures_smaller_than_a_block(side: int, has_value: bool) -> None:
    """FFmpeg's filter divides by zero there, which would end the process."""
    frame = textured_frames(1, side, side)[0]
    assert ("xpsnr_y" in measure_quality([frame], [noisy(frame, 3)], ["xpsnr"], fps=FPS)) is has_value


def test_xpsnr_forgives_errors_where_the_reference_is_busy() -> None:
    height, width = 256, 320
    rng = np.random.default_rng(1)
    y = np.full((height, width), 120, np.uint8)
    y[:, : width // 2] = rng.integers(40, 200, (height, width // 2))  # busy on the left, flat on the right
    grey = np.full((height // 2, width // 2), 128, np.uint8)
    reference = Frame(y, grey, grey, 0)
    error = rng.integers(-8, 9, (height, width // 2))

    def damaged(half: slice) -> Frame:
        changed = y.astype(int)
        changed[:, half] += error
        return replace(reference, y=changed.astype(np.uint8))

    left, right = damaged(slice(None, width // 2)), damaged(slice(width // 2, None))
    assert psnr(y, left.y) == pytest.approx(psnr(y, right.y), abs=1e-6)
    values = [measure_quality([reference], [d], ["xpsnr"], fps=FPS)["xpsnr_y"]["mean"] for d in (left, right)]
    assert values[0] > values[1] + 3


def test_vmaf_is_there_exactly_where_ffmpeg_has_the_filter() -> None:
    has = filters.has_filter("libvmaf")
    assert ("vmaf" in available()) is has
    assert set(available()) >= {"psnr", "ms-ssim", "xpsnr"}
    if not has:
        with pytest.raises(UsageError, match="no filter libvmaf"):
            check_families(["psnr", "vmaf"])
        with pytest.raises(UsageError, match="no filter libvmaf"):
            Measurement(["vmaf"], fps=FPS)


@pytest.mark.skipif(not filters.has_filter("libvmaf"), reason="this FFmpeg has no libvmaf")
def test_vmaf_falls_with_noise() -> None:
    frames = textured_frames(3, 176, 192)
    good, bad = (
        measure_quality(frames, [noisy(f, sigma) for f in frames], ["vmaf"], fps=FPS)["vmaf"] for sigma in (1, 20)
    )
    assert 100 >= good["mean"] > bad["mean"] >= 0
    assert len(good["frames"]) == 3


def test_vmaf_log_is_read_by_frame_number() -> None:
    frames = [{"frameNum": n, "metrics": {"integer_adm2": 0.9, "vmaf": 90.0 + n}} for n in (1, 0, 2)]
    text = json.dumps({"version": "3.0.0", "fps": 25.0, "frames": frames, "pooled_metrics": {}})
    assert filters.vmaf_of_log(text) == [90.0, 91.0, 92.0]


def cut(frame: Frame) -> Frame:
    return Frame(frame.y[:, :-2], frame.u[:, :-1], frame.v[:, :-1], frame.pts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames: [cut(f) for f in frames], "128x96 and 126x96"),
        (lambda frames: frames[:-1], "reference goes on after frame 1"),
        (lambda frames: [*frames, frames[0]], "decoded video goes on after frame 2"),
    ],
)
def test_videos_of_other_sizes_or_lengths_are_refused(
    change: Callable[[list[Frame]], list[Frame]], message: str
) -> None:
    frames = textured_frames(3)
    with pytest.raises(UsageError, match=message) as caught:
        measure_quality(frames, change(frames), FAMILIES[:3], fps=FPS)
    assert "\n" not in str(caught.value)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(UsageError, match="no frame"):
        measure_quality([], [], fps=FPS)
    with pytest.raises(UsageError, match="psnr, ms-ssim, xpsnr"):
        check_families(["ssim"])
