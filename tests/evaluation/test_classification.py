import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate
from sklearn import metrics
from sklearn.calibration import calibration_curve

from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import comparison
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.tasks import classification

EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=200)
RANDOM = np.random.default_rng(5)
LABELS = ["a", "b", "中", "never said"]


def rows(labels: list[str], *, multi_label: bool = False) -> pa.Table:
    count = len(labels)
    keys = {name: [str(row) for row in range(count)] for name in ("id", "source", "cluster")}
    split = pa.table(keys | {"text": ["t"] * count, "label": labels})
    return classification.test_rows(split, EVALUATE, RecordForm("classification", multi_label=multi_label))


def given(labels: list[str], sure: np.ndarray | None = None) -> pa.Table:
    return classification.scores(labels, np.ones(len(labels)) if sure is None else sure)


def test_metrics_are_those_of_scikit_learn() -> None:
    true = RANDOM.choice(LABELS, 300, p=[0.6, 0.2, 0.15, 0.05]).tolist()
    said = [label if RANDOM.random() < 0.7 else str(RANDOM.choice(["a", "b", "not in the rows"])) for label in true]
    said = ["a" if label == "never said" else label for label in said]
    found = comparison.summarise(rows(true), "classification", given(said))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found == {
            "accuracy": pytest.approx(metrics.accuracy_score(true, said)),
            "macro_f1": pytest.approx(metrics.f1_score(true, said, average="macro")),
            "weighted_f1": pytest.approx(metrics.f1_score(true, said, average="weighted")),
            "matthews_corrcoef": pytest.approx(metrics.matthews_corrcoef(true, said)),
            "ece": pytest.approx(1 - metrics.accuracy_score(true, said)),
        }
        expected: Any = metrics.precision_recall_fscore_support(true, said, labels=LABELS)
    by_label = {one.label: one for one in classification.label_scores(rows(true), given(said))}
    for place, label in enumerate(LABELS):
        one = by_label[label]
        found = (one.precision or 0.0, one.recall, one.f1, one.rows)
        assert found == pytest.approx(tuple(column[place] for column in expected))
    assert by_label["never said"].precision is None
    assert by_label["not in the rows"].recall is None
    confusion = classification.confusion(rows(true), given(said))
    assert confusion is not None
    assert np.array(confusion.counts).tolist() == metrics.confusion_matrix(true, said).tolist()
    assert confusion.labels == tuple(sorted({*true, *said}))


def test_metrics_of_rows_with_several_labels_are_those_of_scikit_learn() -> None:
    names = ["a", "b", "中"]
    true, said = (RANDOM.random((200, 3)) < [0.5, 0.3, 0.1] for _ in range(2))
    said = np.where(RANDOM.random((200, 1)) < 0.7, true, said)
    texts = [
        [label_codec.encode([names[place] for place in np.flatnonzero(row)]) for row in part] for part in (true, said)
    ]
    found = comparison.summarise(rows(texts[0], multi_label=True), "classification", given(texts[1]))
    assert found == {
        "accuracy": pytest.approx(metrics.accuracy_score(true, said)),
        "macro_f1": pytest.approx(metrics.f1_score(true, said, average="macro")),
        "weighted_f1": pytest.approx(metrics.f1_score(true, said, average="weighted")),
        # R_K: the covariance of the marks, divided by the root of both variances.
        "matthews_corrcoef": pytest.approx(
            _covariance(true, said) / (_covariance(true, true) * _covariance(said, said)) ** 0.5
        ),
    }
    assert classification.confusion(rows(texts[0], multi_label=True), given(texts[1])) is None


def _covariance(one: np.ndarray, other: np.ndarray) -> float:
    centred = (part - part.mean(axis=0) for part in (one, other))
    return float(np.multiply(*centred).sum())


@pytest.mark.parametrize("said", [["a"] * 40, ["a", "a", "b", "b"] * 10], ids=["always the same", "by chance"])
def test_a_classifier_that_ignores_the_text_has_a_correlation_of_zero(said: list[str]) -> None:
    found = comparison.summarise(rows(["a", "b"] * 20), "classification", given(said))
    assert found["matthews_corrcoef"] == 0.0


def test_metrics_of_drawn_rows_are_those_of_a_table_of_these_rows() -> None:
    true = RANDOM.choice(["a", "b", "c"], 60).tolist()
    said = RANDOM.choice(["a", "b", "c"], 60).tolist()
    drawn = RANDOM.integers(60, size=60)
    weights = np.bincount(drawn, minlength=60)[None, :]
    values: dict[str, float] = {}
    for one in classification.statistics(rows(true), given(said)):
        values |= dict(zip(one.names, one.of_sums((weights @ one.columns.T).T)[:, 0], strict=True))
    again = comparison.summarise(
        rows([true[row] for row in drawn]), "classification", given([said[row] for row in drawn])
    )
    assert {name: values[name] for name in again} == pytest.approx(again)
    assert values["recall:b"] == pytest.approx(np.mean([said[row] == "b" for row in drawn if true[row] == "b"]))
    assert values["precision:b"] == pytest.approx(np.mean([true[row] == "b" for row in drawn if said[row] == "b"]))


def test_the_calibration_error_and_its_curve_are_those_of_scikit_learn() -> None:
    true = RANDOM.choice(["a", "b"], 400).tolist()
    said = [label if RANDOM.random() < 0.7 else "a" for label in true]
    # Edges of bins and the ends belong to the bin below, as in Guo et al.
    sure = np.concatenate([RANDOM.beta(4, 2, 390), [0.0, 1 / 15, 0.2, 0.4, 0.6, 0.8, 14 / 15, 1.0, 1.0, 0.5]])
    right = np.array(true) == np.array(said)
    accuracy, confidence = calibration_curve(right, sure, n_bins=15)
    found = classification.reliability(rows(true), given(said, sure))
    assert [one.accuracy for one in found] == pytest.approx(accuracy.tolist())
    assert [one.probability for one in found] == pytest.approx(confidence.tolist())
    assert sum(one.rows for one in found) == 400
    weights = np.array([one.rows for one in found]) / 400
    expected = float(weights @ np.abs(accuracy - confidence))
    assert comparison.summarise(rows(true), "classification", given(said, sure))["ece"] == pytest.approx(expected)
    measured = comparison.compare(rows(true), "classification", given(said, sure), None, EVALUATE)["ece"]
    assert isinstance(measured, Interval) and measured.low is not None and measured.high is not None
    assert 0 < measured.low < measured.high < 1


def test_a_model_that_knows_how_sure_it_may_be_has_no_calibration_error() -> None:
    true, said = ["a"] * 30 + ["b"] * 10, ["a"] * 40
    found = comparison.summarise(rows(true), "classification", given(said, np.full(40, 0.75)))
    assert found["ece"] == pytest.approx(0.0)


def test_rows_of_several_labels_have_no_reliability_curve() -> None:
    table = rows(['["a","b"]'] * 20, multi_label=True)
    assert classification.reliability(table, given(['["a"]'] * 20)) == []
    assert (
        comparison.compare(table, "classification", given(['["a"]'] * 20), None, EVALUATE)["ece"]
        == "it was not measured"
    )
