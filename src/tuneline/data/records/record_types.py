"""Types of records, their fields, and one canonical record."""

from typing import Literal, NamedTuple

RecordType = Literal["text", "prompt-completion", "messages", "preference", "classification", "regression"]

FIELDS: dict[RecordType, tuple[str, ...]] = {
    "text": ("text",),
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages", "tools"),
    "preference": ("prompt", "chosen", "rejected"),
    "classification": ("text", "label"),
    "regression": ("text", "label"),
}
"""Record type -> its fields, all stored as text. `messages` and `tools` are JSON lists; `tools` may be empty. In a
conversational set the fields of a preference are JSON lists of messages. Several labels are a JSON list."""

TYPES_OF_TASK: dict[str, tuple[RecordType, ...]] = {
    "sft": ("prompt-completion", "messages"),
    "language-modeling": ("text",),
    "classification": ("classification",),
    "regression": ("regression",),
    "preference": ("preference",),
}
"""Task of params.yaml -> the record types that it learns from."""


class Record(NamedTuple):
    """One canonical record."""

    file: str
    """Relative to the set."""
    line: int
    offset: int
    values: tuple[str, ...]
    """In the order of FIELDS."""
    group: str | None = None
    """The value of the column that keeps rows together; None where there is no such column."""
    order: str | None = None
    """The value of the column by which the newest rows are held out; None where there is no such column."""
    split: str | None = None
    """train, validation or test where the user's own files say so."""

    @property
    def source(self) -> str:
        """Where the record stands, for a person."""
        return f"{self.file}:{self.line}"
