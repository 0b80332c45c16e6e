"""The `bsqcodec` command: its subcommands, its version, and the one place where errors end."""

from __future__ import annotations

from typing import Any

import rich_click as click
from click.exceptions import Exit, NoArgsIsHelpError

from bsqcodec.cli.bench import bench
from bsqcodec.cli.code import decode, encode
from bsqcodec.cli.compare import compare
from bsqcodec.cli.completions import completions
from bsqcodec.cli.exits import report
from bsqcodec.cli.options import HELP
from bsqcodec.cli.probe import info
from bsqcodec.cli.splice import cut, join
from bsqcodec.cli.terminal import Terminal
from bsqcodec.cli.training import train
from bsqcodec.cli.view import view


class Tool(click.RichGroup):
    """A group of commands in which every error becomes one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        terminal = ctx.obj = Terminal()
        terminal.configure()
        try:
            return super().invoke(ctx)
        except (Exit, NoArgsIsHelpError):
            raise
        except BaseException as error:
            raise Exit(report(error, terminal)) from None


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from bsqcodec.cli.about import version_lines

    click.echo("\n".join(version_lines()))
    ctx.exit()


@click.group(cls=Tool, context_settings=HELP)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of bsqcodec, the bitstream and the libraries, and the device.",
)
def cli() -> None:
    """A neural video codec with a file format: video in, .bsq out, and back.

    Every option can also be set by an environment variable: --crf by BSQCODEC_CRF, and so on; see docs/cli.md.
    """


for command in (encode, decode, cut, join, info, view, compare, bench, train, completions):
    cli.add_command(command)
