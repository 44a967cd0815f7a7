"""What is said of many files, in one line for each thing that is said."""

import re
from collections.abc import Sequence

from tuneline.data.reading.raw_rows import FilePlan

MAX_NAMED = 3
"""Files that are named where the same is said of more."""

_LINE = re.compile(r"(?::\d+)*: ")
_NUMBER = re.compile(r"\d[\d,.]*")


def group_messages(said: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each file, or one for all files of which the same is said where they are more than three.

    Args:
        said: place of a file, and what is said of it, which may begin with the place.

    Returns:
        Lines, in the order in which each thing is first said.
    """
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for place, text in said:
        groups.setdefault(message_key(place, text), []).append((place, text, _about(place, text)))
    lines: list[str] = []
    for group in groups.values():
        if len(group) <= MAX_NAMED:
            lines += [text if text.startswith(f"{place}:") else f"{place}: {text}" for place, text, _ in group]
        else:
            places = first_names([place for place, _, _ in group])
            lines.append(f"{len(group):,} files ({places}): {_in_common([about for _, _, about in group])}")
    return lines


def message_key(place: str, text: str) -> str:
    """What is equal of two texts where the same is said of two files: all but the place, the line and other numbers.

    Args:
        place: of the file.
        text: what is said of it, which may begin with the place.
    """
    return _NUMBER.sub("0", _about(place, text))


def _about(place: str, text: str) -> str:
    """What is said of a file, without its place and the line."""
    if text.startswith(f"{place}:"):
        text = _LINE.sub("", text.removeprefix(place), count=1)
    return text.replace(place, "it")


def _in_common(texts: Sequence[str]) -> str:
    """What is said of all files, with … for the numbers that differ."""
    numbers = zip(*map(_NUMBER.findall, texts), strict=True)
    shown = [of_all[0] if len(set(of_all)) == 1 else "…" for of_all in numbers]
    parts = zip(_NUMBER.split(texts[0]), [*shown, ""], strict=True)
    return "".join(part for pair in parts for part in pair)


def first_names(names: Sequence[str], most: int = MAX_NAMED) -> str:
    """The first names, and how many there are beside them.

    Args:
        names: of files, or of what else there are many.
        most: that are named.
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def describe_excluded(plans: Sequence[FilePlan]) -> str:
    """What is left out, for a person.

    Args:
        plans: of files that are left out.
    """
    patterns = ", ".join(dict.fromkeys(plan.excluded for plan in plans))
    return f"{len(plans):,} file(s) left out by {patterns}: {first_names([plan.name for plan in plans])}"
