"""The transformer of tokenizer encoder and decoder: attention in windows of 8x8 tokens, so cost is linear in pixels.

Blocks have no normalisation layers and use ReLU: all that is left is products, sums and a softmax, which is what
integer arithmetic can follow (design of the prior, `bsqcodec/prior`).
Legend: B batch, T frames, h w tokens, D width, S = 64 T tokens in a window, n windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.integer.windows import WINDOW, merge, partition, relative_index, window_mask

HIDDEN = -1e4  # score of a token that must not be looked at: exp of it is 0
QUALITY_HATS = 16  # piecewise-linear basis over the quality index


def quality_basis(quality: Tensor) -> Tensor:
    """Quality indices 0..255 [B] -> [B, 16] hat functions (1 at its own knot, 0 at the next, linear between)."""
    knots = torch.arange(QUALITY_HATS, device=quality.device) * (255 / (QUALITY_HATS - 1))
    return (1 - (quality[:, None] - knots).abs() * ((QUALITY_HATS - 1) / 255)).clamp_min(0)


def _attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor, allowed: Tensor) -> Tensor:
    """q, k, v [n, heads, S, d], table [heads, S, S] added to the scores, allowed [n, 1, S or 1, S] -> as q."""
    if not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=table + torch.where(allowed, 0.0, HIDDEN))
    # Explicit products: on a CPU the fused attention's backward takes half of a training step.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + table.to(q.dtype)
    mixed: Tensor = scores.masked_fill(~allowed, HIDDEN).softmax(-1).to(v.dtype) @ v
    return mixed


class Block(nn.Module):
    """Window attention and a ReLU MLP, each added to its input; the output layers start at zero."""

    index: Tensor

    def __init__(self, dim: int, heads: int, mlp: int, shift: int):
        super().__init__()
        self.heads, self.shift = heads, shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.up = nn.Linear(dim, mlp)
        self.down = nn.Linear(mlp, dim)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * WINDOW - 1) ** 2))
        self.register_buffer("index", relative_index(), persistent=False)
        for layer in (self.out, self.down):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, h, w, D] -> the same shape."""
        x = x + self.attend(x)
        out: Tensor = x + self.down(F.relu(self.up(x)))
        return out

    def attend(self, x: Tensor) -> Tensor:
        b, t, h, w, d = x.shape
        windows, grid = partition(self.qkv(x), self.shift)
        n, s, _ = windows.shape
        q, k, v = windows.reshape(n, s, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        table = self.bias[:, self.index].repeat(1, t, t)  # [heads, S, S]
        allowed = window_mask(b, t, h, w, self.shift, x.device)
        mixed = _attention(q, k, v, table, allowed).transpose(1, 2).reshape(n, s, d)
        out: Tensor = self.out(merge(mixed, (b, t, h, w), grid, self.shift))
        return out


class WindowTransformer(nn.Module):
    """features [B, T, h, w, in], condition [B, c] -> [B, T, h, w, out]; every second block's windows are shifted."""

    def __init__(self, inputs: int, outputs: int, condition: int, *, dim: int, depth: int, heads: int, mlp: int):
        super().__init__()
        self.embed = nn.Linear(inputs, dim)
        self.condition = nn.Linear(condition, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, mlp, WINDOW // 2 if i % 2 else 0) for i in range(depth))
        self.head = nn.Linear(dim, outputs)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        x = self.embed(features) + self.condition(condition)[:, None, None, None]
        for block in self.blocks:
            x = block(x)
        head: Tensor = self.head(F.relu(x))
        return head
