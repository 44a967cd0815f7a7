"""Today's champion on the candidate's rows, as the gate sees it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest
from transformers import LlamaConfig, LlamaForSequenceClassification

from tuneline import params
from tuneline.core import files
from tuneline.decisions import champion_scores, checking, decide, scoring, verification
from tuneline.decisions.scoring import NoAnswerError
from tuneline.errors import ModelError, RegistryError
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.tasks import classification
from tuneline.gate import decision, next_steps
from tuneline.modeling import models
from tuneline.params import Params, editing
from tuneline.pretraining import pretrain
from tuneline.registry import cards, version_status, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Tracker
from tuneline.registry.version_status import Champion

TEXTS = [f"a text of number {row}" for row in range(24)]
RULE = "{metric: accuracy, direction: higher, versus: champion, margin: 0.0}"


@pytest.fixture
def classifier(project: Params) -> Params:
    """The project's model is a tiny classifier, and a rule asks for better than the champion."""
    text = Path("params.yaml").read_text("utf-8").replace("task: sft", "task: classification")
    head, tail = text.split("  rules:", 1)
    Path("params.yaml").write_text(f"{head}  rules:\n    - {RULE}\n\nregistry:{tail.split('registry:')[1]}", "utf-8")
    editing.set_values(Path("params.yaml"), {"evaluate.bootstrap_resamples": 200, "compute.threads": 1})
    tokenizer = pretrain.train_tokenizer(TEXTS, 280, 128)
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
        pad_token_id=models.pad_token_id(tokenizer),
        problem_type="single_label_classification",
        **shape,
    )
    models.save(LlamaForSequenceClassification(config).eval(), tokenizer, Path("models/finetuned"), "classification")
    return params.load()


def champion(tracker: Tracker, p: Params, lineage: Lineage) -> None:
    """Register the model as it is, and make it the champion."""
    subject = versions.training_subject(
        p, fingerprint="f" * 64, data_sha256="b" * 64, base_sha256="c" * 64, git={"git_commit": "2", "git_dirty": ""}
    )
    run = tracker.ensure_run(subject, [])
    decided = {"verdict": "passed", "rules": []}
    evaluation = {"rows": 3, "candidate": {"accuracy": 0.5}, "majority": {"accuracy": 0.4}}
    version = versions.register(tracker, p, lineage, run, decided, evaluation, lambda _: None, lambda _: None).version
    mlflow.MlflowClient().set_registered_model_alias(p.registry.model, cards.CHAMPION, version)


def compare(
    tracker: Tracker, p: Params, lineage: Lineage, test: pa.Table, scores: dict[str, pa.Table]
) -> champion_scores.ChampionResult:
    """Today's champion beside a candidate of this lineage."""
    today = version_status.read_champion(tracker, p.registry.model)
    return decide._compare_with_champion(tracker, p, today, lineage, test, scores, {}, dry_run=False)


def rows() -> pa.Table:
    keys = {"id": [f"test {row}" for row in range(24)], "source": TEXTS, "cluster": [f"c{row}" for row in range(24)]}
    # The first row's cluster is one that the champion was trained on.
    keys["cluster"][0] = "a"
    return pa.table(keys | {"text": TEXTS, "label": ["ham", "spam"] * 12, "multilabel": [False] * 24})


def test_a_champion_that_was_trained_on_every_test_row_is_not_compared(
    tracker: Tracker, classifier: Params, lineage: Lineage
) -> None:
    champion(tracker, classifier, lineage)
    test = rows().set_column(2, "cluster", pa.array(["a"] * 24))
    candidate = classification.measure(
        ModelToScore(Path("models/finetuned"), "candidate", 64), test, classifier.evaluate
    )
    found = compare(tracker, classifier, replace(lineage, model_sha256="9" * 64), test, {"candidate": candidate})
    assert found.summary is not None
    assert found.summary["rows"] == 0
    assert found.measures is not None
    assert set(found.measures.values()) == {"no test row is left on which both may be measured"}
    assert found.broken is None


