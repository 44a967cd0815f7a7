"""Raw sets: the shape of each file, what files must share, rejected rows and refused sets."""

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneline import params
from tuneline.data.mapping import raw_set
from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion, Rejected, Row
from tuneline.data.records.record_form import Record
from tuneline.errors import DataError
from tuneline.params import editing

PAIR = {"prompt": "q", "completion": "a"}


def write(folder: Path, *rows: object, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def opened(folder: Path, **options: Any) -> RawSet:
    defaults: dict[str, Any] = {"columns": {}, "record_types": None, "group_by": None}
    plans = readers.plan(folder, options.pop("how", Options()))
    return raw_set.open_set(folder, plans, **(defaults | options))


def read(one: RawSet) -> tuple[list[Record], list[Rejected]]:
    rows = [row for portion, shape in one.portions for row in raw_set.read(portion, shape)]
    return [row for row in rows if isinstance(row, Record)], [row for row in rows if isinstance(row, Rejected)]


def test_records_have_their_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, PAIR, {"prompt": "q2", "completion": "a2"})
    one = opened(tmp_path)
    assert (one.form.record_type, one.form.conversational, one.path) == (
        "prompt-completion",
        False,
        tmp_path.as_posix(),
    )
    assert one.bytes == (tmp_path / "a.jsonl").stat().st_size
    kept, _ = read(one)
    assert kept == [
        Record("a.jsonl", 1, 0, ("q", "a"), None, None, None),
        Record("a.jsonl", 2, 32, ("q2", "a2"), None, None, None),
    ]
    assert kept[1].source == "a.jsonl:2"


def test_rejected_rows_do_not_change_other_rows(tmp_path: Path) -> None:
    write(tmp_path, PAIR, PAIR | {"completion": " \n"}, {"text": "another shape"}, PAIR)
    (tmp_path / "b.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes() + b'{"broken\n')
    kept, rejected = read(opened(tmp_path))
    assert [record.source for record in kept] == ["a.jsonl:1", "a.jsonl:4", "b.jsonl:1", "b.jsonl:4"]
    assert [(row.source, row.line, row.reason) for row in rejected] == [
        ("a.jsonl", 2, "empty"),
        ("a.jsonl", 3, "missing"),
        ("b.jsonl", 2, "empty"),
        ("b.jsonl", 3, "missing"),
        ("b.jsonl", 5, "json"),
    ]


def test_rows_of_a_file_without_a_valid_row_are_counted(tmp_path: Path) -> None:
    write(tmp_path, PAIR)
    (tmp_path / "b.jsonl").write_text('{"broken\n[1]\n')
    one = opened(tmp_path)
    assert [shape.kind for shape in one.shapes] == ["pair", "unknown"]
    kept, rejected = read(one)
    assert (len(kept), [row.describe()[:12] for row in rejected]) == (1, ["b.jsonl:1: j", "b.jsonl:2: n"])


def test_files_of_several_types_are_refused(tmp_path: Path) -> None:
    write(tmp_path, PAIR)
    (tmp_path / "b.txt").write_text("one\n")
    with pytest.raises(
        DataError, match=r"several types: prompt-completion \(a.jsonl\); text \(b.txt\); make one set per"
    ):
        opened(tmp_path)
    write(tmp_path, {"text": "t", "label": ["x"]})
    write(tmp_path, {"text": "t", "label": "x"}, name="b.txt")
    with pytest.raises(DataError, match=r"types: classification with several labels \(a.jsonl\); classification \(b"):
        opened(tmp_path, record_types=["classification"])


def test_all_problems_of_all_files_are_named(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write(tmp_path, {"x": "1", "y": "2"}, name=name)
    write(tmp_path, PAIR, name="c.jsonl")
    with pytest.raises(DataError) as caught:
        opened(tmp_path, group_by="who")
    assert [problem.split(": ")[0].rsplit("/")[-1] for problem in caught.value.problems] == [
        "a.jsonl",
        "b.jsonl",
        "c.jsonl",
    ]


def test_records_have_the_values_of_group_by_and_order_by(tmp_path: Path) -> None:
    write(
        tmp_path,
        PAIR | {"author": "Du Fu", "day": "2024-01-31"},
        PAIR | {"author": 7, "day": 20240131},
        PAIR | {"author": "", "day": "2024"},
        PAIR | {"author": "Li Bai", "day": None},
        PAIR | {"author": ["Li Bai"], "day": "2024"},
    )
    kept, rejected = read(opened(tmp_path, group_by="author", order_by="day"))
    assert [(record.group, record.order) for record in kept] == [("Du Fu", "2024-01-31"), ("7", "20240131")]
    assert [(row.line, row.reason) for row in rejected] == [(3, "no-group"), (4, "order"), (5, "no-group")]
    with pytest.raises(
        DataError, match=r"no column 'autor', the value of data.split.group_by; .*; did you mean author\?"
    ):
        opened(tmp_path, group_by="autor")
    kept, _ = read(opened(tmp_path, group_by="module", must_group=False))
    assert [record.group for record in kept] == [None] * 5


@pytest.mark.parametrize(
    ("names", "splits", "warnings"),
    [
        (["train", "test", "extra"], ["train", "test", None], []),
        (["train", "validation", "test"], ["train", "validation", "test"], []),
        (
            ["train", "validation"],
            [None, None],
            ["set: names of files contain train, validation, but the set has no test file, so the names are "
             "ignored and all rows are split"],
        ),
        (["extra"], [None], []),
    ],
)  # fmt: skip
def test_split_names_of_files_are_used_if_train_and_test_exist(
    names: list[str], splits: list[str | None], warnings: list[str]
) -> None:
    plans = [
        FilePlan(
            f"{name}.jsonl",
            "jsonl",
            "utf-8",
            tuple(PAIR),
            (Row(1, 0, PAIR),),
            (Portion("", f"{name}.jsonl", "jsonl", "utf-8", (), 0, None, 1),),
            1,
            None if name == "extra" else name,
        )
        for name in names
    ]
    one = raw_set.open_set(Path("set"), plans, columns={}, record_types=None, group_by=None)
    made = [shape.record(Row(1, 0, PAIR)) for _, shape in one.portions]
    assert [row.split for row in made if isinstance(row, Record)] == splits
    assert list(one.warnings) == warnings


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["pos.txt", "neg.txt"], ["neg", "pos"]),
        (["spam/1.txt", "ham/1.txt", "ham/2.txt"], ["ham", "ham", "spam"]),
        (["train/pos/1.txt", "test/neg/1.txt"], ["neg", "pos"]),
        (["train/pos.txt", "train/neg.txt", "test/pos.txt"], ["pos", "neg", "pos"]),
    ],
)
def test_labels_from_the_names_of_files(tmp_path: Path, names: list[str], labels: list[str]) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("t\n")
    one = opened(tmp_path, record_types=["classification"])
    kept, _ = read(one)
    assert (one.form.record_type, [record.values for record in kept]) == (
        "classification",
        [("t", one) for one in labels],
    )
    assert opened(tmp_path).form.record_type == "text"


