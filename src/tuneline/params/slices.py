"""Which columns cut the test rows into slices, and how a rule of the gate names a slice."""

import difflib
from collections.abc import Collection, Sequence

from tuneline.params.task_keys import TASK_KEYS, Task

LABEL, LANGUAGE, SOURCE, LENGTH = "label", "language", "source", "length"
"""Columns that every evaluation can compute, `label` only where the records have labels."""

GAP = "gap:"
"""`gap:METRIC:COLUMN` is the largest difference of a metric between two slices of a column."""


def known_columns(task: Task, kept: Sequence[str]) -> list[str]:
    """The columns that `evaluate.slices` may name.

    Args:
        task: of the training.
        kept: `data.keep_columns`. A kept column is used instead of a computed column of its name.
    """
    computed = [*([LABEL] if TASK_KEYS[task].has_labels else []), LANGUAGE, SOURCE, LENGTH]
    return list(dict.fromkeys([*computed, *kept]))


def split_gap(metric: str) -> tuple[str, str] | None:
    """Metric and column of `gap:METRIC:COLUMN`; None for another metric."""
    if not metric.startswith(GAP):
        return None
    name, _, column = metric.removeprefix(GAP).partition(":")
    return (name, column) if name and column else None


def split_slice(written: str, columns: Collection[str]) -> tuple[str, str | None] | None:
    """Column and value of a rule's `slice`; None if it names no column.

    Args:
        written: `COLUMN=VALUE`, or `COLUMN` for every slice of the column.
        columns: `evaluate.slices`.

    Returns:
        The value is None for every slice, and empty for the rows that have no value.
    """
    if written in columns:
        return written, None
    # A name may hold the sign too: the longest column that fits is meant.
    for column in sorted(columns, key=len, reverse=True):
        if written.startswith(f"{column}="):
            return column, written.removeprefix(f"{column}=")
    return None


def one_of_known(name: str, known: Collection[str]) -> str:
    """A hint for a name that does not exist: the closest known name, and all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}known here: {', '.join(known)}"


def closest(name: str, known: Collection[str]) -> str:
    """A hint for a name that does not exist: the closest known name, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
