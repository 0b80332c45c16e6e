"""Tensors in and out on one device: on a GPU the pictures never pass through host memory on their way to the model.

    python examples/tensors.py in.bsq out.bsq

Decodes a .bsq file, turns its pictures upside down where they are, and encodes them again.
"""

from __future__ import annotations

import sys

import torch

import bsqcodec


def main(src: str, dst: str) -> None:
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    with (
        bsqcodec.open(src, device=device) as video,
        bsqcodec.Encoder(dst, fps=video.info.fps, crf=28, device=device, overwrite=True) as encoder,
    ):
        for frame in video.tensors():
            rgb = frame.rgb  # uint8 [3, H, W] on `device`
            encoder.write(rgb.flip(1), pts=frame.pts)
    print(f"{encoder.stats.frames} frames on {device}, {encoder.stats.kbps:.0f} kbit/s")


if __name__ == "__main__":
    main(*sys.argv[1:])
