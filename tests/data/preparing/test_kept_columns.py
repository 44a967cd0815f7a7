"""Columns that are no field of a record and are carried to the clean splits."""

import json
from pathlib import Path
from typing import Any

import pytest
from preparing import SPLITS, Prepared, Row, both, data, in_split, pair, prepare, sentence, some_texts

from tuneline.data.mapping import raw_set
from tuneline.data.preparing import prepare_sets
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options
from tuneline.data.records.record_form import kept_names
from tuneline.data.validation.frames import RawFrames
from tuneline.errors import DataError

KEPT: list[tuple[Any, str]] = [
    ("de", "de"),
    (3, "3"),
    (2.5, "2.5"),
    (True, "true"),
    (None, ""),
    ("", ""),
    (["a", "ü"], '["a", "ü"]'),
    ({"a": 1}, '{"a": 1}'),
    ("e\u0301\x1b[31m\r\n<b>", "é[31m\n<b>"),
]


def rows(values: list[Any]) -> list[Row]:
    found = [pair(f"question {split}", sentence(f"a{split}"), in_split(split), shop="x") for split in SPLITS]
    return [*found, *(pair(f"q{at}", sentence(at), in_split("test"), shop=one) for at, one in enumerate(values))]


def prepared(values: list[Any], **more: Any) -> Prepared:
    return prepare(rows(values), some_texts(), data(keep_columns=["shop"], **more))


def test_a_kept_column_is_carried_to_the_clean_splits_as_text() -> None:
    clean = prepared([value for value, _ in KEPT]).clean
    assert clean["train"].column_names == ["id", "source", "cluster", "prompt", "completion", "shop"]
    assert clean["test"]["shop"].to_pylist()[1:] == [text for _, text in KEPT]


def test_a_kept_column_changes_no_row_and_without_one_no_byte_changes() -> None:
    without, kept = both(rows([])), both(rows([]), chosen=data(keep_columns=["module"]))
    for split in SPLITS:
        assert kept.clean[split].drop_columns(["module"]).equals(without.clean[split])
    assert without.digest == both(rows([])).digest


def test_a_column_that_clean_splits_have_already_gets_another_name() -> None:
    assert kept_names(["shop", "source", "label"]) == {"shop": "shop", "source": "source_raw", "label": "label_raw"}
    with pytest.raises(DataError, match=r"two of its columns would be source_raw in the clean splits"):
        kept_names(["source", "source_raw"])
    with pytest.raises(DataError, match="two of its columns"):
        kept_names(["shop", "shop"])
    more = [pair(f"q{split}", sentence(f"b{split}"), in_split(split), source="web", offset=7) for split in SPLITS]
    clean = prepare(more, some_texts(), data(keep_columns=["source", "offset"])).clean["test"].to_pylist()[0]
    assert (clean["source"], clean["source_raw"], clean["offset"]) == ("a.jsonl:3", "web", "7")


def test_secrets_in_a_kept_column_are_masked_or_drop_the_row() -> None:
    secrets = {"email": "mask", "phone": "report", "id_number": "report", "card": "report", "key": "report"}
    found = prepared(["of ann@firm.de"], secrets=secrets)
    assert found.clean["test"]["shop"].to_pylist()[-1] == "of <EMAIL>"
    found = prepared(["of ann@firm.de"], secrets=secrets | {"email": "drop"})
    assert [(row["reason"], "ann" in json.dumps(row)) for row in found.quarantine] == [("secret", False)]


def test_large_sets_keep_their_columns_too() -> None:
    many = [pair(f"q{at}", sentence(at), in_split(SPLITS[at % 3], at), shop=f"s{at}") for at in range(60)]
    chosen = data(keep_columns=["shop"], near_duplicates=None)
    here, pool = (prepare(many, some_texts(), chosen, inline=inline) for inline in (10**12, 0))
    assert here.digest == pool.digest
    of_source = {f"a.jsonl:{at + 1}": f"s{at}" for at in range(60)}
    for split in SPLITS:
        table = here.clean[split]
        assert table["shop"].to_pylist() == [of_source[source] for source in table["source"].to_pylist()]


def opened(folder: Path, keep: list[str]) -> raw_set.RawSet:
    plans = readers.plan(folder, Options())
    return raw_set.open_set(folder, plans, columns={}, record_types=None, group_by=None, keep=keep)


def test_a_file_without_the_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(pair("a", "b", shop="x")) + "\n", "utf-8")
    with pytest.raises(DataError) as error:
        opened(tmp_path, ["shp"])
    assert error.value.problems == (
        f"{tmp_path}/a.jsonl: has no column 'shp', which data.keep_columns names; remove it there; did you mean shop?",
    )


def test_the_description_and_the_expectations_of_a_set_know_its_kept_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(pair("a", "b", source="x")) + "\n", "utf-8")
    raw = opened(tmp_path, ["source"])
    frame = next(iter(RawFrames(raw)()))
    assert frame["source_raw"].tolist() == ["x"]
    described = prepare_sets.describe_clean_set(raw_set.RawSets(raw, raw, {}), {"raw": {"rows": {}}})
    assert described["kept_columns"] == {"source": "source_raw"}
    described = prepare_sets.describe_clean_set(raw_set.RawSets(opened(tmp_path, []), raw, {}), {"raw": {"rows": {}}})
    assert "kept_columns" not in described
