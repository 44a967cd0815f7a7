"""One model measured on test rows, as its task wants it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline.encoding.encode import IGNORED, Example, encode_preferences
from tuneline.encoding.mode import mode_of
from tuneline.evaluation import generation, likelihood, predictions, timing
from tuneline.evaluation.metrics import chrf
from tuneline.evaluation.tasks import causal, classification, preference, regression
from tuneline.evaluation.test_tokens import of_rows
from tuneline.modeling import models
from tuneline.params import Evaluate, Task
from tuneline.progress import Progress


def measure(
    folder: Path,
    rows: pa.Table,
    task: Task,
    evaluate: Evaluate,
    *,
    max_length: int,
    name: str,
    like: Path | None = None,
    base: pa.Table | None = None,
    tokens_in: Path | None = None,
    count: int = 1,
) -> pa.Table:
    """Measure one model.

    Args:
        folder: the model's.
        rows: what it is asked.
        task: what was learnt.
        evaluate: the section of params.
        max_length: tokens that the model sees at once, less where it cannot see as many.
        name: what the lines of progress call the model.
        like: a model whose way of making tokens is used instead of its own: a base is asked as what was made of it.
        base: of a preference, the scores that rewards are counted from; None: the model is the base itself.
        tokens_in: the folder where the tokens of texts, pairs and conversations are kept; None: in memory.
        count: models of this size that are measured, this one included, for what is said beforehand of the time that it
            takes; 0: nothing is said.

    Returns:
        The scores, a line a row.

    Raises:
        ModelError: the folder holds no model that can be loaded.
    """
    if task in ("classification", "regression"):
        return _of_head(folder, rows, task, evaluate, max_length, name)
    model, tokenizer = models.load(folder)
    if like is not None:
        tokenizer = models.load_tokenizer(like)
    mode = mode_of(folder if like is None else like)

    length = min(max_length, generation.context_length(model, max_length))

    def announce(examples: Sequence[Example], prompts: Sequence[Any]) -> None:
        if count:
            timing.announce(
                model,
                tokenizer,
                examples,
                prompts,
                mode=mode,
                max_length=length,
                evaluate=evaluate,
                count=count,
                can_choose=task == "sft",
            )

    def score(examples: Sequence[Example], what: str) -> tuple[np.ndarray, np.ndarray]:
        with Progress(f"{name}: {what}", always=True) as progress:
            scored = likelihood.score(
                model,
                examples,
                max_length=length,
                batch_size=evaluate.batch_size,
                progress=progress,
            )
        return np.array([one.nll for one in scored], float), np.array([one.tokens for one in scored], np.int64)

    if task == "preference":
        pairs = encode_preferences(tokenizer, rows.select(["prompt", "chosen", "rejected"]).to_pylist(), mode)
        better = [_answered(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
        worse = [_answered(pair.prompt_ids, pair.rejected_ids) for pair in pairs]
        announce([*better, *worse], [])
        nll, tokens = score(better, "chosen")
        rejected, _ = score(worse, "rejected")
        return preference.scores(tokens, nll, rejected, base)
    # A conversation may be several examples, one an answer; its likelihood is that of all of them.
    examples, row_of = of_rows(tokenizer, rows, task, mode, tokens_in)
    asked = np.flatnonzero(rows["answered"].to_numpy())
    prompts = prompts_of(rows.take(asked))
    announce(examples, prompts)
    each, counts = score(examples, "likelihood")
    nll, tokens = np.zeros(rows.num_rows), np.zeros(rows.num_rows, np.int64)
    np.add.at(nll, row_of, each)
    np.add.at(tokens, row_of, counts)
    with Progress(f"{name}: answers", always=True) as progress:
        answers = generation.generate(
            model,
            tokenizer,
            prompts,
            mode=mode,
            max_new_tokens=evaluate.max_new_tokens,
            batch_size=evaluate.batch_size,
            progress=progress,
        )
    texts: list[str | None] = [None] * rows.num_rows
    for place, answer in zip(asked.tolist(), answers, strict=True):
        texts[place] = answer
    marks = np.full(rows.num_rows, np.nan)
    if task == "sft":
        marks[asked] = chrf(answers, rows["reference"].take(asked).to_pylist())
    return causal.scores(tokens=tokens, nll=nll, texts=texts, chrf=marks)


def foresee(
    folder: Path, rows: pa.Table, task: Task, evaluate: Evaluate, *, max_length: int, count: int
) -> tuple[timing.Work, timing.Foreseen]:
    """What measuring a model on texts, pairs or conversations will take on this machine; some rows are tried out.

    Args:
        folder: the model's.
        rows: what it is asked, at least one.
        task: what was learnt, none with a head and not preference.
        evaluate: the section of params.
        max_length: tokens that the model sees at once, less where it cannot see as many.
        count: models of this size that are measured.

    Raises:
        ModelError: the folder holds no model that can be loaded.
    """
    model, tokenizer = models.load(folder)
    mode = mode_of(folder)
    examples, _ = of_rows(tokenizer, rows, task, mode)
    prompts = prompts_of(rows.take(np.flatnonzero(rows["answered"].to_numpy())))
    return timing.of(
        model,
        tokenizer,
        examples,
        prompts,
        mode=mode,
        max_length=min(max_length, generation.context_length(model, max_length)),
        evaluate=evaluate,
        count=count,
    )


def _of_head(folder: Path, rows: pa.Table, task: Task, evaluate: Evaluate, max_length: int, name: str) -> pa.Table:
    model, tokenizer = models.load_classifier(folder)
    with Progress(f"{name}: {'labels' if task == 'classification' else 'numbers'}", always=True) as progress:
        found = predictions.outputs(
            model,
            tokenizer,
            rows["text"].to_pylist(),
            max_length=min(max_length, generation.context_length(model, max_length)),
            batch_size=evaluate.batch_size,
            progress=progress,
        )
    if task == "regression":
        return regression.scores(found[:, 0])
    names, several = predictions.names_of(model.config)
    return classification.scores(*predictions.labels(found, names, several=several))


def prompts_of(rows: pa.Table) -> list[Any]:
    """What a model is asked: the prompts as written, or the conversations.

    Args:
        rows: of `causal.rows_of`.
    """
    if "messages" in rows.column_names:
        return rows.select(["messages", "tools"]).to_pylist()
    return rows["prompt"].to_pylist()


def _answered(prompt: list[int], answer: list[int]) -> Example:
    labels = [IGNORED] * len(prompt) + answer
    return Example(prompt + answer, labels if prompt else [IGNORED, *labels[1:]])
