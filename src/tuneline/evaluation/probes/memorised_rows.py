"""Memorisation: which tokens of training rows a model would write itself, compared with held-out rows.

Exact memorisation is the share of the supervised tokens that are the model's most likely next token (Tirumala et al.,
2022, Memorization Without Overfitting, https://arxiv.org/abs/2205.10770). Extraction strength is the share of the
longest end of a row of which all tokens are: with the rest of the row as a prompt, greedy search writes this end
(Carlini et al., 2021, Extracting Training Data from Large Language Models, https://arxiv.org/abs/2012.07805). Both are
means over rows, as in https://github.com/locuslab/open-unlearning, with one difference: a row whose last token the
model would not write has strength 0 here, and 1 / tokens there.

A row that anybody can guess is not memorised, so each metric has a gap: training rows minus held-out rows.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import metrics
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.probes import drawn_rows, general_text
from tuneline.evaluation.tasks import causal
from tuneline.params import Evaluate
from tuneline.progress import Progress

if TYPE_CHECKING:
    from tuneline.evaluation.generation import LoadedModel

_OF_COLUMN = {"strength": "extraction_strength", "exact": "exact_memorization"}
"""Column of the score table -> metric."""


def draw_rows(train: pa.Table, held_out: pa.Table, count: int, evaluate: Evaluate, form: RecordForm) -> pa.Table:
    """As many training rows as held-out rows, drawn by the seed; `trained` says which they are.

    Where training rows or held-out rows have more than MOST_READ characters, there are fewer than `count` of both.

    Args:
        train: the clean training split, without canaries.
        held_out: the clean test split.
        count: the number of training rows, at most.
        evaluate: the section of params.
        form: of the records.
    """
    count = min(count, train.num_rows, held_out.num_rows)
    random = np.random.default_rng(evaluate.seed)
    splits, parts = (train, held_out), []
    orders = [random.permutation(split.num_rows)[:count] for split in splits]
    count = min(
        drawn_rows.count_within(drawn_rows.characters(split)[order], drawn_rows.MOST_READ)
        for split, order in zip(splits, orders, strict=True)
    )
    for split, order, is_trained in zip(splits, orders, (True, False), strict=True):
        part = general_text.as_answers(split.take(np.sort(order[:count])), evaluate, form)
        parts.append(part.append_column("trained", pa.array([is_trained] * count, pa.bool_())))
    return pa.concat_tables(parts)


def measure(model: "LoadedModel", rows: pa.Table, evaluate: Evaluate, name: str) -> pa.Table:
    """The `strength` and the `exact` share of each row; null for a row without supervised tokens.

    Args:
        model: in memory.
        rows: from `draw_rows`.
        evaluate: the section of params.
        name: what the lines of progress call the model.
    """
    from tuneline.evaluation import likelihood

    examples, row_of = causal.encode_rows(model.tokenizer, rows, model.mode, is_text=False)
    with Progress(f"{name}: memorised rows", always=True) as progress:
        recalled = likelihood.recall(
            model.model, examples, max_length=model.max_length, batch_size=evaluate.batch_size, progress=progress
        )
    hits: list[list[np.ndarray]] = [[] for _ in range(rows.num_rows)]
    for row, one in zip(row_of.tolist(), recalled, strict=True):
        hits[row].append(one)
    whole = [np.concatenate([np.zeros(0), *parts]) for parts in hits]
    of_column = {"strength": extraction_strength, "exact": exact_memorization}
    return pa.table(
        {
            column: pa.array([formula(one) if len(one) else None for one in whole], pa.float64())
            for column, formula in of_column.items()
        }
    )


def extraction_strength(hits: np.ndarray) -> float:
    """The share of the tokens in the longest end without a miss.

    Args:
        hits: [tokens], at least one: 1.0 where a supervised token is the model's most likely one, else 0.0; NaN where
            the model has no most likely token, with which the share is NaN too.
    """
    if np.isnan(hits).any():
        return float("nan")
    misses = np.flatnonzero(hits == 0)
    return float(len(hits) - (misses[-1] + 1 if len(misses) else 0)) / len(hits)


def exact_memorization(hits: np.ndarray) -> float:
    """The share of hits; arguments as in `extraction_strength`."""
    return float(hits.mean())


def statistics(rows: pa.Table, model: pa.Table) -> list[Statistic]:
    """Both metrics on training rows, and their gaps to held-out rows."""
    trained = rows["trained"].to_numpy(zero_copy_only=False).astype(float)
    found = []
    for column, name in _OF_COLUMN.items():
        # Null becomes NaN, which leaves the row out.
        values = model[column].to_numpy()
        columns = np.stack([trained * values, trained, (1 - trained) * values, 1 - trained])
        found += [
            metrics.ratio(name, columns[0], columns[1]),
            Statistic((f"{name}_gap",), columns, lambda sums: (sums[0] / sums[1] - sums[2] / sums[3])[None, :]),
        ]
    return found
