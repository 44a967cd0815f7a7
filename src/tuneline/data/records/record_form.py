"""The form of a set's records: their type, their fields, and what the fields hold."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tuneline.core import files
from tuneline.errors import DataError

RecordType = Literal["text", "prompt-completion", "messages", "preference", "classification", "regression"]

FIELDS: dict[RecordType, tuple[str, ...]] = {
    "text": ("text",),
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages", "tools"),
    "preference": ("prompt", "chosen", "rejected"),
    "classification": ("text", "label"),
    "regression": ("text", "label"),
}
"""Record type -> its fields, all stored as text. `messages` and `tools` are JSON lists; `tools` may be empty."""

TYPES_OF_TASK: dict[str, tuple[RecordType, ...]] = {
    "sft": ("prompt-completion", "messages"),
    "language-modeling": ("text",),
    "classification": ("classification",),
    "regression": ("regression",),
    "preference": ("preference",),
}
"""Task of params.yaml -> the record types that it learns from."""

OWN_COLUMNS = {
    *("id", "source", "cluster", "fold", "group", "order", "split", "splits_of_cluster"),
    *("damage", "characters", "turns", "answers", "number"),
    *(name for names in FIELDS.values() for name in names),
}
"""Columns that clean splits may have, or that a validation computes. A kept column must not be taken for one."""

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
"""In arrays a split is its index here. Where a group has rows of several splits, the highest index decides."""

DATASET_FILE = "dataset.json"
"""The file in a folder of clean splits that describes them."""
KEPT_COLUMNS = "kept_columns"
"""The key of dataset.json that says which columns were kept beside the fields; missing where none was."""


@dataclass(frozen=True, slots=True)
class RecordForm:
    """The form of a set's records. Mapping decides it, dataset.json stores it, and everything later reads it."""

    record_type: RecordType
    conversational: bool = False
    """Whether the fields are JSON lists of messages: always for `messages`, sometimes for `preference`."""
    multi_label: bool = False
    """Whether each label is a JSON list of labels, as `label_codec` encodes it."""

    def __post_init__(self) -> None:
        """Messages are always conversational."""
        object.__setattr__(self, "conversational", self.conversational or self.record_type == "messages")

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return FIELDS[self.record_type]

    @property
    def labelled(self) -> bool:
        """Whether a record is a text with a label or a number."""
        return self.record_type in ("classification", "regression")

    @property
    def numeric(self) -> bool:
        """Whether the label is a number."""
        return self.record_type == "regression"

    def __str__(self) -> str:
        """The form for a person, such as `classification with several labels`."""
        messages = " of messages" * (self.conversational and self.record_type != "messages")
        return f"{self.record_type}{messages}{' with several labels' * self.multi_label}"

    def as_json(self) -> dict[str, Any]:
        """The keys of the form in dataset.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "RecordForm":
        """The form that dataset.json, or its entry of a mixed set, describes."""
        return cls(described["record_type"], described["conversational"], described["multi_label"])


def kept_names(columns: Sequence[str]) -> dict[str, str]:
    """Column that is kept -> its name in the clean splits: its own, or with `_raw` if OWN_COLUMNS has it.

    Raises:
        DataError: two columns would have the same name.
    """
    names = {column: f"{column}_raw" if column in OWN_COLUMNS else column for column in columns}
    if len(set(names.values())) < len(columns):
        twice = sorted(name for name, count in Counter(names[column] for column in columns).items() if count > 1)
        raise DataError(
            f"data.keep_columns: two of its columns would be {', '.join(twice)} in the clean splits; remove one"
        )
    return names


def read_kept_columns(clean: Path) -> dict[str, str]:
    """Column that `prepare` has kept -> its name in a folder of clean splits.

    Raises:
        UnreadableFileError: dataset.json is missing or cannot be read.
    """
    found = files.read_object(clean / DATASET_FILE).get(KEPT_COLUMNS, {})
    return found if isinstance(found, dict) else {}


def read_form(clean: Path, task: str | None = None) -> RecordForm:
    """The form of the records in a folder of clean splits.

    Args:
        clean: the folder.
        task: the task of params.yaml that needs the records; None: any.

    Raises:
        UnreadableFileError: dataset.json is missing, cannot be read, or lacks a key.
        DataError: the records are of a type that the task does not learn from.
    """
    keys = ("record_type", "conversational", "multi_label")
    form = RecordForm.from_json(files.read_object(clean / DATASET_FILE, *keys))
    if task is not None and form.record_type not in TYPES_OF_TASK[task]:
        raise DataError(
            f"{clean / DATASET_FILE}: the rows are {form.record_type}, which task {task} cannot be trained on; run "
            "`make run`, which prepares the data again"
        )
    return form


class Record(NamedTuple):
    """One canonical record."""

    file: str
    """Relative to the set."""
    line: int
    offset: int
    values: tuple[str, ...]
    """In the order of FIELDS."""
    group: str | None = None
    """The value of the column that keeps rows together; None without such a column."""
    order: str | None = None
    """The value of the column by which the newest rows are held out; None without such a column."""
    split: str | None = None
    """train, validation or test where the user's own files say so."""
    kept: tuple[str, ...] = ()
    """The values of the columns that are kept beside the fields; empty where the row has none."""

    @property
    def source(self) -> str:
        """File and line, for a person."""
        return f"{self.file}:{self.line}"
