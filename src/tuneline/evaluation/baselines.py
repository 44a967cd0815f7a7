"""What costs nothing, scored on the same rows: a model that adds nothing to these is seen at once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from tuneline.evaluation import causal, classification, preference, regression, textbaselines
from tuneline.evaluation.metrics import chrf
from tuneline.params import Evaluate, Task
from tuneline.training import models
from tuneline.training.tokenization import IGNORED, encode_all


def measure(folder: Path, train: pa.Table, test: pa.Table, task: Task, evaluate: Evaluate) -> dict[str, pa.Table]:
    """The scores of every baseline that the task has, by name.

    Args:
        folder: the candidate's, whose tokens are counted.
        train: the training rows.
        test: the test rows.
        task: what is learnt.
        evaluate: the section of params.
    """
    if task == "classification":
        return {
            "majority": majority(train, test),
            "tfidf": textbaselines.classify(train, test, evaluate.seed),
        }
    if task == "regression":
        return {"mean": mean(train, test), "tfidf": textbaselines.estimate(train, test, evaluate.seed)}
    if task == "preference":
        return {"longer": preference.longer(test)}
    tokenizer, mode = models.load_tokenizer(folder), models.mode(folder)
    found = {"unigram": unigram(tokenizer, train, test, task, mode=mode)}
    return found | ({"copy": copy(test)} if task == "sft" else {})


def unigram(tokenizer: PreTrainedTokenizerBase, train: pa.Table, test: pa.Table, task: Task, *, mode: str) -> pa.Table:
    """Every token by its frequency in what training learns, blind to what stands before it.

    Args:
        tokenizer: the candidate's tokenizer.
        train: the training rows.
        test: the test rows.
        task: what is learnt.
        mode: how a record becomes tokens, as stored with the model.
    """
    counts: Counter[int] = Counter()
    for tokens in _measured(tokenizer, train, task, mode):
        counts.update(tokens)
    # Add one: a token that training never saw must not cost infinity.
    total = counts.total() + len(tokenizer)
    cost = np.full(len(tokenizer), np.log(total))
    seen = np.array(sorted(counts), np.int64)
    cost[seen] -= np.log(np.array([counts[token] for token in seen.tolist()], float) + 1)
    rows = _measured(tokenizer, test, task, mode)
    nll = np.array([cost[tokens].sum() for tokens in rows], float)
    return causal.scores(tokens=np.array([len(tokens) for tokens in rows], np.int64), nll=nll)


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


def _measured(tokenizer: PreTrainedTokenizerBase, rows: pa.Table, task: Task, mode: str) -> list[list[int]]:
    examples = encode_all(tokenizer, causal.records(rows, task), mode)
    return [[label for one in row for label in one.labels if label != IGNORED] for row in examples]
