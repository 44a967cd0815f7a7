"""Training from the newest whole checkpoint to the end: the same bytes, however often it was killed."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PrinterCallback

from tuneline.errors import TrainingError
from tuneline.training import checkpoints, loop, losses
from tuneline.training.history import History
from tuneline.training.optimizers import MuonAdamW
from tuneline.training.packing import Documents, Rows, collate, plan
from tuneline.training.recipes import Recipe
from tuneline.training.tokenization import Example


@dataclass(frozen=True)
class Training:
    """What a training leaves beside the model's new weights; the same after a kill as without one."""

    history: History
    steps: int
    packed: bool
    """Whether documents stood side by side; False too where the family did not allow it."""

    def counts(self) -> dict[str, Any]:
        """Steps, and tokens with every epoch counted."""
        return {
            "steps": self.steps,
            "tokens": self.history.tokens,
            "supervised_tokens": self.history.supervised_tokens,
            "packed": self.packed,
        }


def train(
    model: PreTrainedModel,
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    pad: int,
    folder: Path,
    validation: Sequence[Example] = (),
    log: loop.Log | None = None,
) -> Training:
    """Train `model` in place, from the newest whole checkpoint in `folder` if there is one.

    Args:
        model: a causal language model.
        examples: what to learn from, none longer than the recipe's `max_length`.
        recipe: how.
        pad: the token that fills rows up.
        folder: of the checkpoints of exactly this training.
        validation: measured every `eval_steps` and at the end.
        log: a tracker's ear.

    Returns:
        The log and the counts.

    Raises:
        TrainingError: there is nothing to learn, or the loss is no number any more.
    """
    if not examples:
        raise TrainingError("no row has anything to learn; look at the training split and at max_length")
    proof = losses.proof(examples)
    packed = recipe.packing and losses.allows_packing(model, proof)
    if recipe.packing and not packed:
        print(f"{_family(model)} does not keep packed documents apart: training with a document a row", flush=True)
    rows = plan(
        [len(example.input_ids) for example in examples],
        width=recipe.max_length,
        batch_size=recipe.per_device_train_batch_size,
        epochs=recipe.num_train_epochs,
        seed=recipe.seed,
        packed=packed,
        limit=_rows_at_most(recipe),
    )
    resumed = checkpoints.newest_good(folder)
    history = History.read(resumed / loop.HISTORY_FILE) if resumed else History()
    trainer = loop.RepeatableTrainer(
        model,
        loop.arguments(recipe, folder, evaluate=bool(validation)),
        data_collator=partial(collate, pad=pad),
        train_dataset=Rows(examples, rows),
        eval_dataset=Documents(validation) if validation else None,
        optimizers=(_optimizer(model, recipe), None),
        callbacks=[loop.LogLastStep()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.follow(history, folder, log, pad=pad, packed=packed, sparse=losses.allows_sparse(model, proof))
    if resumed:
        print(f"going on from {resumed}", flush=True)
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    return Training(history, trainer.state.global_step, packed)


def finished(folder: Path) -> None:
    """Delete the checkpoints of a training whose model is saved."""
    shutil.rmtree(folder, ignore_errors=True)


def _family(model: PreTrainedModel) -> str:
    return str(model.config.model_type)


def _rows_at_most(recipe: Recipe) -> float:
    if recipe.max_steps is None:
        return math.inf
    return recipe.max_steps * recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps


def _optimizer(model: PreTrainedModel, recipe: Recipe) -> torch.optim.Optimizer | None:
    if recipe.optim != "muon":
        return None
    return MuonAdamW(
        model,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adam_learning_rate=recipe.adam_learning_rate or recipe.learning_rate,
    )
