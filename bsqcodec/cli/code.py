"""`bsqcodec encode` and `bsqcodec decode`.

With --json both write one object per line to stdout and nothing else, told apart by "type":
"progress" (the fields of `Progress`, at most two a second), then as the last line "done" (the
fields of `EncodeStats` or `DecodeStats`) or "error" ("message", "exit_code"). Unknown keys and types
should be ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click
from click.exceptions import Exit

from bsqcodec.cli.damage import damage_options, say_damage
from bsqcodec.cli.goals import goal_line, one_goal
from bsqcodec.cli.options import (
    IO,
    PART,
    QUALITY,
    SETTINGS,
    begin,
    chosen_device,
    cluster_option,
    devices_options,
    examples,
    jobs_option,
    overwrite_option,
    part_options,
    profile_option,
    raw_options,
    talk_options,
)
from bsqcodec.cli.stages import say_profile
from bsqcodec.cli.terminal import Terminal
from bsqcodec.errors import BitstreamError
from bsqcodec.presets import PRESETS

if TYPE_CHECKING:
    from bsqcodec.results import DecodeStats, EncodeStats

FRAMES = click.IntRange(0)


def _begin(ctx: click.Context, opts: dict[str, Any]) -> Terminal:
    """Apply the options on talking and on the device; what is left in `opts` is for the API."""
    terminal = begin(ctx, opts)
    opts["device"] = chosen_device(ctx)
    del opts["gpu"]
    return terminal


@click.command(
    context_settings=SETTINGS,
    epilog=examples(
        "bsqcodec encode in.mp4 out.bsq --crf 30", "ffmpeg -i in.mkv -f yuv4mpegpipe - | bsqcodec encode - out.bsq"
    ),
)
@click.argument("src", metavar="IN", type=click.Path())
@click.argument("dst", metavar="OUT", type=click.Path())
@click.option("--skip", type=FRAMES, default=0, metavar="N", help="Leave out the first N frames of IN.", panel=IO)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Encode N frames at most.", panel=IO)
@raw_options
@overwrite_option
@click.option("--verify", is_flag=True, help="Decode again and compare before OUT gets its name.", panel=IO)
@click.option(
    "--crf",
    type=click.FloatRange(0, 51),
    help="Quality, lower is better; fractions work, 28 without it.",
    panel=QUALITY,
)
@click.option(
    "-b",
    "--bitrate",
    metavar="RATE",
    help="Instead: bit/s of the whole file, sound included; 500k, 1.5M.",
    panel=QUALITY,
)
@click.option("--size", metavar="BYTES", help="Instead: size of the whole file; 700k, 2M, 2MiB.", panel=QUALITY)
@click.option("--target", metavar="METRIC=VALUE", help="Instead: a quality; psnr=38 or ms-ssim=0.98.", panel=QUALITY)
@click.option(
    "--keyint", type=click.IntRange(1, 65535), default=32, metavar="N", help="Frames in a group.", panel=QUALITY
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="medium",
    help="How long to search for a smaller file.",
    panel=QUALITY,
)
@click.option(
    "--tune",
    type=click.Choice(["psnr", "ms-ssim"]),
    default="psnr",
    help="Metric to be good at.",
    panel=QUALITY,
)
@devices_options
@jobs_option
@cluster_option
@profile_option
@talk_options
@click.pass_context
def encode(ctx: click.RichContext, /, **opts: Any) -> None:
    """Encode a video into a .bsq file.

    IN is any file FFmpeg reads, or "-" for stdin: YUV4MPEG2 or what --format says. OUT is a .bsq file, or "-".
    --bitrate, --size and --target code samples of IN first; of a pipe they make a temporary copy for that.
    """
    terminal = _begin(ctx, opts)
    one_goal(ctx, opts)
    from bsqcodec.api import encode as encode_video
    from bsqcodec.cli.display import Display

    with Display(terminal, "encoded") as display:
        stats = encode_video(opts.pop("src"), opts.pop("dst"), **opts, on_progress=display)
    if terminal.json:
        terminal.data({"type": "done", **stats.to_dict()})
    terminal.say(_encode_line(ctx.params["dst"], stats))
    if stats.goal:
        terminal.say(goal_line(stats))
    if terminal.verbosity >= 1:
        _say_bits(terminal, stats)
    say_profile(terminal, stats.profile)


@click.command(
    context_settings=SETTINGS,
    epilog=examples("bsqcodec decode in.bsq out.mp4 --start 12.5 --duration 3", "bsqcodec decode in.bsq - | ffplay -"),
)
@click.argument("src", metavar="IN", type=click.Path())
@click.argument("dst", metavar="OUT", type=click.Path())
@overwrite_option
@click.option(
    "--codec", metavar="NAME", help="Codec of OUT, such as ffv1; without it visually lossless H.264.", panel=IO
)
@damage_options
@part_options
@click.option(
    "--keyframes",
    is_flag=True,
    help="Only the first frame of each group, without sound; --limit counts those.",
    panel=PART,
)
@click.option(
    "--scale",
    type=click.Choice(["1", "1/2", "1/4", "1/8"]),
    default="1",
    help="Size of --keyframes; smaller is faster.",
    panel=PART,
)
@devices_options
@jobs_option
@profile_option
@talk_options
@click.pass_context
def decode(ctx: click.RichContext, /, **opts: Any) -> None:
    """Decode a .bsq file, or a part of it, into a video.

    IN is a .bsq file, or "-" for stdin. OUT ends in .mp4, .mkv, .mov or .y4m, or is "-" for YUV4MPEG2 on stdout.
    What --on-error skip or conceal saves of a damaged file is written, with exit code 3.
    Of a part only the groups it touches are decoded. It begins with the first frame at or after --start.
    """
    terminal = _begin(ctx, opts)
    from bsqcodec.api import decode as decode_video
    from bsqcodec.cli.display import Display, output_name

    with Display(terminal, "decoded") as display:
        stats = decode_video(opts.pop("src"), opts.pop("dst"), **opts, on_progress=display)
    if terminal.json:
        terminal.data({"type": "done", **stats.to_dict()})
    terminal.say(_decode_line(ctx.params["dst"], stats))
    say_profile(terminal, stats.profile)
    if stats.damage:
        say_damage(terminal, output_name(ctx.params["dst"]), stats, ctx.params["on_error"], ctx.params["fill"])
        raise Exit(BitstreamError.exit_code)


def _encode_line(dst: str, stats: EncodeStats) -> str:
    from bsqcodec.cli.display import output_name, size_text

    return (
        f"{output_name(dst)}: {stats.frames} frames in {stats.groups} groups, {size_text(stats.bytes)}, "
        f"{stats.kbps:.4g} kbit/s, {stats.bpp:.4f} bit/pixel, PSNR {stats.psnr:.2f} dB "
        f"(Y {stats.psnr_y:.2f}, U {stats.psnr_u:.2f}, V {stats.psnr_v:.2f}), {stats.fps:.3g} fps"
    )


def _decode_line(dst: str, stats: DecodeStats) -> str:
    from bsqcodec.cli.display import output_name

    where = f" from frame {stats.first_frame} ({stats.start:.3f} s) on" if stats.first_frame else ""
    return f"{output_name(dst)}: {stats.frames} frames in {stats.groups} groups{where}, {stats.fps:.3g} fps"


def _say_bits(terminal: Terminal, stats: EncodeStats) -> None:
    total = sum(stats.bits.values()) or 1.0
    for part, bits in stats.bits.items():
        terminal.say(f"  {part:<24} {bits / 8:>12.0f} bytes {bits / total:>6.1%}")
