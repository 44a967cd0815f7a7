"""Section `finetune`: how the base is fine-tuned.

Every argument of transformers' TrainingArguments may be added under its own name; so may those of peft's LoraConfig in
`lora`, and of trl's DPOConfig in `dpo`.
"""

# Narrower types than those of the library's arguments, and no defaults.
# pyright: reportGeneralTypeIssues=false, reportIncompatibleVariableOverride=false
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tuneline.params.library_arguments import DPOConfig, LoraConfig
from tuneline.params.section import MOST, Fraction, Given, Length, Positive, PositiveFloat, one_of
from tuneline.params.task_keys import TASK_KEYS, Task
from tuneline.params.training import Training


def _reasons(keys: dict[str, str]) -> dict[str, str]:
    return {key: reason for reason, names in keys.items() for key in names.split()}


_WEIGHTS = "would give other weights after a kill; remove it"
_PROCESSES = "is decided by this pipeline: compute.* and finetune.nproc_per_node name the hardware; remove it"
_REFUSED_ARGUMENTS = _reasons(
    {
        "is decided by this pipeline: checkpoints are in work/; remove it": """
            output_dir resume_from_checkpoint save_on_each_node enable_jit_checkpoint""",
        "is decided by this pipeline: the log goes to MLflow; remove it": """
            report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id""",
        "is decided by this pipeline: set logging_steps, eval_steps and save_steps instead; remove it": """
            logging_strategy eval_strategy save_strategy logging_first_step do_train do_eval do_predict""",
        _WEIGHTS: """
            ignore_data_skip save_only_model restore_callback_states_from_checkpoint eval_on_start
            auto_find_batch_size full_determinism logging_nan_inf_filter""",
        "would drop or reorder rows: finetune.seed decides their order, packing or length their groups; remove it": """
            data_seed dataloader_drop_last remove_unused_columns label_names train_sampling_strategy
            length_column_name dataloader_in_order""",
        "is not available: training sends nothing to the hub; remove it": """
            push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision""",
        _PROCESSES: """
            use_cpu local_rank accelerator_config parallelism_config ddp_find_unused_parameters ddp_bucket_cap_mb
            ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp_config deepspeed
            average_tokens_across_devices dataloader_pin_memory torch_compile torch_compile_backend
            torch_compile_mode tf32 fp16 fp16_full_eval use_liger_kernel liger_kernel_config bf16 bf16_full_eval""",
        "is decided by this pipeline: it has its own progress lines; remove it": """
            log_level log_level_replica log_on_each_node disable_tqdm debug include_num_input_tokens_seen
            skip_memory_metrics""",
        "is decided by this pipeline: it has its own validation; remove it": """
            prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps
            include_for_metrics batch_eval_metrics use_cache greater_is_better""",
    }
)
_REFUSED_LORA = _reasons(
    {
        _PROCESSES: "megatron_config megatron_core",
        "gives an adapter that cannot be merged into the model, and the merged model is registered; remove it": """
            layer_replication trainable_token_indices alora_invocation_tokens use_qalora""",
    }
)
_REFUSED_DPO = _reasons(
    {
        "is decided by this pipeline: other keys decide model, precision and rows; remove it": """
            model_init_kwargs trust_remote_code dataset_num_proc max_length truncation_mode padding_free
            pad_to_multiple_of pad_token precompute_ref_log_probs precompute_ref_batch_size activation_offloading""",
        _WEIGHTS: "sync_ref_model ref_model_mixup_alpha ref_model_sync_steps",
    }
)
_LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
_LossType = one_of(_LOSS_TYPES)
_SHARDED_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop", "sgd")
"""The optimizers of transformers that update each weight by itself, so that a shard of a matrix is enough."""


def _refuse(reasons: dict[str, str]) -> Any:
    """A validator that refuses each key of `reasons` with its reason."""

    def refuse(_: object, info: ValidationInfo) -> None:
        raise ValueError(reasons[info.field_name or ""])

    return field_validator(*reasons, mode="before")(refuse)


class Lora(Given, LoraConfig):
    """Low-rank adapters; without `target_modules` peft's own choice for the model's family."""

    r: Annotated[int, Field(ge=1, le=65_536)]
    """Rank."""
    lora_alpha: Positive
    """The adapter is multiplied by lora_alpha / r."""
    lora_dropout: Annotated[float, Field(ge=0.0, lt=1.0)]
    _refuse_lora = _refuse(_REFUSED_LORA)


class Dpo(Given, DPOConfig):
    """Task preference: how strongly the base holds the model back, and the loss."""

    beta: PositiveFloat
    loss_type: _LossType | list[_LossType]  # pyright: ignore[reportInvalidTypeForm]
    _refuse_dpo = _refuse(_REFUSED_DPO)


