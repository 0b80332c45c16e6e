"""What counts as a picture in the Python API, and how each kind becomes a `Frame`.

    planes       an object with y, u, v (`Frame`, `DecodedFrame`, `TensorFrame`) or a tuple (y, u, v): taken as they are
    numpy RGB    uint8 [H, W, 3]
    torch RGB    uint8 or floating point 0..1, [3, H, W]

Planes are uint8, y [H, W], u and v [ceil(H/2), ceil(W/2)], numpy arrays or tensors. RGB becomes BT.709 limited range
4:2:0 on the device it is on. Nothing is copied where it can be used in place.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, Union

import numpy as np

from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo

if TYPE_CHECKING:
    from torch import Tensor

Samples = Union[np.ndarray, "Tensor"]


class Picture(Protocol):
    """Three planes: y uint8 [H, W]; u, v uint8 [ceil(H/2), ceil(W/2)], numpy arrays or tensors."""

    @property
    def y(self) -> Any: ...
    @property
    def u(self) -> Any: ...
    @property
    def v(self) -> Any: ...


AnyPicture = Union[Picture, tuple[Samples, Samples, Samples], np.ndarray, "Tensor"]


def as_frame(picture: AnyPicture, pts: int = 0, duration: int = 0, *, name: str = "picture") -> Frame:
    """The picture as a frame. name: what messages call it. Raises UsageError where it is no picture."""
    planes = _planes_of(picture, name)
    if any(isinstance(plane, np.ndarray) for plane in planes):
        y, u, v = (np.asarray(plane) for plane in planes)
        _check(name, (y, u, v), np.dtype(np.uint8))
        return Frame(y, u, v, pts, duration)
    import torch

    from bsqcodec.tensors import DeviceFrame

    _check(name, planes, torch.uint8)
    return DeviceFrame.of(planes, pts, duration)


def info_of(picture: AnyPicture, frame: Frame, fps: Fraction) -> VideoInfo:
    """What a video of such pictures is: their size and colour, `fps` frames a second; times count frames."""
    height, width = frame.y.shape
    known = getattr(picture, "info", None)
    if isinstance(known, VideoInfo):
        return replace(known, width=width, height=height, time_base=1 / fps, fps=fps)
    plain = VideoInfo(width, height, time_base=1 / fps, fps=fps)
    if hasattr(picture, "y") or isinstance(picture, tuple):
        return plain
    from bsqcodec.tensors import BT709, LEFT

    return replace(plain, matrix=BT709, full_range=False, chroma_location=LEFT, source_format="rgb24")


def _planes_of(picture: AnyPicture, name: str) -> tuple[Any, Any, Any]:
    if isinstance(picture, tuple):
        if len(picture) != 3:
            raise UsageError(f"{name}: a tuple of {len(picture)}; give the planes (y, u, v)")
        return picture
    if hasattr(picture, "y") and hasattr(picture, "u") and hasattr(picture, "v"):
        return picture.y, picture.u, picture.v
    import torch

    from bsqcodec.tensors import check_rgb, planes_of

    rgb: Any = picture
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise UsageError(f"{name}: array of {picture.dtype} {picture.shape}; must be RGB, uint8 [H, W, 3]")
        rgb = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
    if not isinstance(rgb, torch.Tensor):
        raise UsageError(f"{name}: {type(picture).__name__} is no picture; give RGB or the planes (y, u, v)")
    check_rgb(rgb, name)
    return planes_of(rgb)


def _check(name: str, planes: tuple[Any, Any, Any], wanted: Any) -> None:
    shape = tuple(planes[0].shape)
    if len(shape) != 2 or 0 in shape:
        raise UsageError(f"{name}: luma of shape {shape}; must be [H, W]")
    chroma = (-(-shape[0] // 2), -(-shape[1] // 2))
    if tuple(tuple(plane.shape) for plane in planes) != (shape, chroma, chroma):
        shapes = [tuple(plane.shape) for plane in planes]
        raise UsageError(f"{name}: planes of {shapes}; must be {shape} and twice {chroma}")
    if any(plane.dtype != wanted for plane in planes):
        raise UsageError(f"{name}: planes of {[str(plane.dtype) for plane in planes]}; must be uint8")
