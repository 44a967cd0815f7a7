"""The workload of benchmarks/training.py: rows of the built-in corpus, a base, a project and batches."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tuneline import params
from tuneline.core import files
from tuneline.corpus import docstrings
from tuneline.data.records.record_form import RecordForm
from tuneline.encoding import encode, packing
from tuneline.encoding.examples import IGNORED, Example
from tuneline.modeling import forward, models
from tuneline.params import editing
from tuneline.pretraining import pretrain

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = 2048
_VALIDATION_ROWS = 20
_OF_THE_PROJECT = ("params.yaml", "mlflow/tuneline.env", "requirements.lock")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training: its rows, its base and its recipe, the same for all who run it."""

    name: str
    rows: int
    heldout: int
    longest: int
    """Tokens of a row, prompt and completion."""
    shortest: int = 0
    long_prompts: bool = False
    """Whole docstrings, of which the end is supervised, in place of a definition and its summary."""
    hidden: int = 256
    intermediate: int = 592
    vocabulary: int = VOCABULARY
    """Of the model; the tokenizer's stays the same, so a larger one only costs."""
    width: int = 256
    batch: int = 8
    learning_rate: float = 1e-3
    threads: int = 2

    @property
    def tokens_a_step(self) -> int:
        """At most, where rows are packed."""
        return self.width * self.batch


@dataclass(frozen=True)
class Made:
    """Where a case's files lie, and its measures."""

    folder: Path
    rows: int
    tokens: int
    supervised: int
    parameters: int
    steps: int
    """Of packed rows."""

    @property
    def base(self) -> Path:
        """A model folder."""
        return self.folder / "base"

    @property
    def batches(self) -> Path:
        """Of all packed rows, in our order."""
        return self.folder / "batches.pt"

    @property
    def data(self) -> Path:
        """The rows as prompt and completion, in train.jsonl."""
        return self.folder / "data"

    @property
    def project(self) -> Path:
        """What `python -m tuneline.stages finetune` needs, ready to be copied."""
        return self.folder / "project"

    @property
    def heldout(self) -> Path:
        """Rows that are not trained on."""
        return self.folder / "heldout.jsonl"


def make(case: Case, folder: Path) -> Made:
    """Write everything a training of `case` needs, from the standard library's docstrings alone."""
    rows = _pairs(case.long_prompts)
    random.Random(0).shuffle(rows)
    tokenizer = pretrain.train_tokenizer([prompt + answer for prompt, answer in rows], VOCABULARY, 2 * case.width)
    lengths = [len(ids) + 1 for ids in tokenizer([prompt + answer for prompt, answer in rows])["input_ids"]]
    rows = [row for row, length in zip(rows, lengths, strict=True) if case.shortest <= length <= case.longest]
    wanted = case.rows + case.heldout + _VALIDATION_ROWS
    if len(rows) < wanted:
        raise SystemExit(
            f"{case.name}: the corpus has only {len(rows)} rows of {case.shortest} to {case.longest} tokens"
        )
    train, heldout, validation = (
        rows[: case.rows],
        rows[case.rows : case.rows + case.heldout],
        rows[case.rows + case.heldout : wanted],
    )
    for path, part in ((folder / "data" / "train.jsonl", train), (folder / "heldout.jsonl", heldout)):
        files.write_jsonl(path, [{"prompt": prompt, "completion": answer} for prompt, answer in part])
    _base(case, tokenizer, folder / "base")
    _project(case, folder / "project", {"train": train, "validation": validation})
    shutil.copytree(folder / "base", folder / "project" / "models" / "base")
    p = params.load(folder / "project" / "params.yaml")
    clean = folder / "project" / "data" / "clean"
    examples, account = encode.encode_split(
        tokenizer, clean / "train", "prompt-completion", ("prompt", "completion"), p.finetune
    )
    batches = _batches(case, list(examples), models.pad_token_id(tokenizer))
    torch.save(batches, folder / "batches.pt")
    count = sum(weights.numel() for weights in AutoModelForCausalLM.from_pretrained(folder / "base").parameters())
    return Made(folder, account.rows, account.tokens, account.supervised_tokens, count, len(batches))


def heldout_loss(model: Path, rows: Path, longest: int) -> float:
    """Nats per token of the held-out completions with end-of-text: each row alone, without the code of a trainer."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    examples = []
    for line in rows.read_text("utf-8").splitlines():
        row = json.loads(line)
        prompt, answer = (tokenizer(row[name])["input_ids"] for name in ("prompt", "completion"))
        answer = [*answer, tokenizer.eos_token_id]
        examples.append(Example((prompt + answer)[:longest], ([IGNORED] * len(prompt) + answer)[:longest]))
    summed, count = forward.total_nll(loaded, examples, pad=models.pad_token_id(tokenizer), sparse=False, batch_size=32)
    return summed / count


def _pairs(long_prompts: bool) -> list[tuple[str, str]]:
    pairs, texts = docstrings.corpus(docstrings.standard_library())
    if long_prompts:
        cut = [(row.text, int(len(row.text) * 0.8)) for row in texts]
        return list(dict.fromkeys((text[:at], text[at:]) for text, at in cut if at))
    return list(dict.fromkeys((row.prompt, row.completion) for row in pairs))


def _base(case: Case, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        intermediate_size=case.intermediate,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2 * case.width,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(pretrain.END_OF_TEXT),
        pad_token_id=models.pad_token_id(tokenizer),
    )
    models.save(LlamaForCausalLM(config), tokenizer, folder)


def _project(case: Case, folder: Path, splits: dict[str, list[tuple[str, str]]]) -> None:
    for name in _OF_THE_PROJECT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    recipe: dict[str, Any] = {
        "num_train_epochs": 1.0,
        "learning_rate": case.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "per_device_train_batch_size": case.batch,
        "max_length": case.width,
        "eval_steps": 500,
        "save_steps": 500,
        "logging_steps": 10,
    }
    values = {f"finetune.{key}": value for key, value in recipe.items()}
    editing.set_values(folder / "params.yaml", values | {"task": "sft", "compute.threads": case.threads})
    for split, rows in splits.items():
        columns = {
            "id": [f"{split}{number}" for number in range(len(rows))],
            "source": [f"rows.jsonl:{number + 1}" for number in range(len(rows))],
            "prompt": [prompt for prompt, _ in rows],
            "completion": [answer for _, answer in rows],
        }
        files.write_parquet(folder / "data" / "clean" / split / "part-00000.parquet", pa.table(columns))
    counts = {split: len(rows) for split, rows in splits.items()}
    about = RecordForm("prompt-completion").as_json() | {"rows": counts, "mixture": {}}
    files.write_json(folder / "data" / "clean" / "dataset.json", about)


def _batches(case: Case, examples: list[Example], pad: int) -> list[dict[str, torch.Tensor]]:
    lengths = [len(example.input_ids) for example in examples]
    rows = packing.plan(lengths, width=case.width, batch_size=case.batch, epochs=1.0, seed=0, packed=True)
    documents = packing.Rows(examples, rows)
    return [
        packing.collate([documents[row] for row in range(start, min(start + case.batch, len(rows)))], pad)
        for start in range(0, len(rows), case.batch)
    ]
