"""How models that predict a number are evaluated."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import metrics, score_table
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.score_table import ModelToScore
from tuneline.params import Evaluate


def test_rows(split: pa.Table, evaluate: Evaluate, form: RecordForm | None = None) -> pa.Table:
    """The rows of a clean split: `text`, and `label` as a number."""
    return score_table.test_rows(split, {"text": split["text"], "label": split["label"].cast(pa.float64())})


def scores(values: np.ndarray) -> pa.Table:
    """The score table of one model.

    Args:
        values: the number that it gives each row.
    """
    return pa.table({"value": pa.array(values, pa.float64())})


def statistics(rows: pa.Table, model: pa.Table) -> list[Statistic]:
    """The metrics of one model."""
    return metrics.numbers(rows["label"].to_numpy(), model["value"].to_numpy())


def measure(model: ModelToScore, rows: pa.Table, evaluate: Evaluate) -> pa.Table:
    """Score one model: its number for every row.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    from tuneline.evaluation import predictions

    _, found = predictions.measure(model, rows["text"].to_pylist(), evaluate, what="numbers")
    return scores(found[:, 0])


def baselines(
    folder: Path, train: pa.Table, test: pa.Table, evaluate: Evaluate, token_caches: tuple[Path, Path] | None = None
) -> dict[str, pa.Table]:
    """The baselines."""
    return {"mean": mean(train, test), "tfidf": tfidf(train, test, evaluate.seed)}


def mean(train: pa.Table, test: pa.Table) -> pa.Table:
    """The baseline that gives every row the mean of the training rows."""
    return scores(np.full(test.num_rows, train["label"].to_numpy().mean()))


def tfidf(train: pa.Table, test: pa.Table, seed: int) -> pa.Table:
    """The baseline that is a linear model of the words of a text."""
    from tuneline.evaluation import tfidf as linear

    texts = train["text"].to_pylist(), test["text"].to_pylist()
    return scores(linear.predict_numbers(texts[0], train["label"].to_numpy(), texts[1], seed))
