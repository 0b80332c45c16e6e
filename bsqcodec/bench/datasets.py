"""Which clips a benchmark runs on: a dataset by its name, or a folder of videos and images; found and checked.

Everything that can be wrong with the files is found here, before hours are spent, and said in one message.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from bsqcodec.bench.catalogue import DATASETS, IMAGE_SUFFIXES, VIDEO_SUFFIXES, Dataset, Item
from bsqcodec.bench.clip import Clip
from bsqcodec.bench.named import named_clips, visible_files
from bsqcodec.bench.probe import scan
from bsqcodec.bench.rawvideo import frame_bytes, other_format, parse_name
from bsqcodec.errors import BsqError, UsageError, VideoError

__all__ = ["DATASETS", "Clip", "Dataset", "Item", "find_clips"]

RATE_UNSAID = Fraction(30)  # frames per second of a raw file whose name does not say
SIDES = (16, 16384)  # luma samples; what bsqcodec.video reads
_MORE = {".m4v", ".ts", ".m2ts", ".mpg", ".mpeg", ".mxf", ".ogv", ".264", ".h264", ".265", ".hevc", ".ivf"}
FOLDER_SUFFIXES = {*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, *_MORE, ".jpg", ".jpeg", ".pgm"} - {".7z"}

_log = logging.getLogger("bsqcodec")


def find_clips(
    dataset: str, data: Path | None, *, frames: int | None = None, scale: tuple[int, int] | None = None
) -> list[Clip]:
    """The clips of a dataset, checked.

    dataset: a name of `DATASETS`, or else the path of a folder (or of one file) of videos and images.
    data: folder of a named dataset's files, which lie in it directly or one folder deep; "mini" needs none. A file
        `dataset.json` in it may change their expected size and number of frames, see `bsqcodec.bench.named`.
    frames: measure so many at most. scale: resize to (width, height), even; see `sources.prepare`.

    Raises UsageError for arguments out of range and for missing files, VideoError for files that are damaged, cut
    short or of another size than published; one line that names all of them.
    """
    if frames is not None and frames < 1:
        raise UsageError(f"frames {frames}: must be 1 or more")
    if scale is not None and not all(SIDES[0] <= side <= SIDES[1] and side % 2 == 0 for side in scale):
        raise UsageError(f"scale {scale[0]}x{scale[1]}: both sides must be even and lie in {SIDES[0]}..{SIDES[1]}")
    named = DATASETS.get(dataset)
    clips = named_clips(named, data) if named is not None else _folder_clips(Path(dataset), data, frames)
    return [_as_measured(clip, frames, scale) for clip in clips]


def _as_measured(clip: Clip, frames: int | None, scale: tuple[int, int] | None) -> Clip:
    count = clip.frames if frames is None or clip.frames is None else min(frames, clip.frames)
    if scale is not None and scale != (clip.width, clip.height):
        return replace(clip, frames=count, scale=scale, width=scale[0], height=scale[1])
    return replace(clip, frames=count, width=clip.width // 2 * 2, height=clip.height // 2 * 2)


def _folder_clips(folder: Path, data: Path | None, frames: int | None) -> list[Clip]:
    if not folder.exists():
        known = ", ".join(DATASETS)
        raise UsageError(f"{folder}: neither a dataset nor a folder; give one of {known}, or a folder of videos")
    if data is not None:
        raise UsageError(f"--data {data} goes with a named dataset; {folder} is a folder itself, leave one of them out")
    files = [folder] if folder.is_file() else visible_files(folder)
    files = [path for path in files if path.suffix.lower() in FOLDER_SUFFIXES]
    if not files:
        raise UsageError(f"{folder}: holds no video or image; give a folder that does, or one of {', '.join(DATASETS)}")
    clips, bad = [], []
    for path, name in zip(files, _names(files), strict=True):
        try:
            clips.append(_file_clip(path, name, frames))
        except BsqError as error:
            bad.append(str(error))
    if bad:
        raise VideoError("; ".join(bad))
    return clips


def _file_clip(path: Path, name: str, limit: int | None) -> Clip:
    if path.suffix.lower() == ".yuv":
        return _raw_clip(path, name)
    found = scan(path, limit)
    return Clip(name, path, found.info.width, found.info.height, found.info.fps, found.frames).coloured(found)


def _raw_clip(path: Path, name: str) -> Clip:
    said, other = parse_name(path.stem), other_format(path.stem)
    if said is None:
        raise VideoError(f"{path}: the name does not say the size; rename it to NAME_WIDTHxHEIGHT_FPS.yuv")
    if other is not None:
        raise VideoError(f"{path}: '{other}' in the name; raw video is read as 8-bit 4:2:0 only, convert it")
    if not all(SIDES[0] <= side <= SIDES[1] for side in (said.width, said.height)):
        raise VideoError(f"{path}: {said.width}x{said.height} is not supported; sides must be {SIDES[0]} to {SIDES[1]}")
    size, one = path.stat().st_size, frame_bytes(said.width, said.height)
    if size % one or not size:
        raise VideoError(
            f"{path}: has {size} bytes, no whole number of frames of {said.width}x{said.height} ({one} bytes each in "
            "8-bit 4:2:0); it is cut short or its name is wrong"
        )
    if said.fps is None:
        _log.warning("%s: the name does not say the frame rate, %s frames/s assumed", path, RATE_UNSAID)
    return Clip(
        name, path, said.width, said.height, said.fps or RATE_UNSAID, size // one, raw=(said.width, said.height)
    )


def _names(files: list[Path]) -> list[str]:
    """Names of clips: the stem, with the suffix where stems clash, with a number where that clashes too."""
    stems = [_safe(path.stem) for path in files]
    count = Counter(stem.casefold() for stem in stems)
    names: list[str] = []
    taken: set[str] = set()
    for path, stem in zip(files, stems, strict=True):
        base = stem if count[stem.casefold()] == 1 else _safe(path.name.replace(".", "-"))
        name, number = base, 2
        while name.casefold() in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "clip"
