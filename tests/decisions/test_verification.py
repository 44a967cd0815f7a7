"""The checks of a version that need no model."""

from pathlib import Path

import pytest

from tuneline.core import files
from tuneline.decisions import checking, scoring, verification
from tuneline.errors import DataError, ModelError, PipelineError, RegistryError, TrackingError
from tuneline.params import Params
from tuneline.registry import version_status, versions, weights
from tuneline.registry.tracking import Tracker

TAGS: dict[str, str] = dict.fromkeys((*versions.IDENTITY, versions.FILES), "0" * 64)


@pytest.fixture
def version(tracker: Tracker, project: Params) -> str:
    import mlflow

    client = mlflow.MlflowClient()
    client.create_registered_model(project.registry.model)
    return str(client.create_model_version(project.registry.model, "s3://nowhere", tags=TAGS).version)


def test_a_version_that_tuneline_has_not_registered_does_not_pass(
    tracker: Tracker, project: Params, version: str
) -> None:
    tracker._client.delete_model_version_tag(project.registry.model, version, versions.IDENTITY[2])
    [check] = verification.checks(project, tracker, version, None)
    assert check.line().startswith(
        "failed  registered: tuneline has not registered this version: its tag tuneline.eval"
    )


def test_an_erased_version_has_no_further_check(tracker: Tracker, project: Params, version: str) -> None:
    tracker.update_version(project.registry.model, version, {version_status.ERASED: "2026-10-02T08:00:00+00:00"})
    [check] = verification.checks(project, tracker, version, None)
    assert check.line().startswith("failed  registered: it was erased on 2026-10-02: rows that it was made from")
    assert check.is_damage
    damage = versions.find_damage(tracker, project.registry.model, version)
    assert damage == check.detail
    assert list(versions._same(tracker, project.registry.model, TAGS)) == []


def test_what_cannot_be_checked_has_not_passed(
    tracker: Tracker, project: Params, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PipelineError(".dvc/config: line 3: is not a configuration")

    monkeypatch.setattr(verification.sources, "problems", broken)
    assert [check.line() for check in verification.checks(project, tracker, version, None)][1:] == [
        "failed  not checked: .dvc/config: line 3: is not a configuration"
    ]


def test_a_version_that_is_compared_with_nothing_says_why() -> None:
    assert verification.why_not_compared("2") == (
        "a rollback is not compared with the champion that it replaces, version 2: that it must go is decided by a "
        "person"
    )
    assert verification.why_not_compared(None).startswith("no other version was ever verified")


def test_without_the_registry_or_the_version_nothing_is_decided(
    tracker: Tracker, project: Params, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise TrackingError("MLflow does not answer")

    with monkeypatch.context() as patch, pytest.raises(TrackingError):
        patch.setattr(verification.sources, "problems", away)
        verification.checks(project, tracker, version, None)
    with pytest.raises(RegistryError):
        verification.checks(project, tracker, "7", None)


def test_the_weights_of_a_version_are_those_that_were_registered(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def folder(name: str, **tensors: torch.Tensor) -> Path:
        path = tmp_path / name
        path.mkdir()
        save_file(tensors, path / "model.safetensors")
        return path

    one = folder("one", a=torch.zeros(3, 4), b=torch.zeros(2))
    tags = weights.weight_tags(one)
    assert tags == {"tuneline.parameters": "14", "tuneline.dtype": "float32", "tuneline.bytes": tags["tuneline.bytes"]}
    assert verification._check_size(tags, one).passed
    # Versions of earlier releases have no such tags.
    assert verification._check_size({}, one).passed
    half = verification._check_size(tags, folder("half", a=torch.zeros(3, 4).half(), b=torch.zeros(2).half()))
    assert "dtype is float16, not float32" in half.detail
    assert "parameters is 15, not 14" in verification._check_size(tags, folder("more", a=torch.zeros(15))).detail
    (one / "model.safetensors").write_bytes(b"weights")
    assert not verification._check_size(tags, one).passed
    assert weights.weight_tags(one) == {}


def test_a_model_that_does_not_stop_answering_is_ended(
    project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "endless.py").write_text(
        "import sys, pathlib, time\n"
        "answer = pathlib.Path(sys.argv[1]) / 'answer.json'\n"
        "answer.with_suffix('.new').write_text('{\"seconds\": 0.002, \"rows\": 3}')\n"
        "answer.with_suffix('.new').rename(answer)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(scoring, "SECONDS", 0.1)
    with pytest.raises(ModelError, match=r"^the model has answered .* has not answered the 3 rows and the checks with"):
        scoring.run_apart("endless", shared, tmp_path, project, answers_within=60)


def test_what_the_checks_of_behaviour_cannot_ask_has_not_passed(project: Params, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    check = verification._check_behaviour(shared)
    assert check.line() == "failed  behaviour: the model was not asked: its process has ended before"
    assert not check.is_damage
    files.write_json(shared / "not-checked.json", ["its template refuses every prompt"])
    assert verification._check_behaviour(shared).line() == "failed  behaviour: its template refuses every prompt"
    with pytest.raises(DataError, match=r"no such file; restore it with: git restore data/checks\.yaml"):
        checking.write_request(shared, project, "version")
    Path("data/checks.yaml").write_text("classification: []\n", "utf-8")
    assert not checking.write_request(shared, project, "version")
