"""From a clip's file to one that every codec can be fed with, and to frames.

The rules, the same for all codecs, because they are applied before any of them sees the clip:

- Other formats become 8-bit 4:2:0 as `bsqcodec.video` does it: swscale, bicubic chroma, accurate rounding; RGB, images
  included, becomes BT.709 limited range; other YUV keeps its matrix and its range.
- `scale` resizes the 8-bit planes with swscale's bicubic filter, whatever the aspect ratio.
- Odd sides lose their last row or column, for H.264, HEVC and AV1 code even sides in 4:2:0.
- Frame n is shown at n / fps seconds, whatever times the file has.
- Sound and subtitles are left out, so that no codec is charged for them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from av.video.reformatter import VideoReformatter

from bsqcodec.bench.clip import Clip
from bsqcodec.bench.probe import scan
from bsqcodec.bench.rawvideo import read_frames
from bsqcodec.errors import VideoError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.outputs import AtomicOutput
from bsqcodec.video import create_video, open_video
from bsqcodec.video.convert import QUALITY, plane_array, to_av_frame

try:
    import fcntl
except ImportError:  # Windows: two processes must not prepare in the same folder at once
    fcntl = None  # type: ignore[assignment]

RULES = 1  # part of the name of prepared files; counts up when this module makes other pictures

_log = logging.getLogger("bsqcodec")


def prepare(clip: Clip, work: Path, *, threads: int = 0) -> Path:
    """A video of the clip that FFmpeg reads: 8-bit 4:2:0, even sides, constant rate, nothing but pictures.

    The clip's own file where it is that already, which may then hold more than `clip.frames` frames. Otherwise a
    lossless FFV1 file in the folder `work`, made once (`NAME-KEY.mkv`, the key from the source's size and time and
    from what is done to it) and written under another name until it is whole. Memory does not grow with the clip.
    Several processes may prepare in the same folder; they wait for each other.

    threads: of FFmpeg, 0 = one per core.
    Raises VideoError when the source cannot be read or holds fewer than `clip.frames` frames, or when the disk is
    full; UsageError when an archive cannot be unpacked.
    """
    if _is_ready(clip):
        return clip.path
    work.mkdir(parents=True, exist_ok=True)
    made = work / f"{clip.name}-{_key(clip)}.mkv"
    with _alone_in(work):
        if not made.exists():
            _log.info("preparing %s: %dx%d, lossless, in %s", clip.name, clip.width, clip.height, work)
            _write(clip, made, threads)
    return made


def frames(path: Path, limit: int | None = None, *, threads: int = 1) -> Iterator[Frame]:
    """The first `limit` frames (None = all) of a prepared file, one at a time; pts counts them.

    threads: of the decoder, 0 = one per core. Raises VideoError when the file cannot be read.
    """
    with open_video(path, limit=limit, threads=threads) as video:
        pictures = (event for event in video if isinstance(event, Frame))
        for number, frame in enumerate(pictures):
            yield replace(frame, pts=number, duration=1)


def _is_ready(clip: Clip) -> bool:
    if clip.raw is not None or clip.scale is not None or clip.path.suffix.lower() == ".7z":
        return False
    found = scan(clip.path, clip.frames)
    info = found.info
    same = (info.width, info.height, info.fps) == (clip.width, clip.height, clip.fps)
    return same and info.source_format == "yuv420p" and not info.rotation and found.steady and found.alone


def _key(clip: Clip) -> str:
    """Short name of everything that the prepared file depends on."""
    stat = clip.path.stat()
    facts = (RULES, clip.path.name, stat.st_size, stat.st_mtime_ns, clip.raw, clip.scale, clip.frames, clip.fps)
    return hashlib.sha256(repr((*facts, clip.width, clip.height)).encode()).hexdigest()[:10]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process prepares in the folder. The lock ends with its process, however that ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(clip: Clip, made: Path, threads: int) -> None:
    """Write the frames of the clip as FFV1; the file gets its name when it is whole."""
    with (
        _unpacked(clip, made.parent) as path,
        _opened(clip, path, threads) as (info, source),
        AtomicOutput(made, overwrite=True) as output,
    ):
        _check_size(clip, info)
        kept = replace(info, width=clip.width, height=clip.height, fps=clip.fps, time_base=1 / clip.fps, rotation=0)
        done = 0
        with create_video(output.part, kept, codec="ffv1", threads=threads) as video:
            for frame in _resized(source, clip, threads):
                video.write(replace(frame, pts=done, duration=1))
                done += 1
        if clip.frames is not None and done < clip.frames:
            raise VideoError(f"{clip.path}: ends after frame {done} of {clip.frames}; copy or download it again")


def _unpacked(clip: Clip, work: Path) -> AbstractContextManager[Path]:
    if clip.path.suffix.lower() != ".7z":
        return nullcontext(clip.path)
    from bsqcodec.bench.archives import extracted

    return extracted(clip.path, work)


@contextmanager
def _opened(clip: Clip, path: Path, threads: int) -> Iterator[tuple[VideoInfo, Iterator[Frame]]]:
    """What is known of the source, and the frames of it that are measured."""
    if clip.raw is not None:
        yield VideoInfo(*clip.raw), read_frames(path, *clip.raw, clip.frames)
        return
    with open_video(path, limit=clip.frames, threads=threads) as video:
        yield video.info, (event for event in video if isinstance(event, Frame))


def _check_size(clip: Clip, info: VideoInfo) -> None:
    even = (info.width // 2 * 2, info.height // 2 * 2)
    if clip.scale is None and even != (clip.width, clip.height):
        raise VideoError(f"{clip.path}: is {info.width}x{info.height}, {clip.width}x{clip.height} expected")
    if clip.scale is None and even != (info.width, info.height):
        _log.info("%s: cropped from %dx%d to even sides", clip.name, info.width, info.height)


def _resized(source: Iterator[Frame], clip: Clip, threads: int) -> Iterator[Frame]:
    """The frames in the size of the clip: scaled, or cropped by the last row or column."""
    width, height = clip.width, clip.height
    scaler = VideoReformatter()
    for frame in source:
        if clip.scale is None:
            half = (slice(height // 2), slice(width // 2))
            yield replace(frame, y=frame.y[:height, :width], u=frame.u[half], v=frame.v[half])
            continue
        picture = to_av_frame(frame.y, frame.u, frame.v)
        picture = scaler.reformat(picture, width, height, "yuv420p", interpolation=int(QUALITY), threads=threads)
        y, u, v = (plane_array(p, p.height, p.width).copy() for p in picture.planes)
        yield replace(frame, y=y, u=u, v=v)
