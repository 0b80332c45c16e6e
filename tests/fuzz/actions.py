"""Everything that users do with a file, on one that may be forged. Only errors of ours may come out."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from container_samples import Pipe

import bsqcodec
import bsqcodec.codec as room
from bsqcodec.codec import Model
from bsqcodec.container import Group, StreamReader, scan
from bsqcodec.errors import BsqError
from bsqcodec.frames import Frame, VideoInfo

MAX_PIXELS, MAX_FRAMES = 64 * 64, 64  # what a careful service would set, scaled to the seeds
_REMEMBERED = 64  # groups


class Codec:
    """The codec room with models that are loaded once, and with a memory for groups that were decoded before.

    A group decodes to the same frames each time (its tests see to that), so those that a mutation left alone need not
    be decoded again for each of 100,000 files.
    """

    def __init__(self, weights: list[Path]) -> None:
        self.models = [room.load_model(path, device="cpu", threads=1) for path in weights]
        self._decode = room.decode_group
        self._memory: OrderedDict[tuple[Any, ...], list[Frame]] = OrderedDict()
        self.decoded = 0  # groups that were really decoded

    def install(self) -> None:
        """Put it in place of the room's functions, in this process."""
        room.load_model = self._load  # type: ignore[assignment]
        room.decode_group = self._recall

    def _load(self, weights: Any = None, **_options: Any) -> Model:
        return self.models[int(weights)]

    def _recall(self, model: Model, group: Group, info: VideoInfo) -> Iterator[Frame]:
        key = (model.sha256, group, info)
        if key not in self._memory:
            self.decoded += 1
            self._memory[key] = list(self._decode(model, group, info))
            if len(self._memory) > _REMEMBERED:
                self._memory.popitem(last=False)
        self._memory.move_to_end(key)
        yield from self._memory[key]


def info(path: Path, _weights: str, rng: Random) -> int:
    """`bsqcodec info`."""
    summary = bsqcodec.inspect(path, check=rng.random() < 0.5)
    assert summary.lines() and summary.to_dict()
    return 3 if summary.damage else 0


def decode(path: Path, weights: str, rng: Random) -> int:
    """`bsqcodec decode` in one of its ways."""
    on_error = rng.choice(("fail", "skip", "conceal", "conceal"))
    out = path.with_suffix(rng.choice((".y4m", ".y4m", ".y4m", ".mkv", ".mkv", ".mp4")))
    codec = "rawvideo" if out.suffix == ".mkv" else None
    try:
        stats = bsqcodec.decode(
            path,
            out,
            codec=codec,
            on_error=on_error,
            fill=rng.choice(("freeze", "grey")),
            max_pixels=MAX_PIXELS,
            max_frames=MAX_FRAMES,
            threads=1,
            overwrite=True,
            weights=weights,
        )
    except BsqError:
        assert not out.exists(), "an error, and yet an output"
        raise
    out.unlink()
    assert stats.to_dict()
    assert stats.damage == () or on_error != "fail"
    return 3 if stats.damage else 0


def play(path: Path, weights: str, rng: Random) -> int:
    """`bsqcodec.open`: all frames, then some by seeking."""
    on_error = rng.choice(("fail", "skip", "conceal"))
    limit = rng.choice((MAX_FRAMES, None))
    with bsqcodec.open(path, on_error=on_error, max_pixels=MAX_PIXELS, max_frames=limit, weights=weights) as video:
        numbers = []
        for frame in islice(video, MAX_FRAMES):
            numbers.append(frame.index)
            assert frame.rgb.shape == (*frame.y.shape, 3)
        assert numbers == sorted(set(numbers)) and len(numbers) <= len(video)
        for _ in range(2 if len(video) else 0):
            video.seek(rng.randrange(len(video)))
            next(iter(video), None)
        return 3 if video.losses else 0


def pipe(path: Path, _weights: str, rng: Random) -> int:
    """The container read front to back where it cannot seek, as for `decode -`."""
    data = Pipe(path.read_bytes(), rng.choice((1, 7, 4096)))
    if rng.random() < 0.3:
        return 3 if scan(data, check=True, max_pixels=MAX_PIXELS).damage else 0  # type: ignore[arg-type]
    list(StreamReader(data, max_pixels=MAX_PIXELS, max_frames=MAX_FRAMES))  # type: ignore[arg-type]
    return 0


ACTIONS = (*(decode,) * 5, play, play, info, pipe)


def exercise(path: Path, weights: int, rng: Random) -> tuple[str, int]:
    """Do one thing with a file: (what, exit code it would end with). Raises whatever is not an error of ours.

    weights: number of the model in `Codec`.
    """
    action = rng.choice(ACTIONS)
    try:
        with redirect_stdout(io.StringIO()):
            code = action(path, str(weights), rng)
    except BsqError as error:
        assert str(error) and "\n" not in str(error), f"not one line: {error!r}"
        code = error.exit_code
    return action.__name__, code
