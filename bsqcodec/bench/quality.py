"""Quality of a decoded video against its source, per frame and pooled, under the names that records use.

| key | what it is |
|---|---|
| psnr_y, psnr_u, psnr_v | PSNR of a plane in dB, peak 255, from scikit-image's mean squared error |
| psnr_yuv | (6 Y + U + V) / 8 of the frame's plane PSNRs |
| psnr_rgb | PSNR of the mean squared error of all three channels of the 8-bit RGB picture |
| ms_ssim_y, ms_ssim_rgb | MS-SSIM of `pytorch-msssim` (five scales, data range 255); RGB: mean over the channels |
| ms_ssim_y_db, ms_ssim_rgb_db | -10 log10(1 - MS-SSIM) |
| xpsnr_y | XPSNR of the luma in dB, by FFmpeg's filter |
| vmaf | VMAF 0..100, by FFmpeg's filter, where there is one |

RGB: swscale makes 4:4:4 of the 4:2:0 by bicubic interpolation (B = 0, C = 0.6) with chroma samples in the middle of
their 2x2 luma samples, and the matrix that is asked for, BT.709 unless told otherwise, makes 8-bit full-range RGB of
it, rounded; samples are limited range unless told otherwise. Both videos go the same way.

Pooling: mean, minimum and harmonic mean over the frames' values. An identical frame has an infinite PSNR, which counts
as 100 dB (`bsqcodec.metrics.PSNR_CAP`) in every pooled value. The pooled values of MS-SSIM in dB are those of the plain
MS-SSIM, in dB, as published curves have it: the mean of decibels would hang on the few best frames. MS-SSIM has no
value for short sides of 160 px or less, XPSNR none for pictures below 45x45 px.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from bsqcodec.bench import filters
from bsqcodec.errors import UsageError
from bsqcodec.metrics import PSNR_CAP, Planes, frame_psnr, ms_ssim_of, mse, paired, psnr_from_mse
from bsqcodec.video.convert import QUALITY, to_av_frame

FAMILIES = ("psnr", "ms-ssim", "xpsnr", "vmaf")
_FILTER = {"xpsnr": filters.XPSNR, "vmaf": filters.VMAF}
_DECIMALS = 8  # of a value in a record

# H.273 matrix code point -> swscale's; 10 (constant luminance) is shown as 9, as players do.
_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


def available() -> tuple[str, ...]:
    """The families of metrics that this installation can measure."""
    return tuple(name for name in FAMILIES if name not in _FILTER or filters.has_filter(_FILTER[name]))


def check_families(names: Collection[str]) -> None:
    """Raise UsageError when a name is none of `available`, before any work is done."""
    if not names:
        raise UsageError(f"metrics: none given; name some of {', '.join(available())}")
    for name in names:
        if name not in FAMILIES:
            raise UsageError(f"metric {name!r}: must be one of {', '.join(available())}")
        if name not in available():
            raise UsageError(f"metric {name!r}: this FFmpeg has no filter {_FILTER[name]}; leave it out")


class RgbConverter:
    """8-bit 4:2:0 to 8-bit RGB as the module says; matrix: H.273 code point, an unknown one counts as BT.709."""

    def __init__(self, matrix: int = 1, full_range: bool = False) -> None:
        self._reformatter = VideoReformatter()
        self._matrix = _MATRIX.get(matrix, Colorspace.ITU709)
        self._range = ColorRange.JPEG if full_range else ColorRange.MPEG

    def rgb(self, frame: Planes) -> np.ndarray:
        """uint8 [H, W, 3]."""
        picture = self._reformatter.reformat(
            to_av_frame(frame.y, frame.u, frame.v),
            format="rgb24",
            interpolation=int(QUALITY),
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=self._range,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        return picture.to_ndarray()


class Measurement:
    """Adds up the quality of a video frame by frame, in constant memory but for a few numbers a frame.

    families: what to measure, of `FAMILIES`; fps: frames per second (XPSNR); matrix: H.273 code point and full_range:
    how the planes become RGB. Raises UsageError for a family that cannot be measured here.
    """

    def __init__(self, families: Collection[str], *, fps: Fraction, matrix: int = 1, full_range: bool = False) -> None:
        check_families(families)
        self.families = frozenset(families)
        self.frames = 0
        self._fps = fps
        self._values: dict[str, list[float]] = {}
        self._rgb = RgbConverter(matrix, full_range)
        self._xpsnr: filters.Xpsnr | None = None
        self._vmaf: filters.Vmaf | None = None

    def add(self, reference: Planes, decoded: Planes) -> None:
        """Account for one more pair of frames of equal sizes; UsageError when they differ."""
        if not self.frames:
            self._open_filters(reference)
        if {"psnr", "ms-ssim"} & self.families:
            pictures = self._rgb.rgb(reference), self._rgb.rgb(decoded)
            if "psnr" in self.families:
                self._add_psnr(reference, decoded, pictures)
            if "ms-ssim" in self.families:
                self._add_ms_ssim("ms_ssim_y", ms_ssim_of(reference.y, decoded.y))
                self._add_ms_ssim("ms_ssim_rgb", ms_ssim_of(*pictures))
        if self._xpsnr is not None:
            self._note("xpsnr_y", self._xpsnr.add(reference, decoded))
        if self._vmaf is not None:
            self._vmaf.add(reference, decoded)
        self.frames += 1

    def finish(self) -> dict[str, dict[str, Any]]:
        """Metric -> {"mean", "min", "harmonic", "frames"} in JSON types; metrics without a value are absent."""
        if self._vmaf is not None:
            self._values["vmaf"] = self._vmaf.finish()
        result = {name: pooled(values) for name, values in self._values.items()}
        return result | {f"{name}_db": in_db(result[name]) for name in ("ms_ssim_y", "ms_ssim_rgb") if name in result}

    def _open_filters(self, frame: Planes) -> None:
        height, width = frame.y.shape
        if "xpsnr" in self.families and height * width >= filters.XPSNR_MIN_PIXELS:
            self._xpsnr = filters.Xpsnr(width, height, self._fps)
        if "vmaf" in self.families:
            self._vmaf = filters.Vmaf(width, height, self._fps)

    def _add_psnr(self, reference: Planes, decoded: Planes, pictures: tuple[np.ndarray, np.ndarray]) -> None:
        planes = frame_psnr(reference, decoded)
        identical = math.isinf(planes.y) and math.isinf(planes.u) and math.isinf(planes.v)
        self._note("psnr_y", planes.y)
        self._note("psnr_u", planes.u)
        self._note("psnr_v", planes.v)
        self._note("psnr_yuv", math.inf if identical else planes.yuv)
        self._note("psnr_rgb", psnr_from_mse(mse(*pictures)))

    def _add_ms_ssim(self, name: str, value: float | None) -> None:
        if value is not None:
            self._note(name, value)

    def _note(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)


def measure_quality(
    reference: Iterable[Planes],
    decoded: Iterable[Planes],
    families: Collection[str] = ("psnr", "ms-ssim"),
    *,
    fps: Fraction,
    matrix: int = 1,
    full_range: bool = False,
) -> dict[str, dict[str, Any]]:
    """Compare two videos, frame by frame; the result is that of `Measurement.finish`.

    Raises UsageError when the sizes or the numbers of frames differ, or when there is no frame.
    """
    measurement = Measurement(families, fps=fps, matrix=matrix, full_range=full_range)
    for a, b in paired(reference, decoded):
        measurement.add(a, b)
    return measurement.finish()


def ms_ssim_db(value: float) -> float:
    """MS-SSIM in dB: -10 log10(1 - value); `inf` for 1."""
    return -10 * math.log10(1 - value) if value < 1 else math.inf


def pooled(values: list[float]) -> dict[str, Any]:
    """One metric's record: mean, min and harmonic mean of values capped at 100, and the values, "inf" for infinity.

    The harmonic mean is 0 where a value is not above 0.
    """
    capped = np.minimum(values, PSNR_CAP)
    harmonic = float(1 / np.mean(1 / capped)) if np.all(capped > 0) else 0.0
    return _record(float(np.mean(capped)), float(np.min(capped)), harmonic, values)


def in_db(record: dict[str, Any]) -> dict[str, Any]:
    """The record of an MS-SSIM in dB; pooled values of identical videos are 100 dB."""
    mean, low, harmonic = (min(PSNR_CAP, ms_ssim_db(record[name])) for name in ("mean", "min", "harmonic"))
    return _record(mean, low, harmonic, [ms_ssim_db(value) for value in record["frames"]])


def _record(mean: float, low: float, harmonic: float, frames: list[float]) -> dict[str, Any]:
    pools = {"mean": mean, "min": low, "harmonic": harmonic}
    rounded = {name: round(value, _DECIMALS) for name, value in pools.items()}
    return rounded | {"frames": [round(value, _DECIMALS) if math.isfinite(value) else "inf" for value in frames]}
