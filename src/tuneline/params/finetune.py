"""Section `finetune`: how the base is taught.

A key that transformers' TrainingArguments has keeps its name and its meaning, and every other of its arguments may be
added under its own name; so may those of peft's LoraConfig in `lora`, and of trl's DPOConfig in `dpo`.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from tuneline.params import arguments
from tuneline.params.data import Fraction
from tuneline.params.section import Section

# Libraries count in 32 bits here and there, and seeds of NumPy have as many.
_MOST = 2**31 - 1
Positive = Annotated[int, Field(ge=1, le=_MOST)]
Steps = Annotated[int, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Processes = Annotated[int, Field(ge=1, le=1024)]
Length = Annotated[int, Field(ge=8, le=2**24)]
"""Tokens."""
Epochs = Annotated[float, Field(gt=0.0, le=1_000_000.0)]


def _steps_or_share(value: float) -> float:
    if 0 < value < 1:
        return value
    if 1 <= value <= _MOST and value == int(value):
        return int(value)
    raise ValueError("input should be a whole number of steps, or a share of all steps between 0 and 1 such as 0.1")


StepsOrShare = Annotated[float, AfterValidator(_steps_or_share)]
"""Steps from one time to the next, or a share of all steps of the training, as in transformers."""
WarmUp = Annotated[float, AfterValidator(lambda value: value and _steps_or_share(value))]
"""Steps, or a share of all steps, as in transformers; 0: none."""
PositiveFloat = Annotated[float, Field(gt=0.0)]
SchedulerType = arguments.one_of(arguments.SCHEDULERS)

_FOLDER = "is decided by this pipeline: checkpoints lie in work/; remove it"
_TRACKING = "is decided by this pipeline: MLflow is told; remove it"
_WHEN = "is decided by this pipeline: logging_steps, eval_steps and save_steps say when; remove it"
_REPEAT = "would end in other weights after a kill; remove it"
_ROWS = "would leave rows out or order them anew: rows are ordered from seed and grouped or packed by length; remove it"
_HUB = "is not done by training: nothing is sent anywhere; remove it"
_PROCESSES = "is decided by this pipeline: compute.* and finetune.nproc_per_node say on what it trains; remove it"
_PRINTS = "is decided by this pipeline: what is printed is the same everywhere; remove it"
_MEASURES = "is decided by this pipeline: it measures by itself; remove it"
_REFUSED_ARGUMENTS = (
    dict.fromkeys(["output_dir", "resume_from_checkpoint", "save_on_each_node", "enable_jit_checkpoint"], _FOLDER)
    | dict.fromkeys(["report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id"], _TRACKING)
    | {"trackio_static_space_id": _TRACKING}
    | dict.fromkeys(["logging_strategy", "eval_strategy", "save_strategy", "logging_first_step"], _WHEN)
    | dict.fromkeys(["do_train", "do_eval", "do_predict"], _WHEN)
    | dict.fromkeys(["ignore_data_skip", "save_only_model", "restore_callback_states_from_checkpoint"], _REPEAT)
    | {"eval_on_start": _REPEAT}
    | dict.fromkeys(["auto_find_batch_size", "full_determinism", "logging_nan_inf_filter"], _REPEAT)
    | dict.fromkeys(["data_seed", "dataloader_drop_last", "remove_unused_columns", "label_names"], _ROWS)
    | dict.fromkeys(["train_sampling_strategy", "length_column_name", "dataloader_in_order"], _ROWS)
    | dict.fromkeys(["push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy"], _HUB)
    | dict.fromkeys(["hub_always_push", "hub_revision"], _HUB)
    | dict.fromkeys(["use_cpu", "local_rank", "accelerator_config", "parallelism_config"], _PROCESSES)
    | dict.fromkeys(["ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers"], _PROCESSES)
    | dict.fromkeys(["ddp_static_graph", "ddp_backend", "ddp_timeout", "fsdp_config"], _PROCESSES)
    | dict.fromkeys(["deepspeed", "average_tokens_across_devices", "dataloader_pin_memory"], _PROCESSES)
    | dict.fromkeys(["torch_compile", "torch_compile_backend", "torch_compile_mode"], _PROCESSES)
    | dict.fromkeys(["tf32", "fp16", "fp16_full_eval", "use_liger_kernel", "liger_kernel_config"], _PROCESSES)
    | dict.fromkeys(["log_level", "log_level_replica", "log_on_each_node", "disable_tqdm", "debug"], _PRINTS)
    | dict.fromkeys(["include_num_input_tokens_seen", "skip_memory_metrics"], _PRINTS)
    | dict.fromkeys(["prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object"], _MEASURES)
    | dict.fromkeys(["eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics"], _MEASURES)
    | dict.fromkeys(["bf16", "bf16_full_eval", "use_cache", "greater_is_better"], _MEASURES)
)
_REFUSED_LORA = dict.fromkeys(["megatron_config", "megatron_core"], _PROCESSES) | dict.fromkeys(
    ["layer_replication", "trainable_token_indices", "alora_invocation_tokens", "use_qalora"],
    "gives an adapter that cannot be merged into the model, which is what is registered; remove it",
)
_ELSEWHERE = "is decided by this pipeline: the model, its precision and its rows come from elsewhere; remove it"
_REFUSED_DPO = (
    dict.fromkeys(["model_init_kwargs", "trust_remote_code", "dataset_num_proc", "max_length"], _ELSEWHERE)
    | dict.fromkeys(["truncation_mode", "padding_free", "pad_to_multiple_of", "pad_token"], _ELSEWHERE)
    | dict.fromkeys(["precompute_ref_log_probs", "precompute_ref_batch_size", "activation_offloading"], _ELSEWHERE)
    | dict.fromkeys(["sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"], _REPEAT)
)
_LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
_LossType = arguments.one_of(_LOSS_TYPES)
_OWN = (
    "seed", "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay",
    "optim", "max_grad_norm", "per_device_train_batch_size", "gradient_accumulation_steps", "eval_steps", "save_steps",
    "save_total_limit", "logging_steps", "load_best_model_at_end", "label_smoothing_factor", "neftune_noise_alpha",
    "fsdp",
)  # fmt: skip

_SHARDED_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop", "sgd")
"""Of transformers' own those that move each number by itself, whatever part of its matrix a process has."""

