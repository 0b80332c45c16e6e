"""`bsqcodec info`."""

from __future__ import annotations

from json import dumps

import rich_click as click

from bsqcodec.cli.options import SETTINGS, examples
from bsqcodec.errors import BitstreamError


@click.command(
    context_settings=SETTINGS,
    epilog=examples("bsqcodec info in.bsq", "bsqcodec info --check --json in.bsq"),
)
@click.argument("path", metavar="FILE", type=click.Path())
@click.option("--json", is_flag=True, help="Print one JSON object.")
@click.option("--check", is_flag=True, help="Read all of FILE and compare every checksum.")
def info(path: str, json: bool, check: bool) -> None:
    """Show what a .bsq file holds and where its bytes went, without decoding it.

    A file that is cut short or damaged is shown as far as it goes, with exit code 3.
    """
    from bsqcodec.info import inspect

    summary = inspect(path, check=check)
    if json:
        click.echo(dumps(summary.to_dict(), indent=2))
    else:
        click.echo("\n".join(summary.lines()))
    if summary.damage is not None:
        raise BitstreamError(summary.damage)
