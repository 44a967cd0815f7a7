"""Plans are right, and their portions have every row once, with its line and offset, in any order of reading."""

import gzip
import io
import json
import pickle
import random
import tarfile
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneline.data.reading import raw_rows, readers
from tuneline.data.reading.formats import sniff
from tuneline.data.reading.raw_rows import FilePlan, Options, Rejected, Row
from tuneline.errors import DataError


def plan(folder: Path, name: str, content: bytes, **options: str) -> FilePlan:
    (folder / name).write_bytes(content)
    (one,) = readers.plan(folder / name, Options(**options))  # type: ignore[arg-type]
    assert one.refusal == ""
    return one


def rows(plan: FilePlan) -> list[Row | Rejected]:
    return [row for portion in plan.portions for row in readers.rows(portion)]


def test_rows_of_json_lines(tmp_path: Path) -> None:
    one = plan(tmp_path, "a.jsonl", '{"text": "一\\n"}\r\n\n{"text": "b", "n": 1}'.encode())
    assert [tuple(row) for row in rows(one)] == [(1, 0, {"text": "一\n"}), (3, 20, {"text": "b", "n": 1})]
    assert (one.format, one.encoding, one.columns, one.bytes) == ("jsonl", "utf-8", ("text",), 41)
    assert [row.values for row in one.first_rows] == [{"text": "一\n"}, {"text": "b", "n": 1}]


def test_whole_numbers_of_any_size_are_exact(tmp_path: Path) -> None:
    values = [
        {"n": 18446744073709551616},
        {"n": -9223372036854775809, "m": 1.5},
        {"n": ["a", 123456789012345678901234567890, {"m": [18446744073709551617, 1e30]}]},
    ]
    lines = "".join(json.dumps(value) + "\n" for value in values)
    for name, text in (("a.jsonl", lines), ("b.json", json.dumps(values))):
        assert [row.values for row in rows(plan(tmp_path, name, text.encode()))] == values  # type: ignore[union-attr]


def test_a_broken_json_row_has_a_detail_in_words(tmp_path: Path) -> None:
    one = plan(tmp_path, "a.jsonl", b'{"text": "a"}\n{"text": "b\n{"text": "a\tb"}\n')
    assert [row.detail for row in rows(one) if isinstance(row, Rejected)] == [
        "Unterminated string starting at character 9",
        "Invalid control character at character 11",
    ]


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    one = plan(tmp_path, "a.csv", b'q;a\n"one\nline";NA\n\n00123;"say ""hi"""\n')
    assert (one.format, one.columns, one.portions[0].delimiter) == ("csv", ("q", "a"), ";")
    assert [tuple(row) for row in rows(one)] == [
        (2, 4, {"q": "one\nline", "a": "NA"}),
        (5, 19, {"q": "00123", "a": 'say "hi"'}),
    ]


def test_the_delimiter_is_the_one_that_fits_all_rows(tmp_path: Path) -> None:
    one = plan(tmp_path, "a.csv", b"a question, or two;answer\none, two, three;x\nfour;y\n")
    assert one.columns == ("a question, or two", "answer")
    assert plan(tmp_path, "a.tsv", b"q\ta\n1, 2\tx\n").format == "tsv"


def test_plain_text_is_one_row_per_line_or_one_document_per_file(tmp_path: Path) -> None:
    content = "\ufeff  one \r\n\r\ntwo\rthree\u2028still three".encode()
    assert [tuple(row) for row in rows(plan(tmp_path, "a.txt", content))] == [
        (1, 3, {"text": "  one "}),
        (3, 13, {"text": "two"}),
        (4, 17, {"text": "three\u2028still three"}),
    ]
    (document,) = rows(plan(tmp_path, "a.txt", content, layout="documents"))
    assert tuple(document) == (1, 3, {"text": "  one \n\ntwo\nthree\u2028still three"})


def test_a_json_file_is_an_array_an_object_of_splits_or_objects_one_after_another(tmp_path: Path) -> None:
    array = plan(tmp_path, "a.json", b'[{"a": 1},\n {"a": "]"}]')
    assert [tuple(row) for row in rows(array)] == [(1, 1, {"a": 1}), (2, 12, {"a": "]"})]
    pretty = plan(tmp_path, "b.json", b'{\n"conversations": [{"from": "human"}]\n}\n{"conversations": []}')
    assert [row.line for row in rows(pretty)] == [1, 4]
    (tmp_path / "c.json").write_bytes(
        b'{"version": "1", "train": [["hi", "x"]], "oos_val": [{"text": "a", "label": 1}]}'
    )
    train, validation = readers.plan(tmp_path / "c.json", Options())
    assert (train.name, train.split, validation.name, validation.split) == (
        "c.json#train",
        "train",
        "c.json#oos_val",
        "validation",
    )
    assert [row.values for row in train.first_rows] == [{"text": "hi", "label": "x"}]
    assert [row.values for row in validation.first_rows] == [{"text": "a", "label": 1}]


