"""The stage that makes the clean splits and the pretraining text."""

import json
from pathlib import Path
from typing import Any

import data_project
import pytest

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm, read_form
from tuneline.errors import DataError
from tuneline.finetuning import tasks
from tuneline.params import editing
from tuneline.stages import prepare

ROOT = Path(__file__).resolve().parents[2]
PAIRS = Path("data/raw/python-docstrings/pairs.jsonl")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    monkeypatch.chdir(tmp_path)
    data_project.make(params_text, ROOT / "data/expectations")
    return tmp_path


def modules_of(folder: str, splits: list[str]) -> set[str]:
    """The raw modules whose rows stand in some splits, looked up by their source."""
    raw = {"data/clean": PAIRS, "data/pretraining": Path("data/raw/python-text/docstrings.jsonl")}[folder]
    rows = [json.loads(line) for line in raw.read_text().splitlines()]
    found: set[str] = set()
    for split in splits:
        for source in files.read_parquet(Path(folder) / f"{split}")["source"].to_pylist():
            name, line = source.split(":")
            assert name == raw.name
            found.add(rows[int(line) - 1]["module"])
    return found


def test_no_held_out_module_is_in_training_rows(capsys: pytest.CaptureFixture[str]) -> None:
    prepare.main(params.load())
    held_out = modules_of("data/clean", ["validation", "test"])
    assert held_out
    assert not held_out & modules_of("data/clean", ["train"])
    assert not held_out & modules_of("data/pretraining", ["train"])
    assert held_out >= modules_of("data/pretraining", ["validation"])
    dataset = files.read_json(Path("data/clean/dataset.json"))
    assert dataset["record_type"] == "prompt-completion"
    assert sum(dataset["rows"].values()) == 200
    assert "data/raw/python-docstrings: 200 rows in, 200 out (train " in capsys.readouterr().out


def test_the_same_rows_give_the_same_bytes(project: Path) -> None:
    prepare.main(params.load())
    first = [files.sha256_tree(project / folder) for folder in ("data/clean", "data/pretraining", "reports")]
    prepare.main(params.load())
    assert [files.sha256_tree(project / folder) for folder in ("data/clean", "data/pretraining", "reports")] == first


def test_canaries_are_planted_in_a_part_of_their_own(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare.main(params.load())
    without = files.sha256_tree(project / "data/clean")
    editing.set_values(Path("params.yaml"), {"data.canaries": 10})
    prepare.main(params.load())
    with_canaries = files.sha256_tree(project / "data/clean")
    assert {name for name in with_canaries if with_canaries[name] != without.get(name)} == {
        "dataset.json",
        "train/part-00001.parquet",
    }
    dataset = files.read_json(Path("data/clean/dataset.json"))
    assert (sum(dataset["rows"].values()), len(dataset["canaries"])) == (210, 10)
    assert "10 canaries were added to the training rows (data.canaries)" in capsys.readouterr().out


def test_dropped_rows_are_in_the_quarantine_with_their_source(capsys: pytest.CaptureFixture[str]) -> None:
    with PAIRS.open("a") as file:
        file.write('{"prompt": "def f():", "completion"\n')
        file.write(json.dumps({"prompt": "def f0():", "completion": data_project.sentence(0), "module": "x"}) + "\n")
    prepare.main(params.load())
    dropped = [json.loads(line) for line in Path("reports/quarantine.jsonl").read_text().splitlines()]
    broken = next(row for row in dropped if row["reason"] == "json")
    assert (broken["set"], broken["source"], broken["line"]) == ("data/raw/python-docstrings", "pairs.jsonl:201", 201)
    assert broken["row"] == '{"prompt": "def f():", "completion"'
    reasons = sorted(row["reason"] for row in dropped if row["set"] == "data/raw/python-docstrings")
    assert reasons == ["duplicate", "json"]
    report = files.read_json(Path("reports/prepare.json"))["raw"]
    assert (report["rows_in"], report["rows_out"], report["dropped"]) == (202, 200, {"duplicate": 1, "json": 1})
    assert "  dropped 1: json" in capsys.readouterr().out


def test_too_many_broken_rows_stop_before_anything_is_written(project: Path) -> None:
    PAIRS.write_text(PAIRS.read_text() + "broken\n" * 5)
    with pytest.raises(DataError, match="5 of 205 rows cannot be used"):
        prepare.main(params.load())
    assert not (project / "data/clean").exists()


def test_a_set_without_the_group_column_is_an_error_that_names_the_param() -> None:
    data_project.write_rows(
        Path("data/raw/mine/faq.jsonl"),
        [{"question": f"What is {n}?", "answer": data_project.sentence(f"own {n}")} for n in range(60)],
    )
    editing.set_values(Path("params.yaml"), {"data.raw": "data/raw/mine"})
    with pytest.raises(DataError) as caught:
        prepare.main(params.load())
    assert "data/raw/mine/faq.jsonl: has no column 'module'" in str(caught.value)
    assert "columns found: question, answer" in str(caught.value)
    editing.set_values(Path("params.yaml"), {"data.split.group_by": None})
    prepare.main(params.load())
    assert files.read_parquet(Path("data/clean/test")).num_rows > 0
    assert files.read_parquet(Path("data/pretraining/train")).num_rows > 0


def test_a_set_can_be_grouped_by_a_column_that_the_pretraining_text_lacks() -> None:
    data_project.write_rows(
        Path("data/raw/mine/faq.jsonl"),
        [
            {"question": f"What is {n}?", "answer": data_project.sentence(f"own {n}"), "author": f"a{n % 30}"}
            for n in range(90)
        ],
    )
    editing.set_values(Path("params.yaml"), {"data.raw": "data/raw/mine", "data.split.group_by": "author"})
    prepare.main(params.load())
    clusters = [
        set(files.read_parquet(Path(f"data/clean/{split}"))["cluster"].to_pylist())
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, clusters)) == len(set.union(*clusters)) == 30
    assert files.read_parquet(Path("data/pretraining/train")).num_rows > 0


