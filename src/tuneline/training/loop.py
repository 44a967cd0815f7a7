"""transformers' own training loop with our log, and checkpoints that are whole or do not count."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME

from tuneline.core import files
from tuneline.errors import TrainingError, one_line
from tuneline.progress import Progress, rate
from tuneline.training import checkpoints, distributed
from tuneline.training.log import History
from tuneline.training.objectives import Objective, batches
from tuneline.training.optimizers import MuonAdamW
from tuneline.training.training_config import Recipe

Log = Callable[[int, dict[str, float]], None]
"""Called with a step and what was measured at it; after a kill, with all steps up to the last checkpoint again."""

HISTORY_FILE = "history.json"
# Sources named in a message.
_NAMED = 8


@dataclass(frozen=True)
class Course:
    """What a training follows: how, in which rows, and where its log and its checkpoints are kept."""

    recipe: Recipe
    history: History
    folder: Path
    tell: Log | None
    sources: Callable[[slice], Sequence[str]]
    """Where the documents of some rows of the plan come from."""
    weight: Callable[[dict[str, Tensor]], Tensor]
    """What a batch's summed loss is divided by."""
    ceiling: float
    """A mean loss that no sound training comes near."""

    @property
    def is_stopped(self) -> bool:
        """Whether validation has been without a better measure for as long as it may be."""
        patience = self.recipe.early_stopping_patience
        return patience is not None and self.history.since_best(self.recipe.best_measure) >= patience

    @property
    def best(self) -> int | None:
        """The step whose weights are the result, as far as is known; None where the last ones are."""
        return self.history.best(self.recipe.best_measure) if self.recipe.keeps_best else None


