"""transformers' own training loop with our loss, our log, and checkpoints that are whole or do not count."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from tuneline.errors import TrainingError
from tuneline.training import checkpoints, losses
from tuneline.training.history import History, Progress
from tuneline.training.packing import Documents
from tuneline.training.recipes import Recipe
from tuneline.training.tokenization import IGNORED

Log = Callable[[int, dict[str, float]], None]
"""Called with a step and what was measured at it; after a kill, with the steps since the last checkpoint again."""

HISTORY_FILE = "history.json"
# Rows in a batch of validation, whose activations are not kept.
_EVAL_BATCH_SIZE = 16


def arguments(recipe: Recipe, folder: Path, *, evaluate: bool) -> TrainingArguments:
    """The recipe for transformers' loop, and everything off that prints, reports or differs between two runs."""
    return TrainingArguments(
        output_dir=str(folder),
        seed=recipe.seed,
        # The rows of all epochs stand one after the other, in an order that was drawn before.
        num_train_epochs=1,
        optim="adamw_torch" if recipe.optim == "muon" else recipe.optim,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.max_grad_norm,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        logging_steps=recipe.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=recipe.eval_steps,
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=recipe.save_total_limit,
        full_determinism=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )


class LogLastStep(TrainerCallback):
    """The last step is logged too, where it is no multiple of `logging_steps`."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Ask for a line."""
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control


class RepeatableTrainer(Trainer):
    """transformers' loop with our loss, our log and checkpoints that are whole or do not count."""

    loss_is_scaled_for_ga = True

    def follow(self, history: History, folder: Path, log: Log | None, *, pad: int, packed: bool, sparse: bool) -> None:
        """Say what to keep the log in, where checkpoints go and how the loss is computed."""
        self._history = history
        self._folder = folder
        self._tell = log
        self._pad, self._packed, self._sparse = pad, packed, sparse

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)  # pyright: ignore[reportArgumentType]

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: Any
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """The batches of one optimizer step, and their learnt tokens, by which the loss of each is divided."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        return batches, torch.tensor(sum(int((batch["targets"] != IGNORED).sum()) for batch in batches))

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **more: Any) -> Tensor:
        """The batch's share of the loss a token of its optimizer step."""
        nll, count = losses.nll(model, inputs, packed=self._packed, sparse=self._sparse)
        if not torch.isfinite(nll):
            raise TrainingError(
                f"step {self.state.global_step + 1}: the loss is {nll.item()}; lower learning_rate, or lengthen "
                "warmup_steps, and run the same command again"
            )
        self._history.saw(nll.item(), int(count), int(inputs["tokens"]))
        return nll / more["num_items_in_batch"]

    def _clip_grad_norm(self, model: nn.Module) -> float:
        norm = float(super()._clip_grad_norm(model))  # pyright: ignore[reportArgumentType]
        if not math.isfinite(norm):
            raise TrainingError(
                f"step {self.state.global_step + 1}: the gradient's norm is {norm}; lower learning_rate and run "
                "the same command again"
            )
        return norm

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss a token of the validation rows, every token of equal weight."""
        nll, tokens = losses.total(
            self._causal_model(),
            cast("Documents", self.eval_dataset),
            pad=self._pad,
            sparse=self._sparse,
            batch_size=_EVAL_BATCH_SIZE,
        )
        measures = {"eval_loss": nll / max(tokens, 1)}
        self.log(measures)
        return measures

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep one line, tell the tracker, show progress; what was observed (rates, times) is not kept."""
        step = self.state.global_step
        if "eval_loss" in logs:
            kept = {"eval_loss": logs["eval_loss"]}
        elif "loss" in logs:
            kept = {
                "loss": self._history.loss(),
                "learning_rate": logs["learning_rate"],
                "grad_norm": float(logs["grad_norm"]),
            }
            self._progress.show(step, self._history.tokens, kept["loss"])
        else:
            return
        recorded = self._history.record(step, kept)
        if self._tell:
            self._tell(step, recorded)

    def _run_epoch(self, *arguments: Any, **more: Any) -> None:
        self._progress = Progress(self.state.max_steps)
        self._progress.start(self.state.global_step, self._history.tokens)
        super()._run_epoch(*arguments, **more)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # Trainer's own would count when half of it is written, and would be loaded without its optimizer.
        keep = self.args.save_total_limit
        assert keep is not None
        with checkpoints.writing(self._folder, self.state.global_step, keep) as beside:
            self._causal_model().save_pretrained(beside)
            self._save_optimizer_and_scheduler(str(beside))
            self._save_rng_state(str(beside))
            self.state.save_to_json(str(beside / TRAINER_STATE_NAME))
            self._history.write(beside / HISTORY_FILE)

    def _causal_model(self) -> PreTrainedModel:
        assert isinstance(self.model, PreTrainedModel)
        return self.model
