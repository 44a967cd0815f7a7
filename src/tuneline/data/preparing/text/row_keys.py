"""The keys of cleaned rows: hashes of their texts, their tokens and their sketches. All later steps compare these.

Keys are made for a block of rows at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson
import xxhash

from tuneline.data.preparing.text import cleaning, grams
from tuneline.data.records import field_texts
from tuneline.data.records.record_form import SPLITS, Record, RecordForm

ROW = np.dtype(
    [
        ("key_high", "u8"),
        ("key_low", "u8"),
        ("bare", "u8"),
        ("whole", "u8"),
        ("answer", "u8"),
        ("cluster", "u8"),
        ("order", "f8"),
        ("line", "i8"),
        ("tokens", "i4"),
        ("answer_tokens", "i4"),
        ("characters", "i4"),
        ("given", "i1"),
    ]
)
"""The keys of a row that stay in memory.

key_high, key_low: hash of everything that distinguishes the row; bare: the same without punctuation and spaces, if the
row is short; whole: hash of the row's normalised text; answer: hash of its last field or label; cluster: hash of its
group; tokens, characters: length of the whole text; answer_tokens: length of the last of several fields; given: index
of the split that the user's file says, or -1.
"""

SHORT = 200
"""Characters of a row up to which punctuation and spaces do not distinguish it. Longer rows can be near duplicates."""

_KEPT_GROUPS = 100_000
_LONGEST_GROUP = 200
# Rows with the same text differ if their tools or labels differ.
_MORE_THAN_TEXT = ("messages", "classification", "regression")


class KeyedRows(NamedTuple):
    """The keys of a block of rows."""

    rows: np.ndarray
    """[rows] of ROW."""
    tokens: np.ndarray
    """Hashes of the tokens of all rows."""
    bands: np.ndarray
    """[grams.BANDS, rows], or [0, rows] without sketches."""


def equal_keys(rows: np.ndarray) -> list[np.ndarray]:
    """Return arrays of [rows] whose values are all equal for duplicates.

    Args:
        rows: [rows] of ROW.
    """
    return [rows["bare"], np.where(rows["characters"] <= SHORT, np.uint64(0), rows["key_high"])]


def plain_texts(form: RecordForm, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts by which a record is compared: first what is given, last what is to be learned.

    Args:
        form: of the set.
        values: the record's fields.

    Returns:
        One or more texts. Messages have two: the messages before the first answer, and the rest. A row with a label has
        its text. A preference has the chosen answer last.
    """
    if form.record_type == "messages":
        messages = orjson.loads(values[0])
        turn = next((i for i, message in enumerate(messages) if message["role"] == "assistant"), len(messages))
        halves = (orjson.dumps(half).decode() for half in (messages[:turn], messages[turn:]))
        return tuple(field_texts.texts(form, (half, ""))[0] for half in halves)
    if form.labelled:
        return values[:1]
    texts = field_texts.texts(form, values)
    return (texts[0], texts[2], texts[1]) if form.record_type == "preference" else texts


class KeyMaker:
    """Makes the keys of a set's rows. It remembers the hashes of groups, because groups recur.

    Args:
        form: of the set.
        near: whether sketches for near duplicates are made.
    """

    def __init__(self, form: RecordForm, *, near: bool) -> None:
        self._form = form
        self._near = near
        self._groups: dict[str, int] = {}

    def __call__(
        self,
        records: Sequence[Record],
        values: Sequence[tuple[str, ...]],
        columns: Sequence[Sequence[str]],
        order: Sequence[float],
    ) -> KeyedRows:
        """Return the keys of some rows.

        Args:
            records: the rows.
            values: their cleaned fields.
            columns: their normalised texts, a list for each field. No text is empty.
            order: [rows] value by which the newest rows are held out.
        """
        single = len(columns) == 1
        wholes = columns[0] if single else list(map(" ".join, zip(*columns, strict=True)))
        keys = np.zeros(len(records), ROW)
        keys["characters"] = list(map(len, wholes))
        short = np.flatnonzero(keys["characters"] <= SHORT).tolist()
        hashes = _hashes(wholes)
        keys["whole"] = hashes
        bare_wholes = cleaning.bares([wholes[row] for row in short])
        keys["whole"][short] = _hashes(bare_wholes)
        identities = wholes if single else list(map("\0".join, zip(*columns, strict=True)))
        if self._form.record_type in ("messages", "regression"):
            identities = [f"{key}\0{row[1]}" for key, row in zip(identities, values, strict=True)]
        digests = b"".join(map(xxhash.xxh3_128_digest, map(str.encode, identities)))
        keys["key_high"], keys["key_low"] = np.frombuffer(digests, ">u8").reshape(-1, 2).T
        keys["bare"] = keys["key_low"]
        bares = [bare_wholes] if single else [cleaning.bares([column[row] for row in short]) for column in columns]
        more = ["\0".join(values[row][1:]) if self._form.record_type in _MORE_THAN_TEXT else "" for row in short]
        keys["bare"][short] = _hashes(list(map("\0".join, zip(*bares, more, strict=True))))
        if self._form.labelled:
            keys["answer"] = _hashes([row[1] for row in values])
        else:
            keys["answer"] = keys["whole"] if single else _hashes_of_answers(columns[-1])
        keys["cluster"] = hashes if single else _hashes(columns[0])
        for row, record in enumerate(records):
            if record.group is not None:
                keys["cluster"][row] = self._hash_of_group(record.group)
        keys["order"] = order
        keys["line"] = [record.line for record in records]
        keys["given"] = [-1 if record.split is None else _INDEX[record.split] for record in records]
        tokens, bands = grams.sketch(wholes, near=self._near)
        keys["tokens"] = np.diff(tokens.starts)
        if not single:
            # The last field is the end of the whole text. Its tokens are those that begin there.
            begins = keys["characters"] - np.array(list(map(len, columns[-1])))
            row = np.repeat(np.arange(len(records)), keys["tokens"])
            keys["answer_tokens"] = np.bincount(row[tokens.codes >= begins[row]], minlength=len(records))
        return KeyedRows(keys, tokens.hashes, bands)

    def _hash_of_group(self, name: str) -> int:
        found = self._groups.get(name)
        if found is None:
            if len(self._groups) == _KEPT_GROUPS:
                self._groups.clear()
            found = text_hash(cleaning.key(name))
            if len(name) <= _LONGEST_GROUP:
                self._groups[name] = found
        return found


_INDEX: dict[str, int] = {name: index for index, name in enumerate(SPLITS)}


def text_hash(text: str) -> int:
    """Return the hash of a text, below 2**64."""
    return xxhash.xxh3_64_intdigest(text.encode())


def _hashes_of_answers(texts: Sequence[str]) -> np.ndarray:
    """Return the hashes of answers, made like those of whole texts."""
    found = _hashes(texts)
    short = [row for row, text in enumerate(texts) if len(text) <= SHORT]
    found[short] = _hashes(cleaning.bares([texts[row] for row in short]))
    return found


def _hashes(texts: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, map(str.encode, texts)), np.uint64, len(texts))
