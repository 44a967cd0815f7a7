"""Profile the rows of a set before it is prepared: duplicates, lengths, scripts, secrets and labels.

The rows are cleaned as `prepare` cleans them, and read once in batches. Labels are counted in all rows; the rest of the
profile covers only the first rows of a large set, and contains their number.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tuneline.data.preparing.long_rows import BYTES_PER_TOKEN
from tuneline.data.preparing.text import cleaning
from tuneline.data.preparing.text.row_keys import plain_texts
from tuneline.data.profiling.repeated import Repeated
from tuneline.data.records import field_texts, label_codec, labels
from tuneline.data.records.record_form import Record, RecordForm
from tuneline.data.secrets import screening

TOKENIZED_CHARACTERS = 10_000_000
"""The tokenizer counts the tokens of at most this many characters."""

_COVERED = 0.99
_WIDTHS = ("FULLWIDTH", "HALFWIDTH")
_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}
_LATIN = "Latin"
CHARACTERS = 200_000_000
"""Only rows within this many characters are profiled for more than labels."""

_PLACES = 3
_MOST_LABELS = 100_000


class Settings(NamedTuple):
    """The settings of a profile."""

    near_duplicates: float | None = 0.7
    """The Jaccard similarity of near duplicates; None: only exact duplicates are found."""
    max_length: int | None = None
    """The largest number of tokens of a row in training; None if unknown."""
    tokenizer: Path | None = None
    """The tokenizer.json of a base; None: tokens are estimated."""
    bytes_per_token: float = BYTES_PER_TOKEN
    """Bytes of UTF-8 per token, for the estimate."""


class Profile:
    """The profile of the rows of one set.

    Args:
        form: the form of the records.
        settings: the settings of the profile.
    """

    def __init__(self, form: RecordForm, settings: Settings) -> None:
        self._form = form
        self._rows = self._profiled = self._characters = 0
        self._repeated = Repeated(form, settings.near_duplicates)
        self._lengths = Lengths(settings.tokenizer, settings.max_length, settings.bytes_per_token)
        self._scripts = ScriptCounts()
        self._labels: Counter[str] = Counter()
        self._mentions: Counter[str] = Counter()
        self._secrets: dict[str, dict[str, Any]] = {}

    def add(self, records: Sequence[Record], path: str) -> None:
        """Add rows to the profile.

        Args:
            records: rows of one file.
            path: the path of the file in the profile.
        """
        if not records:
            return
        self._rows += len(records)
        if self._form.record_type == "classification" and len(self._labels) < _MOST_LABELS:
            self._labels.update(
                name
                for record in records
                for name in label_codec.decode(record.values[1], multi_label=self._form.multi_label)
            )
        if self._characters >= CHARACTERS:
            return
        values = [field_texts.map_texts(self._form, record.values, cleaning.clean) for record in records]
        texts = [plain_texts(self._form, row) for row in values]
        self._profiled += len(records)
        self._characters += sum(len(text) for row in texts for text in row)
        self._scripts.add([text for row in texts for text in row])
        self._repeated.add(records, values, texts)
        self._lengths.add(texts)
        self._screen(records, texts, path)
        if self._form.record_type == "classification":
            self._mentions.update(labels.mentions([row[0] for row in values], [row[1] for row in values], self._form))

    def _screen(self, records: Sequence[Record], texts: Sequence[tuple[str, ...]], path: str) -> None:
        width = len(texts[0])
        seen: set[tuple[int, str]] = set()
        for found in screening.screen([text for row in texts for text in row]):
            kind = self._secrets.setdefault(found.kind, {"rows": 0, "count": 0, "places": []})
            row = found.row // width
            kind["count"] += found.count
            kind["rows"] += (row, found.kind) not in seen
            seen.add((row, found.kind))
            if len(kind["places"]) < _PLACES:
                shown = screening.shown(texts[row][found.row % width], found.kind)
                kind["places"].append({"row": f"{path}:{records[row].line}", "value": shown})

    def as_json(self) -> dict[str, Any]:
        """The profile as JSON, described in docs/inspect.md."""
        profile: dict[str, Any] = {
            "record_type": self._form.record_type,
            "rows": self._rows,
            "looked_at": self._profiled,
            "duplicates": self._repeated.as_json(),
            "lengths": self._lengths.as_json(),
            "scripts": {script: round(share, 4) for script, share in self._scripts.shares().items()},
            "secrets": self._secrets,
        }
        if self._form.record_type == "classification":
            profile["labels"] = dict(self._labels.most_common())
            profile["label_remarks"] = (
                labels.warnings_before_split(self._labels, self._mentions) if self._labels else []
            )
        return profile


class Lengths:
    """Counts the tokens of rows.

    Args:
        tokenizer: the tokenizer.json of a base; None: the tokens are estimated from bytes.
        max_length: the largest number of tokens of a row in training; None if unknown.
        bytes_per_token: for the estimate.
    """

    def __init__(self, tokenizer: Path | None, max_length: int | None, bytes_per_token: float) -> None:
        self._file, self._max_length, self._bytes_per_token = tokenizer, max_length, bytes_per_token
        self._tokenizer: Any = None
        self._lengths: list[np.ndarray] = []
        self._characters = 0
        self._is_full = False

    def add(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Add rows.

        Args:
            rows: the texts of each row.
        """
        if self._is_full:
            return
        if self._file is None:
            sizes = [sum(len(text.encode("utf-8", "surrogatepass")) for text in row) for row in rows]
            self._lengths.append(np.ceil(np.array(sizes) / self._bytes_per_token).astype(np.int64))
            return
        width = max(map(len, rows), default=0)
        texts = [text for row in rows for text in (*row, *[""] * (width - len(row)))]
        tokens = np.array([len(ids) for ids in self._loaded().encode_batch_fast(texts, add_special_tokens=False)])
        self._lengths.append(tokens.reshape(len(rows), width).sum(axis=1))
        self._characters += sum(map(len, texts))
        self._is_full = self._characters >= TOKENIZED_CHARACTERS

    def _loaded(self) -> Any:
        if self._tokenizer is None:
            # The import takes a moment, and a project without a base does not need it.
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(self._file))
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        return self._tokenizer

    def values(self) -> np.ndarray:
        """int64, the tokens of each row."""
        return np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int64)

    def as_json(self) -> dict[str, Any] | None:
        """Quantiles of the lengths, as JSON; None without rows."""
        lengths = self.values()
        if not len(lengths):
            return None
        median, ninety, covered = np.quantile(lengths, (0.5, 0.9, _COVERED), method="higher").tolist()
        over = None if self._max_length is None else float(np.mean(lengths > self._max_length))
        return {
            "unit": "tokens",
            "tokenizer": None if self._file is None else self._file.parent.as_posix(),
            "bytes_per_token": None if self._file is not None else self._bytes_per_token,
            "rows": len(lengths),
            "median": median,
            "quantile_90": ninety,
            "quantile_99": covered,
            "longest": int(lengths.max()),
            "max_length": self._max_length,
            "over_max_length": over,
        }


