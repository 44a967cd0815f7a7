"""Folders with tiny real models of each task that differ in their weights only."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tuneline.modeling import models

LABELS = ["refund", "delivery", "praise"]


def make_tokenizer(size: int = 300) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and a few merges."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["Where is my parcel?", "Thank you, all is well."] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def make_base(seed: int, size: int = 300) -> LlamaForCausalLM:
    """A model with random weights that are so large that its probabilities differ from those of another seed."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"vocab_size": size, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    base = LlamaForCausalLM(LlamaConfig(eos_token_id=0, bos_token_id=0, pad_token_id=0, **shape))
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(12 if parameter.dim() > 1 else 1)
    return base


def save(kind: str, seed: int, folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a model of a kind: plain, single, several or number."""
    if kind == "plain":
        models.save(make_base(seed, len(tokenizer)), tokenizer, folder, "plain")
        return folder
    base = folder.parent / f"{folder.name}-base"
    models.save(make_base(seed, len(tokenizer)), tokenizer, base)
    problem = {"single": "single_label_classification", "several": "multi_label_classification"}.get(kind, "regression")
    # The labels of two models may be in different orders.
    names = [] if kind == "number" else (LABELS if seed % 2 else LABELS[::-1])
    model, _ = models.new_classifier(base, names, problem, seed)
    with torch.no_grad():
        model.score.weight.mul_(20)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    models.save(model, tokenizer, folder, "regression" if kind == "number" else "classification")
    return folder
