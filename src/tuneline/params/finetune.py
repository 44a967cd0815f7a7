"""Section `finetune`; a key that transformers' TrainingArguments has keeps its name and its meaning."""

from typing import Annotated, Literal

from pydantic import Field

from tuneline.params.data import Fraction
from tuneline.params.section import Section

Positive = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
SchedulerType = Literal["linear", "cosine", "constant", "constant_with_warmup"]


class Finetune(Section):
    seed: Steps
    num_train_epochs: PositiveFloat
    learning_rate: PositiveFloat
    lr_scheduler_type: SchedulerType
    warmup_steps: Steps
    weight_decay: Annotated[float, Field(ge=0.0)]
    optim: Literal["adamw_torch", "adafactor", "sgd"]
    max_grad_norm: Annotated[float, Field(ge=0.0)]
    per_device_train_batch_size: Positive
    """Packed rows in a step, or documents where `packing` is false."""
    gradient_accumulation_steps: Positive
    packing: bool
    """Whole documents side by side in one row, none seeing another."""
    max_length: Annotated[int, Field(ge=8)]
    """Tokens in a row."""
    overlong: Literal["error", "drop", "truncate", "split"]
    """What happens to a document over `max_length`; truncate keeps the completion, split (of texts) loses nothing."""
    max_dropped_fraction: Fraction
    """Of the training rows; above it `finetune` stops."""
    eval_steps: Positive
    save_steps: Positive
    save_total_limit: Annotated[int, Field(ge=2)]
    """Two at least: a kill while the newest is written must leave one."""
    logging_steps: Positive
