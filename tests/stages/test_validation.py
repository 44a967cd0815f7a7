"""Both stages of Great Expectations: what stops the line, what is only reported, what is written."""

import json
from pathlib import Path

import data_project
import pyarrow as pa
import pytest

from tuneline import params
from tuneline.core import files
from tuneline.errors import DataError, ExpectationError
from tuneline.params import editing
from tuneline.stages import prepare, validate_clean, validate_raw

ROOT = Path(__file__).resolve().parents[2]
PAIRS = Path("data/raw/python-docstrings/pairs.jsonl")
NO_LOST_CHARACTERS = """
prompt-completion:
  - type: expect_column_values_to_not_match_regex
    kwargs: {column: completion, regex: "\\ufffd", mostly: 0.99}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    monkeypatch.chdir(tmp_path)
    data_project.make(params_text, ROOT / "data/expectations")
    return tmp_path


def test_good_rows_are_accepted_with_their_digest(capsys: pytest.CaptureFixture[str]) -> None:
    validate_raw.main(params.load())
    assert files.read_json(Path("reports/raw.ok")) == {
        path: files.sha256_path(Path(path)) for path in ("data/raw/python-docstrings", "data/raw/python-text")
    }
    assert files.read_json(Path("reports/validate_raw.json"))["success"] is True
    assert "data/raw/python-docstrings: 200 rows of prompt-completion, 0 of them unusable" in capsys.readouterr().out
    prepare.main(params.load())
    validate_clean.main(params.load())
    assert set(files.read_json(Path("reports/clean.ok"))) == {"data/clean", "data/pretraining"}


def test_validation_results_have_the_same_bytes_again(project: Path) -> None:
    validate_raw.main(params.load())
    first = files.sha256_tree(project / "reports")
    validate_raw.main(params.load())
    assert files.sha256_tree(project / "reports") == first


def test_rows_that_fail_an_expectation_are_named_and_stop_the_pipeline() -> None:
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    for number in range(0, 200, 4):
        rows[number]["completion"] = f"Ma\ufffdgled {number}"
    data_project.write_rows(PAIRS, rows)
    Path("data/expectations/raw.yaml").write_text(NO_LOST_CHARACTERS)
    with pytest.raises(ExpectationError) as caught:
        validate_raw.main(params.load())
    first, second, *_ = caught.value.problems
    assert first.startswith("data/raw/python-docstrings: expect_column_values_to_not_match_regex (column 'completion'")
    assert first.endswith("50 of 200 rows fail it")
    assert second == "  pairs.jsonl:1: 'Ma\ufffdgled 0'"
    assert not Path("reports/raw.ok").exists()
    result = files.read_json(Path("reports/validate_raw.json"))
    (failure,) = [one for one in result["sets"][0]["expectations"] if not one["success"]]
    assert (failure["unexpected"], len(failure["first"])) == (50, 50)


def test_damaged_raw_rows_are_a_warning_and_damaged_clean_rows_stop_the_pipeline(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    for number in range(0, 200, 4):
        rows[number]["completion"] = f"caf\u00c3\u00a9 {data_project.sentence(number)}"
    data_project.write_rows(PAIRS, rows)
    validate_raw.main(params.load())
    said = capsys.readouterr().out
    assert "warning: data/raw/python-docstrings: expect_column_values_to_not_match_regex (column 'damage'" in said
    assert "50 of 200 rows fail it\n  pairs.jsonl:1: 'mojibake'" in said
    prepare.main(params.load())
    assert "  damaged: 50 rows of mojibake, such as pairs.jsonl:1: 'caf\u00c3\u00a9 " in capsys.readouterr().out
    with pytest.raises(ExpectationError, match=r"data/clean: .*'damage'.*: 50 of 200 rows fail it"):
        validate_clean.main(params.load())
    editing.set_values(Path("params.yaml"), {"data.damaged.mojibake": "repair"})
    prepare.main(params.load())
    validate_clean.main(params.load())
    assert "50 rows of mojibake, 50 of them repaired, such as pairs.jsonl:1: " in capsys.readouterr().out
    completions = {row for split in ("train", "test") for row in clean_column(split, "completion")}
    assert sum(text.startswith("caf\u00e9 ") for text in completions) > 25


def clean_column(split: str, name: str) -> list[str]:
    return files.read_parquet(Path("data/clean") / split)[name].to_pylist()


def test_too_many_broken_rows_stop_the_pipeline_with_their_sources() -> None:
    PAIRS.write_text("{\n" * 3 + PAIRS.read_text())
    PAIRS.write_text('{"prompt": "q"}\n' + PAIRS.read_text())
    with pytest.raises(DataError) as caught:
        validate_raw.main(params.load())
    assert "4 of 204 rows cannot be used (missing 1, json 3)" in str(caught.value)
    assert "pairs.jsonl:2: json: " in str(caught.value)


def test_a_set_that_is_raw_and_pretraining_is_validated_as_both_types() -> None:
    poems = [{"title": f"t{n}", "author": "a", "paragraphs": [data_project.sentence(n)]} for n in range(30)]
    data_project.write_rows(Path("data/raw/poems/poems.jsonl"), poems)
    both = {"data.raw": "data/raw/poems", "data.pretraining": "data/raw/poems", "data.split.group_by": None}
    editing.set_values(Path("params.yaml"), both)
    Path("data/expectations/raw.yaml").write_text(
        "prompt-completion:\n"
        "  - type: expect_column_value_lengths_to_be_between\n"
        "    kwargs: {column: completion, max_value: 10}\n"
    )
    with pytest.raises(ExpectationError) as caught:
        validate_raw.main(params.load())
    assert caught.value.problems[0].startswith("data/raw/poems: expect_column_value_lengths_to_be_between")
    result = files.read_json(Path("reports/validate_raw.json"))
    assert [one["set"] for one in result["sets"]] == ["data/raw/poems", "data/raw/poems as text"]
    pages = sorted(page.name for page in Path("reports/data_docs_raw").iterdir())
    assert pages == ["data-raw-poems-as-text.html", "data-raw-poems.html"]


def test_a_failed_expectation_with_a_warning_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("data/expectations/raw.yaml").write_text(
        "text:\n"
        "  - type: expect_column_value_lengths_to_be_between\n"
        "    kwargs: {column: text, max_value: 10}\n"
        "    severity: warning\n"
    )
    validate_raw.main(params.load())
    printed = capsys.readouterr().out
    assert "warning: data/raw/python-text: expect_column_value_lengths_to_be_between" in printed
    assert "200 of 200 rows fail it\n  docstrings.jsonl:1: " in printed
    assert Path("reports/raw.ok").exists()


def test_a_warning_about_a_frozen_text_is_only_noted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/expectations/clean.yaml").write_text(
        "text:\n  - type: expect_table_row_count_to_be_between\n    kwargs: {min_value: 1000}\n    severity: warning\n"
    )
    prepare.main(params.load())
    for frozen, warned in ((False, True), (True, False)):
        editing.set_values(Path("params.yaml"), {"data.frozen_pretraining": frozen})
        capsys.readouterr()
        validate_clean.main(params.load())
        printed = capsys.readouterr().out
        assert ("warning: data/pretraining: expect_table_row_count_to_be_between (min_value 1000)" in printed) == warned
        note = "not met, of severity warning: expect_table_row_count_to_be_between (this set never changes"
        assert (note in printed) != warned
        [_, text] = files.read_json(Path("reports/validate_clean.json"))["sets"]
        assert [one["success"] for one in text["expectations"]].count(False) == 1


def test_the_first_unusable_rows_are_named_and_the_others_counted(capsys: pytest.CaptureFixture[str]) -> None:
    editing.set_values(Path("params.yaml"), {"data.max_rejected_fraction": 0.1})
    PAIRS.write_text(PAIRS.read_text() + "{broken\n" * 7)
    validate_raw.main(params.load())
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("data/raw/python-docstrings: 207 rows of prompt-completion, 7 of them unusable")
    assert lines[first + 5].startswith("  pairs.jsonl:205: json: ")
    assert lines[first + 6] == "  and 2 more"


def test_a_failed_expectation_of_severity_error_stops_validate_clean() -> None:
    Path("data/expectations/clean.yaml").write_text(
        "prompt-completion:\n  - type: expect_table_row_count_to_be_between\n    kwargs: {min_value: 1000}\n"
    )
    prepare.main(params.load())
    with pytest.raises(ExpectationError, match=r"data/clean: expect_table_row_count_to_be_between .*: found 200"):
        validate_clean.main(params.load())


def test_a_cluster_in_two_splits_is_never_accepted() -> None:
    prepare.main(params.load())
    train, test = (files.read_parquet(Path("data/clean") / split) for split in ("train", "test"))
    # Another id, so that only the cluster shows it; in a part of its own, so that no frame holds both rows.
    leaked = [row | {"id": "another"} for row in test.slice(0, 1).to_pylist()]
    files.write_parquet(Path("data/clean/train/part-00001.parquet"), pa.Table.from_pylist(leaked, train.schema))
    with pytest.raises(ExpectationError) as caught:
        validate_clean.main(params.load())
    first, place, *_ = caught.value.problems
    assert "(column 'splits_of_cluster', value_set [1]): " in first
    assert place == f"  {leaked[0]['source']}: 2"


def test_a_row_in_two_splits_is_named_in_both() -> None:
    prepare.main(params.load())
    row = files.read_parquet(Path("data/clean/test")).slice(0, 1)
    files.write_parquet(Path("data/clean/train/part-00001.parquet"), row)
    with pytest.raises(ExpectationError) as caught:
        validate_clean.main(params.load())
    problems = list(caught.value.problems)
    twice = next(n for n, line in enumerate(problems) if "to_be_unique (column 'id'): 2 of 201 rows fail it" in line)
    source, number = row["source"][0].as_py(), row["id"][0].as_py()
    assert problems[twice + 1 : twice + 3] == [f"  {source}: {number!r}"] * 2


def test_a_failed_validation_writes_data_docs_too() -> None:
    PAIRS.write_text(PAIRS.read_text().replace('"completion": "', '"completion": "<b>\ufffd', 100))
    Path("data/expectations/raw.yaml").write_text(NO_LOST_CHARACTERS)
    with pytest.raises(ExpectationError):
        validate_raw.main(params.load())
    pages = {path.name: path.read_text() for path in Path("reports/data_docs_raw").iterdir()}
    assert set(pages) == {"data-raw-python-docstrings.html", "data-raw-python-text.html"}
    assert "pairs.jsonl:1: &lt;b&gt;\ufffd" in pages["data-raw-python-docstrings.html"]
    assert "Failed" in pages["data-raw-python-docstrings.html"]


def test_a_set_is_validated_the_same_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    for number in range(0, 200, 4):
        rows[number]["completion"] = "the same \ufffd"
    data_project.write_rows(PAIRS, rows)
    Path("data/expectations/raw.yaml").write_text(NO_LOST_CHARACTERS)
    with pytest.raises(ExpectationError) as caught:
        validate_raw.main(params.load())
    whole = Path("reports/validate_raw.json").read_text()
    monkeypatch.setattr("tuneline.data.validation.frames.CHUNK", 30)
    with pytest.raises(ExpectationError) as again:
        validate_raw.main(params.load())
    assert again.value.problems == caught.value.problems
    assert Path("reports/validate_raw.json").read_text() == whole
