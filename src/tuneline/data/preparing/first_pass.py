"""The first pass: one portion of a raw set -> cleaned rows on disk, and the numbers that all later steps compare.

A part holds some megabytes of rows. Where it begins depends on the data alone, never on how many processes work.
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
import pyarrow as pa

from tuneline.data.mapping import raw_set
from tuneline.data.mapping.convert import Shape
from tuneline.data.preparing.text import cleaning, text_columns
from tuneline.data.preparing.text.row_keys import Numbered, Numbering, plain_texts
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
    """One portion, and all that its first pass needs to know."""

    portion: Portion
    shape: Shape
    folder: Path
    """Where its parts go; is made anew."""
    policy: screening.Policy
    damaged: Mapping[str, str]
    """Kind of damage -> what is done with a row that shows it, as data.damaged says."""
    order: OrderType | None
    """The type that the values of the order must have; None without an order."""
    near: bool
    """Whether near duplicates are looked for."""


@dataclass
class Made:
    """What the first pass of a portion found."""

    parts: list[tuple[Path, int]] = field(default_factory=list)
    """Folder and rows of each."""
    rows: int = 0
    """All, those set aside too."""
    changed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Code -> rows set aside."""
    unusable: Counter[str] = field(default_factory=Counter)
    """Of these, those that could not be read as records."""
    first: list[Rejected] = field(default_factory=list)
    secrets: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    """Kind of damage -> rows that show it."""
    repaired: Counter[str] = field(default_factory=Counter)
    """Kind of damage -> rows of which it was repaired."""
    damage_examples: dict[str, str] = field(default_factory=dict)
    """Kind of damage -> the first row that shows it, and what it becomes where it is repaired."""
    placeholders: int = 0
    placeholder_examples: list[str] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    """Hash of a label -> the label."""
    mentions: Counter[str] = field(default_factory=Counter)
    """Label -> texts that hold it."""


@dataclass
class _Block:
    """Some rows on their way."""

    records: list[Record]
    values: list[tuple[str, ...]]
    texts: list[tuple[str, ...]]
    order: list[float]

    def without(self, rows: Collection[int]) -> "_Block":
        stay = [row for row in range(len(self.records)) if row not in rows]
        return _Block(*([column[row] for row in stay] for column in vars(self).values()))


def make(job: Job) -> Made:
    """Read a portion, clean its rows and write its parts.

    Args:
        job: the portion.

    Returns:
        What was found. Rows set aside stand in `rejected.jsonl` of the job's folder.
    """
    job.folder.mkdir(parents=True)
    with (job.folder / "rejected.jsonl").open("wb") as file:
        maker = _Maker(job, file.write)
        block: list[Record] = []
        size = 0
        for row in raw_set.read(job.portion, job.shape):
            maker.made.rows += 1
            if isinstance(row, Rejected):
                maker.unusable(row)
                continue
            block.append(row)
            size += sum(map(len, row.values))
            if size > _BLOCK or len(block) == _BLOCK_ROWS:
                maker.take(block)
                block, size = [], 0
        maker.take(block)
        maker.flush()
    return maker.made


def make_all(jobs: Sequence[Job]) -> list[Made]:
    """As `make`, of several portions: of many small files none is worth being handed out by itself."""
    return [make(job) for job in jobs]


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


def rejected(folder: Path) -> Iterator[Rejected]:
    """The rows of a portion that the first pass set aside.

    Args:
        folder: of the job.
    """
    with (folder / "rejected.jsonl").open("rb") as file:
        for line in file:
            yield Rejected(*orjson.loads(line))


