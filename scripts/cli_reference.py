"""Write docs/cli.md: every command of `tuneline` with its arguments and options, as `--help` prints them.

python scripts/cli_reference.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tuneline.cli import cli

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
_WIDTH = 100


def reference() -> str:
    """The text of docs/cli.md."""
    lines = [
        "# Commands",
        "",
        "`scripts/cli_reference.py` writes this page from the commands themselves. Exit code 0: done. 1: a problem,",
        "which the last lines name with its remedy. 2: the command line itself is wrong.",
    ]
    for name, text in _helps(cli, "tuneline"):
        lines += ["", f"## {name}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def _helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    settings: Any = command.context_settings
    context = click.Context(command, parent=parent, info_name=name.split()[-1], terminal_width=_WIDTH, **settings)
    yield name, command.get_help(context).rstrip()
    if isinstance(command, click.Group):
        for part in command.list_commands(context):
            found = command.get_command(context, part)
            assert found is not None
            if not found.hidden:
                yield from _helps(found, f"{name} {part}", context)


if __name__ == "__main__":
    _PAGE.write_text(reference(), "utf-8")
