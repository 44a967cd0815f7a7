"""The TF-IDF baseline: linear models of the words of a text, by scikit-learn at its usual settings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from tuneline.evaluation.words import is_unspaced

# Of a larger set this many rows are drawn: a trivial baseline must not take long.
_MOST_ROWS = 100_000
_MOST_FEATURES = 200_000


def predict_labels(
    train: Sequence[str], labels: Sequence[str], test: Sequence[str], seed: int
) -> tuple[list[str], np.ndarray]:
    """The label of each test text by logistic regression, and its probability.

    Args:
        train: the training texts.
        labels: their labels.
        test: the test texts.
        seed: of the draw from a large set.
    """
    drawn = _draw(len(train), seed)
    fitted, asked = _features([train[row] for row in drawn], test)
    model = LogisticRegression(max_iter=1000).fit(fitted, [labels[row] for row in drawn])
    probabilities = model.predict_proba(asked)
    return [str(model.classes_[place]) for place in probabilities.argmax(axis=1)], probabilities.max(axis=1)


def predict_label_sets(
    train: Sequence[str], labels: Sequence[tuple[str, ...]], test: Sequence[str], seed: int
) -> tuple[list[list[str]], np.ndarray]:
    """The labels of each test text, by one logistic regression per label, and the probability of the least sure.

    Args:
        train: the training texts.
        labels: the labels of each.
        test: the test texts.
        seed: of the draw from a large set.
    """
    drawn = _draw(len(train), seed)
    fitted, asked = _features([train[row] for row in drawn], test)
    labels = [labels[row] for row in drawn]
    names = sorted({label for one in labels for label in one})
    targets = np.array([[name in one for name in names] for one in labels], int)
    # A label of every row, or of none, cannot be fitted.
    varying = np.flatnonzero((targets.min(axis=0) == 0) & (targets.max(axis=0) == 1))
    probabilities = np.repeat(targets[:1].astype(float), len(test), axis=0)
    if varying.size:
        model = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(fitted, targets[:, varying])
        found = model.predict_proba(asked)
        # For a single label scikit-learn returns two columns: no and yes.
        probabilities[:, varying] = found[:, 1:] if varying.size == 1 else found
    given = [[names[place] for place in np.flatnonzero(row > 0.5)] for row in probabilities]
    return given, np.maximum(probabilities, 1 - probabilities).min(axis=1)


def predict_numbers(train: Sequence[str], numbers: np.ndarray, test: Sequence[str], seed: int) -> np.ndarray:
    """The number of each test text by ridge regression; arguments as in `predict_labels`."""
    drawn = _draw(len(train), seed)
    fitted, asked = _features([train[row] for row in drawn], test)
    return Ridge().fit(fitted, numbers[drawn]).predict(asked)


def _features(train: Sequence[str], test: Sequence[str]) -> tuple[Any, Any]:
    """[rows, features], sparse: words and pairs of words, or one to three characters in a row."""
    if is_unspaced(train):
        how: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)}
    else:
        how = {"token_pattern": r"\w+", "ngram_range": (1, 2)}
    vectorizer = TfidfVectorizer(**how, sublinear_tf=True, max_features=_MOST_FEATURES)
    return vectorizer.fit_transform(train), vectorizer.transform(test)


def _draw(count: int, seed: int) -> list[int]:
    """The rows that are fitted, in order."""
    if count <= _MOST_ROWS:
        return list(range(count))
    return np.sort(np.random.default_rng(seed).permutation(count)[:_MOST_ROWS]).tolist()
