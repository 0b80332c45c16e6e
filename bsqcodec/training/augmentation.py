"""Augmentation of training clips beyond flips: twice the speed, colour jitter, camera motion over photographs.

Legend: planes as in `clips`.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor
from torch.nn import functional

from bsqcodec.tokenizer.transform import Planes

# Shares of excerpts that are changed, and how far.
FAST, COLOURED, FILMED = 0.3, 0.4, 0.7
GAIN, LIFT, COLOUR = (0.6, 1.25), (-24.0, 24.0), (0.5, 1.4)
LEAST, SIDE = 128, 352  # luma samples a side: of pictures that are filmed, and what a camera sees at most
PACES = (0.3, 1.0, 3.0)  # luma samples a frame that a camera pans, on average
TURN = 0.001  # radians a frame it turns, and share by which it nears, for each of them


def jitter_colour(frames: list[Planes], rng: random.Random) -> list[Planes]:
    """Another brightness, contrast and saturation, the same for all frames."""
    gain, lift, colour = rng.uniform(*GAIN), rng.uniform(*LIFT), rng.uniform(*COLOUR)
    return [(_scaled(y, gain, lift), _scaled(u, colour, 0), _scaled(v, colour, 0)) for y, u, v in frames]


def _scaled(plane: Tensor, gain: float, lift: float) -> Tensor:
    dither = torch.rand(plane.shape) - 0.5  # else a smaller contrast would leave steps
    return ((plane.float() - 128) * gain + 128 + lift + dither).round().clamp(0, 255).to(torch.uint8)


def camera_motion(still: Planes, count: int, rng: random.Random) -> list[Planes]:
    """`count` frames of a picture seen by a camera that pans, turns and nears or leaves at an even pace."""
    rows, columns = still[0].shape
    height, width = min(rows // 2 * 2, SIDE), min(columns // 2 * 2, SIDE)
    pace = rng.choice(PACES)
    pan = rng.gauss(0, pace), rng.gauss(0, pace)
    turn, zoom = rng.gauss(0, TURN * pace), 1 + rng.gauss(0, TURN * pace)
    x, y = rng.uniform(width / 2, columns - width / 2), rng.uniform(height / 2, rows - height / 2)
    frames = []
    for i in range(count):
        centre = x + pan[0] * i, y + pan[1] * i
        view = [
            _seen(
                plane,
                (height // size, width // size),
                (centre[0] / size - 0.5, centre[1] / size - 0.5),
                turn * i,
                zoom**i,
            )
            for plane, size in zip(still, (1, 2, 2), strict=True)
        ]
        frames.append((view[0], view[1], view[2]))
    return frames


def _seen(plane: Tensor, shape: tuple[int, int], centre: tuple[float, float], turn: float, zoom: float) -> Tensor:
    """shape samples around a place of a plane, turned and scaled; mirrored beyond its edges."""
    rows, columns = (torch.arange(n) - (n - 1) / 2 for n in shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    across = centre[0] + zoom * (x * math.cos(turn) - y * math.sin(turn))
    down = centre[1] + zoom * (x * math.sin(turn) + y * math.cos(turn))
    height, width = plane.shape
    grid = torch.stack((2 * across / (width - 1) - 1, 2 * down / (height - 1) - 1), -1).float()[None]
    found = functional.grid_sample(
        plane.float()[None, None], grid, mode="bicubic", padding_mode="reflection", align_corners=True
    )
    return found[0, 0].round().clamp(0, 255).to(torch.uint8)
