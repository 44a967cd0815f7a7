# Made by scripts/library_arguments.py from transformers 5.24.0, trl 1.16.0, peft 0.21.2. Do not edit.
# ruff: noqa: E501
# fmt: off
"""The arguments of TrainingArguments, DPOConfig and LoraConfig, with the types that YAML can hold.

A key that is left out is None and has the default of its library.
"""

from typing import Any, Literal

from tuneline.params.section import Integer, Section, Unholdable

_ABSENT: Any = None

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adafactor", "adamw_anyprecision", "adamw_torch_4bit", "adamw_torch_8bit", "ademamix", "sgd", "adagrad", "adamw_bnb_8bit", "adamw_8bit", "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise", "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "lomo", "adalomo", "grokadamw", "schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd", "apollo_adamw", "apollo_adamw_layerwise", "stable_adamw")
SCHEDULERS = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy")


class TrainingArguments(Section):
    output_dir: str | None = _ABSENT
    per_device_train_batch_size: Integer = _ABSENT
    num_train_epochs: float = _ABSENT
    max_steps: Integer = _ABSENT
    learning_rate: float = _ABSENT
    lr_scheduler_type: str = _ABSENT
    lr_scheduler_kwargs: dict | str | None = _ABSENT
    warmup_steps: float = _ABSENT
    optim: str = _ABSENT
    optim_args: str | None = _ABSENT
    weight_decay: float = _ABSENT
    adam_beta1: float = _ABSENT
    adam_beta2: float = _ABSENT
    adam_epsilon: float = _ABSENT
    optim_target_modules: str | list[str] | None = _ABSENT
    gradient_accumulation_steps: Integer = _ABSENT
    average_tokens_across_devices: bool = _ABSENT
    max_grad_norm: float = _ABSENT
    label_smoothing_factor: float = _ABSENT
    bf16: bool = _ABSENT
    fp16: bool = _ABSENT
    bf16_full_eval: bool = _ABSENT
    fp16_full_eval: bool = _ABSENT
    tf32: bool | None = _ABSENT
    activation_checkpointing: bool | None = _ABSENT
    activation_checkpointing_kwargs: dict | str | None = _ABSENT
    gradient_checkpointing: bool | None = _ABSENT
    gradient_checkpointing_kwargs: dict | str | None = _ABSENT
    torch_compile: bool = _ABSENT
    torch_compile_backend: str | None = _ABSENT
    torch_compile_mode: str | None = _ABSENT
    use_liger_kernel: bool = _ABSENT
    liger_kernel_config: dict | None = _ABSENT
    use_cache: bool = _ABSENT
    neftune_noise_alpha: float | None = _ABSENT
    torch_empty_cache_steps: Integer | None = _ABSENT
    auto_find_batch_size: bool = _ABSENT
    logging_strategy: str = _ABSENT
    logging_steps: float = _ABSENT
    logging_first_step: bool = _ABSENT
    log_on_each_node: bool = _ABSENT
    logging_nan_inf_filter: bool = _ABSENT
    include_num_input_tokens_seen: str | bool = _ABSENT
    log_level: str = _ABSENT
    log_level_replica: str = _ABSENT
    disable_tqdm: bool | None = _ABSENT
    report_to: str | list[str] | None = _ABSENT
    run_name: str | None = _ABSENT
    project: str = _ABSENT
    trackio_space_id: str | None = _ABSENT
    trackio_bucket_id: str | None = _ABSENT
    trackio_static_space_id: str | Literal[False] | None = _ABSENT
    eval_strategy: str = _ABSENT
    eval_steps: float | None = _ABSENT
    eval_delay: float = _ABSENT
    per_device_eval_batch_size: Integer = _ABSENT
    prediction_loss_only: bool = _ABSENT
    eval_on_start: bool = _ABSENT
    eval_do_concat_batches: bool = _ABSENT
    eval_use_gather_object: bool = _ABSENT
    eval_accumulation_steps: Integer | None = _ABSENT
    include_for_metrics: list[str] = _ABSENT
    batch_eval_metrics: bool = _ABSENT
    save_only_model: bool = _ABSENT
    save_strategy: str = _ABSENT
    save_steps: float = _ABSENT
    save_on_each_node: bool = _ABSENT
    save_total_limit: Integer | None = _ABSENT
    enable_jit_checkpoint: bool = _ABSENT
    push_to_hub: bool = _ABSENT
    hub_token: str | None = _ABSENT
    hub_private_repo: bool | None = _ABSENT
    hub_model_id: str | None = _ABSENT
    hub_strategy: str = _ABSENT
    hub_always_push: bool = _ABSENT
    hub_revision: str | None = _ABSENT
    load_best_model_at_end: bool = _ABSENT
    metric_for_best_model: str | None = _ABSENT
    greater_is_better: bool | None = _ABSENT
    ignore_data_skip: bool = _ABSENT
    restore_callback_states_from_checkpoint: bool = _ABSENT
    full_determinism: bool = _ABSENT
    seed: Integer = _ABSENT
    data_seed: Integer | None = _ABSENT
    use_cpu: bool = _ABSENT
    accelerator_config: dict | str | None = _ABSENT
    parallelism_config: Unholdable = _ABSENT
    dataloader_drop_last: bool = _ABSENT
    dataloader_num_workers: Integer = _ABSENT
    dataloader_pin_memory: bool = _ABSENT
    dataloader_persistent_workers: bool = _ABSENT
    dataloader_prefetch_factor: Integer | None = _ABSENT
    dataloader_multiprocessing_context: str | None = _ABSENT
    dataloader_in_order: bool = _ABSENT
    remove_unused_columns: bool = _ABSENT
    label_names: list[str] | None = _ABSENT
    train_sampling_strategy: str = _ABSENT
    length_column_name: str = _ABSENT
    ddp_find_unused_parameters: bool | None = _ABSENT
    ddp_bucket_cap_mb: Integer | None = _ABSENT
    ddp_broadcast_buffers: bool | None = _ABSENT
    ddp_static_graph: bool | None = _ABSENT
    ddp_backend: str | None = _ABSENT
    ddp_timeout: Integer = _ABSENT
    fsdp: str | None = _ABSENT
    fsdp_config: dict | str | None = _ABSENT
    deepspeed: dict | str | None = _ABSENT
    debug: str = _ABSENT
    skip_memory_metrics: bool = _ABSENT
    do_train: bool = _ABSENT
    do_eval: bool = _ABSENT
    do_predict: bool = _ABSENT
    resume_from_checkpoint: str | None = _ABSENT
    local_rank: Integer = _ABSENT


