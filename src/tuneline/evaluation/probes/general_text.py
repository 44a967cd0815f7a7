"""Forgetting: the likelihood of general held-out text, before and after fine-tuning."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tuneline.core import information
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import metrics
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.probes import drawn_rows
from tuneline.evaluation.tasks import causal
from tuneline.params import Evaluate
from tuneline.progress import Progress

if TYPE_CHECKING:
    from tuneline.evaluation.generation import LoadedModel


def draw_rows(split: pa.Table, count: int, evaluate: Evaluate, form: RecordForm) -> pa.Table:
    """The general rows that are measured, drawn by the seed; with more than MOST_READ characters fewer than `count`.

    Args:
        split: the rows of a clean set.
        count: the number of rows, at most.
        evaluate: the section of params.
        form: of the records.
    """
    drawn = np.random.default_rng(evaluate.seed).permutation(split.num_rows)[:count]
    drawn = drawn[: drawn_rows.count_within(drawn_rows.characters(split)[drawn], drawn_rows.MOST_READ)]
    return as_answers(split.take(np.sort(drawn)), evaluate, form)


def as_answers(split: pa.Table, evaluate: Evaluate, form: RecordForm) -> pa.Table:
    """Rows of a clean set as prompts with references. A text is the answer to an empty prompt, which encodes alike."""
    if form.record_type == "text":
        empty = pa.array([""] * split.num_rows, pa.string())
        split = split.rename_columns({"text": "completion"}).append_column("prompt", empty)
    return causal.test_rows(split, evaluate, form).drop_columns(["answered"])


def measure(
    model: "LoadedModel", rows: pa.Table, evaluate: Evaluate, name: str, *, what: str = "general text"
) -> pa.Table:
    """The tokens and the negative log-likelihood of each row.

    Args:
        model: in memory.
        rows: from `draw_rows`.
        evaluate: the section of params.
        name: what the lines of progress call the model.
        what: what they call the rows.
    """
    from tuneline.evaluation import likelihood

    examples, row_of = causal.encode_rows(model.tokenizer, rows, model.mode, is_text=False)
    with Progress(f"{name}: {what}", always=True) as progress:
        scored = likelihood.score(
            model.model, examples, max_length=model.max_length, batch_size=evaluate.batch_size, progress=progress
        )
    nll, tokens = causal.sum_by_row(scored, row_of, rows.num_rows)
    return causal.scores(tokens=tokens, nll=nll)


def statistics(rows: pa.Table, model: pa.Table) -> list[Statistic]:
    """`general_bits_per_byte` of one model."""
    bits = information.bits(model["nll"].to_numpy())
    return [metrics.ratio("general_bits_per_byte", bits, rows["bytes"].to_numpy())]