def test_a_champion_of_the_same_labels_is_measured_on_rows_it_has_not_seen(
    tracker: Tracker, classifier: Params, lineage: Lineage
) -> None:
    champion(tracker, classifier, lineage)
    test = rows()
    model = ModelToScore(Path("models/finetuned"), "candidate", 64)
    candidate = classification.measure(model, test, classifier.evaluate)
    other = replace(lineage, model_sha256="9" * 64)
    found = compare(tracker, classifier, other, test, {"candidate": candidate})
    assert found.summary is not None
    assert found.summary["rows"] == 23
    assert found.measures is not None
    assert found.measures["accuracy"] == Interval(0.0, 0.0, 0.0, 23)
    assert found.texts["test 3"] == candidate["label"][3].as_py()
    assert tracker.version_metrics(classifier.registry.model, "1")["accuracy"] == 0.5
    # What was scored once is read again.
    [cached] = Path("work/scores").glob("*.parquet")
    written = cached.stat().st_mtime_ns
    assert compare(tracker, classifier, other, test, {"candidate": candidate}).summary == found.summary
    assert cached.stat().st_mtime_ns == written
    # What is left of a file is measured again, and so are files that another person has put there.
    for content in (cached.read_bytes()[:-9], written_scores(["spam", "ham"] * 12)):
        cached.write_bytes(content)
        assert compare(tracker, classifier, other, test, {"candidate": candidate}).summary == found.summary
    cached.with_suffix(".json").write_text("[")
    assert compare(tracker, classifier, other, test, {"candidate": candidate}).summary == found.summary


@pytest.mark.slow
def test_a_champion_is_compared_on_each_slice(tracker: Tracker, classifier: Params, lineage: Lineage) -> None:
    champion(tracker, classifier, lineage)
    shops = ["north", "south"] * 12
    test = rows().append_column("slice:shop", pa.array(shops))
    theirs = classification.measure(ModelToScore(Path("models/finetuned"), "", 64), test, classifier.evaluate)
    # In the north the candidate is always right, in the south it answers as the champion does.
    labels = zip(test["label"].to_pylist(), theirs["label"].to_pylist(), shops, strict=True)
    mine = [label if shop == "north" else given for label, given, shop in labels]
    scores = {"candidate": classification.scores(mine, np.ones(24))}
    found = compare(tracker, classifier, replace(lineage, model_sha256="9" * 64), test, scores)
    assert found.sliced is not None
    south, north = found.sliced["shop"].slices
    # The champion was trained on the cluster of the first row.
    assert (south.value, south.rows, north.value, north.rows) == ("south", 12, "north", 11)
    assert south.versus["champion"]["accuracy"] == Interval(0.0, 0.0, 0.0, 12)
    assert north.metrics["candidate"]["accuracy"] == 1.0
    assert found.measures is not None
    assert isinstance(found.measures["gap:accuracy:shop"], Interval)
    # Other slices of the same rows do not score the champion again.
    renamed = test.rename_columns([*test.column_names[:-1], "slice:other"])
    again = compare(tracker, classifier, replace(lineage, model_sha256="9" * 64), renamed, scores)
    assert again.sliced is not None
    assert list(again.sliced) == ["other"]
    assert len(list(Path("work/scores").glob("*.parquet"))) == 1


@pytest.mark.slow
def test_a_champion_of_a_portable_project_is_measured_in_a_process_of_its_own(classifier: Params) -> None:
    portable = classifier.model_copy(update={"compute": classifier.compute.model_copy(update={"portable": True})})
    here = scoring.score(classifier, Path("models/finetuned"), rows(), None)
    there = scoring.score(portable, Path("models/finetuned"), rows(), None)
    assert there["label"].to_pylist() == here["label"].to_pylist()


@pytest.mark.slow
def test_a_model_whose_scoring_ends_in_an_unknown_error_is_refused(
    classifier: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="cannot be scored: its process ended with code 1"):
        scoring.score(classifier, Path("models/finetuned"), rows().drop_columns(["text"]), None)
    assert "text" in capfd.readouterr().err


