"""What always must hold, what a YAML adds, and what a failure says."""

from pathlib import Path

import pandas as pd
import pytest

from tuneline.data import expectations
from tuneline.data.expectations import Expectation, always, check
from tuneline.errors import DataError


def frame(*texts: str | None, start: int = 1) -> pd.DataFrame:
    sources = [f"a.txt:{line}" for line in range(start, start + len(texts))]
    return pd.DataFrame({"source": sources, "text": pd.Series(texts, dtype="str")})


def failed(frames: list[pd.DataFrame], *more: Expectation) -> list[list[str]]:
    outcomes = check(frames, [*always("text", is_clean=False), *more])
    return [outcome.describe("set") for outcome in outcomes if not outcome.success]


def test_good_rows_pass() -> None:
    assert failed([frame("one", "two")]) == []


def test_an_empty_set_fails() -> None:
    assert failed([frame()]) == [["set: expect_table_row_count_to_be_between (min_value 1): found 0"]]


def test_null_and_blank_rows_fail_and_are_named() -> None:
    assert failed([frame("one", None, "  ")]) == [
        ["set: expect_column_values_to_not_be_null (column 'text'): 1 of 3 rows fail it", "  a.txt:2: None"],
        [
            "set: expect_column_values_to_match_regex (column 'text', regex '\\\\S'): 1 of 2 rows fail it",
            "  a.txt:3: '  '",
        ],
    ]


def test_portions_are_judged_as_one() -> None:
    short = Expectation("expect_column_value_lengths_to_be_between", {"column": "text", "min_value": 4, "mostly": 0.5})
    unique = Expectation("expect_column_values_to_be_unique", {"column": "text"}, "warning")
    portions = [frame("long one", "longer"), frame("abc", "def", "longer", start=3)]
    assert failed(portions, short) == failed([pd.concat(portions)], short) == []
    (lines,) = failed(portions, unique)
    assert lines == [
        "set: expect_column_values_to_be_unique (column 'text'): 2 of 5 rows fail it",
        "  a.txt:2: 'longer'",
        "  a.txt:5: 'longer'",
    ]


def test_a_missing_column_is_a_failure_without_a_traceback() -> None:
    ((line,),) = failed([frame("one")], Expectation("expect_column_values_to_be_unique", {"column": "label"}))
    assert line.endswith('The column "label" in BatchData does not exist. Columns: source, text.')


def test_a_cluster_in_two_splits_fails_whatever_the_yaml_says() -> None:
    rows = pd.DataFrame(
        {
            "id": ["1", "2"],
            "source": ["a:1", "a:2"],
            "cluster": ["x", "x"],
            "split": ["train", "test"],
            "text": ["one", "two"],
            "splits_of_cluster": [2, 2],
        }
    )
    outcomes = check([rows], always("text", is_clean=True))
    assert [outcome.kwargs["column"] for outcome in outcomes if not outcome.success] == ["splits_of_cluster"]


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "raw.yaml"
    path.write_text(
        "text:\n"
        "  - type: expect_column_values_to_be_unique\n"
        "    kwargs: {column: text, mostly: 0.5}\n"
        "    severity: warning\n"
        "prompt-completion:\n"
    )
    kwargs = {"column": "text", "mostly": 0.5}
    assert expectations.load(path, "text") == [Expectation("expect_column_values_to_be_unique", kwargs, "warning")]
    assert expectations.load(path, "prompt-completion") == []
    assert expectations.load(tmp_path / "missing.yaml", "text") == []


def test_the_shipped_yaml_is_valid() -> None:
    for name in ("raw", "clean"):
        path = Path(__file__).parents[2] / "data" / "expectations" / f"{name}.yaml"
        assert expectations.load(path, "prompt-completion")
        assert expectations.load(path, "text")


def test_all_problems_of_a_yaml_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "raw.yaml"
    path.write_text(
        "text:\n"
        "  - type: expect_column_values_to_be_uniqe\n"
        "  - type: expect_column_values_to_be_unique\n"
        "    kwargs: {colum: text}\n"
        "  - type: expect_column_values_to_be_unique\n"
        "    kwargs: {column: text}\n"
        "    severity: fatal\n"
        "  - unique\n"
        "pairs: []\n"
    )
    with pytest.raises(DataError) as caught:
        expectations.load(path, "text")
    problems = [problem.removeprefix(f"{path}:") for problem in caught.value.problems]
    assert [problem.split(":")[0] for problem in problems] == ["2", "3", "5", "8", "9"]
    assert "did you mean expect_column_values_to_be_unique?" in problems[0]
    assert "colum extra fields not permitted" in problems[1]
    assert "severity 'fatal': must be error or warning" in problems[2]
    assert "pairs: no record type; known: prompt-completion, text" in problems[4]


@pytest.mark.parametrize("text", ["a: [", "- type: x\n", "text: unique\n"])
def test_a_yaml_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "raw.yaml").write_text(text)
    with pytest.raises(DataError, match=r"raw\.yaml: "):
        expectations.load(tmp_path / "raw.yaml", "text")
