"""Odd tables and plain texts."""

import zlib

import pyarrow as pa
from hostile_making import CHINESE, FRENCH, JAPANESE, LONG, Case, arrow, flipped, parquet

TABLES = [
    Case("header-only.csv", b"prompt,completion\n", "empty", message="holds no rows"),
    Case("empty.csv", b"", "empty", message="is empty"),
    Case("blank.txt", b"\n \n\r\n", "empty", message="holds no rows"),
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
