"""The first pass: reads a portion of a raw set, cleans its rows, and writes them with their keys.

The rows are written in parts of some megabytes. Where a part begins depends on the data alone, never on the number of
processes.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import orjson

from tuneline.data.mapping import raw_set
from tuneline.data.mapping.convert import Shape
from tuneline.data.preparing import store
from tuneline.data.preparing.text import cleaning
from tuneline.data.preparing.text.row_keys import KeyedRows, KeyMaker, plain_texts
from tuneline.data.reading.guards import damage
from tuneline.data.reading.raw_rows import Portion, Rejected, excerpt
from tuneline.data.records import field_texts, labels
from tuneline.data.records.record_form import Record
from tuneline.data.secrets import screening

OrderType = Literal["number", "date"]

PART = 8_000_000
"""Characters of a part."""

_BLOCK = 400_000
_BLOCK_ROWS = 4096
_FIRST = 5
_EXAMPLES = 3


@dataclass(frozen=True)
class Job:
    """A portion, and everything that its first pass needs."""

    portion: Portion
    shape: Shape
    folder: Path
    """Folder of its parts; is made."""
    secrets: Mapping[str, str]
    """data.secrets: kind -> report, mask or drop."""
    damaged: Mapping[str, str]
    """data.damaged: kind -> report, repair or drop."""
    order: OrderType | None
    """The type that the values of the order must have; None without an order."""
    near: bool
    """Whether near duplicates are searched."""
    kept: tuple[str, ...] = ()
    """The names of the kept columns in the clean splits."""


@dataclass
class FirstPass:
    """What the first pass of a portion found."""

    parts: list[tuple[Path, int]] = field(default_factory=list)
    """Folder and number of rows of each part."""
    rows: int = 0
    """All rows, rejected rows included."""
    changed: int = 0
    """Rows that cleaning has changed."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Reason -> rejected rows."""
    unusable: Counter[str] = field(default_factory=Counter)
    """Reason -> rejected rows that could not be read as records."""
    first: list[Rejected] = field(default_factory=list)
    """The first of these."""
    secrets: Counter[str] = field(default_factory=Counter)
    """Kind -> number of secrets."""
    damaged: Counter[str] = field(default_factory=Counter)
    """Kind of damage -> rows that show it."""
    repaired: Counter[str] = field(default_factory=Counter)
    """Kind of damage -> repaired rows."""
    damage_examples: dict[str, str] = field(default_factory=dict)
    """Kind of damage -> the first row that shows it, and its repaired text."""
    placeholders: int = 0
    """Rows with a placeholder."""
    placeholder_examples: list[str] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    """Hash of a label -> the label."""
    mentions: Counter[str] = field(default_factory=Counter)
    """Label -> texts that contain it."""


@dataclass
class _Block:
    """Some rows that are processed together."""

    records: list[Record]
    values: list[tuple[str, ...]]
    texts: list[tuple[str, ...]]
    order: list[float]
    kept: list[tuple[str, ...]]
    """The values that are kept beside the fields."""

    def without(self, rows: Collection[int]) -> "_Block":
        kept = [row for row in range(len(self.records)) if row not in rows]
        return _Block(*([column[row] for row in kept] for column in vars(self).values()))


def process_portions(jobs: Sequence[Job]) -> list[FirstPass]:
    """Process several portions. Many small files make one job, because a job for each would cost more time."""
    return [process_portion(job) for job in jobs]


def process_portion(job: Job) -> FirstPass:
    """Read a portion, clean its rows and write its parts, and `rejected.jsonl` in the same folder."""
    job.folder.mkdir(parents=True)
    with (job.folder / "rejected.jsonl").open("wb") as file:
        writer = _PartWriter(job, file.write)
        block: list[Record] = []
        size = 0
        for row in raw_set.read(job.portion, job.shape):
            writer.found.rows += 1
            if isinstance(row, Rejected):
                writer.add_unusable(row)
                continue
            block.append(row)
            size += sum(map(len, row.values)) + sum(map(len, row.kept))
            if size > _BLOCK or len(block) == _BLOCK_ROWS:
                writer.add(block)
                block, size = [], 0
        writer.add(block)
        writer.flush()
    return writer.found


