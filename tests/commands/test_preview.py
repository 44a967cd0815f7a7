"""What is shown is what is trained: read back from the trainer's own batches."""

import html
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from chats import encode_split
from click.testing import CliRunner
from transformers import LlamaConfig, LlamaForCausalLM

from tuneline import params
from tuneline.cli import cli
from tuneline.commands import preview
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm, RecordType
from tuneline.errors import DataError
from tuneline.modeling import models
from tuneline.params import editing, gate
from tuneline.pretraining import pretrain
from tuneline.training import trainer, training_run
from tuneline.training.training_config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202ered"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Params, a clean split of pairs and a base."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")
    values = {"max_length": 64, "per_device_train_batch_size": 2, "num_train_epochs": 1.0, "packing": True}
    editing.set_values(tmp_path / "params.yaml", {f"finetune.{key}": value for key, value in values.items()})
    texts = [" ".join(WORDS[start % 7 : start % 7 + 5]) for start in range(60)]
    tokenizer = pretrain.train_tokenizer([*texts, *WORDS] * 3, 300, 64)
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    models.save(LlamaForCausalLM(LlamaConfig(**shape, **heads)), tokenizer, tmp_path / "models/base")
    write(tmp_path, "prompt-completion", prompt=[f"{text} " for text in texts], completion=[text[:9] for text in texts])
    return tmp_path


def write(place: Path, record_type: RecordType, **columns: list[str]) -> None:
    rows = len(next(iter(columns.values())))
    for name in ("train", "validation"):
        table = pa.table({"source": [f"{name}.csv:{row + 2}" for row in range(rows)]} | columns)
        files.write_parquet(place / f"data/clean/{name}/part-00000.parquet", table)
    files.write_json(place / "data/clean/dataset.json", RecordForm(record_type).as_json() | {"mixture": {}})


def test_preview_reports_rows_that_training_would_cut(project: Path) -> None:
    assert preview.first_rows(params.load(), 1).cut == []
    editing.set_values(project / "params.yaml", {"finetune.max_length": 8})
    shown = preview.first_rows(params.load(), 1)
    assert shown.rows
    [line] = shown.cut
    assert line.startswith("finetune will stop: finetune.max_length: 60 of 60 rows (100.0%) are longer than 8 tokens")
    assert "set finetune.max_length to 64" in line
    assert line in list(preview.lines(shown, coloured=False))[:2]
    editing.set_values(project / "params.yaml", {"finetune.max_truncated_fraction": 1.0})
    assert preview.first_rows(params.load(), 1).cut[0].startswith("60 of 60 rows (100.0%) are longer than 8 tokens")


