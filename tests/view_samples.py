"""A small .bsq file, a video that stands for its original, and what the page of both must show."""

from __future__ import annotations

from pathlib import Path

import clips
import numpy as np

import bsqcodec

WIDTH, HEIGHT, FRAMES, KEYINT = 64, 48, 6, 4
GREYS = tuple(60 + 24 * n for n in range(FRAMES))  # luma of the decoded frames' right half


def frames() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Each frame one grey, brighter from frame to frame, with a texture in its upper left quarter that moves."""
    made = []
    for number, grey in enumerate(GREYS):
        y = np.full((HEIGHT, WIDTH), grey, np.uint8)
        rows, columns = np.mgrid[: HEIGHT // 2, : WIDTH // 2]
        y[: HEIGHT // 2, : WIDTH // 2] = 110 + 90 * np.sin((columns + 3 * number) / 2) * np.cos(rows / 2)
        chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
        made.append((y, chroma, chroma))
    return made


def write_samples(folder: Path) -> tuple[Path, Path]:
    """`made.bsq` of `frames`, and `negative.y4m`, which has the same size and opposite luma."""
    (folder / "made.bsq").write_bytes(bsqcodec.compress(frames(), crf=20, keyint=KEYINT, device="cpu"))
    head = clips.y4m_bytes(0, WIDTH, HEIGHT)
    negative = [b"FRAME\n" + (255 - y).tobytes() + u.tobytes() + v.tobytes() for y, u, v in frames()]
    (folder / "negative.y4m").write_bytes(head + b"".join(negative))
    return folder / "made.bsq", folder / "negative.y4m"
