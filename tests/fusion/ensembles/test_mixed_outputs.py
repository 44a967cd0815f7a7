"""What a mixture of tiny real models gives is what its definition says, to 1e-6."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from evaluate_params import evaluate
from member_models import LABELS, save
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from tuneline.data.records.record_form import RecordForm
from tuneline.encoding.examples import IGNORED
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.evaluation.tasks import causal
from tuneline.fusion.ensembles.mixtures import MIXTURES, Outputs
from tuneline.modeling import models
from tuneline.params import Task

EVALUATE = evaluate(seed=1, batch_size=3, generation_rows=2, max_new_tokens=3, samples=1, bootstrap_resamples=100)
LENGTH = 24
TEXTS = ["Where is my parcel?", "Thank you!", "all is well with it", "No.", "Where is all of it, and why is it there?"]
WEIGHTS = (0.3, 0.7)
KEYS = {name: [str(row) for row in range(len(TEXTS))] for name in ("id", "source", "cluster")}
FORMS: dict[Task, RecordForm] = {
    "sft": RecordForm("prompt-completion"),
    "language-modeling": RecordForm("text"),
    "classification": RecordForm("classification"),
    "regression": RecordForm("regression"),
}
FIELDS: dict[Task, dict[str, Sequence[object]]] = {
    "sft": {"prompt": TEXTS, "completion": TEXTS[::-1]},
    "language-modeling": {"text": [text * 2 for text in TEXTS]},
    "classification": {"text": TEXTS, "label": ["refund", "praise", "refund", "delivery", "praise"]},
    "regression": {"text": TEXTS, "label": [1.0, -2.0, 0.5, 3.0, 0.0]},
}


def rows_of(task: Task) -> pa.Table:
    return TASKS[task].test_rows(pa.table(KEYS | FIELDS[task]), EVALUATE, FORMS[task])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> dict[str, list[Path]]:
    """Two models of each kind; the labels of the two classifiers are in different orders."""
    root = tmp_path_factory.mktemp("members")
    kinds = ("plain", "single", "several", "number")
    return {kind: [save(kind, seed, root / f"{kind}-{seed}", tokenizer) for seed in (1, 2)] for kind in kinds}


def outputs(task: Task, folders: list[Path], rows: pa.Table) -> list[Outputs]:
    return [MIXTURES[task].measure(ModelToScore(one, "m", LENGTH, models=0), rows, EVALUATE) for one in folders]


def logits_of(folder: Path, rows: pa.Table) -> np.ndarray:
    """The outputs of a head, text by text, in the order of LABELS."""
    model, tokenizer = models.load_classifier(folder)
    found = []
    for text in rows["text"].to_pylist():
        ids = tokenizer(text)["input_ids"][:LENGTH]
        with torch.inference_mode():
            found.append(model.eval()(input_ids=torch.tensor([ids])).logits[0].double().numpy())
    if model.config.num_labels == 1:
        return np.stack(found)
    names = list((model.config.id2label or {}).values())
    return np.stack(found)[:, [names.index(label) for label in LABELS]]


@pytest.mark.parametrize("task", ["sft", "language-modeling"])
def test_a_token_gets_the_mean_of_the_probabilities(task: Task, folders: dict[str, list[Path]]) -> None:
    rows = rows_of(task)
    found = outputs(task, folders["plain"], rows)
    mixed = MIXTURES[task].scores(rows, found, WEIGHTS)
    for row, record in enumerate(causal.records(rows, is_text=task == "language-modeling")):
        probabilities = []
        for folder in folders["plain"]:
            model, tokenizer = models.load(folder)
            examples, _ = causal.encode_rows(tokenizer, rows.slice(row, 1), "plain", is_text="text" in record)
            [example] = examples
            if len(example.input_ids) > LENGTH:
                break
            with torch.inference_mode():
                logits = model.eval()(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].double()
            targets = torch.tensor(example.labels[1:])
            kept = targets != IGNORED
            probabilities.append(functional.softmax(logits[kept], dim=-1)[range(kept.sum()), targets[kept]].numpy())
        else:
            mean = WEIGHTS[0] * probabilities[0] + WEIGHTS[1] * probabilities[1]
            assert mixed["nll"][row].as_py() == pytest.approx(-np.log(mean).sum(), abs=1e-6 * len(mean) * 10)
            assert mixed["tokens"][row].as_py() == len(mean)


@pytest.mark.parametrize("task", ["sft", "language-modeling", "classification", "regression"])
def test_a_member_alone_has_the_scores_of_an_evaluation(task: Task, folders: dict[str, list[Path]]) -> None:
    """A text over the length that a model sees is read in windows, as there."""
    rows = rows_of(task)
    kind = {"classification": "single", "regression": "number"}.get(task, "plain")
    for folder in folders[kind]:
        alone = MIXTURES[task].scores(rows, outputs(task, [folder], rows), [1.0])
        expected = TASKS[task].measure(ModelToScore(folder, "m", LENGTH, models=0), rows, EVALUATE)
        for name in alone.column_names:
            values = expected[name].to_pylist()
            close = values if name == "label" else pytest.approx(values, abs=1e-6, rel=1e-6)
            assert alone[name].to_pylist() == close


def test_a_label_gets_the_mean_of_the_probabilities(folders: dict[str, list[Path]]) -> None:
    rows = rows_of("classification")
    mixture, found = MIXTURES["classification"], outputs("classification", folders["single"], rows)
    each = [functional.softmax(torch.tensor(logits_of(folder, rows)), dim=-1).numpy() for folder in folders["single"]]
    mean = WEIGHTS[0] * each[0] + WEIGHTS[1] * each[1]
    mixed = mixture.scores(rows, found, WEIGHTS)
    assert mixed["label"].to_pylist() == [LABELS[place] for place in mean.argmax(axis=1)]
    np.testing.assert_allclose(mixed["probability"].to_numpy(), mean.max(axis=1), atol=1e-6)
    fitted = mixture.fit(rows, found)
    assert fitted is not None
    right = [LABELS.index(label) for label in rows["label"].to_pylist()]

    def loss(first: float) -> float:
        mean = first * each[0] + (1 - first) * each[1]
        return -float(np.log(mean[range(len(right)), right]).mean())

    losses = [loss(first) for first in np.linspace(0, 1, 1001)]
    assert fitted.loss == pytest.approx(min(losses), abs=1e-5)
    assert fitted.weights[0] == pytest.approx(int(np.argmin(losses)) / 1000, abs=2e-3)


def test_each_of_several_labels_gets_the_mean_of_its_probability(folders: dict[str, list[Path]]) -> None:
    labels = [["refund"], [], ["praise", "refund"], ["delivery"], ["unknown to the members"]]
    split = pa.table(KEYS | {"text": TEXTS, "label": [json.dumps(one) for one in labels]})
    form = RecordForm("classification", multi_label=True)
    rows = TASKS["classification"].test_rows(split, EVALUATE, form)
    mixture, found = MIXTURES["classification"], outputs("classification", folders["several"], rows)
    each = [1 / (1 + np.exp(-logits_of(folder, rows))) for folder in folders["several"]]
    mean = WEIGHTS[0] * each[0] + WEIGHTS[1] * each[1]
    mixed = mixture.scores(rows, found, WEIGHTS)
    given = [set(json.loads(one)) for one in mixed["label"].to_pylist()]
    assert given == [{LABELS[place] for place in np.flatnonzero(row > 0.5)} for row in mean]
    np.testing.assert_allclose(mixed["probability"].to_numpy(), np.maximum(mean, 1 - mean).min(axis=1), atol=1e-6)
    fitted = mixture.fit(rows, found)
    assert fitted is not None
    assert fitted.items == 4 * len(LABELS)
    has = np.array([[label in one for label in LABELS] for one in labels[:4]])

    def loss(first: float) -> float:
        mean = first * each[0][:4] + (1 - first) * each[1][:4]
        return -float(np.log(np.where(has, mean, 1 - mean)).mean())

    losses = [loss(first) for first in np.linspace(0, 1, 1001)]
    assert fitted.loss == pytest.approx(min(losses), abs=1e-5)


def test_a_number_is_the_mean_of_the_numbers(folders: dict[str, list[Path]]) -> None:
    rows = rows_of("regression")
    found = outputs("regression", folders["number"], rows)
    each = [logits_of(folder, rows)[:, 0] for folder in folders["number"]]
    mixed = MIXTURES["regression"].scores(rows, found, WEIGHTS)
    np.testing.assert_allclose(mixed["value"].to_numpy(), WEIGHTS[0] * each[0] + WEIGHTS[1] * each[1], atol=1e-6)


def test_outputs_survive_a_file_and_are_cut_by_rows() -> None:
    made = Outputs(np.array([0, 0, 2, 3]), np.arange(8.0).reshape(4, 2), ("row", "中"))
    again = Outputs.from_table(made.to_table())
    assert again.names == made.names
    np.testing.assert_array_equal(again.values, made.values)
    part = made.of_rows(2, 4)
    assert part.rows.tolist() == [0, 1]
    assert part.values.tolist() == [[4, 5], [6, 7]]
    assert made.of_rows(1, 2).values.shape == (0, 2)
    broken = Outputs(made.rows, np.where(made.values == 1, np.nan, made.values), made.names)
    assert (broken.count_not_finite(), made.count_not_finite()) == (1, 0)


def test_no_rows_give_no_weights() -> None:
    for task in MIXTURES:
        empty = [Outputs(np.zeros(0, int), np.zeros((0, 1)), ("",))] * 2
        assert MIXTURES[task].fit(rows_of(task).slice(0, 0), empty) is None
