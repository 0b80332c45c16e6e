"""`bsqcodec.BsqDataset`: clips out of .bsq files for training with PyTorch.

dataset = bsqcodec.BsqDataset("videos/", frames=8)
for clips in torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=2, shuffle=True):
    clips.shape  # uint8 [4, 8, 3, H, W]
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from bsqcodec.arguments import checked
from bsqcodec.container import StreamReader
from bsqcodec.decoder import Decoder, open_stream
from bsqcodec.errors import UsageError
from bsqcodec.outputs import StrPath

if TYPE_CHECKING:
    from bsqcodec.codec import Model

OUTPUTS = ("rgb", "yuv", "tokens")
MAX_OPEN = 16  # files kept open in a process


@dataclass(frozen=True)
class Clip:
    """One item: frames `start` .. `start + frames` - 1 of a file."""

    path: Path
    start: int
    frames: int


class BsqDataset(Dataset[Any]):
    """A map-style dataset of clips; works with DataLoader workers, forked or spawned.

    An item is made of `frames` consecutive frames of one file, decoded from the beginning of their group, so files of
    `keyint` = `frames` decode fastest. Files must be of one size for clips to be batched.

    Args:
        files: .bsq files, or folders, which stand for all .bsq files below them, sorted.
        frames: of a clip; a rest that is shorter is left out.
        stride: frames from the start of one clip to the next, None = `frames`.
        output: "rgb": uint8 [T, 3, H, W]; "yuv": (y [T, H, W], u, v [T, ceil(H/2), ceil(W/2)]), uint8;
            "tokens": the `Tokens` of a whole group, which is then an item whatever `frames` says.
        transform: called with what an item would be; its result is the item.
        device, threads, weights: as for `bsqcodec.open`. Workers cannot share a GPU that their parent has used, so
            the device is the CPU unless told otherwise.

    Raises:
        UsageError: an argument is outside of its range, or there is no file; VideoError, BitstreamError: a file
        cannot be read. Damage inside of a group is raised when that item is asked for.
    """

    @checked
    def __init__(
        self,
        files: StrPath | Iterable[StrPath],
        *,
        frames: int = 16,
        stride: int | None = None,
        output: str = "rgb",
        transform: Callable[[Any], Any] | None = None,
        device: str = "cpu",
        threads: int = 0,
        weights: StrPath | None = None,
    ) -> None:
        stride = frames if stride is None else stride
        if frames < 1 or stride < 1:
            raise UsageError(f"frames {frames}, stride {stride}: both must be 1 frame or more")
        if output not in OUTPUTS:
            raise UsageError(f"output {output!r}: must be one of {', '.join(OUTPUTS)}")
        self._output, self._transform = output, transform
        self._options = {"device": device, "threads": threads, "weights": weights}
        self.clips = [clip for path in _files(files) for clip in _clips(path, frames, stride, output == "tokens")]
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._decoders: OrderedDict[Path, Decoder] = OrderedDict()
        self._models: dict[str, Model] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without open files and models: each process makes its own."""
        return self.__dict__ | {"_decoders": OrderedDict(), "_models": {}}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Any:
        clip = self.clips[index]
        decoder = self._decoder(clip.path)
        decoder.seek(clip.start)
        item = next(decoder.tokens()) if self._output == "tokens" else self._pictures(decoder, clip.frames)
        return item if self._transform is None else self._transform(item)

    def _pictures(self, decoder: Decoder, count: int) -> Any:
        frames = list(islice(decoder.tensors(), count))
        if self._output == "rgb":
            return torch.stack([frame.rgb for frame in frames])
        return tuple(torch.stack([getattr(frame, plane) for frame in frames]) for plane in "yuv")

    def _decoder(self, path: Path) -> Decoder:
        """The open file; a process that was forked must not share its parent's position in it."""
        if self._pid != os.getpid():
            self._forget()
        if path not in self._decoders:
            self._decoders[path] = _Sharing(path, self._models, self._options)
        self._decoders.move_to_end(path)
        while len(self._decoders) > MAX_OPEN:
            self._decoders.popitem(last=False)[1].close()
        return self._decoders[path]


class _Sharing(Decoder):
    """A decoder that takes its model from `models` (by tune), or puts it there."""

    def __init__(self, path: Path, models: dict[str, Model], options: dict[str, Any]) -> None:
        self._models = models
        super().__init__(path, **options)

    def _load(self, device: str, threads: int, weights: StrPath | None) -> None:
        from bsqcodec.codec import check_model

        tune = self.header.tune
        if tune not in self._models:
            super()._load(device, threads, weights)
            self._models[tune] = self._model
        self._model = self._models[tune]
        check_model(self._model, self.header)


def _files(files: StrPath | Iterable[StrPath]) -> list[Path]:
    given = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    found: list[Path] = []
    for path in map(Path, given):
        found += sorted(path.rglob("*.bsq")) if path.is_dir() else [path]
    if not found:
        raise UsageError(
            f"{', '.join(map(str, given)) or 'files'}: there is no .bsq file; make some with bsqcodec encode"
        )
    return found


def _clips(path: Path, frames: int, stride: int, whole_groups: bool) -> list[Clip]:
    with open_stream(path) as file:
        entries = StreamReader(file, name=str(path)).index()
    if whole_groups:
        return [Clip(path, entry.first_frame, entry.frames) for entry in entries]
    total = entries[-1].first_frame + entries[-1].frames if entries else 0
    return [Clip(path, start, frames) for start in range(0, total - frames + 1, stride)]
