"""The texts of rows that are to be erased, as the pretraining text holds them: made from the rows themselves.

The clean data are not asked: they may be of an earlier raw set, and a row may have been dropped since its text was
written.
"""

from collections.abc import Iterator
from pathlib import Path

import orjson

from tuneline.data.mapping import raw_set
from tuneline.data.preparing.text import cleaning
from tuneline.data.reading import readers
from tuneline.data.reading.guards import damage
from tuneline.data.reading.raw_rows import Rejected
from tuneline.data.records import field_texts
from tuneline.data.records.record_form import TYPES_OF_TASK, Record, RecordForm
from tuneline.data.removing.found_rows import Selection
from tuneline.data.secrets import screening
from tuneline.params import Params


def texts_of_rows(p: Params, selection: Selection) -> tuple[tuple[str, ...], ...]:
    """For each row of data.raw that is meant the texts of its record, if the record of no other row has the same texts.

    Args:
        p: the params.
        selection: the rows that are meant.

    Raises:
        DataError: data.raw cannot be read as records.
    """
    names = [name for name in p.data.reading if raw_set.is_mixture_name(name)]
    options, columns = raw_set.readings(p, names)[p.data.raw]
    raw = raw_set.open_set(
        Path(p.data.raw),
        readers.plan(Path(p.data.raw), options),
        columns=columns,
        record_types=TYPES_OF_TASK[p.task],
        group_by=None,
        must_group=False,
    )
    mine: dict[tuple[str, ...], None] = {}
    theirs: set[int] = set()
    for portion, shape in raw.portions:
        for row in readers.rows(portion):
            if isinstance(row, Rejected) or not isinstance(record := shape.record(row), Record):
                continue
            found = {
                parts for values in _prepared(p, shape.form, record.values) if (parts := _parts(shape.form, values))
            }
            if selection.means(row.values):
                mine |= dict.fromkeys(found)
            else:
                theirs |= set(map(hash, found))
    return tuple(parts for parts in mine if hash(parts) not in theirs)


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
