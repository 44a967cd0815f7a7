"""How a model is trained: what params.yaml says, under the names that transformers has for it."""

import math
from dataclasses import dataclass, fields
from typing import Any

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

    @classmethod
    def of(cls, section: Section, **more: Any) -> "Recipe":
        """The recipe that a section of params.yaml gives, by the names of its keys, and `more`."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in section.model_dump().items() if name in known} | more)
