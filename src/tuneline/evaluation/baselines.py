"""Trivial baselines, scored on the same rows: a model that adds nothing to these is seen at once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from tuneline.encoding.encode import IGNORED
from tuneline.encoding.mode import mode_of
from tuneline.evaluation import word_baselines
from tuneline.evaluation.metrics import chrf
from tuneline.evaluation.tasks import causal, classification, preference, regression
from tuneline.evaluation.test_tokens import of_rows
from tuneline.modeling import models
from tuneline.params import Evaluate, Task


def measure(
    folder: Path,
    train: pa.Table,
    test: pa.Table,
    task: Task,
    evaluate: Evaluate,
    *,
    tokens_in: tuple[Path, Path] | None = None,
) -> dict[str, pa.Table]:
    """The scores of every baseline that the task has, by name.

    Args:
        folder: the candidate's, whose tokens are counted.
        train: the training rows.
        test: the test rows.
        task: what is learnt.
        evaluate: the section of params.
        tokens_in: the folders where the tokens of the training and the test rows are kept; None: in memory.
    """
    if task == "classification":
        return {
            "majority": majority(train, test),
            "tfidf": word_baselines.classify(train, test, evaluate.seed),
        }
    if task == "regression":
        return {"mean": mean(train, test), "tfidf": word_baselines.estimate(train, test, evaluate.seed)}
    if task == "preference":
        return {"longer": preference.longer(test)}
    tokenizer, mode = models.load_tokenizer(folder), mode_of(folder)
    found = {"unigram": unigram(tokenizer, train, test, task, mode=mode, tokens_in=tokens_in)}
    return found | ({"copy": copy(test)} if task == "sft" else {})


def unigram(
    tokenizer: PreTrainedTokenizerBase,
    train: pa.Table,
    test: pa.Table,
    task: Task,
    *,
    mode: str,
    tokens_in: tuple[Path, Path] | None = None,
) -> pa.Table:
    """Every token by its frequency in what training learns, blind to what stands before it.

    Args:
        tokenizer: the candidate's tokenizer.
        train: the training rows.
        test: the test rows.
        task: what is learnt.
        mode: how a record becomes tokens, as stored with the model.
        tokens_in: as for `measure`.
    """
    of_train, of_test = tokens_in or (None, None)
    counts: Counter[int] = Counter()
    for _, tokens in _measured(tokenizer, train, task, mode, of_train):
        counts.update(tokens)
    # Add one: a token that training never saw must not cost infinity.
    total = counts.total() + len(tokenizer)
    cost = np.full(len(tokenizer), np.log(total))
    seen = np.array(sorted(counts), np.int64)
    cost[seen] -= np.log(np.array([counts[token] for token in seen.tolist()], float) + 1)
    nll, count = np.zeros(test.num_rows), np.zeros(test.num_rows, np.int64)
    for row, tokens in _measured(tokenizer, test, task, mode, of_test):
        nll[row] += cost[tokens].sum()
        count[row] += len(tokens)
    return causal.scores(tokens=count, nll=nll)


def copy(test: pa.Table) -> pa.Table:
    """The prompt given back as its own answer."""
    asked = np.flatnonzero(test["answered"].to_numpy())
    marks = np.full(test.num_rows, np.nan)
    answered = test.take(asked)
    marks[asked] = chrf(causal.copied(answered), answered["reference"].to_pylist())
    return causal.scores(chrf=marks)


def majority(train: pa.Table, test: pa.Table) -> pa.Table:
    """The label, or the labels together, that most training rows have."""
    counts = Counter(train["label"].to_pylist())
    label = min(counts, key=lambda one: (-counts[one], one))
    share = counts[label] / counts.total()
    return classification.scores([label] * test.num_rows, np.full(test.num_rows, share))


def mean(train: pa.Table, test: pa.Table) -> pa.Table:
    """The mean of the training rows."""
    return regression.scores(np.full(test.num_rows, train["label"].to_numpy().mean()))


def _measured(
    tokenizer: PreTrainedTokenizerBase, rows: pa.Table, task: Task, mode: str, place: Path | None
) -> Iterator[tuple[int, list[int]]]:
    """Of every example its row, and the tokens that are learnt."""
    examples, row_of = of_rows(tokenizer, rows, task, mode, place)
    for row, example in zip(row_of.tolist(), examples, strict=True):
        yield row, [label for label in example.labels if label != IGNORED]
