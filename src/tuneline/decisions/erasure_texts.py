"""What is made from the rows that are to be erased: their texts in the pretraining text, and their ids.

Both are made from the rows themselves. The clean data are not asked: they may be of an earlier raw set, and a row may
have been dropped since its text was written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tuneline.data.mapping import raw_set
from tuneline.data.preparing.text import cleaning
from tuneline.data.preparing.text.row_keys import KeyMaker, plain_texts
from tuneline.data.reading import readers
from tuneline.data.reading.guards import damage
from tuneline.data.reading.raw_rows import Rejected
from tuneline.data.records import field_texts
from tuneline.data.records.record_form import TYPES_OF_TASK, Record, RecordForm
from tuneline.data.removing import found_rows
from tuneline.data.removing.found_rows import Selection
from tuneline.data.secrets import screening
from tuneline.params import Params

_BLOCK = 1_000
"""Rows whose ids are made at once."""


@dataclass(frozen=True)
class Traces:
    """What is made from the rows of a selection, and from no other row of the same set."""

    texts: tuple[tuple[str, ...], ...] = ()
    """Of each row the texts that the pretraining text holds of it."""
    ids: frozenset[str] = frozenset()
    """Their ids in clean splits and in the training rows of versions."""


@dataclass(frozen=True)
class _Made:
    """What is made from a row."""

    row: dict[str, Any]
    record: Record
    form: RecordForm
    values: tuple[tuple[str, ...], ...]
    """The fields as preparing writes them, by the params of some time."""

    def texts(self) -> set[tuple[str, ...]]:
        return {parts for values in self.values if (parts := _parts(self.form, values))}

    def keys(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """Texts by which rows are the same -> fields."""
        found = {tuple(map(cleaning.key, plain_texts(self.form, values))): values for values in self.values}
        return {key: values for key, values in found.items() if all(key)}


def traces(p: Params, path: Path, selection: Selection, *, also: Sequence[Path] = ()) -> Traces:
    """What is made from the rows that are meant.

    Args:
        p: the params.
        path: of data.raw, or of a copy as it was at another time.
        selection: the rows that are meant.
        also: other sets, whose rows are not meant and keep what is made from them.

    Raises:
        DataError: the set cannot be read as records.
    """
    texts: dict[tuple[str, ...], None] = {}
    ids: dict[tuple[str, ...], str] = {}
    theirs: set[int] = set()
    for place in (path, *also):
        for made in _records(p, place):
            keys = made.keys()
            if not selection.means(made.row):
                theirs |= set(map(hash, [*made.texts(), *keys]))
            elif place == path:
                texts |= dict.fromkeys(made.texts())
                found = _ids(made.form, [(made.record, values) for values in keys.values()])
                ids |= dict(zip(keys, found, strict=True))
    return Traces(
        tuple(parts for parts in texts if hash(parts) not in theirs),
        frozenset(number for key, number in ids.items() if hash(key) not in theirs),
    )


def digests_of_ids(p: Params, path: Path, ids: set[str]) -> dict[str, set[str]]:
    """Id -> the digests of the rows of a set that have the id.

    Args:
        p: the params.
        path: of data.raw, or of a copy as it was at another time.
        ids: as clean splits show them.

    Raises:
        DataError: the set cannot be read as records.
    """
    found: dict[str, set[str]] = {}
    block: list[tuple[dict[str, Any], Record, tuple[str, ...]]] = []

    def look(form: RecordForm) -> None:
        numbers = _ids(form, [(record, values) for _, record, values in block])
        for number, (row, _, _) in zip(numbers, block, strict=True):
            if number in ids:
                found.setdefault(number, set()).add(found_rows.digest(row))
        block.clear()

    form = None
    for made in _records(p, path):
        form = made.form
        block += [(made.row, made.record, values) for values in made.keys().values()]
        if len(block) >= _BLOCK:
            look(form)
    if form and block:
        look(form)
    return found


def _records(p: Params, path: Path) -> Iterator[_Made]:
    names = [name for name in p.data.reading if raw_set.is_mixture_name(name)]
    options, columns = raw_set.readings(p, names)[p.data.raw]
    raw = raw_set.open_set(
        path,
        readers.plan(path, options),
        columns=columns,
        record_types=TYPES_OF_TASK[p.task],
        group_by=None,
        must_group=False,
    )
    for portion, shape in raw.portions:
        for row in readers.rows(portion):
            if not isinstance(row, Rejected) and isinstance(record := shape.record(row), Record):
                yield _Made(row.values, record, shape.form, tuple(_prepared(p, shape.form, record.values)))


def _ids(form: RecordForm, rows: Sequence[tuple[Record, tuple[str, ...]]]) -> list[str]:
    """The ids that preparing gives to rows, none of whose texts is empty."""
    if not rows:
        return []
    records, values = zip(*rows, strict=True)
    texts = [plain_texts(form, one) for one in values]
    columns = [cleaning.keys(column) for column in zip(*texts, strict=True)]
    keyed = KeyMaker(form, near=False)(records, values, columns, [0.0] * len(records))
    return [f"{number:016x}" for number in keyed.rows["key_high"].tolist()]


def _prepared(p: Params, form: RecordForm, values: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The fields as preparing cleans them; and as it repairs damage and masks secrets, by the present params."""
    cleaned = field_texts.map_texts(form, values, cleaning.clean)
    yield cleaned
    kinds = {kind for kind, action in p.data.damaged.model_dump().items() if action == "repair"}
    masked = {kind for kind, action in p.data.secrets.model_dump().items() if action == "mask"}
    repaired = field_texts.map_texts(form, cleaned, lambda text: cleaning.clean(damage.repair(text, kinds)))
    yield field_texts.map_texts(form, repaired, lambda text: screening.mask(text, masked))


def _parts(form: RecordForm, values: tuple[str, ...]) -> tuple[str, ...]:
    """The texts that the pretraining text holds of a record: not a label, nor the rejected answer of a preference."""
    fields = {"messages": 1, "preference": 2, "classification": 1, "regression": 1}
    shown = values[: fields.get(form.record_type, len(values))]
    if form.conversational:
        shown = tuple(message["content"] for value in shown for message in orjson.loads(value))
    return tuple(part for part in shown if part)
