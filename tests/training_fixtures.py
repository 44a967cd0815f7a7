"""A project that trains in a second, and processes that are killed during its training."""

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chats
import killed_stages
import pyarrow as pa
import pytest
from tiny_models import TEXTS, VOCABULARY, tiny
from transformers import PreTrainedTokenizerFast

from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.pretraining import pretrain

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return pretrain.train_tokenizer(TEXTS, VOCABULARY, 128)


@pytest.fixture
def chatty(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer with the tokens of ChatML."""
    own = chats.fresh(tokenizer)
    own.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    own.chat_template = chats.CHATML
    return own


@pytest.fixture
def base(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The folder of a tiny model."""
    folder = tmp_path / "base"
    models.save(tiny("llama"), tokenizer, folder)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory with params, clean splits, pretraining text and a base, all very small."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")
    training_values = {
        "max_length": 32,
        "per_device_train_batch_size": 4,
        "warmup_steps": 2,
        "logging_steps": 3,
        "save_steps": 4,
        "learning_rate": 0.01,
    }
    tiny_llama = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    builtin = training_values | tiny_llama | {"num_attention_heads": 2, "document_length": 24, "max_steps": 10}
    finetune = training_values | {"num_train_epochs": 1.0, "eval_steps": 5, "gradient_accumulation_steps": 2}
    values: dict[str, Any] = {"compute.threads": 1}
    values |= {f"base.builtin.{key}": value for key, value in builtin.items()}
    values |= {f"finetune.{key}": value for key, value in finetune.items()}
    editing.set_values(tmp_path / "params.yaml", values)
    pairs = [text.split(" ", 1) for text in TEXTS]
    for name, part in (("train", slice(20, None)), ("validation", slice(0, 20))):
        columns = {"prompt": [prompt for prompt, _ in pairs[part]], "completion": [answer for _, answer in pairs[part]]}
        files.write_parquet(tmp_path / f"data/clean/{name}/part-00000.parquet", pa.table(columns))
        files.write_parquet(tmp_path / f"data/pretraining/{name}/part-00000.parquet", pa.table({"text": TEXTS[part]}))
    files.write_json(tmp_path / "data/clean/dataset.json", RecordForm("prompt-completion").as_json() | {"mixture": {}})
    models.save(tiny("llama"), tokenizer, tmp_path / "models/base")
    return tmp_path


@pytest.fixture(scope="session")
def killed_at() -> Callable[[str, Path, int], bool]:
    """A function that trains in a process which kills itself at its n-th access to a checkpoint; True if it did."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tuneline.stages.base"])

    def run(what: str, place: Path, event: int) -> bool:
        process = context.Process(target=killed_stages.run_and_die, args=(killed_stages.STAGES[what], place, event))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0

    return run
