"""How a model is trained: what params.yaml says, under the names that transformers has for it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tuneline.params import Finetune
from tuneline.params.section import Section


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
    warmup_steps: int
    max_grad_norm: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int = 1
    packing: bool
    max_length: int
    logging_steps: int
    eval_steps: int | None = None
    save_steps: int
    save_total_limit: int = 2
    early_stopping_patience: int | None = None
    """Evaluations without a better measure after which training stops."""
    load_best_model_at_end: bool = False
    metric_for_best_model: str = "loss"
    """What validation measures by this name says which weights are best."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of TrainingArguments, by its names."""

    @classmethod
    def of(cls, section: Section, **more: Any) -> "Recipe":
        """The recipe that a section of params.yaml gives, by the names of its keys, and `more`."""
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in section.model_dump().items() if value is not None}
        recipe = {name: value for name, value in given.items() if name in known} | more
        if isinstance(section, Finetune):
            recipe["more"] = {name: value for name, value in section.arguments().items() if name not in known}
        return cls(**recipe)

    @property
    def keeps_best(self) -> bool:
        """Whether the weights at the best measure are the result, not the last ones."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None

    @property
    def best_measure(self) -> str:
        """The measure of validation that decides which weights are best, as the log names it."""
        return "eval_" + self.metric_for_best_model.removeprefix("eval_")

    def rows_of(self, step: int, batch: int) -> slice:
        """Which rows of the plan are batch `batch`, counted from 0, of the optimizer step after `step` steps."""
        size = self.per_device_train_batch_size
        first = (step * self.gradient_accumulation_steps + batch) * size
        return slice(first, first + size)
