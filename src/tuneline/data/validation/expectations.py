"""Runs Great Expectations on the rows of a set, in bounded memory, and reads the user's expectations.

The YAML file has a list of expectations for each record type, with the types and arguments of the library:

    prompt-completion:
      - type: expect_column_value_lengths_to_be_between
        kwargs: {column: completion, max_value: 2000}
        severity: warning

Expectations on single rows are validated in portions, and the results are added up. Expectations on the complete set
are validated on the columns that they name: 8 bytes per value if only equality counts, else each different text once.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions.exceptions import ExpectationNotFoundError
from great_expectations.expectations.expectation import (
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.registry import get_expectation_impl, list_registered_expectation_implementations
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from tuneline.core import bounded_yaml
from tuneline.data.records.record_form import FIELDS, RecordType
from tuneline.data.secrets import screening
from tuneline.data.validation.frames import Compact
from tuneline.data.validation.outcomes import KEPT_ROWS, Expectation, Outcome
from tuneline.errors import DataError, one_line

Frames = Callable[[], Iterable[pd.DataFrame]]
"""Returns the rows of a set in portions with the same columns, one of them `source`. Each call starts again."""

_SEVERITIES = {"error": FailureSeverity.CRITICAL, "warning": FailureSeverity.WARNING}
_BY_ROW = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
# The library has them as expectations on single rows, but whether a row passes depends on other rows of the set.
_OF_OTHER_ROWS = {
    "expect_column_values_to_be_unique",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing",
    "expect_column_value_z_scores_to_be_less_than",
    "expect_column_values_to_not_be_outliers",
    "expect_compound_columns_to_be_unique",
}
_OF_EQUALITY = {
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
    "expect_column_unique_value_count_to_be_between",
    "expect_column_proportion_of_unique_values_to_be_between",
}
_OF_COLUMNS = {
    "expect_column_to_exist",
    "expect_column_type_to_be",
    "expect_table_column_count_to_be_between",
    "expect_table_column_count_to_equal",
    "expect_table_columns_to_match_ordered_list",
    "expect_table_columns_to_match_set",
}
_OF_DATABASES = {
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
    "unexpected_rows_expectation",
}
_LONGEST_VALUE = 500


def load(path: Path, record_type: RecordType) -> list[Expectation]:
    """Return the user's expectations for a record type.

    Args:
        path: a YAML file with a list for each record type.
        record_type: whose list is returned.

    Returns:
        The expectations, in the order of the file. Empty if the file or the list is missing.

    Raises:
        DataError: all problems of the file, each with its line.
    """
    if not path.exists():
        return []
    try:
        document = bounded_yaml.load(path.read_text("utf-8"), "rt") or CommentedMap()
    except (YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
    if not isinstance(document, CommentedMap) or not all(
        isinstance(entries, list | None) for entries in document.values()
    ):
        raise DataError(f"{path}: must be a mapping of {', '.join(FIELDS)} to lists of expectations")
    problems: list[str] = []
    expected: list[Expectation] = []
    for name, entries in document.items():
        if name not in FIELDS:
            problems.append(
                f"{path}:{document.lc.key(name)[0] + 1}: {name}: is not a record type; known: {', '.join(FIELDS)}"
            )
            continue
        for index, entry in enumerate(entries or []):
            try:
                expectation = _expectation(entry)
            except ValueError as error:
                problems.append(f"{path}:{entries.lc.item(index)[0] + 1}: {error}")
                continue
            if name == record_type:
                expected.append(expectation)
    if problems:
        raise DataError(*problems)
    return expected


def _expectation(entry: Any) -> Expectation:
    """Return an entry of the YAML, checked against the library. ValueError says what is wrong."""
    if not isinstance(entry, dict) or "type" not in entry or set(entry) - {"type", "kwargs", "severity"}:
        raise ValueError("an expectation has a type, and may have kwargs and a severity, but no other keys")
    kind, severity = str(entry["type"]), entry.get("severity", "error")
    if severity not in _SEVERITIES:
        raise ValueError(f"{kind}: severity {severity!r}: must be error or warning")
    if kind in _OF_DATABASES:
        raise ValueError(f"{kind}: needs a database, but the rows are in files")
    expectation = Expectation(kind, _plain(entry.get("kwargs") or {}), severity)
    try:
        _build(expectation)
    except ExpectationNotFoundError:
        close = difflib.get_close_matches(kind, list_registered_expectation_implementations(), n=1)
        hint = f"did you mean {close[0]}?" if close else "Great Expectations' gallery lists all types"
        raise ValueError(f"{kind}: Great Expectations has no such type; {hint}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{kind}: {one_line(error)}") from None
    return expectation


def _plain(value: Any) -> Any:
    """Return values of YAML or of a result as plain Python values."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def _build(expectation: Expectation, meta: dict[str, Any] | None = None) -> Any:
    return get_expectation_impl(expectation.type)(
        **expectation.kwargs, severity=_SEVERITIES[expectation.severity], meta=meta
    )