TABLE = [{"prompt": "p\u2028", "completion": "c{"}, {"prompt": "q", "completion": None}]
BY_COLUMNS: dict[str, object] = {
    "pandas": {"prompt": {"0": "p\u2028", "1": "q"}, "completion": {"0": "c{", "1": None}},
    "lists": {"prompt": ["p\u2028", "q"], "completion": ["c{", None]},
    "split": {
        "columns": ["prompt", "completion"],
        "index": [0, 1],
        "data": [["p\u2028", "c{"], ["q", None]],
    },
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", BY_COLUMNS)
def test_a_json_object_may_be_a_table_by_columns(
    tmp_path: Path, form: str, encoding: str, name: str, indent: int | None
) -> None:
    one = plan(tmp_path, name, json.dumps(BY_COLUMNS[form], indent=indent).encode(encoding))
    assert one.format == "json"
    assert [tuple(row) for row in rows(one)] == [(n, -1, row) for n, row in enumerate(TABLE, 1)]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_json_object_may_hold_its_rows_by_key(tmp_path: Path, name: str, indent: int | None) -> None:
    content = json.dumps({"b": TABLE[0], "a": TABLE[1]}, indent=indent).encode()
    one = plan(tmp_path, name, content)
    assert [row.values for row in rows(one)] == TABLE  # type: ignore[union-attr]
    assert all(content[row.offset :].startswith(b"{") for row in rows(one))


def test_a_table_by_columns_or_keys_may_be_larger_than_a_row(tmp_path: Path) -> None:
    texts = ["x" * 100 for _ in range(20_000)]
    for table in (
        {"text": {str(n): text for n, text in enumerate(texts)}},
        {"text": texts},
        {f"key {n}": {"text": text} for n, text in enumerate(texts)},
        {"columns": ["text"], "index": list(range(20_000)), "data": [[text] for text in texts]},
    ):
        for name in ("a.json", "a.jsonl"):
            one = plan(tmp_path, name, json.dumps(table).encode())
            assert [row.values["text"] for row in rows(one)] == texts  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "content",
    [
        b'{"translation": {"en": "a", "zh": "b"}}',
        b'{"labels": ["a", "b"], "text": "t"}',
        b'{"messages": [{"role": "user"}, {"role": "assistant"}], "tools": [{}, {}]}',
        b'{"a": {"x": 1}, "b": {"y": 2}}',
        b'{"a": ["x"], "b": []}',
        b'{"a": ["x"]}\n{"a": ["y"]}',
        b"{}",
    ],
)
def test_an_object_that_is_a_row_is_not_a_table(tmp_path: Path, content: bytes) -> None:
    for name in ("a.json", "a.jsonl"):
        found = [row.values for row in rows(plan(tmp_path, name, content))]  # type: ignore[union-attr]
        assert found == [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b'{"a": {"0": "x", "1": "y"}, "b": {"0": "x"}}',
            "but the columns do not have the same rows; write one row per line",
        ),
        (b'{"columns": ["a"], "data": [["x", "y"]]}', "but the columns do not have the same rows"),
        (b'{"columns": ["a"], "data": [["x"]], "data": [["y"]]}', "the key 'data' occurs twice in one object; "),
        (b'{"a": {"x": 1}, "b": {"x": 2}} [', "is not JSON: expected an object, found '['"),
    ],
)
def test_a_broken_table_in_json_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    (one,) = readers.plan(tmp_path / "a.json", Options())
    assert problem in one.refusal


