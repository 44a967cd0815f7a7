"""Models judged and compared on the same test rows, whatever the task."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline.evaluation import intervals, metrics
from tuneline.evaluation.intervals import Interval, Measures, Statistic
from tuneline.evaluation.tasks import causal, classification, preference, regression
from tuneline.params import Evaluate, Task
from tuneline.params.gate import METRICS, METRICS_OF_TASK, metric

MODELS = {
    "candidate": ("Candidate", "the model this page is about"),
    "base": ("Base", "what it was fine-tuned from"),
    "unigram": ("Word frequencies", "each token as likely as it is frequent in the training rows"),
    "copy": ("Copy", "the prompt given back as the answer"),
    "majority": ("Majority", "always the most frequent label of the training rows"),
    "mean": ("Mean", "always the mean of the training rows"),
    "tfidf": ("TF-IDF", "a linear model of the words, or characters, of a text"),
    "longer": ("Longer", "always chooses the longer answer"),
}
"""What is scored, in the order in which it is shown: its name, and what it is."""

_STATISTICS = {
    "sft": causal.statistics,
    "language-modeling": causal.statistics,
    "classification": classification.statistics,
    "regression": regression.statistics,
    "preference": preference.statistics,
}


def rows_of(split: pa.Table, task: Task, evaluate: Evaluate, dataset: Mapping[str, Any]) -> pa.Table:
    """The rows that models are judged on.

    Args:
        split: a clean split.
        task: what is learnt of it.
        evaluate: the section of params.
        dataset: what dataset.json says of it.
    """
    if task == "classification":
        return classification.rows_of(split, evaluate)
    if task == "regression":
        return regression.rows_of(split, evaluate)
    if task == "preference":
        return preference.rows_of(split, evaluate, conversational=bool(dataset.get("conversational")))
    return causal.rows_of(split, evaluate)


def summarise(rows: pa.Table, task: Task, scores: pa.Table) -> dict[str, float]:
    """The metrics of one model; one that is not defined on these rows is left out."""
    found: dict[str, float] = {}
    for statistic in _statistics(rows, task, scores):
        kept = _taken(statistic, _defined(statistic))
        with np.errstate(invalid="ignore", divide="ignore"):
            values = kept.values()
        found |= {name: value for name, value in values.items() if name in METRICS and not math.isnan(value)}
        if statistic.names == ("bits_per_byte",) and "token_loss" in found:
            found["perplexity"] = metrics.perplexity(found["token_loss"])
    return found


def compare(rows: pa.Table, task: Task, candidate: pa.Table, other: pa.Table | None, evaluate: Evaluate) -> Measures:
    """How the candidate differs from another model on the same rows.

    Args:
        rows: the test rows; those of one cluster are drawn together.
        task: what was learnt.
        candidate: its scores.
        other: the other's, of the same rows; None: the candidate's own values, with their intervals.
        evaluate: seed and number of resamples.

    Returns:
        Of every metric the interval, or the reason why there is none.
    """
    if not rows.num_rows:
        return dict.fromkeys(METRICS_OF_TASK[task], "no test row is left that both may be measured on")
    measures: dict[str, Interval | str] = dict.fromkeys(METRICS_OF_TASK[task], "it was not measured")
    theirs = {} if other is None else {one.names: one for one in _statistics(rows, task, other)}
    clusters = np.array(rows["cluster"].to_pylist(), dtype=object)
    for mine in _statistics(rows, task, candidate):
        if other is not None and mine.names not in theirs:
            continue
        if mine.names == ("token_loss",) and other is not None and not other["tokens"].equals(candidate["tokens"]):
            measures["token_loss"] = (
                "their tokenizers cut the rows differently, so a loss per token says nothing; use bits_per_byte"
            )
            continue
        against = theirs.get(mine.names)
        kept = _defined(mine) & (True if against is None else _defined(against))
        if not kept.any():
            measures |= dict.fromkeys(mine.names, "no answers were scored")
            continue
        found = intervals.paired_bootstrap(
            _taken(mine, kept),
            [0.0] * len(mine.names) if against is None else _taken(against, kept),
            groups=clusters[kept].tolist(),
            resamples=evaluate.bootstrap_resamples,
            seed=evaluate.seed,
        )
        measures |= {name: found.get(name, "it is not defined on these rows") for name in mine.names}
    return measures


def versus_baselines(rows: pa.Table, task: Task, scores: Mapping[str, pa.Table], evaluate: Evaluate) -> Measures:
    """How the candidate differs from the trivial baselines: of every metric from the one that is best in it.

    Args:
        rows: the test rows.
        task: what was learnt.
        scores: of `candidate` and all others; the base is no baseline.
        evaluate: seed and number of resamples.
    """
    baselines = {name: table for name, table in scores.items() if name not in ("candidate", "base")}
    values = {name: summarise(rows, task, table) for name, table in baselines.items()}
    measures = {name: compare(rows, task, scores["candidate"], table, evaluate) for name, table in baselines.items()}
    found: dict[str, Interval | str] = dict.fromkeys(METRICS_OF_TASK[task], "no baseline measures it")
    for name in {name: None for measured in measures.values() for name in measured}:
        best = _best(name, values, measures)
        if best is not None:
            measured = measures[best][name]
            found[name] = replace(measured, other=best) if isinstance(measured, Interval) else measured
    return found


def said(scores: pa.Table) -> list[str | None]:
    """What a model says of each row, as a person reads it; None where it says nothing."""
    if "value" in scores.column_names:
        return [f"{value:.4g}" for value in scores["value"].to_pylist()]
    for name in ("text", "label"):
        if name in scores.column_names:
            return scores[name].to_pylist()
    return [None] * scores.num_rows


def _best(name: str, values: Mapping[str, Mapping[str, float]], measures: Mapping[str, Measures]) -> str | None:
    """The baseline that the candidate is furthest behind of, or least ahead."""
    measured = {model: found[name] for model, found in measures.items() if name in found}
    compared = {model: one.difference for model, one in measured.items() if isinstance(one, Interval)}
    if not compared:
        return next((model for model in measured if name in values[model]), None)
    sign = 1.0 if metric(name).better == "higher" else -1.0
    return min(compared, key=lambda model: sign * compared[model])


def _statistics(rows: pa.Table, task: Task, scores: pa.Table) -> list[Statistic]:
    return _STATISTICS[task](rows, scores)


def _defined(statistic: Statistic) -> np.ndarray:
    """Which rows have a value, bool."""
    if isinstance(statistic.columns, np.ndarray):
        return np.asarray(~np.isnan(statistic.columns).any(axis=0))
    return np.full(statistic.columns.shape[1], True)  # pyright: ignore[reportOptionalSubscript]


def _taken(statistic: Statistic, kept: np.ndarray) -> Statistic:
    return statistic if kept.all() else replace(statistic, columns=statistic.columns[:, kept])