def test_data_encoding_applies_to_the_raw_set_alone() -> None:
    folder = Path("data/raw/mine")
    folder.mkdir()
    rows = [
        {"prompt": f"Qu\u2019est-ce que {n} ?", "completion": f"d\u00e9j\u00e0 {data_project.sentence(n)}"}
        for n in range(60)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(lines, "cp1252")
    texts = Path("data/raw/python-text/docstrings.jsonl")
    own = [json.loads(line) | {"text": f"caf\u00e9 {data_project.sentence(n)}"} for n, line in enumerate(texts.open())]
    texts.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own), "utf-8")
    values = {"data.raw": "data/raw/mine", "data.encoding": "cp1252", "data.split.group_by": None}
    editing.set_values(Path("params.yaml"), values)
    prepare.main(params.load())
    for path, column, word in (
        ("data/clean/train", "completion", "d\u00e9j\u00e0"),
        ("data/pretraining/train", "text", "caf\u00e9"),
    ):
        assert {text.split()[0] for text in files.read_parquet(Path(path))[column].to_pylist()} == {word}
    # Another set has an encoding of its own, and its remedy names it.
    texts.write_text(texts.read_text("utf-8"), "cp1252")
    with pytest.raises(DataError, match=r"is not utf-8; .*set `data.reading.pretraining.encoding: cp1252`"):
        prepare.main(params.load())
    editing.set_values(Path("params.yaml"), {"data.reading": {"pretraining": {"encoding": "cp1252"}}})
    prepare.main(params.load())
    assert {text.split()[0] for text in files.read_parquet(Path("data/pretraining/train"))["text"].to_pylist()} == {
        "caf\u00e9"
    }
    editing.set_values(Path("params.yaml"), {"data.reading": {"faq": {}, "raw": {}}})
    with pytest.raises(DataError) as caught:
        prepare.main(params.load())
    first, second = caught.value.problems
    assert first.startswith("data.reading.raw: remove it; the set of data.raw is read by data.encoding, data.layout")
    assert second == "data.reading.faq: no set has this name; the sets are pretraining"


def test_plain_text_is_prepared_for_language_modeling() -> None:
    Path("data/raw/mine").mkdir()
    Path("data/raw/mine/poems.txt").write_text("".join(f"{data_project.sentence(f'own {n}')}\n" for n in range(60)))
    editing.set_values(
        Path("params.yaml"),
        {
            "task": "language-modeling",
            "gate.rules": [{"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}],
            "data.raw": "data/raw/mine",
            "data.pretraining": "data/raw/mine",
            "data.split.group_by": None,
        },
    )
    prepare.main(params.load())
    tables = {split: files.read_parquet(Path(f"data/clean/{split}")) for split in ("train", "test")}
    assert tables["train"].column_names == ["id", "source", "cluster", "text"]
    trained_on = set(files.read_parquet(Path("data/pretraining/train"))["text"].to_pylist())
    assert trained_on == set(tables["train"]["text"].to_pylist())
    assert not trained_on & set(tables["test"]["text"].to_pylist())


RULE = {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}


@pytest.mark.parametrize(
    ("labels", "multi_label", "names"),
    [
        pytest.param(["[1]", "[2]"], False, ["[1]", "[2]"], id="text that looks like a list of numbers"),
        pytest.param([["joy", "hope"], ["joy"]], True, ["hope", "joy"], id="lists"),
        pytest.param(['["joy", "hope"]', '["joy"]'], True, ["hope", "joy"], id="lists as JSON text"),
        pytest.param(['["', "]"], False, ['["', "]"], id="text with brackets"),
    ],
)
def test_preparation_and_training_read_the_same_labels(labels: list[Any], multi_label: bool, names: list[str]) -> None:
    editing.set_values(
        Path("params.yaml"), {"task": "classification", "data.split.group_by": None, "gate.rules": [RULE]}
    )
    rows = [{"text": data_project.sentence(row), "label": labels[row % 2]} for row in range(200)]
    PAIRS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare.main(params.load())
    form = read_form(Path("data/clean"))
    assert form == RecordForm("classification", multi_label=multi_label)
    assert sorted(files.read_json(Path("data/clean/dataset.json"))["labels"]) == names
    assert tasks.labels_of(form, Path("data/clean/train")) == names