@pytest.mark.parametrize("nested", ["", "train/"])
def test_the_name_of_a_folder_is_the_label_in_every_format(tmp_path: Path, nested: str) -> None:
    write(tmp_path, {"text": "a"}, {"text": "b"}, name=f"{nested}spam/a.jsonl")
    (tmp_path / f"{nested}ham").mkdir()
    (tmp_path / f"{nested}ham/b.csv").write_text("id,review\n1,c\n2,d\n")
    (tmp_path / f"{nested}ham/c.txt").write_text("e\n")
    (tmp_path / f"{nested}ham/d.json").write_text('[{"sentence": "f"}]')
    pq.write_table(pa.table({"content": ["g"]}), tmp_path / f"{nested}spam/e.parquet")
    one = opened(tmp_path, record_types=("classification",))
    kept, rejected = read(one)
    labels = {"c": "ham", "d": "ham", "e": "ham", "f": "ham", "a": "spam", "b": "spam", "g": "spam"}
    assert ({record.values for record in kept}, rejected) == ({*labels.items()}, [])


def test_a_column_of_labels_has_precedence_over_names_of_folders(tmp_path: Path) -> None:
    for folder in ("spam", "ham"):
        write(tmp_path, {"text": "a", "label": "x"}, name=f"{folder}/a.jsonl")
    kept, _ = read(opened(tmp_path, record_types=("classification",)))
    assert [record.values for record in kept] == [("a", "x"), ("a", "x")]


def test_files_that_params_exclude_are_left_out_of_each_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path("data/raw/faq"), Path("data/mixture/more")):
        write(folder, PAIR)
        (folder / "LICENSE").write_text("MIT\n")
        (folder / "NOTICE").write_text("Text\n")
    write(Path("data/raw/python-text"), {"text": "t"})
    Path("params.yaml").write_text(params_text)
    values = {
        "data.raw": "data/raw/faq",
        "data.exclude": ["LICENSE", "NOTICE"],
        "data.reading": {"more": {"exclude": ["[LN]*"]}},
        "data.split.group_by": None,
    }
    editing.set_values(Path("params.yaml"), values)
    sets = raw_set.open_all(params.load())
    assert [plan.name for plan in sets.raw.files] == ["a.jsonl"]
    assert sets.raw.warnings == ("data/raw/faq: 2 file(s) left out by LICENSE, NOTICE: LICENSE, NOTICE",)
    assert [plan.name for plan in sets.mixture["more"].files] == ["a.jsonl"]