def rejected(folder: Path) -> Iterator[Rejected]:
    """Yield the rows that the first pass of a portion has rejected.

    Args:
        folder: of the job.
    """
    with (folder / "rejected.jsonl").open("rb") as file:
        for line in file:
            yield Rejected(*orjson.loads(line))


def order_value(value: str) -> tuple[OrderType, float] | None:
    """Return a value by which rows are ordered.

    Args:
        value: a number, or a date in ISO 8601, with or without a time. A time without a zone is in UTC.

    Returns:
        The type, and the number or the seconds since 1970; None for other values.
    """
    try:
        number = float(value)
    except ValueError:
        try:
            time = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
        return "date", (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return ("number", number) if math.isfinite(number) else None


class _PartWriter:
    """Cleans and screens blocks of rows, and writes them as parts."""

    def __init__(self, job: Job, write_rejected: Callable[[bytes], object]) -> None:
        self.found = FirstPass()
        self._write_rejected = write_rejected
        self._job = job
        self._form = job.shape.form
        self._make_keys = KeyMaker(self._form, near=job.near)
        self._clear()

    def _clear(self) -> None:
        names = [*self._form.fields, *(f"{store.KEPT}{name}" for name in self._job.kept)]
        self._columns = {name: store.TextColumn() for name in names}
        self._offsets: list[int] = []
        self._keyed: list[KeyedRows] = []
        self._size = 0

    def add_unusable(self, row: Rejected) -> None:
        """Reject a row that is not a record."""
        self._reject(row)
        self.found.unusable[row.reason] += 1
        if len(self.found.first) < _FIRST:
            self.found.first.append(row)

    def _reject(self, row: Rejected) -> None:
        self._write_rejected(orjson.dumps(list(row)) + b"\n")
        self.found.reasons[row.reason] += 1

    def add(self, records: list[Record]) -> None:
        """Clean and screen some rows, and make their keys. Writes a part if enough rows are gathered."""
        if not records:
            return
        values = self._clean(records)
        texts = [plain_texts(self._form, row) for row in values]
        kept = [tuple(map(cleaning.clean, record.kept)) for record in records]
        block = self._without_damage(_Block(records, values, texts, [0.0] * len(records), kept))
        block = self._without_secrets(block)
        block = self._in_order(block)
        columns = [cleaning.keys(column) for column in zip(*block.texts, strict=True)]
        empty = {
            row
            for column in columns
            for row, text in enumerate(column)
            if not text or (not text.isascii() and damage.is_blank(text))
        }
        if empty:
            detail = "no visible character is left without control characters"
            block = self._without(block, dict.fromkeys(empty, detail), "empty")
            columns = [[text for row, text in enumerate(column) if row not in empty] for column in columns]
        if not block.records:
            return
        count, first = field_texts.placeholders([record.source for record in block.records], block.texts)
        self.found.placeholders += count
        self.found.placeholder_examples = (self.found.placeholder_examples + first)[:_EXAMPLES]
        keyed = self._make_keys(block.records, block.values, columns, block.order)
        if self._form.record_type == "classification":
            names = [row[1] for row in block.values]
            self.found.labels.update(zip(keyed.rows["answer"].tolist(), names, strict=True))
            self.found.mentions.update(labels.mentions([row[0] for row in block.values], names, self._form))
        self._keyed.append(keyed)
        self._offsets += [record.offset for record in block.records]
        written = [(*values, *kept) for values, kept in zip(block.values, block.kept, strict=True)]
        for column, more in zip(self._columns.values(), zip(*written, strict=True), strict=True):
            column.add(more)
        self._size += int(keyed.rows["characters"].sum()) + sum(len(value) for row in block.kept for value in row)
        if self._size > PART:
            self.flush()

    def _without(self, block: _Block, rows: dict[int, str], reason: str) -> _Block:
        """Reject rows of a block, each with its detail."""
        for row, detail in sorted(rows.items()):
            record = block.records[row]
            text = excerpt(" | ".join(block.values[row]))
            self._reject(Rejected(record.file, record.line, record.offset, reason, detail, text))
        return block.without(rows) if rows else block

    def _clean(self, records: Sequence[Record]) -> list[tuple[str, ...]]:
        before = [record.values for record in records]
        if not self._form.labelled and not self._form.conversational:
            after = list(zip(*map(cleaning.clean_all, zip(*before, strict=True)), strict=True))
        else:
            after = [field_texts.map_texts(self._form, values, cleaning.clean) for values in before]
        self.found.changed += sum(map(tuple.__ne__, before, after))
        return after

    def _without_damage(self, block: _Block) -> _Block:
        """Drop damaged rows or repair them, as data.damaged says."""
        dropped: dict[int, str] = {}
        for row, texts in enumerate(block.texts):
            if all(map(str.isascii, block.values[row])):
                continue
            shown = (*texts, *(block.values[row][1:] if self._form.record_type == "classification" else ()))
            found = {kind for text in shown for kind in damage.find_kinds(text)}
            if not found:
                continue
            self.found.damaged.update(found)
            for kind in found - self.found.damage_examples.keys():
                example = next(damage.example(text, kind) for text in shown if kind in damage.find_kinds(text))
                self.found.damage_examples[kind] = f"{block.records[row].source}: {screening.hidden(example)}"
            to_drop = [kind for kind in damage.KINDS if kind in found and self._job.damaged.get(kind) == "drop"]
            if to_drop:
                dropped[row] = f"has damage: {', '.join(to_drop)}; data.damaged drops such rows"
            elif to_repair := {kind for kind in found if self._job.damaged.get(kind) == "repair"}:
                self._repair(block, row, to_repair)
        return self._without(block, dropped, "damaged")

    def _repair(self, block: _Block, row: int, kinds: Collection[str]) -> None:
        def repair(text: str) -> str:
            found = damage.repair(text, kinds)
            return text if found == text else cleaning.clean(found)

        before = block.values[row]
        values = field_texts.map_texts(self._form, before, repair)
        if self._form.record_type == "classification":
            values = (values[0], *map(repair, values[1:]))
        if values == before:
            return
        block.values[row] = values
        block.texts[row] = plain_texts(self._form, values)
        left = {kind for text in (*block.texts[row], *values[1:]) for kind in damage.find_kinds(text)}
        self.found.repaired.update(set(kinds) - left)

    def _without_secrets(self, block: _Block) -> _Block:
        """Drop rows with secrets or mask the secrets, as data.secrets says."""
        actions = self._job.secrets
        shown = [(*texts, *kept) for texts, kept in zip(block.texts, block.kept, strict=True)]
        width = len(shown[0]) if shown else 1
        dropped: dict[int, list[str]] = {}
        masked: set[int] = set()
        for found in screening.screen([text for row in shown for text in row]):
            self.found.secrets[found.kind] += found.count
            row = found.row // width
            if actions[found.kind] == "drop":
                dropped.setdefault(row, []).append(found.kind)
            elif actions[found.kind] == "mask":
                masked.add(row)
        kinds = {kind for kind, action in actions.items() if action == "mask"}
        for row in masked - dropped.keys():
            block.values[row] = field_texts.map_texts(
                self._form, block.values[row], lambda text: screening.mask(text, kinds)
            )
            block.texts[row] = plain_texts(self._form, block.values[row])
            block.kept[row] = tuple([screening.mask(text, kinds) for text in block.kept[row]])
        details = {
            row: f"contains {', '.join(dict.fromkeys(found))}; data.secrets drops such rows"
            for row, found in dropped.items()
        }
        return self._without(block, details, "secret")

    def _in_order(self, block: _Block) -> _Block:
        """Reject rows without a value by which they could be ordered."""
        if self._job.order is None or self._job.shape.order_by is None:
            return block
        unknown: dict[int, str] = {}
        for row, record in enumerate(block.records):
            found = order_value(record.order or "")
            if found is None or found[0] != self._job.order:
                unknown[row] = f"{self._job.shape.order_by} is {record.order!r}, which is not a {self._job.order}"
            else:
                block.order[row] = found[1]
        return self._without(block, unknown, "order")

    def flush(self) -> None:
        """Write the gathered rows as a part."""
        if not self._keyed:
            return
        folder = self._job.folder / f"{len(self.found.parts):04d}"
        rows, tokens, bands = zip(*self._keyed, strict=True)
        arrays = {
            "rows": np.concatenate(rows), "tokens": np.concatenate(tokens), "bands": np.concatenate(bands, axis=1)
        }  # fmt: skip
        store.write_part(folder, self._offsets, self._columns, arrays)
        self.found.parts.append((folder, len(arrays["rows"])))
        self._clear()
