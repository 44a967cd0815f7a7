"""A search that is deleted frees its folder, its experiments and its models, and nothing that others need."""

from pathlib import Path

import pytest
from erasable_project import CACHE, begun_search, cached_set, locked

from tuneline import git, processes
from tuneline.decisions import kept_trials, source_commit
from tuneline.errors import BusyError, ParamsError
from tuneline.pipeline import objects
from tuneline.training import checkpoints


def test_a_deleted_search_frees_the_models_that_nothing_else_names(raw: Path) -> None:
    locked(a=cached_set(raw.parent))
    mine = begun_search("mine", b"a model")
    # A search over the same values has the same model.
    other = begun_search("other", b"a model")
    assert mine == other
    # What `tuneline push` copies.
    assert git.refs_below(f"{source_commit.REFS}/") == {}
    [own] = begun_search("last", b"the model of nobody else")[:1]
    assert kept_trials.delete("mine")[0].startswith("search mine: 1 experiments are deleted, ")
    assert kept_trials.names() == ["last", "other"]
    assert list(git.refs_below("refs/exps")) == ["refs/exps/12/34/last-1", "refs/exps/12/34/other-1"]
    assert objects.place(CACHE, other[0]).is_file()
    kept_trials.delete("last")
    assert not objects.place(CACHE, own).exists()
    assert objects.place(CACHE, other[0]).is_file()
    kept_trials.delete("other")
    assert not objects.place(CACHE, other[0]).exists()
    assert git.refs_below(kept_trials.REFS) == {}


def test_a_search_that_is_not_there_or_trains_is_not_deleted(raw: Path) -> None:
    locked(a=cached_set(raw.parent))
    begun_search("mine", b"a model")
    with pytest.raises(ParamsError, match=r"--name x: there is no such search \(there are: mine\)"):
        kept_trials.delete("x")
    lock = kept_trials.FOLDER / "mine/trials/2" / checkpoints.LOCK
    with processes.exclusive(lock, "x"), pytest.raises(BusyError, match=r"holds the training of a trial"):
        kept_trials.delete("mine")
    assert kept_trials.names() == ["mine"]
