"""docs/cli.md: every command and option, from the commands themselves.

python -m bsqcodec.cli.manual > docs/cli.md
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from bsqcodec.cli.tool import cli

PREFIX = "BSQCODEC_"
HEAD = """# The command line

<!-- Made by `python -m bsqcodec.cli.manual > docs/cli.md`; a test compares. -->

`bsqcodec COMMAND --help` says the same. Data goes to standard output, everything else to standard error; `-` as a file
is standard input or output.

## Settings from the environment

Every option has a variable: `BSQCODEC_` and the option's long name in capitals, such as `BSQCODEC_CRF=30` or
`BSQCODEC_ANCHOR_CRF=20,30`; a flag takes `1` or `0`. It counts for every command that has the option, and an option on
the command line beats it. `NO_COLOR` turns colours off. `BSQCODEC_KERNEL` (`auto`, `int8`, `float32`) chooses how the
prior computes; the numbers are the same.

## Exit codes

| code | meaning |
|---|---|
| 0 | ok |
| 1 | input, output or run time |
| 2 | usage |
| 3 | damaged stream |
| 4 | unsupported version, or other weights |
| 130, 143 | interrupted, terminated |

## Completion

| shell | once and for all |
|---|---|
| bash | `bsqcodec completions bash > ~/.local/share/bash-completion/completions/bsqcodec` |
| zsh | `bsqcodec completions zsh > "${fpath[1]}/_bsqcodec"` |
| fish | `bsqcodec completions fish > ~/.config/fish/completions/bsqcodec.fish` |
"""


def manual() -> str:
    """The whole document."""
    parts = [HEAD, *(_command(name, command) for name, command in cli.commands.items())]
    return "\n".join(parts)


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"bsqcodec {name}", **command.context_settings)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## `{name}`", "", inspect.cleandoc(command.help or ""), "", "```", usage, "```", ""]
    lines += ["| option | default | variable | |", "|---|---|---|---|"]
    lines += [_row(option, context) for option in command.params if isinstance(option, click.Option)]
    lines += ["", "Examples:", "", "```bash", *_examples(command), "```", ""]
    return "\n".join(lines)


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len))
    value = "" if option.is_flag or option.count else f" {_value(option, context)}"
    default = option.get_default(context)
    given = isinstance(default, (str, int, float, Path)) and not option.is_flag and not option.count
    shown = f"`{default}`" if given else ""
    return f"| {names}{value} | {shown} | `{variable(option)}` | {_cell(option.help or '')} |"


def _value(option: click.Option, context: click.Context) -> str:
    limits = option.type
    if isinstance(limits, click.FloatRange) and option.metavar is None:
        return f"{limits.min:g}..{limits.max:g}"
    if isinstance(limits, click.Choice):
        return _cell("|".join(map(str, limits.choices)))
    return _cell(option.make_metavar(context))


def variable(option: click.Option) -> str:
    """The environment variable of an option."""
    return PREFIX + max(option.opts, key=len).lstrip("-").replace("-", "_").upper()


def _examples(command: click.Command) -> Iterator[str]:
    for line in (command.epilog or "").splitlines():
        if re.match(r"\s+\S", line):
            yield line.strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(manual())
