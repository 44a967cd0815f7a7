"""What an erasure deletes and keeps: in sets, caches, remotes, runs and the registry; and how it is continued."""

import json
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest
from erasable_project import CACHE, OF_42, ROWS, begun_search, cached, cached_set, locked, sources_now, version_of
from source_project import GIT

from tuneline import git, params, processes
from tuneline.core import files
from tuneline.crossvalidation import cross_validation, one_fold
from tuneline.data.removing.found_rows import Selection
from tuneline.decisions import (
    erasure,
    erasure_plan,
    erasure_receipt,
    erasure_texts,
    kept_trials,
    returning_rows,
    unfinished_erasure,
)
from tuneline.decisions.erasure_plan import Asked, Journal
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import BusyError, DataError, PipelineError, TrackingError
from tuneline.fusion.merging import merge_recipe
from tuneline.fusion.merging.merge_recipe import Parent, Recipe
from tuneline.params import Params, editing
from tuneline.pipeline import objects
from tuneline.proofs import claims
from tuneline.registry import history, tracking, versions
from tuneline.registry.tracking import Tracker
from tuneline.reporting import explanation_page
from tuneline.training import checkpoints

AWAY = "[core]\n    remote = away\n['remote \"away\"']\n    url = ssh://example.invalid/x\n"
"""A remote whose client is not installed: it fails as one that cannot be reached, and at once."""


def in_cache() -> set[str]:
    return set(objects.all_in_cache(CACHE))


def found(asked: Asked = OF_42) -> Journal:
    return erasure_plan.find(params.load(), tracking.connect(), asked, unknown=False)


def erase(journal: Journal) -> list[str]:
    lines: list[str] = []
    erasure._erase(params.load(), tracking.connect(), journal, lines.append)
    return lines


def test_a_remote_that_does_not_answer_is_told_before_anything_changes_if_it_is_to_be_erased_too(raw: Path) -> None:
    locked(a=cached_set(raw.parent))
    Path(".dvc/config").write_text(AWAY)
    with pytest.raises(PipelineError, match=r"^DVC's remote 'away': .*\nnothing is changed; run this again when") as no:
        erasure.forget(params.load(), OF_42, log=print, remote=True)
    assert "tuneline forget --remote` deletes in the remote later" in str(no.value)
    assert raw.read_text() == ROWS
    assert not unfinished_erasure.JOURNAL.exists()


def test_a_set_that_only_an_unreachable_remote_may_have_is_told_before_anything_changes(raw: Path) -> None:
    lost = cached_set(raw.parent)
    shutil.rmtree(CACHE)
    locked(a=lost)
    Path(".dvc/config").write_text(AWAY)
    with pytest.raises(
        PipelineError, match=rf"\ndata/raw/a as it was with the md5 {lost} may be only there, .*nothing is"
    ):
        found()
    journal = erasure_plan.find(params.load(), tracking.connect(), OF_42, unknown=True)
    assert lost in journal.made


def test_a_remote_that_does_not_answer_keeps_no_row_here_and_the_receipt_names_what_it_may_hold(raw: Path) -> None:
    clean = locked(a=cached_set(raw.parent))
    Path(".dvc/config").write_text(AWAY)
    journal = found()
    lines = erase(journal)
    assert raw.read_text() == ROWS.splitlines(keepends=True)[1]
    assert any(line.startswith("DVC's remote 'away': ") for line in lines)
    claim = erasure_receipt.receipt(
        params.load(), tracking.connect(), journal, searched=0, short=[], made=None, verdict="unknown"
    )
    remote = claim["predicate"]["remote"]
    assert (remote["held"], remote["deleted"]) == (None, False)
    assert clean in remote["objects"]
    said = "\n".join(erasure_receipt.summary(journal, 0, None, "unknown"))
    assert "it is not known what DVC's remote still holds" in said


def new_run(tracker: Tracker, p: Params, files_of_gate: bool = True) -> str:
    """A training run with what the gate keeps in it now."""
    run = mlflow.MlflowClient().create_run(tracker._experiment(p.registry.model)).info.run_id
    if files_of_gate:
        tracker.attach(run, {Path("params.yaml"): "", Path("dvc.lock"): "", Path("README.md"): "reports"})
    return run


