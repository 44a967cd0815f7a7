"""Test rows, the scores of models on them, and reports/rows.parquet, which holds both: a test row a row.

A score table has a line a test row, and columns as its task measures them. In rows.parquet they bear the model's name
and an underscore in front: `candidate_nll`, `base_nll`. A column of the rows themselves has no underscore.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

KEYS = ("id", "source", "cluster")


def of_split(split: pa.Table, fields: Mapping[str, pa.Array | Sequence[object]]) -> pa.Table:
    """Test rows with the keys of a clean split, and these fields."""
    return pa.table({name: split[name] for name in KEYS} | dict(fields))


def join(rows: pa.Table, scores: Mapping[str, pa.Table]) -> pa.Table:
    """The table of rows.parquet.

    Args:
        rows: the test rows.
        scores: of each model and baseline, by name.
    """
    columns = {name: rows[name] for name in rows.column_names}
    for model, table in scores.items():
        columns |= {f"{model}_{name}": table[name] for name in table.column_names}
    return pa.table(columns)


def take_apart(report: pa.Table) -> tuple[pa.Table, dict[str, pa.Table]]:
    """The test rows and the scores that `join` put together."""
    columns: dict[str, dict[str, pa.ChunkedArray]] = {}
    for column in report.column_names:
        model, _, name = column.partition("_")
        if name:
            columns.setdefault(model, {})[name] = report[column]
    own = [name for name in report.column_names if "_" not in name]
    return report.select(own), {model: pa.table(values) for model, values in columns.items()}
