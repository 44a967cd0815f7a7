"""All comparisons of one evaluation: with the base, with the best baseline and with fixed values."""

import pyarrow as pa

from tuneline.evaluation import comparison, slices
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.slices import Scores, SlicedColumn
from tuneline.params import Evaluate, Task


def compare_all(rows: pa.Table, task: Task, scores: Scores, evaluate: Evaluate) -> dict[str, Measures]:
    """How the candidate differs on all rows.

    Args:
        rows: the test rows.
        task: of the training.
        scores: the score tables of `candidate`, `base` where the task scores it, and all baselines.
        evaluate: the section of params.

    Returns:
        `base`, if it was scored, and `baseline` -> the differences; `value` -> the candidate's own metrics. With
        columns of slices, base and value also have the gaps between them.
    """
    found = _compare(rows, task, scores, evaluate)
    for name in found.keys() & {"base", "value"}:
        found[name] = {**found[name], **slices.gaps(rows, task, scores["candidate"], scores.get(name), evaluate)}
    return found


def compare_slices(rows: pa.Table, task: Task, scores: Scores, evaluate: Evaluate) -> dict[str, SlicedColumn]:
    """How the candidate differs on each slice of the test rows; arguments as in `compare_all`."""
    return slices.measure(rows, task, scores, lambda own, tables: _compare(own, task, tables, evaluate))


def _compare(rows: pa.Table, task: Task, scores: Scores, evaluate: Evaluate) -> dict[str, Measures]:
    candidate, base = scores["candidate"], scores.get("base")
    found: dict[str, Measures] = {}
    if base is not None:
        found["base"] = comparison.compare(rows, task, candidate, base, evaluate)
    found["baseline"] = comparison.compare_with_best_baseline(rows, task, scores, evaluate)
    found["value"] = comparison.compare(rows, task, candidate, None, evaluate)
    return found
