import csv
import os
import re
import shutil
from pathlib import Path

import merge_folders
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TEXTS, tiny

from tuneline import params, processes
from tuneline.commands import preview
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import BusyError, ModelError, TrainingError
from tuneline.modeling import model_folder, models
from tuneline.params import editing
from tuneline.reporting import curves
from tuneline.stages import base as base_stage
from tuneline.stages import finetune
from tuneline.training import checkpoints


def run(**values: object) -> None:
    editing.set_values(Path("params.yaml"), {key.replace("__", "."): value for key, value in values.items()})
    finetune.main(params.load())


def test_finetune_writes_a_model_its_log_and_its_counts(workplace: Path) -> None:
    run()
    model, tokenizer = models.load(workplace / "models/finetuned")
    assert model_folder.stored_mode(workplace / "models/finetuned") == "plain"
    assert model.config.use_cache
    assert tokenizer.eos_token == "<|endoftext|>"
    lines = list(csv.DictReader((workplace / "reports/training.csv").open()))
    assert list(lines[0]) == ["step", "tokens", "loss", "learning_rate", "grad_norm", "eval_loss"]
    assert [line["step"] for line in lines if line["eval_loss"]] == ["5", lines[-1]["step"]]
    accounts = files.read_json(workplace / "reports/training.json")
    assert accounts["data"]["rows"] == 180
    assert accounts["tokens"] == accounts["data"]["tokens"]
    assert accounts["supervised_tokens"] == accounts["data"]["supervised_tokens"] < accounts["tokens"]
    assert accounts["steps"] == int(lines[-1]["step"])
    assert accounts["parameters"] == models.count_parameters(model)
    assert len(accounts["fingerprint"]) == 64


def test_every_token_of_plain_text_is_supervised(workplace: Path) -> None:
    for name in ("train", "validation"):
        texts = files.read_parquet(workplace / f"data/pretraining/{name}")
        files.write_parquet(workplace / f"data/clean/{name}/part-00000.parquet", texts)
    files.write_json(workplace / "data/clean/dataset.json", RecordForm("text").as_json() | {"mixture": {}})
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}
    run(task="language-modeling", finetune__overlong="split", gate__rules=[rule])
    data = files.read_json(workplace / "reports/training.json")["data"]
    assert data["supervised_tokens"] == data["tokens"] - data["rows"] - data["rows_split"]


