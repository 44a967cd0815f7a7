"""The Croissant metadata: mlcroissant accepts them, and reads the rows of local files through them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlcroissant
import pytest
from made_up_facts import CASES, facts_of

from tuneline.proofs import croissant


@pytest.mark.parametrize("name", CASES)
def test_mlcroissant_reads_the_rows_of_every_form(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    facts = facts_of(case, tmp_path)
    (tmp_path / croissant.FILE).write_text(croissant.metadata(facts), "utf-8")
    read = mlcroissant.Dataset(str(tmp_path / croissant.FILE))
    assert not read.metadata.ctx.issues.errors
    rows = {split: list(read.records(split)) for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in rows.items()} == facts.dataset["rows"]
    assert set(rows["train"][0]) == {f"train/{column}" for column in ("id", "source", "cluster", *case.form.fields)}
    if case.form.numeric:
        assert rows["test"][0]["test/label"] == 1.5
    for one in read.metadata.record_sets:
        assert list(read.records(one.uuid))


def test_a_split_of_several_files_is_read_whole(tmp_path: Path) -> None:
    facts_of(CASES["text"], tmp_path)
    shutil.copyfile(tmp_path / "train/part-00000.parquet", tmp_path / "train/part-00001.parquet")
    facts = facts_of(CASES["text"], tmp_path)
    assert len(facts.data_files) == 4
    (tmp_path / croissant.FILE).write_text(croissant.metadata(facts), "utf-8")
    assert len(list(mlcroissant.Dataset(str(tmp_path / croissant.FILE)).records("train"))) == 6


def test_folds_are_a_field_of_the_splits_that_have_them(tmp_path: Path) -> None:
    facts = facts_of(CASES["pairs"], tmp_path)
    split = facts.p.data.split.model_copy(update={"folds": 3})
    p = facts.p.model_copy(update={"data": facts.p.data.model_copy(update={"split": split})})
    sets = json.loads(croissant.metadata(replace(facts, p=p)))["recordSet"]
    fields = {one["@id"]: [field["name"] for field in one["field"]] for one in sets if one["@id"] != "splits"}
    assert "fold" in fields["train"] and "fold" in fields["validation"]
    assert "fold" not in fields["test"]


def test_kept_columns_are_fields_of_the_splits(tmp_path: Path) -> None:
    facts = facts_of(CASES["pairs"], tmp_path)
    kept = replace(facts, dataset={**facts.dataset, "kept_columns": {"source": "source_raw"}})
    sets = json.loads(croissant.metadata(kept))["recordSet"]
    fields = {one["@id"]: one["field"][-1] for one in sets if one["@id"] != "splits"}
    assert fields["test"]["name"] == "source_raw"
    assert fields["test"]["description"].startswith("a column of the raw set")


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / croissant.FILE).write_text(croissant.metadata(facts_of(CASES["pairs"], tmp_path)), "utf-8")
    shutil.copyfile(tmp_path / "test/part-00000.parquet", tmp_path / "train/part-00000.parquet")
    with pytest.raises(Exception, match="Download") as raised:
        list(mlcroissant.Dataset(str(tmp_path / croissant.FILE)).records("train"))
    assert "is not identical" in str(raised.value.__cause__)


def test_the_metadata_tell_what_was_dropped_and_found(tmp_path: Path) -> None:
    found = json.loads(croissant.metadata(facts_of(CASES["pairs"], tmp_path)))
    raw = "data/raw/python-docstrings"
    assert found["rai:dataPreprocessingProtocol"] == [f"{raw}: 10 rows in, 6 out; dropped: 4 duplicate"]
    assert found["rai:personalSensitiveInformation"] == [
        f"{raw}: 2 rows with a value that looks like email; policy: report"
    ]