class ScriptCounts:
    """Counts the letters of each script."""

    def __init__(self) -> None:
        self._letters: Counter[str] = Counter()

    def add(self, texts: Sequence[str]) -> None:
        """Count the letters of texts."""
        ascii_letters = 0
        wide: list[str] = []
        for text in texts:
            if text.isascii():
                ascii_letters += _ascii_letters(text.encode())
            else:
                wide.append(text)
        if ascii_letters:
            self._letters[_LATIN] += ascii_letters
        if wide:
            codes = np.frombuffer("".join(wide).encode("utf-32-le", "surrogatepass"), np.uint32)
            found, counts = np.unique(codes, return_counts=True)
            for code, count in zip(found.tolist(), counts.tolist(), strict=True):
                if script := _script(code):
                    self._letters[script] += count

    def shares(self) -> dict[str, float]:
        """Script -> share of all letters; the most frequent script first."""
        total = self._letters.total()
        return {script: count / total for script, count in self._letters.most_common()} if total else {}


_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())


def _ascii_letters(text: bytes) -> int:
    return len(text.translate(None, _NO_LETTERS))


@cache
def _script(code: int) -> str:
    """The script of a letter, from the first word of its Unicode name; empty for other characters."""
    char = chr(code)
    if not char.isalpha():
        return ""
    words = unicodedata.name(char, "").split()
    word = next((word for word in words if word not in _WIDTHS), "")
    return _NAMES.get(word, word.capitalize())
