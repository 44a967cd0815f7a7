"""transformers' training loop with the log of this package, and with checkpoints that are complete or do not count."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, SequentialSampler
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME

from tuneline.core import files
from tuneline.errors import TrainingError, one_line
from tuneline.progress import Progress, rate
from tuneline.training import checkpoints, distributed, fsdp, regularisation
from tuneline.training.log import History
from tuneline.training.muon import MuonAdamW
from tuneline.training.objectives import Objective, batches
from tuneline.training.training_config import TrainingConfig

Log = Callable[[int, dict[str, float]], None]
"""Called with a step and its measures. After a kill it is called again with all steps up to the last checkpoint."""

_HISTORY_FILE = "history.json"
# Sources that a message names.
_NAMED = 8


class RepeatableTrainer(Trainer):
    """transformers' loop with our log and checkpoints.

    A subclass defines `compute_loss`, `weight_of` and `measure`. Call `fit` instead of `train`.
    """

    loss_is_scaled_for_ga = True
    max_loss = math.inf
    """A mean loss above this value means that the training has diverged."""

    def weight_of(self, batch: dict[str, Tensor]) -> Tensor:
        """What the summed loss of a batch is divided by."""
        raise NotImplementedError

    def measure(self) -> dict[str, float]:
        """Measures of the model on the validation rows."""
        raise NotImplementedError

    def fit(
        self, config: TrainingConfig, *, folder: Path, sources: Callable[[slice], Sequence[str]], log: Log | None
    ) -> None:
        """Train from the newest complete checkpoint to the end, then load the best weights if they are the result.

        Args:
            config: how to train.
            folder: the checkpoints of exactly this training.
            sources: gives the sources of the documents in some planned rows.
            log: called with the measures of each logged step.
        """
        self._config, self._folder, self._sources, self._on_log = config, folder, sources, log
        self._batch, self._step_sums, self._first_factor = 0, (0.0, 0.0), 1.0
        self.remove_callback(PrinterCallback)
        self.add_callback(_EveryStep(self))
        # The first process deletes broken checkpoints before any other process looks.
        resumed = distributed.from_first(checkpoints.newest_good(folder) if distributed.rank() == 0 else None)
        self.history = History.read(resumed / _HISTORY_FILE) if resumed else History()
        for line in self.history.lines if log else ():
            assert log is not None
            log(int(line["step"]), {name: value for name, value in line.items() if name != "step"})
        if resumed:
            print(f"going on from {resumed}", flush=True)
        # The kill may have come after the evaluation that stopped the training.
        if not self.is_stopped:
            with self._noise() as self._see:
                self.train(resume_from_checkpoint=str(resumed) if resumed else None)
        if self.is_stopped:
            print(f"stopped: {config.best_measure} has not been better since step {self.best_step}", flush=True)
        # accelerate replaces `forward` for bfloat16.
        vars(cast(Any, self.model)).pop("forward", None)
        if self.best_step is not None:
            self._load_from_checkpoint(str(checkpoints.of_step(folder, self.best_step)))
        # The first process deletes the checkpoints after this.
        distributed.wait()

    def _noise(self) -> AbstractContextManager[Callable[[dict[str, Tensor]], None]]:
        alpha = self._config.neftune_noise_alpha
        assert self.model is not None
        return nullcontext(lambda _: None) if alpha is None else regularisation.embedding_noise(self.model, alpha)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **more: Any) -> Tensor:
        """The step of transformers; noise on the embeddings is told which documents the batch has."""
        self._see(inputs)
        return super().training_step(model, inputs, *arguments, **more)

    @property
    def is_stopped(self) -> bool:
        """Whether as many measurements as the config allows have given no better value."""
        patience = self._config.early_stopping_patience
        return patience is not None and self.history.since_best(self._config.best_measure) >= patience

    @property
    def best_step(self) -> int | None:
        """The step with the best weights so far; None if the last weights are the result."""
        return self.history.best(self._config.best_measure) if self._config.keeps_best else None

    def scaled_loss(
        self, sums: dict[str, Tensor], weight: Tensor, step_weight: Tensor, *, supervised: int, tokens: int
    ) -> Tensor:
        """Count one batch of all processes, and give its share of the mean loss of its optimizer step.

        Args:
            sums: the summed loss and other measures of the batch.
            weight: what `sums` are divided by.
            step_weight: the weight of all batches of the optimizer step, in all processes.
            supervised: tokens (or rows) with a label.
            tokens: all tokens, without padding.

        Raises:
            TrainingError: the loss is not finite, or above `max_loss`.
        """
        counts = float(self._counts[self._batch])
        own = [*(value.item() for value in sums.values()), float(weight), supervised, tokens]
        *summed, all_weight, all_supervised, all_tokens = distributed.total([counts * value for value in own])
        values = dict(zip(sums, summed, strict=True))
        mean = values["loss"] / (all_weight or 1)
        if not math.isfinite(mean) or mean > self.max_loss:
            raise self._diverged(f"the loss is {mean:.6g}", slice(self._batch, self._batch + 1))
        self._batch += 1
        self._step_sums = (self._step_sums[0] + values["loss"], self._step_sums[1] + all_weight)
        if self._batch < len(self._counts):
            self.show_progress(self._batch / len(self._counts))
        self.history.add(values, all_weight, supervised=int(all_supervised), tokens=int(all_tokens))
        # DDP takes the mean of the processes' gradients, and their sum is needed.
        return sums["loss"] * (counts * distributed.world()) / step_weight

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """The optimizer of transformers, or MuonAdamW for `muon`."""
        config = self._config
        if config.optim == "muon" and self.optimizer is None:
            assert self.model is not None
            self.optimizer = MuonAdamW(
                self.model,
                learning_rate=config.learning_rate,
                weight_decay=config.weight_decay,
                adam_learning_rate=config.adam_learning_rate or config.learning_rate,
            )
        try:
            optimizer = super().create_optimizer(model)
        except (ImportError, ValueError, RuntimeError, TypeError) as error:
            raise TrainingError(f"{config.section}.optim: {config.optim} cannot be used: {one_line(error)}") from None
        self._regularise(optimizer)
        return optimizer

    def _regularise(self, optimizer: Optimizer) -> None:
        config, model = self._config, self.model
        assert model is not None
        if config.l1_decay:
            decayed = set(self.get_decay_parameter_names(model))
            # Muon decays its matrices only.
            named = dict(model.named_parameters())
            weights = [weight for name, weight in named.items() if name in decayed and weight.requires_grad]
            if isinstance(optimizer, MuonAdamW):
                weights = optimizer.matrices
            regularisation.shrink_after_steps(optimizer, weights, config.l1_decay)
        if config.layerwise_lr_decay not in (None, 1.0):
            self._first_factor = regularisation.split_by_layer(optimizer, model, config.layerwise_lr_decay)

    def _get_learning_rate(self) -> float:
        # transformers logs the rate of the first group.
        return super()._get_learning_rate() / self._first_factor

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        """The scheduler of transformers; a wrong argument is an error before the first step."""
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except (TypeError, ValueError) as error:
            kind = self._config.lr_scheduler_type
            raise TrainingError(f"finetune.lr_scheduler_kwargs: do not fit {kind}: {one_line(error)}") from None

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The data loader of transformers; with several processes, of this process's rows, none of them twice."""
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
        """The batches of one optimizer step, and the weight of all of them in all processes."""
        step = list(itertools.islice(epoch_iterator, num_batches))
        self._batch, self._step_sums = 0, (0.0, 0.0)
        first, shares = self.state.global_step * self.args.gradient_accumulation_steps, self._shares()
        self._counts = [shares.counts(first + batch) for batch in range(len(step))]
        counted = [self.weight_of(batch) for batch, counts in zip(step, self._counts, strict=True) if counts]
        weight = torch.stack(counted).sum() if counted else torch.tensor(0.0)
        return step, weight if distributed.world() == 1 else torch.tensor(distributed.total([float(weight)])[0])

    def show_progress(self, part_of_step: float = 0.0, note: str = "") -> None:
        """Update the line of progress: the steps taken, and the part of the step that is being taken."""
        summed, weight = self._step_sums
        began, tokens_before = self._began
        tokens = self.history.tokens - tokens_before
        notes = [f"loss {summed / weight:.3f}"] if weight else []
        notes += [rate(tokens, time.monotonic() - began, "tokens")] if tokens else []
        steps = self.state.global_step + part_of_step
        self._progress.update(steps, self.state.max_steps, ", ".join([*notes, *([note] if note else [])]))

    def show_validation(self, done: int, total: int) -> None:
        """Update the line of progress: the rows of validation that are measured."""
        self.show_progress(note=f"measuring validation: {done:,} of {total:,} rows")

    def _clip_grad_norm(self, model: nn.Module) -> float:
        norm = float(super()._clip_grad_norm(model))  # pyright: ignore[reportArgumentType]
        if not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}", slice(0, self._batch))
        return norm

    def _diverged(self, what: str, batches_of_step: slice) -> TrainingError:
        """The error with the step, the sources of some of its batches, and the last checkpoint."""
        step, config = self.state.global_step, self._config
        rows = [config.rows_of(step, batch) for batch in range(batches_of_step.start, batches_of_step.stop)]
        sources = list(dict.fromkeys(source for part in rows for source in self._sources(part)))
        more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
        last = checkpoints.newest(self._folder)
        kept = f"the last good checkpoint is {last}" if last else "no checkpoint was written yet"
        return TrainingError(
            f"step {step + 1}: {what} in the batch of {', '.join(sources[:_NAMED])}{more}; {kept}; look at these rows, "
            f"or lower {config.section}.learning_rate or lengthen warmup_steps, and run the same command again"
        )

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the validation rows, log the measures, and save or stop if the measures ask for it."""
        assert self.model is not None
        self.model.eval()
        # A second evaluation of the same step would give the same measures.
        self.control.should_evaluate = False
        config, step = self._config, self.state.global_step
        measures = {f"eval_{name}": value for name, value in self.measure().items()}
        self.show_progress()
        wrong = [name for name, value in measures.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(
                f"step {step}: {wrong[0]} of validation is {measures[wrong[0]]}; "
                f"lower {config.section}.learning_rate and run the same command again"
            )
        if config.keeps_best and config.best_measure not in measures:
            known = ", ".join(name.removeprefix("eval_") for name in measures)
            raise TrainingError(
                f"finetune.metric_for_best_model: {config.metric_for_best_model} is not measured for this task; "
                f"set it to one of {known}"
            )
        self.log(measures)
        if self.best_step == step or self.is_stopped:
            self.control.should_save = True
        self.control.should_training_stop |= self.is_stopped
        return measures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the measures of a step and pass them to the log callback. Rates and times are not kept."""
        if any(name.startswith("eval_") for name in logs):
            kept = logs
        elif "loss" in logs:
            means = self.history.take_means()
            kept = {
                "loss": means.pop("loss"),
                "learning_rate": logs["learning_rate"],
                "grad_norm": float(logs["grad_norm"]),
                **means,
            }
        else:
            return
        step = self.state.global_step
        recorded = self.history.record(step, kept)
        if self._on_log:
            self._on_log(step, recorded)

    def _run_epoch(self, *arguments: Any, **more: Any) -> None:
        self._began = (time.monotonic(), self.history.tokens)
        self._progress = Progress("training", unit="steps", always=True)
        self._progress.begin(self.state.global_step)
        ended = False
        try:
            super()._run_epoch(*arguments, **more)
            ended = True
        finally:
            self._progress.end(last_line=ended)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # transformers accepts a half-written checkpoint, and one without an optimizer state.
        rng_states = self._rng_states()
        self.help_save() if distributed.rank() else self._write_checkpoint(rng_states)
        distributed.wait()

    def help_save(self) -> None:
        """What the other processes do while the first process writes a checkpoint."""

    def _write_checkpoint(self, rng_states: dict[str, bytes]) -> None:
        keep = self.args.save_total_limit
        assert keep is not None
        with checkpoints.writing(self._folder, self.state.global_step, keep, self.best_step) as temporary:
            self.save_weights(temporary)
            self._save_optimizer_and_scheduler(str(temporary))
            for name, state in rng_states.items():
                (temporary / name).write_bytes(state)
            self.state.save_to_json(str(temporary / TRAINER_STATE_NAME))
            self.history.write(temporary / _HISTORY_FILE)

    def _rng_states(self) -> dict[str, bytes]:
        """The RNG states of all processes in the form of transformers: file name -> content."""
        with files.temporary_folder() as folder:
            self._save_rng_state(str(folder))
            (own,) = folder.iterdir()
            return distributed.gathered(own.name, own.read_bytes())

    def save_weights(self, checkpoint: Path) -> None:
        """Write the weights and nothing else."""
        checkpoints.save_weights(self.model, checkpoint)


