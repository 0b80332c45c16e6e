"""From planes to tokens and back, and the orthonormal DCT the tokenizer starts from.

A token is an 8x8 luma block with its two 4x4 chroma blocks: 96 samples in the order Y (raster), U, V.
Legend: h w token rows and columns, H = 8h, W = 8w luma samples, C = 96 samples or channels a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

TOKEN = 8  # luma samples a token is wide and high
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # (row, column) parity of tokens, in coding order
SAMPLES = 96  # 64 luma + 2 x 16 chroma samples a token
LUMA = 64

Planes = tuple[Tensor, Tensor, Tensor]  # y [H, W], u [H/2, W/2], v [H/2, W/2]


def token_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of tokens that cover a frame of width x height luma samples."""
    return -(-height // TOKEN), -(-width // TOKEN)


def pad_planes(planes: Planes, h: int, w: int) -> Planes:
    """Replicate the last row and column until luma is [8h, 8w]; a plane already that large is returned as it is."""
    sizes = ((TOKEN * h, TOKEN * w), (TOKEN * h // 2, TOKEN * w // 2), (TOKEN * h // 2, TOKEN * w // 2))
    padded = [_pad_plane(plane, rows, columns) for plane, (rows, columns) in zip(planes, sizes, strict=True)]
    return padded[0], padded[1], padded[2]


def _pad_plane(plane: Tensor, rows: int, columns: int) -> Tensor:
    row = torch.arange(rows, device=plane.device).clamp_(max=plane.shape[0] - 1)
    column = torch.arange(columns, device=plane.device).clamp_(max=plane.shape[1] - 1)
    return plane[row][:, column]


def blocks(plane: Tensor, size: int) -> Tensor:
    """[..., h*size, w*size] -> [..., h, w, size*size], each block in raster order."""
    *lead, rows, columns = plane.shape
    cut = plane.reshape(*lead, rows // size, size, columns // size, size)
    return cut.transpose(-3, -2).reshape(*lead, rows // size, columns // size, size * size)


def unblocks(tokens: Tensor, size: int) -> Tensor:
    """The inverse of `blocks`: [..., h, w, size*size] -> [..., h*size, w*size]."""
    *lead, h, w, _ = tokens.shape
    return tokens.reshape(*lead, h, w, size, size).transpose(-3, -2).reshape(*lead, h * size, w * size)


def pack(planes: Planes) -> Tensor:
    """Planes of luma [..., 8h, 8w] and chroma [..., 4h, 4w] -> samples [..., h, w, 96]."""
    y, u, v = planes
    return torch.cat([blocks(y, TOKEN), blocks(u, TOKEN // 2), blocks(v, TOKEN // 2)], dim=-1)


def unpack(samples: Tensor) -> Planes:
    """The inverse of `pack`."""
    y, u, v = torch.split(samples, [LUMA, 16, 16], dim=-1)
    return unblocks(y, TOKEN), unblocks(u, TOKEN // 2), unblocks(v, TOKEN // 2)


def patches(planes: Planes, margin: int) -> Tensor:
    """Each token's samples with `margin` luma (margin / 2 chroma) samples of its neighbours around them.

    planes: float luma [B, 8h, 8w], chroma [B, 4h, 4w]; margin even. Edges are replicated.
    Returns [B, h, w, (8 + 2 margin)^2 + 2 (4 + margin)^2].
    """
    parts = [
        _plane_patches(plane, size, m)
        for plane, size, m in zip(planes, (8, 4, 4), (margin, margin // 2, margin // 2), strict=True)
    ]
    return torch.cat(parts, dim=-1)


def _plane_patches(plane: Tensor, size: int, margin: int) -> Tensor:
    padded = F.pad(plane.unsqueeze(1), (margin,) * 4, mode="replicate").squeeze(1)
    cut = padded.unfold(1, size + 2 * margin, size).unfold(2, size + 2 * margin, size)  # [B, h, w, k, k]
    return cut.flatten(3)


def dct(n: int) -> Tensor:
    """Orthonormal DCT-II, [n frequencies, n samples] (Ahmed, Natarajan, Rao 1974)."""
    k = torch.arange(n, dtype=torch.float64)[:, None]
    x = torch.arange(n, dtype=torch.float64)[None, :]
    basis = torch.cos(math.pi * (x + 0.5) * k / n) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis


def zigzag(n: int) -> list[int]:
    """Raster positions of an n x n block by rising frequency (row + column): JPEG's zigzag, transposed."""
    return sorted(range(n * n), key=lambda i: (i // n + i % n, i % n if (i // n + i % n) % 2 else i // n))


def channel_order() -> list[int]:
    """The 96 DCT coefficients (Y 0-63, U 64-79, V 80-95, each in raster order) by rising spatial frequency.

    A 4x4 chroma coefficient of frequency f spans as many samples on screen as a luma coefficient of frequency 2f + 1.
    """
    luma, chroma = zigzag(8), zigzag(4)
    keyed = [(i // 8 + i % 8, 0, rank, i) for rank, i in enumerate(luma)]
    for plane in (1, 2):
        keyed += [(2 * (i // 4 + i % 4) + 1, plane, rank, 48 + 16 * plane + i) for rank, i in enumerate(chroma)]
    return [entry[-1] for entry in sorted(keyed)]


def dct_matrix() -> Tensor:
    """Orthonormal [96 channels, 96 samples]: 8x8 DCT of luma and 4x4 DCTs of chroma, channels in `channel_order`."""
    matrix = torch.zeros(SAMPLES, SAMPLES, dtype=torch.float64)
    matrix[:64, :64] = torch.kron(dct(8), dct(8))
    matrix[64:80, 64:80] = matrix[80:, 80:] = torch.kron(dct(4), dct(4))
    return matrix[channel_order()].float()
