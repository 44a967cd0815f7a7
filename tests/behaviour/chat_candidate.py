"""A tiny chat model that has learned two answers with LoRA, its base, and a project folder to check it in."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from chats import CHATML
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tuneline.encoding.encode import encode_records
from tuneline.encoding.examples import CHAT
from tuneline.modeling import adapters
from tuneline.modeling import models as model_folders
from tuneline.params import editing

TALKS = [("Where is my parcel?", "It is in Ghent."), ("Who are you?", "A helper for parcels.")]
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "modules_to_save": ["lm_head"]}


class Folders(NamedTuple):
    """The folders of two models."""

    base: Path
    merged: Path


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The base, and the same with merged adapters that have learned to answer."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=160, **shape, **ids))
    model_folders.save(base, tokenizer, root / "base", CHAT)
    talks = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in TALKS
    ]
    examples = [example for found in encode_records(tokenizer, talks) for example in found]
    wrapped = adapters.wrap(base, LORA, 0)
    optimizer = torch.optim.AdamW([one for one in wrapped.parameters() if one.requires_grad], lr=5e-3)
    for step in range(120):
        example = examples[step % len(examples)]
        labels = torch.tensor([example.labels])
        wrapped(input_ids=torch.tensor([example.input_ids]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model_folders.save(adapters.merge(wrapped), tokenizer, root / "merged", CHAT)
    return Folders(root / "base", root / "merged")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str, folders: Folders) -> Path:
    """The params of a project in the working directory, with the chat model as its candidate."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    editing.set_values(Path("params.yaml"), {"evaluate.max_new_tokens": 16, "compute.threads": 1})
    shutil.copytree(folders.merged, Path("models/finetuned"))
    Path("data").mkdir()
    return tmp_path


def _tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([text for talk in TALKS for text in talk] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    return tokenizer
