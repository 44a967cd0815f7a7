"""How classifiers are evaluated: one label per text, or several, which are stored as a JSON list of strings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import metrics, score_table
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.score_table import ModelToScore
from tuneline.params import Evaluate


def test_rows(split: pa.Table, evaluate: Evaluate, form: RecordForm) -> pa.Table:
    """The rows of a clean split: `text`, `label`, and `multilabel`: whether each label is a JSON list of labels."""
    flags = pa.array([form.multi_label] * split.num_rows, pa.bool_())
    return score_table.test_rows(split, {name: split[name] for name in ("text", "label")} | {"multilabel": flags})


def scores(labels: Sequence[str], probabilities: np.ndarray | None = None) -> pa.Table:
    """The score table of one model.

    Args:
        labels: the label that it gives each row.
        probabilities: of these labels; of several labels, of the least sure yes or no; None: not known.
    """
    columns = {"label": pa.array(labels, pa.string())}
    if probabilities is not None:
        columns["probability"] = pa.array(probabilities, pa.float64())
    return pa.table(columns)


def statistics(rows: pa.Table, model: pa.Table) -> list[Statistic]:
    """The metrics of one model."""
    found = [metrics.labels(*_labels(rows, model))]
    if (calibrated := _calibrated(rows, model)) is not None:
        found.append(metrics.calibration(*calibrated))
    return found


def reliability(rows: pa.Table, model: pa.Table) -> list[metrics.Bin]:
    """How often the labels of one model are right, by their probability; none where rows may have several labels."""
    calibrated = _calibrated(rows, model)
    return [] if calibrated is None else metrics.reliability(*calibrated)


def _calibrated(rows: pa.Table, model: pa.Table) -> tuple[np.ndarray, np.ndarray] | None:
    """The probability of each label, and whether it is right. Several labels of a row have no single probability."""
    if "probability" not in model.column_names or any(rows["multilabel"].to_pylist()):
        return None
    right = np.array(rows["label"].to_pylist(), object) == np.array(model["label"].to_pylist(), object)
    return model["probability"].to_numpy(), right.astype(float)


def measure(model: ModelToScore, rows: pa.Table, evaluate: Evaluate) -> pa.Table:
    """Score one model: its label for every row.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    from tuneline.evaluation import predictions

    config, found = predictions.measure(model, rows["text"].to_pylist(), evaluate, what="labels")
    names, several = predictions.label_names(config)
    return scores(*predictions.labels(found, names, several=several))


def baselines(
    folder: Path, train: pa.Table, test: pa.Table, evaluate: Evaluate, token_caches: tuple[Path, Path] | None = None
) -> dict[str, pa.Table]:
    """The baselines."""
    return {"majority": majority(train, test), "tfidf": tfidf(train, test, evaluate.seed)}


def majority(train: pa.Table, test: pa.Table) -> pa.Table:
    """The baseline that gives every row the most frequent label (or list of labels) of the training rows.

    It gives no probability: the share of the label is nearly its accuracy, so that no model would be calibrated better.
    """
    counts = Counter(train["label"].to_pylist())
    label = min(counts, key=lambda one: (-counts[one], one))
    return scores([label] * test.num_rows)


def tfidf(train: pa.Table, test: pa.Table, seed: int) -> pa.Table:
    """The baseline that is a linear model of the words of a text."""
    from tuneline.evaluation import tfidf as linear

    labels = train["label"].to_pylist()
    texts = train["text"].to_pylist(), test["text"].to_pylist()
    if not any(train["multilabel"].to_pylist()):
        return scores(*linear.predict_labels(texts[0], labels, texts[1], seed))
    given, probabilities = linear.predict_label_sets(texts[0], _decode(train, train), texts[1], seed)
    return scores([label_codec.encode(labels) for labels in given], probabilities)


@dataclass(frozen=True)
class Confusion:
    """How often rows of each label are given each label."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """[true label][given label]."""


def confusion(rows: pa.Table, model: pa.Table) -> Confusion | None:
    """The confusion of one model; None where a row has several labels: which became which is then unknown."""
    if any(rows["multilabel"].to_pylist()):
        return None
    true, given = rows["label"].to_pylist(), model["label"].to_pylist()
    labels = sorted({*true, *given})
    place = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, ([place[label] for label in true], [place[label] for label in given]), 1)
    return Confusion(tuple(labels), tuple(tuple(row) for row in counts.tolist()))


@dataclass(frozen=True)
class LabelScore:
    """The metrics of one label."""

    label: str
    rows: int
    """Test rows that have the label."""
    precision: float | None
    """None where the model never gives the label."""
    recall: float | None
    """None where no test row has the label."""
    f1: float


def label_scores(rows: pa.Table, model: pa.Table) -> list[LabelScore]:
    """The metrics of every label of the rows and of the model; the labels with most rows first."""
    true, given = _labels(rows, model)
    names = metrics.label_names([*true, *given])
    has, gets = metrics.label_marks(true, names), metrics.label_marks(given, names)
    right, in_rows, by_model = (np.asarray(part.sum(axis=1)) for part in (has.multiply(gets), has, gets))
    found = [
        LabelScore(
            label,
            int(in_rows[place]),
            float(right[place] / by_model[place]) if by_model[place] else None,
            float(right[place] / in_rows[place]) if in_rows[place] else None,
            float(2 * right[place] / (in_rows[place] + by_model[place])),
        )
        for place, label in enumerate(names)
    ]
    return sorted(found, key=lambda one: (-one.rows, one.label))


def _labels(rows: pa.Table, model: pa.Table) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The true labels of each row, and those that the model gives."""
    return _decode(rows, rows), _decode(rows, model)


def _decode(rows: pa.Table, labelled: pa.Table) -> list[tuple[str, ...]]:
    """The labels in the column `label` of a table, read as the test rows say."""
    columns = labelled["label"].to_pylist(), rows["multilabel"].to_pylist()
    return [label_codec.decode(label, multi_label=flag) for label, flag in zip(*columns, strict=True)]