def test_an_empty_split_is_named(workplace: Path) -> None:
    nothing = pa.table({"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())})
    files.write_parquet(workplace / "data/clean/validation/part-00000.parquet", nothing)
    with pytest.raises(TrainingError, match=r"^data/clean/validation: no rows; "):
        run()


def test_rows_longer_than_the_model_sees_are_refused(workplace: Path) -> None:
    with pytest.raises(ModelError, match=r"^finetune.max_length: 129 tokens are more than .* \(128\); set it to 128"):
        run(finetune__max_length=129, base__builtin__max_length=256)
    assert not (workplace / "models/finetuned").exists()


def test_too_much_truncation_is_refused_with_a_length_that_is_enough(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError) as caught:
        run(finetune__max_length=8)
    said = str(caught.value)
    assert "rows (66.7%) are longer than 8 tokens and are cut to that length" in said
    assert not (workplace / "models/finetuned").exists()
    enough = re.search(r"set finetune.max_length to (\d+), which cuts 0.0% of the rows", said)
    assert enough is not None
    capsys.readouterr()
    run(finetune__max_length=int(enough[1]), base__builtin__max_length=64)
    assert "are cut to that length" not in capsys.readouterr().out
    run(finetune__max_length=8, finetune__max_truncated_fraction=1.0)
    assert "rows (66.7%) are longer than 8 tokens and are cut to that length" in capsys.readouterr().out


def test_a_second_trainer_is_refused_with_the_pid_of_the_first(workplace: Path) -> None:
    with processes.exclusive(checkpoints.LOCK, "it"), pytest.raises(BusyError, match=f"pid {os.getpid()}"):
        run()


def test_a_base_without_a_tokenizer_is_named(workplace: Path) -> None:
    for path in (workplace / "models/base").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"^models/base: no tokenizer"):
        run()


@pytest.fixture
def merged(workplace: Path) -> Path:
    """The working directory with a base that a merge of two models has given."""
    base, parents = workplace / "models/base", [merge_folders.nudged(tiny("llama"), number) for number in (1, 2)]
    tokenizer = models.load_tokenizer(base)
    models.save(tiny("llama"), tokenizer, workplace / "models/merge/base")
    for number, parent in enumerate(parents, 1):
        models.save(parent, tokenizer, workplace / f"models/merge/{number}")
    merge_folders.sealed(workplace / "models/merge", "linear", [1.0, 1.0])
    values = {"base.source": "merge", "base.input": "models/merge", "finetune.num_train_epochs": 0.0}
    editing.set_values(workplace / "params.yaml", values)
    base_stage.main(params.load())
    return workplace


def test_zero_epochs_take_over_the_merged_model_as_it_is(merged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(finetune__max_length=8)
    said = "finetune.num_train_epochs is 0: the merged model is taken as it is, and no row is trained on"
    assert said in capsys.readouterr().out.splitlines()
    weights = files.sha256_file(merged / "models/finetuned/model.safetensors")
    assert weights == files.sha256_file(merged / "models/base/merged/model.safetensors")
    assert weights != files.sha256_file(merged / "models/base/model.safetensors")
    report = files.read_json(merged / "reports/training.json")
    assert (report["steps"], report["tokens"]) == (0, 0)
    assert curves.read(merged / "reports/training.csv") == []
    shown = preview.first_rows(params.load(), 3)
    assert shown.rows == []
    assert shown.cut == [said]


def test_more_epochs_train_the_merged_model_further(merged: Path) -> None:
    run(finetune__num_train_epochs=1.0)
    trained = models.load(merged / "models/finetuned")[0].state_dict()
    start, base = (models.load(merged / place)[0].state_dict() for place in ("models/base/merged", "models/base"))
    moved, away = (sum(float((trained[name] - other[name]).norm()) for name in trained) for other in (start, base))
    assert 0 < moved < away
    assert files.read_json(merged / "reports/training.json")["steps"] > 0


def test_a_merge_without_its_model_is_refused(merged: Path) -> None:
    shutil.rmtree(merged / "models/base/merged")
    with pytest.raises(ModelError, match=r"^models/base: has no folder merged; make it with: .venv/bin/dvc repro"):
        run()


def classes(workplace: Path, labels: list[str]) -> None:
    table = pa.table({"text": TEXTS, "label": [labels[number % len(labels)] for number in range(len(TEXTS))]})
    for name in ("train", "validation"):
        files.write_parquet(workplace / f"data/clean/{name}/part-00000.parquet", table)
    form = RecordForm("classification").as_json() | {"mixture": {}}
    files.write_json(workplace / "data/clean/dataset.json", form)


def test_merged_classifiers_keep_the_head_that_they_have_learned(merged: Path) -> None:
    for number in (1, 2):
        model, tokenizer = models.new_classifier(
            merged / "models/merge/base", ["no", "yes"], "single_label_classification", number
        )
        folder = merged / f"models/merge/{number}"
        models.save(merge_folders.nudged(model, number), tokenizer, folder, "classification")
    merge_folders.sealed(merged / "models/merge", "linear", [1.0, 1.0])
    base_stage.main(params.load())
    classes(merged, ["yes", "no"])
    rule = {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}
    run(task="classification", gate__rules=[rule])
    head = load_file(merged / "models/finetuned/model.safetensors")["score.weight"]
    assert torch.equal(head, load_file(merged / "models/base/merged/model.safetensors")["score.weight"])
    classes(merged, ["yes", "no", "perhaps"])
    with pytest.raises(ModelError) as caught:
        run()
    assert str(caught.value) == (
        "models/base/merged: the merged versions have learned single_label_classification with the labels no, yes, and "
        "the training rows are single_label_classification with the labels no, perhaps, yes; merge versions that were "
        "trained with these labels"
    )
