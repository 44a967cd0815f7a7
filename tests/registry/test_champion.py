"""Today's champion on the candidate's rows, as the gate sees it."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest
from transformers import LlamaConfig, LlamaForSequenceClassification

from tuneline import decisions, files, params
from tuneline.evaluation import classification, gate, measuring
from tuneline.evaluation.intervals import Interval
from tuneline.params import Params, editing
from tuneline.registry import cards, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Tracker
from tuneline.training import models, pretraining

TEXTS = [f"a text of number {row}" for row in range(24)]
RULE = "{metric: accuracy, direction: higher, versus: champion, margin: 0.0}"


@pytest.fixture
def classifier(project: Params) -> Params:
    """The project's model is a tiny classifier, and a rule asks for better than the champion."""
    text = Path("params.yaml").read_text("utf-8").replace("task: sft", "task: classification")
    head, tail = text.split("  rules:", 1)
    Path("params.yaml").write_text(f"{head}  rules:\n    - {RULE}\n\nregistry:{tail.split('registry:')[1]}", "utf-8")
    editing.set_values(Path("params.yaml"), {"evaluate.bootstrap_resamples": 200, "compute.threads": 1})
    tokenizer = pretraining.train_tokenizer(TEXTS, 280, 128)
    shape: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    names = {0: "ham", 1: "spam"}
    config = LlamaConfig(
        vocab_size=280,
        id2label=names,
        label2id={label: number for number, label in names.items()},
        pad_token_id=models.pad(tokenizer),
        problem_type="single_label_classification",
        **shape,
    )
    models.save(LlamaForSequenceClassification(config).eval(), tokenizer, Path("models/finetuned"), "classification")
    return params.load()


def champion(tracker: Tracker, p: Params, lineage: Lineage) -> None:
    """Register the model as it is, and make it the champion."""
    subject = versions.subject(
        p, fingerprint="f" * 64, data_sha256="b" * 64, base_sha256="c" * 64, git={"git_commit": "2", "git_dirty": ""}
    )
    run = tracker.ensure_run(subject, [])
    decided = {"verdict": "passed", "rules": []}
    evaluation = {"rows": 3, "candidate": {"accuracy": 0.5}, "majority": {"accuracy": 0.4}}
    version = versions.register(tracker, p, lineage, run, decided, evaluation).version
    mlflow.MlflowClient().set_registered_model_alias(p.registry.model, cards.CHAMPION, version)


def rows() -> pa.Table:
    keys = {"id": [f"test {row}" for row in range(24)], "source": TEXTS, "cluster": [f"c{row}" for row in range(24)]}
    # The first row's cluster is one that the champion was trained on.
    keys["cluster"][0] = "a"
    return pa.table(keys | {"text": TEXTS, "label": ["ham", "spam"] * 12})


def test_a_champion_of_the_same_labels_is_measured_on_rows_it_has_not_seen(
    tracker: Tracker, classifier: Params, lineage: Lineage
) -> None:
    champion(tracker, classifier, lineage)
    test = rows()
    candidate = measuring.measure(
        Path("models/finetuned"), test, "classification", classifier.evaluate, max_length=64, name="candidate"
    )
    found = decisions._champion(tracker, classifier, test, {"candidate": candidate})
    assert found.summary is not None
    assert found.summary["rows"] == 23
    assert found.measures is not None
    assert found.measures["accuracy"] == Interval(0.0, 0.0, 0.0, 23)
    assert found.texts["test 3"] == candidate["label"][3].as_py()
    # What was scored once is read again.
    [cached] = Path("work/scores").iterdir()
    wrong = ["spam", "ham"] * 12
    files.write_parquet(cached, classification.scores(wrong, np.ones(24)))
    assert decisions._champion(tracker, classifier, test, {"candidate": candidate}).summary["accuracy"] == 0.0  # pyright: ignore[reportOptionalSubscript]
    # What is left of a file is measured again.
    cached.write_bytes(cached.read_bytes()[:-9])
    assert decisions._champion(tracker, classifier, test, {"candidate": candidate}).summary == found.summary


def test_a_champion_of_other_labels_fails_the_rules_that_ask_for_it(
    tracker: Tracker, classifier: Params, lineage: Lineage
) -> None:
    champion(tracker, classifier, lineage)
    config = files.read_json(Path("models/finetuned/config.json"))
    files.write_json(Path("models/finetuned/config.json"), config | {"id2label": {"0": "ham", "1": "phishing"}})
    candidate = classification.scores(["ham"] * 24, np.ones(24))
    found = decisions._champion(tracker, classifier, rows(), {"candidate": candidate})
    [rule] = gate.decide(classifier.gate.rules, {"champion": found.measures}).rules
    assert rule.verdict == "failed"
    assert rule.reason == (
        "Accuracy could not be compared with the champion: version 1 has other labels than the candidate: "
        "it does not know 'phishing' and knows besides 'spam'."
    )
