"""What the members of an ensemble give for rows, and what their mixture gives: one row of a table per task.

Of a language model only the log-probability of each supervised token is kept, which is all that the likelihood of a
mixture needs; of a classifier its outputs, of a regression its numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Optional, TypeAlias

import numpy as np
import pyarrow as pa

from tuneline.data.records import label_codec
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.tasks import causal, classification, regression
from tuneline.fusion.ensembles import mixture_weights
from tuneline.fusion.ensembles.mixture_weights import Fitted
from tuneline.params import Evaluate, Task
from tuneline.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from tuneline.encoding.examples import Examples

Encode: TypeAlias = "Callable[[PreTrainedTokenizerBase, pa.Table, str], tuple[Examples, np.ndarray]]"
"""Tokenizer, rows, mode -> the tokens, and the number of the row that each example belongs to."""

_ROW, _VALUE = "row", "value:"


@dataclass(frozen=True)
class Outputs:
    """What one member gives for rows: one or more lines for each row."""

    rows: np.ndarray
    """The number of the row of each line, ascending."""
    values: np.ndarray
    """[lines, names]: of a language model the log-probability of a token, of the others an output."""
    names: tuple[str, ...]
    """The labels of a classifier, sorted; else one empty name."""

    def to_table(self) -> pa.Table:
        """For a file."""
        columns = {f"{_VALUE}{name}": self.values[:, place] for place, name in enumerate(self.names)}
        return pa.table({_ROW: self.rows, **columns})

    @classmethod
    def from_table(cls, table: pa.Table) -> "Outputs":
        """What `to_table` returned."""
        names = tuple(name.removeprefix(_VALUE) for name in table.column_names[1:])
        values = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)
        return cls(table[_ROW].to_numpy(), values, names)

    def of_rows(self, start: int, stop: int) -> "Outputs":
        """The lines of the rows from `start` to before `stop`, which are numbered from 0 again."""
        first, end = np.searchsorted(self.rows, [start, stop]).tolist()
        return Outputs(self.rows[first:end] - start, self.values[first:end], self.names)

    def count_not_finite(self) -> int:
        """How many rows have an output that is not a finite number."""
        return len(np.unique(self.rows[~np.isfinite(self.values).all(axis=1)]))


@dataclass(frozen=True)
class Mixture:
    """How models of one task are mixed. The outputs of all members have the same lines and names."""

    measure: Callable[[ModelToScore, pa.Table, Evaluate], Outputs]
    """Model, rows, section of params -> what it gives. Raises ModelError where it cannot be loaded."""
    fit: Callable[[pa.Table, Sequence[Outputs]], Fitted | None]
    """Rows, outputs of each member -> the weights that suit these rows best; None where no row can be used."""
    scores: Callable[[pa.Table, Sequence[Outputs], Sequence[float]], pa.Table]
    """Rows, outputs of each member, weights -> the score table of the mixture."""
    item: str
    """What a weight was fitted on, in words."""
    loss: str
    """What the weights minimise, in words."""
    encode: Optional[Encode] = None  # noqa: UP045 - the alias is a string
    """Gives the tokens, which must be the same for all members; None where they need not be."""


def _measure_tokens(model: ModelToScore, rows: pa.Table, evaluate: Evaluate, *, is_text: bool) -> Outputs:
    from tuneline.evaluation import generation, likelihood

    loaded, tokenizer, mode, length = generation.load(model)
    examples, row_of = causal.encode_rows(tokenizer, rows, mode, is_text=is_text)
    with Progress(f"{model.name}: likelihood", always=True) as progress:
        found = likelihood.per_token(
            loaded,
            examples,
            _log_probabilities,
            max_length=length,
            batch_size=evaluate.batch_size,
            progress=progress,
        )
    values = np.concatenate([np.zeros(0), *found])
    return Outputs(np.repeat(row_of, [len(one) for one in found]), values[:, None], ("",))


def _log_probabilities(logits: "torch.Tensor", tokens: "torch.Tensor") -> np.ndarray:
    from torch.nn import functional

    return -functional.cross_entropy(logits.float(), tokens, reduction="none").double().cpu().numpy()


def _fit_tokens(rows: pa.Table, outputs: Sequence[Outputs]) -> Fitted | None:
    found = np.stack([one.values[:, 0] for one in outputs])
    return mixture_weights.fit_likelihood(found) if found.size else None


def _token_scores(rows: pa.Table, outputs: Sequence[Outputs], weights: Sequence[float]) -> pa.Table:
    mixed = mixture_weights.mix(np.stack([one.values[:, 0] for one in outputs]), np.array(weights))
    row_of, count = outputs[0].rows, rows.num_rows
    return causal.scores(
        tokens=np.bincount(row_of, minlength=count), nll=np.bincount(row_of, weights=-mixed, minlength=count)
    )


def _measure_labels(model: ModelToScore, rows: pa.Table, evaluate: Evaluate) -> Outputs:
    from tuneline.evaluation import predictions

    config, found = predictions.measure(model, rows["text"].to_pylist(), evaluate, what="labels")
    names, _ = predictions.label_names(config)
    order = sorted(range(len(names)), key=names.__getitem__)
    return Outputs(np.arange(rows.num_rows), found[:, order], tuple(names[place] for place in order))


def _has_several(rows: pa.Table) -> bool:
    return any(rows["multilabel"].to_pylist())


def _label_log_probabilities(values: np.ndarray, *, several: bool) -> tuple[np.ndarray, np.ndarray]:
    """The log-probability of each label, and that of not having it, [rows, labels]; the second only with several."""
    if several:
        return -np.logaddexp(0, -values), -np.logaddexp(0, values)
    largest = values.max(axis=1, keepdims=True)
    found = values - largest - np.log(np.exp(values - largest).sum(axis=1, keepdims=True))
    return found, found


def _fit_labels(rows: pa.Table, outputs: Sequence[Outputs]) -> Fitted | None:
    several, names = _has_several(rows), outputs[0].names
    places = {name: place for place, name in enumerate(names)}
    pairs = zip(rows["label"].to_pylist(), rows["multilabel"].to_pylist(), strict=True)
    true = [label_codec.decode(label, multi_label=flag) for label, flag in pairs]
    # No member can give a label that it does not know, whatever the weights.
    known = [row for row, labels in enumerate(true) if set(labels) <= places.keys()]
    has = np.zeros((len(known), len(names)), bool)
    for row, place in enumerate(known):
        has[row, [places[label] for label in true[place]]] = True
    found = []
    for one in outputs:
        of_having, of_lacking = _label_log_probabilities(one.values[known], several=several)
        found.append(np.where(has, of_having, of_lacking).ravel() if several else of_having[has])
    return mixture_weights.fit_likelihood(np.stack(found)) if known else None


def _label_scores(rows: pa.Table, outputs: Sequence[Outputs], weights: Sequence[float]) -> pa.Table:
    from tuneline.evaluation import predictions

    several, shares = _has_several(rows), np.array(weights)
    parts = [_label_log_probabilities(one.values, several=several) for one in outputs]
    having, lacking = (mixture_weights.mix(np.stack(part), shares) for part in zip(*parts, strict=True))
    # The probabilities that these outputs stand for are those of the mixture.
    mixed = having - lacking if several else having
    return classification.scores(*predictions.labels(mixed, list(outputs[0].names), several=several))


def _measure_numbers(model: ModelToScore, rows: pa.Table, evaluate: Evaluate) -> Outputs:
    found = regression.measure(model, rows, evaluate)["value"].to_numpy()
    return Outputs(np.arange(rows.num_rows), found[:, None], ("",))


def _fit_numbers(rows: pa.Table, outputs: Sequence[Outputs]) -> Fitted | None:
    if not rows.num_rows:
        return None
    return mixture_weights.fit_numbers(np.stack([one.values[:, 0] for one in outputs]), rows["label"].to_numpy())


def _number_scores(rows: pa.Table, outputs: Sequence[Outputs], weights: Sequence[float]) -> pa.Table:
    return regression.scores(np.array(weights) @ np.stack([one.values[:, 0] for one in outputs]))


def _of_tokens(*, is_text: bool) -> Mixture:
    return Mixture(
        partial(_measure_tokens, is_text=is_text),
        _fit_tokens,
        _token_scores,
        item="tokens",
        loss="nats per token",
        encode=partial(causal.encode_rows, is_text=is_text),
    )


MIXTURES: dict[Task, Mixture] = {
    "sft": _of_tokens(is_text=False),
    "language-modeling": _of_tokens(is_text=True),
    "classification": Mixture(_measure_labels, _fit_labels, _label_scores, item="labels", loss="nats per label"),
    "regression": Mixture(_measure_numbers, _fit_numbers, _number_scores, item="numbers", loss="squared error"),
}
"""A task that is not here has no ensembles."""
