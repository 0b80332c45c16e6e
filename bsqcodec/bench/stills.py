"""For the report: one frame of each clip, original, bsqcodec and another codec at the same bitrate.

Frames are kept as `pictures/<clip>.npz`, so that a run that goes on does not make them again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bsqcodec.bench.clip import Clip
from bsqcodec.bench.codecs import Codec
from bsqcodec.bench.pictures import Coded, Picture, make_picture
from bsqcodec.bench.plan import PICTURES, WORK, Task
from bsqcodec.bench.sources import frames, prepare
from bsqcodec.bench.tosize import encode_to_size
from bsqcodec.errors import BsqError
from bsqcodec.frames import Frame

FRAMES_BACK = 0.6  # of the clip: a frame far from the first, where errors of prediction have built up


@dataclass(frozen=True)
class Still:
    """One frame to take out of a clip coded by `ours` (a task) and by `other` at the same size."""

    ours: Task
    other: Codec

    @property
    def clip(self) -> Clip:
        return self.ours.clip

    @property
    def index(self) -> int:
        """Number of the frame."""
        return int(FRAMES_BACK * ((self.clip.frames or 1) - 1))

    def path(self, out: Path) -> Path:
        return out / PICTURES / f"{self.clip.name}.npz"

    def identity(self) -> str:
        return f"{self.ours.identity()} {self.other.name}:{self.other.setting} {self.other.identity()} {self.index}"

    def finished(self, out: Path) -> bool:
        """Whether the frames are there, and made from the same things."""
        return _load(self.path(out), self.identity()) is not None

    def make(self, out: Path) -> None:
        """Encode with both, and keep the frames. Raises what the codecs raise."""
        work = out / WORK
        source = prepare(self.clip, work)
        settings = self.ours.settings
        with tempfile.TemporaryDirectory(dir=work, prefix="point-") as folder:
            stream, rival = (Path(folder, name + c.suffix) for name, c in (("a", self.ours.codec), ("b", self.other)))
            limit, keyint, threads = self.clip.frames, settings.keyint, settings.threads
            self.ours.codec.encode(source, stream, self.ours.quality, keyint=keyint, threads=threads, limit=limit)
            size = stream.stat().st_size
            _, quality = encode_to_size(self.other, source, rival, size, keyint=keyint, threads=threads, limit=limit)
            shown = {
                "original": _nth(frames(source, limit), self.index),
                "ours": _nth(self.ours.codec.decode(stream), self.index),
                "other": _nth(self.other.decode(rival), self.index),
            }
            facts = {"identity": self.identity(), "quality": quality, "bytes": [size, rival.stat().st_size]}
        _save(self.path(out), shown, facts)

    def picture(self, out: Path) -> Picture | None:
        """What the report shows, None when there are no frames."""
        data = _load(self.path(out), self.identity())
        if data is None:
            return None
        clip, task = self.clip, self.ours
        samples = clip.width * clip.height * (clip.frames or 1)
        ours, other = (int(n) for n in data["bytes"])
        return make_picture(
            clip.name,
            self.index,
            *(_frame(data, name) for name in ("original", "ours", "other")),
            ours_is=Coded(f"{task.spec}, crf {task.quality:g}", ours, 8 * ours / samples),
            other_is=Coded(
                f"{self.other.name}:{self.other.setting}, crf {float(data['quality']):.4g}", other, 8 * other / samples
            ),
            matrix=clip.matrix,
            full_range=clip.full_range,
        )


def _nth(pictures: Iterator[Frame], index: int) -> Frame:
    with closing(pictures) as all_frames:  # type: ignore[type-var]
        for frame in islice(all_frames, index, None):
            return frame
    raise BsqError(f"frame {index} is missing from a decoded clip; measure the clip again")


def _save(path: Path, shown: dict[str, Frame], facts: dict[str, Any]) -> None:
    planes = {f"{name}_{p}": getattr(frame, p) for name, frame in shown.items() for p in "yuv"}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **planes, **{key: np.array(v) for key, v in facts.items()})
    part.replace(path)


def _load(path: Path, identity: str) -> dict[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError):
        return None
    return data if str(data.get("identity")) == identity else None


def _frame(data: dict[str, np.ndarray], name: str) -> Frame:
    y, u, v = (data[f"{name}_{plane}"] for plane in "yuv")
    return Frame(y, u, v, pts=0)