def test_preview_shows_exactly_the_batches_of_the_trainer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p = params.load()
    shown = preview.first_rows(p, 5).rows
    assert [(row.batch, row.number) for row in shown] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]
    assert any(len(row.documents) > 1 for row in shown)
    seen: list[dict[str, Any]] = []
    original = trainer.ObjectiveTrainer.compute_loss

    def watch(self: Any, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        seen.append({name: value.clone() for name, value in inputs.items()})
        return original(self, model, inputs, *more, **named)

    monkeypatch.setattr(trainer.ObjectiveTrainer, "compute_loss", watch)
    model, tokenizer = models.load(project / "models/base")
    examples, _ = encode_split(tokenizer, project / "data/clean/train", "prompt-completion", p.finetune)
    how = TrainingConfig.from_params(p.finetune, early_stopping_patience=None)
    training_run.train(model, examples, how, pad=models.pad_token_id(tokenizer), folder=project / "work/x")
    for row in shown:
        batch = seen[row.batch - 1]
        ids = [token.id for document in row.documents for token in document.tokens]
        supervised = [token.is_supervised for document in row.documents for token in document.tokens]
        assert batch["input_ids"][row.number - 1].tolist()[: len(ids)] == ids
        assert batch["input_ids"].shape[1] == len(ids) + row.padding
        targets = [-100, *batch["targets"][row.number - 1].tolist()]
        assert supervised == [target != -100 for target in targets[: len(ids)]]
        starts = [place for place, position in enumerate(batch["position_ids"][row.number - 1]) if position == 0]
        borders = [sum(len(document.tokens) for document in row.documents[:n]) for n in range(len(row.documents))]
        assert starts[: len(borders)] == borders


def test_a_terminal_gets_colours_and_no_control_characters_of_the_data(project: Path) -> None:
    write(project, "prompt-completion", prompt=[f"{HOSTILE} "] * 3, completion=["alpha\nbeta"] * 3)
    made = preview.first_rows(params.load(), 1)
    coloured = list(preview.lines(made, coloured=True))
    assert "\x1b[32malpha\x1b[0m" in "\n".join(coloured)
    assert set(re.findall(r"\x1b\[\d+m", "\n".join(coloured))) == {"\x1b[32m", "\x1b[2m", "\x1b[0m"}
    plain = "\n".join(preview.lines(made, coloured=False))
    assert "\x1b" not in plain
    assert "\u202e" not in plain
    assert r"\x1b[31m\u202ered ⟦alpha" in plain
    assert "beta<|endoftext|>⟧" in plain
    assert re.search(r"┌ train\.csv:\d · \d+ tokens, \d+ supervised", plain)


def test_the_page_is_self_contained_and_escapes_everything(project: Path) -> None:
    write(project, "prompt-completion", prompt=[f"{HOSTILE} "] * 3, completion=["<b>&"] * 3)
    made = preview.first_rows(params.load(), 1)
    preview.write_page(made, project / "page.html")
    page = (project / "page.html").read_text("utf-8")
    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert 'name="viewport"' in page
    assert "<mark>&lt;b&gt;&amp;&lt;|endoftext|&gt;</mark>" in page
    cells = re.findall(r"<tr( class=supervised)?><td>(\d+)</td><td>(\d+)</td><td><code>(.*?)</code></td>", page)
    tokens = [token for document in made.rows[0].documents for token in document.tokens]
    assert [int(number) for _, _, number, _ in cells] == [token.id for token in tokens]
    assert [bool(marked) for marked, *_ in cells] == [token.is_supervised for token in tokens]
    assert html.unescape(cells[0][3]) == tokens[0].text


def shown(task: str, **finetune: Any) -> str:
    p = params.load()
    p = p.model_copy(update={"task": task, "finetune": p.finetune.model_copy(update=finetune)})
    return "\n".join(preview.lines(preview.first_rows(p, 1), coloured=False))


def test_preview_masks_secrets(project: Path) -> None:
    prompts = ["alpha beta", "alpha jane.doe@firm.org beta", "my phone is 415-867-"]
    write(project, "prompt-completion", prompt=prompts, completion=["gamma", "gamma 13912345678.", "5309 delta"])
    made = preview.first_rows(params.load(), 2)
    preview.write_page(made, project / "page.html")
    for text in ("\n".join(preview.lines(made, coloured=False)), (project / "page.html").read_text("utf-8")):
        assert all(secret not in text for secret in ("jane", "firm", "139123", "415-867", "5309"))
        assert "EMAIL" in text
        assert text.count("PHONE") == 2
        assert "delta" in text
    tokens = [token for row in made.rows for document in row.documents for token in document.tokens]
    assert {token.text for token in tokens if token.id == preview.HIDDEN} == {"▒"}
    assert "j" not in "".join(token.text for token in tokens)


def test_preview_shows_every_task(project: Path) -> None:
    write(project, "classification", text=WORDS, label=["sad", "glad"] * 6)
    assert re.search(r"train.csv:\d+ · \d+ tokens, label (sad|glad)", shown("classification"))
    assert "supervised" not in shown("classification").split("no single token is supervised")[1].replace(
        "supervised_", ""
    )
    labelled = params.load().model_copy(update={"task": "classification"})
    preview.write_page(preview.first_rows(labelled, 1), project / "page.html")
    page = (project / "page.html").read_text("utf-8")
    assert re.search(r"<summary>\d+ tokens, label (sad|glad)</summary>", page)
    assert ", 0 supervised" not in page
    write(project, "regression", text=WORDS, label=["0.5"] * 12)
    assert "number 0.5" in shown("regression")
    turns = '[{"role": "user", "content": "alpha"}, {"role": "assistant", "content": "beta"}]'
    write(project, "messages", messages=[turns] * 4, tools=[""] * 4)
    chat = shown("sft")
    assert "│ User:\n│ alpha\n│ \n│ Assistant:\n│ ⟦beta<|endoftext|>⟧" in chat
    assert "mode chat" in chat
    assert "chat_template shipped" in chat
    write(project, "preference", prompt=["alpha "] * 4, chosen=["beta"] * 4, rejected=["mu"] * 4)
    both = shown("preference")
    assert re.search(r"· chosen ·.*\n│ alpha ⟦beta<\|endoftext\|>⟧\n└\n┌.* rejected ·.*\n│ alpha ⟦mu<", both)


def test_the_command_prints_rows_and_writes_the_page(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneline.environment.enter", lambda: None)
    ran = CliRunner().invoke(cli, ["preview", "--rows", "1", "--html", "page.html"])
    assert ran.exit_code == 0, ran.output
    assert "⟦" in ran.output
    assert (project / "page.html").is_file()


def test_missing_clean_data_are_reported_with_the_command(project: Path) -> None:
    (project / "data/clean/dataset.json").unlink()
    with pytest.raises(DataError, match="data/clean: does not hold clean data yet; run"):
        preview.first_rows(params.load(), 1)


@pytest.mark.parametrize("task", ["classification", "preference", "language-modeling", "regression"])
def test_clean_data_of_another_task_are_refused(project: Path, task: str) -> None:
    # `tuneline use` has set another task, and the clean data are still those of the previous task.
    values: dict[str, Any] = {"task": task, "finetune.dpo": {"beta": 0.1, "loss_type": "sigmoid"}}
    metrics = {"classification": "accuracy", "preference": "reward_accuracy", "regression": "mae"}
    metric = metrics.get(task, "bits_per_byte")
    better = gate.metric(metric).better
    values["gate.rules"] = [{"metric": metric, "direction": better, "versus": "champion", "margin": 0.0}]
    editing.set_values(project / "params.yaml", values)
    problem = f"data/clean/dataset.json: the rows are prompt-completion, which task {task} cannot be trained on; run"
    with pytest.raises(DataError, match=problem):
        preview.first_rows(params.load(), 1)
