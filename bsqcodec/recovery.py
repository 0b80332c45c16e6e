"""What a decoder puts where groups are lost: an error, nothing, the last picture again, or grey."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from bsqcodec.container import MAX_PIXELS, Gap, Group, Loss, SalvageReader, StreamReader
from bsqcodec.errors import BitstreamError, LimitError, UsageError
from bsqcodec.frames import Frame, VideoInfo

if TYPE_CHECKING:
    from bsqcodec.codec import Model

ON_ERROR = ("fail", "skip", "conceal")
FILLS = ("freeze", "grey")
_GREY = 128

Reader = StreamReader | SalvageReader


@dataclass(frozen=True)
class Tolerance:
    """How much a decoder puts up with.

    on_error: "fail" at the first damage; "skip" lost frames; "conceal" them with what `fill` says: "freeze" the last
    picture (grey before the first) or "grey". max_pixels: of a frame, width * height, or of all frames of a group for
    the models that decode those at once; max_frames: of the video, None = no limit. Raises UsageError for other values.
    """

    on_error: str = "fail"
    fill: str = "freeze"
    max_pixels: int = MAX_PIXELS
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise UsageError(f"on_error {self.on_error!r}: must be one of {', '.join(ON_ERROR)}")
        if self.fill not in FILLS:
            raise UsageError(f"fill {self.fill!r}: must be one of {', '.join(FILLS)}")
        if self.max_pixels < 1 or (self.max_frames is not None and self.max_frames < 1):
            raise UsageError(f"max_pixels {self.max_pixels}, max_frames {self.max_frames}: must be 1 or more")

    @property
    def salvages(self) -> bool:
        """Whether damage is to be put up with."""
        return self.on_error != "fail"

    def reader(self, file: BinaryIO, name: str) -> Reader:
        """The reader for this tolerance. Raises BitstreamError for a damaged header and beyond the limits."""
        kind = SalvageReader if self.salvages else StreamReader
        return kind(file, max_pixels=self.max_pixels, max_frames=self.max_frames, name=name)


class Recovery:
    """Turns groups and gaps into frames, and counts what was lost.

    lost: frames that could not be decoded; concealed: how many of them were filled in; losses: failures inside of
    groups whose checksums are right, besides those the reader found. decode: what decodes a group, this process
    unless it is replaced.
    """

    def __init__(self, model: Model, info: VideoInfo, tolerance: Tolerance, name: str) -> None:
        self.decode: Callable[[Group], Iterator[Frame]] = self._decoded
        self.lost = self.concealed = 0
        self.losses: list[Loss] = []
        self._model, self.info, self._tolerance, self._name = model, info, tolerance, name
        self._last: Frame | None = None

    def frames(self, item: Group | Gap) -> Iterator[Frame]:
        """The frames of a group, or what stands in for those of a gap."""
        return (frame for frame, _ in self.marked(item))

    def marked(self, item: Group | Gap) -> Iterator[tuple[Frame, bool]]:
        """The same, each with whether it is a stand-in."""
        if isinstance(item, Gap):
            yield from self._stand_ins(item)
            return
        self.check_size(item)
        done = 0
        try:
            for frame in self.decode(item):
                self._last = frame
                done += 1
                yield frame, False
        except BitstreamError as error:
            message = f"{self._name}: {_group_name(item)}: {error}"
            if not self._tolerance.salvages:
                raise type(error)(message) from error
            rest = Gap(item.first_frame + done, len(item.pts) - done, item.pts[done:], item.durations[done:])
            self.losses.append(Loss(0, 0, rest.first_frame, rest.frames, message))
            yield from self._stand_ins(rest)

    def check_size(self, group: Group) -> None:
        """LimitError for a group that a causal model would hold in memory whole, and that is too large for that."""
        pixels = len(group.pts) * self.info.width * self.info.height
        if pixels > self._tolerance.max_pixels and _is_causal(self._model):
            limit = (
                f"{pixels} pixels, which this model decodes at once, above the limit of {self._tolerance.max_pixels}"
            )
            raise LimitError(f"{self._name}: {_group_name(group)}: {limit}; raise --max-pixels")

    def remember(self, frame: Frame | None) -> None:
        """The picture that a freeze repeats, for those who do not decode from the start."""
        self._last = frame

    def _decoded(self, group: Group) -> Iterator[Frame]:
        from bsqcodec.codec import decode_group

        return decode_group(self._model, group, self.info)

    def _stand_ins(self, gap: Gap) -> Iterator[tuple[Frame, bool]]:
        self.lost += gap.frames
        if self._tolerance.on_error != "conceal":
            return
        picture = self._last if self._tolerance.fill == "freeze" and self._last is not None else self._grey()
        for pts, duration in zip(gap.pts, gap.durations, strict=True):
            self.concealed += 1
            yield Frame(picture.y, picture.u, picture.v, pts, duration), True

    def _grey(self) -> Frame:
        height, width = self.info.height, self.info.width
        y = np.full((height, width), _GREY, np.uint8)
        u = np.full(((height + 1) // 2, (width + 1) // 2), _GREY, np.uint8)
        return Frame(y, u, u, 0)


def all_losses(reader: Reader, recovery: Recovery) -> tuple[Loss, ...]:
    """What reader and decoder lost, in the order of the file's frames."""
    found = reader.losses if isinstance(reader, SalvageReader) else []
    return tuple(sorted({*found, *recovery.losses}, key=lambda loss: (loss.offset == 0, loss.offset)))


@contextmanager
def hinting(tolerance: Tolerance) -> Iterator[None]:
    """Errors about damage say that what is whole can be had; not those of a header, without which nothing can."""
    try:
        yield
    except LimitError:
        raise
    except BitstreamError as error:
        if tolerance.salvages:
            raise
        raise type(error)(f"{error}; --on-error skip or conceal decodes what is whole") from error


@contextmanager
def seekable(file: BinaryIO, needed: bool) -> Iterator[BinaryIO]:
    """The file itself, or a temporary copy of a pipe where seeking is needed."""
    if not needed or file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def last_frame(frames: Iterator[Frame], count: int) -> Frame | None:
    """The last of the first `count` frames."""
    last = None
    for frame in islice(frames, count):
        last = frame
    return last


def _is_causal(model: Model) -> bool:
    from bsqcodec.tokenizer.causal import CausalTokenizer

    return isinstance(getattr(model, "tokenizer", None), CausalTokenizer)


def _group_name(group: Group) -> str:
    return f"group of frames {group.first_frame}-{group.first_frame + len(group.pts) - 1}"
