"""Objective quality of decoded video: PSNR of the planes, (6Y+U+V)/8, MS-SSIM of the luma.

Conventions, because tools differ silently: a video's PSNR is the mean over frames of the frame PSNRs (in dB),
and a frame's "YUV" PSNR is (6Y+U+V)/8 of its planes' PSNRs. `Quality.psnr_y_pooled` is the other convention,
10 log10 of the mean squared error over all frames. Peak is 255. The mean squared error is scikit-image's, MS-SSIM
that of `pytorch-msssim`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol

import numpy as np

from bsqcodec.errors import UsageError

PEAK = 255.0  # largest 8-bit sample
PSNR_CAP = 100.0  # dB; stands for "identical" in means, so that one black frame does not make a mean infinite
MS_SSIM_MIN_SIDE = 160  # px; five scales with an 11-tap window need a short side above (11 - 1) * 2**4


class Planes(Protocol):
    """A picture in 8-bit YUV 4:2:0 (`Frame`, `DecodedFrame`): y uint8 [H, W]; u, v uint8 [ceil(H/2), ceil(W/2)]."""

    @property
    def y(self) -> np.ndarray: ...
    @property
    def u(self) -> np.ndarray: ...
    @property
    def v(self) -> np.ndarray: ...


@dataclass(frozen=True)
class FramePsnr:
    """PSNR of one frame's planes in dB; `inf` where a plane is identical."""

    y: float
    u: float
    v: float

    @property
    def yuv(self) -> float:
        """(6Y+U+V)/8 in dB; an identical plane counts as `PSNR_CAP`."""
        return (6 * min(self.y, PSNR_CAP) + min(self.u, PSNR_CAP) + min(self.v, PSNR_CAP)) / 8


@dataclass
class Quality:
    """Quality of a whole video; dB, one entry per frame in `per_frame` (and in `ms_ssim_frames` when asked for)."""

    per_frame: list[FramePsnr] = field(default_factory=list)
    ms_ssim_frames: list[float] = field(default_factory=list)
    mse_y_sum: float = 0.0

    @property
    def frames(self) -> int:
        return len(self.per_frame)

    @property
    def psnr_y(self) -> float:
        return _capped_mean([f.y for f in self.per_frame])

    @property
    def psnr_u(self) -> float:
        return _capped_mean([f.u for f in self.per_frame])

    @property
    def psnr_v(self) -> float:
        return _capped_mean([f.v for f in self.per_frame])

    @property
    def psnr(self) -> float:
        """Mean over frames of (6Y+U+V)/8."""
        return _capped_mean([f.yuv for f in self.per_frame])

    @property
    def psnr_y_pooled(self) -> float:
        """PSNR of the mean squared error of all luma samples; `inf` when identical."""
        return psnr_from_mse(self.mse_y_sum / self.frames)

    @property
    def ms_ssim(self) -> float | None:
        """Mean MS-SSIM of the luma; None when not measured or when the short side is 160 px or less."""
        return float(np.mean(self.ms_ssim_frames)) if self.ms_ssim_frames else None

    def add(self, reference: Planes, decoded: Planes, *, ms_ssim: bool = False) -> FramePsnr:
        """Account for one more frame. Raises UsageError when the sizes differ."""
        psnr = frame_psnr(reference, decoded)
        self.per_frame.append(psnr)
        self.mse_y_sum += mse(reference.y, decoded.y)
        if ms_ssim:
            value = ms_ssim_y(reference, decoded)
            if value is not None:
                self.ms_ssim_frames.append(value)
        return psnr


