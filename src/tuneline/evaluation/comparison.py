"""Models compared on the same test rows, whatever the task."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from tuneline.evaluation import intervals, metrics
from tuneline.evaluation.intervals import Interval, Measures, Statistic
from tuneline.evaluation.task_table import TASKS
from tuneline.params import Evaluate, Task
from tuneline.params.gate import METRICS, METRICS_OF_TASK, is_of_harness, metric

Statistics = Callable[[pa.Table, pa.Table], list[Statistic]]
"""Rows, score table -> the metrics."""

MODELS = {
    "candidate": ("Candidate", "the model of this report"),
    "base": ("Base", "the model that it was fine-tuned from"),
    "unigram": ("Word frequencies", "each token is as likely as it is frequent in the training rows"),
    "copy": ("Copy", "answers with the prompt"),
    "reference": ("References", "the right answers of the data, in how diverse they are"),
    "majority": ("Majority", "always gives the most frequent label of the training rows"),
    "mean": ("Mean", "always gives the mean of the training rows"),
    "tfidf": ("TF-IDF", "a linear model of the words or characters of a text"),
    "longer": ("Longer", "always prefers the longer answer"),
}
"""Models and trivial baselines in the order in which they are shown: name, and what each is."""


OTHER_TOKENS = (
    "the two tokenizers cut the rows into different tokens, so losses per token are not comparable; use bits_per_byte"
)


def cut_differently(candidate: pa.Table, other: pa.Table) -> bool:
    """Whether two score tables of the same rows count different tokens."""
    return all("tokens" in table.column_names for table in (candidate, other)) and not other["tokens"].equals(
        candidate["tokens"]
    )


def summarise(rows: pa.Table, task: Task, scores: pa.Table) -> dict[str, float]:
    """The metrics of one model; a metric that is not defined on these rows is left out.

    Args:
        rows: the test rows.
        task: of the training.
        scores: the model's score table.
    """
    return summarise_by(TASKS[task].statistics, rows, scores)


def summarise_by(statistics: Statistics, rows: pa.Table, scores: pa.Table) -> dict[str, float]:
    """As `summarise`, of the metrics of `statistics`, which makes them from rows and a score table."""
    found: dict[str, float] = {}
    for statistic in statistics(rows, scores):
        kept = select_rows(statistic, defined_rows(statistic))
        with np.errstate(invalid="ignore", divide="ignore"):
            values = kept.values()
        found |= {
            name: value
            for name, value in values.items()
            if (name in METRICS or is_of_harness(name)) and not math.isnan(value)
        }
        if statistic.names == ("bits_per_byte",) and "token_loss" in found:
            found["perplexity"] = metrics.perplexity(found["token_loss"])
    return found


def compare(rows: pa.Table, task: Task, candidate: pa.Table, other: pa.Table | None, evaluate: Evaluate) -> Measures:
    """How the candidate differs from another model on the same rows.

    Args:
        rows: the test rows; rows of one cluster are drawn together.
        task: of the training.
        candidate: its score table.
        other: the other model's score table of the same rows; None: the candidate's own metrics with their intervals.
        evaluate: seed and number of resamples.

    Returns:
        Metric -> its interval, or the reason why it has none.
    """
    return compare_by(TASKS[task].statistics, METRICS_OF_TASK[task], rows, candidate, other, evaluate)


def compare_by(
    statistics: Statistics,
    names: Sequence[str],
    rows: pa.Table,
    candidate: pa.Table,
    other: pa.Table | None,
    evaluate: Evaluate,
) -> Measures:
    """As `compare`, of the metrics `names`, which `statistics` makes from rows and a score table."""
    if not rows.num_rows:
        return dict.fromkeys(names, "no test row is left on which both may be measured")
    measures: dict[str, Interval | str] = dict.fromkeys(names, "it was not measured")
    of_other = {} if other is None else {statistic.names: statistic for statistic in statistics(rows, other)}
    clusters = np.array(rows["cluster"].to_pylist(), dtype=object)
    for mine in statistics(rows, candidate):
        if other is not None and mine.names not in of_other:
            continue
        if mine.names == ("token_loss",) and other is not None and cut_differently(candidate, other):
            measures["token_loss"] = OTHER_TOKENS
            continue
        theirs = of_other.get(mine.names)
        kept = defined_rows(mine) & (True if theirs is None else measured_rows(theirs, other))
        if not kept.any():
            measures |= dict.fromkeys(mine.names, "no answer was scored")
            continue
        # Without this a candidate would look better by what it failed on.
        if missing := count_unmeasured(mine, theirs, candidate):
            measures |= dict.fromkeys(mine.names, no_number(missing))
            continue
        found = intervals.paired_bootstrap(
            select_rows(mine, kept),
            [0.0] * len(mine.names) if theirs is None else select_rows(theirs, kept),
            groups=clusters[kept].tolist(),
            resamples=evaluate.bootstrap_resamples,
            seed=evaluate.seed,
        )
        measures |= {name: found.get(name, "it is not defined on these rows") for name in mine.names}
    return measures


def compare_with_best_baseline(
    rows: pa.Table, task: Task, scores: Mapping[str, pa.Table], evaluate: Evaluate
) -> Measures:
    """How the candidate differs, in each metric, from the trivial baseline that is best in this metric.

    Args:
        rows: the test rows.
        task: of the training.
        scores: the score tables of `candidate`, `base` and all baselines.
        evaluate: seed and number of resamples.
    """
    baselines = {name: table for name, table in scores.items() if name not in ("candidate", "base")}
    values = {name: summarise(rows, task, table) for name, table in baselines.items()}
    measures = {name: compare(rows, task, scores["candidate"], table, evaluate) for name, table in baselines.items()}
    found: dict[str, Interval | str] = dict.fromkeys(METRICS_OF_TASK[task], "no baseline measures it")
    for name in {name: None for measured in measures.values() for name in measured}:
        best = _best_baseline(name, values, measures)
        if best is not None:
            measured = measures[best][name]
            found[name] = replace(measured, other=best) if isinstance(measured, Interval) else measured
    return found


def answers(scores: pa.Table) -> list[str | None]:
    """What a model answers to each row, as a person reads it; None where it does not answer.

    Args:
        scores: the model's score table.
    """
    if "value" in scores.column_names:
        return [f"{value:.4g}" for value in scores["value"].to_pylist()]
    for name in ("text", "label"):
        if name in scores.column_names:
            return scores[name].to_pylist()
    return [None] * scores.num_rows


def _best_baseline(
    name: str, values: Mapping[str, Mapping[str, float]], measures: Mapping[str, Measures]
) -> str | None:
    """The baseline that the candidate is furthest behind, or least ahead of."""
    measured = {model: found[name] for model, found in measures.items() if name in found}
    compared = {model: one.difference for model, one in measured.items() if isinstance(one, Interval)}
    sign = metric(name).sign
    if not compared or not sign:
        return next((model for model in measured if name in values[model]), None)
    return min(compared, key=lambda model: sign * compared[model])


def defined_rows(statistic: Statistic) -> np.ndarray:
    """Which rows have a value, bool."""
    if isinstance(statistic.columns, np.ndarray):
        return np.asarray(~np.isnan(statistic.columns).any(axis=0))
    return np.full(statistic.columns.shape[1], True)  # pyright: ignore[reportOptionalSubscript]


def no_number(rows: int) -> str:
    """The reason why a metric has no interval where the candidate has no number for some rows."""
    return f"the candidate has no number for {rows:,} of the test rows"


def count_unmeasured(mine: Statistic, theirs: Statistic | None, candidate: pa.Table) -> int:
    """The rows that were asked of the candidate and have no value; rows that were not asked have null scores.

    Args:
        mine: a statistic of the candidate.
        theirs: the same statistic of the other model; None: there is none.
        candidate: its score table of the same rows.
    """
    is_dense = isinstance(mine.columns, np.ndarray)
    lost = _not_a_number(candidate) & (~defined_rows(mine) if is_dense else True)
    if theirs is not None:
        lost = lost | (defined_rows(theirs) & ~defined_rows(mine))
    return int(lost.sum())


def measured_rows(statistic: Statistic, scores: pa.Table | None) -> np.ndarray:
    """Which rows have a value that comes from numbers, bool: a label or a rank that a model gives with NaN counts not.

    Args:
        statistic: of a model.
        scores: its score table of the same rows.
    """
    defined = defined_rows(statistic)
    if scores is None or isinstance(statistic.columns, np.ndarray):
        return defined
    return defined & ~_not_a_number(scores)


def _not_a_number(scores: pa.Table) -> np.ndarray:
    """The rows of a score table that hold NaN, bool; a null stands for what was not asked."""
    found = np.full(scores.num_rows, False)
    for column in scores.columns:
        if pa.types.is_floating(column.type):
            found |= np.isnan(column.to_numpy()) & ~np.array(column.is_null())
    return found


def select_rows(statistic: Statistic, kept: np.ndarray) -> Statistic:
    """The statistic of some rows only."""
    return statistic if kept.all() else replace(statistic, columns=statistic.columns[:, kept])
