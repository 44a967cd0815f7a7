"""Great Expectations on the rows of a set: what always must hold, and what the user's YAML adds.

The YAML names expectations by the library's own types and arguments, a list for each record type:

    prompt-completion:
      - type: expect_column_value_lengths_to_be_between
        kwargs: {column: completion, max_value: 2000}
        severity: warning
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import great_expectations as gx
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions.exceptions import ExpectationNotFoundError
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.registry import get_expectation_impl, list_registered_expectation_implementations
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from tuneline.data.records import FIELDS, RecordType
from tuneline.errors import DataError

CHUNK = 100_000
"""Rows that are checked at once."""

_SEVERITIES = {"error": FailureSeverity.CRITICAL, "warning": FailureSeverity.WARNING}
# Judged a row at a time by their class, but a row passes or fails by the other rows of the set.
_OF_THE_WHOLE = {
    "expect_column_values_to_be_unique",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing",
}
_KEPT_ROWS = 100
_NAMED_ROWS = 5
_VALUE = 80


class Expectation(NamedTuple):
    """One expectation, by the library's type and arguments."""

    type: str
    kwargs: dict[str, Any]
    severity: Literal["error", "warning"] = "error"


@dataclass
class Outcome:
    """What an expectation found."""

    type: str
    kwargs: dict[str, Any]
    severity: str
    success: bool = True
    rows: int = 0
    """Rows looked at, where the expectation is one on rows."""
    unexpected: int = 0
    observed: Any = None
    message: str = ""
    """Why it could not be judged."""
    first: list[dict[str, Any]] = field(default_factory=list)
    """The first rows that fail it: source and value."""

    def describe(self, where: str) -> list[str]:
        """The failure, for a person: the expectation, the count, the first rows."""
        arguments = ", ".join(f"{name} {value!r}" for name, value in self.kwargs.items())
        if self.message:
            said = self.message
        elif self.unexpected:
            said = f"{self.unexpected:,} of {self.rows:,} rows fail it"
        else:
            said = f"found {self.observed!r}"
        lines = [f"{where}: {self.type} ({arguments}): {said}"]
        for row in self.first[:_NAMED_ROWS]:
            value = repr(row["value"])
            lines.append(f"  {row['source']}: {value if len(value) <= _VALUE else value[:_VALUE] + '…'}")
        return lines


def always(record_type: RecordType, *, is_clean: bool) -> list[Expectation]:
    """What must hold of every set of a record type: an empty frame and one of nulls pass all other expectations.

    Args:
        record_type: of the rows.
        is_clean: whether the rows are the clean ones, which also have id, cluster and split.

    Returns:
        The expectations.
    """
    columns = ["source", *FIELDS[record_type], *(["id", "cluster", "split"] if is_clean else [])]
    expected = [Expectation("expect_table_row_count_to_be_between", {"min_value": 1})]
    expected += [Expectation("expect_column_to_exist", {"column": column}) for column in columns]
    expected += [Expectation("expect_column_values_to_not_be_null", {"column": column}) for column in columns]
    expected += [
        Expectation("expect_column_values_to_match_regex", {"column": column, "regex": r"\S"})
        for column in FIELDS[record_type]
    ]
    if is_clean:
        expected.append(Expectation("expect_column_values_to_be_unique", {"column": "id"}))
        expected.append(
            Expectation("expect_column_values_to_be_in_set", {"column": "splits_of_cluster", "value_set": [1]})
        )
    return expected


def load(path: Path, record_type: RecordType) -> list[Expectation]:
    """The user's expectations on a record type.

    Args:
        path: a YAML file, a list for each record type.
        record_type: whose list to take.

    Returns:
        The expectations, in the order of the file; none where the file or the list is missing.

    Raises:
        DataError: all that is wrong with the file, each with its line.
    """
    if not path.exists():
        return []
    try:
        document = YAML(typ="rt").load(path.read_text("utf-8")) or CommentedMap()
    except (YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, CommentedMap) or not all(
        isinstance(entries, list | None) for entries in document.values()
    ):
        raise DataError(f"{path}: must be a mapping of {', '.join(FIELDS)} to lists of expectations")
    problems: list[str] = []
    expected: list[Expectation] = []
    for name, entries in document.items():
        if name not in FIELDS:
            problems.append(
                f"{path}:{document.lc.key(name)[0] + 1}: {name}: no record type; known: {', '.join(FIELDS)}"
            )
            continue
        for index, entry in enumerate(entries or []):
            try:
                one = _expectation(entry)
            except ValueError as error:
                problems.append(f"{path}:{entries.lc.item(index)[0] + 1}: {error}")
                continue
            if name == record_type:
                expected.append(one)
    if problems:
        raise DataError(*problems)
    return expected


