import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest

from tuneline.commands.ask import served_version
from tuneline.core import files
from tuneline.errors import BrokenVersionError, RegistryError, TrackingError
from tuneline.modeling import unsafe_files
from tuneline.params import Params
from tuneline.registry import cards, version_status, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Tracker

GATE = {
    "verdict": "passed",
    "rules": [{"metric": "bits_per_byte", "reason": "Bits per byte is better.", "verdict": "passed"}],
}
EVALUATION = {"rows": 3, "candidate": {"bits_per_byte": 1.5, "chrf": 20.0}, "base": {"bits_per_byte": 2.0, "chrf": 5.0}}


def register(tracker: Tracker, p: Params, lineage: Lineage, gate: dict[str, Any] = GATE) -> versions.Registration:
    git = {"git_commit": lineage.git_commit, "git_dirty": lineage.git_dirty}
    subject = versions.training_subject(p, fingerprint=lineage.fingerprint, data_sha256="b", base_sha256="c", git=git)
    return versions.register(
        tracker, p, lineage, tracker.ensure_run(subject, []), gate, EVALUATION, lambda _: None, lambda _: None
    )


def test_the_same_model_data_and_evaluation_is_one_version(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    assert register(tracker, project, lineage) == versions.Registration("1", created=True)
    other = replace(lineage, model_sha256="9" * 64)
    assert register(tracker, project, other) == versions.Registration("2", created=True)
    assert register(tracker, project, lineage) == versions.Registration("1", created=False)


def test_the_metrics_belong_to_the_model_and_its_data_and_are_searchable(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    interval = {"difference": -0.5, "low": -0.75, "high": -0.25}
    evaluation = EVALUATION | {"versus_base": {"bits_per_byte": interval}, "recall": {"a:b": 0.5}}
    git = {"git_commit": lineage.git_commit, "git_dirty": lineage.git_dirty}
    subject = versions.training_subject(
        project, fingerprint=lineage.fingerprint, data_sha256=lineage.data_sha256, base_sha256="c", git=git
    )
    run_id = tracker.ensure_run(subject, [])
    versions.register(tracker, project, lineage, run_id, GATE, evaluation, lambda _: None, lambda _: None)
    experiment = mlflow.get_experiment_by_name(project.registry.model)
    assert experiment is not None

    def found(condition: str, digest: str = lineage.data_sha256[:36]) -> int:
        return len(
            mlflow.MlflowClient().search_logged_models(
                [experiment.experiment_id],
                filter_string=condition,
                datasets=[{"dataset_name": "clean", "dataset_digest": digest}],
            )
        )

    assert found("metrics.bits_per_byte < 2") == 1
    assert found("metrics.bits_per_byte < 1") == 0
    assert found("metrics.`versus_base.bits_per_byte.high` < 0") == 1
    assert found("metrics.bits_per_byte < 2", "another") == 0


def test_the_description_links_to_the_pages_of_files_and_run(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    register(tracker, project, lineage)
    model = project.registry.model
    version = mlflow.MlflowClient().get_model_version(model, "1")
    experiment = mlflow.get_experiment_by_name(model)
    assert experiment is not None
    assert version.source is not None
    assert version.description is not None
    start = f"(#/experiments/{experiment.experiment_id}"
    assert f"{start}/models/{version.source.removeprefix('models:/')}/artifacts?" in version.description
    assert f"{start}/runs/{version.run_id}?" in version.description


def test_files_that_change_while_they_are_registered_make_no_version(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, copy_tree = Path(project.paths.finetuned) / "model.safetensors", files.copy_tree
    run_id = tracker.ensure_run(
        versions.training_subject(
            project, fingerprint="f", data_sha256="b", base_sha256="c", git={"git_commit": "2", "git_dirty": ""}
        ),
        [],
    )

    def refuse(folder: Path) -> None:
        assert (folder / weights.name).read_bytes() == weights.read_bytes()
        raise RegistryError("changed")

    def change(source: Path, target: Path) -> None:
        weights.write_bytes(b"zeros")
        copy_tree(source, target)

    kept = set((store / "artifacts").rglob("model.safetensors"))
    with pytest.raises(RegistryError, match="changed"):
        versions.register(tracker, project, lineage, run_id, GATE, EVALUATION, lambda _: None, refuse)
    monkeypatch.setattr(files, "copy_tree", change)
    with pytest.raises(RegistryError, match="the files have changed while they were copied"):
        register(tracker, project, lineage)
    assert tracker.find_versions(project.registry.model, {}) == []
    assert set((store / "artifacts").rglob("model.safetensors")) == kept


def test_a_later_verdict_is_added_and_the_first_stays_in_tags_description_and_report(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path
) -> None:
    model, page = project.registry.model, Path(project.paths.reports) / "index.html"

    def decide(verdict: str, champion: str | None = None) -> dict[str, str]:
        files.write_text(page, f"<p>{verdict}")
        version = register(tracker, project, lineage, GATE | {"verdict": verdict, "asked": {"champion": champion}})
        assert version.version == "1"
        return tracker.version_tags(model, "1")

    first = decide("passed")
    written = tracker.version_description(model, "1")
    folder = versions.fetch_version(tracker, model, "1")
    assert (folder / "report.html").read_text() == "<p>passed"
    assert (first["1 verdict"], first["tuneline.verdict"]) == ("passed", "passed")
    assert written.startswith("Passed: ")
    assert decide("passed") == first
    mlflow.MlflowClient().update_model_version(model, "1", f"{written} Mine.")

    second = decide("undecided", champion="7")
    assert first.items() <= second.items()
    assert (second["1 verdict no. 2"], second["tuneline.verdict.2"]) == ("undecided", "undecided")
    assert decide("undecided", champion="7") == second
    assert decide("failed", champion="1") == second, "a comparison with itself says nothing"
    third = decide("undecided", champion="8")
    assert third["tuneline.verdict.3"] == "undecided"
    told = tracker.version_description(model, "1")
    assert told.startswith(f"{written} Mine.\n\nLater verdicts:\n\n- Verdict 2 (")
    assert told.count("Later verdicts:") == 1
    assert "compared with champion version 7): undecided. Report: version-1/verdict-2/index.html of run " in told
    assert "compared with champion version 8): undecided. Report: version-1/verdict-3/index.html" in told
    run = tracker.version_tags(model, "1")["tuneline.run_id"]
    assert (store / "artifacts" / run / "artifacts/version-1/verdict-2/index.html").read_text() == "<p>undecided"
    assert (folder / "report.html").read_text() == "<p>passed"
    assert version_status.latest_verdict(third) == "undecided"


def destroy(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "changed":
        weights.write_bytes(b"x" * weights.stat().st_size)
    elif how == "emptied":
        weights.write_bytes(b"")
    elif how == "one file deleted":
        weights.unlink()
    else:
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["changed", "emptied", "one file deleted", "deleted"])
def test_a_broken_version_is_tagged_so_and_another_takes_its_place(
    tracker: Tracker, project: Params, lineage: Lineage, how: str
) -> None:
    model, client = project.registry.model, mlflow.MlflowClient()
    register(tracker, project, lineage)
    client.set_registered_model_alias(model, "champion", "1")
    destroy(versions.fetch_version(tracker, model, "1"), how)
    with pytest.raises(BrokenVersionError, match="its files "):
        versions.fetch_version(tracker, model, "1")
    again = register(tracker, project, lineage)
    assert (again.version, again.created) == ("2", True)
    assert again.notes[0].startswith("version 1 is broken: its files ")
    assert again.notes[0].endswith(
        "version 2 is of the same model; give it the alias champion, which is still on version 1"
    )
    tags = tracker.version_tags(model, "1")
    assert tags["0 broken"] == tags["tuneline.broken"]
    assert tracker.version_description(model, "1").startswith(f"Broken: {tags['tuneline.broken']}.\n\nPassed: ")
    versions.fetch_version(tracker, model, "2")
    assert "version 2 is of the same model: use it with --version 2" in versions.suggest_instead(tracker, project, "1")
    client.set_registered_model_alias(model, "champion", "2")
    assert register(tracker, project, lineage) == versions.Registration("2", created=False)


def test_the_error_about_a_broken_version_says_what_to_use_instead(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    own = replace(lineage, model_sha256=files.sha256_path(Path(project.paths.finetuned)))
    model = project.registry.model
    register(tracker, project, own)
    destroy(versions.fetch_version(tracker, model, "1"), "changed")
    with pytest.raises(RegistryError, match=r"do not use this version; models/finetuned is the same model: register it "
                                            r"again with `\.venv/bin/tuneline register`"):  # fmt: skip
        served_version.serve(project, version=1, alias="champion")
    weights = Path(project.paths.finetuned) / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(b"of another model")
    with pytest.raises(RegistryError, match=r"; put its files back from a backup of the store$"):
        served_version.serve(project, version=1, alias="champion")
    weights.write_bytes(before)
    register(tracker, project, own)
    with pytest.raises(RegistryError, match=r"; version 2 is of the same model: use it with --version 2$"):
        served_version.serve(project, version=1, alias="champion")
    assert served_version.serve(project, version=2, alias="champion").version == "2"


def test_a_version_whose_logged_model_was_deleted_is_broken(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    register(tracker, project, lineage)
    client = mlflow.MlflowClient()
    client.delete_logged_model(str(client.get_model_version(project.registry.model, "1").source).split("/")[-1])
    assert register(tracker, project, lineage).version == "2"
    assert "was deleted" in tracker.version_tags(project.registry.model, "1")["tuneline.broken"]


def test_a_version_with_an_alias_is_not_deleted(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model, client = project.registry.model, mlflow.MlflowClient()
    register(tracker, project, lineage)
    folder = versions.fetch_version(tracker, model, "1")
    client.set_registered_model_alias(model, "champion", "1")
    assert not tracker.delete_version(model, "1")
    assert versions.find_damage(tracker, model, "1") is None
    client.delete_registered_model_alias(model, "champion")
    assert tracker.delete_version(model, "1")
    assert tracker.find_versions(model, {}) == []
    assert not folder.exists()


def test_a_later_verdict_that_a_kill_interrupted_is_not_added_twice(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    model, client = project.registry.model, mlflow.MlflowClient()
    register(tracker, project, lineage)
    later = GATE | {"verdict": "undecided", "asked": {"champion": "7"}}
    register(tracker, project, lineage, later)
    whole = tracker.version_tags(model, "1")
    # Tags are set one after the other: this is the last.
    client.delete_model_version_tag(model, "1", "tuneline.verdict.2")
    register(tracker, project, lineage, later)
    assert tracker.version_tags(model, "1") == whole
    assert tracker.version_description(model, "1").count("- Verdict ") == 1


def test_a_broken_mark_that_a_kill_interrupted_is_not_added_twice(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    model, client = project.registry.model, mlflow.MlflowClient()
    register(tracker, project, lineage)
    whole = tracker.version_description(model, "1")
    # Killed between the description and the tags; what is broken is another thing by now.
    client.update_model_version(model, "1", cards.broken_description("its files were changed", whole))
    version_status.tag_broken(tracker, model, "1", "its files were deleted")
    assert tracker.version_description(model, "1") == f"Broken: its files were deleted.\n\n{whole}"
    assert tracker.version_tags(model, "1")["0 broken"] == "its files were deleted"


def test_a_commit_is_added_to_a_version_once(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model = project.registry.model
    register(tracker, project, lineage)
    assert not versions.add_commit(tracker, model, "1", "3" * 40, "7" * 64)
    assert versions.add_commit(tracker, model, "1", "3" * 40, lineage.dvc_lock_sha256)
    assert not versions.add_commit(tracker, model, "1", "4" * 40, lineage.dvc_lock_sha256)
    tags = tracker.version_tags(model, "1")
    assert (tags["tuneline.git_commit"], tags["tuneline.kept_in_commit"]) == ("2" * 40, "3" * 40)


def test_a_version_is_a_folder_with_card_params_and_lock(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    version = register(tracker, project, lineage).version
    folder = versions.fetch_version(tracker, project.registry.model, version)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "dvc.lock",
        "model.safetensors",
        "params.yaml",
        "train-rows.parquet",
    ]
    card = (folder / "README.md").read_text("utf-8")
    assert "\nlibrary_name: transformers\n" in card
    assert "| candidate | 1.500 | 20.000 |" in card
    assert "b" * 64 in card
    trained = versions.version_train_rows(folder)
    assert versions.unseen_rows(trained, ["1", "7", "8", "9"], ["z", "a", "z", "y"]).tolist() == [2, 3]
    every = versions.unseen_rows(trained, ["1"], ["z"])
    # A table can be cut to no rows by it.
    assert trained.take(every).num_rows == 0


def test_a_version_carries_its_lineage_and_verdict_as_tags(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    version = register(tracker, project, lineage).version
    tags = tracker.version_tags(project.registry.model, version)
    assert lineage.tags().items() <= tags.items()
    assert tags["tuneline.verdict"] == "passed"
    assert mlflow.get_run(tags["tuneline.run_id"]).data.tags["tuneline.fingerprint"] == lineage.fingerprint


def test_changed_files_in_the_store_are_refused(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path
) -> None:
    version = register(tracker, project, lineage).version
    card = next(path for path in store.rglob("README.md") if project.registry.model in path.read_text())
    (card.parent / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(RegistryError, match="were changed or deleted in MLflow's store"):
        versions.fetch_version(tracker, project.registry.model, version)
    assert not list(Path("work/models").glob("*"))


def test_a_store_on_this_machine_is_read_in_place_and_keeps_a_copy_of_its_own(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path
) -> None:
    version = register(tracker, project, lineage).version
    folder = versions.fetch_version(tracker, project.registry.model, version)
    assert folder.is_relative_to(store)
    assert not Path("work/models").exists()
    weights = folder / "model.safetensors"
    assert not weights.is_symlink()
    assert weights.stat().st_nlink == 1
    (Path(project.paths.finetuned) / "model.safetensors").write_bytes(b"damaged")
    assert weights.read_bytes() == b"weights"


def test_a_model_folder_with_code_is_not_registered(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    finetuned = Path(project.paths.finetuned)
    (finetuned / "adapter").mkdir()
    (finetuned / "adapter/modeling.py").write_text("")
    with pytest.raises(RegistryError) as caught:
        register(tracker, project, lineage)
    assert caught.value.problems == (
        f"{finetuned}/adapter/modeling.py: is Python code",
        "a version holds safetensors and text only, so nothing is registered; remove these files",
    )
    assert tracker.find_versions(project.registry.model, {}) == []


def test_a_version_that_holds_code_or_links_out_is_refused_though_its_digest_is_right(
    tracker: Tracker, project: Params, lineage: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = project.registry.model
    (Path(project.paths.finetuned) / "modeling.py").write_text("")
    with monkeypatch.context() as patch:
        # As an earlier release registered it.
        patch.setattr(unsafe_files, "unsafe", lambda _: {})
        register(tracker, project, lineage)
    with pytest.raises(BrokenVersionError, match=r"its folder is not safe: modeling\.py is Python code"):
        versions.fetch_version(tracker, model, "1")
    folder = tracker.local_folder(model, "1")
    assert folder
    (folder / "modeling.py").rename(tmp_path / "moved")
    (folder / "modeling.py").symlink_to(tmp_path / "moved")
    reason = versions.find_damage(tracker, model, "1")
    assert reason is not None
    assert f"modeling.py is a link to {tmp_path}/moved, outside of the model folder" in reason


def test_a_version_whose_source_is_a_folder_or_an_address_is_not_read(
    tracker: Tracker, project: Params, tmp_path: Path
) -> None:
    client, model = mlflow.MlflowClient(), project.registry.model
    (tmp_path / "private").mkdir()
    (tmp_path / "private/config.json").write_text("{}")
    client.create_registered_model(model)
    tags = {"tuneline.files_sha256": files.sha256_path(tmp_path / "private")}
    for source in (f"file://{tmp_path}/private", f"{tmp_path}/private", "http://127.0.0.1:9/x", "s3://nowhere"):
        version = client.create_model_version(model, source, tags=tags).version
        with pytest.raises(BrokenVersionError, match="its source is not a logged model of MLflow, so tuneline did not"):
            versions.fetch_version(tracker, model, str(version))


def test_a_file_whose_name_is_not_utf8_is_damage(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model = project.registry.model
    register(tracker, project, lineage)
    folder = tracker.local_folder(model, "1")
    assert folder is not None
    (folder / os.fsdecode(b"\xff.json")).touch()
    assert "they were changed or deleted" in str(versions.find_damage(tracker, model, "1"))


def test_a_reason_of_any_text_becomes_a_tag(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model = project.registry.model
    register(tracker, project, lineage)
    version_status.tag_promotion(
        tracker, model, "1", "undone", reason="a \udcff" + "x" * 200_000, time="now", who="me\udcff", entry="e"
    )
    tags = tracker.version_tags(model, "1")
    assert tags["promotion.reason"].startswith("a \\udcffxxx")
    assert len(tags["promotion.reason"]) == 2000
    assert tags["promotion.verdict"] == "undone"
    version_status.tag_broken(tracker, model, "1", BrokenVersionError("v", "b \udcff" + "x y " * 100_000).reason)
    assert tracker.version_tags(model, "1")[version_status.BROKEN].startswith("b \\udcffx y")


def test_train_rows_of_another_shape_are_of_a_broken_version(tmp_path: Path) -> None:
    for table in (pa.table({"id": ["1"]}), pa.table({"id": ["1"], "cluster": [["a"]]})):
        files.write_parquet(tmp_path / versions.TRAIN_ROWS, table)
        with pytest.raises(BrokenVersionError, match=r"train-rows.parquet does not hold the ids and clusters"):
            versions.version_train_rows(tmp_path)
    (tmp_path / versions.TRAIN_ROWS).write_bytes(b"PAR1")
    with pytest.raises(BrokenVersionError, match=r"train-rows.parquet does not hold the ids and clusters"):
        versions.version_train_rows(tmp_path)


@pytest.mark.parametrize(
    "place", ["file://{0}/private", "{0}/private", "file://{0}/mlflow/../private", "{store}/artifacts"]
)
def test_files_outside_of_the_store_are_neither_read_nor_deleted(
    place: str, tracker: Tracker, project: Params, lineage: Lineage, tmp_path: Path, store: Path
) -> None:
    model = project.registry.model
    register(tracker, project, lineage)
    (tmp_path / "private").mkdir()
    (tmp_path / "private/letter").touch()
    run_id = tracker.version_tags(model, "1")[versions.RUN]
    location = place.format(tmp_path, store=store)
    with closing(sqlite3.connect(store / "mlflow.db")) as opened:
        opened.execute("UPDATE logged_models SET artifact_location = ? WHERE name = ?", (location, model))
        opened.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (location, run_id))
        opened.commit()
    uses = (versions.fetch_version, Tracker.delete_version, Tracker.erase_version_files)
    for use in uses:
        with pytest.raises(TrackingError, match=f"keeps its files in .*, not below {store}/artifacts"):
            use(tracker, model, "1")
    with pytest.raises(TrackingError, match="not below"):
        tracker.erase_run_files(run_id)
    assert (tmp_path / "private/letter").exists()
    assert any((store / "artifacts").iterdir())
    assert tracker.find_versions(model, {}) == ["1"]


def test_no_folder_of_this_machine_is_deleted_because_a_server_names_it(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    model = project.registry.model
    register(tracker, project, lineage)
    run_id = tracker.version_tags(model, "1")[versions.RUN]
    tracker.attach(run_id, {Path("params.yaml"): ""})
    # What a server answers, to a client that would find the folders on its own machine.
    of_server = Tracker(mlflow.MlflowClient(), "http://mlflow.example")
    for erase in (
        lambda: of_server.erase_version_files(model, "1"),
        lambda: of_server.erase_run_files(run_id),
    ):
        with pytest.raises(TrackingError, match="says the server, and this folder of this machine may be another one"):
            erase()
    assert versions.find_damage(tracker, model, "1") is None
    shutil.rmtree(str(tracker.local_folder(model, "1")))
    of_server.erase_version_files(model, "1")


def test_the_champion_is_found_by_its_alias(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model = project.registry.model
    with pytest.raises(RegistryError, match=r"no version is registered .*make run"):
        versions.resolve_version(tracker, model, version=None, alias="champion")
    version = register(tracker, project, lineage).version
    with pytest.raises(RegistryError, match=r"no version is champion yet \(registered: 1\).*Aliases.*--version 1"):
        versions.resolve_version(tracker, model, version=None, alias="champion")
    mlflow.MlflowClient().set_registered_model_alias(model, "champion", version)
    assert versions.resolve_version(tracker, model, version=None, alias="champion") == version


def test_the_error_about_a_missing_version_names_the_existing_versions(
    tracker: Tracker, project: Params, lineage: Lineage
) -> None:
    register(tracker, project, lineage)
    with pytest.raises(RegistryError, match=r"version 7: is not in the registry .*it has versions 1"):
        versions.fetch_version(tracker, project.registry.model, "7")


def test_a_commit_alone_does_not_change_the_origin_of_a_model(lineage: Lineage) -> None:
    assert replace(lineage, git_commit="9" * 40, git_dirty="true").is_same_but_for_git(lineage)
    assert not replace(lineage, model_sha256="9" * 64).is_same_but_for_git(lineage)


@pytest.mark.parametrize(("epochs", "ids"), [(0.0, ["7", "8"]), (1.0, ["7", "8", "1", "2", "3"])])
def test_a_merged_model_has_seen_what_its_parents_were_trained_on(
    project: Params, epochs: float, ids: list[str]
) -> None:
    rows = pa.table({"id": ["7", "8"], "cluster": ["c", "d"]})
    files.write_parquet(Path("models/merge") / versions.TRAIN_ROWS, rows)
    base = project.base.model_copy(update={"source": "merge", "input": "models/merge"})
    finetune = project.finetune.model_copy(update={"num_train_epochs": epochs})
    p = project.model_copy(update={"base": base, "finetune": finetune})
    assert versions.workspace_train_rows(p).column("id").to_pylist() == ids
