"""Variants of training rows are trained beside these, for every task, and no fold trains on what it holds out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny_models import TEXTS

from tuneline import params
from tuneline.augmentation import variants
from tuneline.core import files
from tuneline.crossvalidation import folds
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import TrainingError
from tuneline.finetuning import mixture
from tuneline.params import editing
from tuneline.stages import finetune

TASKS: dict[params.Task, tuple[RecordForm, dict[str, Any]]] = {
    "language-modeling": (RecordForm("text"), {}),
    "classification": (RecordForm("classification"), {"finetune.packing": False, "finetune.class_weights": "balanced"}),
    "regression": (RecordForm("regression"), {"finetune.packing": False}),
    "preference": (RecordForm("preference"), {}),
}
RULES = {"classification": "accuracy", "regression": "mae", "preference": "reward_accuracy"}


def table(form: RecordForm, texts: list[str], name: str) -> pa.Table:
    columns = {
        "text": texts,
        "label": [str(n % 2) for n in range(len(texts))],
        "prompt": [text[:9] for text in texts],
        "chosen": [text[9:] for text in texts],
        "rejected": list(reversed(texts)),
    }
    ids = [f"{name}{n}" for n in range(len(texts))]
    shown = {"id": ids, "source": [f"{name}.txt:{n + 1}" for n in range(len(texts))]}
    shown["cluster"] = [f"{n:016x}" for n in range(len(texts))]
    return pa.table(shown | {field: columns[field] for field in form.fields})


def prepare(task: params.Task) -> RecordForm:
    """Clean splits of a task, and the variants `word_swap` of its training rows."""
    form, values = TASKS[task]
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS[:70])]
    for split, part in (("train", slice(20, 60)), ("validation", slice(0, 20)), ("test", slice(60, 70))):
        files.write_parquet(Path(f"data/clean/{split}/part-00000.parquet"), table(form, texts[part], split))
    files.write_json(Path("data/clean/dataset.json"), form.as_json() | {"mixture": {}})
    rule = {"metric": RULES.get(task, "bits_per_byte"), "direction": "higher", "versus": "value", "value": 0.0}
    rule |= {"direction": "lower"} if task in ("language-modeling", "regression") else {}
    noise = {"word_swap": {"weight": 0.5, "p": 0.1}}
    changed = {"task": task, "gate.rules": [{**rule, "margin": 0.0}], "data.augment": {"noise": noise}}
    editing.set_values(Path("params.yaml"), {**changed, **values, "finetune.early_stopping_patience": None})
    variants.write(
        Path("data/clean"),
        Path("data/clean-augmented/word_swap"),
        form,
        lambda texts, _: [" ".join(reversed(text.split())) + " x" for text in texts],
        name="word_swap",
        seed=0,
        threshold=None,
    )
    return form


@pytest.mark.parametrize("task", sorted(TASKS))
def test_variants_are_trained_as_often_as_their_weight_says(workplace: Path, task: params.Task) -> None:
    prepare(task)
    finetune.main(params.load())
    told = files.read_json(Path("reports/training.json"))
    sets = told["mixture"]
    assert {name: (one["examples"], one["shown"], one["weight"]) for name, one in sets.items()} == {
        "raw": (40, 40, 1.0),
        "word_swap": (40, 20, 0.5),
    }
    # Of a preference the training counts the prompt once per answer.
    assert task == "preference" or sum(one["tokens"] for one in sets.values()) == told["tokens"]


def test_another_weight_and_other_variants_are_another_training(workplace: Path) -> None:
    prepare("language-modeling")
    made = []
    for values in ({}, {}, {"data.augment.noise.word_swap.weight": 1.0}, {"data.augment": {}}):
        editing.set_values(Path("params.yaml"), values)
        if values == {"data.augment": {}}:
            with pytest.raises(TrainingError, match=r"^data/clean-augmented/word_swap: data\.augment does not name it"):
                finetune.main(params.load())
            continue
        finetune.main(params.load())
        made.append(files.sha256_file(Path("models/finetuned/model.safetensors")))
    assert made[0] == made[1] != made[2]


def test_variants_that_are_not_made_yet_are_told_and_what_a_kill_leaves_is_not_read(workplace: Path) -> None:
    prepare("language-modeling")
    Path("data/clean-augmented/word_swap").rename("data/clean-augmented/.word_swap.1.partial")
    with pytest.raises(TrainingError) as refused:
        mixture.find_sources(params.load())
    assert refused.value.problems == ("data.augment.noise.word_swap: its variants are not made yet; run: make run",)


def test_a_fold_trains_on_no_variant_of_a_row_that_it_holds_out(workplace: Path) -> None:
    prepare("language-modeling")
    sources = mixture.find_sources(params.load())
    for fold in folds.split(Path("data/clean"), 4):
        [own] = folds.without_held_out(sources, Path(f"own/{fold.number}"), 4, fold.number)
        parents = set(files.read_parquet(own.path)["parent"].to_pylist())
        assert parents == set(fold.train["id"].to_pylist())
