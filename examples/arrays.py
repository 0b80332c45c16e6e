"""Arrays in, a .bsq file out, arrays back: the streaming encoder and decoder.

    python examples/arrays.py out.bsq

Draws a ball that bounces, encodes it picture by picture, and reads single frames back.
"""

from __future__ import annotations

import sys

import numpy as np

import bsqcodec

WIDTH, HEIGHT, FRAMES, FPS = 160, 96, 12, 25


def picture(number: int) -> np.ndarray:
    """RGB, uint8 [H, W, 3]."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    x, y = 30 + 5 * number, HEIGHT - 20 - 40 * abs(np.sin(number / 4))
    distance = np.hypot(columns - x, rows - y)[..., None]
    ground = np.stack([60 + rows, 90 + rows // 2, 160 - rows], axis=-1)
    return np.where(distance < 14, (240, 90, 40), ground).astype(np.uint8)


def main(path: str) -> None:
    with bsqcodec.Encoder(path, fps=FPS, crf=24, overwrite=True) as encoder:
        for number in range(FRAMES):
            encoder.write(picture(number))
    print(f"{encoder.stats.frames} frames, {encoder.stats.bytes} bytes, PSNR {encoder.stats.psnr:.1f} dB")

    with bsqcodec.open(path) as video:
        video.seek(7)
        frame = next(iter(video))
    error = np.abs(frame.rgb.astype(int) - picture(7)).mean()
    print(f"frame {frame.index} at {float(frame.pts):.2f} s is off by {error:.1f} of 255 on average")

    data = bsqcodec.compress(map(picture, range(3)), crf=24)
    print(f"the first three alone, in memory: {len(data)} bytes, {len(bsqcodec.decompress(data))} frames")


if __name__ == "__main__":
    main(*sys.argv[1:])
