"""What `decode` does with damaged files: its options, and how it says what was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from bsqcodec.cli.options import stacked
from bsqcodec.cli.terminal import Terminal

if TYPE_CHECKING:
    from bsqcodec.results import DecodeStats

DAMAGE = "Damage and limits"
MAX_PIXELS = 2**28  # the container's, which would take numpy to import
_SHOWN = 20  # places listed on the terminal; --json has them all

damage_options = stacked(
    click.option(
        "--on-error",
        type=click.Choice(["fail", "skip", "conceal"]),
        default="fail",
        help="What to do where IN is damaged: no output, leave lost frames out, or fill them in.",
        panel=DAMAGE,
    ),
    click.option(
        "--fill",
        type=click.Choice(["freeze", "grey"]),
        default="freeze",
        help="What --on-error conceal shows: the last picture, or grey.",
        panel=DAMAGE,
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        default=MAX_PIXELS,
        metavar="N",
        help="Refuse IN if width x height is above N.",
        panel=DAMAGE,
    ),
    click.option(
        "--max-frames",
        type=click.IntRange(1),
        metavar="N",
        help="Refuse IN if it has more than N frames.",
        panel=DAMAGE,
    ),
)


def say_damage(terminal: Terminal, name: str, stats: DecodeStats, on_error: str, fill: str) -> None:
    """Each place that is damaged and what it cost, then the sum; shown even with -q, as errors are."""
    for loss in stats.damage[:_SHOWN]:
        cost = f" (frames {loss.first_frame}-{loss.first_frame + loss.frames - 1} lost)" if loss.frames else ""
        terminal.line(f"damaged: {' '.join(loss.message.split())}{cost}")
    if len(stats.damage) > _SHOWN:
        terminal.line(f"damaged: and {len(stats.damage) - _SHOWN} places more")
    terminal.line(f"bsqcodec: {name}: written from a damaged file: {_sum(stats, on_error, fill)}")


def _sum(stats: DecodeStats, on_error: str, fill: str) -> str:
    if not stats.lost_frames:
        return "no frame between those that are left is lost"
    count = f"{stats.lost_frames} frame{'s' if stats.lost_frames > 1 else ''} lost"
    if on_error == "skip":
        return f"{count}, left out"
    return f"{count}, {stats.concealed_frames} of them filled in ({fill})"
