"""Rows that are longer than a model is shown, told when a set is taken in: counted by the base's tokenizer where there
is one, else estimated."""

from collections.abc import Iterator
from pathlib import Path

from tuneline.data.mapping import raw_set
from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.preparing import long_rows
from tuneline.data.profiling.row_lengths import Lengths
from tuneline.data.records.record_types import Record
from tuneline.params import Params

ROWS = 20_000
"""The first rows of a set that are measured."""
_BATCH = 1_000


def describe(found: RawSet, p: Params) -> list[str]:
    """What would be cut of a set's rows, for a person; nothing where none is longer than the model is shown.

    Args:
        found: the set.
        p: the params.
    """
    tokenizer = _tokenizer(p)
    size = long_rows.bytes_per_token(p)
    lengths = Lengths(tokenizer, p.finetune.max_length, size)
    batch: list[tuple[str, ...]] = []
    for number, row in enumerate(_texts(found), 1):
        batch.append(row)
        if len(batch) == _BATCH:
            lengths.add(batch)
            batch = []
        if number == ROWS:
            break
    if batch:
        lengths.add(batch)
    how = f"by the tokenizer of {tokenizer.parent}" if tokenizer else f"estimated at {size:g} bytes a token"
    tokens = lengths.each()
    among = f", the first {len(tokens):,} rows" if len(tokens) == ROWS else ""
    return long_rows.describe(tokens, how + among, p)


def _tokenizer(p: Params) -> Path | None:
    """That of a base which is brought; a builtin base makes its own, from text that may be another by then."""
    if p.base.source == "builtin":
        return None
    folder = Path(p.base.input if p.base.source == "path" else p.paths.base)
    file = folder / "tokenizer.json"
    return file if file.is_file() else None


def _texts(found: RawSet) -> Iterator[tuple[str, ...]]:
    """What becomes tokens of each row that can be used."""
    for portion, shape in found.portions:
        for row in raw_set.read(portion, shape):
            if not isinstance(row, Record):
                continue
            texts = raw_set.texts(found.record_type, found.conversational, row.values)
            if found.record_type in ("classification", "regression"):
                texts = texts[:1]
            elif found.record_type == "preference":
                texts = (texts[0], max(texts[1:], key=len))
            yield texts
