"""`bsqcodec completions`."""

from __future__ import annotations

import rich_click as click
from click.shell_completion import get_completion_class

from bsqcodec.cli.options import SETTINGS, examples

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_BSQCODEC_COMPLETE"  # what click looks for when the shell asks


@click.command(
    context_settings=SETTINGS,
    epilog=examples(
        "bsqcodec completions bash > ~/.local/share/bash-completion/completions/bsqcodec",
        "bsqcodec completions fish > ~/.config/fish/completions/bsqcodec.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completions(ctx: click.RichContext, /, shell: str) -> None:
    """Print the script that completes commands, options and file names in a shell.

    Bash and fish find the script in the folders of the examples (make them first), zsh in a folder of its fpath, as
    _bsqcodec. For one session: source <(bsqcodec completions bash).
    """
    kind = get_completion_class(shell)
    assert kind is not None  # `SHELLS` are click's own
    click.echo(kind(ctx.find_root().command, {}, "bsqcodec", VARIABLE).source())
