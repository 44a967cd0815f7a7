"""A text that must be gone is found in bytes, in JSON and HTML, across blocks, and in compressed tables."""

import html
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneline.decisions import erased_search

TEXT = 'Zoë said:\r\n"the <walrus> hums", isn\'t it'
PLAIN = TEXT.replace("\r", "")
AS_JSON = json.dumps(PLAIN, ensure_ascii=False)


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        PLAIN,
        json.dumps({"a": TEXT}),
        f'{{"a": {AS_JSON}}}',
        json.dumps({"messages": AS_JSON}),
        json.dumps({"messages": AS_JSON}, ensure_ascii=False),
        f"<p>{html.escape(TEXT)}</p>",
        f"<p>{html.escape(PLAIN, quote=False)}</p>",
        f"<script>{html.escape(AS_JSON)}</script>",
        f'1,"{PLAIN.replace(chr(34), chr(34) * 2)}"',
    ],
)
def test_a_text_is_found_however_it_is_written(tmp_path: Path, written: str) -> None:
    content = written.encode()
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


def test_a_short_text_is_found_only_as_a_whole_value_of_a_row(tmp_path: Path) -> None:
    name = "Zoë Li"
    rows = [{"name": f" {name} "}, {"messages": json.dumps([{"content": name}], ensure_ascii=False)}]
    (tmp_path / "a").write_text('{"a": 1}\n' + json.dumps(rows[0]) + "\n")
    (tmp_path / "b").write_text(json.dumps({"deep": [rows[1]]}) + "\n")
    pq.write_table(pa.table({"x": ["y", name]}), tmp_path / "c")
    pq.write_table(pa.table({"x": [rows[1]["messages"]]}), tmp_path / "d")
    # In a longer text, in a vocabulary, and in the middle of bytes it occurs by chance.
    (tmp_path / "text").write_text(json.dumps({"text": f"I met {name} there"}) + "\n")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"vocab": {name: 1}, "last": name}, indent=2))
    (tmp_path / "bytes").write_bytes(name.encode())
    assert sorted(erased_search.find_values(tmp_path, [name])) == ["a", "b", "c", "d"]
