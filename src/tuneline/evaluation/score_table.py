"""Test rows, the models that are scored on them, and reports/rows.parquet, which holds one row per test row.

A score table has one row per test row and the columns that its task measures. In rows.parquet the name of the model and
an underscore precede the column: `candidate_nll`, `base_nll`. Columns of the test rows have no underscore, except those
of slices, such as `slice:language`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

KEYS = ("id", "source", "cluster")
SLICE = "slice:"
"""Columns of the test rows whose names begin so hold the value by which a row is in a slice."""


@dataclass(frozen=True)
class ModelToScore:
    """A model and how it is scored."""

    folder: Path
    name: str
    """What the lines of progress call it."""
    max_length: int
    """Tokens that it sees at once; fewer where its context is shorter."""
    encoded_as: Path | None = None
    """A model folder whose tokenizer and mode are used instead of its own: the base is asked as the candidate is."""
    base: pa.Table | None = None
    """The scores from which rewards are counted; None: the model is the base itself."""
    token_cache: Path | None = None
    """The folder that keeps the tokens of the test rows; None: in memory."""
    models: int = 1
    """Models of this size that are scored, this one included, for the time that is estimated beforehand; 0: no estimate
    is printed."""


def test_rows(split: pa.Table, fields: Mapping[str, pa.Array | Sequence[object]]) -> pa.Table:
    """The keys of a clean split's rows, and these fields."""
    return pa.table({name: split[name] for name in KEYS} | dict(fields))


def join(rows: pa.Table, scores: Mapping[str, pa.Table]) -> pa.Table:
    """The table of rows.parquet.

    Args:
        rows: the test rows.
        scores: model or baseline -> its score table.
    """
    columns = {name: rows[name] for name in rows.column_names}
    for model, table in scores.items():
        columns |= {f"{model}_{name}": table[name] for name in table.column_names}
    return pa.table(columns)


def split_columns(report: pa.Table) -> tuple[pa.Table, dict[str, pa.Table]]:
    """The test rows and the score tables that `join` put together."""
    columns: dict[str, dict[str, pa.ChunkedArray]] = {}
    for column in report.column_names:
        model, _, name = column.partition("_")
        if name and not column.startswith(SLICE):
            columns.setdefault(model, {})[name] = report[column]
    own = [name for name in report.column_names if "_" not in name or name.startswith(SLICE)]
    return report.select(own), {model: pa.table(values) for model, values in columns.items()}
