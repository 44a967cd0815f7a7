"""Both stages of Great Expectations: what stops the line, what is only reported, what is written."""

import json
from pathlib import Path

import data_project
import pyarrow as pa
import pytest

from tuneline import files, params
from tuneline.errors import DataError, ExpectationError
from tuneline.stages import prepare, validate_clean, validate_raw

ROOT = Path(__file__).resolve().parents[2]
PAIRS = Path("data/raw/python-docstrings/pairs.jsonl")


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
    assert "data/raw/python-docstrings: 200 rows of prompt-completion, 0 set aside" in capsys.readouterr().out
    prepare.main(params.load())
    validate_clean.main(params.load())
    assert set(files.read_json(Path("reports/clean.ok"))) == {"data/clean", "data/pretraining"}


def test_results_are_the_same_bytes_again(project: Path) -> None:
    validate_raw.main(params.load())
    first = files.sha256_tree(project / "reports")
    validate_raw.main(params.load())
    assert files.sha256_tree(project / "reports") == first


def test_poisoned_rows_are_named_and_stop_the_line() -> None:
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    for number in range(0, 200, 4):
        rows[number]["completion"] = f"Ma\ufffdgled {number}"
    data_project.write_rows(PAIRS, rows)
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


def test_broken_rows_stop_the_line_with_their_places() -> None:
    PAIRS.write_text("{\n" * 3 + PAIRS.read_text())
    PAIRS.write_text('{"prompt": "q"}\n' + PAIRS.read_text())
    with pytest.raises(DataError) as caught:
        validate_raw.main(params.load())
    assert "4 of 204 rows cannot be used (missing 1, json 3)" in str(caught.value)
    assert "pairs.jsonl:2: json: " in str(caught.value)


def test_a_warning_is_printed_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_the_same_expectation_as_an_error_stops_the_clean_rows() -> None:
    Path("data/expectations/clean.yaml").write_text(
        "prompt-completion:\n  - type: expect_table_row_count_to_be_between\n    kwargs: {min_value: 1000}\n"
    )
    prepare.main(params.load())
    with pytest.raises(ExpectationError, match=r"data/clean: expect_table_row_count_to_be_between .*: found 200"):
        validate_clean.main(params.load())


def test_a_cluster_in_two_splits_is_never_accepted() -> None:
    prepare.main(params.load())
    train = files.read_parquet(Path("data/clean/train.parquet"))
    test = files.read_parquet(Path("data/clean/test.parquet"))
    leaked = [row | {"id": "another"} for row in test.slice(0, 1).to_pylist()]
    files.write_parquet(Path("data/clean/train.parquet"), pa.Table.from_pylist(train.to_pylist() + leaked))
    with pytest.raises(ExpectationError, match="splits_of_cluster"):
        validate_clean.main(params.load())
