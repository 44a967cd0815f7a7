"""What an evaluation leaves behind: the metrics, the scores row by row, the intervals as a plot."""

import csv
import io
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from tuneline.evaluation.comparison import Rows, Scores, summarise
from tuneline.evaluation.intervals import Interval, Measures

# A difference in the seventh digit means nothing, and would only make two machines disagree.
_DIGITS = 6


def evaluation(
    rows: Rows,
    scores: dict[str, Scores],
    baselines: dict[str, dict[str, float]],
    versus_base: Measures,
) -> dict[str, Any]:
    """The value of evaluation.json.

    Args:
        rows: the test rows.
        scores: of `candidate` and `base`.
        baselines: the metrics of what costs nothing, by name.
        versus_base: how the candidate differs from the base.

    Returns:
        Counts, and metrics by model; a metric that was not measured is left out.
    """
    candidate = scores["candidate"]
    counts = {
        "rows": len(rows.ids),
        "groups": len(set(rows.clusters)),
        "bytes": int(candidate.bytes.sum()),
        "tokens": int(candidate.tokens.sum()),
        "answers": sum(rows.answered),
    }
    metrics = {name: summarise(score) for name, score in scores.items()}
    return _rounded(counts | metrics | baselines | {"versus_base": as_numbers(versus_base)})


def as_numbers(measures: Measures) -> dict[str, dict[str, float | None]]:
    """Of every metric that was measured `difference`, `low` and `high`."""
    return {
        metric: {name: value for name, value in asdict(measure).items() if name != "groups"}
        for metric, measure in measures.items()
        if isinstance(measure, Interval)
    }


def row_scores(rows: Rows, scores: dict[str, Scores]) -> pa.Table:
    """The table of rows.parquet: a test row a row."""
    columns: dict[str, Any] = {
        "id": rows.ids,
        "source": rows.sources,
        "cluster": rows.clusters,
        "prompt": rows.prompts,
        "reference": rows.references,
        "bytes": next(iter(scores.values())).bytes,
    }
    for name, score in scores.items():
        columns |= score.columns(name)
    return pa.table(columns)


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