class _EveryStep(TrainerCallback):
    """Shows each step, and logs the last step even if it is not a multiple of `logging_steps`."""

    def __init__(self, trainer: RepeatableTrainer) -> None:
        self._trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Show the step; ask for a log line after the last step."""
        self._trainer.show_progress()
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control


class ObjectiveTrainer(RepeatableTrainer):
    """The loop with the objective of a task.

    Args:
        objective: defines the loss of a batch.
        validation: the examples that are measured.
        arguments: of `Trainer`.
    """

    def __init__(self, *arguments: Any, objective: Objective, validation: Sequence[Any], **more: Any) -> None:
        super().__init__(
            *arguments, data_collator=objective.collate, eval_dataset=cast(Any, validation or None), **more
        )
        self._objective = objective
        self._validation = validation
        self.max_loss = objective.max_loss()

    def weight_of(self, batch: dict[str, Tensor]) -> Tensor:
        """What the summed loss of a batch is divided by."""
        return self._objective.weight(batch)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **more: Any) -> Tensor:
        """The batch's share of the mean loss of its optimizer step."""
        loss, weight = self._objective.loss(model, inputs)
        supervised, tokens = self._objective.supervised(inputs), int(inputs["tokens"])
        return self.scaled_loss(
            {"loss": loss}, weight, more["num_items_in_batch"], supervised=supervised, tokens=tokens
        )

    def measure(self) -> dict[str, float]:
        """The measures of the objective on the validation rows."""
        assert self.model is not None
        size, rank, world = self.args.per_device_eval_batch_size, distributed.rank(), distributed.world()
        rows = len(self._validation)
        count = math.ceil(rows / size)

        def own(first: int, last: int | None) -> Iterator[dict[str, Tensor]]:
            numbered = enumerate(batches(self._objective, self._validation, size))
            for number, batch in itertools.islice(numbered, first, last, world):
                self.show_validation(number * size, rows)
                yield self._prepare_inputs(batch)

        with self.compute_loss_context_manager():
            found = self._objective.measure(self.model, own(rank, None))
            # All processes must run a sharded model equally often: a process without a batch in the last round runs
            # the first batch again.
            if self._config.fsdp and 0 < count % world <= rank:
                self._objective.measure(self.model, own(0, 1))
        return distributed.means(found)