class Freeze(Given):
    """Weights that are not trained."""

    embeddings: bool = False
    """Where they are the output head too, it is kept with them."""
    layers: list[Annotated[int, Field(ge=0, le=MOST)]] = Field(default_factory=list)
    """Numbers of layers, from 0, the one after the embeddings."""
    modules: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Names of modules, or parts of names from dot to dot: lm_head, q_proj, layers.0.mlp."""

    @model_validator(mode="after")
    def _names_something(self) -> "Freeze":
        if not (self.embeddings or self.layers or self.modules):
            raise PydanticCustomError(
                "freezes_nothing", "freezes nothing; name embeddings, layers or modules, or remove it"
            )
        return self


class Finetune(Training):
    max_length: Length
    """Tokens in a row."""
    overlong: Literal["error", "drop", "truncate", "split"]
    """What is done with a document over `max_length`: truncate cuts prompts first; split (texts only) loses nothing."""
    max_dropped_fraction: Fraction
    """Share of the training rows that may be dropped; above it `finetune` stops."""
    max_truncated_fraction: Fraction
    """Share of the training rows that `overlong: truncate` may cut, and of the supervised tokens that it may remove;
    above it `finetune` stops."""
    dataloader_num_workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    label_smoothing_factor: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    neftune_noise_alpha: PositiveFloat | None = None
    dropout: dict[str, Annotated[float, Field(ge=0.0, lt=1.0)]] | None = None
    """Keys of the base's own config.json, with the values that they have while it is trained."""
    freeze: Freeze | None = None
    class_weights: Literal["balanced"] | None = None
    """Task classification: balanced gives every label the same weight in the loss, however rare it is."""
    lora: Lora | None = None
    """Train low-rank adapters instead of the weights."""
    dpo: Dpo | None = None
    """Task preference."""
    _refuse_arguments = _refuse(_REFUSED_ARGUMENTS)

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


def unfit(task: Task, finetune: Finetune) -> list[tuple[str, str]]:
    """The keys that do not fit the task.

    Args:
        task: the task of params.yaml.
        finetune: section `finetune`.

    Returns:
        Pairs of a key and its problem.
    """
    keys = TASK_KEYS[task]
    missing = [
        (key, f"is missing, and task {task} needs it; {remedy}")
        for key, remedy in keys.required
        if getattr(finetune, key) is None
    ]
    # The default of a key that does nothing is null or 0.
    idle = [
        (key, f"has no meaning for task {task}; {remedy}") for key, remedy in keys.refused if getattr(finetune, key)
    ]
    return [*missing, *idle, *_unfit_regularisation(task, finetune)]


def _unfit_regularisation(task: Task, finetune: Finetune) -> list[tuple[str, str]]:
    found = []
    if finetune.freeze and finetune.lora:
        problem = (
            "would do nothing with lora, which trains only its adapters; remove it, or use lora.layers_to_transform"
        )
        found.append(("freeze", problem))
    if not finetune.dropout or task != "preference":
        return found
    if finetune.lora:
        problem = (
            "does not fit task preference with lora: the base, which holds the model back, is the same model and would "
            "have dropout too; remove it, or use lora.lora_dropout with dpo: {disable_dropout: false}"
        )
        found.append(("dropout", problem))
    elif finetune.dpo and finetune.dpo.disable_dropout is not False:
        problem = "would do nothing: trl turns dropout off; add disable_dropout: false to finetune.dpo, or remove it"
        found.append(("dropout", problem))
    return found


def unfit_to_shard(task: Task, finetune: Finetune, *, torch_compile: bool) -> list[str]:
    """The problems of `fsdp: full_shard`; empty if fsdp is null.

    Args:
        task: the task of params.yaml.
        finetune: section `finetune`.
        torch_compile: whether the model is compiled.

    Returns:
        Each problem with its remedy.
    """
    if finetune.fsdp is None:
        return []
    found = []
    if finetune.nproc_per_node == 1:
        found.append("needs several processes, and nproc_per_node is 1; set nproc_per_node to 2 or more")
    if finetune.optim not in _SHARDED_OPTIMIZERS:
        known = ", ".join(_SHARDED_OPTIMIZERS)
        found.append(
            f"does not fit optim {finetune.optim}, which may need complete matrices; set optim to one of {known}"
        )
    if not TASK_KEYS[task].can_shard:
        found.append(f"does not fit task {task}, because its trainer does not support it")
    if torch_compile:
        found.append("does not fit compute.torch_compile; set torch_compile to false")
    return found
