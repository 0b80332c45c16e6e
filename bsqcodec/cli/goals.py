"""--crf, --bitrate, --size, --target: which of them holds, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

if TYPE_CHECKING:
    from bsqcodec.results import EncodeStats

GOALS = ("crf", "bitrate", "size", "target")


def one_goal(ctx: click.Context, opts: dict[str, Any]) -> None:
    """Leave the goals of the command line alone: it beats the environment. Two there contradict each other."""
    given = [name for name in GOALS if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if len(given) > 1:
        raise click.UsageError(f"--{given[0]} and --{given[1]} contradict each other; give one", ctx)
    for name in GOALS:
        if given and name not in given:
            opts[name] = None


def goal_line(stats: EncodeStats) -> str:
    """The achieved figure beside the asked one."""
    asked, achieved = stats.asked or 0.0, stats.achieved or 0.0
    match stats.goal:
        case "bitrate":
            pair, off = f"{asked / 1000:.5g} kbit/s, achieved {achieved / 1000:.5g}", f"{achieved / asked - 1:+.1%}"
        case "size":
            pair, off = f"{asked:,.0f} bytes, achieved {achieved:,.0f}", f"{achieved / asked - 1:+.1%}"
        case "psnr":
            pair, off = f"PSNR {asked:g} dB, achieved {achieved:.2f}", f"{achieved - asked:+.2f} dB"
        case _:
            pair, off = f"MS-SSIM {asked:g}, achieved {achieved:.4f}", f"{achieved - asked:+.4f}"
    return f"asked for {pair} ({off}), crf {stats.crf:.4g}"
