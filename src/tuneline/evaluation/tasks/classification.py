"""How a classifier is judged: one label of a text, or several, which are kept as a JSON list of text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
from scipy import sparse

from tuneline.data.records import labels as labelling
from tuneline.evaluation import score_table
from tuneline.evaluation.intervals import Statistic
from tuneline.params import Evaluate
from tuneline.params.gate import RECALL

NONE = "[]"
"""How a prediction of no label at all is written."""


def rows_of(split: pa.Table, evaluate: Evaluate) -> pa.Table:
    """The rows of a clean split: `text` and `label`."""
    return score_table.of_split(split, {name: split[name] for name in ("text", "label")})


def scores(labels: Sequence[str], probabilities: np.ndarray) -> pa.Table:
    """What one model says of each row.

    Args:
        labels: that it gives.
        probabilities: of what it says; where there are several labels, of its least sure yes or no.
    """
    return pa.table({"label": pa.array(labels, pa.string()), "probability": pa.array(probabilities, pa.float64())})


def each(label: str) -> tuple[str, ...]:
    """The labels of a row, one or several or none."""
    return () if label == NONE else labelling.each(label)


def written(labels: Sequence[str]) -> str:
    """Several labels as they stand in the data."""
    return orjson.dumps(sorted(labels)).decode()


def statistics(test: pa.Table, model: pa.Table) -> list[Statistic]:
    """Accuracy (of several labels: all of them right), both F1, Matthews' correlation, and the recall of each label.

    A label counts in macro F1 where it stands in the rows or is given by the model, as in scikit-learn. Matthews'
    correlation is Gorodkin's R_K of the marks that a row has a label: 0 for whoever always says the same, or guesses.
    """
    true = [each(label) for label in test["label"].to_pylist()]
    given = [each(label) for label in model["label"].to_pylist()]
    names = _names(true)
    # Those of the rows first: of the others there is no recall.
    known = {label: place for place, label in enumerate([*names, *sorted(set(_names(given)) - set(names))])}
    is_true, is_given = (_marks(some, known) for some in (true, given))
    hits = np.array([set(one) == set(other) for one, other in zip(true, given, strict=True)], float)
    counts = sparse.vstack([is_true.multiply(is_given), is_true, is_given, hits[None, :], np.ones((1, len(true)))])
    size, own = len(known), len(names)

    def of_sums(sums: np.ndarray) -> np.ndarray:
        right, held, said = sums[:size], sums[size : 2 * size], sums[2 * size : 3 * size]
        present = held + said > 0
        f1 = np.where(present, 2 * right / np.where(present, held + said, 1), 0.0)
        macro = f1.sum(axis=0) / present.sum(axis=0)
        weighted = (f1 * held).sum(axis=0) / held.sum(axis=0)
        rows = sums[-1]
        both = rows * right.sum(axis=0) - (held * said).sum(axis=0)
        spread = [rows * part.sum(axis=0) - (part**2).sum(axis=0) for part in (held, said)]
        correlation = both / np.sqrt(np.where(spread[0] * spread[1] > 0, spread[0] * spread[1], np.inf))
        with np.errstate(invalid="ignore", divide="ignore"):
            recalls = right[:own] / held[:own]
        return np.concatenate([[sums[-2] / rows, macro, weighted, correlation], recalls])

    metrics = ("accuracy", "macro_f1", "weighted_f1", "matthews_corrcoef", *(RECALL + label for label in names))
    return [Statistic(metrics, sparse.csr_array(counts), of_sums)]


@dataclass(frozen=True)
class Confusion:
    """How often rows of each label are given each label."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """[true label][given label]."""


def confusion(test: pa.Table, model: pa.Table) -> Confusion | None:
    """The confusion of one model; None where a row has several labels, of which nobody can say which became which."""
    true, given = test["label"].to_pylist(), model["label"].to_pylist()
    if any(len(each(label)) != 1 or label.startswith('["') for label in (*true, *given)):
        return None
    labels = sorted({*true, *given})
    place = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, ([place[label] for label in true], [place[label] for label in given]), 1)
    return Confusion(tuple(labels), tuple(tuple(row) for row in counts.tolist()))


@dataclass(frozen=True)
class OfLabel:
    """How a model does on one label."""

    label: str
    rows: int
    """Test rows that have it."""
    precision: float | None
    """None where the model never gives it."""
    recall: float | None
    """None where no test row has it."""
    f1: float


def by_label(test: pa.Table, model: pa.Table) -> list[OfLabel]:
    """Every label of the rows and of the model, those of most rows first."""
    true = [each(label) for label in test["label"].to_pylist()]
    given = [each(label) for label in model["label"].to_pylist()]
    known = {label: place for place, label in enumerate(sorted({*_names(true), *_names(given)}))}
    is_true, is_given = (_marks(some, known) for some in (true, given))
    right, held, said = (np.asarray(part.sum(axis=1)) for part in (is_true.multiply(is_given), is_true, is_given))
    found = [
        OfLabel(
            label,
            int(held[place]),
            float(right[place] / said[place]) if said[place] else None,
            float(right[place] / held[place]) if held[place] else None,
            float(2 * right[place] / (held[place] + said[place])),
        )
        for label, place in known.items()
    ]
    return sorted(found, key=lambda one: (-one.rows, one.label))


def _names(labels: Sequence[tuple[str, ...]]) -> list[str]:
    return sorted({label for one in labels for label in one})


def _marks(labels: Sequence[tuple[str, ...]], known: dict[str, int]) -> sparse.csr_array:
    """[labels, rows], 1.0 where a row has the label."""
    pairs = [(known[label], row) for row, one in enumerate(labels) for label in set(one)]
    places = tuple(np.array(pairs, np.int64).reshape(-1, 2).T)
    return sparse.csr_array((np.ones(len(pairs)), places), shape=(len(known), len(labels)))
