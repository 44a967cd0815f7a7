"""What must hold of the rows of a set, and what was found: plain values, which Great Expectations fills.

Beside the fields of a record, the frames that are judged have columns made for it:

    characters   of the texts that a model is shown, in all fields of the row
    turns        messages: how many there are; null where the field is no list of messages
    answers      messages: how many of the assistant's say something or call a tool
    number       regression: the label as a number; null where it is none
    damage       the kinds of damage that the texts of the row show, as `mojibake, direction`; empty where there is none
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tuneline.data.records.record_form import FIELDS, RecordType

KEPT_ROWS = 100
"""Failing rows that are kept of an expectation."""

_NAMED_ROWS = 5
_VALUE = 80
# Fields that a record may leave empty.
_MAY_BE_EMPTY = {("messages", "tools"), ("preference", "prompt")}


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
