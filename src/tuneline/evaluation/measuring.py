"""One model measured on test rows: the likelihood of every row, and answers where the rows want them."""

from pathlib import Path

import numpy as np

from tuneline.evaluation import generation, likelihood
from tuneline.evaluation.comparison import Rows, Scores
from tuneline.evaluation.metrics import chrf
from tuneline.evaluation.progress import printed
from tuneline.params import Evaluate
from tuneline.training import models


def measure(folder: Path, rows: Rows, evaluate: Evaluate, *, max_length: int, name: str) -> Scores:
    """Measure one model: the likelihood of every row, and answers where the rows want them.

    Args:
        folder: the model's.
        rows: what it is asked.
        evaluate: the section of params.
        max_length: tokens that the model sees at once, less where it cannot see as many.
        name: what the lines of progress call the model.

    Raises:
        ModelError: the folder holds no model that can be loaded.
    """
    model, tokenizer = models.load(folder)
    mode = models.mode(folder)
    scored = likelihood.score(
        model,
        tokenizer,
        rows.records,
        mode=mode,
        max_length=min(max_length, generation.context_length(model, max_length)),
        batch_size=evaluate.batch_size,
        progress=printed(f"{name}: likelihood"),
    )
    asked = [index for index, answered in enumerate(rows.answered) if answered]
    answers = generation.generate(
        model,
        tokenizer,
        [rows.prompts[index] for index in asked],
        mode=mode,
        max_new_tokens=evaluate.max_new_tokens,
        batch_size=evaluate.batch_size,
        progress=printed(f"{name}: answers"),
    )
    texts: list[str | None] = [None] * len(rows.ids)
    marks = np.full(len(rows.ids), np.nan)
    for index, answer in zip(asked, answers, strict=True):
        texts[index] = answer
    if rows.task == "sft":
        marks[asked] = chrf(answers, [rows.references[index] for index in asked])
    return Scores(
        np.array([score.nll for score in scored], np.float64),
        np.array([score.tokens for score in scored], np.int64),
        np.array([score.bytes for score in scored], np.int64),
        texts,
        marks,
    )
