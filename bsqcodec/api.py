"""`bsqcodec.encode` and `bsqcodec.decode`: a video file in, a .bsq file out, and back.

Data flows one way, video -> codec -> container, and memory does not grow with the video. Rooms
that need torch are imported only after everything that can fail cheaply has been checked.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from bsqcodec import __version__
from bsqcodec.arguments import checked
from bsqcodec.checks import (
    check_encode,
    check_profile,
    check_side_by_side,
    check_threads,
    refuse_swapped_decode,
    refuse_swapped_encode,
)
from bsqcodec.container import MAX_PIXELS
from bsqcodec.decoder import open_stream
from bsqcodec.errors import BitstreamError, UsageError
from bsqcodec.frames import TrackPacket, VideoInfo
from bsqcodec.outputs import STDIO, AtomicOutput, StrPath, output_file
from bsqcodec.parallel.start import Spread
from bsqcodec.parts import Part, Time
from bsqcodec.presets import PRESETS, Search
from bsqcodec.previews import FrameSource, Preview, open_source
from bsqcodec.profile import Stopwatch
from bsqcodec.progress import ProgressCallback, ProgressMeter
from bsqcodec.rate.goals import Amount, Goal, achieved, goal_of, needs_decoding
from bsqcodec.results import DecodeStats, EncodeStats

if TYPE_CHECKING:
    from bsqcodec.codec import Model
    from bsqcodec.container import StreamHeader
    from bsqcodec.partreader import GroupPart
    from bsqcodec.rate.survey import Opener
    from bsqcodec.recovery import Recovery
    from bsqcodec.runs import FrameEncoder, Source

_log = logging.getLogger("bsqcodec")

DEFAULT_CRF = 28.0

Stats = TypeVar("Stats", EncodeStats, DecodeStats)


@checked
def encode(
    src: StrPath,
    dst: StrPath,
    *,
    crf: float | None = None,
    bitrate: Amount | None = None,
    size: Amount | None = None,
    target: str | None = None,
    keyint: int = 32,
    preset: str = "medium",
    tune: str = "psnr",
    device: str = "auto",
    threads: int = 0,
    jobs: int = 1,
    cluster: str | None = None,
    skip: int = 0,
    limit: int | None = None,
    format: str | None = None,
    video_size: str | None = None,
    framerate: str | float | None = None,
    pix_fmt: str | None = None,
    overwrite: bool = False,
    verify: bool = False,
    weights: StrPath | None = None,
    profile: bool = False,
    on_progress: ProgressCallback | None = None,
) -> EncodeStats:
    """Encode a video into a .bsq file.

    The file is written as `<dst>.part` and gets its name when it is whole; any error, Ctrl-C
    included, leaves nothing behind.

    Args:
        src: any video FFmpeg reads; "-" = standard input, YUV4MPEG2 unless `format` says otherwise.
        dst: the .bsq file; "-" = standard output.
        crf: quality 0..51, fractions allowed, lower is better; None = 28 where no other goal is given.
        bitrate: instead, bit/s of the whole file, sound included: 500_000 or "500k". A first pass codes samples;
            what comes through a pipe is copied to a temporary file for that.
        size: instead, bytes of the whole file: 2_000_000 or "2M".
        target: instead, a quality: "psnr=38" ((6Y+U+V)/8 in dB) or "ms-ssim=0.98" (luma).
        keyint: frames in a group, 1..65535.
        preset: "fast", "medium" or "slow": how much the encoder searches for a smaller file of the same quality.
        tune: "psnr" or "ms-ssim".
        device: "auto", "cpu" or "cuda:N"; or several GPUs, "cuda:0,cuda:1", whose processes share the groups as with
            `jobs`, one process each or `jobs` of them in turn.
        threads: CPU threads, 0 = all; with `jobs`, of each process, 0 = all shared out.
        jobs: processes that code groups side by side; the file is the same. Not with `bitrate`, `size` or a PSNR, where
            each frame's quality hangs on the bits before it. A script that asks for more than one needs the usual
            `if __name__ == "__main__":`, since processes are started afresh.
        cluster: instead of `jobs`, the address of a Ray cluster, or "auto" = the one this machine is part of, else one
            on this machine (needs `pip install bsqcodec[ray]`).
        skip: frames of the source to leave out at its beginning.
        limit: frames to encode at most, None = all.
        format: FFmpeg's name of what `src` is, None = found out; "raw" needs `video_size` ("640x360"), and takes
            `framerate` (25 without it) and `pix_fmt` (FFmpeg's name, yuv420p without it).
        overwrite: replace `dst` if it exists.
        verify: decode the finished file and compare every frame before it gets its name.
        weights: model weights (.safetensors), None = those that ship with the package.
        profile: measure where the time goes; the result has it as `profile`. Not with `jobs` or `cluster`.
        on_progress: called with a `Progress` after every frame.

    Raises:
        UsageError: an argument is outside of its range, output and input are the same file, or a goal cannot be
            reached.
        VideoError: the source cannot be read, or the output cannot be written.
        DeviceError: the device does not exist here.
        WorkerError: a process of `jobs` died, or there is no Ray or no such cluster.
        BsqError: `verify` found a difference.
    """
    goal = goal_of(bitrate, size, target, crf)
    spread = Spread(weights, device, threads, jobs, cluster)
    check_side_by_side(spread, goal)
    check_profile(spread, profile)
    crf = DEFAULT_CRF if crf is None else crf
    check_encode(crf, keyint, preset, tune, threads, skip, limit)
    refuse_swapped_encode(src, dst)
    from bsqcodec.spool import rereadable
    from bsqcodec.video import input_format, open_video
    from bsqcodec.video.formats import InputFormat

    form = input_format(format, video_size, framerate, pix_fmt)
    if form is None and os.fspath(src) == STDIO:
        form = InputFormat("yuv4mpegpipe")
    with (
        Stopwatch(profile) as watch,
        AtomicOutput(dst, src=src, overwrite=overwrite, readable=verify or needs_decoding(goal)) as output,
        rereadable(src, goal is not None) as path,
        (opened := partial(open_video, path, skip=skip, limit=limit, threads=threads, form=form))() as video,
    ):
        from bsqcodec.runs import EncodeRun

        info = video.info
        _warn_dropped(video.dropped)
        _log.debug("source: %dx%d, %.3f fps, %s", info.width, info.height, float(info.fps), info.source_format)
        model = spread.model(tune)
        _note_model(model)
        watch.start(model)
        header, plan = _header(model, info, crf, keyint), None
        if goal is not None:
            from bsqcodec.rate.plan import first_pass

            plan = first_pass(goal, opened, model, header, on_progress, PRESETS[preset])
            header = replace(header, crf=plan.crf)
        meter = ProgressMeter(on_progress, rate=info.fps, total=video.frame_count_hint)
        with output_file(output) as file, _coding(video, model, header, spread, PRESETS[preset]) as coding:
            run = EncodeRun(file, header, *coding, meter, plan.control if plan else None)
            run.run(keep_crcs=verify)
        if run.crcs is not None:
            from bsqcodec.verify import verify_stream

            verify_stream(output, model, run.crcs)
        seconds = meter.seconds + (plan.seconds if plan else 0.0)
        watch.stop()
        stats = replace(run.tally.stats(size=run.size, seconds=seconds), crf=header.crf)
        if goal is not None:
            stats = _with_goal(stats, goal, output, opened, model)
    return _with_profile(stats, watch, model)


@contextmanager
def _coding(
    video: Source, model: Model, header: StreamHeader, spread: Spread, search: Search
) -> Iterator[tuple[Source, FrameEncoder]]:
    """What is read and what encodes it: the video and an encoder here, or both in one with workers."""
    from bsqcodec.codec import GroupEncoder

    if spread.alone:
        yield video, GroupEncoder(model, video.info, crf=header.crf, keyint=header.keyint, search=search)
        return
    from bsqcodec.parallel.encoding import ParallelEncoder
    from bsqcodec.rate.plan import is_causal

    with spread.started(model) as workers:
        cuts = not is_causal(model)
        ahead = ParallelEncoder(video, workers, crf=header.crf, keyint=header.keyint, cuts=cuts, search=search)
        yield ahead, ahead


def _with_profile(stats: Stats, watch: Stopwatch, model: Model) -> Stats:
    """The statistics with what a watch found, if it was wanted."""
    if not watch.wanted:
        return stats
    from bsqcodec.codec.floor import profile_of

    return replace(stats, profile=profile_of(watch, model, stats.frames))


def _with_goal(stats: EncodeStats, goal: Goal, output: AtomicOutput, opened: Opener, model: Model) -> EncodeStats:
    """The statistics with what was asked and what became of it."""
    if goal.kind == "ms-ssim":
        from bsqcodec.rate.measure import measure_ms_ssim

        stats = replace(stats, ms_ssim=measure_ms_ssim(output.part, opened, model))
    reached = achieved(goal, size=stats.bytes, kbps=stats.kbps, psnr=stats.psnr, ms_ssim=stats.ms_ssim)
    return replace(stats, goal=goal.kind, asked=goal.value, achieved=reached)


@checked
def decode(
    src: StrPath,
    dst: StrPath,
    *,
    codec: str | None = None,
    on_error: str = "fail",
    fill: str = "freeze",
    max_pixels: int = MAX_PIXELS,
    max_frames: int | None = None,
    device: str = "auto",
    threads: int = 0,
    jobs: int = 1,
    overwrite: bool = False,
    weights: StrPath | None = None,
    start: Time | None = None,
    duration: Time | None = None,
    skip: int = 0,
    limit: int | None = None,
    keyframes: bool = False,
    scale: str = "1",
    profile: bool = False,
    on_progress: ProgressCallback | None = None,
) -> DecodeStats:
    """Decode a .bsq file, or a part of it, into a video.

    The output is written as `<dst>.part` and gets its name when it is whole; any error, a damaged
    or truncated stream included, leaves nothing behind, unless `on_error` says otherwise.

    Args:
        src: the .bsq file; "-" = standard input.
        dst: .mp4, .mkv or .mov, .y4m, or "-" = YUV4MPEG2 on standard output.
        codec: codec of the output, None = visually lossless H.264 (.mp4, .mkv, .mov).
        on_error: "fail" at damage; "skip" the frames it cost, keeping the times of the others and the
            audio; "conceal" them with stand-ins at their times. What was lost is in the result.
        fill: the stand-in of a lost frame: "freeze" the last picture (grey before the first), or "grey".
        max_pixels: limit of width * height; max_frames: limit of the frames in the file, None = none.
        device: "auto", "cpu", "cuda:N", or several GPUs, as for `encode`.
        threads: CPU threads, 0 = all; with `jobs`, of each process, 0 = all shared out.
        jobs: processes that decode groups side by side, as for `encode`; not for a `scale` below 1.
        overwrite: replace `dst` if it exists.
        weights: model weights (.safetensors), None = those that ship with the package.
        start, duration: seconds (12.5 or "1:02.5") from the first frame on; frames that begin there.
        skip, limit: the same by number: frames to leave out at the beginning, frames to decode at most.
        keyframes: only the first frame of each group, without sound; `limit` then counts those.
        scale: with `keyframes`, "1", "1/2", "1/4" or "1/8" of the size; smaller is faster.
        profile: measure where the time goes; the result has it as `profile`. Not with `jobs`.
        on_progress: called with a `Progress` after every frame.

    Of a part, only the groups it touches are read and decoded, where `src` can seek. A part that does
    not begin with the video is moved to begin at 0.

    Raises:
        BitstreamError: the stream is damaged, with `on_error` in its header or beyond use;
            TruncatedError: it is cut short; LimitError: it is larger than the limits.
        UnsupportedVersionError, WeightsMismatchError: it needs a newer decoder or other weights.
        UsageError, VideoError, DeviceError, WorkerError: as for `encode`.
    """
    check_threads(threads)
    refuse_swapped_decode(dst)
    spread = Spread(weights, device, threads, jobs)
    check_profile(spread, profile)
    from bsqcodec.recovery import Recovery, Tolerance, all_losses, hinting, seekable
    from bsqcodec.runs import decode_all
    from bsqcodec.video import create_video

    part, preview = Part.of(start, duration, skip, limit), Preview.of(keyframes, scale)
    if not spread.alone and preview.level:
        raise UsageError(f"{spread.name}: a smaller scale is decoded by one process; leave out that or --scale")
    tolerance = Tolerance(on_error, fill, max_pixels, max_frames)
    name = "standard input" if os.fspath(src) == STDIO else os.fspath(src)
    with (
        Stopwatch(profile) as watch,
        AtomicOutput(dst, src=src, overwrite=overwrite) as output,
        _source_file(src) as found,
        seekable(found, tolerance.salvages) as file,
    ):
        reader = tolerance.reader(file, name)
        with hinting(tolerance):
            source = open_source(reader, file, part, preview, conceals=on_error == "conceal")
        target = STDIO if output.is_stdout else output.part
        with create_video(target, source.info, source.tracks, codec=codec, threads=threads) as video:
            _warn_dropped(video.dropped)
            model = _model_for(reader.header, spread)
            recovery = Recovery(model, reader.header.info, tolerance, name)
            pictures = preview.decoder(model, reader.header.info, recovery.frames)
            meter = ProgressMeter(on_progress, rate=source.info.fps, total=source.frames_hint)
            watch.start(model)
            with hinting(tolerance), _decoding(source, recovery, model, spread) as items:
                frames, groups = decode_all(items, video, pictures, meter)
            if not frames:
                raise BitstreamError(f"{name}: not one frame can be decoded; the file is damaged, or holds no video")
    seconds, losses = meter.seconds, all_losses(reader, recovery)
    first, begin = source.begin
    stats = DecodeStats(
        frames,
        groups,
        seconds,
        frames / seconds if seconds > 0 else 0.0,
        tuple(video.dropped),
        lost_frames=recovery.lost,
        concealed_frames=recovery.concealed,
        damage=losses,
        first_frame=first,
        start=begin,
    )
    return _with_profile(stats, watch, model)


@contextmanager
def _decoding(
    source: FrameSource, recovery: Recovery, model: Model, spread: Spread
) -> Iterator[Iterable[GroupPart | list[TrackPacket]]]:
    """What is decoded; with workers it is read ahead, and `recovery` takes the frames from them."""
    if spread.alone:
        yield source
        return
    from bsqcodec.parallel.decoding import ParallelDecoder

    with spread.started(model) as workers:
        decoder = ParallelDecoder(workers, recovery.info, recovery.check_size)
        recovery.decode = decoder.frames
        yield decoder.ahead(source)


def _header(model: Model, info: VideoInfo, crf: float, keyint: int) -> StreamHeader:
    from bsqcodec.container import StreamHeader

    return StreamHeader(
        info=info,
        keyint=keyint,
        tune=model.tune,
        crf=crf,
        weights_sha256=model.sha256,
        model=model.name,
        tool=f"bsqcodec {__version__}",
    )


def _model_for(header: StreamHeader, spread: Spread) -> Model:
    from bsqcodec.codec import check_model

    model = spread.model(header.tune)
    check_model(model, header)
    _note_model(model)
    return model


def _note_model(model: Model) -> None:
    _log.info("device: %s", model.device_note)
    _log.debug("model: %s, sha256 %s", model.name, model.sha256.hex()[:8])


def _warn_dropped(dropped: Iterable[str]) -> None:
    for line in dropped:
        _log.warning("not carried over: %s", line)


@contextmanager
def _source_file(src: StrPath) -> Iterator[BinaryIO]:
    if os.fspath(src) == STDIO:
        yield sys.stdin.buffer
    else:
        with open_stream(src) as file:
            yield file
