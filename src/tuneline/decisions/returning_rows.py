"""Recognises rows that were erased when they come back, without keeping their texts.

mlflow/erased.json holds a random key, and of each erased row the HMACs of its longer texts. The file stays on this
machine: git ignores it, only its owner can read it, and it is part of no version. Who has it can test a guess. So a row
is kept only if its texts are too long to be guessed, and none of its other values, such as a name or a number.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.data.preparing.text import cleaning
from tuneline.data.removing import found_rows
from tuneline.errors import UnreadableFileError

FILE = Path("mlflow/erased.json")
"""The key and the HMACs."""
_LEAST_TEXT = 16
"""Characters of a text by which a row is recognised."""
_LEAST = 32
"""Characters of these texts together: shorter ones can be guessed, and other people write them too."""


class ErasedRows:
    """The rows that were erased here, as far as they can be recognised.

    Args:
        key: of the HMACs.
        rows: the HMACs of each row -> the day on which it was erased.
    """

    def __init__(self, key: bytes, rows: Mapping[frozenset[str], str]) -> None:
        self._key = key
        self._rows: dict[str, list[tuple[frozenset[str], str]]] = {}
        for marks, day in rows.items():
            self._rows.setdefault(min(marks), []).append((marks, day))

    def day(self, row: Mapping[str, Any]) -> str | None:
        """When a row was erased; None if it was not."""
        marks = _marks(self._key, texts_of(row))
        days = [day for one in marks for needed, day in self._rows.get(one, []) if needed <= marks]
        return max(days, default=None)

    def means(self, row: Mapping[str, Any]) -> bool:
        """Whether a row was erased."""
        return self.day(row) is not None

    def means_text(self, text: str) -> bool:
        """Whether a row of plain text was made from an erased row: that is not known."""
        return False


def texts_of(row: Mapping[str, Any]) -> frozenset[str]:
    """The longer texts of a row; case, spaces and the form of characters make no difference."""
    found = (cleaning.key(text) for text in found_rows.texts_of(dict(row)))
    return frozenset(text for text in found if len(text) >= _LEAST_TEXT)


def recognisable(rows: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]]) -> set[frozenset[str]]:
    """The texts by which rows can be recognised; a row is left out if they are too short or another row has them too.

    Args:
        rows: that are erased.
        others: that stay.
    """
    found = {texts for row in rows if sum(map(len, texts := texts_of(row))) >= _LEAST}
    by_one: dict[str, list[frozenset[str]]] = {}
    for texts in found:
        by_one.setdefault(min(texts), []).append(texts)
    for row in others if found else ():
        present = texts_of(row)
        found -= {texts for one in present for texts in by_one.get(one, []) if texts <= present}
    return found


def known_key() -> str:
    """The key of this project as hexadecimal digits; a new one if no row was erased yet.

    Raises:
        UnreadableFileError: the file is damaged.
    """
    return _content()["key"] if FILE.is_file() else secrets.token_hex(32)


def marks(key: str, texts: Iterable[Iterable[str]]) -> list[list[str]]:
    """The HMACs of the texts of each row.

    Args:
        key: as hexadecimal digits.
        texts: of each row, from `recognisable`.
    """
    return sorted(sorted(_marks(bytes.fromhex(key), of_row)) for of_row in texts)


def remember(key: str, rows: Sequence[Sequence[str]], day: str) -> None:
    """Add rows to those that are recognised; it is not an error if they are known.

    Args:
        key: from `known_key`.
        rows: from `marks`.
        day: on which they were erased, as YYYY-MM-DD.

    Raises:
        UnreadableFileError: the file is damaged.
    """
    content = _content() if FILE.is_file() else {"key": key, "erased": []}
    known = {tuple(one) for entry in content["erased"] for one in entry["rows"]}
    new = [list(one) for one in rows if tuple(one) not in known]
    if not new:
        return
    content["erased"].append({"on": day, "rows": new})
    with files.atomic_file(FILE) as temporary:
        temporary.chmod(0o600)
        temporary.write_text(json.dumps(content), "utf-8")


def read() -> ErasedRows | None:
    """The rows that were erased here; None if none was.

    Raises:
        UnreadableFileError: the file is damaged.
    """
    if not FILE.is_file():
        return None
    content = _content()
    rows = {frozenset(one): entry["on"] for entry in content["erased"] for one in entry["rows"] if one}
    return ErasedRows(bytes.fromhex(content["key"]), rows)


def _content() -> dict[str, Any]:
    try:
        content = files.read_json(FILE)
        bytes.fromhex(content["key"])
        assert all(isinstance(entry["on"], str) and entry["rows"] is not None for entry in content["erased"])
    except (UnreadableFileError, LookupError, TypeError, ValueError, AssertionError):
        raise UnreadableFileError(
            f"{FILE}: is damaged, so rows that `tuneline forget` has erased cannot be recognised; put it back from a "
            "backup, or delete it: then rows that come back are taken in"
        ) from None
    return content


def _marks(key: bytes, texts: Iterable[str]) -> frozenset[str]:
    return frozenset(hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex() for text in texts)
