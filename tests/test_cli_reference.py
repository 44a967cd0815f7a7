"""Every command and option has a help text, and docs/cli.md holds the output of `--help`."""

import re
import runpy
from collections.abc import Iterator

import click
from projects import ROOT

from tuneline.cli import cli

_SCRIPT = ROOT / "scripts/cli_reference.py"


def commands(command: click.Command = cli, name: str = "tuneline") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for part, found in command.commands.items():
            yield from commands(found, f"{name} {part}")


def test_docs_cli_md_is_the_output_of_help() -> None:
    """When it fails: python scripts/cli_reference.py."""
    assert (ROOT / "docs/cli.md").read_text("utf-8") == runpy.run_path(str(_SCRIPT))["reference"]()


def test_every_command_and_option_has_a_help_text() -> None:
    silent = [name for name, command in commands() if not command.help]
    for name, command in commands():
        options = [param for param in command.params if isinstance(param, click.Option)]
        silent += [f"{name} {option.opts[-1]}" for option in options if not option.help]
        arguments = [param for param in command.params if isinstance(param, click.Argument)]
        for argument in arguments:
            # Click prints no help of an argument: the command's own text names it.
            shown = re.findall("[A-Z]+", argument.make_metavar(click.Context(command)))
            silent += [f"{name} {word}" for word in shown if word not in (command.help or "").upper()]
    assert silent == []
