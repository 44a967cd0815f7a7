"""Hostile and odd files, each with the verdict, the rejected rows and the message that it must get."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

ROW = b'{"text": "good"}\n'
"""A row of 17 bytes."""


class Case(NamedTuple):
    """One file."""

    name: str
    content: bytes
    verdict: str
    """accepted, some (rows set aside) or refused."""
    rejected: tuple[tuple[int, int, str], ...] = ()
    """Line, byte offset and reason code."""
    message: str = ""
    """A part of the refusal or of a warning."""
    rows: int = 0
    """Number of accepted rows."""
    options: Mapping[str, str] = MappingProxyType({})
    file: str = ""
    """The name in the report; empty if it is `name`."""


def between(row: bytes) -> bytes:
    """A row between two good rows."""
    return ROW + row + b"\n" + ROW


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return file.getvalue()


def tarred(
    *members: tuple[str, bytes], mode: str = "w", change: Callable[[tarfile.TarInfo], None] | None = None
) -> bytes:
    """A tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(content) if info.size else None)
    return file.getvalue()


def as_link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def as_device(info: tarfile.TarInfo) -> None:
    info.type, info.size = tarfile.CHRTYPE, 0


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    """A parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def arrow(columns: dict[str, Any], stream: bool, compression: str | None = None) -> bytes:
    """An Arrow file or stream."""
    file = io.BytesIO()
    table = pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema, options=options) as writer:
        writer.write_table(table)
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def flipped(data: bytes, at: int) -> bytes:
    """The data with one byte changed."""
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


CHINESE = "中国很大，我们走吧。\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n"
JAPANESE = "今日は天気がいいですね。\n日本語のテキストです。\nこれはペンです。\n"
FRENCH = "Le café est très bon.\nDéjà vu à Noël.\nOù est la forêt ?\n"
LONG = 2_000_000

ROWS_OF_JSON = [
    Case("cut.jsonl", between(b'{"text": "a"'), "some", ((2, 17, "json"),), rows=2),
    Case("trailing-comma.jsonl", between(b'{"text": "a",}'), "some", ((2, 17, "json"),), rows=2),
    Case("single-quotes.jsonl", between(b"{'text': 'a'}"), "some", ((2, 17, "json"),), rows=2),
    Case("two-on-a-line.jsonl", between(b'{"text": "a"}{"text": "b"}'), "some", ((2, 17, "json"),), rows=2),
    Case("tab-in-text.jsonl", between(b'{"text": "a\tb"}'), "some", ((2, 17, "json"),), rows=2),
    Case("repeated.jsonl", between(b'{"text": "a", "text": "b"}'), "some", ((2, 17, "repeated-key"),), rows=2),
    Case(
        "repeated-spaced.jsonl", between(b'{"text" : "a", "text": "\\":"}'), "some", ((2, 17, "repeated-key"),), rows=2
    ),
    Case(
        "repeated-escaped.jsonl",
        between(b'{"text": "a", "te\\u0078t": "b"}'),
        "some",
        ((2, 17, "repeated-key"),),
        rows=2,
    ),
    Case(
        "repeated-inside.jsonl",
        between(b'{"text": "a", "b": [{"x": 1, "x": 2}]}'),
        "some",
        ((2, 17, "repeated-key"),),
        rows=2,
    ),
    Case(
        "repeated-hidden.jsonl",
        between(rb'{"text": "a", "text": "b", "a\\": "c"}'),
        "some",
        ((2, 17, "repeated-key"),),
        rows=2,
    ),
    Case(
        "colons-in-text.jsonl",
        between(rb'{"text": "say \"a\": \"b\" : \\\": c", "a" : {"b": "\":"}}'),
        "accepted",
        rows=3,
    ),
    Case("nan.jsonl", between(b'{"text": "a", "n": NaN}'), "some", ((2, 17, "not-finite"),), rows=2),
    Case("infinity.jsonl", between(b'{"text": "a", "n": -Infinity}'), "some", ((2, 17, "not-finite"),), rows=2),
    Case("huge-number.jsonl", between(b'{"text": "a", "n": 1e999}'), "some", ((2, 17, "not-finite"),), rows=2),
    Case(
        "huge-integer.jsonl",
        between(b'{"text": "a", "n": ' + b"9" * 5000 + b"}"),
        "some",
        ((2, 17, "not-finite"),),
        rows=2,
    ),
    Case(
        "repeated-among-lists.jsonl",
        between(b'{"text": "a", "n": [[1], {"x": [1], "x": 2}]}'),
        "some",
        ((2, 17, "repeated-key"),),
        rows=2,
    ),
    Case("surrogate.jsonl", between(rb'{"text": "\ud800"}'), "some", ((2, 17, "lone-surrogate"),), rows=2),
    Case("surrogate-key.jsonl", between(rb'{"text": "a", "\udfff": 1}'), "some", ((2, 17, "lone-surrogate"),), rows=2),
    Case("pair-of-surrogates.jsonl", between(rb'{"text": "\ud83d\ude00"}'), "accepted", rows=3),
    Case("list.jsonl", between(b'["a"]'), "some", ((2, 17, "not-an-object"),), rows=2),
    Case("null.jsonl", between(b"null"), "some", ((2, 17, "not-an-object"),), rows=2),
    Case("deep.jsonl", between(b"[" * 100_000), "some", ((2, 17, "too-deep"),), rows=2),
    Case(
        "deep-closed.jsonl",
        between(b'{"text": "a", "x": ' + b"[" * 300 + b"]" * 300 + b"}"),
        "some",
        ((2, 17, "too-deep"),),
        rows=2,
    ),
    Case("deep-objects.jsonl", between(b'{"a":' * 300 + b"1" + b"}" * 300), "some", ((2, 17, "too-deep"),), rows=2),
    Case("long.jsonl", between(b'{"text": "' + b"x" * LONG + b'"}'), "some", ((2, 17, "too-long"),), rows=2),
    Case(
        "longer-than-a-block.jsonl",
        between(b'{"text": "' + b"x" * 4_500_000 + b'"}'),
        "some",
        ((2, 17, "too-long"),),
        rows=2,
    ),
    Case(
        "gbk-row.jsonl",
        between(b'{"text": "\xb9\xfa"}'),
        "some",
        ((2, 17, "encoding"),),
        "1 line(s) are not utf-8",
        rows=2,
    ),
    Case("overlong.jsonl", between(b'{"text": "\xc0\x80"}'), "some", ((2, 17, "encoding"),), rows=2),
    Case("cesu.jsonl", between(b'{"text": "\xed\xa0\x80"}'), "some", ((2, 17, "encoding"),), rows=2),
    Case("nul.jsonl", between(b'{"text": "a\0b"}'), "some", ((2, 17, "nul-byte"),), rows=2),
    Case("flips-late.jsonl", ROW * 30_001 + b'{"text": 7}\n', "some", ((30_002, 510_017, "not-text"),), rows=30_001),
    Case("late-column.jsonl", ROW * 30_001 + b'{"text": "a", "new": 1}\n', "accepted", rows=30_002),
    Case("mixed.jsonl", ROW * 3 + b'{"other": 1}\n', "some", ((4, 51, "missing"),), rows=3),
    Case("byte-order-mark.jsonl", b"\xef\xbb\xbf" + ROW * 2 + b"{}\n", "some", ((3, 37, "missing"),), rows=2),
    Case("carriage-returns.jsonl", b'{"text": "a"}\r{"text": \r{"text": "b"}', "some", ((2, 14, "json"),), rows=2),
    Case("windows.jsonl", b'{"text": "a"}\r\n\r\n{"text": \r\n{"text": "b"}\r\n', "some", ((3, 17, "json"),), rows=2),
    Case(
        "line-separator.jsonl",
        '{"text": "a\u2028b\u0085c"}\n{"text"\n{"text": "d"}\n'.encode(),
        "some",
        ((2, 21, "json"),),
        rows=2,
    ),
    Case("all-broken.jsonl", b"{a\n{b\n", "refused", ((1, 0, "json"), (2, 3, "json")), "none of its 2 rows"),
    Case("json-in.txt", ROW * 2, "accepted", rows=2),
    Case("json-in.csv", ROW * 2, "accepted", rows=2),
    Case("no-suffix", ROW * 2, "accepted", rows=2),
]

WHOLE_JSON = [
    Case("array.json", b'[{"text": "a"},\n{"text": NaN},\n {"text": "b"}]', "some", ((2, 16, "not-finite"),), rows=2),
    Case(
        "array-deep.json",
        b'[{"text": "a"},\n' + b"[" * 100_000 + b"]" * 100_000 + b"]",
        "some",
        ((2, 16, "too-deep"),),
        rows=1,
    ),
    Case("array-too-deep.json", b"[" * 100_000, "refused", message="array-too-deep.json:1: ends in the middle"),
    Case(
        "array-long.json", b'[{"text": "a"},\n{"text": "' + b"x" * LONG + b'"}]', "some", ((2, 16, "too-long"),), rows=1
    ),
    Case(
        "array-cut.json",
        b'[{"text": "a"},\n{"text": "b"}',
        "refused",
        message="array-cut.json:2: is not JSON: expected a comma or ], found the end of the file",
    ),
    Case(
        "array-cut-in-text.json",
        b'[{"text": "a"},\n{"text": "b',
        "refused",
        message="array-cut-in-text.json:2: ends in the middle",
    ),
    Case("array-and-more.json", b'[{"text": "a"}]\n[1]', "refused", message="json:2: has '[' after its end"),
    Case("array-comma.json", b'[{"text": "a"},]', "refused", message="expected a value, found ']'"),
    Case("pretty.jsonl", b'{\n "text": "a"\n}\n{\n "text": "b"\n}', "accepted", rows=2),
    Case(
        "pretty-splits.jsonl",
        b'{\n "train": [\n  {"text": "a"},\n  {"text": "b"}\n ]\n}',
        "accepted",
        rows=2,
        file="pretty-splits.jsonl#train",
    ),
    Case(
        "pretty-cut.jsonl",
        b'{\n "text": "a"\n}\n{\n "text": "b"\n',
        "refused",
        message="pretty-cut.jsonl:4: ends in the middle of the value that starts here; correct it, or write one row "
        "per line with `jq -c .`",
    ),
    Case("cut-first.jsonl", b'{"text": \n{"text": "b"}\n{"text": "c"}\n', "some", ((1, 0, "json"),), rows=2),
    Case("array-in.jsonl", b'[\n{"text": "a"},\n{"text": "b"}\n]', "accepted", rows=2),
    Case(
        "pretty.json",
        b'{\n "text": "a"\n}\n{\n "text": "a", "text": "b"\n}',
        "some",
        ((4, 17, "repeated-key"),),
        rows=1,
    ),
    Case("pairs.json", b'[["good", "x"],\n["a"],\n["bad", "y"]]', "some", ((2, 16, "not-an-object"),), rows=2),
    Case(
        "splits.json",
        b'{"train": [["a", "x"],\n["b"], ["c", "y"]], "test": []}',
        "some",
        ((2, 23, "not-an-object"),),
        rows=2,
        file="splits.json#train",
    ),
    Case(
        "splits-twice.json",
        b'{"a": [{"text": "x"}],\n"a": [{"text": "y"}]}',
        "refused",
        message="splits-twice.json:2: the key 'a' occurs twice",
        file="splits-twice.json",
    ),
    Case(
        "array-gbk.json",
        ('[{"text": "' + CHINESE.replace("\n", "") + '"}]').encode("gb18030"),
        "refused",
        message="data.encoding: gb18030",
    ),
    Case(
        "array-gbk-said.json",
        ('[{"text": "' + CHINESE.replace("\n", "") + '"}]').encode("gb18030"),
        "accepted",
        rows=1,
        options={"encoding": "gb18030"},
    ),
    Case("array-utf16.json", '[{"text": "中"}]'.encode("utf-16"), "accepted", rows=1),
]

TABLES = [
    Case("header-only.csv", b"prompt,completion\n", "empty", message="has no rows"),
    Case("empty.csv", b"", "empty", message="is empty"),
    Case("blank.txt", b"\n \n\r\n", "empty", message="has no rows"),
    Case("unclosed.csv", b'text,label\na,x\n"b,y\nc,x\n', "refused", message="unclosed.csv:3: unexpected end of data"),
    Case(
        "unclosed-header.csv", b'"text,label\na,x\n', "refused", message="unclosed-header.csv:1: unexpected end of data"
    ),
    Case("swallowing.csv", b'text,label\n"a,x\nb"c,y\nd,x\n', "refused", message="swallowing.csv:2: "),
    Case("stray-quote.csv", b'text,label\na,x\n"b"c,y\nd,y\n', "some", ((3, 15, "csv"),), rows=2),
    Case(
        "doubled.csv", b"text,label,text\na,x,b\n", "refused", message="doubled.csv:1: the column 'text' occurs twice"
    ),
    Case("ragged.csv", b"text,label\na,x\nb\nc,y,z\nd,y\n", "some", ((3, 15, "columns"), (4, 17, "columns")), rows=2),
    Case("encoding.csv", b"text,label\na,x\n\xff,y\nd,y\n", "some", ((3, 15, "encoding"),), rows=2),
    Case("nul.csv", b"text,label\na,x\nb\0,y\nd,y\n", "some", ((3, 15, "nul-byte"),), rows=2),
    Case("long.csv", b"text,label\na,x\n" + b"b" * LONG + b",y\nd,y\n", "some", ((3, 15, "too-long"),), rows=2),
    Case("longer.csv", b"text,label\na,x\n" + b"b" * 2 * LONG + b",y\nd,y\n", "some", ((3, 15, "too-long"),), rows=2),
    Case(
        "long-quoted.csv", b'text,label\na,x\n"' + b"b" * LONG + b'",y\nd,y\n', "some", ((3, 15, "too-long"),), rows=2
    ),
    Case(
        "long-unclosed.csv",
        b'text,label\na,x\n"' + b"b" * 2 * LONG + b"\nd,y\n",
        "refused",
        message="long-unclosed.csv:3: a quote is not closed",
    ),
    Case("lines-in-cells.csv", b'text,label\r\n"a\r\n""b""",x\r\nb\r\nc,y\r\n', "some", ((4, 26, "columns"),), rows=2),
    Case("semicolons.csv", b"text;label\na, b;x\nc\n", "some", ((3, 18, "columns"),), rows=1),
    Case("tabs.csv", b"text\tlabel\na, b\tx\nc\n", "some", ((3, 18, "columns"),), rows=1),
    Case("table", b"text,label\na,x\nb,y\n", "accepted", rows=2),
    Case(
        "gbk.csv",
        ("text,label\n" + CHINESE.replace("，", ",").replace("\n", "\r\n")).encode("gb18030"),
        "refused",
        message="data.encoding: gb18030",
    ),
    Case(
        "nan.parquet", parquet({"text": ["a", "b"], "n": [1.0, float("nan")]}), "some", ((2, -1, "not-finite"),), rows=1
    ),
    Case("null.parquet", parquet({"text": ["a", None, "b"]}), "some", ((2, -1, "missing"),), rows=2),
    Case("long.parquet", parquet({"text": ["a", "x" * LONG]}), "some", ((2, -1, "too-long"),), rows=1),
    Case(
        "bytes.parquet",
        parquet({"text": pa.array([b"a", b"\xff", b"b"], pa.binary())}),
        "some",
        ((2, -1, "encoding"),),
        rows=2,
    ),
    Case("cut.parquet", parquet({"text": ["a"] * 100})[:-20], "refused", message="is not a complete parquet file"),
    Case(
        "flipped.parquet",
        flipped(parquet({"text": [str(n) for n in range(100)]}, write_page_checksum=True), 60),
        "refused",
        message="is not a complete parquet file",
    ),
    Case("header.parquet", b"PAR1\x15", "refused", message="is not a complete parquet file"),
    Case("file.arrow", arrow({"text": ["a", None]}, stream=False), "some", ((2, -1, "missing"),), rows=1),
    Case("stream.arrow", arrow({"text": ["a", None]}, stream=True), "some", ((2, -1, "missing"),), rows=1),
    Case(
        "cut.arrow",
        arrow({"text": ["a" * 1000] * 100}, stream=True)[:-5000],
        "refused",
        message="is not a complete arrow file",
    ),
    Case(
        "bomb.arrow",
        arrow({"text": ["0" * 1_000_000] * 20}, stream=False, compression="zstd"),
        "refused",
        message="unpacks to more than 200 times its size in one batch",
    ),
    Case("header.arrow", b"ARROW1\0\0" + b"\xff" * 40 + b"ARROW1", "refused", message="is not a complete arrow file"),
    Case("parquet.jsonl", parquet({"text": ["a", "b"]}), "accepted", rows=2),
]

