"""Pictures as torch tensors: RGB to planes and back on the device they are on, and frames that stay there.

Needs torch; the rest of the package imports it only where a model runs anyway.
Legend: H W luma rows and columns; chroma planes are ceil(H/2) x ceil(W/2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from bsqcodec.colour import LOCATION, matrix_of
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo

Planes = tuple[Tensor, Tensor, Tensor]

LEFT = 1  # AVChromaLocation of the chroma samples that `planes_of` makes
BT709 = 1  # H.273 matrix code point


@dataclass(frozen=True, eq=False)
class TensorFrame:
    """One decoded picture on the device it was decoded on; the planes are views, nothing was copied.

    y: uint8 [H, W]; u, v: uint8 [ceil(H/2), ceil(W/2)]; rows may be apart by more than their length.
    index: its number in the video, from 0; pts, duration: seconds (duration 0 = unknown).
    """

    y: Tensor
    u: Tensor
    v: Tensor
    index: int
    pts: Fraction
    duration: Fraction
    info: VideoInfo = field(repr=False)

    @property
    def rgb(self) -> Tensor:
        """uint8 [3, H, W] on the same device, by the stream's matrix and range; computed on each use."""
        return rgb_of((self.y, self.u, self.v), self.info)

    def __repr__(self) -> str:
        height, width = self.y.shape
        return f"TensorFrame(index={self.index}, {width}x{height} on {self.y.device}, pts={float(self.pts):.3f} s)"


@dataclass(frozen=True, eq=False)
class DeviceFrame(Frame):
    """A frame whose planes lie on a device as well: `tensors` are what the model reads, without a copy where it is.

    y, u, v are the same samples for the host, which counts errors: shared memory on the CPU, one copy from a GPU.
    """

    tensors: Planes | None = None

    @staticmethod
    def of(planes: Planes, pts: int, duration: int) -> DeviceFrame:
        """A frame of uint8 planes."""
        y, u, v = (plane.detach().cpu().numpy() for plane in planes)
        return DeviceFrame(y, u, v, pts, duration, planes)


def cropped(planes: Planes, info: VideoInfo) -> Planes:
    """Views of padded planes that have the video's size."""
    rows, columns = (info.height + 1) // 2, (info.width + 1) // 2
    y, u, v = planes
    return y[: info.height, : info.width], u[:rows, :columns], v[:rows, :columns]


def planes_of(rgb: Tensor) -> Planes:
    """BT.709 limited range 4:2:0 of RGB [3, H, W], uint8 or floating point 0..1; chroma lies left (`LEFT`).

    Chroma is filtered with (1, 2, 1) / 4 along rows and (1, 1) / 2 along columns; edges are replicated.
    """
    kr, kb = matrix_of(VideoInfo(1, 1, matrix=BT709))
    scaled = rgb.float() if rgb.dtype == torch.uint8 else rgb.float() * 255
    red, green, blue = scaled.clamp(0, 255).unbind(0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = torch.stack([(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))])
    y = (luma * (219 / 255) + 16).round().to(torch.uint8)
    u, v = (_halved(chroma) * (224 / 255) + 128).round().clamp(0, 255).to(torch.uint8).unbind(0)
    return y, u, v


def _halved(planes: Tensor) -> Tensor:
    """[n, H, W] -> [n, ceil(H/2), ceil(W/2)], on the first of each two columns and between each two rows."""
    _, height, width = planes.shape
    row = torch.arange(0, height, 2, device=planes.device)
    planes = (planes[:, row] + planes[:, (row + 1).clamp(max=height - 1)]) / 2
    column = torch.arange(0, width, 2, device=planes.device)
    before, after = (column - 1).clamp(min=0), (column + 1).clamp(max=width - 1)
    return (planes[:, :, before] + 2 * planes[:, :, column] + planes[:, :, after]) / 4


def rgb_of(planes: Planes, info: VideoInfo) -> Tensor:
    """RGB of planes, uint8 [3, H, W] on their device: `bsqcodec.colour.to_rgb` for tensors, the same to a rounding."""
    y, u, v = planes
    kr, kb = matrix_of(info)
    vertical, horizontal = LOCATION.get(info.chroma_location, LOCATION[0])
    luma = y.float()
    cb, cr = (_upsampled(_upsampled(c, y.shape[0], 0, vertical), y.shape[1], 1, horizontal) - 128 for c in (u, v))
    if not info.full_range:
        luma = (luma - 16) * (255 / 219)
        cb, cr = cb * (255 / 224), cr * (255 / 224)
    red = luma + 2 * (1 - kr) * cr
    blue = luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return torch.stack([red, green, blue]).round().clamp(0, 255).to(torch.uint8)


def _upsampled(plane: Tensor, size: int, axis: int, place: int) -> Tensor:
    """Linear interpolation to `size` samples along an axis; place: see `bsqcodec.colour.LOCATION`."""
    quarters = torch.arange(size, device=plane.device) * 2 - place
    index, weight = quarters >> 2, (quarters & 3) / 4
    last = plane.shape[axis] - 1
    low = plane.index_select(axis, index.clamp(0, last)).float()
    high = plane.index_select(axis, (index + 1).clamp(0, last)).float()
    return low + (high - low) * weight.reshape((-1, 1) if axis == 0 else (1, -1))


def check_rgb(rgb: Tensor, name: str) -> None:
    """Raise UsageError unless this is RGB [3, H, W] of a type that `planes_of` takes; name: for the message."""
    if rgb.ndim != 3 or rgb.shape[0] != 3 or 0 in rgb.shape:
        raise UsageError(f"{name}: tensor of shape {tuple(rgb.shape)}; must be RGB [3, H, W]")
    if rgb.dtype != torch.uint8 and not rgb.is_floating_point():
        raise UsageError(f"{name}: tensor of {rgb.dtype}; must be uint8, or floating point in 0..1")