class DPOConfig(Section):
    learning_rate: float = _ABSENT
    model_init_kwargs: dict | str | None = _ABSENT
    trust_remote_code: bool = _ABSENT
    router_aux_loss_coef: float | None = _ABSENT
    disable_dropout: bool = _ABSENT
    dataset_num_proc: Integer | None = _ABSENT
    max_length: Integer | None = _ABSENT
    truncation_mode: str = _ABSENT
    padding_free: bool = _ABSENT
    pad_to_multiple_of: Integer | str | None = _ABSENT
    precompute_ref_log_probs: bool = _ABSENT
    precompute_ref_batch_size: Integer | None = _ABSENT
    loss_type: list[str] = _ABSENT
    loss_weights: list[float] | None = _ABSENT
    ld_alpha: float | None = _ABSENT
    f_divergence_type: str = _ABSENT
    f_alpha_divergence_coef: float = _ABSENT
    label_smoothing: float = _ABSENT
    beta: float = _ABSENT
    use_weighting: bool = _ABSENT
    discopop_tau: float = _ABSENT
    activation_offloading: bool = _ABSENT
    sync_ref_model: bool = _ABSENT
    ref_model_mixup_alpha: float = _ABSENT
    ref_model_sync_steps: Integer = _ABSENT
    pad_token: str | None = _ABSENT


class LoraConfig(Section):
    r: Integer = _ABSENT
    target_modules: list[str] | str | None = _ABSENT
    exclude_modules: list[str] | str | None = _ABSENT
    lora_alpha: Integer = _ABSENT
    lora_dropout: float = _ABSENT
    fan_in_fan_out: bool = _ABSENT
    bias: Literal["none", "all", "lora_only"] = _ABSENT
    use_rslora: bool = _ABSENT
    modules_to_save: list[str] | None = _ABSENT
    init_lora_weights: bool | Literal["gaussian", "eva", "olora", "pissa", "pissa_niter_[number of iters]", "corda", "loftq", "orthogonal", "mica"] = _ABSENT
    layers_to_transform: list[Integer] | Integer | None = _ABSENT
    layers_pattern: list[str] | str | None = _ABSENT
    rank_pattern: dict | None = _ABSENT
    alpha_pattern: dict | None = _ABSENT
    megatron_config: dict | None = _ABSENT
    megatron_core: str | None = _ABSENT
    trainable_token_indices: list[Integer] | dict | None = _ABSENT
    loftq_config: dict = _ABSENT
    eva_config: Unholdable = _ABSENT
    corda_config: Unholdable = _ABSENT
    lora_ga_config: Unholdable = _ABSENT
    use_dora: bool = _ABSENT
    velora_config: dict | None = _ABSENT
    alora_invocation_tokens: list[Integer] | None = _ABSENT
    use_qalora: bool = _ABSENT
    qalora_group_size: Integer = _ABSENT
    monteclora_config: Unholdable = _ABSENT
    layer_replication: Unholdable = _ABSENT
    runtime_config: Unholdable = _ABSENT
    lora_bias: bool = _ABSENT
    target_parameters: list[str] | None = _ABSENT
    use_bdlora: Unholdable = _ABSENT
    arrow_config: Unholdable = _ABSENT
    kasa_config: Unholdable = _ABSENT
    ensure_weight_tying: bool = _ABSENT