class _Maker:
    def __init__(self, job: Job, write: Callable[[bytes], object]) -> None:
        self.made = Made()
        self._write = write
        self._job = job
        self._form = job.shape.form
        self._number = Numbering(self._form, near=job.near)
        self._clear()

    def _clear(self) -> None:
        self._columns = [text_columns.Strings() for _ in self._form.fields]
        self._offsets: list[int] = []
        self._numbered: list[Numbered] = []
        self._size = 0

    def reject(self, row: Rejected) -> None:
        """Set a row aside."""
        self._write(orjson.dumps(list(row)) + b"\n")
        self.made.reasons[row.reason] += 1

    def unusable(self, row: Rejected) -> None:
        """Set a row aside that is no record."""
        self.reject(row)
        self.made.unusable[row.reason] += 1
        if len(self.made.first) < _FIRST:
            self.made.first.append(row)

    def _drop(self, block: _Block, rows: dict[int, str], reason: str) -> _Block:
        for row, detail in sorted(rows.items()):
            record = block.records[row]
            text = excerpt(" | ".join(block.values[row]))
            self.reject(Rejected(record.file, record.line, record.offset, reason, detail, text))
        return block.without(rows) if rows else block

    def take(self, read: list[Record]) -> None:
        """Clean, screen and number some rows."""
        if not read:
            return
        values = self._cleaned(read)
        texts = [plain_texts(self._form, row) for row in values]
        block = self._undamaged(_Block(read, values, texts, [0.0] * len(read)))
        block = self._screened(block)
        block = self._ordered(block)
        columns = [cleaning.keys(column) for column in zip(*block.texts, strict=True)]
        empty = {
            row
            for column in columns
            for row, text in enumerate(column)
            if not text or (not text.isascii() and damage.is_blank(text))
        }
        if empty:
            why = "nothing that can be seen is left after control characters are taken out"
            block = self._drop(block, dict.fromkeys(empty, why), "empty")
            columns = [[text for row, text in enumerate(column) if row not in empty] for column in columns]
        if not block.records:
            return
        count, first = field_texts.placeholders([record.source for record in block.records], block.texts)
        self.made.placeholders += count
        self.made.placeholder_examples = (self.made.placeholder_examples + first)[:_EXAMPLES]
        numbered = self._number(block.records, block.values, columns, block.order)
        if self._form.record_type == "classification":
            found = [row[1] for row in block.values]
            self.made.labels.update(zip(numbered.rows["answer"].tolist(), found, strict=True))
            self.made.mentions.update(labels.mentions([row[0] for row in block.values], found, self._form))
        self._numbered.append(numbered)
        self._offsets += [record.offset for record in block.records]
        for column, more in zip(self._columns, zip(*block.values, strict=True), strict=True):
            column.add(more)
        self._size += int(numbered.rows["characters"].sum())
        if self._size > PART:
            self.flush()

    def _cleaned(self, read: Sequence[Record]) -> list[tuple[str, ...]]:
        before = [record.values for record in read]
        if not self._form.labelled and not self._form.conversational:
            after = list(zip(*map(cleaning.clean_all, zip(*before, strict=True)), strict=True))
        else:
            after = [field_texts.map_texts(self._form, values, cleaning.clean) for values in before]
        self.made.changed += sum(map(tuple.__ne__, before, after))
        return after

    def _undamaged(self, block: _Block) -> _Block:
        """Without the rows that data.damaged drops for their damage, and with the others repaired as it says."""
        out: dict[int, str] = {}
        for row, texts in enumerate(block.texts):
            if all(map(str.isascii, block.values[row])):
                continue
            labels = block.values[row][1:] if self._form.record_type == "classification" else ()
            found = {kind for text in (*texts, *labels) for kind in damage.find_kinds(text)}
            if not found:
                continue
            self.made.damaged.update(found)
            for kind in found - self.made.damage_examples.keys():
                example = next(
                    damage.example(text, kind) for text in (*texts, *labels) if kind in damage.find_kinds(text)
                )
                self.made.damage_examples[kind] = f"{block.records[row].source}: {screening.hidden(example)}"
            dropped = [kind for kind in damage.KINDS if kind in found and self._job.damaged.get(kind) == "drop"]
            if dropped:
                out[row] = f"shows {', '.join(dropped)}, as data.damaged says"
            elif wanted := {kind for kind in found if self._job.damaged.get(kind) == "repair"}:
                self._repair(block, row, wanted)
        return self._drop(block, out, "damaged")

    def _repair(self, block: _Block, row: int, kinds: Collection[str]) -> None:
        def mended(text: str) -> str:
            found = damage.repair(text, kinds)
            return text if found == text else cleaning.clean(found)

        before = block.values[row]
        values = field_texts.map_texts(self._form, before, mended)
        if self._form.record_type == "classification":
            values = (values[0], *map(mended, values[1:]))
        if values == before:
            return
        block.values[row] = values
        block.texts[row] = plain_texts(self._form, values)
        left = {kind for text in (*block.texts[row], *values[1:]) for kind in damage.find_kinds(text)}
        self.made.repaired.update(set(kinds) - left)

    def _screened(self, block: _Block) -> _Block:
        policy = self._job.policy
        width = len(block.texts[0])
        out: dict[int, list[str]] = {}
        masked: set[int] = set()
        for found in screening.screen([text for row in block.texts for text in row]):
            self.made.secrets[found.kind] += found.count
            row = found.row // width
            if policy[found.kind] == "drop":
                out.setdefault(row, []).append(found.kind)
            elif policy[found.kind] == "mask":
                masked.add(row)
        for row in masked - out.keys():
            block.values[row] = field_texts.map_texts(
                self._form, block.values[row], lambda text: screening.mask(text, policy)
            )
            block.texts[row] = plain_texts(self._form, block.values[row])
        why = {row: f"holds {', '.join(dict.fromkeys(kinds))}, as data.secrets says" for row, kinds in out.items()}
        return self._drop(block, why, "secret")

    def _ordered(self, block: _Block) -> _Block:
        """Without the rows whose place in the order is not known."""
        if self._job.order is None or self._job.shape.order_by is None:
            return block
        unknown: dict[int, str] = {}
        for row, record in enumerate(block.records):
            found = order_value(record.order or "")
            if found is None or found[0] != self._job.order:
                unknown[row] = f"{self._job.shape.order_by} is {record.order!r}, which is not a {self._job.order}"
            else:
                block.order[row] = found[1]
        return self._drop(block, unknown, "order")

    def flush(self) -> None:
        """Write the part that was gathered."""
        if not self._numbered:
            return
        folder = self._job.folder / f"{len(self.made.parts):04d}"
        folder.mkdir()
        columns = {name: column.array() for name, column in zip(self._form.fields, self._columns, strict=True)}
        batch = pa.record_batch({"offset": pa.array(self._offsets, pa.int64()), **columns})
        with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        rows, tokens, bands = zip(*self._numbered, strict=True)
        np.save(folder / "rows.npy", np.concatenate(rows))
        np.save(folder / "tokens.npy", np.concatenate(tokens))
        np.save(folder / "bands.npy", np.concatenate(bands, axis=1))
        self.made.parts.append((folder, sum(map(len, rows))))
        self._clear()
