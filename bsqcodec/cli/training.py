"""`bsqcodec train`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from bsqcodec.cli.options import SETTINGS, examples

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(
    context_settings=SETTINGS,
    epilog=examples(
        "bsqcodec train --config bsqcodec/training/configs/release.toml --data videos --out run1",
        "bsqcodec train --config bsqcodec/training/configs/release.toml --data videos --out run1 --resume",
    ),
)
@click.option("--config", type=FILE, required=True, metavar="FILE", help="What to train and how long.")
@click.option("--data", type=FOLDER, required=True, metavar="DIR", help="Folder of videos and photographs.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder for checkpoints and the exported weights.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, metavar="N", help="Stages side by side where none needs the other."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
def train(config: Path, data: Path, out: Path, resume: bool, jobs: int) -> None:
    """Train a model as a config file describes it.

    The configs that made the shipped weights are in bsqcodec/training/configs.
    """
    from bsqcodec.training import run

    try:
        run(config, data, out, resume, jobs)
    except KeyboardInterrupt:
        click.echo(f"{out} keeps what is done; go on with --resume", err=True)
        raise
