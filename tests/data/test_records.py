"""From columns to records: what is recognised, what must be mapped, which rows are set aside."""

from pathlib import Path

import orjson
import pytest

from tuneline import params
from tuneline.data import records
from tuneline.data.records import RecordSet, RecordType
from tuneline.errors import DataError


def read(
    folder: Path,
    *rows: object,
    name: str = "a.jsonl",
    columns: dict[str, str] | None = None,
    record_type: RecordType | None = None,
    group_by: str | None = None,
) -> RecordSet:
    (folder / name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return records.read(folder, encoding="utf-8", columns=columns or {}, record_type=record_type, group_by=group_by)


@pytest.mark.parametrize(
    "spelling",
    [
        ("prompt", "completion"),
        ("prompt", "response"),
        ("instruction", "output"),
        ("question", "answer"),
        ("Question", "Answer "),
        ("input", "output"),
    ],
)
def test_known_spellings_of_pairs(tmp_path: Path, spelling: tuple[str, str]) -> None:
    found = read(tmp_path, dict(zip(spelling, ("q", "a"), strict=True)) | {"extra": 1})
    assert (found.record_type, found.records[0].values) == ("prompt-completion", ("q", "a"))
    assert found.records[0].source == "a.jsonl:1"


def test_plain_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    found = records.read(tmp_path, encoding="utf-8", columns={})
    assert (found.record_type, [record.values for record in found.records]) == ("text", [("one",), ("two",)])


def test_an_empty_input_beside_an_instruction_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, {"instruction": "q", "input": "", "output": "a"}).records[0].values == ("q", "a")
    with pytest.raises(DataError, match=r"columns found: instruction, input, output \(input beside a question is not"):
        read(tmp_path, {"instruction": "q", "input": "x", "output": "a"})


def test_columns_are_mapped(tmp_path: Path) -> None:
    found = read(tmp_path, {"q": "1", "a": "2"}, columns={"prompt": "q", "completion": "a"})
    assert found.records[0].values == ("1", "2")
    assert read(tmp_path, {"q": "1", "a": "2"}, columns={"text": "a"}).records[0].values == ("2",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "columns found: q, a; say in params.yaml which of them are prompt and completion, as in data.columns: "),
        ({"prompt": "q", "completion": "aa"}, "data.columns names aa, which the file does not have; did you mean a?"),
        ({"prompt": "q"}, "data.columns: prompt are no fields of a record; give prompt and completion, or text"),
    ],
)
def test_columns_that_are_not_understood(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, {"q": "1", "a": "2"}, columns=columns)
    assert message in str(caught.value)


def test_the_record_type_must_fit_the_task(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, {"text": "a"}, record_type="prompt-completion")
    assert "holds text rows, but prompt-completion rows are needed; set task: language-modeling" in str(caught.value)
    found = read(tmp_path, {"text": "a", "prompt": "q", "completion": "a"}, record_type="text")
    assert found.records[0].values == ("a",)


def test_files_of_several_kinds(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("one\n")
    with pytest.raises(DataError, match=r"several kinds: a.jsonl \(prompt-completion\), b.txt \(text\)"):
        read(tmp_path, {"prompt": "q", "completion": "a"})


def test_odd_rows_are_set_aside_and_change_no_other(tmp_path: Path) -> None:
    good = {"prompt": "q", "completion": "a"}
    found = read(
        tmp_path,
        good,
        {"prompt": "q", "completion": " \n"},
        {"prompt": "q", "completion": None},
        {"prompt": "q", "completion": 3},
        {"prompt": ["q"], "completion": "a"},
        {"text": "another shape"},
        good,
    )
    assert len(found.records) == 2
    assert [(row.line, row.reason, row.detail) for row in found.rejected] == [
        (2, "empty", "completion is empty"),
        (3, "missing", "completion is missing"),
        (4, "not-text", "completion is a number, not text"),
        (5, "not-text", "prompt is a list, not text"),
        (6, "missing", "prompt is missing"),
    ]
    assert found.rows == 7


def test_groups(tmp_path: Path) -> None:
    row = {"prompt": "q", "completion": "a"}
    found = read(tmp_path, row | {"author": "Du Fu"}, row | {"author": 7}, row | {"author": ""}, group_by="author")
    assert [record.group for record in found.records] == ["Du Fu", "7"]
    assert [(row.line, row.reason) for row in found.rejected] == [(3, "no-group")]
    with pytest.raises(DataError, match=r"has no column 'module', by which data.split.group_by keeps rows together"):
        read(tmp_path, row, group_by="module")


def test_too_many_rejected_rows_stop_with_their_places(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a"}] * 93 + [{"prompt": "q", "completion": ""}] * 7
    found = read(tmp_path, *rows)
    records.check_rejected(found, 0.07)
    with pytest.raises(DataError) as caught:
        records.check_rejected(found, 0.06)
    first, *named, last = caught.value.problems
    assert "7 of 100 rows cannot be used (empty 7), more than data.max_rejected_fraction 0.06 allows" in first
    assert named[0] == "  a.jsonl:94: empty: completion is empty"
    assert (len(named), last) == (5, "  and 2 more")


def test_a_set_without_a_usable_row_is_refused_whatever_the_fraction(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("broken\n")
    found = records.read(tmp_path, encoding="utf-8", columns={})
    with pytest.raises(DataError, match="1 of 1 rows cannot be used"):
        records.check_rejected(found, 1.0)


def test_both_sets_name_all_their_problems_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text)
    with pytest.raises(DataError) as caught:
        records.read_both(params.load())
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "data/raw/python-docstrings",
        "data/raw/python-text",
    ]
