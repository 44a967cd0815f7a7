"""The keys of a training, which `base.builtin` and `finetune` share.

A key that transformers' TrainingArguments has keeps its name and its meaning.
"""

# Narrower types than those of the library's arguments, and no defaults.
# pyright: reportGeneralTypeIssues=false, reportIncompatibleVariableOverride=false
from typing import Annotated, Literal

from pydantic import Field

from tuneline.params.library_arguments import OPTIMIZERS, SCHEDULERS, TrainingArguments
from tuneline.params.section import (
    MOST,
    Given,
    NotNegative,
    Positive,
    PositiveFloat,
    Section,
    Seed,
    StepsOrShare,
    WarmUp,
    one_of,
)


class Schedule(Section):
    """The keys that `base.builtin` and `finetune` share."""

    seed: Seed
    num_train_epochs: Annotated[float, Field(ge=0.0, le=1_000_000.0)]
    """How often each example is seen, at most; 0, only in `finetune` of a merged model: nothing is trained."""
    max_steps: Positive | None = None
    """Optimizer steps at most; null: as many as num_train_epochs gives."""
    optim: one_of(("muon", *OPTIMIZERS))  # pyright: ignore[reportInvalidTypeForm]
    """A name of transformers, or `muon`: Muon for the matrices of the layers, AdamW for the other weights."""
    learning_rate: PositiveFloat
    adam_learning_rate: PositiveFloat | None = None
    """With muon, the learning rate of AdamW; null: learning_rate."""
    lr_scheduler_type: one_of(SCHEDULERS)  # pyright: ignore[reportInvalidTypeForm]
    warmup_steps: WarmUp
    weight_decay: NotNegative
    eval_steps: StepsOrShare
    """How often the validation rows, or the held-out texts, are measured."""
    early_stopping_patience: Positive | None = None
    """Measurements of validation without a better value, after which training stops; the best weights are kept. null:
    the last weights are kept."""
    save_steps: StepsOrShare
    logging_steps: StepsOrShare


class Training(Given, Schedule, TrainingArguments):
    """Everything that the training loop must know, without the machine (section `compute`)."""

    max_grad_norm: NotNegative
    per_device_train_batch_size: Positive
    """Rows of one process in a step: packed rows, or documents where `packing` is false."""
    gradient_accumulation_steps: Positive
    nproc_per_node: Annotated[int, Field(ge=1, le=1024)]
    """Processes that train together. They change the order of sums, so they are a part of a model's identity."""
    fsdp: Literal["full_shard"] | None = None
    """full_shard: the processes share weights, gradients and optimizer state; null: each process has all (DDP)."""
    packing: bool
    """Several complete documents in one row; no document sees another. For tasks that predict tokens."""
    max_length: Positive
    """Tokens in a row."""
    save_total_limit: Annotated[int, Field(ge=2, le=MOST)]
    """Two at least: one checkpoint must be left when the process is killed while it writes the newest."""
    l1_decay: NotNegative | None = None
    """After each step the weights of weight_decay move towards 0 by learning rate x l1_decay, and stop there."""
    layerwise_lr_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Each layer has the learning rate of the layer above it times this; the output head has learning_rate."""
    load_best_model_at_end: bool = False
    """Keep the best weights without stopping early."""
