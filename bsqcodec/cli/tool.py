"""The `bsqcodec` command: its subcommands, its version, and the one place where errors end."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import rich_click as click
from click.exceptions import Exit, NoArgsIsHelpError

from bsqcodec import __version__
from bsqcodec.cli.bench import bench
from bsqcodec.cli.code import decode, encode
from bsqcodec.cli.compare import compare
from bsqcodec.cli.exits import report
from bsqcodec.cli.options import HELP
from bsqcodec.cli.probe import info
from bsqcodec.cli.splice import cut, join
from bsqcodec.cli.terminal import Terminal
from bsqcodec.cli.training import train

# Libraries whose version can change what a user sees; looked up without importing them.
LIBRARIES = ("torch", "av", "constriction", "numpy")


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


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from bsqcodec.container import FORMAT_MAJOR, FORMAT_MINOR

    click.echo(f"bsqcodec {__version__} (bitstream {FORMAT_MAJOR}.{FORMAT_MINOR})")
    click.echo(", ".join(f"{library} {_installed(library)}" for library in LIBRARIES))
    ctx.exit()


@click.group(cls=Tool, context_settings=HELP)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of bsqcodec, the bitstream and the libraries.",
)
def cli() -> None:
    """A neural video codec with a file format: video in, .bsq out, and back.

    Every option can also be set by an environment variable: --crf by BSQCODEC_CRF, and so on.
    """


for command in (encode, decode, cut, join, info, compare, bench, train):
    cli.add_command(command)