TEXTS = [
    Case("utf16.txt", ("\ufeffone\ntwo\n").encode("utf-16-le"), "accepted", rows=2),
    Case("utf32.txt", ("\ufeffone\ntwo\n").encode("utf-32-be"), "accepted", rows=2),
    Case("utf16-nul.txt", ("\ufeffone\n\0\nthree\n").encode("utf-16-be"), "some", ((2, 4, "nul-byte"),), rows=2),
    Case("utf16-odd.txt", "\ufeffone\ntwo".encode("utf-16-le") + b"\x00", "refused", message="is not valid utf-16"),
    Case(
        "utf16-no-mark.txt",
        "one two three\nfour\n".encode("utf-16-le"),
        "refused",
        message="set `data.encoding: utf-16-le`",
    ),
    Case(
        "utf16-said.txt",
        "one two three\nfour\n".encode("utf-16-le"),
        "accepted",
        rows=2,
        options={"encoding": "utf-16-le"},
    ),
    Case(
        "gbk.txt",
        CHINESE.encode("gb18030"),
        "refused",
        message="is not utf-8; it looks like gb18030: if that is right, set `data.encoding: gb18030`",
    ),
    Case(
        "gbk-said.txt",
        CHINESE.encode("gb18030") + b"\xff\xff\n",
        "some",
        ((4, 71, "encoding"),),
        rows=3,
        options={"encoding": "gb18030"},
    ),
    Case(
        "big5.txt",
        "中國很大，我們走吧。\n床前明月光，疑是地上霜。\n".encode("big5"),
        "refused",
        message="data.encoding: big5",
    ),
    Case("shift-jis.txt", JAPANESE.encode("cp932"), "refused", message="data.encoding: cp932"),
    Case("cp1252.txt", FRENCH.encode("cp1252"), "refused", message="data.encoding: cp1252"),
    Case("one-bad-line.txt", b"one\ntw\xe9\nthree\n", "some", ((2, 4, "encoding"),), "1 line(s) are not utf-8", rows=2),
    Case("nul.txt", b"one\ntw\0o\nthree\n", "some", ((2, 4, "nul-byte"),), rows=2),
    Case("nuls.txt", b"\0" * 5000, "refused", message="many zero bytes"),
    Case("noise.txt", zlib.compress(bytes(range(256)) * 40, 0)[20:4000], "refused", message="so it is not text"),
    Case("separators.txt", "one\u2028two\u0085three\n\x0cfour\n".encode(), "accepted", rows=2),
    Case("long.txt", b"one\n" + b"x" * LONG + b"\nthree\n", "some", ((2, 4, "too-long"),), rows=2),
    Case("no-line-end.txt", b"x" * 5_000_000, "refused", ((1, 0, "too-long"),), "none of its 1 rows"),
    Case("brackets.txt", b"[verse 1]\n{chorus}\n", "accepted", rows=2),
    Case("notes.md", b"# Title\n\nText\n", "refused", message="is Markdown"),
    Case("notes-said.md", b"# Title\n\nText\n", "accepted", rows=1, options={"layout": "documents"}),
    Case(
        "long-document.txt",
        b"x\n" * 9_000_000,
        "refused",
        ((1, 0, "too-long"),),
        "none of its 1 rows",
        options={"layout": "documents"},
    ),
]

