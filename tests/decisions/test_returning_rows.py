"""Erased rows are recognised by their longer texts, and what is kept for this tells no text."""

from pathlib import Path

import pytest

from tuneline.core import files
from tuneline.decisions import returning_rows
from tuneline.errors import UnreadableFileError

LONG = "where is the old station of the town?"
ROW = {"prompt": LONG, "completion": "Behind the mill,  on the left", "customer": 42}


def remember(rows: list[dict], others: list[dict]) -> returning_rows.ErasedRows:
    key = returning_rows.known_key()
    returning_rows.remember(key, returning_rows.marks(key, returning_rows.recognisable(rows, others)), "2026-11-29")
    return returning_rows.read() or returning_rows.ErasedRows(b"", {})


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_row_is_recognised_by_its_texts_whatever_else_has_changed() -> None:
    known = remember([ROW], [])
    assert known.day(ROW) == "2026-11-29"
    again = {
        "question": LONG.upper(),
        "answer": "behind the mill, on the left",
        "customer": "no. 42",
        "added": "x" * 40,
    }
    assert known.means(again)
    assert known.means({"messages": [{"content": LONG}, {"content": ROW["completion"]}]})
    assert not known.means(ROW | {"completion": "behind the bakery, on the right"})
    assert not known.means({"prompt": LONG})


def test_rows_that_could_be_guessed_or_that_another_row_equals_are_not_kept() -> None:
    short = {"prompt": "who is it?", "completion": "Ada Lovelace", "customer": 42}
    phone = {"phone": "+380 44 123 45 67", "customer": 42}
    same = ROW | {"customer": 7}
    assert returning_rows.recognisable([ROW, short, phone], [same]) == set()
    assert remember([ROW, short, phone], [same]).day(ROW) is None
    assert not returning_rows.FILE.exists()


def test_the_file_holds_no_text_is_private_and_is_not_written_twice() -> None:
    remember([ROW], [])
    assert returning_rows.FILE.stat().st_mode & 0o777 == 0o600
    content = returning_rows.FILE.read_text()
    assert "station" not in content
    assert "42" not in files.read_json(returning_rows.FILE)["erased"][0]
    remember([ROW], [])
    assert returning_rows.FILE.read_text() == content
    other = {"text": "a long text of another person, who asked later"}
    known = remember([other], [])
    assert [known.means(ROW), known.means(other)] == [True, True]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": "x", "erased": []}', '{"key": "00", "erased": [{}]}'])
def test_a_damaged_file_is_told(content: str) -> None:
    returning_rows.FILE.parent.mkdir()
    returning_rows.FILE.write_text(content)
    with pytest.raises(UnreadableFileError, match=r"^mlflow/erased.json: is damaged, .*put it back from a backup"):
        returning_rows.read()
