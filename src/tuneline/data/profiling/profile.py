"""A profile of the rows of a set: what a person asks about them before they are used.

Rows are cleaned as `prepare` cleans them and pass by once, in batches. Labels are counted in all of them; secrets,
scripts, lengths and duplicates in the first rows only where a set is large, and the profile says in how many.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tuneline.data.preparing.long_rows import BYTES_PER_TOKEN
from tuneline.data.preparing.text import cleaning
from tuneline.data.preparing.text.row_keys import plain_texts
from tuneline.data.profiling.repeated import Repeated
from tuneline.data.profiling.row_lengths import Lengths
from tuneline.data.profiling.scripts import ScriptCounts
from tuneline.data.records import field_texts, label_codec, labels
from tuneline.data.records.record_form import Record, RecordForm
from tuneline.data.secrets import screening

CHARACTERS = 200_000_000
"""Characters of the first rows that are looked at for more than labels."""

_PLACES = 3
_MOST_LABELS = 100_000


class Settings(NamedTuple):
    """What the rows are measured by."""

    near_duplicates: float | None = 0.7
    """Jaccard similarity from which two rows are one; None: only exact duplicates are looked for."""
    max_length: int | None = None
    """Tokens that a model sees of a row; None where that is not known."""
    tokenizer: Path | None = None
    """The tokenizer.json of a base; None: tokens are estimated."""
    bytes_per_token: float = BYTES_PER_TOKEN
    """By which they are."""


class Profile:
    """The rows of one set.

    Args:
        form: of its records.
        settings: what they are measured by.
    """

    def __init__(self, form: RecordForm, settings: Settings) -> None:
        self._form = form
        self._rows = self._looked_at = self._characters = 0
        self._repeated = Repeated(form, settings.near_duplicates)
        self._lengths = Lengths(settings.tokenizer, settings.max_length, settings.bytes_per_token)
        self._scripts = ScriptCounts()
        self._labels: Counter[str] = Counter()
        self._mentions: Counter[str] = Counter()
        self._secrets: dict[str, dict[str, Any]] = {}

    def add(self, records: Sequence[Record], place: str) -> None:
        """Look at some rows.

        Args:
            records: the rows, of one file.
            place: the file, as a person finds it.
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
        self._looked_at += len(records)
        self._characters += sum(len(text) for row in texts for text in row)
        self._scripts.add([text for row in texts for text in row])
        self._repeated.add(records, values, texts)
        self._lengths.add(texts)
        self._screen(records, texts, place)
        if self._form.record_type == "classification":
            self._mentions.update(labels.mentions([row[0] for row in values], [row[1] for row in values], self._form))

    def _screen(self, records: Sequence[Record], texts: Sequence[tuple[str, ...]], place: str) -> None:
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
                kind["places"].append({"row": f"{place}:{records[row].line}", "value": shown})

    def found(self) -> dict[str, Any]:
        """The profile, as docs/inspect.md describes it."""
        profile: dict[str, Any] = {
            "record_type": self._form.record_type,
            "rows": self._rows,
            "looked_at": self._looked_at,
            "duplicates": self._repeated.found(),
            "lengths": self._lengths.found(),
            "scripts": {script: round(share, 4) for script, share in self._scripts.shares().items()},
            "secrets": self._secrets,
        }
        if self._form.record_type == "classification":
            profile["labels"] = dict(self._labels.most_common())
            profile["label_remarks"] = labels.remarks(self._labels, self._mentions) if self._labels else []
        return profile
