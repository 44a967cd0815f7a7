"""What each task learns: how rows become a batch, its summed loss, and what validation measures.

A loss is a sum and the weight that it is divided by, so that batches of any size count as one: over an optimizer step
the sums are divided by the weight of all its batches.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

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
"""Name -> a sum and the weight that it is to be divided by."""


class Objective(Protocol):
    """A task, as far as the trainer must know it."""

    @property
    def packed(self) -> bool:
        """Whether a row may hold several documents."""
        ...

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Rows of examples as one batch, `tokens` in it: how many are real."""
        ...

    def weight(self, batch: Batch) -> Tensor:
        """What the batch's summed loss is to be divided by."""
        ...

    def learnt(self, batch: Batch) -> int:
        """Tokens that are learnt in the batch, or rows where rows are."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's summed loss, and its weight."""
        ...

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """What validation says: `loss`, and what else can be told of the task; the same names for no batch too."""
        ...

    def ceiling(self) -> float:
        """A mean loss that no sound training comes near."""
        ...


@dataclass(frozen=True)
class Causal:
    """The next token of a text, where it has a label: plain text, pairs and conversations.

    Args:
        pad: the token that fills rows up.
        packed: whether documents stand side by side.
        sparse: whether only learnt positions go through the model's output head.
        vocabulary: tokens that the model knows.
        smoothing: share of a label that is spread over the vocabulary, in training only.
    """

    pad: int
    packed: bool
    sparse: bool
    vocabulary: int
    smoothing: float = 0.0

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        examples: Sequence[Any],
        *,
        pad: int,
        packing: bool,
        smoothing: float = 0.0,
        sparse: bool = True,
    ) -> "Causal":
        """As fast as `model` allows: what it does not keep exact is left out, and said."""
        proof = forward.probe(examples)
        packed = packing and forward.allows_packing(model, proof)
        if packing and not packed:
            family = model.config.model_type
            print(f"{family} does not keep packed documents apart: training with a document a row", flush=True)
        vocabulary = int(model.config.get_text_config().vocab_size)
        return cls(pad, packed, sparse and forward.allows_sparse(model, proof), vocabulary, smoothing)

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """`packing.collate`."""
        return packing.collate(rows, self.pad)

    def weight(self, batch: Batch) -> Tensor:
        """Learnt tokens."""
        return (batch["targets"] != IGNORED).sum()

    def learnt(self, batch: Batch) -> int:
        """Learnt tokens."""
        return int(self.weight(batch))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood in nats, smoothed in training."""
        smoothing = self.smoothing if model.training else 0.0
        return forward.nll(model, batch, packed=self.packed, sparse=self.sparse, smoothing=smoothing)

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """The loss a token, every token of equal weight, a document a row whatever the family."""
        alone = Causal(self.pad, False, self.sparse, self.vocabulary)
        summed, count = 0.0, 0
        for batch in batches:
            nll, tokens = alone.loss(model, batch)
            summed += nll.item()
            count += int(tokens)
        return {"loss": (summed, count)}

    def ceiling(self) -> float:
        """Ten times what guessing costs."""
        return 10 * float(torch.tensor(float(self.vocabulary)).log())


@dataclass(frozen=True)
class Classification:
    """One label of a text, or any number of them.

    Args:
        pad: the token that fills rows up on the right.
        labels: how many there are.
        several: whether a text may have any number of them.
        weights: of the labels (with several: of their presence against their absence), or None.
        smoothing: share of a label that is spread over all, in training only; one label only.
    """

    pad: int
    labels: int
    several: bool
    weights: tuple[float, ...] | None = None
    smoothing: float = 0.0
    packed: bool = False

    @classmethod
    def of(
        cls,
        examples: Sequence[Any],
        *,
        pad: int,
        labels: int,
        several: bool,
        class_weights: Literal["balanced"] | None = None,
        smoothing: float = 0.0,
    ) -> "Classification":
        """The objective of the training examples.

        Raises:
            TrainingError: smoothing is asked for where several labels may stand together.
        """
        if several and smoothing:
            raise TrainingError(
                "finetune.label_smoothing_factor: has no meaning where a text may have several labels; set it to 0.0"
            )
        targets = torch.tensor([example.target for example in examples])
        weights = _balanced(targets, labels, several) if class_weights == "balanced" else None
        return cls(pad, labels, several, weights, smoothing)

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Rows of one example each, filled up on the right."""
        return _padded(rows, self.pad, torch.float if self.several else torch.long)

    def weight(self, batch: Batch) -> Tensor:
        """Rows, each as much as its label counts."""
        if self.several or self.weights is None:
            return torch.tensor(float(len(batch["targets"])))
        return torch.tensor(self.weights, device=batch["targets"].device)[batch["targets"]].sum()

    def learnt(self, batch: Batch) -> int:
        """Rows."""
        return len(batch["targets"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross entropy; with several labels the mean of each label's own."""
        return self._loss_of(_logits(model, batch), batch, smoothing=self.smoothing if model.training else 0.0)

    def _loss_of(self, logits: Tensor, batch: Batch, *, smoothing: float) -> tuple[Tensor, Tensor]:
        targets = batch["targets"]
        weights = None if self.weights is None else torch.tensor(self.weights, device=targets.device)
        if self.several:
            each = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
            return each.mean(dim=1).sum(), self.weight(batch)
        summed = functional.cross_entropy(logits, targets, weight=weights, reduction="sum", label_smoothing=smoothing)
        return summed, self.weight(batch)

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """The loss, weighted as in training, and the share of texts whose labels are all right."""
        summed = weight = right = rows = 0.0
        for batch in batches:
            logits = _logits(model, batch)
            loss, its_weight = self._loss_of(logits, batch, smoothing=0.0)
            summed, weight, rows = summed + loss.item(), weight + float(its_weight), rows + len(logits)
            if self.several:
                right += int(((logits > 0) == (batch["targets"] > 0.5)).all(dim=1).sum())
            else:
                right += int((logits.argmax(dim=1) == batch["targets"]).sum())
        return {"loss": (summed, weight), "accuracy": (right, rows)}

    def ceiling(self) -> float:
        """Logits this far off are no classification any more."""
        return 1000.0


@dataclass(frozen=True)
class Regression:
    """A number for a text, by squared error."""

    pad: int
    packed: bool = False

    def collate(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Rows of one example each, filled up on the right."""
        return _padded(rows, self.pad, torch.float)

    def weight(self, batch: Batch) -> Tensor:
        """Rows."""
        return torch.tensor(float(len(batch["targets"])))

    def learnt(self, batch: Batch) -> int:
        """Rows."""
        return len(batch["targets"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Squared errors, summed."""
        predicted = _logits(model, batch).squeeze(1)
        return functional.mse_loss(predicted, batch["targets"], reduction="sum"), self.weight(batch)

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> Measured:
        """Mean squared and mean absolute error."""
        squared = absolute = rows = 0.0
        for batch in batches:
            errors = _logits(model, batch).squeeze(1) - batch["targets"]
            squared += errors.square().sum().item()
            absolute += errors.abs().sum().item()
            rows += len(errors)
        return {"loss": (squared, rows), "absolute_error": (absolute, rows)}

    def ceiling(self) -> float:
        """A number can be as far off as it likes."""
        return float("inf")


def batches(objective: Objective, examples: Sequence[Any], size: int) -> Iterator[Batch]:
    """Validation examples in batches, those of nearly one length together, which wastes least."""
    tokens = lengths(examples)
    ordered = sorted(range(len(examples)), key=lambda place: tokens[place])
    for start in range(0, len(ordered), size):
        yield objective.collate([[examples[place]] for place in ordered[start : start + size]])


def _padded(rows: Sequence[Sequence[Any]], pad: int, kind: torch.dtype) -> Batch:
    examples = list(itertools.chain.from_iterable(rows))
    width = max(len(example.input_ids) for example in examples)
    rooms = [width - len(example.input_ids) for example in examples]
    return {
        "input_ids": torch.tensor([ex.input_ids + [pad] * room for ex, room in zip(examples, rooms, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - room) + [0] * room for room in rooms]),
        "targets": torch.tensor([example.target for example in examples], dtype=kind),
        "tokens": torch.tensor(sum(len(example.input_ids) for example in examples)),
    }


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """[rows, labels] in float32."""
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()


def _balanced(targets: Tensor, labels: int, several: bool) -> tuple[float, ...]:
    """Weights under which each label, or with several its presence and its absence, counts the same in the sum."""
    rows = len(targets)
    if several:
        present = targets.sum(dim=0)
        return tuple(float(value) for value in (rows - present) / present.clamp(min=1))
    counts = torch.bincount(targets, minlength=labels)
    return tuple(float(value) for value in rows / (labels * counts.clamp(min=1)))