def without_the_rows(raw: Path) -> None:
    """The raw set and dvc.lock after a person has taken the rows out by hand, and has trained again."""
    raw.write_text(ROWS.splitlines(keepends=True)[1])
    Path("data/raw/a-pretraining/train.jsonl").write_text('{"text":"why?so"}\n')
    locked(a=cached_set(raw.parent), text=cached_set(Path("data/raw/a-pretraining")))


def test_a_version_whose_tags_were_exchanged_for_those_of_another_one_is_not_hidden(
    raw: Path, tracker: Tracker
) -> None:
    p = params.load()
    Path("README.md").write_text("x")
    locked(a=cached_set(raw.parent), text=cached_set(Path("data/raw/a-pretraining")))
    seen = sources_now(p)
    for number in ("1", "2"):
        assert version_of(tracker, p, seen, new_run(tracker, p), ["0" * 16]) == number
    without_the_rows(raw)
    clean = sources_now(p)
    assert version_of(tracker, p, clean, new_run(tracker, p), ["0" * 16]) == "3"
    model = p.registry.model
    # The second has got the claims of the third too: only its dvc.lock tells.
    for number in ("1", "2"):
        tracker.update_version(model, number, clean)
    [second, third] = [tracker.local_folder(model, number) for number in ("2", "3")]
    assert second
    assert third
    shutil.copyfile(third / claims.CLAIMS, second / claims.CLAIMS)
    with pytest.raises(DataError) as no:
        found()
    told = no.value.problems
    assert [line.partition(":")[0] for line in told[:-1]] == ["version 2"]
    assert "its file dvc.lock has the sha256" in told[0]
    assert "somebody has changed one of them" in told[0]
    assert "so it is not known whether these versions saw the rows" in told[-1]
    journal = erasure_plan.find(p, tracker, OF_42, unknown=True)
    assert list(journal.versions) == ["1", "2"]
    assert journal.versions["1"] == "its raw sets hold 1 of the rows"


def test_the_training_rows_of_a_version_tell_that_it_saw_a_row_whatever_its_sources_say(
    raw: Path, tracker: Tracker
) -> None:
    p = params.load()
    [number] = erasure_texts.traces(p, raw.parent, Selection(OF_42.groups)).ids
    before = Path("data/raw/before")
    shutil.copytree(raw.parent, before)
    without_the_rows(raw)
    version_of(tracker, p, sources_now(p), new_run(tracker, p, files_of_gate=False), ["0" * 16, number])
    raw.write_text(ROWS)
    assert found().versions == {"1": "its train-rows.parquet names 1 of the rows"}


def test_only_runs_that_may_hold_the_rows_lose_their_files(raw: Path, tracker: Tracker) -> None:
    p = params.load()
    Path("README.md").write_text("x")
    locked(a=cached_set(raw.parent), text=cached_set(Path("data/raw/a-pretraining")))
    saw = new_run(tracker, p)
    of_version = new_run(tracker, p)
    version_of(tracker, p, sources_now(p), of_version, ["0" * 16])
    without_the_rows(raw)
    failed_gate, ended_early, two_reports, of_both = (new_run(tracker, p, number != 1) for number in range(4))
    tracker.attach(two_reports, {Path("README.md"): "version-1/verdict-2"})
    # One training, evaluated on other test rows: both versions have this run.
    version_of(tracker, p, sources_now(p), of_both, ["0" * 16])
    raw.write_text(ROWS)
    assert set(found().runs) == {saw, of_version, ended_early, two_reports}
    assert failed_gate not in found().runs


