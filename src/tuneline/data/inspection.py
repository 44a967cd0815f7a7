"""What a raw set holds, seen as the pipeline would see it; nothing is changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneline.data import records
from tuneline.data.records import RecordType


@dataclass(frozen=True)
class Inspection:
    """A raw set that can be used."""

    record_type: RecordType
    rows: int
    """All rows, those set aside too."""
    rejected: list[str]
    """file:line: reason: detail, of every row that would be set aside."""
    columns: dict[str, list[str]]
    """File -> its columns."""
    formats: dict[str, str]
    """File -> jsonl, csv, tsv or text."""


def inspect(path: Path, encoding: str, columns: Mapping[str, str]) -> Inspection:
    """Read a file or a folder as the pipeline would.

    Args:
        path: what to look at.
        encoding: of the files, by Python's name.
        columns: field of the record -> column of the files; empty where known names are to be recognised.

    Returns:
        What it holds.

    Raises:
        DataError: it cannot be used, with the remedy.
    """
    found = records.read(path, encoding=encoding, columns=columns)
    records.check_rejected(found, 1.0)
    rejected = [row.describe() for row in found.rejected]
    return Inspection(found.record_type, found.rows, rejected, found.columns, found.formats)
