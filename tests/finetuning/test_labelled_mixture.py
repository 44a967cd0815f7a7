"""A mixture of texts with labels: more labelled rows than those of the raw set, such as pseudo-labels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_models import TEXTS

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.encoding.examples import Labelled
from tuneline.errors import TrainingError
from tuneline.finetuning import mixture, tasks
from tuneline.params import editing
from tuneline.training.objectives import Classification

RULE = {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}
FORM = RecordForm("classification")


@pytest.fixture
def labelled_place(workplace: Path) -> Path:
    """The workplace with texts that have labels, and two sets of them for a mixture."""
    editing.set_values(Path("params.yaml"), {"task": "classification", "gate.rules": [RULE]})
    for name, texts in (("train", TEXTS[:60]), ("validation", TEXTS[60:80])):
        write(Path(f"data/clean/{name}"), texts, ["a", "b"])
    write(Path("data/clean/mixture/more"), TEXTS[80:120], ["b"])
    write(Path("data/clean/mixture/strange"), TEXTS[80:90], ["a", "c"])
    described = {name: FORM.as_json() | {"path": f"mixture/{name}", "rows": {}} for name in ("more", "strange")}
    described["several"] = RecordForm("classification", multi_label=True).as_json() | {"path": "mixture/more"}
    files.write_json(Path("data/clean/dataset.json"), FORM.as_json() | {"mixture": described})
    return workplace


def write(folder: Path, texts: list[str], labels: list[str]) -> None:
    columns = {"source": [f"a.jsonl:{n + 1}" for n in range(len(texts))], "text": texts}
    columns["label"] = [labels[n % len(labels)] for n in range(len(texts))]
    files.write_parquet(folder / "part-00000.parquet", pa.table(columns))


def prepare(**sets: float) -> tasks.Ready:
    values = {"data.mixture": {name: {"weight": weight} for name, weight in sets.items()}}
    editing.set_values(Path("params.yaml"), values)
    p = params.load()
    clean, base = Path(p.paths.clean), Path(p.paths.base)
    return tasks.prepare(p.task, clean, base, p.finetune, others=mixture.find_sources(p))


def test_a_classification_learns_from_its_rows_and_from_a_mixed_in_set(labelled_place: Path) -> None:
    ready = prepare(more=0.5)
    assert ready.mixture is not None
    p = params.load()
    training = tasks.train(ready, p.finetune, folder=labelled_place / "checkpoints")
    assert training.times is not None
    counts = ready.mixture.realised(training.times)
    assert (counts["raw"]["shown"], counts["more"]["shown"], counts["more"]["supervised_tokens"]) == (60, 20, 20)
    assert ready.mixture[60].source == "more/a.jsonl:1"


def test_balanced_weights_count_a_row_as_often_as_it_is_shown() -> None:
    examples = [Labelled([1], target) for target in (0, 0, 1, 1, 1, 1)]
    often = np.array([1.0, 1.0, 0.5, 0.5, 0.5, 0.5])
    made = [
        Classification.for_examples(
            examples, pad=0, labels=2, multi_label=False, class_weights="balanced", times=times
        ).weights
        for times in (None, often)
    ]
    assert made == [(1.5, 0.75), (1.0, 1.0)]


def test_a_set_with_another_label_or_form_is_refused_by_its_name(labelled_place: Path) -> None:
    with pytest.raises(TrainingError, match=r"^data\.mixture\.strange: label: the label of 5 rows is not one of"):
        prepare(strange=1.0)
    with pytest.raises(TrainingError, match=r"^data\.mixture\.several: holds records of classification with several"):
        prepare(several=1.0)
