"""The objectives of training: how rows become a batch, its summed loss, and the measures of validation.

A loss is a sum and a weight. The sums of an optimizer step are divided by the weight of all its batches, so that the
result does not depend on how the rows are divided into batches.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from tuneline.encoding import packing
from tuneline.encoding.examples import IGNORED, lengths
from tuneline.errors import TrainingError
from tuneline.modeling import forward

Batch = dict[str, Tensor]
Measured = dict[str, tuple[float, float]]
"""Name -> a sum, and the weight that divides it."""


class Objective(Protocol):
    """What the trainer must know of a task."""

    @property
    def packed(self) -> bool:
        """Whether a row may hold several documents."""
        ...

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Rows of examples as one batch; its `tokens` is the number of tokens without padding."""
        ...

    def weight(self, batch: Batch) -> Tensor:
        """What the summed loss of the batch is divided by."""
        ...

    def supervised(self, batch: Batch) -> int:
        """Supervised tokens in the batch; for tasks with one label per row, the rows."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The summed loss of the batch, and its weight."""
        ...

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """The measures of validation: `loss` and others. Without a batch they have the same names."""
        ...

    def max_loss(self) -> float:
        """A mean loss above this value means that the training has diverged."""
        ...


@dataclass(frozen=True)
class Causal:
    """The next token of plain text, pairs and conversations, if that token has a label.

    Args:
        pad: id of the padding token.
        packed: whether a row holds several documents.
        sparse: whether only supervised positions go through the model's output head.
        vocabulary: number of tokens in the vocabulary.
        smoothing: share of a label that is spread over the vocabulary; in training only.
    """

    pad: int
    packed: bool
    sparse: bool
    vocabulary: int
    smoothing: float = 0.0

    @classmethod
    def for_model(
        cls,
        model: PreTrainedModel,
        examples: Sequence[Any],
        *,
        pad: int,
        packing: bool,
        smoothing: float = 0.0,
        sparse: bool = True,
    ) -> "Causal":
        """The objective with `packing` and `sparse` only if the model gives exact results with them."""
        probe = forward.probe(examples)
        packed = packing and forward.allows_packing(model, probe)
        if packing and not packed:
            family = model.config.model_type
            print(f"{family} does not keep packed documents apart: training with one document per row", flush=True)
        vocabulary = int(model.config.get_text_config().vocab_size)
        return cls(pad, packed, sparse and forward.allows_sparse(model, probe), vocabulary, smoothing)

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """`packing.collate`."""
        return packing.collate(rows, self.pad)

    def weight(self, batch: Batch) -> Tensor:
        """The number of supervised tokens."""
        return (batch["targets"] != IGNORED).sum()

    def supervised(self, batch: Batch) -> int:
        """The number of supervised tokens."""
        return int(self.weight(batch))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood in nats; in training with label smoothing."""
        smoothing = self.smoothing if model.training else 0.0
        return forward.nll(model, batch, packed=self.packed, sparse=self.sparse, smoothing=smoothing)

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """The loss per token, without packing and label smoothing."""
        alone = Causal(self.pad, False, self.sparse, self.vocabulary)
        summed, count = 0.0, 0
        for batch in batches:
            nll, tokens = alone.loss(model, batch)
            summed += nll.item()
            count += int(tokens)
        return {"loss": (summed, count)}

    def max_loss(self) -> float:
        """Ten times the loss of guessing."""
        return 10 * float(torch.tensor(float(self.vocabulary)).log())


@dataclass(frozen=True)
class Classification:
    """One label per text, or with `multi_label` any number of labels.

    Args:
        pad: id of the padding token, which fills rows on the right.
        labels: number of labels.
        multi_label: whether a text may have any number of labels.
        weights: the weight of each label, with multi_label of its presence; None: all are equal.
        smoothing: share of a label that is spread over all labels; in training and without multi_label.
    """

    pad: int
    labels: int
    multi_label: bool
    weights: tuple[float, ...] | None = None
    smoothing: float = 0.0
    packed: bool = False

    @classmethod
    def for_examples(
        cls,
        examples: Sequence[Any],
        *,
        pad: int,
        labels: int,
        multi_label: bool,
        class_weights: Literal["balanced"] | None = None,
        smoothing: float = 0.0,
        times: np.ndarray | None = None,
    ) -> "Classification":
        """The objective for some training examples.

        Args:
            examples: the examples.
            pad: as of the class; so are labels, multi_label and smoothing.
            labels: of the class.
            multi_label: of the class.
            class_weights: `balanced`: each label gets the same total weight.
            smoothing: of the class.
            times: [examples] how often an epoch shows each; None: once.

        Raises:
            TrainingError: label smoothing is asked for, and a text may have several labels.
        """
        if multi_label and smoothing:
            raise TrainingError(
                "finetune.label_smoothing_factor: has no meaning if a text may have several labels; set it to 0.0"
            )
        targets = torch.tensor([example.target for example in examples])
        weights = _balanced(targets, labels, multi_label, times) if class_weights == "balanced" else None
        return cls(pad, labels, multi_label, weights, smoothing)

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Rows of one example each, with padding on the right."""
        return _padded(rows, self.pad, torch.float if self.multi_label else torch.long)

    def weight(self, batch: Batch) -> Tensor:
        """The number of rows, each multiplied by the weight of its label."""
        if self.multi_label or self.weights is None:
            return torch.tensor(float(len(batch["targets"])))
        return torch.tensor(self.weights, device=batch["targets"].device)[batch["targets"]].sum()

    def supervised(self, batch: Batch) -> int:
        """The number of rows."""
        return len(batch["targets"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed cross entropy; with multi_label the mean over the labels."""
        return self._loss_of(_logits(model, batch), batch, smoothing=self.smoothing if model.training else 0.0)

    def _loss_of(self, logits: Tensor, batch: Batch, *, smoothing: float) -> tuple[Tensor, Tensor]:
        targets = batch["targets"]
        weights = None if self.weights is None else torch.tensor(self.weights, device=targets.device)
        if self.multi_label:
            each = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
            return each.mean(dim=1).sum(), self.weight(batch)
        summed = functional.cross_entropy(logits, targets, weight=weights, reduction="sum", label_smoothing=smoothing)
        return summed, self.weight(batch)

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """The loss with the weights of training, and the share of texts whose labels are all right."""
        summed = weight = right = rows = 0.0
        for batch in batches:
            logits = _logits(model, batch)
            loss, its_weight = self._loss_of(logits, batch, smoothing=0.0)
            summed, weight, rows = summed + loss.item(), weight + float(its_weight), rows + len(logits)
            if self.multi_label:
                right += int(((logits > 0) == (batch["targets"] > 0.5)).all(dim=1).sum())
            else:
                right += int((logits.argmax(dim=1) == batch["targets"]).sum())
        return {"loss": (summed, weight), "accuracy": (right, rows)}

    def max_loss(self) -> float:
        """A loss of logits that have diverged."""
        return 1000.0


@dataclass(frozen=True)
class Regression:
    """A number for a text, trained with the squared error."""

    pad: int
    packed: bool = False

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Rows of one example each, with padding on the right."""
        return _padded(rows, self.pad, torch.float)

    def weight(self, batch: Batch) -> Tensor:
        """The number of rows."""
        return torch.tensor(float(len(batch["targets"])))

    def supervised(self, batch: Batch) -> int:
        """The number of rows."""
        return len(batch["targets"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of the squared errors."""
        predicted = _logits(model, batch).squeeze(1)
        return functional.mse_loss(predicted, batch["targets"], reduction="sum"), self.weight(batch)

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """The squared and the absolute error."""
        squared = absolute = rows = 0.0
        for batch in batches:
            errors = _logits(model, batch).squeeze(1) - batch["targets"]
            squared += errors.square().sum().item()
            absolute += errors.abs().sum().item()
            rows += len(errors)
        return {"loss": (squared, rows), "absolute_error": (absolute, rows)}

    def max_loss(self) -> float:
        """Infinite: numbers of any size can be trained on."""
        return float("inf")


def batches(objective: Objective, examples: Sequence[Any], size: int) -> Iterator[Batch]:
    """Validation examples in batches of similar lengths, so that there is little padding."""
    tokens = lengths(examples)
    ordered = sorted(range(len(examples)), key=lambda number: tokens[number])
    for start in range(0, len(ordered), size):
        yield objective.collate([[examples[number]] for number in ordered[start : start + size]])


def _padded(rows: Sequence[Sequence[Any]], pad: int, kind: torch.dtype) -> Batch:
    examples = list(itertools.chain.from_iterable(rows))
    width = max(len(example.input_ids) for example in examples)
    padding = [width - len(example.input_ids) for example in examples]
    return {
        "input_ids": torch.tensor([ex.input_ids + [pad] * count for ex, count in zip(examples, padding, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - count) + [0] * count for count in padding]),
        "targets": torch.tensor([example.target for example in examples], dtype=kind),
        "tokens": torch.tensor(sum(len(example.input_ids) for example in examples)),
    }


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """[rows, labels] in float32."""
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()


def _balanced(targets: Tensor, labels: int, multi_label: bool, times: np.ndarray | None) -> tuple[float, ...]:
    """Weights that give each label, or with multi_label its presence and its absence, the same total weight."""
    rows = len(targets)
    if times is not None:
        often, shown = torch.from_numpy(times), float(times.sum())
        if multi_label:
            present = often @ targets.double()
            return tuple(float(value) for value in (shown - present) / present.clamp(min=1))
        counts = torch.bincount(targets, weights=often, minlength=labels)
        return tuple(float(value) for value in shown / (labels * counts.clamp(min=1)))
    if multi_label:
        present = targets.sum(dim=0)
        return tuple(float(value) for value in (rows - present) / present.clamp(min=1))
    counts = torch.bincount(targets, minlength=labels)
    return tuple(float(value) for value in rows / (labels * counts.clamp(min=1)))
