"""Linear models of which words stand in a text, by scikit-learn at its usual settings."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from tuneline.data.records.scripts import character_class
from tuneline.evaluation.tasks import classification, regression

# Of a larger set as many rows are drawn, which is enough for what is meant to cost nothing.
_MOST_ROWS = 100_000
_MOST_FEATURES = 200_000
_WITHOUT_SPACES = re.compile(character_class())
_LETTER = re.compile(r"\w")
_UNSPACED_SHARE = 0.2
_LOOKED_AT = 2000


def classify(train: pa.Table, test: pa.Table, seed: int) -> pa.Table:
    """TF-IDF and logistic regression; with several labels, one regression a label.

    Args:
        train: the training rows.
        test: the test rows.
        seed: draws rows from a large set.
    """
    train = _drawn(train, seed)
    learnt, asked = _features(train["text"].to_pylist(), test["text"].to_pylist())
    written = train["label"].to_pylist()
    names = sorted({label for one in written for label in classification.each(one)})
    if not any(one.startswith("[") for one in written):
        model = LogisticRegression(max_iter=1000).fit(learnt, written)
        chances = model.predict_proba(asked)
        return classification.scores(
            [str(model.classes_[place]) for place in chances.argmax(axis=1)], chances.max(axis=1)
        )
    targets = np.array([[name in classification.each(one) for name in names] for one in written], int)
    # What every row has, or none, leaves nothing to learn.
    varying = np.flatnonzero((targets.min(axis=0) == 0) & (targets.max(axis=0) == 1))
    chances = np.repeat(targets[:1].astype(float), test.num_rows, axis=0)
    if varying.size:
        model = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(learnt, targets[:, varying])
        found = model.predict_proba(asked)
        # Of a single label scikit-learn answers no and yes.
        chances[:, varying] = found[:, 1:] if varying.size == 1 else found
    given = [classification.written([names[place] for place in np.flatnonzero(row > 0.5)]) for row in chances]
    return classification.scores(given, np.maximum(chances, 1 - chances).min(axis=1))


def estimate(train: pa.Table, test: pa.Table, seed: int) -> pa.Table:
    """TF-IDF and ridge regression; arguments as in `classify`."""
    train = _drawn(train, seed)
    learnt, asked = _features(train["text"].to_pylist(), test["text"].to_pylist())
    return regression.scores(Ridge().fit(learnt, train["label"].to_numpy()).predict(asked))


def is_unspaced(texts: Sequence[str]) -> bool:
    """Whether blanks do not tell words apart, as in Chinese: then characters stand for words."""
    sample = list(itertools.islice(texts, _LOOKED_AT))
    letters = sum(len(_LETTER.findall(text)) for text in sample)
    return sum(len(_WITHOUT_SPACES.findall(text)) for text in sample) > _UNSPACED_SHARE * letters


def _features(train: Sequence[str], test: Sequence[str]) -> tuple[Any, Any]:
    """[rows, features], sparse: single words and pairs of them, or up to three characters in a row."""
    if is_unspaced(train):
        vectorizer = TfidfVectorizer(
            analyzer="char", ngram_range=(1, 3), sublinear_tf=True, max_features=_MOST_FEATURES
        )
    else:
        vectorizer = TfidfVectorizer(
            token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_FEATURES
        )
    return vectorizer.fit_transform(train), vectorizer.transform(test)


def _drawn(train: pa.Table, seed: int) -> pa.Table:
    if train.num_rows <= _MOST_ROWS:
        return train
    return train.take(np.sort(np.random.default_rng(seed).permutation(train.num_rows)[:_MOST_ROWS]))
