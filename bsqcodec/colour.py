"""8-bit YUV 4:2:0 to 8-bit RGB, by the stream's own matrix, range and chroma location.

Shapes: H, W luma rows and columns; chroma planes are ceil(H/2) x ceil(W/2).
"""

from __future__ import annotations

import numpy as np

from bsqcodec.frames import VideoInfo

Plane = np.ndarray

_BT601 = (0.299, 0.114)
_BT709 = (0.2126, 0.0722)
_BT2020 = (0.2627, 0.0593)
# Kr, Kb by H.273 MatrixCoefficients. 10 (constant luminance) is shown as 9, as players do.
_MATRIX = {1: _BT709, 4: (0.30, 0.11), 5: _BT601, 6: _BT601, 7: (0.212, 0.087), 9: _BT2020, 10: _BT2020}
_HD_HEIGHT = 720  # rows from which a stream without a matrix is taken as BT.709

# AVChromaLocation -> (vertical, horizontal) place of a chroma sample among its 2x2 luma samples:
# 0 = on the first, 1 = in the middle, 2 = on the second. 0 (unspecified) is MPEG-2's, left.
LOCATION = {0: (1, 0), 1: (1, 0), 2: (1, 1), 3: (0, 0), 4: (0, 1), 5: (2, 0), 6: (2, 1)}


def matrix_of(info: VideoInfo) -> tuple[float, float]:
    """(Kr, Kb) of a stream; unknown or unspecified: BT.709 from 720 rows up, else BT.601."""
    return _MATRIX.get(info.matrix, _BT709 if info.height >= _HD_HEIGHT else _BT601)


def matrix_code(info: VideoInfo) -> int:
    """H.273 MatrixCoefficients that name what `matrix_of` takes: the stream's own where known, else 1 or 6."""
    if info.matrix in _MATRIX:
        return info.matrix
    return 1 if info.height >= _HD_HEIGHT else 6


def to_rgb(y: Plane, u: Plane, v: Plane, info: VideoInfo) -> Plane:
    """RGB picture, uint8 [H, W, 3], of planes y [H, W], u and v [ceil(H/2), ceil(W/2)].

    Chroma is interpolated linearly; an unspecified range means limited (16..235). The rotation
    and the sample aspect ratio of the stream are not applied, and the transfer curve is kept.
    """
    kr, kb = matrix_of(info)
    vertical, horizontal = LOCATION.get(info.chroma_location, LOCATION[0])
    luma = y.astype(np.float32)
    cb, cr = (_upsample(_upsample(c, y.shape[0], 0, vertical), y.shape[1], 1, horizontal) - 128.0 for c in (u, v))
    if not info.full_range:
        luma = (luma - 16.0) * np.float32(255 / 219)
        cb, cr = cb * np.float32(255 / 224), cr * np.float32(255 / 224)
    red = luma + np.float32(2 * (1 - kr)) * cr
    blue = luma + np.float32(2 * (1 - kb)) * cb
    green = (luma - np.float32(kr) * red - np.float32(kb) * blue) / np.float32(1 - kr - kb)
    rgb = np.stack((red, green, blue), axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _upsample(plane: Plane, size: int, axis: int, place: int) -> Plane:
    """Linear interpolation to `size` samples along `axis`; `place`: see `LOCATION`."""
    quarters = np.arange(size) * 2 - place  # positions in quarters of a chroma sample
    index, weight = quarters >> 2, (quarters & 3) / 4
    last = plane.shape[axis] - 1
    low = np.take(plane, np.clip(index, 0, last), axis).astype(np.float32)
    high = np.take(plane, np.clip(index + 1, 0, last), axis).astype(np.float32)
    shape = (-1, 1) if axis == 0 else (1, -1)
    between: Plane = low + (high - low) * weight.astype(np.float32).reshape(shape)
    return between
