"""Before anything is changed, an erasure names what it would do, or refuses in sentences."""

import hashlib
import json
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import mlflow
import pytest
from erasable_project import CACHE, OF_42, ROWS, cached_set, registered
from source_project import GIT

from tuneline import params
from tuneline.core import files
from tuneline.decisions import erasure, erasure_plan, erasure_receipt, unfinished_erasure
from tuneline.decisions.erasure_plan import Asked
from tuneline.errors import BusyError, DataError, PipelineError
from tuneline.params import Params, editing
from tuneline.pipeline import objects
from tuneline.proofs import claims, keys
from tuneline.registry import history, tracking, version_files, versions
from tuneline.registry.runs import Dataset
from tuneline.registry.tracking import NewVersion, Tracker


def said(asked: Asked) -> list[str]:
    lines: list[str] = []
    erasure.forget(params.load(), asked, log=lines.append, dry_run=True)
    return lines


def test_a_dry_run_names_rows_and_the_texts_made_from_them_and_changes_nothing(raw: Path) -> None:
    expected = ["data/raw/a: 1 row to erase", "data/raw/a-pretraining: 1 row to erase"]
    for asked in (OF_42, Asked(rows=("0a",)), Asked(rows=("rows.jsonl:1",))):
        assert said(asked)[:2] == expected
    assert raw.read_text() == ROWS
    assert not unfinished_erasure.JOURNAL.exists()


def test_what_no_row_has_is_told_with_the_columns_that_there_are(raw: Path) -> None:
    with pytest.raises(DataError, match=r"the columns are completion, customer, prompt, text$"):
        said(Asked((("client", "42"),)))
    with pytest.raises(DataError, match=r"is deleted with: tuneline forget --remote$"):
        erasure.forget(params.load(), Asked((("client", "42"),)), log=print, remote=True)
    with pytest.raises(
        DataError, match=r"^--row 0c: neither the id of a row in data/clean nor FILE:LINE in data/raw/a"
    ):
        said(Asked(rows=("0a", "0c")))


def test_sets_that_would_keep_the_rows_are_refused_before_anything_changes(raw: Path) -> None:
    raw.write_text(ROWS.splitlines(keepends=True)[0])
    with pytest.raises(DataError, match=r"data/raw/a: no row would be left.*\nnothing is changed"):
        said(OF_42)
    raw.write_text(ROWS)
    subprocess.run(["git", "add", str(raw)], check=True)
    with pytest.raises(DataError, match=r"^data/raw/a: git holds the files of this set, .*git filter-repo"):
        said(OF_42)
    subprocess.run(["git", "rm", "--quiet", "--cached", str(raw)], check=True)
    editing.set_values(Path("params.yaml"), {"paths.sample": "data/raw/a"})
    with pytest.raises(DataError, match=r"^data/raw/a: a stage of dvc.yaml makes this set"):
        said(OF_42)
    assert raw.read_text() == ROWS


def test_an_unfinished_erasure_is_told_and_no_other_one_begins(raw: Path) -> None:
    assert unfinished_erasure.problem() is None
    journal = erasure_plan.Journal(OF_42.digest(), "", [], [], [], [], [], {}, {}, {}, [], [], [], [])
    journal.save()
    assert unfinished_erasure.JOURNAL.stat().st_mode & 0o777 == 0o600
    problem = unfinished_erasure.problem()
    assert problem is not None
    assert "is not finished" in problem
    with pytest.raises(PipelineError, match="another erasure is not finished"):
        said(Asked((("customer", "7"),)))
    with pytest.raises(PipelineError, match="run it without --dry-run"):
        said(OF_42)


def test_the_digest_of_a_row_tells_nothing_without_its_key() -> None:
    row = {"customer": 42, "prompt": "who is it?"}
    assert erasure_plan.salted("00" * 32, row) == erasure_plan.salted("00" * 32, dict(reversed(row.items())))
    assert erasure_plan.salted("00" * 32, row) != erasure_plan.salted("11" * 32, row)


def test_only_the_history_and_lost_files_tell_that_a_version_was_erased_before(
    raw: Path, project: Params, tracker: Tracker
) -> None:
    model = project.registry.model
    version = registered(tracker, project)
    # A person who sets the tag must not hide the version.
    tracker.update_version(model, version, {"tuneline.erased": "2026-01-01"})
    with pytest.raises(DataError, match=r"^version 1: .*\nso it is not known whether these versions saw the rows"):
        said(OF_42)
    history.append(tracker, model, action=history.ERASED, after=version)
    with pytest.raises(DataError, match=r"^version 1: "):
        said(OF_42)
    tracker.erase_version_files(model, version)
    assert said(OF_42)[:2] == ["data/raw/a: 1 row to erase", "data/raw/a-pretraining: 1 row to erase"]