def test_rows_that_were_taken_out_by_hand_before_are_found_in_earlier_sets_and_in_what_was_made_from_them(
    raw: Path, tracker: Tracker
) -> None:
    """The frozen pretraining text still holds the text of a row that no present set holds."""
    p = params.load()
    editing.set_values(Path("params.yaml"), {"data.frozen_pretraining": True})
    question, shared = "where is the old station of the town?", "where is the market?"
    mine = [{"prompt": question, "completion": "behind the mill", "customer": 42}]
    mine += [{"prompt": shared, "completion": "here", "customer": 42}]
    theirs = [{"prompt": shared, "completion": "here", "customer": 7}]
    raw.write_text("".join(json.dumps(row) + "\n" for row in [*mine, *theirs]))
    md5 = cached_set(raw.parent)
    Path("data/raw/a.dvc").write_text(f"outs:\n- path: a\n  hash: md5\n  md5: {md5}\n")
    subprocess.run([*GIT, "add", "data/raw/a.dvc", "params.yaml", "dvc.yaml"], check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--message", "first"], check=True)
    Path("data/raw/a.dvc").unlink()
    raw.write_text("".join(json.dumps(row) + "\n" for row in theirs))
    texts = [f"{question}behind the mill", f"{shared}here"]
    Path("data/raw/a-pretraining/train.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    journal = found()
    assert journal.counts == {"data/raw/a-pretraining": 1}
    assert md5 in journal.made
    assert journal.sought == [question]
    assert len(journal.proofs) == 2
    assert "2 more rows are only in earlier raw sets; what was made from them is erased" in [
        *erasure_plan.describe(journal)
    ]
    [number] = ids_in(p, md5)
    assert found(Asked(rows=(number,))).counts == {"data/raw/a-pretraining": 1}
    with pytest.raises(DataError, match=r"nor the id of a row that an earlier raw set held\na row that was taken out"):
        found(Asked(rows=("f" * 16,)))


def ids_in(p: Params, md5: str) -> frozenset[str]:
    """The ids of the rows of the customer in an earlier set."""
    with RawHistory(Selection(), {}).copied("data/raw/a", md5) as copy:
        assert copy
        return erasure_texts.traces(p, copy, Selection(OF_42.groups)).ids


def test_a_cache_of_this_project_keeps_only_what_is_known_to_be_without_the_rows(raw: Path) -> None:
    before = cached_set(raw.parent)
    made_before = locked(a=before)
    waste = cached(b"a half-written object of an earlier training")
    runs = Path(".dvc/cache/runs/ab")
    runs.mkdir(parents=True)
    journal = found()
    raw.write_text(ROWS.splitlines(keepends=True)[1])
    after = cached_set(raw.parent)
    # dvc.lock still names what was made from the rows.
    Path("data/raw/a.dvc").write_text(f"outs:\n- path: a\n  hash: md5\n  md5: {after}\n")
    kept = erasure._erase_from_cache(params.load(), journal, is_trained=False)
    assert in_cache() == {after, *(objects.read_listing(CACHE, after) or {}).values()}
    assert kept >= in_cache()
    assert made_before not in kept
    assert waste not in kept
    assert not runs.exists()
    assert len(journal.removed) == 4
    again = locked(a=after)
    assert again in erasure._erase_from_cache(params.load(), journal, is_trained=True)
    assert in_cache() >= {after, again}


def test_a_cache_that_other_projects_may_share_loses_only_what_was_made_from_the_rows(
    raw: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = locked(a=cached_set(raw.parent))
    foreign = cached(b"of another project")
    shared = tmp_path_factory.mktemp("shared")
    shutil.copytree(".dvc/cache", shared, dirs_exist_ok=True)
    Path(".dvc/config").write_text(f"[cache]\n    dir = {shared}\n")
    journal = found()
    erasure._erase_from_cache(params.load(), journal, is_trained=False)
    left = set(objects.all_in_cache(shared / "files/md5"))
    assert foreign in left
    assert made not in left


def a_version_with_an_alias(raw: Path, tracker: Tracker) -> tuple[Params, str]:
    """The champion of a project that saw the rows, and its run."""
    p = params.load()
    Path("README.md").write_text("who is it?")
    locked(a=cached_set(raw.parent))
    run = new_run(tracker, p)
    version = version_of(tracker, p, sources_now(p), run, ["0" * 16])
    tracker.set_alias(p.registry.model, "champion", version)
    return p, run


def test_aliases_are_taken_once_and_only_from_versions_that_saw_the_rows(raw: Path, tracker: Tracker) -> None:
    p, _ = a_version_with_an_alias(raw, tracker)
    model = p.registry.model
    tracker.set_alias(model, "shadow", "1")
    journal = found()
    assert journal.aliases == {"champion": "1", "shadow": "1"}
    other = version_of(tracker, p, {**sources_now(p)}, new_run(tracker, p), [])
    # Meanwhile a person gives an alias to a version without the rows, and another alias to the version with them.
    tracker.set_alias(model, "shadow", other)
    tracker.set_alias(model, "late", "1")
    for _ in range(2):
        erasure._take_aliases(p, tracker, journal)
    assert tracker.aliases(model) == {"shadow": other}
    entries = history.read(tracker, model).entries
    assert [(entry.action, entry.alias, entry.before) for entry in entries] == [
        ("erased", "champion", "1"),
        ("erased", "shadow", "1"),
        ("erased", "late", "1"),
    ]


class Breaking(Tracker):
    """A tracker whose registry stops answering before or after one of its writes."""

    WRITES = frozenset(
        {"erase_version_files", "update_version", "remove_alias", "erase_run_files", "complete_log_run", "claim_param"}
    )
    left: int
    """Writes until it breaks; each counts twice, for before and after it."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in Breaking.WRITES:
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            self._count()
            answer = found(*arguments, **more)
            self._count()
            return answer

        return call

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise TrackingError("MLflow does not answer")


def test_an_erasure_is_continued_after_the_registry_has_stopped_answering_midway(raw: Path, tracker: Tracker) -> None:
    p, run = a_version_with_an_alias(raw, tracker)
    model = p.registry.model
    folder = tracker.local_folder(model, "1")
    assert folder
    assert [*folder.iterdir()]
    found().save()
    breaking = Breaking(tracker._client, tracker.address)
    # After the files of the version, after its alias, after the entry of the history; then never.
    for breaks_at in (2, 6, 8, 0):
        journal = erasure_plan.read_unfinished(OF_42)
        assert journal
        breaking.left = breaks_at
        with pytest.raises(TrackingError) if breaks_at else nullcontext():
            erasure._erase(p, breaking, journal, lambda _: None)
        assert unfinished_erasure.JOURNAL.exists()
    assert raw.read_text() == ROWS.splitlines(keepends=True)[1]
    assert tracker.aliases(model) == {}
    assert not tracker.has_files(model, "1")
    assert tracker.artifact_names(run) == []
    past = history.read(tracker, model)
    assert past.problems == ()
    assert [(entry.action, entry.alias, entry.before) for entry in past.entries] == [("erased", "champion", "1")]


def test_trials_of_searches_that_saw_the_rows_are_erased_with_their_experiments_and_models(raw: Path) -> None:
    locked(a=cached_set(raw.parent), text=cached_set(Path("data/raw/a-pretraining")))
    saw = begun_search("saw", b"a model")
    without_the_rows(raw)
    other = begun_search("other", b"another model")
    raw.write_text(ROWS)
    assert kept_trials.names() == ["other", "saw"]
    journal = found()
    assert journal.searches == {"saw": "its raw sets hold 1 of the rows"}
    assert "search saw: its raw sets hold 1 of the rows; its trials are deleted, with their experiments in DVC" in [
        *erasure_plan.describe(journal)
    ]
    assert set(saw) <= set(journal.made)
    erase(journal)
    assert kept_trials.names() == ["other"]
    assert list(git.refs_below("refs/exps")) == ["refs/exps/12/34/other-1"]
    assert (kept_trials.FOLDER / "other/trials/2/work/a/checkpoint-1/weights").exists()
    assert not set(saw) & in_cache()
    assert other[0] in in_cache()


def test_nothing_is_erased_while_a_trial_trains(raw: Path) -> None:
    lock = kept_trials.FOLDER / "search/trials/3" / checkpoints.LOCK
    with (
        processes.exclusive(lock, "the training of a trial"),
        pytest.raises(BusyError, match=r"trials/3/work/training.lock: another run \(pid \d+\) holds the training of a"),
    ):
        erasure.forget(params.load(), OF_42, log=print)
    assert raw.read_text() == ROWS


def test_what_a_cross_validation_has_left_is_erased(raw: Path, tracker: Tracker) -> None:
    p = params.load()
    run = mlflow.MlflowClient().create_run(tracker._experiment(cross_validation.experiment(p))).info.run_id
    left = [one_fold.FOLDER / "d/fold-0/model/weights", Path(p.paths.reports) / cross_validation.PREDICTIONS]
    for path in left:
        files.write_text(path, "x")
    tracker.attach(run, {left[1]: ""})
    journal = found()
    assert journal.runs == [run]
    erase(journal)
    assert not any(path.exists() for path in left)
    assert tracker.artifact_names(run) == []


def test_pages_of_explanations_are_erased(raw: Path, tracker: Tracker) -> None:
    """They show the nearest training rows."""
    page = Path(params.load().paths.reports) / explanation_page.FOLDER / "v1-0123.html"
    files.write_text(page, "who is it?")
    erase(found())
    assert not page.exists()


def test_short_texts_are_searched_as_values_and_what_is_not_searched_is_told(raw: Path, tracker: Tracker) -> None:
    same = {"prompt": "why?", "completion": "so", "customer": 42}
    raw.write_text(ROWS + json.dumps(same) + "\n")
    journal = found()
    assert (journal.sought, journal.short, journal.unsearched) == ([], ["me", "who is it?"], 1)
    erase(journal)
    shutil.rmtree("data/clean")
    files.write_parquet(Path("mlflow/old.parquet"), pa.table({"prompt": ["who is it?"]}))
    lines: list[str] = []
    erasure._prove(params.load(), tracker, journal, lines.append)
    assert lines[0].startswith("mlflow/old.parquet: a value equals a short text of an erased row")
    assert "2 texts of less than 16 characters were searched as whole values of rows only" in lines
    entry = history.read(tracker, params.load().registry.model).entries[-1]
    [claim] = claims.parse(history.read_evidence(tracker, entry)[erasure_receipt.CLAIM], [], "receipt")
    searched = claim.predicate["searched"]
    assert (searched["shortTexts"], searched["rowsWithoutSearch"]) == (2, 1)
    assert searched["filesWithShortTexts"] == ["mlflow/old.parquet"]


def test_the_receipt_is_written_once_and_only_if_no_file_holds_a_text(raw: Path, tracker: Tracker) -> None:
    question = "where is the old station of the town?"
    raw.write_text(ROWS + json.dumps({"prompt": question, "completion": "there", "customer": 42}) + "\n")
    p, _ = a_version_with_an_alias(raw, tracker)
    journal = found()
    journal.save()
    assert journal.sought == [question]
    erase(journal)
    Path("notes.txt").write_text(f"asked: {question}")
    lines: list[str] = []
    with pytest.raises(PipelineError, match=r"^notes.txt: still holds an erased text\ndelete these files or take"):
        erasure._prove(p, tracker, journal, lines.append)
    assert unfinished_erasure.JOURNAL.exists()
    assert [entry.after for entry in history.read(tracker, p.registry.model).entries] == [None]
    Path("notes.txt").unlink()
    # Killed after the receipt was written: the journal is still there.
    kept = unfinished_erasure.JOURNAL.read_bytes()
    for _ in range(2):
        unfinished_erasure.JOURNAL.write_bytes(kept)
        erasure._prove(p, tracker, journal, lines.append)
    assert not unfinished_erasure.JOURNAL.exists()
    entries = history.read(tracker, p.registry.model).entries
    assert [(entry.alias, entry.before, entry.after) for entry in entries] == [
        ("champion", "1", None),
        (None, None, "1"),
    ]
    content = history.read_evidence(tracker, entries[-1])[erasure_receipt.CLAIM]
    assert question.encode() not in content
    [claim] = claims.parse(content, [], "receipt")
    assert claim.predicate["rows"] == 2
    assert claim.predicate["searched"]["found"] == 0
    assert f"  {journal.salt}" in lines
    # It comes back: its question is long enough to be recognised, and "who is it?" is not.
    known = returning_rows.read()
    assert known
    assert known.means({"q": question})
    assert claim.predicate["recognisedLater"]["rows"] == 1
    assert "1 of the rows cannot be recognised: their texts are short, or another row has them" in lines


def merge_folder(*versions: str) -> None:
    """What `tuneline merge` writes, under DVC."""
    for version in versions:
        files.write_text(Path(f"models/merge/{version}/model.safetensors"), f"weights of {version}")
    parents = tuple(Parent(version, 0.5) for version in versions)
    merge_recipe.write(Recipe("linear", parents), Path("models/merge"))
    md5 = cached_set(Path("models/merge"))
    Path("models/merge.dvc").write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  path: merge\n")


def merged_version(tracker: Tracker, p: Params, tags: dict[str, str], *parents: str, has_file: bool = True) -> str:
    """A version that was merged, of which neither raw sets nor training rows name the erased rows."""
    finetuned = Path(p.paths.finetuned)
    recipe = Recipe("linear", tuple(Parent(version, 0.5) for version in parents))
    if has_file:
        merge_recipe.write(recipe, finetuned)
    try:
        named = {} if has_file else {versions.PARENTS: recipe.named()}
        return version_of(tracker, p, {**tags, **named}, new_run(tracker, p), ["0" * 16])
    finally:
        (finetuned / merge_recipe.FILE).unlink(missing_ok=True)


def test_a_version_whose_parent_saw_the_rows_has_seen_them(raw: Path, tracker: Tracker) -> None:
    p = params.load()
    Path("README.md").write_text("x")
    locked(a=cached_set(raw.parent), text=cached_set(Path("data/raw/a-pretraining")))
    seen = sources_now(p)
    assert version_of(tracker, p, seen, new_run(tracker, p), ["0a"]) == "1"
    before = raw.read_text()
    without_the_rows(raw)
    clean = sources_now(p)
    assert version_of(tracker, p, clean, new_run(tracker, p), ["0" * 16]) == "2"
    assert merged_version(tracker, p, clean, "1", "2") == "3"
    assert merged_version(tracker, p, clean, "2", "3", has_file=False) == "4"
    assert merged_version(tracker, p, clean, "2") == "5"
    raw.write_text(before)
    journal = found()
    assert sorted(journal.versions) == ["1", "3", "4"]
    assert journal.versions["3"] == "it was merged from version 1, which saw the rows"
    assert journal.versions["4"] == "it was merged from version 3, which saw the rows"


def test_a_folder_of_merged_versions_that_saw_the_rows_is_deleted_by_hand_first(raw: Path, tracker: Tracker) -> None:
    p = params.load()
    Path("README.md").write_text("x")
    locked(a=cached_set(raw.parent), text=cached_set(Path("data/raw/a-pretraining")))
    assert version_of(tracker, p, sources_now(p), new_run(tracker, p), ["0a"]) == "1"
    merge_folder("1", "9")
    weights = {one for one in in_cache() if objects.place(CACHE, one).read_bytes() == b"weights of 1"}
    assert len(weights) == 1
    with pytest.raises(DataError) as caught:
        found()
    assert caught.value.problems == (
        "models/merge: holds versions that saw the rows, as `tuneline merge` copied them; delete it with: rm -r "
        "models/merge models/merge.dvc",
        "nothing is changed",
    )
    values = {"base.source": "merge", "base.input": "models/merge"}
    editing.set_values(Path("params.yaml"), values)
    with pytest.raises(
        DataError, match=r"set base\.source, base\.input and finetune\.num_train_epochs to what they were"
    ):
        found()
    editing.set_values(Path("params.yaml"), {"base.source": "builtin", "base.input": "data/pretraining"})
    git = [*GIT, "commit", "--quiet", "--message", "merged"]
    subprocess.run(["git", "add", "--force", "models/merge.dvc", "dvc.lock"], check=True)
    subprocess.run(git, check=True)
    shutil.rmtree("models/merge")
    Path("models/merge.dvc").unlink()
    journal = found()
    erase(journal)
    assert not weights & in_cache()
