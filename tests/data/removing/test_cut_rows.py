"""Files without some rows: the bytes of the others stay, in every format; what cannot be changed is refused."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options, Row
from tuneline.data.removing import cut_rows, found_rows
from tuneline.data.removing.found_rows import Selection

OF_42 = Selection((("customer", "42"),))


def cut(path: Path, selection: Selection = OF_42) -> bytes | None:
    [found] = found_rows.find(path, Options(), selection)
    assert cut_rows.refusal(found, path) is None
    target = path.with_name("target")
    return target.read_bytes() if cut_rows.without(found, path, target) else None


@pytest.mark.parametrize(
    ("name", "content", "left"),
    [
        ("a.jsonl", '{"t":"a","customer":1}\n\n{"t":"b", "customer":42}\n{"customer":7,"t":"é"}', None),
        ("a.jsonl", '{"t":"b","customer":"42"}\n{"t":"a","customer":1}\n{"t":"c","customer":42.0}\n', None),
        (
            "a.csv",
            'customer,t\r\n1,"a\r\nb"\r\n42,"c, ""d""\r\n\r\ne"\r\n2,f\r\n',
            'customer,t\r\n1,"a\r\nb"\r\n2,f\r\n',
        ),
        ("a.csv", "customer;t\n42;a\n1;b\n42;c", "customer;t\n1;b\n"),
        ("a.tsv", "customer\tt\n1\tb\n42\ta\n", "customer\tt\n1\tb\n"),
        (
            "a.json",
            '[{"t": "a", "customer": 1}, {"t": "[42", "customer": 42},\n {"t": "c", "customer": 2}]\n',
            '[{"t": "a", "customer": 1}, {"t": "c", "customer": 2}]\n',
        ),
        (
            "a.json",
            '[{"t": "a", "customer": 1},\n {"t": "b", "customer": 42}, {"t": "c", "customer": 42}\n]',
            '[{"t": "a", "customer": 1}\n]',
        ),
        (
            "a.json",
            '{"t": "a", "customer": 42}\n{"t": "b",\n "customer": 1} {"t": "c", "customer": 42}',
            '\n{"t": "b",\n "customer": 1} ',
        ),
    ],
)
def test_the_bytes_of_other_rows_stay(tmp_path: Path, name: str, content: str, left: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    if left is None:
        left = "".join(line for line in content.splitlines(keepends=True) if "42" not in line)
    assert cut(path) == left.encode()


def test_what_is_left_is_read_as_the_other_rows(tmp_path: Path) -> None:
    rows = [{"t": f'text {number} [,]}}\\"', "customer": number % 3} for number in range(40)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=2))
    after = cut(path, Selection((("customer", "1"),)))
    assert after is not None
    path.write_bytes(after)
    [plan] = readers.plan(path, Options())
    kept = [row.values for portion in plan.portions for row in readers.rows(portion) if isinstance(row, Row)]
    assert kept == [row for row in rows if row["customer"] != 1]


def test_tables_keep_the_values_of_other_rows(tmp_path: Path) -> None:
    table = pa.table({"customer": [1, 42, 2], "t": ["a", "b", "c"]}).replace_schema_metadata({"made by": "a test"})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert cut(tmp_path / "a.parquet")
    left = pq.read_table(tmp_path / "target")
    assert left.to_pydict() == {"customer": [1, 2], "t": ["a", "c"]}
    assert left.schema.metadata == {b"made by": b"a test"}
    for name, writer in (("a.arrow", pa.ipc.new_file), ("b.arrow", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, writer(sink, table.schema) as opened:
            opened.write_table(table)
        assert cut(tmp_path / name)
        reading = pa.ipc.open_file if name == "a.arrow" else pa.ipc.open_stream
        assert reading((tmp_path / "target").read_bytes()).read_all().to_pydict() == left.to_pydict()


def test_a_file_without_another_row_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"t":"a","customer":42}\n')
    assert cut(path) is None


def test_rows_are_found_by_their_values_or_by_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text":"who are you? me"}\n{"text":"me: who are you?"}\n{"text":"you"}\n')
    [found] = found_rows.find(path, Options(), Selection(texts=(("who are you?", "me"),)), is_text=True)
    assert found.meant == (0, 1)
    [found] = found_rows.find(path, Options(), Selection(digests=frozenset({found_rows.digest({"text": "you"})})))
    assert found.lines == (3,)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl.gz",
            # mtime=0: each process that collects the tests must make the same bytes, they are part of the test's name.
            gzip.compress(b'{"t":"a","customer":42}\n{"t":"b","customer":1}\n', mtime=0),
            "inside gzip cannot be removed",
        ),
        (
            "a.json",
            b'{"t": {"0": "a", "1": "b"}, "customer": {"0": 42, "1": 1}}',
            "is one JSON object with a table in it",
        ),
        ("a.jsonl", '{"t":"a","customer":42}\n{"t":"b","customer":1}\n'.encode("utf-16"), "convert it to UTF-8"),
    ],
)
def test_files_that_cannot_be_changed_are_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    [found] = found_rows.find(path, Options(), OF_42)
    refusal = cut_rows.refusal(found, path)
    assert refusal is not None
    assert said in refusal
    assert str(path) in refusal
