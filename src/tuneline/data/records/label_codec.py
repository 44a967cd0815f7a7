"""Several labels of one row as one text, a JSON list; the only place that encodes and decodes it."""

from collections.abc import Iterable

import orjson


def encode(labels: Iterable[str]) -> str:
    """Several labels as a sorted JSON list in which each label occurs once."""
    return orjson.dumps(sorted(set(labels))).decode()


def decode(label: str, *, multi_label: bool) -> tuple[str, ...]:
    """The labels of a row.

    Args:
        label: as the record stores it.
        multi_label: whether the rows of the set may have several labels, from its RecordForm.
    """
    return tuple(orjson.loads(label)) if multi_label else (label,)
