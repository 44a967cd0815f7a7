"""What is said of many files, in one line for each thing that is said."""

import re
from collections.abc import Sequence

from tuneline.data.reading.rows import FilePlan

NAMED = 3
"""Files that are named where the same is said of more."""

_NUMBER = re.compile(r"\d[\d,.]*")


def together(said: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each file, or one for all files of which the same is said where they are more than three.

    Args:
        said: place of a file, and what is said of it, which may begin with the place.

    Returns:
        Lines, in the order in which each thing is first said.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for place, text in said:
        about = text.removeprefix(f"{place}: ")
        # Where only a number differs, as that of a line does, the same is said.
        groups.setdefault(_NUMBER.sub("0", about.replace(place, "")), []).append((place, about))
    lines: list[str] = []
    for group in groups.values():
        if len(group) <= NAMED:
            lines += [about if about.startswith(f"{place}:") else f"{place}: {about}" for place, about in group]
        else:
            lines.append(f"{len(group):,} files ({named([place for place, _ in group])}): {_in_common(group)}")
    return lines


def _in_common(group: Sequence[tuple[str, str]]) -> str:
    """What is said of all, with … for the numbers that differ; without the line where it is said of one."""
    words = [about.removeprefix(place).lstrip(":0123456789 ") for place, about in group]
    texts = _NUMBER.split(words[0])
    numbers = zip(*map(_NUMBER.findall, words), strict=True)
    shown = [of_all[0] if len(set(of_all)) == 1 else "…" for of_all in numbers]
    return "".join(part for pair in zip(texts, [*shown, ""], strict=True) for part in pair)


def named(names: Sequence[str], most: int = NAMED) -> str:
    """The first names, and how many there are beside them.

    Args:
        names: of files.
        most: that are named.
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def excluded_in_words(plans: Sequence[FilePlan]) -> str:
    """What is left out, for a person.

    Args:
        plans: of files that are left out.
    """
    patterns = ", ".join(dict.fromkeys(plan.excluded for plan in plans))
    return f"{len(plans):,} file(s) left out by {patterns}: {named([plan.name for plan in plans])}"
