"""JSON files that are one object with a table in it by columns, as pandas and datasets write them.

They are parsed as a whole, because a row lies in many places of the file.
"""

from collections.abc import Iterator
from typing import Any

from tuneline.data.reading.containers.byte_streams import MAX_ROW_BYTES, RefusedError
from tuneline.data.reading.formats import strict_json
from tuneline.data.reading.formats.json_heads import SPLIT
from tuneline.data.reading.raw_rows import Portion, Rejected, Row, excerpt

REMEDY = (
    "; write one row per line with `python -c \"import pandas; pandas.read_json('FILE').to_json('FILE.jsonl', "
    "orient='records', lines=True, force_ascii=False)\"`"
)


def parsed(data: bytes, form: str) -> tuple[list[str], list[list[Any]]]:
    """The columns of a table and its rows.

    Args:
        data: the JSON text.
        form: COLUMNS or SPLIT.

    Returns:
        The names of the columns, and for each row its cells in their order.

    Raises:
        RefusedError: it is no JSON, or no table.
    """
    try:
        table = strict_json.parse(data.decode())
    except strict_json.UnsoundError as error:
        raise RefusedError(f"{error.detail}; mend it") from None
    except ValueError as error:
        raise RefusedError(f"is no JSON: {error}; mend it") from None
    found = _split(table) if form == SPLIT else _columns(table)
    if found is None:
        raise RefusedError(f"is one JSON object of columns, of which not all have the same rows{REMEDY}")
    return found


def _split(table: dict[str, Any]) -> tuple[list[str], list[list[Any]]] | None:
    names, rows = table.get("columns"), table.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(name, str) for name in names):
        return None
    is_table = all(isinstance(row, list) and len(row) == len(names) for row in rows)
    return (names, rows) if is_table and len(set(names)) == len(names) else None


def _columns(table: dict[str, Any]) -> tuple[list[str], list[list[Any]]] | None:
    names, columns = list(table), list(table.values())
    if all(isinstance(column, list) for column in columns):
        is_table = len(set(map(len, columns))) == 1
        return (names, [list(row) for row in zip(*columns, strict=True)]) if is_table else None
    if not all(isinstance(column, dict) for column in columns):
        return None
    keys = list(columns[0])
    if any(column.keys() != columns[0].keys() for column in columns):
        return None
    return names, [[column[key] for column in columns] for key in keys]


def rows(portion: Portion, data: bytes) -> Iterator[Row | Rejected]:
    """The rows of a table that is parsed as a whole.

    Args:
        portion: of it.
        data: the JSON text.

    Yields:
        Rows, numbered from 1; of one that is too long the place.
    """
    names, cells = parsed(data, portion.orientation)
    for number, row in enumerate(cells, 1):
        size = sum(len(cell.encode("utf-8", "surrogatepass")) for cell in row if isinstance(cell, str))
        if size > MAX_ROW_BYTES:
            text = excerpt(next(cell for cell in row if isinstance(cell, str)))
            yield Rejected(portion.name, number, -1, "too-long", f"{size:,} bytes in one row", text)
        else:
            yield Row(number, -1, dict(zip(names, row, strict=True)))
