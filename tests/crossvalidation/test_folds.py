"""Folds hold out every row once, and never a row of the test split."""

from pathlib import Path

import pyarrow as pa
import pytest
from projects import ROOT

from tuneline import params
from tuneline.core import files
from tuneline.crossvalidation import folds
from tuneline.data.records import labelled_by
from tuneline.data.records.labelled_by import LabelledBy
from tuneline.errors import DataError


def write_clean(clean: Path, clusters: dict[str, list[str]]) -> None:
    for name, own in clusters.items():
        ids = [f"{name}-{place}" for place in range(len(own))]
        columns = {"id": ids, "source": [f"rows.txt:{place}" for place in range(len(own))], "cluster": own, "text": ids}
        (clean / name).mkdir(parents=True)
        schema = pa.schema(dict.fromkeys(columns, pa.string()))
        files.write_parquet(clean / name / "part-00000.parquet", pa.table(columns, schema))
    files.write_json(clean / "dataset.json", {"record_type": "text"})


def test_every_row_is_held_out_once_and_a_cluster_stays_together(tmp_path: Path) -> None:
    clusters = {"train": [f"{number % 40:x}" for number in range(120)], "validation": [f"{n:x}" for n in range(50, 60)]}
    write_clean(tmp_path, {**clusters, "test": ["ff"] * 5})
    made = folds.split(tmp_path, 5)
    held_out = [row for fold in made for row in fold.held_out["id"].to_pylist()]
    assert sorted(held_out) == sorted(f"{name}-{n}" for name, own in clusters.items() for n in range(len(own)))
    for fold in made:
        own, train = set(fold.held_out["cluster"].to_pylist()), set(fold.train["cluster"].to_pylist())
        assert not own & (train | set(fold.validation["cluster"].to_pylist()))
        assert fold.train.num_rows + fold.validation.num_rows + fold.held_out.num_rows == 130
        assert not any(row.startswith("validation") for row in fold.train["id"].to_pylist())


def test_a_fold_is_written_as_clean_splits_without_the_rows_that_measure(tmp_path: Path) -> None:
    write_clean(tmp_path / "clean", {"train": ["0", "1", "2", "3"], "validation": ["4", "5"], "test": []})
    [fold, _] = folds.split(tmp_path / "clean", 2)
    folds.write(fold, tmp_path / "clean", tmp_path / "fold")
    assert files.read_parquet(tmp_path / "fold/train")["cluster"].to_pylist() == ["1", "3"]
    assert files.read_parquet(tmp_path / "fold/validation")["cluster"].to_pylist() == ["5"]
    assert files.read_json(tmp_path / "fold/dataset.json") == {"record_type": "text"}


def test_planted_canaries_take_no_part(tmp_path: Path) -> None:
    write_clean(tmp_path, {"train": ["0", "1", "2", "3"], "validation": [], "test": []})
    table = files.read_parquet(tmp_path / "train")
    planted = table.slice(0, 1).set_column(1, "source", pa.array(["canary:1"]))
    files.write_parquet(tmp_path / "train/part-00001.parquet", planted)
    assert sum(fold.held_out.num_rows for fold in folds.split(tmp_path, 2)) == 4


def test_more_folds_than_groups_are_refused(tmp_path: Path) -> None:
    write_clean(tmp_path, {"train": ["0", "1", "1", "0"], "validation": ["0"], "test": []})
    with pytest.raises(DataError, match=r"are in 2 groups, too few for 3 folds; use at most 2 folds"):
        folds.split(tmp_path, 3)


def test_each_fold_without_a_row_is_named(tmp_path: Path) -> None:
    write_clean(tmp_path, {"train": ["0", "3", "6", "9"], "validation": [], "test": []})
    with pytest.raises(DataError) as refused:
        folds.split(tmp_path, 3)
    assert [problem.partition("and ")[2].partition(";")[0] for problem in refused.value.problems] == [
        "validation rows are in 4 groups, and without fold 0 of 3 no training row is left",
        "validation rows are in 4 groups, and none of them is in fold 1 of 3",
        "validation rows are in 4 groups, and none of them is in fold 2 of 3",
    ]


def test_what_has_seen_the_rows_of_every_fold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = params.load(ROOT / "params.yaml")
    assert folds.rows_seen(shipped) is None
    base = shipped.base.model_copy(update={"source": "merge", "input": "models/merge"})
    merged = folds.rows_seen(shipped.model_copy(update={"base": base}))
    assert merged == "the versions that were merged (base.source: merge) have seen rows of every fold"
    data = shipped.data.model_copy(update={"mixture": {"people": {"weight": 0.1}, "pseudo": {"weight": 0.1}}})
    mixed = shipped.model_copy(update={"data": data})
    assert folds.rows_seen(mixed) is None
    by = LabelledBy("reviews", "3", {"model.safetensors": "ab" * 32}, 0.9, "cd" * 32)
    files.write_json(tmp_path / shipped.paths.mixture / "pseudo" / labelled_by.FILE, by.as_json())
    assert folds.rows_seen(mixed) == (
        "data.mixture.pseudo was labelled by reviews version 3, which has seen rows of every fold"
    )
