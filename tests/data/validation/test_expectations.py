"""Required expectations, expectations from YAML, and messages of failures."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tuneline.data.records.record_form import FIELDS, RecordForm, RecordType
from tuneline.data.validation import expectations
from tuneline.data.validation.frames import with_counts
from tuneline.data.validation.outcomes import Expectation, Outcome, required_expectations
from tuneline.errors import DataError

GOOD: dict[RecordType, list[tuple[str, ...]]] = {
    "text": [("one",), ("two",)],
    "prompt-completion": [("q", "a"), ("p", "b")],
    "messages": [
        ('[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]', ""),
        ('[{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]}]', "[]"),
    ],
    "preference": [("q", "good", "bad"), ("", "a", "b")],
    "classification": [("one", "x"), ("two", "y")],
    "regression": [("one", "1"), ("two", "-2.5e3")],
}


def check(frames: list[pd.DataFrame], expected: list[Expectation]) -> list[Outcome]:
    return expectations.validate_rows(lambda: frames, expected)


def frame(*texts: str | None, start: int = 1) -> pd.DataFrame:
    sources = [f"a.txt:{line}" for line in range(start, start + len(texts))]
    return pd.DataFrame({"source": sources, "text": pd.Series(texts, dtype="str")})


def failed(frames: list[pd.DataFrame], *more: Expectation) -> list[list[str]]:
    outcomes = check(frames, [*required_expectations("text", is_clean=False), *more])
    return [outcome.describe("set") for outcome in outcomes if not outcome.success]


def test_good_rows_meet_the_required_expectations() -> None:
    assert failed([frame("one", "two")]) == []


def test_an_empty_set_fails() -> None:
    assert failed([frame()]) == [["set: expect_table_row_count_to_be_between (min_value 1): found 0"]]


def test_null_and_empty_rows_fail_and_are_named() -> None:
    assert failed([frame("one", None, "  ")]) == [
        ["set: expect_column_values_to_not_be_null (column 'text'): 1 of 3 rows fail it", "  a.txt:2: None"],
        [
            "set: expect_column_values_to_match_regex (column 'text', regex '\\\\S'): 1 of 2 rows fail it",
            "  a.txt:3: '  '",
        ],
    ]


def test_portions_are_validated_as_one_set() -> None:
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


@pytest.mark.parametrize(
    "expected",
    [
        Expectation("expect_table_row_count_to_be_between", {"min_value": 9}),
        Expectation("expect_column_to_exist", {"column": "label"}),
        Expectation("expect_column_values_to_be_unique", {"column": "label"}),
        Expectation("expect_column_values_to_be_unique", {"column": "text", "mostly": 0.9}),
        Expectation("expect_compound_columns_to_be_unique", {"column_list": ["text", "kind"]}),
        Expectation("expect_column_unique_value_count_to_be_between", {"column": "text", "max_value": 3}),
        Expectation("expect_column_proportion_of_unique_values_to_be_between", {"column": "kind", "min_value": 0.9}),
        Expectation("expect_column_distinct_values_to_be_in_set", {"column": "kind", "value_set": ["a"]}),
        Expectation("expect_column_most_common_value_to_be_in_set", {"column": "kind", "value_set": ["b"]}),
        Expectation("expect_column_mean_to_be_between", {"column": "characters", "max_value": 2}),
        Expectation(
            "expect_column_quantile_values_to_be_between",
            {"column": "characters", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 2]]}},
        ),
        Expectation("expect_column_values_to_be_increasing", {"column": "characters"}),
        Expectation("expect_column_pair_values_to_be_equal", {"column_A": "text", "column_B": "kind"}),
        Expectation(
            "expect_column_unique_value_count_to_be_between",
            {"column": "text", "min_value": 5, "row_condition": 'kind=="a"', "condition_parser": "pandas"},
        ),
    ],
    ids=lambda one: one.type,
)
@pytest.mark.filterwarnings("ignore:Passing a string to the row_condition", "ignore:The condition_parser")
def test_every_expectation_finds_the_same_in_portions(expected: Expectation) -> None:
    texts = ["one", "three", "three", None, "seven", "two", "one", "a"]
    whole = pd.DataFrame(
        {
            "source": [f"a.txt:{line}" for line in range(1, 9)],
            "text": pd.Series(texts, dtype="str"),
            "kind": pd.Series(list("aabaabaa"), dtype="str"),
            "characters": [len(text or "") for text in texts],
        }
    )
    (once,) = check([whole], [expected])
    portions = [whole.iloc[start:stop] for start, stop in ((0, 3), (3, 4), (4, 8))]
    (summed,) = check(portions, [expected])
    assert not once.success
    assert summed == once


@pytest.mark.parametrize("record_type", FIELDS)
def test_good_rows_of_every_type_pass(record_type: RecordType) -> None:
    assert failures(record_type, GOOD[record_type]) == []


@pytest.mark.parametrize(
    ("record_type", "row", "expectation"),
    [
        ("prompt-completion", ("q", "\t"), "expect_column_values_to_match_regex (column 'completion'"),
        ("messages", ("no JSON", ""), "expect_column_values_to_not_be_null (column 'turns')"),
        ("messages", ('{"role":"user"}', ""), "expect_column_values_to_not_be_null (column 'turns')"),
        ("messages", ('[{"role":"user","content":"q"}]', ""), "expect_column_values_to_be_between (column 'answers'"),
        (
            "messages",
            ('[{"role":"assistant","content":" "}]', ""),
            "expect_column_values_to_be_between (column 'answers'",
        ),
        ("preference", ("q", "same", "same"), "expect_select_column_values_to_be_unique_within_record"),
        ("classification", ("three", " "), "expect_column_values_to_match_regex (column 'label'"),
        ("regression", ("three", "many"), "expect_column_values_to_not_be_null (column 'number')"),
        ("regression", ("three", "inf"), "expect_column_values_to_not_be_null (column 'number')"),
    ],
)
def test_a_bad_row_of_every_type_is_named(record_type: RecordType, row: tuple[str, ...], expectation: str) -> None:
    ((first, place, *_),) = failures(record_type, [*GOOD[record_type], row])
    assert first.startswith(f"set: {expectation}")
    assert place.startswith("  a.jsonl:3: ")


def test_a_row_that_fails_is_shown_without_its_secrets() -> None:
    same = "write to jane.doe@firm.org"
    ((_, place, *_),) = failures("preference", [*GOOD["preference"], ("q", same, same)])
    assert place.startswith("  a.jsonl:3: ")
    assert "write to <EMAIL>" in place
    assert "firm" not in place


def test_a_single_label_fails_for_classification() -> None:
    ((line,),) = failures("classification", [("one", "x"), ("two", "x")])
    assert line.endswith("(column 'label', min_value 2): found 1")


@pytest.mark.parametrize(("record_type", "characters"), [("messages", [2, 0]), ("classification", [3, 3])])
def test_characters_count_the_texts_that_a_model_sees(record_type: RecordType, characters: list[int]) -> None:
    assert frame_of(record_type, GOOD[record_type])["characters"].tolist() == characters


def test_messages_in_a_preference_are_counted_by_their_contents() -> None:
    said = '[{"role":"assistant","content":"四个汉字"}]'
    assert frame_of("preference", [("[]", said, said)], conversational=True)["characters"].tolist() == [8]


def frame_of(record_type: RecordType, rows: list[tuple[str, ...]], *, conversational: bool = False) -> pd.DataFrame:
    columns = dict(zip(FIELDS[record_type], map(list, zip(*rows, strict=True)), strict=True))
    sources = [f"a.jsonl:{line}" for line in range(1, len(rows) + 1)]
    return with_counts(pa.table({"source": sources, **columns}), RecordForm(record_type, conversational))


def failures(record_type: RecordType, rows: list[tuple[str, ...]]) -> list[list[str]]:
    outcomes = check([frame_of(record_type, rows)], required_expectations(record_type, is_clean=False))
    return [outcome.describe("set") for outcome in outcomes if not outcome.success]


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
    outcomes = check([rows], required_expectations("text", is_clean=True))
    assert [outcome.kwargs["column"] for outcome in outcomes if not outcome.success] == ["splits_of_cluster"]


def test_expectations_are_read_from_yaml(tmp_path: Path) -> None:
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
        path = Path(__file__).parents[3] / "data" / "expectations" / f"{name}.yaml"
        for record_type in FIELDS:
            assert expectations.load(path, record_type)


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
    assert "pairs: is not a record type; known: text, prompt-completion, messages, " in problems[4]


@pytest.mark.parametrize("text", ["a: [", "- type: x\n", "text: unique\n"])
def test_a_file_of_expectations_that_is_not_valid_yaml_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "raw.yaml").write_text(text)
    with pytest.raises(DataError, match=r"raw\.yaml: "):
        expectations.load(tmp_path / "raw.yaml", "text")
