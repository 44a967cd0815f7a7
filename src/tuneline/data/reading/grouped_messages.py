"""Messages about files, with one line for many files that have the same problem."""

import re
from collections.abc import Sequence

from tuneline.data.reading.raw_rows import FilePlan

MAX_NAMED = 3
"""Names in one line; also the most files that have a line each."""

_LINE = re.compile(r"(?::\d+)*: ")
_NUMBER = re.compile(r"\d[\d,.]*")


def group_messages(messages: Sequence[tuple[str, str]]) -> list[str]:
    """One line per message, or one line for all files with the same message if they are more than MAX_NAMED.

    Args:
        messages: path of a file, and a message about it, which may start with the path.

    Returns:
        Lines, in the order in which each message comes first.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for path, text in messages:
        groups.setdefault(message_key(path, text), []).append((path, text))
    lines: list[str] = []
    for group in groups.values():
        if len(group) <= MAX_NAMED:
            lines += [text if text.startswith(f"{path}:") else f"{path}: {text}" for path, text in group]
        else:
            paths = first_names([path for path, _ in group])
            lines.append(f"{len(group):,} files ({paths}): {_merge([_without_path(*message) for message in group])}")
    return lines


def message_key(path: str, text: str) -> str:
    """A key that is equal for two messages if they differ only in the path, the line and other numbers.

    Args:
        path: of the file.
        text: a message about it, which may start with the path.
    """
    return _NUMBER.sub("0", _without_path(path, text))


def _without_path(path: str, text: str) -> str:
    if text.startswith(f"{path}:"):
        text = _LINE.sub("", text.removeprefix(path), count=1)
    return text.replace(path, "it")


def _merge(texts: Sequence[str]) -> str:
    """One text for texts that differ only in numbers, with … for these."""
    numbers = zip(*map(_NUMBER.findall, texts), strict=True)
    shown = [values[0] if len(set(values)) == 1 else "…" for values in numbers]
    parts = zip(_NUMBER.split(texts[0]), [*shown, ""], strict=True)
    return "".join(part for pair in parts for part in pair)


def first_names(names: Sequence[str], most: int = MAX_NAMED) -> str:
    """The first `most` names, and the number of the others: `a, b, c and 2 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def describe_excluded(plans: Sequence[FilePlan]) -> str:
    """The number, the patterns and the names of files that are left out, for a person."""
    patterns = ", ".join(dict.fromkeys(plan.excluded for plan in plans))
    return f"{len(plans):,} file(s) left out by {patterns}: {first_names([plan.name for plan in plans])}"
