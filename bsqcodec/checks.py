"""What `encode` and `decode` refuse before they do anything: values out of range, contradictions, swapped names."""

from __future__ import annotations

import os
from pathlib import Path

from bsqcodec.container.chunks import SIGNATURE
from bsqcodec.decoder import open_stream
from bsqcodec.errors import UsageError
from bsqcodec.outputs import STDIO, StrPath, same_file
from bsqcodec.parallel.start import Spread
from bsqcodec.presets import PRESETS
from bsqcodec.rate.goals import Goal

CRF_RANGE = (0.0, 51.0)
KEYINT_RANGE = (1, 65535)  # frames
TUNES = ("psnr", "ms-ssim")
STREAM_SUFFIX, VIDEO_SUFFIXES = ".bsq", {".mp4", ".mkv", ".mov", ".y4m", ".avi", ".webm"}


def refuse_swapped_encode(src: StrPath, dst: StrPath) -> None:
    """Say what is wrong before "already exists" can make someone replace a video by adding -y."""
    if Path(dst).suffix.lower() in VIDEO_SUFFIXES and not same_file(src, Path(dst)):
        raise UsageError(
            f"{os.fspath(dst)}: encode writes a .bsq file; give the video first, then a name ending in .bsq"
        )
    if os.fspath(src) != STDIO and Path(src).is_file():
        with open_stream(src) as file:
            if file.read(len(SIGNATURE)) == SIGNATURE:
                raise UsageError(f"{os.fspath(src)}: is a .bsq file already; give the video to encode, or use decode")


def refuse_swapped_decode(dst: StrPath) -> None:
    if Path(dst).suffix.lower() == STREAM_SUFFIX:
        raise UsageError(
            f"{os.fspath(dst)}: decode writes a video; give the .bsq file first, "
            "then a name that ends in .mp4, .mov, .mkv or .y4m"
        )


def check_encode(crf: float, keyint: int, preset: str, tune: str, threads: int, skip: int, limit: int | None) -> None:
    if not CRF_RANGE[0] <= crf <= CRF_RANGE[1]:  # False for NaN too
        raise UsageError(f"crf {crf}: must lie in {CRF_RANGE[0]:g}..{CRF_RANGE[1]:g}")
    if not KEYINT_RANGE[0] <= keyint <= KEYINT_RANGE[1]:
        raise UsageError(f"keyint {keyint}: must lie in {KEYINT_RANGE[0]}..{KEYINT_RANGE[1]} frames")
    check_search(tune, preset)
    if skip < 0:
        raise UsageError(f"skip {skip}: must be 0 frames or more")
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit}: must be 1 frame or more")
    check_threads(threads)


def check_search(tune: str, preset: str) -> None:
    """Raise UsageError for a tune or a preset that there is not."""
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r}: must be one of {', '.join(PRESETS)}")
    if tune not in TUNES:
        raise UsageError(f"tune {tune!r}: must be one of {', '.join(TUNES)}")


def check_side_by_side(spread: Spread, goal: Goal | None) -> None:
    """Raise UsageError where groups cannot be coded side by side."""
    if not spread.alone and goal is not None and goal.kind != "ms-ssim":
        raise UsageError(
            f"{spread.name}: with a {goal.kind} as the goal each frame's quality hangs on those before it; "
            "leave that out, or use --crf"
        )


def check_profile(spread: Spread, profile: bool) -> None:
    """Raise UsageError where one process does not see all of the work."""
    if profile and not spread.alone:
        raise UsageError(f"{spread.name}: a profile is of one process; leave that or --profile out")


def check_threads(threads: int) -> None:
    if threads < 0:
        raise UsageError(f"threads {threads}: must be 0 (all) or more")
