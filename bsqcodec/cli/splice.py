"""`bsqcodec cut` and `bsqcodec join`: groups from file to file, without decoding and without torch.

With --json they print one object, "done" (the fields of `SpliceStats`) or "error"; see docs/json.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from bsqcodec.cli.options import SETTINGS, begin, examples, overwrite_option, part_options, talk_options
from bsqcodec.cli.terminal import Terminal

if TYPE_CHECKING:
    from bsqcodec.splice import SpliceStats


@click.command(
    context_settings=SETTINGS,
    epilog=examples(
        "bsqcodec cut in.bsq out.bsq --start 12.5 --duration 3", "bsqcodec cut in.bsq out.bsq --skip 96 --limit 64"
    ),
)
@click.argument("src", metavar="IN")
@click.argument("dst", metavar="OUT")
@part_options
@overwrite_option
@talk_options
@click.pass_context
def cut(ctx: click.RichContext, /, **opts: Any) -> None:
    """Copy a part of a .bsq file without encoding it again.

    Groups stay whole: OUT may begin before the part and end after it, and the last line says where.
    The encoder's PSNR, which info shows, is a mean over all of IN: OUT has none unless it holds all groups.
    """
    terminal = begin(ctx, opts)
    from bsqcodec.splice import cut as cut_file

    stats = cut_file(opts.pop("src"), opts.pop("dst"), **opts)
    where = f" from frame {stats.first_frame} ({stats.start:.3f} s) on" if stats.first_frame else ""
    _finish(terminal, ctx.params["dst"], stats, where)


@click.command(
    context_settings=SETTINGS,
    epilog=examples("bsqcodec join a.bsq b.bsq out.bsq", "bsqcodec join part*.bsq whole.bsq -y"),
)
@click.argument("sources", nargs=-1, required=True, metavar="IN...")
@click.argument("dst", metavar="OUT")
@overwrite_option
@talk_options
@click.pass_context
def join(ctx: click.RichContext, /, **opts: Any) -> None:
    """Put .bsq files one after the other without encoding them again.

    They must agree in size and colour and in the weights (--tune) they were made with.
    """
    terminal = begin(ctx, opts)
    from bsqcodec.splice import join as join_files

    stats = join_files(opts["sources"], opts["dst"], overwrite=opts["overwrite"])
    for line in stats.dropped:
        terminal.say(f"warning: not carried over: {line}")
    _finish(terminal, opts["dst"], stats, f" of {len(opts['sources'])} files")


def _finish(terminal: Terminal, dst: str, stats: SpliceStats, where: str) -> None:
    from bsqcodec.cli.display import output_name, size_text

    if terminal.json:
        terminal.data({"type": "done", **stats.to_dict()})
    groups = f"{stats.frames} frames in {stats.groups} groups"
    terminal.say(f"{output_name(dst)}: {groups}{where}, {stats.seconds:.3f} s, {size_text(stats.bytes)}")
