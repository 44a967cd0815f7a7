"""The files that an evaluation writes: evaluation.json, metrics.json, intervals.json and intervals.csv."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline.evaluation import comparison
from tuneline.evaluation.comparison import MODELS
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.tasks import classification
from tuneline.params import Task
from tuneline.params.gate import METRICS, METRICS_OF_TASK

# Machines may differ in the seventh digit, which means nothing.
_DIGITS = 6
# The share of the rows that are the largest ones.
_LARGEST = 0.02
# The metrics of probes by which people compare trainings.
_COMPARED = ("general_bits_per_byte", "copied_share", "canary_exposure")


def evaluation_json(
    rows: pa.Table,
    task: Task,
    scores: Mapping[str, pa.Table],
    versus: Mapping[str, Measures],
    of_slices: Mapping[str, Any] | None = None,
    probed: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """The value of evaluation.json: counts, the metrics of each model, and differences, rounded.

    Args:
        rows: the test rows.
        task: of the training.
        scores: model or baseline -> its score table.
        versus: `base` and `baseline` -> how the candidate differs.
        of_slices: what `slices.summary` returns.
        probed: model -> its metrics of the probes.
    """
    counts = {"rows": rows.num_rows, "groups": len(set(rows["cluster"].to_pylist()))}
    if "bytes" in rows.column_names:
        counts |= {"bytes": sum(rows["bytes"].to_pylist()), "tokens": sum(scores["candidate"]["tokens"].to_pylist())}
        counts |= _large_rows(rows["bytes"].to_numpy(), scores["candidate"])
    if "answered" in rows.column_names:
        counts["answers"] = sum(rows["answered"].to_pylist())
    metrics: dict[str, Any] = {name: comparison.summarise(rows, task, table) for name, table in scores.items()}
    for name, found in (probed or {}).items():
        metrics[name] = metrics[name] | found
    differences = {f"versus_{name}": differences_of(measures) for name, measures in versus.items()}
    value = counts | metrics | differences
    if "label" in scores["candidate"].column_names:
        labels = classification.label_scores(rows, scores["candidate"])
        value["recall"] = {one.label: one.recall for one in labels if one.recall is not None}
        value["precision"] = {one.label: one.precision for one in labels if one.precision is not None}
        value["reliability"] = [asdict(one) for one in classification.reliability(rows, scores["candidate"])]
    return _rounded({**value, **(of_slices or {})})


def _large_rows(sizes: np.ndarray, candidate: pa.Table) -> dict[str, float]:
    """How many bytes the largest rows hold, and those that are longer than the candidate sees at once.

    Bits per byte weighs a row by its bytes, so a few of them may decide it.
    """
    total, largest = max(int(sizes.sum()), 1), max(1, round(_LARGEST * len(sizes)))
    found = {"largest_rows": largest, "largest_share_of_bytes": float(np.sort(sizes)[-largest:].sum() / total)}
    if "windowed" not in candidate.column_names:
        return found
    windowed = candidate["windowed"].to_numpy()
    return found | {
        "windowed_rows": int(windowed.sum()),
        "windowed_share_of_bytes": float(sizes[windowed].sum() / total),
    }


def metrics_json(evaluation: Mapping[str, Any], task: Task, *, train_rows: int) -> dict[str, Any]:
    """The value of metrics.json: the numbers by which people compare trainings.

    Args:
        evaluation: the value of evaluation.json.
        task: of the training.
        train_rows: of the clean train split.

    Returns:
        `rows`, and for `candidate`, `base` and `baseline` the metrics of the task; `baseline` is the best of the
        baselines in each metric.
    """
    wanted = (*METRICS_OF_TASK[task], *_COMPARED)
    models = {name: evaluation[name] for name in MODELS if name in evaluation}
    own = {name: models.pop(name) for name in ("candidate", "base") if name in models}
    value: dict[str, Any] = {"rows": {"train": train_rows, "test": evaluation["rows"]}}
    value |= {name: {metric: found[metric] for metric in wanted if metric in found} for name, found in own.items()}
    best = {}
    for metric in wanted:
        measured = [found[metric] for found in models.values() if metric in found]
        if measured and (found := METRICS[metric].best(measured)) is not None:
            best[metric] = found
    return value | {"baseline": best}


def intervals_json(versus: Mapping[str, Measures]) -> dict[str, Any]:
    """The value of intervals.json, which the gate reads: every interval with all its digits, or why it is missing.

    Args:
        versus: `base`, `baseline` and `value` -> how the candidate differs.
    """
    return {
        name: {metric: asdict(one) if isinstance(one, Interval) else one for metric, one in measures.items()}
        for name, measures in versus.items()
    }


def read_intervals(value: Mapping[str, Any]) -> dict[str, Measures]:
    """What `intervals_json` was made from.

    Raises:
        TypeError: the value has other keys.
    """
    return {
        name: {metric: one if isinstance(one, str) else Interval(**one) for metric, one in measures.items()}
        for name, measures in value.items()
    }


def differences_of(measures: Measures) -> dict[str, dict[str, float | None]]:
    """Metric -> `difference`, `low` and `high`, for every metric that has an interval."""
    return {
        metric: {"difference": measure.difference, "low": measure.low, "high": measure.high}
        for metric, measure in measures.items()
        if isinstance(measure, Interval) and metric in METRICS
    }


def intervals_csv(measures: Measures) -> str:
    """The text of intervals.csv, a plot of DVC: metric, difference, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "difference", "low", "high"])
    for metric, numbers in _rounded(differences_of(measures)).items():
        writer.writerow([metric, numbers["difference"], numbers["low"], numbers["high"]])
    return text.getvalue()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, _DIGITS) if isinstance(value, float) else value
