"""What is read, what is set aside with which reason and place, and what is refused by name."""

import os
import pickle
from pathlib import Path

import pytest

from tuneline.data import readers
from tuneline.data.rows import RawFile
from tuneline.errors import DataError


def read(folder: Path, name: str, content: bytes, encoding: str = "utf-8") -> RawFile:
    (folder / name).write_bytes(content)
    return readers.read_file(folder / name, name, encoding)


def test_json_lines(tmp_path: Path) -> None:
    file = read(tmp_path, "a.jsonl", '{"text": "一\\n"}\r\n\n{"text": "b", "n": 1}'.encode())
    assert [tuple(row) for row in file.rows] == [(1, 0, {"text": "一\n"}), (3, 20, {"text": "b", "n": 1})]
    assert (file.columns, file.rejected) == (["text", "n"], [])


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (b'{"text": "a"', "json", "delimiter"),
        (b'{"text": "a", "text": "b"}', "repeated-key", "'text'"),
        (b'{"a": {"x": 1, "x": 2}}', "repeated-key", "'x'"),
        (b'{"text": NaN}', "not-finite", "NaN"),
        (b'{"text": 1e999}', "not-finite", "too large"),
        (rb'{"text": "\ud800"}', "lone-surrogate", "half a character"),
        (b'["a"]', "not-an-object", "a list"),
        (b'"a"', "not-an-object", "text"),
        (b"[" * 100_000, "too-deep", "nested"),
        (b'{"text": "\xb9\xfa"}', "encoding", "0xb9 at 10 is no utf-8"),
        (b'{"text": "' + b"x" * 1_000_000 + b'"}', "too-long", "1,000,012 bytes"),
    ],
)
def test_a_broken_json_row_is_set_aside_alone(tmp_path: Path, row: bytes, reason: str, detail: str) -> None:
    file = read(tmp_path, "a.jsonl", b'{"text": "first"}\n' + row + b'\n{"text": "last"}\n')
    assert [row.values for row in file.rows] == [{"text": "first"}, {"text": "last"}]
    (rejected,) = file.rejected
    assert (rejected.source, rejected.line, rejected.offset, rejected.reason) == ("a.jsonl", 2, 18, reason)
    assert detail in rejected.detail
    assert len(rejected.row) <= 201


def test_colons_in_text_are_no_keys(tmp_path: Path) -> None:
    file = read(tmp_path, "a.jsonl", rb'{"text": "say \"a\": b, \"a\" : c", "a" : {"text": "\":"}}')
    assert len(file.rows) == 1


def test_another_encoding_is_guessed_and_never_decoded_silently(tmp_path: Path) -> None:
    content = "中国很大\n我们走吧\n".encode("gb18030")
    file = read(tmp_path, "a.txt", content)
    assert [row.reason for row in file.rejected] == ["encoding", "encoding"]
    assert "can be read as gb18030" in file.rejected[0].detail
    file = read(tmp_path, "a.txt", content, "gb18030")
    assert [row.values["text"] for row in file.rows] == ["中国很大", "我们走吧"]


def test_plain_text_is_a_row_a_line(tmp_path: Path) -> None:
    file = read(tmp_path, "a.txt", "\ufeff  one \r\n\r\ntwo\rthree\u2028still three".encode())
    assert [(row.line, row.offset, row.values["text"]) for row in file.rows] == [
        (1, 3, "  one "),
        (3, 13, "two"),
        (4, 17, "three\u2028still three"),
    ]


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    file = read(tmp_path, "a.csv", b'q;a\n"one\nline";NA\n\n00123;"say ""hi"""\n')
    assert file.columns == ["q", "a"]
    assert [tuple(row) for row in file.rows] == [
        (2, 4, {"q": "one\nline", "a": "NA"}),
        (5, 19, {"q": "00123", "a": 'say "hi"'}),
    ]


def test_tsv_and_odd_rows(tmp_path: Path) -> None:
    file = read(tmp_path, "a.tsv", b"q\ta\n1, 2\tx\n1\n3\t\xff\n")
    assert [row.values for row in file.rows] == [{"q": "1, 2", "a": "x"}]
    assert [(row.line, row.reason) for row in file.rejected] == [(3, "csv"), (4, "encoding")]
    assert file.rejected[0].detail == "1 cells under 2 columns"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'q,a\n1,2\n3,"open\n5,6\n', "a.csv:3: unexpected end of data, from line 3 to 4; a quote that opens"),
        (b'q,a\n"1,2\n3"x,4\n', "a.csv:2: "),
        (b'"q,a\n1,2\n', "a.csv:1: unexpected end of data"),
        (b"q,a,q\n1,2,3\n", "a.csv:1: the column 'q' stands twice"),
    ],
)
def test_a_csv_whose_rows_are_doubtful_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, "a.csv", content)
    assert message in str(caught.value)


def test_content_wins_over_the_name(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", b'{"text": "a"}\n').format == "jsonl"
    assert read(tmp_path, "b.txt", b"{text}\n").format == "text"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        ("a.jsonl", b"\n<!DOCTYPE html><p>404", "an HTML page"),
        ("a.txt", pickle.dumps({"text": 1}), "a pickle, which is never loaded"),
        ("a.jsonl.gz", b"\x1f\x8b\x08", "gzip"),
        ("a.csv", b"\x1f\x8b\x08", "gzip"),
        ("a.parquet", b"PAR1\x15", "parquet"),
        ("a.xlsx", b"PK\x03\x04", "a zip archive"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.txt", b"te\0xt", "bytes of zero"),
        ("a.json", b'[\n{"text": "a"}]', "one JSON array"),
        ("a.json", b'{\n"text": "a"}', "over several lines"),
        ("a.md", b"# Title", "unknown kind of file with the suffix .md; read are JSON lines"),
        ("LICENSE", b"MIT", "unknown kind of file without a suffix"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, content)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert message in str(caught.value)


def test_files_come_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/a.txt", "a.txt", ".hidden.txt", ".git/x.txt", "b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("row\n")
    assert [file.name for file in readers.read_set(tmp_path, "utf-8")] == ["a.txt", "b.txt", "b/a.txt"]


def test_all_bad_files_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "b.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError) as caught:
        readers.read_set(tmp_path, "utf-8")
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        str(tmp_path / "a.md"),
        str(tmp_path / "b.gz"),
    ]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder; `dvc repro sample`"):
        readers.read_set(tmp_path / "missing", "utf-8")
    with pytest.raises(DataError, match="holds no files"):
        readers.read_set(tmp_path, "utf-8")
    (tmp_path / "a.csv").write_text("prompt,completion\n")
    with pytest.raises(DataError, match=r"holds no rows, in 1 file\(s\): a.csv"):
        readers.read_set(tmp_path, "utf-8")
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(DataError, match="holds no rows"):
        readers.read_set(tmp_path, "utf-8")


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "set" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    os.mkfifo(tmp_path / "set" / "pipe.txt")
    with pytest.raises(DataError) as caught:
        readers.read_set(tmp_path / "set", "utf-8")
    assert [problem.split(": is ")[1][:15] for problem in caught.value.problems] == [
        "a symbolic link",
        "a symbolic link",
        "no regular file",
    ]


def test_an_encoding_of_wide_units_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="iconv -f utf-16 -t UTF-8"):
        readers.read_set(tmp_path, "utf-16")