def validate_rows(frames: Frames, expected: Sequence[Expectation]) -> list[Outcome]:
    """Return the outcome of each expectation, in their order; the same rows give the same outcomes.

    Args:
        frames: the set. It is read once, and again to name rows that fail because of other rows.
        expected: the expectations.
    """
    outcomes = [Outcome(expectation.type, expectation.kwargs, expectation.severity) for expectation in expected]
    portions = iter(frames())
    first = next(portions)
    by_row: list[tuple[Expectation, Outcome]] = []
    by_columns: list[tuple[Expectation, Outcome]] = []
    whole: dict[bool, list[tuple[Expectation, Outcome]]] = {True: [], False: []}
    for expectation, outcome in zip(expected, outcomes, strict=True):
        if expectation.type in _OF_COLUMNS or not set(_columns(expectation, first)) <= set(first.columns):
            by_columns.append((expectation, outcome))
        elif issubclass(get_expectation_impl(expectation.type), _BY_ROW) and expectation.type not in _OF_OTHER_ROWS:
            by_row.append((expectation, outcome))
        else:
            only_equality = expectation.type in _OF_EQUALITY and not expectation.kwargs.get("row_condition")
            whole[only_equality].append((expectation, outcome))
    kept = {
        hashed: Compact({name for expectation, _ in wanted for name in _columns(expectation, first)}, is_hashed=hashed)
        for hashed, wanted in whole.items()
    }
    _validate(first.head(0), by_columns)
    for portion in chain([first], portions):
        _validate(portion, by_row)
        for columns in kept.values():
            columns.add(portion)
    for hashed, wanted in whole.items():
        _validate(kept[hashed].frame(), wanted)
    _name_rows(
        frames,
        [(expectation, outcome) for wanted in whole.values() for expectation, outcome in wanted if outcome.first],
    )
    for outcome in outcomes:
        if outcome.rows and not outcome.message:
            mostly = outcome.kwargs.get("mostly", 1.0)
            outcome.success = outcome.rows - outcome.unexpected >= mostly * outcome.rows
    return outcomes


def _columns(expectation: Expectation, frame: pd.DataFrame) -> list[str]:
    """Return the columns that an expectation uses."""
    kwargs = expectation.kwargs
    names = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    condition = str(kwargs.get("row_condition") or "")
    return [*names, *kwargs.get("column_list", []), *(name for name in frame.columns if name in condition)]


def _name_rows(frames: Frames, failed: Sequence[tuple[Expectation, Outcome]]) -> None:
    """Replace the numbers of failing rows by their sources and values."""
    wanted = sorted({row["source"] for _, outcome in failed for row in outcome.first})
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for frame in frames() if wanted else ():
        numbers = [number - start for number in wanted if start <= number < start + len(frame)]
        rows = frame.iloc[numbers].to_dict("records")
        found |= {number + start: row for number, row in zip(numbers, rows, strict=True)}
        start += len(frame)
        if start > wanted[-1]:
            break
    for expectation, outcome in failed:
        outcome.first = [_named(found[row["source"]], expectation) for row in outcome.first]


def _named(row: dict[str, Any], expectation: Expectation) -> dict[str, Any]:
    """Return source and value of a failing row."""
    column = expectation.kwargs.get("column")
    value = (
        row.get(column)
        if column
        else {name: row[name] for name in row if name in _columns(expectation, pd.DataFrame())}
    )
    value = _hidden(_plain(value))
    return {"source": row["source"], "value": value[:_LONGEST_VALUE] if isinstance(value, str) else value}


def _hidden(value: Any) -> Any:
    """Return a value without secrets."""
    if isinstance(value, dict):
        return {name: _hidden(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner) for inner in value]
    return screening.hidden(value) if isinstance(value, str) else value


@cache
def _frames() -> Any:
    """Return the library's reader of frames. It is created once, because it makes a temporary folder."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    return (
        context.data_sources.add_pandas("rows")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("whole")
    )


def _validate(frame: pd.DataFrame, wanted: Sequence[tuple[Expectation, Outcome]]) -> None:
    """Validate a portion and add the results to the outcomes."""
    if not wanted:
        return
    batch = _frames().get_batch({"dataframe": frame})
    is_placed = "source" in frame.columns
    how: dict[str, Any] = {
        "result_format": "SUMMARY",  # counts of all rows, but only the first failing rows
        "partial_unexpected_count": KEPT_ROWS,
        "return_unexpected_index_query": False,
    }
    if is_placed:
        how["unexpected_index_column_names"] = ["source"]
    # The library returns results in its own order. This number says to which expectation a result belongs.
    numbered = [_build(expectation, {"number": number}) for number, (expectation, _) in enumerate(wanted)]
    for found in batch.validate(gx.ExpectationSuite(name="all", expectations=numbered), result_format=how).results:
        assert found.expectation_config is not None
        expectation, outcome = wanted[found.expectation_config.meta["number"]]
        result = _plain(found.to_json_dict()["result"])
        outcome.success = outcome.success and bool(found.success)
        outcome.observed = _hidden(result.get("observed_value", outcome.observed))
        outcome.rows += result.get("element_count", 0) - result.get("missing_count", 0)
        outcome.unexpected += result.get("unexpected_count", 0)
        for row in (result.get("partial_unexpected_index_list") or [])[: KEPT_ROWS - len(outcome.first)]:
            outcome.first.append(_named(row, expectation) if is_placed else {"source": row, "value": None})
        if not found.success and not result:
            outcome.message = _why(found.exception_info, frame)


def _why(exception_info: dict[str, Any], frame: pd.DataFrame) -> str:
    """Return why an expectation could not be validated, without the library's traceback."""
    infos = [info for info in exception_info.values() if isinstance(info, dict)] or [exception_info]
    reasons = (str(info["exception_message"]) for info in infos if info.get("exception_message"))
    reason = next(reasons, "cannot be validated")
    return f"{reason.splitlines()[0].removeprefix('Error: ')} Columns: {', '.join(map(str, frame.columns))}."
