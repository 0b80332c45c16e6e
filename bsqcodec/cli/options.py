"""The options that several commands share, declared once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click
from click.core import ParameterSource

from bsqcodec.cli.terminal import Terminal

F = TypeVar("F", bound=Callable[..., Any])

IO = "Input and output"
PART = "Part of the video"
QUALITY = "Quality"
SPEED = "Speed and device"
TALK = "Output and logging"

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "show_default": True}
# One prefix for all commands: BSQCODEC_CRF, BSQCODEC_DEVICE, BSQCODEC_THREADS, ... The tool itself has none,
# or an innocent BSQCODEC_VERSION in someone's environment would mean --version.
SETTINGS: dict[str, Any] = {**HELP, "auto_envvar_prefix": "BSQCODEC"}


def _device(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """auto, cpu or cuda:N; "cuda" is "cuda:0"."""
    if value == "cuda":
        return "cuda:0"
    if not re.fullmatch(r"auto|cpu|cuda:\d{1,3}", value):
        raise click.BadParameter(f"{value!r} is none of auto, cpu, cuda:N", ctx, param)
    return value


def _devices(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """One device, or several with commas between."""
    return ",".join(_device(ctx, param, name.strip()) for name in value.split(","))


def _gpus(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Numbers of GPUs with commas between."""
    if value is not None and not re.fullmatch(r"\d{1,3}( *, *\d{1,3})*", value):
        raise click.BadParameter(f"{value!r} is not a GPU's number, nor several such as 0,1", ctx, param)
    return value


def stacked(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several option decorators as one, shown in the order given."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class TimeType(click.ParamType[Any]):
    """A time as FFmpeg takes it; see `bsqcodec.parts.seconds`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from bsqcodec.errors import UsageError
        from bsqcodec.parts import seconds

        try:
            return seconds(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


part_options = stacked(
    click.option(
        "--start", type=TimeType(), metavar="TIME", help="Begin at TIME: 12.5 (seconds) or 1:02:03.5.", panel=PART
    ),
    click.option("--duration", type=TimeType(), metavar="TIME", help="End TIME later.", panel=PART),
    click.option(
        "--skip", type=click.IntRange(0), default=0, metavar="N", help="Begin at frame N instead.", panel=PART
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="End after N frames instead.", panel=PART),
)
raw_options = stacked(
    click.option(
        "--format", metavar="NAME", help="What IN is, by FFmpeg's name, or raw; found out without it.", panel=IO
    ),
    click.option("--video-size", metavar="WxH", help="Size of raw video.", panel=IO),
    click.option("--framerate", metavar="N", help="Frames per second of raw video; 25 without it.", panel=IO),
    click.option("--pix-fmt", metavar="NAME", help="Pixel format of raw video; yuv420p without it.", panel=IO),
)
overwrite_option = click.option("-y", "--overwrite", is_flag=True, help="Replace OUT if it exists.", panel=IO)

where_options = stacked(
    click.option(
        "--device",
        callback=_device,
        default="auto",
        metavar="auto|cpu|cuda:N",
        help="Where the model runs.",
        panel=SPEED,
    ),
    click.option("--gpu", type=click.IntRange(0), metavar="N", help="Same as --device cuda:N.", panel=SPEED),
)
several_options = stacked(
    click.option(
        "--device",
        callback=_devices,
        default="auto",
        metavar="auto|cpu|cuda:N",
        help="Where the model runs; several GPUs share the groups: cuda:0,cuda:1.",
        panel=SPEED,
    ),
    click.option(
        "--gpu", callback=_gpus, metavar="N", help="Same as --device cuda:N; 0,1 for cuda:0,cuda:1.", panel=SPEED
    ),
)
weights_option = click.option(
    "--weights",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Model weights (.safetensors) instead of those that ship with bsqcodec.",
    panel=SPEED,
)
_threads_option = click.option(
    "--threads", type=click.IntRange(0), default=0, metavar="N", help="CPU threads, 0 = all.", panel=SPEED
)
device_options = stacked(where_options, _threads_option, weights_option)
devices_options = stacked(several_options, _threads_option, weights_option)

jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Groups at a time, each in a process; same output. With several GPUs at least one each.",
    panel=SPEED,
)

cluster_option = click.option(
    "--cluster", metavar="auto|ADDRESS", help="Instead of --jobs: a Ray cluster; auto finds or starts one.", panel=SPEED
)

profile_option = click.option("--profile", is_flag=True, help="Print where the time went, by stage.", panel=TALK)

talk_options = stacked(
    click.option("-q", "--quiet", is_flag=True, help="Print errors only.", panel=TALK),
    click.option(
        "-v", "--verbose", count=True, show_default=False, help="Print details; -vv also tracebacks.", panel=TALK
    ),
    click.option("--json", is_flag=True, help="Progress and result as JSON lines on stdout.", panel=TALK),
)


def begin(ctx: click.Context, opts: dict[str, Any]) -> Terminal:
    """Apply the options on talking of a command that writes `dst`; they are taken out of `opts`."""
    terminal: Terminal = ctx.obj
    quiet, verbose, as_json = opts.pop("quiet"), opts.pop("verbose"), opts.pop("json")
    if quiet and verbose:
        raise click.UsageError("-q and -v contradict each other; give one", ctx)
    terminal.configure(quiet=quiet, verbose=verbose, json=as_json)
    if as_json and opts["dst"] == "-":
        raise click.UsageError("--json and '-' both want standard output; give OUT a name", ctx)
    return terminal


def chosen_device(ctx: click.Context) -> str:
    """The device that --device and --gpu ask for together; the command line beats the environment."""
    gpu, device = ctx.params["gpu"], ctx.params["device"]
    named = None if gpu is None else ",".join(f"cuda:{int(number)}" for number in str(gpu).split(","))
    given = {name for name in ("gpu", "device") if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given == {"gpu", "device"} and device != named:
        raise click.UsageError(f"--gpu {gpu} and --device {device} contradict each other; give one", ctx)
    return str(device) if named is None or given == {"device"} else named


def examples(*lines: str) -> str:
    """The epilog of a command: its examples, one a line."""
    return "\n\n".join(("Examples:", *(f"  {line}" for line in lines)))
