"""Expectations and their outcomes as plain values, and the expectations that every set must meet.

Besides the fields of a record, the frames that are validated have computed columns:

    characters   number of characters of the texts that a model sees, in all fields of the row
    turns        messages: number of messages; null if the field is not a list of messages
    answers      messages: number of the assistant's messages that have text or call a tool
    number       regression: the label as a number; null if it is not a number
    damage       kinds of damage that the texts of the row show, such as `mojibake, direction`; empty without damage
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tuneline.data.records.record_form import FIELDS, RecordType

KEPT_ROWS = 100
"""Failing rows that are kept per expectation."""

_NAMED_ROWS = 5
_VALUE = 80
# Fields that may be empty.
_MAY_BE_EMPTY = {("messages", "tools"), ("preference", "prompt")}


class Expectation(NamedTuple):
    """An expectation: type and arguments of the library."""

    type: str
    kwargs: dict[str, Any]
    severity: Literal["error", "warning"] = "error"


@dataclass
class Outcome:
    """The outcome of an expectation."""

    type: str
    kwargs: dict[str, Any]
    severity: str
    success: bool = True
    rows: int = 0
    """Rows that were validated; 0 if the expectation is not about rows."""
    unexpected: int = 0
    observed: Any = None
    message: str = ""
    """Why it could not be validated."""
    first: list[dict[str, Any]] = field(default_factory=list)
    """The first failing rows: source and value."""

    def describe(self, where: str) -> list[str]:
        """Return the lines of a message about a failure: the expectation, the count, the first rows."""
        arguments = ", ".join(f"{name} {value!r}" for name, value in self.kwargs.items())
        if self.message:
            reason = self.message
        elif self.unexpected:
            reason = f"{self.unexpected:,} of {self.rows:,} rows fail it"
        else:
            reason = f"found {self.observed!r}"
        lines = [f"{where}: {self.type} ({arguments}): {reason}"]
        for row in self.first[:_NAMED_ROWS]:
            value = repr(row["value"])
            lines.append(f"  {row['source']}: {value if len(value) <= _VALUE else value[:_VALUE] + '…'}")
        return lines


def required_expectations(record_type: RecordType, *, is_clean: bool) -> list[Expectation]:
    """Return what every set of a record type must meet: empty frames and nulls pass all other expectations.

    Args:
        record_type: of the rows.
        is_clean: whether the rows are clean rows, which also have id, cluster and split.
    """
    fields = FIELDS[record_type]
    columns = ["source", *fields, *(["id", "cluster", "split"] if is_clean else [])]
    expected = [Expectation("expect_table_row_count_to_be_between", {"min_value": 1})]
    expected += [Expectation("expect_column_to_exist", {"column": column}) for column in columns]
    expected += [_not_null(column) for column in columns]
    expected += [
        Expectation("expect_column_values_to_match_regex", {"column": column, "regex": r"\S"})
        for column in fields
        if (record_type, column) not in _MAY_BE_EMPTY
    ]
    expected += _OF_TYPE.get(record_type, [])
    if is_clean:
        expected.append(Expectation("expect_column_values_to_be_unique", {"column": "id"}))
        expected.append(
            Expectation("expect_column_values_to_be_in_set", {"column": "splits_of_cluster", "value_set": [1]})
        )
    return expected


def _not_null(column: str) -> Expectation:
    return Expectation("expect_column_values_to_not_be_null", {"column": column})


_OF_TYPE: dict[RecordType, list[Expectation]] = {
    "messages": [
        _not_null("turns"),
        Expectation("expect_column_values_to_be_between", {"column": "answers", "min_value": 1}),
    ],
    "preference": [
        Expectation("expect_select_column_values_to_be_unique_within_record", {"column_list": ["chosen", "rejected"]})
    ],
    "classification": [
        Expectation("expect_column_unique_value_count_to_be_between", {"column": "label", "min_value": 2})
    ],
    "regression": [_not_null("number")],
}
