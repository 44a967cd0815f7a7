"""What an erasure deletes and keeps: in sets, caches, remotes, runs and the registry; and how it is continued."""

import shutil
from pathlib import Path

import pytest
from erasable_project import CACHE, OF_42, ROWS, cached_set, locked

from tuneline import params
from tuneline.decisions import erasure, erasure_plan, erasure_receipt
from tuneline.decisions.erasure_plan import Asked, Journal
from tuneline.errors import PipelineError
from tuneline.pipeline import objects
from tuneline.registry import tracking

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