class RepeatableTrainer(Trainer):
    """transformers' loop with our log and checkpoints; a subclass says what a batch's loss is and what is measured."""

    loss_is_scaled_for_ga = True

    def follow(self, course: Course) -> None:
        """Say what this training is."""
        self._course = course
        self._batch = 0
        self._of_step = (0.0, 0.0)

    def measure(self) -> dict[str, float]:
        """What validation says of the model as it is."""
        raise NotImplementedError

    def learn(self, sums: dict[str, Tensor], weight: Tensor, of_step: Tensor, *, learnt: int, tokens: int) -> Tensor:
        """Count one batch, of all processes together; stop where the loss is none any more.

        Args:
            sums: the batch's summed loss and other measures.
            weight: what they are to be divided by.
            of_step: the weight of all batches of the optimizer step, in all processes.
            learnt: tokens or rows that are learnt.
            tokens: real ones.

        Returns:
            The batch's share of the mean loss of its optimizer step.
        """
        counts = float(self._counts[self._batch])
        own = [*(value.item() for value in sums.values()), float(weight), learnt, tokens]
        *summed, weight_of_all, learnt_by_all, tokens_of_all = distributed.total([counts * value for value in own])
        values = dict(zip(sums, summed, strict=True))
        mean = values["loss"] / (weight_of_all or 1)
        if not math.isfinite(mean) or mean > self._course.ceiling:
            raise self._diverged(f"the loss is {mean:.6g}", slice(self._batch, self._batch + 1))
        self._batch += 1
        self._of_step = (self._of_step[0] + values["loss"], self._of_step[1] + weight_of_all)
        if self._batch < len(self._counts):
            self._tell(self._batch / len(self._counts))
        self._course.history.saw(values, weight_of_all, learnt=int(learnt_by_all), tokens=int(tokens_of_all))
        # The mean of the processes' gradients is what is stepped along.
        return sums["loss"] * (counts * distributed.world()) / of_step

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """transformers' own, or ours by the name `muon`."""
        recipe = self._course.recipe
        if recipe.optim == "muon" and self.optimizer is None:
            assert self.model is not None
            self.optimizer = MuonAdamW(
                self.model,
                learning_rate=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                adam_learning_rate=recipe.adam_learning_rate or recipe.learning_rate,
            )
        try:
            return super().create_optimizer(model)
        except (ImportError, ValueError, RuntimeError, TypeError) as error:
            raise TrainingError(f"{recipe.section}.optim: {recipe.optim} cannot be used: {one_line(error)}") from None

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """transformers' own; a wrong argument is named before anything is trained."""
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except (TypeError, ValueError) as error:
            kind = self._course.recipe.lr_scheduler_type
            raise TrainingError(f"finetune.lr_scheduler_kwargs: do not fit {kind}: {one_line(error)}") from None

    def get_train_dataloader(self) -> DataLoader[Any]:
        """transformers' own; of several processes this one's share, no row of it twice."""
        if distributed.world() == 1:
            return super().get_train_dataloader()
        arguments = self.args
        return DataLoader(
            cast(Any, self.train_dataset),
            batch_sampler=self._shares(),
            collate_fn=self.data_collator,
            num_workers=arguments.dataloader_num_workers,
            persistent_workers=arguments.dataloader_persistent_workers,
            prefetch_factor=arguments.dataloader_prefetch_factor,
            pin_memory=arguments.dataloader_pin_memory,
        )

    def _shares(self) -> distributed.Shares:
        return distributed.Shares(len(cast(Any, self.train_dataset)), self.args.per_device_train_batch_size)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)  # pyright: ignore[reportArgumentType]

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: Any
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """The batches of one optimizer step, and what the loss of each is divided by: the weight of all of them."""
        step = list(itertools.islice(epoch_iterator, num_batches))
        self._batch, self._of_step = 0, (0.0, 0.0)
        first, shares = self.state.global_step * self.args.gradient_accumulation_steps, self._shares()
        self._counts = [shares.counts(first + batch) for batch in range(len(step))]
        counted = [self._course.weight(batch) for batch, counts in zip(step, self._counts, strict=True) if counts]
        weight = torch.stack(counted).sum() if counted else torch.tensor(0.0)
        return step, weight if distributed.world() == 1 else torch.tensor(distributed.total([float(weight)])[0])

    def tell_step(self) -> None:
        """Say that a step is taken."""
        self._tell(0.0)

    def tell_measuring(self, done: int, total: int) -> None:
        """Say how many rows of validation are measured."""
        self._tell(0.0, f"measuring validation: {done:,} of {total:,} rows")

    def _tell(self, part_of_step: float, note: str = "") -> None:
        summed, weight = self._of_step
        began, tokens = self._began
        seen = self._course.history.tokens - tokens
        notes = [f"loss {summed / weight:.3f}"] if weight else []
        notes += [rate(seen, time.monotonic() - began, "tokens")] if seen else []
        steps = self.state.global_step + part_of_step
        self._progress.update(steps, self.state.max_steps, ", ".join([*notes, *([note] if note else [])]))

    def _clip_grad_norm(self, model: nn.Module) -> float:
        norm = float(super()._clip_grad_norm(model))  # pyright: ignore[reportArgumentType]
        if not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}", slice(0, self._batch))
        return norm

    def _diverged(self, what: str, of_step: slice) -> TrainingError:
        """The error that names the step, the rows of some of its batches and the last good checkpoint."""
        step, recipe = self.state.global_step, self._course.recipe
        rows = [recipe.rows_of(step, batch) for batch in range(of_step.start, of_step.stop)]
        named = list(dict.fromkeys(name for part in rows for name in self._course.sources(part)))
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        last = checkpoints.newest(self._course.folder)
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        return TrainingError(
            f"step {step + 1}: {what} in the batch of {', '.join(named[:_NAMED])}{more}; {kept}; look at these rows, "
            f"or lower {self._course.recipe.section}.learning_rate or lengthen warmup_steps, and run the same command "
            "again"
        )

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure, keep what is said, and stop or keep a checkpoint where it says so."""
        assert self.model is not None
        self.model.eval()
        # Several evaluations of one step would say the same.
        self.control.should_evaluate = False
        course, step = self._course, self.state.global_step
        measures = {f"eval_{name}": value for name, value in self.measure().items()}
        self.tell_step()  # What is told from now on, the last line included, is no longer the measurement.
        wrong = [name for name, value in measures.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(
                f"step {step}: {wrong[0]} of validation is {measures[wrong[0]]}; "
                f"lower {course.recipe.section}.learning_rate and run the same command again"
            )
        if course.recipe.keeps_best and course.recipe.best_measure not in measures:
            known = ", ".join(name.removeprefix("eval_") for name in measures)
            raise TrainingError(
                f"finetune.metric_for_best_model: {course.recipe.metric_for_best_model} is not measured for this task; "
                f"it may be {known}"
            )
        self.log(measures)
        if course.best == step or course.is_stopped:
            self.control.should_save = True
        self.control.should_training_stop |= course.is_stopped
        return measures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep one line, tell the tracker; what was observed (rates, times) is not kept."""
        course, step = self._course, self.state.global_step
        if any(name.startswith("eval_") for name in logs):
            kept = logs
        elif "loss" in logs:
            means = course.history.means()
            kept = {
                "loss": means.pop("loss"),
                "learning_rate": logs["learning_rate"],
                "grad_norm": float(logs["grad_norm"]),
                **means,
            }
        else:
            return
        recorded = course.history.record(step, kept)
        if course.tell:
            course.tell(step, recorded)

    def _run_epoch(self, *arguments: Any, **more: Any) -> None:
        self._began = (time.monotonic(), self._course.history.tokens)
        self._progress = Progress("training", unit="steps", always=True)
        self._progress.begin(self.state.global_step)
        ended = False
        try:
            super()._run_epoch(*arguments, **more)
            ended = True
        finally:
            self._progress.end(last_line=ended)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # Trainer's own would count when half of it is written, and would be loaded without its optimizer.
        chances = self._chances()
        self.lend_to_checkpoint() if distributed.rank() else self._write_checkpoint(chances)
        distributed.wait()

    def lend_to_checkpoint(self) -> None:
        """What the other processes do while the first one writes a checkpoint: nothing, as each has all weights."""

    def _write_checkpoint(self, chances: dict[str, bytes]) -> None:
        course, keep = self._course, self.args.save_total_limit
        assert keep is not None
        with checkpoints.writing(course.folder, self.state.global_step, keep, course.best) as beside:
            self.save_weights(beside)
            self._save_optimizer_and_scheduler(str(beside))
            for name, state in chances.items():
                (beside / name).write_bytes(state)
            self.state.save_to_json(str(beside / TRAINER_STATE_NAME))
            course.history.write(beside / HISTORY_FILE)

    def _chances(self) -> dict[str, bytes]:
        """The state of the random numbers of every process, as transformers reads them: file name -> content."""
        with files.temporary_folder() as folder:
            self._save_rng_state(str(folder))
            (own,) = folder.iterdir()
            return distributed.gathered(own.name, own.read_bytes())

    def save_weights(self, checkpoint: Path) -> None:
        """Write the weights, and only them."""
        checkpoints.save_weights(self.model, checkpoint)

    def load_weights(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint, and only them."""
        self._load_from_checkpoint(str(checkpoint))


class ObjectiveTrainer(RepeatableTrainer):
    """The loop with a task's objective.

    Args:
        objective: what a batch's loss is.
        validation: examples to measure on.
        arguments: of `Trainer`.
    """

    def __init__(self, *arguments: Any, objective: Objective, validation: Sequence[Any], **more: Any) -> None:
        super().__init__(
            *arguments, data_collator=objective.collate, eval_dataset=cast(Any, validation or None), **more
        )
        self._objective = objective
        self._validation = validation

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **more: Any) -> Tensor:
        """The batch's share of the mean loss of its optimizer step."""
        loss, weight = self._objective.loss(model, inputs)
        learnt, tokens = self._objective.learnt(inputs), int(inputs["tokens"])
        return self.learn({"loss": loss}, weight, more["num_items_in_batch"], learnt=learnt, tokens=tokens)

    def measure(self) -> dict[str, float]:
        """What the objective measures on the validation rows."""
        assert self.model is not None
        size, rank, world = self.args.per_device_eval_batch_size, distributed.rank(), distributed.world()

        rows = len(self._validation)
        count = math.ceil(rows / size)

        def own(first: int, last: int | None) -> Iterator[dict[str, Tensor]]:
            made = enumerate(batches(self._objective, self._validation, size))
            for number, batch in itertools.islice(made, first, last, world):
                self.tell_measuring(number * size, rows)
                yield self._prepare_inputs(batch)

        with self.compute_loss_context_manager():
            found = self._objective.measure(self.model, own(rank, None))
            # A sharded model is run by all processes or by none: one without a batch in the last round runs another.
            if self._course.recipe.fsdp and 0 < count % world <= rank:
                self._objective.measure(self.model, own(0, 1))
        return distributed.means(found)