def test_the_cells_of_parquet_are_json_values(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b", "a"]).dictionary_encode(),
            "turns": [[{"role": "user", "n": 1}], [], None],
            "day": pa.array([0, 1, None], pa.date32()),
            "image": [{"bytes": b"\xff"}] * 3,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (one,) = readers.plan(tmp_path / "a.parquet", Options())
    assert one.columns == ("text", "turns", "day")
    assert one.warnings == ("the columns image are not read: they hold bytes",)
    assert [tuple(row) for row in rows(one)] == [
        (1, -1, {"text": "a", "turns": [{"role": "user", "n": 1}], "day": "1970-01-01"}),
        (2, -1, {"text": "b", "turns": [], "day": "1970-01-02"}),
        (3, -1, {"text": "a", "turns": None, "day": None}),
    ]


def test_members_of_archives_are_files_of_the_set(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train/a.csv", "a,b\n1,2\n")
        archive.writestr("notes.pdf", "%PDF-1.7")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        for name in ("x.txt", "y.txt"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(name.encode()[:1] + b"1\n2"))
    train, notes, x, y = readers.plan(tmp_path, Options())
    assert (train.name, train.split, rows(train)) == ("a.zip/train/a.csv", "train", [Row(2, 4, {"a": "1", "b": "2"})])
    assert notes.refusal.startswith(f"{tmp_path}/a.zip/notes.pdf: is a PDF")
    # Backwards, and each member twice.
    for one, text in ((y, "y1"), (x, "x1"), (y, "y1"), (x, "x1")):
        assert rows(one) == [Row(1, 0, {"text": text}), Row(2, 3, {"text": "2"})]


def test_a_packed_archive_of_many_members_is_not_unpacked_anew_for_each(tmp_path: Path) -> None:
    random.seed(0)
    words = [f"w{n}" for n in range(5000)]
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as archive:
        for number in range(800):
            text = " ".join([str(number), *random.choices(words, k=800)]).encode()
            info = tarfile.TarInfo(f"{number:03}.txt")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    begun = time.process_time()
    found = [rows(one) for one in readers.plan(tmp_path / "a.tar.gz", Options(layout="documents"))]
    assert [row.values["text"].partition(" ")[0] for (row,) in found] == [str(n) for n in range(800)]  # type: ignore
    # About 1 second; 20 if each member unpacked everything before it.
    assert time.process_time() - begun < 10


def json_rows(count: int) -> list[str]:
    random.seed(0)
    texts = ("".join(random.choices('abc,"\n é中', k=random.randrange(80))) for _ in range(count))
    return [json.dumps({"n": str(n), "text": text}, ensure_ascii=n % 2 == 0) for n, text in enumerate(texts)]


def as_csv(rows: list[str]) -> str:
    quoted = ('"' + json.loads(row)["text"].replace('"', '""') + '"' for row in rows)
    return "n,text\r\n" + "".join(f"{n},{text}\r\n" for n, text in enumerate(quoted))


ROWS = json_rows(400)
MANY = {
    "a.jsonl": "\r\n".join(ROWS).encode(),
    "b.jsonl": "\r".join(ROWS).encode(),
    "c.json": ("[" + ",\n".join(ROWS) + "]").encode(),
    "d.csv": as_csv(ROWS).encode(),
    "e.txt": "\n".join(ROWS).encode("utf-16"),
    "f.jsonl.gz": gzip.compress("\n".join(ROWS).encode()),
    "g.json": ("[" + ",\n".join(ROWS) + "]").encode("utf-16"),
    "b-keyed.json": ("{" + ",\n".join(f'"key {n}": {row}' for n, row in enumerate(ROWS)) + "}").encode(),
}


@pytest.mark.parametrize("name", MANY)
def test_portions_have_every_row_once_in_any_order_of_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = plan(tmp_path, name, MANY[name])
    expected = rows(whole)
    assert len(expected) == len(ROWS)
    assert len(whole.portions) == 1
    monkeypatch.setattr(raw_rows, "PORTION_BYTES", 3_000)
    monkeypatch.setattr("tuneline.data.reading.containers.byte_streams.BLOCK", 500)
    monkeypatch.setattr("tuneline.data.reading.formats.json_files.BLOCK", 500)
    (parted,) = readers.plan(tmp_path / name, Options())
    assert len(parted.portions) > 5
    assert pickle.loads(pickle.dumps(parted.portions)) == parted.portions
    order = list(range(len(parted.portions)))
    random.shuffle(order)
    read = {at: list(readers.rows(parted.portions[at])) for at in order}
    assert [row for at in sorted(read) for row in read[at]] == expected
    if name[0] in "abc":
        content = MANY[name]
        assert all(
            json.loads(content[row.offset :].split(b"}")[0] + b"}") == row.values
            for row in expected[:50]
            if isinstance(row, Row) and "}" not in row.values["text"]
        )


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_portions_of_a_table_are_row_groups_or_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    table = pa.Table.from_pylist([json.loads(row) for row in ROWS])
    if form == "parquet":
        pq.write_table(table, tmp_path / "a", row_group_size=50)
    else:
        with pa.ipc.new_stream(tmp_path / "a", table.schema) as writer:
            writer.write_table(table, max_chunksize=50)
    monkeypatch.setattr(raw_rows, "PORTION_BYTES", 1_000)
    (one,) = readers.plan(tmp_path / "a", Options())
    assert [(portion.start, portion.stop) for portion in one.portions] == [(n, n + 50) for n in range(0, 400, 50)]
    assert [tuple(row) for row in rows(one)] == [(n, -1, json.loads(row)) for n, row in enumerate(ROWS, 1)]


def test_first_rows_are_few_and_small(tmp_path: Path) -> None:
    assert len(plan(tmp_path, "a.txt", b"row\n" * 5_000).first_rows) == 1_000
    assert len(plan(tmp_path, "b.txt", (b"x" * 900_000 + b"\n") * 20).first_rows) == 5
    (document,) = plan(tmp_path, "c.txt", b"x" * 900_000, layout="documents").first_rows
    assert len(document.values["text"]) == 1_000


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("data/train-00000-of-00002.parquet", "train"),
        ("my_dev.csv", "validation"),
        ("val/a.txt", "validation"),
        ("oos_test", "test"),
        ("train/test_results.csv", "test"),
        ("training.txt.gz", "train"),
        ("trainer.jsonl", None),
        ("latest.csv", None),
    ],
)
def test_the_split_in_a_file_name(name: str, split: str | None) -> None:
    assert sniff.split_in_name(name) == split


