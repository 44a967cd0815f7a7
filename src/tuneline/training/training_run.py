"""Training from the newest whole checkpoint to the end: the same bytes, however often it was killed."""

import itertools
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback

from tuneline.encoding.examples import lengths
from tuneline.encoding.packing import Rows, plan
from tuneline.errors import TrainingError
from tuneline.modeling import adapters
from tuneline.training import checkpoints, distributed, fsdp, loop, training_config
from tuneline.training.log import History
from tuneline.training.objectives import Causal, Objective
from tuneline.training.training_config import Recipe


@dataclass(frozen=True)
class Training:
    """What a training leaves; the same after a kill as without one."""

    model: PreTrainedModel
    """The trained model: the one that was handed in, or with adapters what they were merged into."""
    adapter: adapters.Adapter | None
    """The adapters by themselves."""
    history: History
    packed: bool
    """Whether documents stood side by side; False too where the family did not allow it."""
    best: int | None
    """The step whose weights these are, where the best are kept."""
    stopped_early: bool
    times: np.ndarray | None = None
    """[examples] How often each was shown; None where it was not counted."""

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return int(self.history.lines[-1]["step"])

    def counts(self) -> dict[str, Any]:
        """Steps, and tokens with every epoch counted."""
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
    recipe: Recipe,
    *,
    pad: int,
    folder: Path,
    objective: Objective | None = None,
    lora: dict[str, Any] | None = None,
    validation: Sequence[Any] = (),
    of_epoch: Callable[[int], Sequence[int]] | None = None,
    log: loop.Log | None = None,
) -> Training:
    """Train `model` in place, from the newest whole checkpoint in `folder` if there is one.

    Args:
        model: what is trained.
        examples: what to learn from, none longer than the recipe's `max_length`.
        recipe: how.
        pad: the token that fills rows up.
        folder: of the checkpoints of exactly this training.
        objective: the task's; None: the next token of each document.
        lora: train adapters of this LoraConfig instead of the weights.
        validation: measured every `eval_steps` and at the end.
        of_epoch: the examples that an epoch takes, as in `packing.plan`.
        log: a tracker's ear.

    Returns:
        The model, the log and the counts.

    Raises:
        TrainingError: there is nothing to learn, or the loss is no number any more.
    """
    require(examples, validation, recipe)
    objective = objective or Causal.of(model, examples, pad=pad, packing=recipe.packing)
    wrapped = adapters.wrap(model, lora, recipe.seed) if lora else model
    rows = plan(
        lengths(examples),
        width=recipe.max_length,
        batch_size=recipe.rows_of_a_batch,
        epochs=recipe.num_train_epochs,
        seed=recipe.seed,
        packed=objective.packed,
        limit=rows_at_most(recipe),
        of_epoch=of_epoch,
    )
    check_warmup(recipe, recipe.steps(len(rows)))
    resumed, history = resume(folder, log)
    kind = fsdp.ShardedTrainer if recipe.fsdp else loop.ObjectiveTrainer
    trainer = kind(
        wrapped,
        training_config.arguments(recipe, folder, evaluate=bool(validation)),
        objective=objective,
        train_dataset=Rows(examples, rows),
        validation=validation,
    )
    course = loop.Course(
        recipe=recipe,
        history=history,
        folder=folder,
        tell=log,
        sources=sources(examples, rows),
        weight=objective.weight,
        ceiling=objective.ceiling(),
    )
    run(trainer, course, resumed)
    adapter = adapters.extract(wrapped) if lora else None
    trained = adapters.merge(wrapped) if lora else model
    made = Training(trained, adapter, history, objective.packed, course.best, course.is_stopped)
    taken = rows[: made.steps * recipe.gradient_accumulation_steps * recipe.rows_of_a_batch]
    shown = np.fromiter(itertools.chain.from_iterable(taken), np.int64)
    return replace(made, times=np.bincount(shown, minlength=len(examples)))


def run(trainer: loop.RepeatableTrainer, course: loop.Course, resumed: Path | None) -> None:
    """Let a trainer follow its course to the end, and take the best weights where they are what is kept.

    Args:
        trainer: made for the course's rows.
        course: what to follow.
        resumed: the checkpoint to go on from.
    """
    trainer.follow(course)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_EveryStep(trainer))
    if resumed:
        print(f"going on from {resumed}", flush=True)
    # A kill may have come after the last evaluation, which had already ended the training.
    if not course.is_stopped:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if course.is_stopped:
        print(f"stopped: {course.recipe.best_measure} has not been better since step {course.best}", flush=True)
    # accelerate's own way of calling a model in bfloat16 is no part of it.
    vars(cast(Any, trainer.model)).pop("forward", None)
    if course.best is not None:
        trainer.load_weights(checkpoints.of_step(course.folder, course.best))
    # The first process deletes the checkpoints in the end.
    distributed.wait()


class _EveryStep(TrainerCallback):
    """Every step is told to whoever waits, and the last is logged too, where it is no multiple of `logging_steps`."""

    def __init__(self, trainer: loop.RepeatableTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Tell the step; ask for a line of the log at the last one."""
        self._trainer.tell_step()
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control


def require(examples: Sequence[Any], validation: Sequence[Any], recipe: Recipe) -> None:
    """Refuse what cannot be trained.

    Raises:
        TrainingError: nothing is to be learnt, or the best weights are asked for and nothing says which they are.
    """
    if not examples:
        raise TrainingError("no row has anything to learn; look at the training split and at max_length")
    if recipe.keeps_best and not validation:
        raise TrainingError(
            f"{recipe.section}.early_stopping_patience: no validation row says which weights are best; raise "
            "data.split.validation, or set it to null"
        )


def check_warmup(recipe: Recipe, steps: int) -> None:
    """Refuse a training that ends before its learning rate is reached.

    Args:
        recipe: how to train.
        steps: optimizer steps of the whole training.

    Raises:
        TrainingError: the warm-up is longer than the training.
    """
    if recipe.warmup_steps > steps:
        raise TrainingError(
            f"{recipe.section}.warmup_steps: {recipe.warmup_steps} steps of warm-up, but the whole training has only "
            f"{steps}, so that the learning rate {recipe.learning_rate:g} is never reached; set it to a share of all "
            "steps such as 0.05, or train for more epochs"
        )


def resume(folder: Path, log: loop.Log | None) -> tuple[Path | None, History]:
    """The newest whole checkpoint and its log, which is told again from the beginning: the listener may lack some."""
    # The first process deletes what is broken before any other looks.
    resumed = distributed.from_first(checkpoints.newest_good(folder) if distributed.rank() == 0 else None)
    history = History.read(resumed / loop.HISTORY_FILE) if resumed else History()
    for line in history.lines if log else ():
        assert log is not None
        log(int(line["step"]), {name: value for name, value in line.items() if name != "step"})
    return resumed, history


def sources(examples: Sequence[Any], rows: Sequence[Sequence[int]]) -> Callable[[slice], list[str]]:
    """Where the documents of some rows of a plan come from: their place in the raw set, or in the training split."""

    def find(part: slice) -> list[str]:
        documents = [document for row in rows[part] for document in row]
        return [getattr(examples[document], "source", "") or f"training row {document + 1}" for document in documents]

    return find


def rows_at_most(recipe: Recipe) -> float:
    """Rows that the recipe's steps can take."""
    if recipe.max_steps is None:
        return math.inf
    return recipe.max_steps * recipe.rows_of_a_batch * recipe.gradient_accumulation_steps


def finished(folder: Path) -> None:
    """Delete the checkpoints of a training whose model is saved; all processes are through with them."""
    shutil.rmtree(folder, ignore_errors=True)
