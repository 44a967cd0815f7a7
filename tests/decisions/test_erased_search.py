"""A text that must be gone is found in bytes, in JSON and HTML, across blocks, and in compressed tables."""

import html
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneline.decisions import erased_search

TEXT = 'Zoë said: "the <walrus> hums", isn\'t it'


@pytest.mark.parametrize(
    "content",
    [TEXT.encode(), json.dumps({"a": TEXT}).encode(), f"<p>{html.escape(TEXT)}</p>".encode()],
)
def test_a_text_is_found_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in it").write_bytes(b"\0" * 100 + content + b"\0")
    (tmp_path / "without").write_bytes(content[:12])
    assert erased_search.search(tmp_path, [TEXT]) == (["in it"], 2)


def test_blocks_tables_and_folders_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erased_search, "_BLOCK", 16)
    (tmp_path / "bytes").write_bytes(b"." * 10 + TEXT.encode())
    texts = [TEXT + str(number) for number in range(99)]
    pq.write_table(pa.table({"n": list(range(99)), "t": texts}), tmp_path / "table", compression="zstd")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/object").write_text(TEXT)
    (tmp_path / "journal").write_text(TEXT)
    found, count = erased_search.search(tmp_path, [TEXT], leave_out=[tmp_path / "journal"])
    assert (sorted(found), count) == (["bytes", "table"], 2)