def mse(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Mean squared error of two uint8 arrays of the same shape, exact; planes [H, W] or pictures [H, W, 3].

    Raises UsageError when shapes or types differ.
    """
    if reference.shape != decoded.shape:
        raise UsageError(
            f"planes of {_size(reference)} and {_size(decoded)} samples cannot be compared; give both the same size"
        )
    if reference.dtype != np.uint8 or decoded.dtype != np.uint8:
        raise UsageError(f"planes must be uint8, not {reference.dtype} and {decoded.dtype}; convert them first")
    from skimage.metrics import mean_squared_error  # slow to import, and `bsqcodec.results` needs only the cap

    return float(mean_squared_error(reference, decoded))


def psnr_from_mse(value: float) -> float:
    """PSNR in dB of a mean squared error; `inf` for 0."""
    return math.inf if value == 0 else 10 * math.log10(PEAK * PEAK / value)


def plane_psnr(reference: np.ndarray, decoded: np.ndarray) -> float:
    """PSNR in dB of two uint8 planes [H, W]; `inf` when identical."""
    return psnr_from_mse(mse(reference, decoded))


def frame_psnr(reference: Planes, decoded: Planes) -> FramePsnr:
    """PSNR of the three planes. Raises UsageError when the sizes differ."""
    return FramePsnr(*(plane_psnr(getattr(reference, p), getattr(decoded, p)) for p in "yuv"))


def ms_ssim_y(reference: Planes, decoded: Planes) -> float | None:
    """MS-SSIM of the luma planes; see `ms_ssim_of`."""
    return ms_ssim_of(reference.y, decoded.y)


def ms_ssim_of(reference: np.ndarray, decoded: np.ndarray) -> float | None:
    """MS-SSIM of two uint8 planes [H, W], or mean over the channels of two pictures [H, W, 3]; 1 = identical.

    None when the short side is 160 px or less: five scales do not fit, and fewer scales would be another metric.
    Raises UsageError when the sizes differ or when `pytorch-msssim` is not installed.
    """
    if reference.shape != decoded.shape:
        raise UsageError(f"frames of {_size(reference)} and {_size(decoded)} px cannot be compared")
    if min(reference.shape[:2]) <= MS_SSIM_MIN_SIDE:
        return None
    try:
        import torch
        from pytorch_msssim import ms_ssim
    except ImportError:
        raise UsageError("MS-SSIM needs pytorch-msssim; install it with: pip install 'bsqcodec[bench]'") from None
    if np.array_equal(reference, decoded):
        return 1.0  # exactly, which sums in float32 need not give
    pictures = [np.atleast_3d(picture).astype(np.float32) for picture in (reference, decoded)]
    # [1, C, H, W], channels last in memory: contiguous planes take four times as long
    channels = [torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in pictures]
    with torch.no_grad():
        return min(1.0, float(ms_ssim(*channels, data_range=PEAK)))


def paired(reference: Iterable[Planes], decoded: Iterable[Planes]) -> Iterator[tuple[Planes, Planes]]:
    """The frames of two videos, two by two, in constant memory.

    Raises UsageError when the sizes or the numbers of frames differ, or when both are empty.
    """
    count = 0
    for a, b in zip_longest(reference, decoded):
        if a is None or b is None:
            longer = "reference" if b is None else "decoded video"
            remedy = "compare videos of the same length, or the first frames of both"
            raise UsageError(f"the {longer} goes on after frame {count - 1}; {remedy}")
        if a.y.shape != b.y.shape:
            raise UsageError(f"frame {count}: {_size(a.y)} and {_size(b.y)} px cannot be compared; give one size")
        yield a, b
        count += 1
    if not count:
        raise UsageError("there is no frame to compare; both videos are empty")


def compare(reference: Iterable[Planes], decoded: Iterable[Planes], *, ms_ssim: bool = False) -> Quality:
    """Compare two videos frame by frame, in constant memory.

    Raises UsageError when the sizes or the numbers of frames differ, or when both are empty.
    """
    quality = Quality()
    for a, b in paired(reference, decoded):
        quality.add(a, b, ms_ssim=ms_ssim)
    return quality


def _capped_mean(values: list[float]) -> float:
    return float(np.mean(np.minimum(values, PSNR_CAP)))


def _size(plane: np.ndarray) -> str:
    return "x".join(str(side) for side in reversed(plane.shape[:2]))