_TrainingArguments: type[Section] = arguments.section(
    "TrainingArguments", arguments.TRAINING_ARGUMENTS, "TrainingArguments", own=_OWN, refused=_REFUSED_ARGUMENTS
)
_LoraConfig: type[Section] = arguments.section(
    "LoraConfig", arguments.LORA_CONFIG, "LoraConfig", own=("r", "lora_alpha", "lora_dropout"), refused=_REFUSED_LORA
)
_DPOConfig: type[Section] = arguments.section(
    "DPOConfig", arguments.DPO_CONFIG, "DPOConfig", own=("beta", "loss_type", "learning_rate"), refused=_REFUSED_DPO
)


class _Given(Section):
    """A section that says only what the file says: what it leaves out is the library's to decide."""

    @model_serializer(mode="wrap")
    def _only_what_is_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given = self.model_fields_set
        return {name: value for name, value in handler(self).items() if name in given}


class Lora(_Given, _LoraConfig):
    """Low-rank adapters; without `target_modules` peft's own choice for the model's family."""

    r: Annotated[int, Field(ge=1, le=65_536)]
    """Rank."""
    lora_alpha: Positive
    """The adapter counts lora_alpha / r times."""
    lora_dropout: Annotated[float, Field(ge=0.0, lt=1.0)]


class Dpo(_Given, _DPOConfig):
    """Task preference: how strongly the base holds the model, and by which loss it learns."""

    beta: PositiveFloat
    loss_type: _LossType | list[_LossType]  # pyright: ignore[reportInvalidTypeForm]


