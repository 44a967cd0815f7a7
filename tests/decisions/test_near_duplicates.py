import hashlib
import json
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest
from erasable_project import registered

from tuneline.core import files
from tuneline.decisions import near_duplicates, version_rows
from tuneline.errors import RegistryError
from tuneline.fusion.merging import merge_recipe
from tuneline.fusion.merging.merge_recipe import Parent, Recipe
from tuneline.params import Params
from tuneline.pipeline import objects
from tuneline.registry import version_files, versions
from tuneline.registry.tracking import Tracker

LONG = "the parcel left the depot on monday morning and comes to the neighbour across the street in the late evening"
NEAR = LONG.replace("monday", "tuesday")
OTHER = (
    "please reset the password of the account that belongs to the person who has called us about a lost wallet today"
)


def put(content: bytes, end: str = "") -> str:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + end
    path = objects.place(Path(".dvc/cache/files/md5"), md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def version(columns: dict[str, list[str]], folder: Path = Path("version")) -> Path:
    """The folder of a version whose clean data are in DVC's cache."""
    files.write_parquet(Path("part.parquet"), pa.table(columns))
    listing = [{"relpath": "train/part-00000.parquet", "md5": put(Path("part.parquet").read_bytes())}]
    md5 = put(json.dumps(listing).encode(), ".dir")
    folder.mkdir(exist_ok=True)
    stages = {"prepare": {"outs": [{"path": "data/clean", "hash": "md5", "md5": md5}]}}
    (folder / "dvc.lock").write_text(json.dumps({"stages": stages}))
    return folder


def keys(*ids: str) -> pa.Table:
    return pa.table({"id": list(ids), "cluster": list(ids)})


@pytest.fixture
def pairs(project: Params) -> Path:
    return version({"id": ["a", "b"], "prompt": ["where is it", "what now"], "completion": [NEAR, OTHER]})


ROWS = pa.table({"id": ["t1", "t2"], "prompt": ["where is it", "who are you"], "reference": [LONG, OTHER[::-1]]})


def test_rows_near_to_what_the_champion_was_trained_on_are_found(project: Params, pairs: Path) -> None:
    found = near_duplicates.near_to(project, pairs, keys("a", "b"), keys("c"), ROWS)
    assert found == (frozenset({"t1"}), "")
    # The candidate was trained on it too, so `prepare` has compared it.
    assert near_duplicates.near_to(project, pairs, keys("a", "b"), keys("a"), ROWS) == (frozenset(), "")
    exact = project.model_copy(update={"data": project.data.model_copy(update={"near_duplicates": None})})
    assert near_duplicates.near_to(exact, pairs, keys("a", "b"), keys("c"), ROWS) == (frozenset(), "")


def test_texts_and_conversations_are_compared_too(project: Params) -> None:
    texts = version({"id": ["a"], "text": [NEAR]})
    halves = pa.table({"id": ["t1", "t2"], "prompt": [LONG[:50], ""], "reference": [LONG[50:], ""]})
    assert near_duplicates.near_to(project, texts, keys("a"), keys(), halves)[0] == {"t1"}

    def talk(answer: str) -> str:
        return json.dumps([{"role": "user", "content": "where is it"}, {"role": "assistant", "content": answer}])

    talks = version({"id": ["a"], "messages": [talk(NEAR)]})
    rows = pa.table(
        {"id": ["t1", "t2"], "prompt": ["", ""], "reference": ["", ""], "messages": [talk(LONG), talk(OTHER)]}
    )
    assert near_duplicates.near_to(project, talks, keys("a"), keys(), rows)[0] == {"t1"}


def test_training_rows_that_are_nowhere_are_told(project: Params, pairs: Path) -> None:
    for path in Path(".dvc/cache/files/md5").rglob("*.dir"):
        path.unlink()
    ids, why = near_duplicates.near_to(project, pairs, keys("a"), keys("c"), ROWS)
    assert (ids, bool(why)) == (frozenset(), True)
    (pairs / "dvc.lock").write_text("{}")
    assert near_duplicates.near_to(project, pairs, keys("a"), keys("c"), ROWS)[1] == "its dvc.lock names no data/clean"


@pytest.fixture
def merged(project: Params, tracker: Tracker, pairs: Path) -> Path:
    """The folder of a version that was merged from version 1, which was trained on `a`, and version 2, on `b`."""
    rows = {
        "1": {"id": ["a"], "prompt": ["where is it"], "completion": [NEAR]},
        "2": {"id": ["b"], "prompt": ["what now"], "completion": [OTHER]},
    }
    parents = []
    for number, parent in rows.items():
        sha256 = version_files.sha256(version(parent, Path(project.paths.finetuned)))
        assert registered(tracker, project) == number
        mlflow.MlflowClient().set_model_version_tag(project.registry.model, number, versions.FILES, sha256)
        parents.append(Parent(number, 1.0, files_sha256=sha256))
    folder = version({"id": ["c"], "prompt": ["a"], "completion": ["b"]}, Path("merged"))
    files.write_parquet(folder / merge_recipe.ROWS, keys("a", "b", "c"))
    merge_recipe.write(Recipe("linear", tuple(parents), model=project.registry.model), folder)
    return folder


def test_what_a_parent_was_trained_on_counts_for_a_merged_version(
    project: Params, merged: Path, tracker: Tracker
) -> None:
    assert near_duplicates.near_to(project, merged, keys("a", "b", "c"), keys("c"), ROWS) == (frozenset({"t1"}), "")
    tracker.erase_version_files(project.registry.model, "1")
    ids, why = near_duplicates.near_to(project, merged, keys("a", "b", "c"), keys("c"), ROWS)
    assert ids == frozenset()
    assert "version 1" in why
    mlflow.MlflowClient().delete_model_version(project.registry.model, "1")
    assert "version 1" in near_duplicates.near_to(project, merged, keys("a", "b", "c"), keys("c"), ROWS)[1]


def test_what_a_parent_was_trained_on_counts_for_a_merged_candidate(project: Params, merged: Path) -> None:
    base = project.base.model_copy(update={"source": "merge", "input": str(merged)})
    p = project.model_copy(update={"base": base})
    ids, why = near_duplicates.near_to_parents(p, ROWS)
    assert (ids, why) == (frozenset({"t1"}), "")
    # What today's training rows hold, `prepare` has compared with the test rows.
    files.write_parquet(Path(p.paths.clean) / "train/part-00000.parquet", keys("a", "b"))
    assert near_duplicates.near_to_parents(p, ROWS) == (frozenset(), "")


def test_the_rows_that_a_merged_version_has_seen_are_those_of_its_parents(project: Params, merged: Path) -> None:
    def ids() -> list[str]:
        tables = version_rows.seen_by(project.registry.model, merged, project.paths.clean)
        return [one for table in tables for one in table["id"].to_pylist()]

    assert ids() == ["c", "a", "b"]
    # It was not trained on the rows of its own data.
    files.write_parquet(merged / merge_recipe.ROWS, keys("a", "b"))
    assert ids() == ["a", "b"]
    # A registry of another clone has its own version 1.
    merge_recipe.write(Recipe("linear", tuple(Parent(one, 1.0, files_sha256="0" * 64) for one in "12")), merged)
    with pytest.raises(RegistryError, match="version 1 of this registry is not the version 1 that was merged"):
        list(version_rows.seen_by(project.registry.model, merged, project.paths.clean))
