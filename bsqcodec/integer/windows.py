"""Windows of 8x8 tokens, inside which tokens attend to one another: cost is linear in pixels and any size works.

Legend: B batch, T frames, h w tokens, D width, S = 64 T tokens in a window, n windows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 8  # tokens a window is wide and high


def partition(x: Tensor, shift: int) -> tuple[Tensor, tuple[int, int]]:
    """[B, T, h, w, D] -> windows [B n, T 64, D] after padding `shift` before and up to a multiple of 8 behind.

    Returns the windows and the padded (rows, columns) in windows.
    """
    b, t, h, w, d = x.shape
    rows, columns = -(-(h + shift) // WINDOW), -(-(w + shift) // WINDOW)
    if shift or rows * WINDOW != h or columns * WINDOW != w:
        x = F.pad(x, (0, 0, shift, columns * WINDOW - w - shift, shift, rows * WINDOW - h - shift))
    cut = x.reshape(b, t, rows, WINDOW, columns, WINDOW, d).permute(0, 2, 4, 1, 3, 5, 6)
    return cut.reshape(b * rows * columns, t * WINDOW * WINDOW, d), (rows, columns)


def merge(windows: Tensor, shape: tuple[int, int, int, int], grid: tuple[int, int], shift: int) -> Tensor:
    """The inverse of `partition` for x of shape (B, T, h, w): windows [B n, T 64, D] -> [B, T, h, w, D]."""
    b, t, h, w = shape
    rows, columns = grid
    x = windows.reshape(b, rows, columns, t, WINDOW, WINDOW, -1).permute(0, 3, 1, 4, 2, 5, 6)
    return x.reshape(b, t, rows * WINDOW, columns * WINDOW, -1)[:, :, shift : shift + h, shift : shift + w]


def window_mask(b: int, t: int, h: int, w: int, shift: int, device: torch.device) -> Tensor:
    """Which tokens of a window may be looked at: bool [B n, 1, S or 1, S] (padding never, later frames never)."""
    inside = torch.ones(1, t, h, w, 1, device=device)
    windows, _ = partition(inside, shift)
    allowed = windows.reshape(-1, 1, 1, t * WINDOW * WINDOW) > 0
    if t > 1:  # block-causal: a token sees its own frame and the frames before it
        frame = torch.arange(t, device=device).repeat_interleave(WINDOW * WINDOW)
        allowed = allowed & (frame[:, None] >= frame[None, :])
    return allowed.repeat(b, 1, 1, 1)


def relative_index() -> Tensor:
    """[64, 64] index of the offset between two tokens of a window into a table of 15 x 15."""
    row = torch.arange(WINDOW).repeat_interleave(WINDOW)
    column = torch.arange(WINDOW).repeat(WINDOW)
    return (row[:, None] - row[None] + WINDOW - 1) * (2 * WINDOW - 1) + column[:, None] - column[None] + WINDOW - 1