PICKLE = pickle.dumps({"text": ["a"]})
OTHER_FORMATS = [
    Case(
        "data.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "refused",
        message="a Git LFS pointer, not the data: run `git lfs pull`",
    ),
    Case("page.jsonl", b"\n<!DOCTYPE html><p>404", "refused", message="an HTML page"),
    Case("page.csv", b"<html><body>403 Forbidden", "refused", message="an HTML page"),
    Case("pickle.jsonl", PICKLE, "refused", message="a pickle"),
    Case("pickle0.txt", pickle.dumps({"text": ["a"]}, 0), "refused", message="a pickle"),
    Case("pickle1.csv", pickle.dumps({"text": ["a"]}, 1), "refused", message="a pickle"),
    Case("joblib.json", zlib.compress(PICKLE), "refused", message="joblib"),
    Case(
        "torch.jsonl",
        zipped(("archive/data.pkl", PICKLE), ("archive/version", b"3")),
        "refused",
        message="a saved PyTorch object",
    ),
    Case("array.txt", b"\x93NUMPY\x01\0v\0{'descr'", "refused", message="a numpy array"),
    Case("arrays.npz", zipped(("a.npy", b"\x93NUMPY")), "refused", message="a numpy archive"),
    Case("paper.txt", b"%PDF-1.7\n", "refused", message="`pdftotext`"),
    Case(
        "sheet.csv",
        zipped(("[Content_Types].xml", b"<x/>"), ("xl/workbook.xml", b"<x/>")),
        "refused",
        message="an Office document",
    ),
    Case(
        "sheet.ods",
        zipped(("mimetype", b"application/vnd.oasis"), ("content.xml", b"<x/>")),
        "refused",
        message="OpenDocument",
    ),
    Case("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "refused", message="an old Office document"),
    Case("base.db", b"SQLite format 3\0" + b"\0" * 100, "refused", message="`sqlite3 -header -csv FILE"),
    Case(
        "mail.txt",
        b"Received: from a\n\tby b\nFrom: a@b.example\nTo: c@d.example\nSubject: x\n\nHi\n",
        "refused",
        message="is a mail",
    ),
    Case(
        "box.txt", b"From a@b.example Mon Jan  1 00:00:00 2024\nSubject: x\n\nHi\n", "refused", message="is a mailbox"
    ),
    Case(
        "mail-said.txt",
        b"From: a@b.example\nTo: c@d.example\nSubject: x\n\nHi\n",
        "accepted",
        rows=1,
        options={"layout": "documents"},
    ),
    Case("rows.yaml", b"- text: a\n", "refused", message="`yq -o json`"),
    Case("yaml.txt", b"---\ntext: a\n", "refused", message="`yq -o json`"),
    Case("de.txt", b'# German\nmsgid ""\nmsgstr ""\n', "refused", message="`po2csv`"),
    Case("rows.txt", b'<?xml version="1.0"?><rows/>', "refused", message="is XML"),
    Case(
        "README.md",
        b"# About the data\n",
        "refused",
        message="if it only describes the other files, leave it out with `--exclude README.md`",
    ),
    Case(
        "LICENSE",
        b"MIT License\n\nPermission is\n",
        "accepted",
        message="though its name suggests that it only describes the other files",
        rows=2,
    ),
    Case("read.txt", b"not about the data\n", "accepted", rows=1),
    Case(
        "train-v1.1.json",
        b'{"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", '
        b'"id": "1", "answers": [{"text": "a", "answer_start": 0}]}]}]}]}',
        "refused",
        message="`jq -c '.data[].paragraphs[] | .context as $context | .qas[] | {id, $context, question, "
        "answers: {text: [.answers[].text]}}' FILE > squad.jsonl`",
        file="train-v1.1.json#data",
    ),
    Case("text.rtf", b"{\\rtf1 a}", "refused", message="RTF"),
    Case("rows.bz2", b"BZh91AY&SY", "refused", message="`bunzip2`"),
    Case("rows.xz", b"\xfd7zXZ\0", "refused", message="`unxz`"),
    Case("rows.7z", b"7z\xbc\xaf\x27\x1c", "refused", message="`7z x`"),
    Case("rows.rar", b"Rar!\x1a\x07\0", "refused", message="`unrar x`"),
    Case("photo.txt", b"\x89PNG\r\n\x1a\n", "refused", message="an image"),
    Case("run.txt", b"\x7fELF\x02\x01", "refused", message="a program"),
    Case("model.json", struct.pack("<Q", 60) + b'{"a": {"dtype": "F32"}}', "refused", message="a model's weights"),
]

CONTAINERS = [
    Case("rows.jsonl.gz", gzip.compress(between(b"x")), "some", ((2, 17, "json"),), rows=2),
    Case("gzip-in.jsonl", gzip.compress(ROW), "accepted", rows=1),
    Case("two.gz", gzip.compress(ROW) + gzip.compress(ROW), "accepted", rows=2),
    Case("cut.gz", gzip.compress(ROW * 100)[:-4], "refused", message="is cut off or corrupt"),
    Case("cut-early.gz", b"\x1f\x8b\x08", "refused", message="is cut off or corrupt"),
    Case("check-sum.gz", flipped(gzip.compress(ROW * 100), -6), "refused", message="is cut off or corrupt"),
    Case("garbage.gz", gzip.compress(ROW) + b"garbage", "refused", message="is cut off or corrupt"),
    Case("rows.zst", zstd(between(b"x")), "some", ((2, 17, "json"),), rows=2),
    Case("cut.zst", zstd(ROW * 100)[:-3], "refused", message="is cut off or corrupt"),
    Case("rows.zip", zipped(("a.jsonl", between(b"x"))), "some", ((2, 17, "json"),), rows=2, file="rows.zip/a.jsonl"),
    Case(
        "check-sum.zip",
        flipped(zipped(("a.txt", b"one\ntwo\n"), method=zipfile.ZIP_STORED), 38),
        "refused",
        message="is cut off or corrupt",
        file="check-sum.zip/a.txt",
    ),
    Case("cut.zip", zipped(("a.txt", b"one\ntwo\n"))[:-10], "refused", message="is not a complete zip archive"),
    Case("climbs.zip", zipped(("../a.txt", b"x\n")), "refused", message="path leads out of the archive"),
    Case("absolute.zip", zipped(("/etc/a.txt", b"x\n")), "refused", message="path leads out of the archive"),
    Case("backslash.zip", zipped(("a\\..\\..\\b.txt", b"x\n")), "refused", message="path leads out of the archive"),
    Case("link.zip", zipped(("a.txt", b"/etc/passwd"), mode=0o120777), "refused", message="is a link or a device"),
    Case("pickle.zip", zipped(("a.jsonl", PICKLE)), "refused", message="a pickle", file="pickle.zip/a.jsonl"),
    Case(
        "bomb.zip",
        zipped(("a.txt", b"0" * 40_000_000)),
        "refused",
        message="more than 200 times its size",
        file="bomb.zip/a.txt",
    ),
    Case("bomb.gz", gzip.compress(b"0" * 40_000_000), "refused", message="more than 200 times its size"),
    Case("bomb.zst", zstd(b"0\n" * 20_000_000), "refused", message="more than 200 times its size"),
    Case(
        "deep.zip",
        zipped(("a.gz", gzip.compress(gzip.compress(ROW)))),
        "refused",
        message="is gzip in gzip in zip, more than 2 deep",
        file="deep.zip/a.gz",
    ),
    Case(
        "nested.zip", zipped(("b.zip", zipped(("a.jsonl", ROW)))), "accepted", rows=1, file="nested.zip/b.zip/a.jsonl"
    ),
    Case(
        "many.zip",
        zipped(*((f"{n}", b"") for n in range(10_001)), method=zipfile.ZIP_STORED),
        "refused",
        message="more than 10,000 members",
    ),
    Case("nothing.zip", zipped(), "refused", message="without members"),
    Case("rows.tar", tarred(("a.jsonl", between(b"x"))), "some", ((2, 17, "json"),), rows=2, file="rows.tar/a.jsonl"),
    Case(
        "rows.tar.gz",
        tarred((f"{'d' * 120}/a.jsonl", ROW), mode="w:gz"),
        "accepted",
        rows=1,
        file=f"rows.tar.gz/{'d' * 120}/a.jsonl",
    ),
    Case("climbs.tar", tarred(("../a.txt", b"x\n")), "refused", message="path leads out of the archive"),
    Case("link.tar", tarred(("a.txt", b"x\n"), change=as_link), "refused", message="is a symbolic link"),
    Case("device.tar", tarred(("a.txt", b"x\n"), change=as_device), "refused", message="is a device"),
    Case("cut.tar", tarred(("a.txt", b"x\n" * 1000))[:1500], "refused", message="is a tar archive that is cut off"),
    Case(
        "hidden.zip",
        zipped((".DS_Store", b"x"), ("__MACOSX/._a", b"x"), ("a.jsonl", ROW)),
        "accepted",
        rows=1,
        file="hidden.zip/a.jsonl",
    ),
    Case("rows.parquet.gz", gzip.compress(parquet({"text": ["a", "b"]})), "accepted", rows=2),
]

CASES = [*ROWS_OF_JSON, *WHOLE_JSON, *TABLES, *TEXTS, *OTHER_FORMATS, *CONTAINERS]
