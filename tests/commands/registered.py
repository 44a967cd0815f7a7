"""A project with one version of each mode in a real registry, and the command line in this process."""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner, Result
from projects import ROOT, entered
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tuneline import environment, params
from tuneline.cli import cli
from tuneline.core import files
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.registry import mlmodel, tracking, versions
from tuneline.registry.lineage import Lineage

MODEL = "asked"
VERSIONS = {"classifier": 1, "several": 2, "regression": 3, "plain": 4, "chat": 5}
MAX_LENGTH = 24
LABELS = ["refund", "delivery", "praise"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["Where is my parcel?", "把一个字符串倒过来。"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The project's folder, with one version of each mode; the classification model is champion."""
    root = tmp_path_factory.mktemp("asked 项目")
    before = Path.cwd()
    os.chdir(root)
    try:
        (root / "mlflow").mkdir()
        (root / environment.ENV_FILE).write_bytes((ROOT / environment.ENV_FILE).read_bytes())
        (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        (root / "dvc.lock").write_text("schema: '2.0'\n")
        editing.set_values(
            root / "params.yaml",
            {
                "registry.model": MODEL,
                "finetune.max_length": MAX_LENGTH,
                "evaluate.max_new_tokens": 6,
                "evaluate.batch_size": 3,
                "compute.threads": 1,
            },
        )
        torch.manual_seed(3)
        shape: dict[str, Any] = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        shape |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
        base = LlamaForCausalLM(LlamaConfig(eos_token_id=0, bos_token_id=0, pad_token_id=0, **shape))
        with torch.no_grad():
            for parameter in base.parameters():
                parameter.mul_(12 if parameter.dim() > 1 else 1)
        models.save(base, tokenizer, root / "base")
        mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
        tracker = tracking.connect()
        for kind, number in VERSIONS.items():
            _save(kind, root)
            assert _register(tracker, number) == str(number)
        mlflow.MlflowClient().set_registered_model_alias(MODEL, "champion", "1")
    finally:
        os.chdir(before)
    return root


def _save(kind: str, root: Path) -> None:
    finetuned, base = Path(params.load().paths.finetuned), root / "base"
    if kind in ("plain", "chat"):
        models.save(*models.load(base), finetuned, kind)
        return
    problem = {"classifier": "single_label_classification", "several": "multi_label_classification"}
    labels = [] if kind == "regression" else LABELS
    model, tokenizer = models.new_classifier(base, labels, problem.get(kind, "regression"), 1)
    with torch.no_grad():
        model.score.weight.mul_(20)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    models.save(model, tokenizer, finetuned, "regression" if kind == "regression" else "classification")


def _register(tracker: tracking.Tracker, number: int) -> str:
    p = params.load()
    files.write_parquet(Path(p.paths.clean) / "train/part-00000.parquet", pa.table({"id": ["1"], "cluster": ["a"]}))
    names = (
        *("fingerprint", "model_sha256", "data_sha256", "base_sha256", "evaluation_sha256", "params_sha256"),
        *("dvc_lock_sha256", "environment_sha256", "git_commit"),
    )
    lineage = Lineage(**{name: str(number) * 64 for name in names}, git_dirty="false")
    git = {"git_commit": "2" * 40, "git_dirty": "false"}
    subject = versions.training_subject(p, fingerprint=lineage.fingerprint, data_sha256="b", base_sha256="c", git=git)
    gate = {"verdict": "passed", "rules": []}
    evaluation = {"rows": 1, "candidate": {"accuracy": 1.0}}
    run_id = tracker.ensure_run(subject, [])
    return versions.register(
        tracker, p, lineage, run_id, gate, evaluation, lambda folder: mlmodel.write(folder, p), lambda _: None
    ).version


def table(text: str) -> list[dict[str, str]]:
    """The rows of a command's CSV output."""
    return list(csv.DictReader(io.StringIO(text)))


@dataclass(frozen=True)
class Shell:
    """The command line, in the project's folder."""

    root: Path

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run `tuneline ARGUMENTS…`; without `stdin` standard input is empty."""
        return CliRunner().invoke(cli, arguments, input=stdin)

    def write(self, name: str, data: str | bytes) -> Path:
        """Write a file into the project's folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path


@pytest.fixture
def shell(root: Path, store: Path) -> Iterator[Shell]:
    with entered(root, MLFLOW_TRACKING_URI=f"sqlite:///{store}/mlflow.db"):
        yield Shell(root)