@pytest.mark.slow
def test_a_model_loads_answers_and_is_scored_in_one_fresh_process(
    classifier: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    finetuned = Path("models/finetuned")
    found = scoring.score(classifier, finetuned, rows(), None, answers_within=100)
    expected = classification.measure(ModelToScore(finetuned, "version", 64), rows(), classifier.evaluate)
    assert found["label"].to_pylist() == expected["label"].to_pylist()
    with pytest.raises(NoAnswerError, match=r"^does not load and answer within 0 s$"):
        scoring.score(classifier, finetuned, rows(), None, answers_within=0)
    (finetuned / "config.json").write_text("{}")
    with pytest.raises(NoAnswerError, match=r"^does not load and answer: its folder: cannot be loaded"):
        scoring.score(classifier, finetuned, rows(), None, answers_within=100)
    assert "Traceback" not in capfd.readouterr().err


def test_the_process_that_scores_a_version_asks_its_checks_too(classifier: Params, tmp_path: Path) -> None:
    checks, shared = tmp_path / "checks", tmp_path / "shared"
    shared.mkdir()
    Path("data/checks.yaml").write_text(
        "classification:\n  - {text: cheap pills, one_of: [spam, ham]}\n  - {text: cheap pills, label: spma}\n"
    )
    assert checking.write_request(checks, classifier, "version")
    scoring.write_request(shared, classifier, rows(), None, must_answer=True, checks=checks)
    scoring.main(shared, Path("models/finetuned").absolute())
    assert [result.passed for result in checking.read_results(checks)] == [True, False]
    found = verification._check_behaviour(checks)
    assert found.line() == "failed  behaviour: 1 of 2 of severity error passed; failed: 2"
    assert files.read_parquet(shared / "found.parquet").num_rows == rows().num_rows
    # Checks that do not fit the model end neither the process nor the scores.
    (checks / "checking.json").write_text((checks / "checking.json").read_text().replace("classification", "sft"))
    (checks / "checks.yaml").write_text("sft:\n  - {prompt: Hello, contains: a}\n")
    scoring.main(shared, Path("models/finetuned").absolute())
    assert "which does not fit the checks of task sft" in verification._check_behaviour(checks).detail


def asked(p: Params, tmp_path: Path, test: pa.Table, *, must_answer: bool = True) -> Path:
    """What the process of its own does, in this process."""
    shared = tmp_path / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir()
    scoring.write_request(shared, p, test, None, must_answer=must_answer)
    scoring.main(shared, Path("models/finetuned").absolute())
    return shared


def test_the_first_row_is_answered_before_the_others_are_scored(classifier: Params, tmp_path: Path) -> None:
    shared = asked(classifier, tmp_path, rows())
    answer = files.read_json(shared / "answer.json")
    found = files.read_parquet(shared / "found.parquet")
    assert found.num_rows == 24
    assert answer["answer"] == found["label"].to_pylist()[:1]
    assert files.read_parquet(asked(classifier, tmp_path, rows().slice(0, 1)) / "found.parquet").num_rows == 1
    assert not (asked(classifier, tmp_path, rows(), must_answer=False) / "answer.json").exists()


def test_a_model_that_answers_and_cannot_be_scored_has_loaded(classifier: Params, tmp_path: Path) -> None:
    test = rows().set_column(3, "text", pa.array([*TEXTS[:1], *[None] * 23], pa.string()))
    with pytest.raises((SystemExit, TypeError, ValueError)):
        asked(classifier, tmp_path, test)
    assert (tmp_path / "shared/answer.json").exists()
    assert not (tmp_path / "shared/found.parquet").exists()


def written_scores(labels: list[str]) -> bytes:
    path = Path("other.parquet")
    files.write_parquet(path, classification.scores(labels, np.ones(24)))
    return path.read_bytes()


def test_a_champion_of_other_labels_fails_the_rules_that_ask_for_it(
    tracker: Tracker, classifier: Params, lineage: Lineage
) -> None:
    champion(tracker, classifier, lineage)
    config = files.read_json(Path("models/finetuned/config.json"))
    files.write_json(Path("models/finetuned/config.json"), config | {"id2label": {"0": "ham", "1": "phishing"}})
    candidate = classification.scores(["ham"] * 24, np.ones(24))
    other = replace(lineage, model_sha256="9" * 64)
    found = compare(tracker, classifier, other, rows(), {"candidate": candidate})
    [rule] = decision.decide(classifier.gate.rules, {"champion": found.measures}).rules
    assert rule.verdict == "failed"
    assert rule.reason == (
        "Accuracy could not be compared with the champion: version 1 has other labels than the candidate: "
        "it lacks 'phishing' and also has 'spam'."
    )


def test_a_broken_champion_fails_what_asks_for_it_and_is_tagged(
    tracker: Tracker, classifier: Params, lineage: Lineage, store: Path
) -> None:
    champion(tracker, classifier, lineage)
    folder = versions.fetch_version(tracker, classifier.registry.model, "1")
    (folder / "model.safetensors").write_bytes(b"")
    candidate = classification.scores(["ham"] * 24, np.ones(24))
    found = compare(tracker, classifier, replace(lineage, model_sha256="9" * 64), rows(), {"candidate": candidate})
    verdict = decision.decide(classifier.gate.rules, {"champion": found.measures})
    assert verdict.verdict == "failed"
    assert "version 1 is broken: its files have the digest" in verdict.rules[0].reason
    [step] = next_steps.next_steps(verdict, next_steps.Situation("classification", "path", 1.0, 1e-3, 10, 10, {}))
    assert step.startswith("The candidate cannot be compared with the champion")
    tags = tracker.version_tags(classifier.registry.model, "1")
    assert tags["0 broken"] == tags["tuneline.broken"]
    assert tracker.version_description(classifier.registry.model, "1").startswith("Broken: its files have the digest")
    # A candidate that is the champion's own model is compared with itself, so that it can take its place.
    found = compare(tracker, classifier, lineage, rows(), {"candidate": candidate})
    assert found.measures is not None
    assert found.measures["accuracy"] == Interval(0.0, 0.0, 0.0, 23)


def test_the_tags_of_another_model_do_not_make_the_champion_the_candidate(
    tracker: Tracker, classifier: Params, lineage: Lineage
) -> None:
    """Or whoever edits the champion's tags would have a candidate compared with itself."""
    champion(tracker, classifier, lineage)
    candidate = classification.scores(["ham"] * 24, np.ones(24))
    found = compare(tracker, classifier, lineage, rows(), {"candidate": candidate})
    assert not found.is_candidate
    own = replace(lineage, model_sha256=versions.model_sha256(Path("models/finetuned")))
    tracker.update_version(classifier.registry.model, "1", {"tuneline.model_sha256": own.model_sha256})
    assert compare(tracker, classifier, own, rows(), {"candidate": candidate}).is_candidate


@pytest.fixture
def registered(tracker: Tracker, project: Params, lineage: Lineage) -> Params:
    champion(tracker, project, lineage)
    return project


def test_a_missing_or_deleted_or_misspelt_champion_is_reported(
    tracker: Tracker, registered: Params, lineage: Lineage
) -> None:
    client, model = mlflow.MlflowClient(), registered.registry.model
    client.delete_registered_model_alias(model, "champion")
    assert version_status.read_champion(tracker, model) == Champion(None, "no version is champion yet")
    assert version_status.read_champion(tracker, "nobody") == Champion(None, "no version is champion yet")
    client.set_registered_model_alias(model, "Champion", "1")
    with pytest.raises(RegistryError, match=r"version 1 has the alias Champion.*add champion and remove Champion"):
        version_status.read_champion(tracker, model)
    with pytest.raises(RegistryError, match=r"version 1 has the alias Champion"):
        versions.resolve_version(tracker, model, version=None, alias="champion")
    client.delete_registered_model_alias(model, "Champion")
    client.set_registered_model_alias(model, "champion", "1")
    version_status.remember_champion(tracker, model, version_status.read_champion(tracker, model).version)
    client.delete_registered_model_alias(model, "champion")
    gone = "no version is champion any more: version 1, the last champion, "
    assert version_status.read_champion(tracker, model).absent == f"{gone}lost the alias"
    client.delete_model_version(model, "1")
    assert version_status.read_champion(tracker, model).absent == f"{gone}was deleted"
    absent = {"champion": version_status.read_champion(tracker, model).absent}
    [rule] = [rule for rule in registered.gate.rules if rule.versus == "champion"]
    [decided] = decision.decide([rule], {"champion": None}, absent).rules
    assert decided.reason.endswith(f"is not compared: {gone}was deleted.")


@pytest.mark.parametrize(("verdict", "remark"), [("undecided", "its verdict is undecided"), ("failed", "is failed")])
def test_a_champion_that_did_not_pass_the_gate_is_remarked(
    tracker: Tracker, registered: Params, verdict: str, remark: str
) -> None:
    client, model = mlflow.MlflowClient(), registered.registry.model
    assert version_status.read_champion(tracker, model) == Champion("1")
    client.set_model_version_tag(model, "1", "tuneline.verdict.2", verdict)
    [told] = version_status.read_champion(tracker, model).remarks
    assert told.startswith("The champion, version 1, did not pass the gate itself")
    assert remark in told


@pytest.mark.parametrize("number", ["99999999999", "0", "٣", "-1"])
def test_a_tag_with_a_number_that_no_verdict_has_is_none(number: str) -> None:
    tags = {"tuneline.verdict": "failed", "tuneline.verdict.2": "undecided", f"tuneline.verdict.{number}": "passed"}
    assert version_status.verdicts(tags) == ("failed", "undecided")
    assert version_status.latest_verdict(tags) == "undecided"