class Finetune(_Given, _TrainingArguments):
    seed: Seed
    num_train_epochs: Epochs
    max_steps: Positive | None = None
    """Optimizer steps at most."""
    learning_rate: PositiveFloat
    lr_scheduler_type: SchedulerType  # pyright: ignore[reportInvalidTypeForm]
    warmup_steps: WarmUp
    weight_decay: Annotated[float, Field(ge=0.0)]
    optim: arguments.one_of(arguments.OPTIMIZERS)  # pyright: ignore[reportInvalidTypeForm]
    """A name of transformers, or `muon`: Muon for the layers' matrices, AdamW for the rest."""
    adam_learning_rate: PositiveFloat | None = None
    """Beside muon: of what is no matrix; absent: learning_rate."""
    max_grad_norm: Annotated[float, Field(ge=0.0)]
    per_device_train_batch_size: Positive
    """Packed rows in a step, or documents where `packing` is false."""
    gradient_accumulation_steps: Positive
    nproc_per_node: Processes
    """Processes that share the rows of a step, `per_device_train_batch_size` each; part of a model's identity."""
    fsdp: Literal["full_shard"] | None = None
    """full_shard: these processes share the weights, gradients and optimizer's state too; null: each has all (DDP)."""
    packing: bool
    """Whole documents side by side in one row, none seeing another; where a token is foretold."""
    max_length: Length
    """Tokens in a row."""
    overlong: Literal["error", "drop", "truncate", "split"]
    """What happens to a document over `max_length`; truncate cuts prompts first, split (of texts) loses nothing."""
    max_dropped_fraction: Fraction
    """Of the training rows; above it `finetune` stops."""
    max_truncated_fraction: Fraction
    """Of the training rows that `overlong: truncate` may cut, and of the tokens to be learnt that it may leave out;
    above it `finetune` stops."""
    eval_steps: StepsOrShare
    save_steps: StepsOrShare
    save_total_limit: Annotated[int, Field(ge=2, le=_MOST)]
    """Two at least: a kill while the newest is written must leave one."""
    logging_steps: StepsOrShare
    dataloader_num_workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    early_stopping_patience: Positive | None = None
    """Evaluations without a better measure after which training stops; the best weights are those that are kept."""
    load_best_model_at_end: bool = False
    """Keep the best weights without stopping early."""
    label_smoothing_factor: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    neftune_noise_alpha: PositiveFloat | None = None
    class_weights: Literal["balanced"] | None = None
    """Task classification: balanced gives every label the same weight in the sum, however rare it is."""
    lora: Lora | None = None
    """Train low-rank adapters instead of the weights."""
    dpo: Dpo | None = None
    """Task preference."""

    def arguments(self) -> dict[str, Any]:
        """What the file gives of TrainingArguments beside the keys that this section declares by itself."""
        taken = {*_TrainingArguments.model_fields, "neftune_noise_alpha"}
        return {name: value for name, value in self.model_dump().items() if name in taken and value is not None}

    @model_validator(mode="after")
    def _keys_fit_each_other(self) -> "Finetune":
        others = {"optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon"}
        idle = others if self.optim == "muon" else {"adam_learning_rate"}
        given = sorted(name for name in idle & self.model_fields_set if getattr(self, name) is not None)
        if given:
            raise PydanticCustomError(
                "idle",
                "{keys} would do nothing under optim {optim}; remove it",
                {"keys": ", ".join(given), "optim": self.optim},
            )
        return self


def unfit(task: str, finetune: Finetune) -> list[tuple[str, str]]:
    """The keys of a section that mean nothing for a task.

    Args:
        task: the params' task.
        finetune: the params' section.

    Returns:
        Key, and what is wrong with it.
    """
    found = []
    if task == "preference" and finetune.dpo is None:
        found.append(("dpo", "is missing, and task preference needs it; add dpo: {beta: 0.1, loss_type: sigmoid}"))
    if task in ("regression", "preference") and finetune.label_smoothing_factor:
        instead = "; dpo.label_smoothing is the one of this task" if task == "preference" else ""
        found.append(("label_smoothing_factor", f"has no meaning for task {task}{instead}; remove it"))
    if task != "classification" and finetune.class_weights is not None:
        found.append(("class_weights", f"has no meaning for task {task}; set it to null"))
    return found


def unfit_to_shard(task: str, finetune: Finetune, *, torch_compile: bool) -> list[str]:
    """What keeps `fsdp` from being used; nothing where it is not asked for.

    Args:
        task: the params' task.
        finetune: the params' section.
        torch_compile: whether the model is compiled.

    Returns:
        What is wrong, and how it is mended, each.
    """
    if finetune.fsdp is None:
        return []
    found = []
    if finetune.nproc_per_node == 1:
        found.append("needs processes that share the weights, and nproc_per_node is 1; set it to 2 or more")
    if finetune.optim not in _SHARDED_OPTIMIZERS:
        known = ", ".join(_SHARDED_OPTIMIZERS)
        found.append(f"does not fit optim {finetune.optim}, which may need whole matrices; set optim to one of {known}")
    if task == "preference":
        found.append("does not fit task preference: trl's trainer knows nothing of it")
    if torch_compile:
        found.append("does not fit compute.torch_compile; set that to false")
    return found
