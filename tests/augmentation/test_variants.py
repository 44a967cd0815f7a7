"""Variants of training rows: what they keep of their parent, and which are dropped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from tuneline.augmentation import text_noise, variants
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import DataError

TEXT = RecordForm("text")


def clean(folder: Path, form: RecordForm, **splits: list[dict[str, str]]) -> Path:
    """Clean splits of these rows."""
    for split in ("train", "validation", "test"):
        rows = [
            {"id": f"{split}{n}", "source": f"{split}.txt:{n + 1}", "cluster": f"{n:016x}", **row}
            for n, row in enumerate(splits.get(split, []))
        ]
        schema = pa.schema([(name, pa.string()) for name in ("id", "source", "cluster", *form.fields, "shop")])
        files.write_parquet(folder / split / "000000.parquet", pa.Table.from_pylist(rows, schema))
    return folder


def write(folder: Path, form: RecordForm, change: Any, **more: Any) -> tuple[variants.Counted, list[dict[str, str]]]:
    made = variants.write(
        folder, folder.parent / "made", form, change, **{"name": "own", "seed": 0, "threshold": 0.7, **more}
    )
    return made, files.read_parquet(folder.parent / "made").to_pylist()


def upside(texts: Sequence[str], _: Sequence[int]) -> list[str]:
    """The words in the other order."""
    return [" ".join(reversed(text.split())) for text in texts]


def test_a_variant_keeps_label_cluster_and_kept_columns_and_names_its_parent(tmp_path: Path) -> None:
    form = RecordForm("classification")
    rows = [{"text": f"row {n} is rather good", "label": "pos", "shop": "a"} for n in range(3)]
    counted, made = write(clean(tmp_path / "clean", form, train=rows), form, upside)
    assert (counted.rows_in, counted.rows_out, dict(counted.dropped)) == (3, 3, {})
    assert made[1] == {
        "id": made[1]["id"],
        "source": "train.txt:2 (own)",
        "cluster": f"{1:016x}",
        "text": "good rather is 1 row",
        "label": "pos",
        "shop": "a",
        "parent": "train1",
    }
    assert len({row["id"] for row in made} | {row["parent"] for row in made}) == 6
    assert [(one["before"], one["after"]) for one in counted.as_json()["examples"]] == [
        (f"row {n} is rather good", f"good rather is {n} row") for n in sorted(range(3), key=lambda n: made[n]["id"])
    ]


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TURNS = [message("system", "be kind"), message("user", "one two"), message("assistant", "three four")]


@pytest.mark.parametrize(
    ("form", "row", "completion", "changed"),
    [
        (TEXT, {"text": "a b"}, False, {"text": "b a"}),
        (
            RecordForm("prompt-completion"),
            {"prompt": "a b", "completion": "c d"},
            False,
            {"prompt": "b a", "completion": "c d"},
        ),
        (
            RecordForm("prompt-completion"),
            {"prompt": "a b", "completion": "c d"},
            True,
            {"prompt": "b a", "completion": "d c"},
        ),
        (
            RecordForm("preference"),
            {"prompt": "a b", "chosen": "c d", "rejected": "e f"},
            False,
            {"prompt": "b a", "chosen": "c d", "rejected": "e f"},
        ),
        (
            RecordForm("regression"),
            {"text": "a b", "label": "3.5"},
            False,
            {"text": "b a", "label": "3.5"},
        ),
        (
            RecordForm("messages"),
            {"messages": orjson.dumps(TURNS).decode(), "tools": ""},
            False,
            {"messages": orjson.dumps([TURNS[0], message("user", "two one"), TURNS[2]]).decode(), "tools": ""},
        ),
        (
            RecordForm("messages"),
            {"messages": orjson.dumps(TURNS).decode(), "tools": ""},
            True,
            {
                "messages": orjson.dumps(
                    [TURNS[0], message("user", "two one"), message("assistant", "four three")]
                ).decode(),
                "tools": "",
            },
        ),
        (
            RecordForm("preference", conversational=True),
            {
                "prompt": orjson.dumps(TURNS[:2]).decode(),
                "chosen": orjson.dumps(TURNS[2:]).decode(),
                "rejected": orjson.dumps(TURNS[2:]).decode(),
            },
            False,
            {
                "prompt": orjson.dumps([TURNS[0], message("user", "two one")]).decode(),
                "chosen": orjson.dumps(TURNS[2:]).decode(),
                "rejected": orjson.dumps(TURNS[2:]).decode(),
            },
        ),
    ],
)
def test_only_what_is_given_changes_and_the_completion_if_asked_for(
    tmp_path: Path, form: RecordForm, row: dict[str, str], completion: bool, changed: dict[str, str]
) -> None:
    _, [made] = write(clean(tmp_path / "clean", form, train=[row]), form, upside, completion=completion)
    assert {name: made[name] for name in form.fields} == changed


def test_what_is_no_new_row_or_near_to_a_held_out_row_is_dropped_and_counted(tmp_path: Path) -> None:
    held_out = "this text is held out and nobody may train on it or on what is nearly the same"
    answers = {
        "same": "SAME ",
        "nothing": " ",
        "leak": held_out,
        "nearly": held_out.removesuffix("same"),
        "known": "another row",
        "fine": "a new text",
        "again": "a new text",
    }
    rows = [{"text": text} for text in (*answers, "another row")]
    folder = clean(tmp_path / "clean", TEXT, train=rows, test=[{"text": held_out}])
    counted, made = write(folder, TEXT, lambda texts, _: [answers.get(text, "one more text") for text in texts])
    assert [row["text"] for row in made] == ["a new text", "one more text"]
    assert counted.as_json()["dropped"] == {"unchanged": 1, "empty": 1, "training-row": 1, "twice": 1, "held-out": 2}
    assert counted.described("own") == (
        "own: 2 variants of 8 training rows; dropped 2 held-out, 1 unchanged, 1 empty, 1 training-row, 1 twice"
    )


def test_variants_that_are_all_dropped_are_an_error_with_the_remedy(tmp_path: Path) -> None:
    folder = clean(tmp_path / "clean", TEXT, train=[{"text": "one"}, {"text": "two"}])
    with pytest.raises(
        DataError, match=r"^own: no variant of the 2 training rows is left \(2 unchanged\); raise its p"
    ):
        write(folder, TEXT, upside)
    assert not (tmp_path / "made").exists()


def test_rows_that_come_later_change_no_other_variant(tmp_path: Path) -> None:
    def noise(texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        return [text_noise.drop_words(text, 0.3, seed) for text, seed in zip(texts, seeds, strict=True)]

    rows = [{"text": f"this is the text of row {n} and it goes on for a while"} for n in range(60)]
    _, first = write(clean(tmp_path / "a/clean", TEXT, train=rows), TEXT, noise)
    _, again = write(
        clean(tmp_path / "b/clean", TEXT, train=[*rows, {"text": "a later row with its own words"}]), TEXT, noise
    )
    _, other = write(clean(tmp_path / "c/clean", TEXT, train=rows), TEXT, noise, seed=1)
    assert first == [row for row in again if row["parent"] != "train60"]
    assert [row["text"] for row in first] != [row["text"] for row in other]


def test_canaries_have_no_variants(tmp_path: Path) -> None:
    folder = clean(tmp_path / "clean", TEXT, train=[{"text": "a row of its own"}, {"text": "a planted row"}])
    table = files.read_parquet(folder / "train")
    sources = pa.array(["train.txt:1", "canary:1"])
    files.write_parquet(folder / "train" / "000000.parquet", table.set_column(1, "source", sources))
    counted, made = write(folder, TEXT, upside)
    assert (counted.rows_in, [row["parent"] for row in made]) == (1, ["train0"])
