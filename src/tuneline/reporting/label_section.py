"""The metrics of each label, and which labels are confused, for the report of a classifier."""

from dataclasses import dataclass

import pyarrow as pa

from tuneline.evaluation.score_table import split_columns
from tuneline.evaluation.tasks import classification
from tuneline.evaluation.tasks.classification import LabelScore

MOST_IN_WORDS = 20
"""Up to this number of labels the confusion is a table of numbers; above, a picture."""
MOST_ON_A_PHONE = 8
"""Up to this number of labels the table fits on a phone; above, a picture replaces it there."""
_MOST_LABELS = 40
_MOST_MISTAKES = 10
# The most cells of a picture, so that the page stays small.
_MOST_CELLS = 2_000


@dataclass(frozen=True)
class Cell:
    """How many rows of one label are given another."""

    column: int
    count: int
    share: float
    """Of the rows with the true label, 0 to 1."""
    is_right: bool


@dataclass(frozen=True)
class Row:
    """The rows of one true label."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Mistake:
    """One label that is mistaken for another."""

    true: str
    given: str
    count: int


@dataclass(frozen=True)
class Labels:
    """What the page shows of the labels."""

    labels: tuple[LabelScore, ...]
    more: int
    """The number of labels that are not shown."""
    names: tuple[str, ...]
    """The columns of the confusion; empty where rows have several labels."""
    confusion: tuple[Row, ...]
    mistakes: tuple[Mistake, ...]
    """The most frequent first."""


def labels_of(table: pa.Table) -> Labels:
    """The labels of rows.parquet."""
    rows, scores = split_columns(table)
    found = classification.label_scores(rows, scores["candidate"])
    confusion = classification.confusion(rows, scores["candidate"])
    names = confusion.labels if confusion else ()
    lines, mistakes = [], []
    for place, counts in enumerate(confusion.counts if confusion else ()):
        total = sum(counts)
        cells = [Cell(at, count, count / total if total else 0.0, at == place) for at, count in enumerate(counts)]
        lines.append(Row(names[place], tuple(cells)))
        mistakes += [
            Mistake(names[place], names[cell.column], cell.count) for cell in cells if cell.count and not cell.is_right
        ]
    if len(names) > MOST_IN_WORDS:
        lines = _largest(lines)
    mistakes.sort(key=lambda mistake: (-mistake.count, mistake.true, mistake.given))
    shown = found[:_MOST_LABELS]
    return Labels(tuple(shown), len(found) - len(shown), names, tuple(lines), tuple(mistakes[:_MOST_MISTAKES]))


def _largest(lines: list[Row]) -> list[Row]:
    """The rows with the cells alone that hold most test rows."""
    cells = [(-cell.count, place, cell) for place, line in enumerate(lines) for cell in line.cells if cell.count]
    kept: list[list[Cell]] = [[] for _ in lines]
    for _, place, cell in sorted(cells, key=lambda found: found[:2])[:_MOST_CELLS]:
        kept[place].append(cell)
    return [Row(line.label, tuple(found)) for line, found in zip(lines, kept, strict=True)]
