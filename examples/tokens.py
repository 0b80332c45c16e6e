"""Tokens for a generative model: bits [T, h, w, L] out of a video, and a video out of other bits.

    python examples/tokens.py in.mp4

Shows the token grid of the first frames, packs it, and decodes it again with a tenth of the bits of the last frame
left out, as if a model had been unsure of them.
"""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np

import bsqcodec
from bsqcodec.frames import Frame
from bsqcodec.metrics import frame_psnr
from bsqcodec.video import open_video


def main(path: str, count: int = 3) -> None:
    with open_video(path) as video:
        frames = list(islice((item for item in video if isinstance(item, Frame)), count))
    tokenizer = bsqcodec.Tokenizer()
    tokens = tokenizer.encode(frames, crf=28)

    bits, packed = tokens.unpacked(), tokens.packed()
    print(f"bits {bits.shape}, packed {packed.shape}, {bits.mean():.1%} ones")
    assert np.array_equal(tokens.with_packed(packed).levels, tokens.levels)

    levels = tokens.levels.copy()
    unsure = np.random.default_rng(0).random(levels[-1].shape) < 0.1
    levels[-1][unsure] = 0
    for name, some in (("all tokens", tokens), ("a tenth left out", tokens.with_bits(changed(tokens, levels)))):
        decoded = tokenizer.decode(some)
        print(f"{name}: PSNR of the last frame {frame_psnr(frames[-1], decoded[-1]).yuv:.2f} dB")


def changed(tokens: bsqcodec.Tokens, levels: np.ndarray) -> np.ndarray:
    """The bits of other levels."""
    from dataclasses import replace

    return replace(tokens, levels=levels).bits


if __name__ == "__main__":
    main(sys.argv[1])
