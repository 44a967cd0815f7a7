"""Texts from data, params or files inside Markdown that other programs show: they are shown as they are."""

import re

from tuneline import terminal

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$@]|(?<=www)\.|:(?=//))")
_AT_START = re.compile(r"^\s*(?:[#+\-=]|\d+[.)])")
_ESCAPED = re.compile(r"\\([^\w\s]|_)")
_BACKTICKS = re.compile(r"`+")


def escape(text: str) -> str:
    """A text from data or params as Markdown that shows it as it is, on one line."""
    line = _MARKUP.sub(r"\\\1", terminal.visible(text).replace("\n", "\\n").replace("\t", " "))
    return _AT_START.sub(lambda start: start[0][:-1] + "\\" + start[0][-1], line)


def unescape(markdown: str) -> str:
    """The text that `escape` was given, on one line, for a terminal."""
    return _ESCAPED.sub(r"\1", markdown)


def code(text: str) -> str:
    """A name from data or params as code in Markdown, also in a table."""
    line = terminal.visible(text).replace("\n", "\\n").replace("\t", " ").replace("|", "\\|")
    fence = "`" * (max((len(run) for run in _BACKTICKS.findall(line)), default=0) + 1)
    space = " " * (line.startswith("`") or line.endswith("`") or not line.strip())
    return f"{fence}{space}{line}{space}{fence}"
