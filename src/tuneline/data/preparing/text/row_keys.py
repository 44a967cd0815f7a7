"""The numbers of cleaned rows, by which all later steps compare them: whole blocks of rows at once."""

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
"""What is kept of a row in memory. key: of all that makes it what it is; bare: of that without the punctuation and the
blanks of a short row; whole, answer: of its normalised text, and of
the last of its fields (or its label); tokens: of the whole, and of the last of several
fields; characters: of the whole; given: index of SPLITS, or -1."""

SHORT = 200
"""Characters of a row to which punctuation and blanks make no difference; of longer ones near duplicates are found."""

_KEPT_GROUPS = 100_000
_LONGEST_GROUP = 200
# Tools, and what is to be learnt, make another row of the same text.
_OF_MORE_THAN_TEXT = ("messages", "classification", "regression")


def same_by(rows: np.ndarray) -> list[np.ndarray]:
    """What is equal of rows that are one: of short rows punctuation and blanks make no difference.

    Args:
        rows: [rows] of ROW.

    Returns:
        Arrays of [rows], all equal where rows are the same.
    """
    return [rows["bare"], np.where(rows["characters"] <= SHORT, np.uint64(0), rows["key_high"])]


class Numbered(NamedTuple):
    """A block of rows in numbers."""

    rows: np.ndarray
    """[rows] of ROW."""
    tokens: np.ndarray
    """Hashes of all tokens."""
    bands: np.ndarray
    """[grams.BANDS, rows] or, where near duplicates are not looked for, [0, rows]."""


def plain_texts(form: RecordForm, values: tuple[str, ...]) -> tuple[str, ...]:
    """The texts of a record by which it is compared: what is given first, and what is to be learnt last.

    Args:
        form: of its set.
        values: its fields.

    Returns:
        One or more texts. Of messages: those before the first answer, and the rest. Of rows with a label, the text. Of
        a preference the chosen answer comes last.
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


class Numbering:
    """Numbers the rows of one set; it remembers groups, which come again and again.

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
    ) -> Numbered:
        """The numbers of some rows.

        Args:
            records: the rows.
            values: their cleaned fields.
            columns: their normalised texts, a list for each field; none is empty.
            order: of each, by which the newest are held out.
        """
        single = len(columns) == 1
        wholes = columns[0] if single else list(map(" ".join, zip(*columns, strict=True)))
        numbers = np.zeros(len(records), ROW)
        numbers["characters"] = list(map(len, wholes))
        short = np.flatnonzero(numbers["characters"] <= SHORT).tolist()
        hashes = _hashes(wholes)
        numbers["whole"] = hashes
        bare_wholes = cleaning.bares([wholes[row] for row in short])
        numbers["whole"][short] = _hashes(bare_wholes)
        identities = wholes if single else list(map("\0".join, zip(*columns, strict=True)))
        if self._form.record_type in ("messages", "regression"):
            # Tools, and a number to be learnt, make another row of the same text.
            identities = [f"{key}\0{row[1]}" for key, row in zip(identities, values, strict=True)]
        digests = np.frombuffer(b"".join(map(xxhash.xxh3_128_digest, map(str.encode, identities))), ">u8").reshape(
            -1, 2
        )
        numbers["key_high"], numbers["key_low"] = digests[:, 0], digests[:, 1]
        numbers["bare"] = numbers["key_low"]
        bares = [bare_wholes] if single else [cleaning.bares([column[row] for row in short]) for column in columns]
        more = ["\0".join(values[row][1:]) if self._form.record_type in _OF_MORE_THAN_TEXT else "" for row in short]
        numbers["bare"][short] = _hashes(list(map("\0".join, zip(*bares, more, strict=True))))
        if self._form.labelled:
            numbers["answer"] = _hashes([row[1] for row in values])
        else:
            numbers["answer"] = numbers["whole"] if single else _of_answers(columns[-1])
        numbers["cluster"] = hashes if single else _hashes(columns[0])
        for row, record in enumerate(records):
            if record.group is not None:
                numbers["cluster"][row] = self._group(record.group)
        numbers["order"] = order
        numbers["line"] = [record.line for record in records]
        numbers["given"] = [-1 if record.split is None else _INDEX[record.split] for record in records]
        found, bands = grams.sketch(wholes, near=self._near)
        numbers["tokens"] = np.diff(found.starts)
        if not single:
            # The last field is the end of the whole: its tokens are those that begin there.
            begins = numbers["characters"] - np.array(list(map(len, columns[-1])))
            row = np.repeat(np.arange(len(records)), numbers["tokens"])
            numbers["answer_tokens"] = np.bincount(row[found.codes >= begins[row]], minlength=len(records))
        return Numbered(numbers, found.hashes, bands)

    def _group(self, name: str) -> int:
        found = self._groups.get(name)
        if found is None:
            if len(self._groups) == _KEPT_GROUPS:
                self._groups.clear()
            found = text_hash(cleaning.key(name))
            if len(name) <= _LONGEST_GROUP:
                self._groups[name] = found
        return found


_INDEX: dict[str, int] = {name: index for index, name in enumerate(SPLITS)}


def _of_answers(texts: Sequence[str]) -> np.ndarray:
    """The hashes of answers, as they are compared with whole rows."""
    found = _hashes(texts)
    short = [row for row, text in enumerate(texts) if len(text) <= SHORT]
    found[short] = _hashes(cleaning.bares([texts[row] for row in short]))
    return found


def text_hash(text: str) -> int:
    """Return the hash of a text, below 2**64."""
    return xxhash.xxh3_64_intdigest(text.encode())


def _hashes(texts: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, map(str.encode, texts)), np.uint64, len(texts))
