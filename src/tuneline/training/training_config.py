"""How a model is trained: the keys of params.yaml, and the TrainingArguments that they give."""

# Narrower types than those of the library's arguments, and no defaults.
# pyright: reportGeneralTypeIssues=false, reportIncompatibleVariableOverride=false
import math
from pathlib import Path
from typing import Any, Literal

from transformers import TrainingArguments

from tuneline.errors import TrainingError, one_line
from tuneline.params import Compute
from tuneline.params.section import Section
from tuneline.params.training import Training

EVAL_BATCH_SIZE = 16
"""Rows in a batch of validation, if params.yaml does not give per_device_eval_batch_size."""
# This package does by itself what these arguments ask for.
_DONE_HERE = {
    "fsdp", "label_smoothing_factor", "load_best_model_at_end", "max_steps", "metric_for_best_model",
    "neftune_noise_alpha",
}  # fmt: skip
# transformers warns of the old names.
_RENAMED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}


class TrainingConfig(Training):
    """The keys of a training from its section of params.yaml and from `compute`."""

    device: str = "cpu"
    precision: str = "float32"
    torch_compile: bool = False
    metric_for_best_model: str = "loss"
    """The measure of validation that decides which weights are best."""
    section: Literal["finetune", "base.builtin"] = "finetune"
    """The section of params.yaml that messages name."""

    @classmethod
    def from_params(cls, section: Section, /, compute: Compute | None = None, **more: Any) -> "TrainingConfig":
        """The config that sections of params.yaml give.

        Args:
            section: `finetune` or `base.builtin`.
            compute: None: on the processor, in float32.
            more: further keys, and keys with another value than in the section.
        """
        given = section.model_dump() | (compute.model_dump() if compute else {}) | more
        return cls(**{name: value for name, value in given.items() if name in cls.model_fields and value is not None})

    @property
    def keeps_best(self) -> bool:
        """Whether the result is the weights with the best measure; else it is the last weights."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None

    @property
    def best_measure(self) -> str:
        """The name in the log of the measure that decides which weights are best."""
        return "eval_" + self.metric_for_best_model.removeprefix("eval_")

    @property
    def rows_per_batch(self) -> int:
        """Rows of all processes in a batch."""
        return self.per_device_train_batch_size * self.nproc_per_node

    @property
    def rows_per_step(self) -> int:
        """Rows of all processes in an optimizer step."""
        return self.rows_per_batch * self.gradient_accumulation_steps

    @property
    def max_rows(self) -> float:
        """Rows that `max_steps` steps take; infinite without `max_steps`."""
        return math.inf if self.max_steps is None else self.max_steps * self.rows_per_step

    def steps(self, rows: int) -> int:
        """Optimizer steps that `rows` rows take."""
        return math.ceil(math.ceil(rows / self.rows_per_batch) / self.gradient_accumulation_steps)

    def rows_of(self, step: int, batch: int) -> slice:
        """The rows of batch `batch` (from 0) in the optimizer step that follows `step` steps."""
        first = step * self.rows_per_step + batch * self.rows_per_batch
        return slice(first, first + self.rows_per_batch)


def arguments(
    config: TrainingConfig,
    folder: Path,
    *,
    evaluate: bool,
    kind: type[TrainingArguments] = TrainingArguments,
    **more: Any,
) -> TrainingArguments:
    """The arguments for the loop of transformers, without printing, reporting and random differences between runs.

    Args:
        config: how to train.
        folder: where the checkpoints are.
        evaluate: whether there are validation rows.
        kind: TrainingArguments or a subclass.
        more: arguments that only `kind` has.

    Raises:
        TrainingError: the arguments contradict each other.
    """
    known = TrainingArguments.__dataclass_fields__.keys() - _DONE_HERE
    given = {name: value for name, value in config.model_dump().items() if name in known and value is not None}
    values = {"per_device_eval_batch_size": EVAL_BATCH_SIZE, "activation_checkpointing": False}
    values |= {_RENAMED.get(name, name): value for name, value in given.items()}
    values |= {
        "output_dir": str(folder),
        # The planned rows contain all epochs, in an order that is drawn before.
        "num_train_epochs": 1,
        "optim": "adamw_torch" if config.optim == "muon" else config.optim,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if evaluate else "no",
        "save_strategy": "steps",
        "full_determinism": True,
        "use_cpu": config.device == "cpu",
        "dataloader_pin_memory": config.device != "cpu",
        "remove_unused_columns": False,
        "report_to": [],
        "disable_tqdm": True,
        "log_level": "error",
        # The default of DPOConfig is True.
        "bf16": config.precision == "bfloat16",
    }
    if config.nproc_per_node > 1:
        values |= {
            "ddp_backend": "gloo" if config.device == "cpu" else "nccl",
            # Otherwise DDP regroups the gradients after the first step of a process, also of a resumed one, and the
            # groups decide in which order three and more processes are summed.
            "ddp_find_unused_parameters": True,
        }
    try:
        return kind(**(values | more))
    except (ValueError, TypeError, ImportError) as error:
        raise TrainingError(f"{config.section}: {one_line(error)}") from None
