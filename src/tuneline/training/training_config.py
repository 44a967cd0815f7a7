"""How a model is trained: what params.yaml says, under the names that transformers has for it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from tuneline.errors import TrainingError, one_line
from tuneline.params import Compute, Finetune
from tuneline.params.section import Section

# Rows in a batch of validation, whose activations are not kept.
EVAL_BATCH_SIZE = 16
# What transformers has renamed, and would warn of.
_RENAMED = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; a key that TrainingArguments has keeps its name and its meaning."""

    seed: int
    num_train_epochs: float = math.inf
    max_steps: int | None = None
    """Optimizer steps at most."""
    optim: str
    """A name of transformers, or `muon`: Muon for the layers' matrices, AdamW for the rest."""
    learning_rate: float
    adam_learning_rate: float | None = None
    """Beside muon: of what is no matrix."""
    weight_decay: float
    lr_scheduler_type: str
    warmup_steps: float
    """Steps, or below 1 a share of all steps; so are logging_steps, eval_steps and save_steps."""
    max_grad_norm: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int = 1
    packing: bool
    max_length: int
    logging_steps: float
    eval_steps: float | None = None
    save_steps: float
    save_total_limit: int = 2
    early_stopping_patience: int | None = None
    """Evaluations without a better measure after which training stops."""
    load_best_model_at_end: bool = False
    metric_for_best_model: str = "loss"
    """What validation measures by this name says which weights are best."""
    device: str = "cpu"
    precision: str = "float32"
    torch_compile: bool = False
    processes: int = 1
    """How many share the rows of a step, `per_device_train_batch_size` each."""
    fsdp: str | None = None
    """full_shard: they share the weights too."""
    section: str = "finetune"
    """Where the params of this recipe stand, for a message."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of TrainingArguments, by its names."""

    @classmethod
    def of(cls, section: Section, compute: Compute | None = None, **more: Any) -> "Recipe":
        """The recipe that sections of params.yaml give, by the names of their keys, and `more`."""
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in section.model_dump().items() if value is not None}
        recipe = {name: value for name, value in given.items() if name in known} | more
        if isinstance(section, Finetune):
            recipe["processes"] = section.nproc_per_node
            recipe["more"] = {name: value for name, value in section.arguments().items() if name not in known}
        else:
            recipe["section"] = "base.builtin"
        if compute:
            recipe |= {name: getattr(compute, name) for name in ("device", "precision", "torch_compile")}
        return cls(**recipe)

    @property
    def keeps_best(self) -> bool:
        """Whether the weights at the best measure are the result, not the last ones."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None

    @property
    def best_measure(self) -> str:
        """The measure of validation that decides which weights are best, as the log names it."""
        return "eval_" + self.metric_for_best_model.removeprefix("eval_")

    def steps(self, rows: int) -> int:
        """Optimizer steps that so many rows make."""
        return math.ceil(math.ceil(rows / self.rows_of_a_batch) / self.gradient_accumulation_steps)

    @property
    def rows_of_a_batch(self) -> int:
        """Rows of all processes together."""
        return self.per_device_train_batch_size * self.processes

    def rows_of(self, step: int, batch: int) -> slice:
        """Which rows of the plan are batch `batch`, counted from 0, of the optimizer step after `step` steps."""
        size = self.rows_of_a_batch
        first = (step * self.gradient_accumulation_steps + batch) * size
        return slice(first, first + size)


def arguments(
    recipe: Recipe, folder: Path, *, evaluate: bool, kind: type[TrainingArguments] = TrainingArguments, **more: Any
) -> TrainingArguments:
    """The recipe for transformers' loop, and everything off that prints, reports or differs between two runs.

    Args:
        recipe: how to train.
        folder: of the checkpoints.
        evaluate: whether there is something to validate on.
        kind: the class to make.
        more: what only `kind` knows.

    Raises:
        TrainingError: the arguments do not fit each other.
    """
    values = {
        "output_dir": str(folder),
        "seed": recipe.seed,
        # The rows of all epochs stand one after the other, in an order that was drawn before.
        "num_train_epochs": 1,
        "optim": "adamw_torch" if recipe.optim == "muon" else recipe.optim,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "lr_scheduler_type": recipe.lr_scheduler_type,
        "warmup_steps": recipe.warmup_steps,
        "max_grad_norm": recipe.max_grad_norm,
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "per_device_eval_batch_size": EVAL_BATCH_SIZE,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
        "logging_steps": recipe.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if evaluate else "no",
        "eval_steps": recipe.eval_steps,
        "save_strategy": "steps",
        "save_steps": recipe.save_steps,
        "save_total_limit": recipe.save_total_limit,
        "full_determinism": True,
        "use_cpu": recipe.device == "cpu",
        "torch_compile": recipe.torch_compile,
        "dataloader_pin_memory": recipe.device != "cpu",
        "remove_unused_columns": False,
        "report_to": [],
        "disable_tqdm": True,
        "log_level": "error",
        # trl's classes would switch these two on by themselves.
        "bf16": recipe.precision == "bfloat16",
        "activation_checkpointing": False,
    }
    if recipe.processes > 1:
        values |= {
            "ddp_backend": "gloo" if recipe.device == "cpu" else "nccl",
            # Else gradients are put into other parcels after the first step, also after the first one of a training
            # that goes on, and parcels decide in which order three and more processes are summed.
            "ddp_find_unused_parameters": True,
        }
    further = {_RENAMED.get(name, name): value for name, value in recipe.more.items()}
    try:
        return kind(**(values | further | more))
    except (ValueError, TypeError, ImportError) as error:
        raise TrainingError(f"finetune: {one_line(error)}") from None
