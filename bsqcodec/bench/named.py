"""The clips of a named dataset in a folder: found by their names, checked against what is published.

A folder that holds a dataset's clips under their true names but in another size, such as a reduced copy, says so in a
file `dataset.json` in it: {"width": 480, "height": 270, "frames": 60}, each key optional. The sizes of the published
archives are not compared then.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from bsqcodec.bench.catalogue import SHIPPED, Dataset, Item
from bsqcodec.bench.clip import Clip
from bsqcodec.bench.probe import FRAME_MARK, MAX_Y4M_HEADER, scan
from bsqcodec.bench.rawvideo import frame_bytes, other_format, parse_name
from bsqcodec.errors import BsqError, UsageError, VideoError

OVERRIDE = "dataset.json"

_log = logging.getLogger("bsqcodec")


def named_clips(dataset: Dataset, data: Path | None) -> list[Clip]:
    """All clips of a dataset, whole. Raises as `find_clips`."""
    if dataset.name == "mini":
        if data is not None:
            raise UsageError(f"mini ships with bsqcodec; leave out --data {data}, or give that folder as the dataset")
        data = SHIPPED
    dataset = _resized(dataset, data)
    found = find_files(dataset, data)
    clips: list[Clip] = []
    bad: list[BsqError] = []
    for item, path in found.items():
        try:
            clips.append(_clip(item, path))
        except BsqError as error:
            bad.append(error)
    missing = [item for item in dataset.items if item not in found]
    if missing or bad:
        texts = [_missing_text(dataset, missing, data)] if missing else [dataset.name]
        usage = missing or any(isinstance(error, UsageError) for error in bad)
        raise (UsageError if usage else VideoError)("; ".join([*texts, *map(str, bad)]))
    return clips


def find_files(dataset: Dataset, data: Path | None) -> dict[Item, Path]:
    """The file of each clip that is there, unchecked: in the folder `data` or one folder deep.

    Raises UsageError when there is no such folder.
    """
    files = list(_files_below(data)) if data is not None else []
    found = {item: _best_file(item, dataset.suffixes, files) for item in dataset.items}
    return {item: path for item, path in found.items() if path is not None}


def visible_files(folder: Path) -> list[Path]:
    """The files of a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _files_below(data: Path) -> Iterator[Path]:
    if not data.is_dir():
        raise UsageError(f"{data}: there is no such folder; check --data")
    yield from visible_files(data)
    for folder in sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")):
        yield from visible_files(folder)


def _best_file(item: Item, suffixes: tuple[str, ...], files: Iterable[Path]) -> Path | None:
    """The file of a clip: by a published name, else by one that starts with the clip's; raw video before archives."""

    def rank(path: Path) -> tuple[int, int] | None:
        stem, suffix = path.stem.lower(), path.suffix.lower()
        if suffix not in suffixes:
            return None
        if stem in item.names:
            return item.names.index(stem), suffixes.index(suffix)
        return (len(item.names), suffixes.index(suffix)) if _is_variant(stem, item) else None

    ranked = [(score, path) for path in files if (score := rank(path)) is not None]
    return min(ranked)[1] if ranked else None


def _is_variant(stem: str, item: Item) -> bool:
    """True for other names of the clip, such as beauty_1080p, that do not speak of another size or format."""
    if not re.match(rf"{re.escape(item.name.lower())}[_.-]", stem) or other_format(stem):
        return False
    said, published = parse_name(stem), parse_name(item.stem)
    return said is None or published is None or (said.width, said.height) == (published.width, published.height)


def _missing_text(dataset: Dataset, missing: list[Item], data: Path | None) -> str:
    where = f"not in {data}" if data is not None else "not found, for no --data says where"
    files = ", ".join(item.stem + dataset.suffixes[0] for item in missing)
    kinds = " ".join(dataset.suffixes[1:])
    fetch = ", or fetch them with --download" if all(item.url for item in missing) else "; fetch them by hand"
    return (
        f"{dataset.name}: {len(missing)} of {len(dataset.items)} clips {where}: {files} (or the same as {kinds}); "
        f"published at {dataset.home}, licence: {dataset.licence}; give their folder with --data{fetch}"
    )


def _clip(item: Item, path: Path) -> Clip:
    size = (item.width, item.height)
    clip = Clip(item.name, path, *size, item.fps, item.frames)
    suffix = path.suffix.lower()
    if suffix == ".yuv":
        _expect_raw(str(path), path.stat().st_size, item)
        return replace(clip, raw=size)
    if suffix == ".7z":
        return replace(clip, raw=size if _expect_archive(path, item) == ".yuv" else None)
    found = scan(path)
    if (found.info.width, found.info.height, found.frames) != (*size, item.frames):
        raise VideoError(
            f"{path}: has {_frames(found.frames, found.info.width, found.info.height)}, "
            f"{_frames(item.frames, *size)} expected; make or download it again (--scale and --frames reduce)"
        )
    return clip.coloured(found)


def _expect_archive(path: Path, item: Item) -> str:
    """Compare an archive and the size of the video in it; returns the suffix of that video."""
    from bsqcodec.bench.archives import find_member

    size = path.stat().st_size
    if item.bytes is not None and path.name.lower() == item.published.lower() and size != item.bytes:
        raise VideoError(f"{path}: has {size} bytes, {item.bytes} published; download it again")
    member = find_member(path)
    name = f"{path} ({member.name})"
    if member.suffix == ".yuv":
        _expect_raw(name, member.bytes, item)
    else:
        payload = item.frames * (len(FRAME_MARK) + frame_bytes(item.width, item.height))
        if not 0 < member.bytes - payload <= MAX_Y4M_HEADER:
            wanted = _frames(item.frames, item.width, item.height)
            raise VideoError(f"{name}: has {member.bytes} bytes, {payload} and a header expected ({wanted})")
    return member.suffix


def _expect_raw(name: str, found: int, item: Item) -> None:
    one = frame_bytes(item.width, item.height)
    expected = one * item.frames
    if found == expected:
        return
    what = "is cut short, " if found < expected else ""
    raise VideoError(
        f"{name}: {what}has {found} bytes, {expected} expected ({_frames(item.frames, item.width, item.height)} "
        "in 8-bit 4:2:0); download or extract it again"
    )


def _frames(count: int, width: int, height: int) -> str:
    return f"{count} {'frame' if count == 1 else 'frames'} of {width}x{height}"


def _resized(dataset: Dataset, data: Path | None) -> Dataset:
    """The dataset as the `dataset.json` in its folder changes it, if there is one."""
    path = None if data is None else data / OVERRIDE
    if path is None or not path.is_file():
        return dataset
    try:
        changes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        changes = None
    known = {"width", "height", "frames"}
    if (
        not isinstance(changes, dict)
        or not changes.keys() <= known
        or not all(type(value) is int and value > 0 for value in changes.values())
    ):
        raise UsageError(
            f'{path}: must hold whole numbers named "width", "height", "frames" only; correct or remove it'
        )
    _log.warning("%s: the clips of %s are taken as %s", path, dataset.name, changes)
    return replace(dataset, items=tuple(replace(item, bytes=None, **changes) for item in dataset.items))
