"""The data folder: which clips train and which validate, and random excerpts of them.

Layout: `train/`, `train-short/` and `photos/` where there are any of them, else everything below the folder.
Legend: H W luma rows and columns; planes are uint8 tensors, chroma half the size rounded up.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from bsqcodec.errors import UsageError, VideoError
from bsqcodec.tokenizer.transform import Planes
from bsqcodec.training import augmentation

SHARES = {"train": 0.75, "train-short": 0.15, "photos": 0.10}  # folder and its share of the excerpts
SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".y4m", ".jpg", ".jpeg", ".png", ".webp"}
HELD_OUT = frozenset({"bee", "butterfly", "flower"})  # scenes in neither split: the project ships and shows these
EVERY = 12  # one scene in so many validates
STARTS = (0, 0, 4, 8, 12, 16)  # first frames of excerpts

_log = logging.getLogger("bsqcodec")


@dataclass(frozen=True)
class Source:
    """Clips that are drawn with one share of the excerpts."""

    share: float
    clips: list[Path]


def find_sources(data: Path, validation: bool) -> list[Source]:
    """The clips of a split. Raises UsageError where there are none."""
    folders = [(data / name, share) for name, share in SHARES.items() if (data / name).is_dir()] or [(data, 1.0)]
    sources = [Source(share, split_clips(folder, validation)) for folder, share in folders]
    sources = [source for source in sources if source.clips]
    if not sources:
        raise UsageError(f"{data}: no videos or photographs in it; give a folder that has some (--data)")
    return sources


def scene(path: Path) -> str:
    """The scene a clip shows: its name without the number of the excerpt."""
    return re.sub("-[01]$", "", path.stem)


def split_clips(folder: Path, validation: bool) -> list[Path]:
    """Clips of the training or the validation split: by scene, every twelfth for validation.

    With fewer than six scenes the last one validates; a single one does both.
    """
    clips = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    scenes = sorted({scene(p) for p in clips})
    held = set(scenes[5::EVERY] or scenes[-1:])  # counted with the held-out scenes, so that these move no other
    both = len(scenes) == 1
    return [p for p in clips if scene(p) not in HELD_OUT and (both or (scene(p) in held) == validation)]


def read_clip(path: Path, start: int, count: int) -> list[Planes]:
    """Frames start .. start + count of a clip in 8-bit 4:2:0. Raises VideoError where nothing can be decoded at all."""
    frames: list[Planes] = []
    seen = 0
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            for seen, frame in enumerate(container.decode(video=0), 1):
                if seen > start + count:
                    break
                if seen > start:
                    frames.append(_planes(frame))
    except (av.FFmpegError, IndexError, OSError) as error:
        if not seen:
            raise VideoError(f"{path}: cannot be read ({error or 'no video in it'}); not a video or damaged") from error
    return frames


def _planes(frame: av.VideoFrame) -> Planes:
    frame = frame.reformat(format="yuv420p")
    height, width = frame.height, frame.width
    half = -(-height // 2), -(-width // 2)
    parts = []
    for plane, (rows, columns) in zip(frame.planes, ((height, width), half, half), strict=True):
        flat = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
        parts.append(torch.from_numpy(flat.copy()))
    return parts[0], parts[1], parts[2]


def augment(frames: list[Planes], rng: random.Random) -> list[Planes]:
    """Flips in space and time, the same for all frames."""
    if rng.random() < 0.5:
        frames = frames[::-1]
    for axis in (0, 1):
        if rng.random() < 0.5:
            frames = [tuple(p.flip(axis).contiguous() for p in planes) for planes in frames]  # type: ignore[misc]
    return frames


def crop(frames: list[Planes], side: int, rng: random.Random) -> list[Planes]:
    """Crop all frames to at most `side` luma samples a side, at the same random even place."""
    rows, columns = frames[0][0].shape
    height, width = min(rows, side), min(columns, side)
    top, left = (rng.randrange((n - m) // 2 + 1) * 2 for n, m in ((rows, height), (columns, width)))
    half = (slice(top // 2, (top + height + 1) // 2), slice(left // 2, (left + width + 1) // 2))
    return [(y[top : top + height, left : left + width], u[half], v[half]) for y, u, v in frames]


class Excerpts:
    """Endless random excerpts of a split; clips that cannot be read are left out with a note.

    augmented: whether some are changed as `bsqcodec.training.augmentation` has it.
    """

    def __init__(self, sources: list[Source], rng: random.Random, augmented: bool = False):
        self.sources, self.rng, self.augmented = [Source(s.share, list(s.clips)) for s in sources], rng, augmented

    def draw(self, lengths: tuple[int, ...]) -> list[Planes]:
        """As many frames as one of `lengths` says or fewer, flipped at random. Raises VideoError without any clip."""
        while True:
            if not self.sources:
                raise VideoError("none of the training clips can be read; check the folder given by --data")
            source = self.rng.choices(self.sources, [s.share for s in self.sources])[0]
            path = self.rng.choice(source.clips)
            start, count = self.rng.choice(STARTS), self.rng.choice(lengths)
            read = self._augmented if self.augmented else self._read
            frames = read(source, path, start, count)
            if frames:
                return augment(frames, self.rng)

    def _augmented(self, source: Source, path: Path, start: int, count: int) -> list[Planes]:
        fast = self.rng.random() < augmentation.FAST
        frames = self._read(source, path, start, 2 * count if fast else count)
        if not frames:
            return []
        if (
            len(frames) == 1
            and min(frames[0][0].shape) >= augmentation.LEAST
            and self.rng.random() < augmentation.FILMED
        ):
            frames = augmentation.camera_motion(frames[0], count, self.rng)
        elif fast:
            frames = frames[::2]
        return augmentation.jitter_colour(frames, self.rng) if self.rng.random() < augmentation.COLOURED else frames

    def _read(self, source: Source, path: Path, start: int, count: int) -> list[Planes]:
        try:
            frames = read_clip(path, start, count) or read_clip(path, 0, count)
            reason = "" if frames else f"{path}: holds no picture"
        except VideoError as error:
            frames, reason = [], str(error)
        if reason:
            _log.warning("%s; left out", reason)
            source.clips.remove(path)
            self.sources = [s for s in self.sources if s.clips]
        return frames


def steady_excerpts(
    sources: list[Source], count: int, frames: int, side: int, least: int = 1
) -> Iterator[list[Planes]]:
    """The first `frames` frames of clips of up to `count` scenes, cropped to even sides of at most `side`.

    Always the same for the same folder. Clips that are shorter, have a side below `least` or cannot be read are passed
    over. Raises UsageError where no clip is left.
    """
    scenes = {scene(path): path for s in sources for path in s.clips}
    found = 0
    for path in random.Random(0).sample(list(scenes.values()), len(scenes)):
        excerpt = _whole(path, frames)
        if not excerpt or min(excerpt[0][0].shape) < least:
            continue
        found += 1
        h, w = (n // 2 * 2 for n in excerpt[0][0].shape)
        even = [(y[:h, :w], u[: h // 2, : w // 2], v[: h // 2, : w // 2]) for y, u, v in excerpt]
        yield crop(even, side // 2 * 2, random.Random(0))
        if found == count:
            return
    if not found:
        raise UsageError(f"no clip of {frames} frames{_of(least)} to measure on; give others or ask for fewer frames")


def _of(least: int) -> str:
    return f" and {least} px a side" if least > 1 else ""


def _whole(path: Path, frames: int) -> list[Planes]:
    """Exactly the first `frames` frames of a clip, or nothing."""
    try:
        excerpt = read_clip(path, 0, frames)
    except VideoError as error:
        _log.warning("%s; left out", error)
        return []
    return excerpt if len(excerpt) == frames else []
