"""Train a model from the newest complete checkpoint to the end. A kill does not change a byte of the result."""

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from tuneline.encoding.examples import lengths
from tuneline.encoding.packing import Rows, plan
from tuneline.errors import TrainingError
from tuneline.modeling import adapters
from tuneline.training import training_config
from tuneline.training.log import History
from tuneline.training.objectives import Causal, Objective
from tuneline.training.trainer import Log, ObjectiveTrainer, RepeatableTrainer, ShardedTrainer
from tuneline.training.training_config import TrainingConfig


@dataclass(frozen=True)
class Training:
    """The result of a training."""

    model: PreTrainedModel
    """The trained model; adapters are merged into it."""
    adapter: adapters.Adapter | None
    """The adapters alone."""
    history: History
    packed: bool
    """Whether a row held several documents; False too if the model's family does not allow it."""
    best: int | None
    """The step of the weights if the best weights are kept."""
    stopped_early: bool
    times: np.ndarray | None = None
    """[examples] how often each example was shown; None while it is not counted."""

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return int(self.history.lines[-1]["step"]) if self.history.lines else 0

    def counts(self) -> dict[str, Any]:
        """Steps and tokens; the tokens of every epoch are counted."""
        counts = {
            "steps": self.steps,
            "tokens": self.history.tokens,
            "supervised_tokens": self.history.supervised_tokens,
            "packed": self.packed,
        }
        return counts if self.best is None else counts | {"best_step": self.best, "stopped_early": self.stopped_early}


def train(
    model: PreTrainedModel,
    examples: Sequence[Any],
    config: TrainingConfig,
    *,
    pad: int,
    folder: Path,
    objective: Objective | None = None,
    lora: dict[str, Any] | None = None,
    validation: Sequence[Any] = (),
    of_epoch: Callable[[int], Sequence[int]] | None = None,
    log: Log | None = None,
) -> Training:
    """Train `model` in place, from the newest complete checkpoint in `folder` if there is one.

    Args:
        model: the model.
        examples: the training examples; none is longer than the config's `max_length`.
        config: how to train.
        pad: id of the padding token.
        folder: the checkpoints of exactly this training.
        objective: defines the loss; None: the next token of each document.
        lora: arguments of LoraConfig; adapters are trained instead of the weights.
        validation: examples that are measured every `eval_steps` steps and at the end.
        of_epoch: gives the examples of an epoch, as in `packing.plan`.
        log: called with the measures of each logged step.

    Raises:
        TrainingError: nothing can be trained, or the loss is not finite.
    """
    _check(examples, validation, config)
    objective = objective or Causal.for_model(model, examples, pad=pad, packing=config.packing)
    wrapped = adapters.wrap(model, lora, config.seed) if lora else model
    rows = planned_rows(examples, validation, config, packed=objective.packed, of_epoch=of_epoch)
    trainer = (ShardedTrainer if config.fsdp else ObjectiveTrainer)(
        wrapped,
        training_config.arguments(config, folder, evaluate=bool(validation)),
        objective=objective,
        train_dataset=Rows(examples, rows),
        validation=validation,
    )
    trainer.fit(config, folder=folder, sources=sources(examples, rows), log=log)
    trained = result(trainer, wrapped, lora=bool(lora), packed=objective.packed)
    return counted(trained, rows, len(examples), config)


def counted(trained: Training, rows: Sequence[Sequence[int]], examples: int, config: TrainingConfig) -> Training:
    """The training with the number of times that each example was shown.

    Args:
        trained: the result of a trainer.
        rows: the planned rows.
        examples: the number of examples.
        config: how it was trained.
    """
    taken = rows[: trained.steps * config.rows_per_step]
    shown = np.fromiter(itertools.chain.from_iterable(taken), np.int64)
    return replace(trained, times=np.bincount(shown, minlength=examples))


def untrained(model: PreTrainedModel, examples: int) -> Training:
    """A training of zero epochs, which leaves the model as it is.

    Args:
        model: the model.
        examples: number of training examples.
    """
    return Training(model, None, History(), False, None, False, np.zeros(examples, np.int64))


def result(trainer: RepeatableTrainer, model: PreTrainedModel, *, lora: bool, packed: bool) -> Training:
    """The result of a trainer whose `fit` has returned.

    Args:
        trainer: the trainer.
        model: the trained model, with its adapters if there are any.
        lora: whether it has adapters.
        packed: whether a row held several documents.
    """
    adapter = adapters.extract(model) if lora else None
    trained = adapters.merge(model) if lora else model
    return Training(trained, adapter, trainer.history, packed, trainer.best_step, trainer.is_stopped)


def planned_rows(
    examples: Sequence[Any],
    validation: Sequence[Any],
    config: TrainingConfig,
    *,
    packed: bool,
    of_epoch: Callable[[int], Sequence[int]] | None = None,
) -> list[list[int]]:
    """The rows of the whole training in their order: the numbers of the examples in each row.

    Args:
        examples: the training examples.
        validation: the validation examples.
        config: how to train.
        packed: whether a row may hold several documents.
        of_epoch: gives the examples of an epoch, as in `packing.plan`.

    Raises:
        TrainingError: there is nothing to train on, or the training is shorter than its warm-up.
    """
    _check(examples, validation, config)
    rows = plan(
        lengths(examples),
        width=config.max_length,
        batch_size=config.rows_per_batch,
        epochs=config.num_train_epochs,
        seed=config.seed,
        packed=packed,
        limit=config.max_rows,
        of_epoch=of_epoch,
    )
    steps = config.steps(len(rows))
    if config.warmup_steps > steps:
        raise TrainingError(
            f"{config.section}.warmup_steps: the warm-up of {config.warmup_steps} steps is longer than the whole "
            f"training of {steps} steps, so the learning rate {config.learning_rate:g} is never reached; set it to a "
            "share of all steps such as 0.05, or train for more epochs"
        )
    return rows


def _check(examples: Sequence[Any], validation: Sequence[Any], config: TrainingConfig) -> None:
    if not examples:
        raise TrainingError("no training row has a label; look at the training split and at max_length")
    if config.keeps_best and not validation:
        raise TrainingError(
            f"{config.section}.early_stopping_patience: the best weights cannot be found without validation rows; "
            "raise data.split.validation, or set early_stopping_patience to null"
        )


def sources(examples: Sequence[Any], rows: Sequence[Sequence[int]]) -> Callable[[slice], list[str]]:
    """A function that gives the sources of the documents in some planned rows.

    A source is the file and line in the raw set, or the number of the row in the training split.
    """

    def find(part: slice) -> list[str]:
        documents = [document for row in rows[part] for document in row]
        return [getattr(examples[document], "source", "") or f"training row {document + 1}" for document in documents]

    return find


def delete_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a training whose model is saved. All processes must be done with them."""
    shutil.rmtree(folder, ignore_errors=True)
