"""PSNR and MS-SSIM against closed formulas, scikit-image and pytorch-msssim; x264 and BD-rate of the benchmark."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame
from bsqcodec.metrics import PSNR_CAP, Quality, compare, frame_psnr, ms_ssim_y, mse, plane_psnr, psnr_from_mse


def noise_frame(seed: int, height: int = 48, width: int = 64, pts: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    half = (height + 1) // 2, (width + 1) // 2
    y, u, v = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((height, width), half, half))
    return Frame(y, u, v, pts)


def flat_frame(y: int, u: int = 128, v: int = 128, height: int = 16, width: int = 16) -> Frame:
    half = (height + 1) // 2, (width + 1) // 2
    return Frame(np.full((height, width), y, np.uint8), np.full(half, u, np.uint8), np.full(half, v, np.uint8), 0)


def moving_frames(count: int, height: int = 96, width: int = 128) -> list[Frame]:
    """A textured pattern that slides two px a frame: something a motion-compensating codec can code."""
    rng = np.random.default_rng(5)
    wide = np.cumsum(rng.normal(0, 6, (height, width + 2 * count)), axis=1)
    wide = np.clip(128 + wide - wide.mean(axis=1, keepdims=True), 0, 255).astype(np.uint8)
    grey = np.full((height // 2, width // 2), 128, np.uint8)
    return [Frame(wide[:, 2 * i : 2 * i + width].copy(), grey, grey, i) for i in range(count)]


@pytest.mark.parametrize("step", [1, 2, 10, 255])
def test_psnr_of_a_constant_error_is_the_closed_formula(step: int) -> None:
    value = plane_psnr(np.zeros((7, 9), np.uint8), np.full((7, 9), step, np.uint8))
    assert value == pytest.approx(20 * math.log10(255 / step), abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (64, 48)])
def test_psnr_agrees_with_scikit_image(height: int, width: int) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    a, b = noise_frame(1, height, width), noise_frame(2, height, width)
    psnr = frame_psnr(a, b)
    for plane in "yuv":
        expected = peak_signal_noise_ratio(getattr(a, plane), getattr(b, plane), data_range=255)
        assert getattr(psnr, plane) == pytest.approx(expected, abs=1e-9)


def test_mse_does_not_wrap_around() -> None:
    assert mse(np.zeros((3000, 3000), np.uint8), np.full((3000, 3000), 255, np.uint8)) == 65025.0


def test_identical_planes_are_infinite_alone_and_capped_in_means() -> None:
    same = frame_psnr(flat_frame(90), flat_frame(90))
    assert (same.y, same.u, same.v) == (math.inf,) * 3
    assert same.yuv == PSNR_CAP
    luma_only = frame_psnr(flat_frame(90), flat_frame(100))
    assert luma_only.yuv == pytest.approx((6 * 20 * math.log10(25.5) + 2 * PSNR_CAP) / 8)
    video = compare([flat_frame(90), flat_frame(90)], [flat_frame(90), flat_frame(100)])
    assert video.psnr_y == pytest.approx((PSNR_CAP + 20 * math.log10(25.5)) / 2)
    assert math.isfinite(video.psnr)


def test_weights_of_the_planes() -> None:
    psnr = frame_psnr(flat_frame(100, 100, 100), flat_frame(101, 102, 104))
    y, u, v = (20 * math.log10(255 / step) for step in (1, 2, 4))
    assert psnr.yuv == pytest.approx((6 * y + u + v) / 8, abs=1e-12)


def test_mean_of_frames_and_pooled_psnr_are_different_things() -> None:
    quality = compare([flat_frame(100)] * 2, [flat_frame(101), flat_frame(109)])
    mean = (20 * math.log10(255) + 20 * math.log10(255 / 9)) / 2
    assert quality.psnr_y == pytest.approx(mean)
    assert quality.psnr_y_pooled == pytest.approx(psnr_from_mse((1 + 81) / 2))
    assert quality.psnr_y > quality.psnr_y_pooled


def test_agrees_with_what_the_encoder_reports() -> None:
    from bsqcodec.results import psnr_of

    a, b = noise_frame(3), noise_frame(4)
    sse = int(((a.y.astype(int) - b.y.astype(int)) ** 2).sum())
    assert plane_psnr(a.y, b.y) == pytest.approx(psnr_of(sse, a.y.size), abs=1e-12)
    assert psnr_of(0, a.y.size) == PSNR_CAP


def test_ms_ssim_agrees_with_pytorch_msssim_and_falls_with_noise() -> None:
    torch = pytest.importorskip("torch")
    oracle = pytest.importorskip("pytorch_msssim")
    clean = moving_frames(1, 176, 192)[0]
    rng = np.random.default_rng(0)
    values = []
    for sigma in (3, 12):
        noisy = np.clip(clean.y + rng.normal(0, sigma, clean.y.shape), 0, 255).astype(np.uint8)
        planes = [torch.tensor(p[None, None], dtype=torch.float32) for p in (clean.y, noisy)]
        value = ms_ssim_y(clean, replace(clean, y=noisy))
        assert value == pytest.approx(float(oracle.ms_ssim(*planes, data_range=255)), abs=1e-6)
        values.append(value)
    assert 1 > values[0] > values[1] > 0
    assert ms_ssim_y(clean, clean) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("height", "width", "has_value"), [(160, 320, False), (320, 160, False), (161, 161, True)])
def test_ms_ssim_has_no_value_for_short_sides_up_to_160(height: int, width: int, has_value: bool) -> None:
    frame = noise_frame(0, height, width)
    assert (ms_ssim_y(frame, frame) is not None) is has_value
    assert (compare([frame], [frame], ms_ssim=True).ms_ssim is not None) is has_value


def test_ms_ssim_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytorch_msssim", None)
    frame = noise_frame(0, 170, 170)
    with pytest.raises(UsageError, match=r"bsqcodec\[bench\]"):
        ms_ssim_y(frame, frame)


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="64x48 and 63x48"):
        compare([noise_frame(0)], [noise_frame(0, 48, 63)])
    with pytest.raises(UsageError, match="reference goes on after frame 0"):
        compare([noise_frame(0)] * 2, [noise_frame(0)])
    with pytest.raises(UsageError, match="decoded video goes on after frame 1"):
        compare([noise_frame(0)] * 2, [noise_frame(0)] * 3)
    with pytest.raises(UsageError, match="no frame"):
        compare([], [])
    with pytest.raises(UsageError, match="uint8"):
        mse(np.zeros((2, 2), np.uint8), np.zeros((2, 2)))


def test_quality_adds_frame_by_frame() -> None:
    quality = Quality()
    for seed in range(3):
        quality.add(noise_frame(seed), noise_frame(seed + 10))
    whole = compare([noise_frame(s) for s in range(3)], [noise_frame(s + 10) for s in range(3)])
    assert quality.frames == 3
    assert quality.psnr == whole.psnr


def test_x264_options_are_those_of_preset_medium() -> None:
    import x264

    frames = moving_frames(6)
    plain, default = (x264.encode(frames, Fraction(25), 27.0, bframes=b) for b in (0, None))
    options = dict(word.split("=", 1) for word in plain.settings.split("options: ")[1].split() if "=" in word)
    medium = dict(ref="3", me="hex", subme="7", trellis="1", rc_lookahead="40", keyint="250", rc="crf", mbtree="1")
    assert medium.items() <= options.items()
    assert (options["bframes"], options["crf"], options["psy_rd"]) == ("0", "27.0", "1.00:0.00")
    assert " bframes=3 " in default.settings
    assert x264.SETTINGS_UUID not in plain.data


def test_x264_decodes_all_frames_and_gets_smaller_with_the_crf() -> None:
    import x264

    frames = moving_frames(6)
    made = [x264.encode(frames, Fraction(25), crf, bframes=None) for crf in (20.0, 35.0)]
    good, bad = (compare(frames, x264.decode(m.data)) for m in made)  # raises if a frame is lost
    assert len(made[0].data) > len(made[1].data)
    assert good.psnr_y > 35 > bad.psnr_y
    target = (len(made[0].data) + len(made[1].data)) // 2
    assert len(x264.encode_to_size(frames, Fraction(25), target).data) == pytest.approx(target, rel=0.05)
