"""Rows that were erased by request and come back in the files of a later month are left out."""

import gzip
import json
from pathlib import Path

import pytest
from using import empty_project, faq_row, mix, pairs, use, use_project

from tuneline.decisions import returning_rows, unfinished_erasure
from tuneline.errors import DataError

__all__ = ["empty_project", "use_project"]


def erase(*numbers: int) -> None:
    key = returning_rows.known_key()
    rows = [faq_row(n) for n in numbers]
    returning_rows.remember(key, returning_rows.marks(key, returning_rows.recognisable(rows, [])), "2026-11-29")


def test_erased_rows_are_left_out_of_set_and_pretraining_text_and_the_source_is_named(tmp_path: Path) -> None:
    path = pairs(tmp_path)
    before = path.read_bytes()
    erase(3, 59)
    said = use(path)
    assert said[:3] == [
        f"{path}: 2 rows were erased on 2026-11-29 by request (tuneline forget)",
        f"  they are left out; delete them at their source too: {path}:4, {path}:60",
        f"{path}: 58 rows of prompt-completion, 0 set aside",
    ]
    assert path.read_bytes() == before
    rows = Path("data/raw/faq/faq.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == [faq_row(n) for n in range(59) if n != 3]
    text = "".join(file.read_text() for file in Path("data/raw/faq-pretraining").iterdir())
    assert faq_row(3)["answer"] not in text
    assert faq_row(4)["answer"] in text
    assert "work" not in "".join(said).replace("network", "")


def test_a_mixed_in_set_is_taken_in_without_them_too(tmp_path: Path) -> None:
    erase(3)
    folder = tmp_path / "more"
    folder.mkdir()
    pairs(folder, 10)
    (folder / "other.jsonl").write_text(json.dumps(faq_row(3)) + "\n")
    said = mix(folder, name="more", weight=0.5)
    assert said[0] == f"{folder}: 2 rows were erased on 2026-11-29 by request (tuneline forget)"
    assert [path.name for path in Path("data/mixture/more").iterdir()] == ["faq.jsonl"]


def test_a_file_that_cannot_be_cut_or_has_nothing_else_is_refused(tmp_path: Path) -> None:
    path = pairs(tmp_path, 4)
    erase(0, 1, 2, 3)
    with pytest.raises(DataError, match=r"^.*: 4 rows were erased .*\n.*: holds no other row; nothing is changed$"):
        use(path)
    packed = tmp_path / "faq.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"inside gzip cannot be removed; .*\ndelete these rows at their source \("):
        use(packed)
    assert not Path("data/raw").exists()


def test_no_set_is_taken_in_while_an_erasure_is_not_finished(tmp_path: Path) -> None:
    unfinished_erasure.JOURNAL.parent.mkdir(exist_ok=True)
    unfinished_erasure.JOURNAL.write_text("{}")
    with pytest.raises(DataError, match=r"^an erasure was begun and is not finished; .*; then run this again$"):
        use(pairs(tmp_path))