def test_files_come_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/a.txt", "a.txt", ".hidden.txt", ".git/x.txt", "b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("row\n")
    assert [one.name for one in readers.plan(tmp_path, Options())] == ["a.txt", "b.txt", "b/a.txt"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_utf_8_that_another_encoding_can_decode_is_refused(tmp_path: Path, name: str) -> None:
    words = ["arıza", "teşekkür", "güç", "ışık", "kargo"]
    lines = {
        ".csv": ["text;label", *(f"{word};{word}" for word in words)],
        ".jsonl": [f'{{"text": "{word}"}}' for word in words],
        ".txt": words,
    }
    content = "\n".join(lines[Path(name).suffix]) + "\n"
    (tmp_path / name).write_bytes(content.encode())
    [refused] = readers.plan(tmp_path, Options(encoding="cp1254"))
    problem = "is utf-8, not cp1254: all files of a data set must have the same encoding; convert"
    assert f"{name}: {problem}" in refused.refusal
    assert len(rows(plan(tmp_path, name, content.encode("cp1254"), encoding="cp1254"))) == len(words)


TURKISH = (
    "kargom hâlâ gelmedi, ne zaman ulaşır?\nşifremi unuttum, giriş yapamıyorum\niade için ücreti kim öder?\n"
    "çok uzun süredir bekliyorum\nödememi geri alabilir miyim?\nürün bozuk çıktı, değişim olur mu?\n"
)
RUSSIAN = "моя посылка до сих пор не пришла\nкогда она будет доставлена?\nя забыл пароль и не могу войти\n"
GREEK = "το δέμα μου δεν έχει φτάσει ακόμα\nπότε θα παραδοθεί;\nξέχασα τον κωδικό μου\n"


@pytest.mark.parametrize(
    ("text", "encoding", "likely", "guessed"),
    [
        (TURKISH, "cp1254", ("cp1254",), "cp1254, as other files of this project"),
        (TURKISH, "cp1254", ("gb18030", "cp1254"), "cp1254, as other files of this project"),
        (RUSSIAN, "cp1251", ("cp1254",), "cp1251"),
        (GREEK, "cp1253", ("cp1251", "cp1254"), "cp1253"),
        ("我的包裹还没有到。\n我忘记了密码，无法登录。\n我想退货，谁付运费？\n", "gb18030", ("cp1254",), "gb18030"),
    ],
)
def test_the_encoding_of_the_project_is_guessed_first_if_it_fits(
    tmp_path: Path, text: str, encoding: str, likely: tuple[str, ...], guessed: str
) -> None:
    (tmp_path / "october.txt").write_bytes(text.encode(encoding))
    [refused] = readers.plan(tmp_path, Options(likely=likely))
    assert (
        f"is not utf-8; it looks like {guessed}: if that is right, set `data.encoding: {encoding}`" in refused.refusal
    )


def test_a_missing_path_an_empty_folder_and_an_unknown_encoding_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder; `dvc repro sample`"):
        readers.plan(tmp_path / "missing", Options())
    with pytest.raises(DataError, match="holds no files"):
        readers.plan(tmp_path, Options())
    with pytest.raises(DataError, match="encoding 'klingon': is not an encoding that Python knows"):
        readers.plan(tmp_path, Options(encoding="klingon"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_that_changed_since_it_was_planned_is_named(tmp_path: Path, name: str) -> None:
    content = b'{"text": "a"}\n' * 100
    content = gzip.compress(content) if name.endswith(".gz") else content
    one = plan(tmp_path, name, content)
    (tmp_path / name).write_bytes(content[:20])
    with pytest.raises(DataError, match=f"{name}: (is cut off or corrupt|was changed while it was read)"):
        rows(one)