ALPACA = {"instruction": "i", "input": "", "output": "o"}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}


def test_a_file_of_several_shapes_is_read_by_the_most_frequent_and_counts_all(tmp_path: Path) -> None:
    write(tmp_path, *[ALPACA] * 6, *[SHAREGPT] * 3, {"x": 1}, {"instruction": "only"})
    one = opened(tmp_path)
    assert one.warnings == (
        f"{tmp_path}/a.jsonl: its rows have several shapes; of the first 11 rows: alpaca 7, sharegpt 3, unknown (x) "
        "1; it is read as alpaca, and rows of another shape are set aside: write one file per shape",
    )
    kept, rejected = read(one)
    assert (len(kept), len(rejected)) == (6, 5)


@pytest.mark.parametrize(
    "rows",
    [
        [ALPACA, ALPACA | {"input": "x"}, ALPACA | {"history": [["q", "a"]]}],
        [{"review": "a", "stars": n} for n in range(3)] + [{"review": "a", "stars": "4.5", "verified": True}],
        [{"question": "q", "answer": "a"}] * 3 + [{"question": "q", "answer": "a", "context": "c"}],
        [PAIR, PAIR, {"prompt": "q"}, PAIR | {"completion": ""}],
    ],
)
def test_rows_of_one_shape_with_missing_parts_give_no_warning(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write(tmp_path, *rows)
    assert opened(tmp_path).warnings == ()


def test_a_file_without_a_most_frequent_shape_is_refused_with_the_counts(tmp_path: Path) -> None:
    write(tmp_path, ALPACA, SHAREGPT, {"text": "t"}, ALPACA, SHAREGPT, {"text": "u"})
    with pytest.raises(
        DataError, match=r"several shapes, and no shape fits most rows; of the first 6 rows: alpaca 2, sharegpt"
    ):
        opened(tmp_path)


def test_rows_in_a_nested_list_are_refused_with_their_path(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"version": "1", "data": {"train": [{"prompt": "p", "completion": "c"}]}}')
    with pytest.raises(
        DataError, match=r"in a nested list, at \.data\.train; write them to a file with `jq -c '\.data\.train\[\]'"
    ):
        opened(tmp_path)


def test_plain_text_without_labels_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(
        DataError, match=r"names of files and folders are not labels: .*\(spam/1.txt\).* or set task: language-mod"
    ):
        opened(tmp_path, record_types=["classification"])


def test_too_many_rejected_rows_are_an_error_that_names_rows(tmp_path: Path) -> None:
    write(tmp_path, *[PAIR] * 93, *[PAIR | {"completion": ""}] * 7)
    kept, rejected = read(opened(tmp_path))
    reasons = Counter(row.reason for row in rejected)
    rows = len(kept) + len(rejected)
    raw_set.check_rejected("set", rows, len(rejected), reasons, rejected, 0.07)
    with pytest.raises(DataError) as caught:
        raw_set.check_rejected("set", rows, len(rejected), reasons, rejected[:6], 0.06)
    first, *named, last = caught.value.problems
    assert "set: 7 of 100 rows cannot be used (empty 7), more than data.max_rejected_fraction 0.06 allows" in first
    assert named[0] == "  a.jsonl:94: empty: completion is empty"
    assert (len(named), last) == (5, "  and 2 more")


def test_a_set_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match=r"has no rows in its 1 file\(s\): a.jsonl"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"set: has no rows"):
        raw_set.check_rejected("set", 0, 0, {}, [], 1.0)


def test_a_set_without_a_valid_row_is_refused_for_any_fraction() -> None:
    broken = Rejected("a.jsonl", 1, 0, "json", "no JSON", "broken")
    with pytest.raises(DataError, match="1 of 1 rows cannot be used"):
        raw_set.check_rejected("set", 1, 1, {"json": 1}, [broken], 1.0)


def test_the_problems_of_all_sets_are_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text)
    with pytest.raises(DataError) as caught:
        raw_set.open_all(params.load())
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "data/raw/python-docstrings",
        "data/raw/python-text",
    ]
