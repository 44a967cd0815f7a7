"""What an evaluation leaves behind: its account, the few metrics that people compare, and the intervals as a plot."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tuneline.evaluation import comparison
from tuneline.evaluation.comparison import MODELS
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.tasks import classification
from tuneline.params import Task
from tuneline.params.gate import METRICS, METRICS_OF_TASK

# A difference in the seventh digit means nothing, and would only make two machines disagree.
_DIGITS = 6


def evaluation(
    rows: pa.Table, task: Task, scores: Mapping[str, pa.Table], versus: Mapping[str, Measures]
) -> dict[str, Any]:
    """The value of evaluation.json.

    Args:
        rows: the test rows.
        task: what was learnt.
        scores: of every model and baseline.
        versus: how the candidate differs, by what it is compared with: `base`, `baseline`.

    Returns:
        Counts, and metrics by model; a metric that was not measured is left out.
    """
    counts = {"rows": rows.num_rows, "groups": len(set(rows["cluster"].to_pylist()))}
    if "bytes" in rows.column_names:
        counts |= {"bytes": sum(rows["bytes"].to_pylist()), "tokens": sum(scores["candidate"]["tokens"].to_pylist())}
    if "answered" in rows.column_names:
        counts["answers"] = sum(rows["answered"].to_pylist())
    metrics: dict[str, Any] = {name: comparison.summarise(rows, task, table) for name, table in scores.items()}
    differences = {f"versus_{name}": as_numbers(measures) for name, measures in versus.items()}
    value = counts | metrics | differences
    if task == "classification":
        of_labels = classification.by_label(rows, scores["candidate"])
        value["recall"] = {one.label: one.recall for one in of_labels if one.recall is not None}
    return _rounded(value)


def compared(evaluation: Mapping[str, Any], task: Task, *, train_rows: int) -> dict[str, Any]:
    """The value of metrics.json: the dozen numbers by which people compare one training with another.

    Args:
        evaluation: the value of evaluation.json.
        task: what was learnt.
        train_rows: of the clean train split.

    Returns:
        `rows`, and by `candidate`, `base` and `baseline` the metrics of the task that were measured; of the baselines
        the best in each metric.
    """
    wanted = METRICS_OF_TASK[task]
    models = {name: evaluation[name] for name in MODELS if name in evaluation}
    own = {name: models.pop(name) for name in ("candidate", "base") if name in models}
    value: dict[str, Any] = {"rows": {"train": train_rows, "test": evaluation["rows"]}}
    value |= {name: {metric: found[metric] for metric in wanted if metric in found} for name, found in own.items()}
    best = {}
    for metric in wanted:
        if measured := [found[metric] for found in models.values() if metric in found]:
            best[metric] = min(measured) if METRICS[metric].better == "lower" else max(measured)
    return value | {"baseline": best}


def as_numbers(measures: Measures) -> dict[str, dict[str, float | None]]:
    """Of every metric that was measured `difference`, `low` and `high`."""
    return {
        metric: {"difference": measure.difference, "low": measure.low, "high": measure.high}
        for metric, measure in measures.items()
        if isinstance(measure, Interval) and metric in METRICS
    }


def interval_lines(measures: Measures) -> str:
    """The text of intervals.csv: metric, difference, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "difference", "low", "high"])
    for metric, numbers in _rounded(as_numbers(measures)).items():
        writer.writerow([metric, numbers["difference"], numbers["low"], numbers["high"]])
    return text.getvalue()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value
