"""The pictures of a page as one video: the original above, the decoded frame below, so that both always are in step."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from bsqcodec.colour import matrix_code
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.video.writer import AvWriter, OutputCodec
from bsqcodec.view.collect import Seen

CRF = 10  # of the H.264 that every browser plays: about 50 dB, well above what is compared
# Short groups without B-frames: stepping through frames must be quick.
CODEC = OutputCodec("libx264", ("mp4",), {"crf": str(CRF), "preset": "fast", "g": "12", "bf": "0"})
CLOCK = Fraction(1, 90_000)  # s


class Film:
    """Writes an MP4 of what is seen; a context manager. half: rows of one of the two pictures, even."""

    def __init__(self, path: Path, info: VideoInfo, *, both: bool, threads: int) -> None:
        self.width, self.half = info.width + info.width % 2, info.height + info.height % 2
        stacked = replace(
            info,
            width=self.width,
            height=self.half * (2 if both else 1),
            time_base=CLOCK,
            sample_aspect_ratio=Fraction(1),
            rotation=0,
            matrix=matrix_code(info),  # a browser would guess by the height, which is another one here
            full_range=bool(info.full_range),
        )
        self._writer = AvWriter(path, path.name, stacked, (), CODEC, "mp4", threads)

    def __enter__(self) -> Film:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)  # type: ignore[arg-type]

    def add(self, seen: Seen) -> None:
        """Append a frame."""
        shown = [seen.decoded] if seen.original is None else [seen.original, seen.decoded]
        y, u, v = (np.concatenate([self._even(getattr(frame, plane), plane) for frame in shown]) for plane in "yuv")
        self._writer.write(Frame(y, u, v, round(seen.time / CLOCK)))

    def _even(self, samples: np.ndarray, plane: str) -> np.ndarray:
        """A plane of even size: the last row and column are doubled where needed."""
        rows, columns = (self.half, self.width) if plane == "y" else (self.half // 2, self.width // 2)
        return np.pad(samples, ((0, rows - samples.shape[0]), (0, columns - samples.shape[1])), "edge")
