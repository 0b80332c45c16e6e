"""MS-SSIM of a finished stream against its source: the encoder does not measure it on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bsqcodec.container import Group, StreamReader
from bsqcodec.frames import Frame
from bsqcodec.metrics import compare
from bsqcodec.rate.survey import Opener

if TYPE_CHECKING:
    from bsqcodec.codec import Model


def measure_ms_ssim(path: Path, opened: Opener, model: Model) -> float | None:
    """Mean MS-SSIM of the luma over all frames; decodes the stream once more. None where the picture is too small."""
    with opened() as video:
        frames = (item for item in video if isinstance(item, Frame))
        return compare(frames, _decoded(path, model), ms_ssim=True).ms_ssim


def _decoded(path: Path, model: Model) -> Iterator[Frame]:
    from bsqcodec.codec import decode_group

    with path.open("rb") as file:
        reader = StreamReader(file)
        for item in reader:
            if isinstance(item, Group):
                yield from decode_group(model, item, reader.header.info)
