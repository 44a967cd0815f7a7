"""What an erasure deletes and keeps: in sets, caches, remotes, runs and the registry; and how it is continued."""

import json
import shutil
import subprocess
from pathlib import Path

import mlflow
import pytest
from erasable_project import CACHE, OF_42, ROWS, cached_set, locked, sources_now, version_of
from source_project import GIT

from tuneline import params
from tuneline.data.removing.found_rows import Selection
from tuneline.decisions import erasure, erasure_plan, erasure_receipt, erasure_texts
from tuneline.decisions.erasure_plan import Asked, Journal
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import DataError, PipelineError
from tuneline.params import Params, editing
from tuneline.pipeline import objects
from tuneline.proofs import claims
from tuneline.registry import tracking
from tuneline.registry.tracking import Tracker

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
    assert not erasure_plan.JOURNAL.exists()


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
        params.load(), tracking.connect(), journal, searched=0, made=None, verdict="unknown"
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
