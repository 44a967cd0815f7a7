"""Tiny real models and a tokenizer."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

TEXTS = [
    "def area(width, height):",
    "Return the area of a rectangle.",
    "把一个字符串倒过来。",
    "Open a file and read it all.",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def _make(family: str) -> PreTrainedModel:
    torch.manual_seed(3)
    shape: dict[str, Any] = {"vocab_size": 320, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0}
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **shape))
    else:
        shape |= {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 64,
        }
        if family == "llama":
            model = LlamaForCausalLM(LlamaConfig(**shape))
        else:
            # Gemma 2 caps its logits after the head.
            model = Gemma2ForCausalLM(Gemma2Config(final_logit_softcapping=0.5, **shape))
    # The logits must be so far apart that rounding in a padded batch cannot change an answer.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)
    return model.eval()


@pytest.fixture(scope="session")
def model() -> PreTrainedModel:
    return _make("llama")


@pytest.fixture(scope="session")
def families() -> dict[str, PreTrainedModel]:
    return {family: _make(family) for family in ("llama", "gpt2", "gemma2")}
