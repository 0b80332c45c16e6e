"""`Clip`: what the rooms of the benchmark hand each other about one source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from bsqcodec.bench.probe import Scan

BT709 = 1  # H.273 matrix
KNOWN_MATRICES = {1, 4, 5, 6, 7, 9, 10}  # H.273 matrices that bsqcodec.colour converts


@dataclass(frozen=True)
class Clip:
    """One clip to measure on.

    name: unique among the clips, safe as a file name. path: the file on the disk. width, height: luma samples as
    measured, that is after scaling, odd sides cropped to even ones. fps: frames per second. frames: how many are
    measured (None = all; `find_clips` always knows). raw: size of headerless 8-bit 4:2:0 video, None = FFmpeg reads
    the file. scale: size to resize to, None = as it is. matrix: H.273 code point for RGB metrics (1 = BT.709, also
    where the file says nothing); full_range: samples of 0..255 instead of 16..235.
    """

    name: str
    path: Path
    width: int
    height: int
    fps: Fraction
    frames: int | None
    raw: tuple[int, int] | None = None
    scale: tuple[int, int] | None = None
    matrix: int = BT709
    full_range: bool = False

    def coloured(self, found: Scan) -> Clip:
        """The clip with the colour description of its file."""
        matrix = found.info.matrix if found.info.matrix in KNOWN_MATRICES else BT709
        return replace(self, matrix=matrix, full_range=bool(found.info.full_range))
