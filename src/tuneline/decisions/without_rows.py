"""The candidate compared with the same training without some of its rows, from score tables that DVC keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.errors import DataError
from tuneline.evaluation import comparison, results, score_table
from tuneline.evaluation.intervals import Measures

KEY = "without"
"""The key of gate.json, and the beginning of the names of metrics."""


@dataclass(frozen=True)
class Without:
    """How the candidate differs from a training without some of its rows."""

    left_out: tuple[str, ...]
    """The sets and variants that it was trained without."""
    values: Mapping[str, float]
    """Metric -> the value of that training."""
    measures: Measures
    """Metric -> the candidate's value minus that value, with its interval, or why it has none."""
    steps: int
    """Optimizer steps of that training."""

    def as_json(self) -> dict[str, Any]:
        """The value for gate.json."""
        return {
            "left_out": list(self.left_out),
            "values": dict(self.values),
            "versus": results.differences_of(self.measures),
            "steps": self.steps,
        }


def of_workspace(p: params.Params, rows: pa.Table, candidate: pa.Table) -> dict[str, Without]:
    """The comparisons of `report.without`, whose stages are not stale.

    Args:
        p: the params.
        rows: the test rows.
        candidate: its score table.

    Raises:
        DataError: a table is about other rows.
        UnreadableFileError: a report of a training is missing or damaged.
    """
    found: dict[str, Without] = {}
    for name in p.report.without:
        item = f"{params.WITHOUT}{name}"
        reports = Path(p.aside(item).paths.reports)
        own, scores = score_table.split_columns(files.read_parquet(reports / "scores.parquet"))
        if not own["id"].equals(rows["id"]):
            raise DataError(f"{reports}: the training without some rows was measured on other test rows; run: make run")
        found[name] = Without(
            tuple(sorted(p.left_out(item))),
            comparison.summarise(rows, p.task, scores["without"]),
            comparison.compare(rows, p.task, candidate, scores["without"], p.evaluate),
            int(files.read_object(reports / "training.json", "steps")["steps"]),
        )
    return found


def as_evaluation(gate: Mapping[str, Any]) -> dict[str, Any]:
    """The comparisons in gate.json as entries of an evaluation: `without_NAME`, and `versus_without_NAME`.

    Args:
        gate: the value of gate.json.
    """
    found: dict[str, Any] = {}
    for name, one in gate.get(KEY, {}).items():
        found[f"{KEY}_{name}"] = one["values"]
        found[f"versus_{KEY}_{name}"] = one["versus"]
    return found
