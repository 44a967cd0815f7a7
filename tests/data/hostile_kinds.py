"""Files of other kinds, and containers."""

import gzip
import pickle
import struct
import zipfile
import zlib

from hostile_making import (
    ROW,
    Case,
    as_device,
    as_link,
    between,
    flipped,
    parquet,
    tarred,
    zipped,
    zstd,
)

PICKLE = pickle.dumps({"text": ["a"]})
OTHER_KINDS = [
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