class ShardedTrainer(ObjectiveTrainer):
    """The loop with a model that is sharded while it is trained."""

    def _inner_training_loop(self, *arguments: Any, **more: Any) -> Any:
        assert self.model is not None
        self._shards = fsdp.Shards(cast(PreTrainedModel, self.model))
        self.model = self.model_wrapped = self._shards.model
        # With this flag transformers does not wrap the model in DDP.
        self.is_distributed_loading_by_transformers = True
        result = super()._inner_training_loop(*arguments, **more)
        self.model = self.model_wrapped = self._shards.gather(everywhere=True)
        return result

    def _has_mixed_mesh_grads(self, model: nn.Module) -> bool:
        # With True transformers computes the norm over all processes.
        return True

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        # Deferred gradients would be as large as unsharded weights.
        yield

    def help_save(self) -> None:
        """Send this process's shards in the order in which the first process writes them."""
        self._shards.gather(everywhere=False)
        fsdp.full_state(cast(Optimizer, self.optimizer))

    def save_weights(self, checkpoint: Path) -> None:
        """Write the weights and nothing else, while the other processes send their shards."""
        checkpoints.save_weights(self._shards.gather(everywhere=False), checkpoint)
        self._shards.release()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        torch.save(fsdp.full_state(cast(Optimizer, self.optimizer)), Path(output_dir) / OPTIMIZER_NAME)
        torch.save(cast(Any, self.lr_scheduler).state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        # Memory-mapped, because each process reads only its shards.
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", mmap=True, weights_only=True)
        optimizer = cast(Optimizer, self.optimizer)
        optimizer.load_state_dict(fsdp.own_state(state, optimizer))
        cast(Any, self.lr_scheduler).load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))