def _expectation(entry: Any) -> Expectation:
    """One entry of the YAML, checked against the library; ValueError says what is wrong."""
    if not isinstance(entry, dict) or "type" not in entry or set(entry) - {"type", "kwargs", "severity"}:
        raise ValueError("an expectation has a type, and may have kwargs and a severity, nothing else")
    kind, severity = str(entry["type"]), entry.get("severity", "error")
    if severity not in _SEVERITIES:
        raise ValueError(f"{kind}: severity {severity!r}: must be error or warning")
    one = Expectation(kind, _plain(entry.get("kwargs") or {}), severity)
    try:
        _build(one)
    except ExpectationNotFoundError:
        close = difflib.get_close_matches(kind, list_registered_expectation_implementations(), n=1)
        hint = f"did you mean {close[0]}?" if close else "Great Expectations' gallery lists all of them"
        raise ValueError(f"{kind}: no such expectation; {hint}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{kind}: {' '.join(str(error).split())}") from None
    return one


def _plain(value: Any) -> Any:
    """Values of YAML or of a result as plain ones."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # which JSON cannot write
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def _build(one: Expectation, meta: dict[str, Any] | None = None) -> Any:
    return get_expectation_impl(one.type)(**one.kwargs, severity=_SEVERITIES[one.severity], meta=meta)


def check(frames: Iterable[pd.DataFrame], expected: Sequence[Expectation]) -> list[Outcome]:
    """Judge all rows of a set.

    Args:
        frames: the set in portions, each with a column `source`.
        expected: what must hold.

    Returns:
        An outcome for each expectation, in their order; the same rows give the same outcomes.
    """
    parts = list(frames)
    is_by_row = [_is_by_row(one) or len(parts) == 1 for one in expected]
    outcomes = [Outcome(one.type, one.kwargs, one.severity) for one in expected]
    for part in parts:
        _judge(part, [(one, out) for one, out, by_row in zip(expected, outcomes, is_by_row, strict=True) if by_row])
    if not all(is_by_row):
        whole = pd.concat(parts, ignore_index=True)
        _judge(
            whole, [(one, out) for one, out, by_row in zip(expected, outcomes, is_by_row, strict=True) if not by_row]
        )
    for outcome in outcomes:
        if outcome.rows and not outcome.message:
            mostly = outcome.kwargs.get("mostly", 1.0)
            outcome.success = outcome.rows - outcome.unexpected >= mostly * outcome.rows
    return outcomes


def _is_by_row(one: Expectation) -> bool:
    return issubclass(get_expectation_impl(one.type), ColumnMapExpectation) and one.type not in _OF_THE_WHOLE


def _judge(frame: pd.DataFrame, wanted: Sequence[tuple[Expectation, Outcome]]) -> None:
    """Judge one portion and add what was found to the outcomes."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    how = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": ["source"],
        "partial_unexpected_count": 0,
        "return_unexpected_index_query": False,
    }
    # A result tells by this number which expectation it answers: the library gives them in an order of its own.
    numbered = [_build(one, {"number": number}) for number, (one, _) in enumerate(wanted)]
    for found in batch.validate(gx.ExpectationSuite(name="all", expectations=numbered), result_format=how).results:
        assert found.expectation_config is not None
        one, outcome = wanted[found.expectation_config.meta["number"]]
        result = _plain(found.to_json_dict()["result"])
        outcome.success = outcome.success and bool(found.success)
        outcome.observed = result.get("observed_value", outcome.observed)
        outcome.rows += result.get("element_count", 0) - result.get("missing_count", 0)
        outcome.unexpected += result.get("unexpected_count", 0)
        column = one.kwargs.get("column")
        for row in (result.get("unexpected_index_list") or [])[: _KEPT_ROWS - len(outcome.first)]:
            outcome.first.append({"source": row["source"], "value": row.get(column)})
        if not found.success and not result:
            outcome.message = _why(found.exception_info, frame)


def _why(exception_info: dict[str, Any], frame: pd.DataFrame) -> str:
    """Why an expectation could not be judged, without the library's traceback."""
    infos = [info for info in exception_info.values() if isinstance(info, dict)] or [exception_info]
    said = next((str(info["exception_message"]) for info in infos if info.get("exception_message")), "cannot be judged")
    return f"{said.splitlines()[0].removeprefix('Error: ')} Columns: {', '.join(map(str, frame.columns))}."