def test_what_an_erasure_has_left_in_the_remote_is_deleted_later_but_nothing_that_is_needed(
    raw: Path, project: Params, tracker: Tracker, tmp_path: Path
) -> None:
    model, remote = project.registry.model, tmp_path / "remote"
    Path(".dvc/config").write_text(f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {remote}\n")
    registered(tracker, project)
    names = [b"left", b"needed", b"unnamed", b"listed"]
    left, needed, unnamed, listed = (hashlib.md5(name, usedforsecurity=False).hexdigest() for name in names)
    # Of a folder whose list only the remote has.
    names.append(json.dumps([{"md5": md5, "relpath": md5} for md5 in (needed, listed)]).encode())
    folder = f"{hashlib.md5(names[-1], usedforsecurity=False).hexdigest()}.dir"
    Path("data/raw/a.dvc").write_text(f"outs:\n- path: a\n  hash: md5\n  md5: {needed}\n")
    for md5, content in zip((left, needed, unnamed, listed, folder), names, strict=True):
        place = objects.place(remote / "files/md5", md5)
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
    predicate = {"remote": {"held": 3, "deleted": False, "objects": [left, needed, folder, "../../../x", 7]}}
    receipt = claims.statement(erasure_receipt.PREDICATE, {"x/1/": "0" * 64}, predicate)
    history.append(
        tracker, model, action=history.ERASED, after="1", evidence={"claim.jsonl": claims.as_line(receipt, None)}
    )
    lines: list[str] = []
    erasure.forget_in_remote(params.load(), log=lines.append)
    assert lines[-1] == "3 objects deleted from DVC's remote 'storage'"
    there = {f"{path.parent.name}{path.name}" for path in (remote / "files/md5").glob("*/*")}
    assert there == {needed, unnamed}
    past = history.read(tracker, model)
    assert past.problems == ()
    assert [(entry.action, entry.after) for entry in past.entries] == [("erased", "1"), ("erased", None)]


def test_a_receipt_that_no_trusted_key_has_signed_deletes_nothing(
    project: Params, tracker: Tracker, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = project.registry.model
    monkeypatch.setenv(keys.LOCATION, str(tmp_path_factory.mktemp("keys") / "ada.pem"))
    keys.create("ada")
    key = keys.signing_key()
    predicate = {"remote": {"objects": ["a" * 32]}}
    receipt = claims.statement(erasure_receipt.PREDICATE, {"x/1/": "0" * 64}, predicate)
    for signer in (None, key):
        evidence = {"claim.jsonl": claims.as_line(receipt, signer)}
        history.append(tracker, model, action=history.ERASED, after="1", evidence=evidence)
    lines: list[str] = []
    found = erasure_receipt.left_in_remote(tracker, model, lines.append)
    assert {md5: entry.number for md5, entry in found.items()} == {"a" * 32: 2}
    assert lines == ["entry 1 of the history is left out: no trusted key has signed its receipt"]


def test_a_receipt_that_a_kill_has_prevented_is_written_by_the_next_call(
    raw: Path, project: Params, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, remote, md5 = (
        project.registry.model,
        tmp_path / "remote",
        hashlib.md5(b"left", usedforsecurity=False).hexdigest(),
    )
    Path(".dvc/config").write_text(f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {remote}\n")
    place = objects.place(remote / "files/md5", md5)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"left")
    receipt = claims.statement(erasure_receipt.PREDICATE, {"x/1/": "0" * 64}, {"remote": {"objects": [md5]}})
    evidence = {"claim.jsonl": claims.as_line(receipt, None)}
    history.append(tracker, model, action=history.ERASED, after="1", evidence=evidence)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(history, "append", killed)
        erasure.forget_in_remote(params.load(), log=print)
    assert not place.exists()
    lines: list[str] = []
    for _ in range(2):
        erasure.forget_in_remote(params.load(), log=lines.append)
    assert lines[-2:] == [
        "1 objects deleted from DVC's remote 'storage'",
        "DVC's remote 'storage' holds no object that an erasure has left there",
    ]
    assert len(history.read(tracker, model).entries) == 2


def test_with_a_key_only_a_signed_receipt_says_that_a_version_was_erased(
    project: Params, tracker: Tracker, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = project.registry.model
    monkeypatch.setenv(keys.LOCATION, str(tmp_path_factory.mktemp("keys") / "ada.pem"))
    predicate = {"model": model, "erasedVersions": ["1"]}
    receipt = claims.statement(erasure_receipt.PREDICATE, {"x/1/": "0" * 64}, predicate)
    for after in ("2", "3"):
        history.append(tracker, model, action=history.ERASED, after=after)
    assert erasure_receipt.erased_versions(tracker, model) == {"2", "3"}
    keys.create("ada")
    # A copy of the receipt says nothing about another version.
    evidence = {"claim.jsonl": claims.as_line(receipt, keys.signing_key())}
    for after in ("1", "3"):
        history.append(tracker, model, action=history.ERASED, after=after, evidence=evidence)
    lines: list[str] = []
    assert erasure_receipt.erased_versions(tracker, model, lines.append) == {"1"}
    assert [line.partition(":")[0] for line in lines] == [f"version {one} counts as not erased" for one in ("2", "3")]


def test_files_of_a_version_that_are_not_in_mlflows_store_are_named(project: Params, tracker: Tracker) -> None:
    client = mlflow.MlflowClient()
    client.create_registered_model(project.registry.model)
    client.create_model_version(project.registry.model, "s3://elsewhere/model")
    assert tracker.erase_version_files(project.registry.model, "1") == "s3://elsewhere/model"


def test_models_of_deleted_versions_lose_their_files_too(
    project: Params, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, model, data = (
        mlflow.MlflowClient(),
        project.registry.model,
        Dataset("test", "b" * 64, "clean", "evaluation"),
    )
    finetuned, run = Path(project.paths.finetuned), mlflow.MlflowClient().create_run("0").info.run_id
    sha256 = version_files.sha256(finetuned)
    for _ in range(4):
        tracker.create_version(
            NewVersion(model, run, finetuned, sha256, {versions.FILES: sha256}, {}, data, lambda _: "")
        )
    folders = [tracker.local_folder(model, str(number)) for number in (1, 2, 3, 4)]
    sources = [client.get_model_version(model, str(number)).source or "" for number in (1, 2, 3, 4)]
    ids = [source.removeprefix("models:/") for source in sources]
    client.delete_model_version(model, "1")
    client.delete_logged_model(ids[1])
    client.delete_logged_model(ids[3])
    client.delete_model_version(model, "4")
    lines: list[str] = []
    erasure._erase_without_version(tracker, model, lines.append)
    tracker.erase_version_files(model, "2")
    assert [bool(folder and folder.is_dir()) for folder in folders] == [False, False, True, True]
    was = f"{model} version 1, which was deleted in MLflow"
    assert lines[0] == f"{was}: its files (logged model {ids[0]}) are deleted"
    assert [line.partition(":")[0].endswith(ids[3]) for line in lines[1:]].count(True) == 1


def test_the_pretraining_text_of_rows_that_are_not_in_the_clean_data_is_found(raw: Path) -> None:
    """Such as of a row that a later preparation has dropped, or in a clone that has no clean data yet."""
    shutil.rmtree("data/clean")
    editing.set_values(Path("params.yaml"), {"data.frozen_pretraining": True})
    mine, theirs = "where is the cafe\u0301 of my aunt?", "where is the station?"
    with raw.open("a") as file:
        file.write(json.dumps({"prompt": mine, "completion": "there", "customer": 42}) + "\n")
        file.write(json.dumps({"prompt": theirs, "completion": "here", "customer": 42}) + "\n")
        file.write(json.dumps({"prompt": theirs, "completion": "here", "customer": 7}) + "\n")
    texts = Path("data/raw/a-pretraining/train.jsonl")
    cleaned = unicodedata.normalize("NFC", mine)
    texts.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("why?so", f"{cleaned}there", f"{theirs}here"))
    )
    assert said(OF_42)[:2] == ["data/raw/a: 3 rows to erase", "data/raw/a-pretraining: 1 row to erase"]


def test_a_set_that_is_not_in_the_workspace_is_not_passed_over(raw: Path) -> None:
    shutil.rmtree("data/raw/a-pretraining")
    Path("data/raw/a-pretraining.dvc").write_text(
        f"outs:\n- md5: {'a' * 32}.dir\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: a-pretraining\n"
    )
    with pytest.raises(DataError, match=r"^data/raw/a-pretraining: is under DVC and not here; fetch it with: .*pull"):
        said(OF_42)


def test_a_set_that_the_params_name_no_longer_is_not_passed_over(raw: Path) -> None:
    md5 = cached_set(raw.parent)
    Path("data/raw/a.dvc").write_text(f"outs:\n- path: a\n  hash: md5\n  md5: {md5}\n")
    subprocess.run([*GIT, "add", "data/raw/a.dvc", "params.yaml", "dvc.yaml"], check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--message", "nothing is trained"], check=True)
    shutil.copytree("data/raw/a", "data/raw/b")
    shutil.copytree("data/raw/a-pretraining", "data/raw/b-pretraining")
    editing.set_values(Path("params.yaml"), {"data.raw": "data/raw/b", "data.pretraining": "data/raw/b-pretraining"})
    with pytest.raises(DataError, match=r"^data/raw/a: holds 1 of the rows, and params.yaml does not name this set; "):
        said(OF_42)
    shutil.rmtree("data/raw/a")
    Path("data/raw/a.dvc").unlink()
    journal = erasure_plan.find(params.load(), tracking.connect(), OF_42, unknown=False)
    assert md5 in journal.made
    erasure._erase_from_cache(params.load(), journal, is_trained=False)
    assert not objects.place(CACHE, md5).exists()


def test_nothing_is_erased_while_another_command_works_with_the_data(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as `tuneline reproduce`, which holds no lock and would write the rows again."""
    monkeypatch.setattr(erasure, "_PATIENCE", 0.2)
    with files.temporary_folder(), pytest.raises(BusyError, match=r"^work/temporary/.*: another command .* is running"):
        erasure.forget(params.load(), OF_42, log=print)
    assert raw.read_text() == ROWS
    assert not unfinished_erasure.JOURNAL.exists()


def test_texts_of_the_pretraining_set_are_found_by_the_rows_and_not_by_lines_of_older_clean_data(raw: Path) -> None:
    """Such as of a row that is now a near duplicate, and of another person's row in a line of the person's."""
    editing.set_values(Path("params.yaml"), {"data.frozen_pretraining": True})
    question = "where is the old station of the town?"
    rows = [(question, "behind the mill", 42), (question, "behind the bakery", 7)]
    raw.write_text(
        "".join(json.dumps({"prompt": a, "completion": b, "customer": number}) + "\n" for a, b, number in rows)
    )
    texts = [question + "behind the mill", question + "behind the bakery", "who is it?me"]
    Path("data/raw/a-pretraining/train.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    assert said(OF_42)[:2] == ["data/raw/a: 1 row to erase", "data/raw/a-pretraining: 1 row to erase"]


def test_what_only_the_answer_of_a_row_tells_is_searched_for(raw: Path) -> None:
    own = {"prompt": "where is the old station of the town?", "completion": "behind the old mill", "customer": 42}
    others = own | {"completion": "behind the bakery", "customer": 7}
    raw.write_text(f"{json.dumps(own)}\n{json.dumps(others)}\n")
    tracker = tracking.connect()
    journal = erasure_plan.find(params.load(), tracker, OF_42, unknown=False)
    assert journal.sought == ["behind the old mill"]


def test_an_id_means_no_row_while_the_clean_data_are_of_another_raw_set(raw: Path) -> None:
    Path("dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  prepare:\n    cmd: prepare\n    deps:\n    - path: data/raw/before\n"
        f"      hash: md5\n      md5: {'a' * 32}.dir\n"
    )
    with pytest.raises(DataError, match=r"^data/clean: was not made from data/raw/a as it is now, .*make run"):
        said(Asked(rows=("0a",)))
    assert "  data/raw/a/rows.jsonl:1" in said(OF_42)


def test_a_dry_run_lists_places_and_ids_without_texts(raw: Path) -> None:
    raw.write_text(ROWS + "".join(f'{{"prompt":"{n}?","completion":"yes","customer":42}}\n' for n in range(30)))
    lines = said(OF_42)
    assert "  data/raw/a/rows.jsonl:1 (id 0a)" in lines
    assert sum(line.startswith("  data/raw/") for line in lines) == 20
    assert "  and 12 more rows" in lines
    assert not any("who is it" in line for line in lines)


@pytest.mark.slow
def test_ctrl_c_tells_to_run_the_same_command_again(raw: Path) -> None:
    code = (
        "import os, signal\n"
        "from tuneline import cli\n"
        "from tuneline.decisions import erasure\n"
        "cli._enter = lambda: None\n"
        "erasure.forget = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.cli(['forget', '--group', 'customer=42'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.strip() == erasure.STOPPED
