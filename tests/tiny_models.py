"""Tiny models of several architectures with random weights, random examples, and a training config for them."""

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    set_seed,
)

from tuneline.encoding.examples import IGNORED, Example, Labelled, Preference, Preferences
from tuneline.training.training_config import TrainingConfig

VOCABULARY = 300
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
TEXTS = [
    " ".join(WORDS[(start * step + step) % len(WORDS)] for step in range(3 + start % 9)) + "." for start in range(200)
]


def tiny(family: str, **more: Any) -> PreTrainedModel:
    """A model with random weights, in evaluation mode."""
    set_seed(0)
    shape: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 48}
    heads |= {"max_position_embeddings": 128}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**(shape | heads | more))).eval()
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(head_dim=16, **(shape | heads | more))).eval()
    if family == "mixtral":
        return MixtralForCausalLM(MixtralConfig(num_local_experts=2, **(shape | heads | more))).eval()
    if family == "gpt2":
        config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128, **more)
        return GPT2LMHeadModel(config).eval()
    if family == "mamba":
        return MambaForCausalLM(MambaConfig(**shape, state_size=8, **more)).eval()
    raise AssertionError(family)


def documents(count: int = 40, seed: int = 0) -> list[Example]:
    """Random documents of 4 to 20 tokens; the later half is supervised."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        length = int(torch.randint(4, 21, (), generator=generator))
        ids = torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()
        made.append(Example(ids, [IGNORED] * (length // 2) + ids[length // 2 :]))
    return made


def classifier(family: str, labels: int = 3, **more: Any) -> PreTrainedModel:
    """A model with random weights and a head for labels, in evaluation mode."""
    set_seed(0)
    shape: dict[str, Any] = {"vocab_size": VOCABULARY, "num_labels": labels, "pad_token_id": 1}
    heads: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    heads |= {"intermediate_size": 48, "max_position_embeddings": 128}
    if family == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=128, **shape, **more)
        return GPT2ForSequenceClassification(config).eval()
    if family == "bert":
        return BertForSequenceClassification(BertConfig(**shape, **heads, **more)).eval()
    heads |= {"num_key_value_heads": 2}
    if family == "qwen3":
        return Qwen3ForSequenceClassification(Qwen3Config(head_dim=16, **shape, **heads, **more)).eval()
    return LlamaForSequenceClassification(LlamaConfig(**shape, **heads, **more)).eval()


def labelled(count: int = 40, seed: int = 0, *, kind: str = "single", labels: int = 3) -> list[Labelled]:
    """Random texts whose target is the third of the vocabulary that their first token belongs to."""
    made = []
    for example in documents(count, seed):
        place = example.input_ids[0] * labels // VOCABULARY
        target: Any = place
        if kind == "several":
            target = [float(label <= place) for label in range(labels)]
        if kind == "number":
            target = example.input_ids[0] / VOCABULARY
        made.append(Labelled([ids if ids > 1 else 2 for ids in example.input_ids], target))
    return made


def pairs(count: int, seed: int = 0) -> Preferences:
    """Random prompts with two random answers each."""
    made = []
    for first, second in zip(documents(count, seed), documents(count, seed + 1000), strict=True):
        prompt, chosen = first.input_ids[:3], first.input_ids[3:]
        made.append(Preference(prompt, chosen, second.input_ids))
    return Preferences(made)


TRAINING: dict[str, Any] = {
    "seed": 0,
    "num_train_epochs": 2.0,
    "optim": "adamw_torch",
    "learning_rate": 3e-3,
    "weight_decay": 0.0,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 2,
    "packing": True,
    "max_length": 32,
    "logging_steps": 3,
    "eval_steps": 4,
    "save_steps": 2,
    "gradient_accumulation_steps": 1,
    "nproc_per_node": 1,
    "save_total_limit": 2,
}


def training_config(**more: Any) -> TrainingConfig:
    return TrainingConfig(**(TRAINING | more))
