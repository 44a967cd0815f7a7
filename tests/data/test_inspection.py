"""What a person is told about a set before it is used."""

from pathlib import Path

import pytest

from tuneline.data.inspection import inspect
from tuneline.errors import DataError


def test_a_usable_set(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nq,a\nq,\n")
    found = inspect(tmp_path, "utf-8", {})
    assert (found.record_type, found.rows) == ("prompt-completion", 2)
    assert found.rejected == ["a.csv:3: empty: answer is empty"]
    assert found.columns == {"a.csv": ["question", "answer"]}
    assert found.formats == {"a.csv": "csv"}
    assert inspect(tmp_path / "a.csv", "utf-8", {}) == found


def test_a_set_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match="columns found: x, y"):
        inspect(tmp_path, "utf-8", {})
