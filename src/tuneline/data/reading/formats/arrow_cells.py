"""Columns of Parquet and Arrow -> values as JSON would have them."""

import datetime
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa


class Problem(NamedTuple):
    """Stands where a value cannot be used."""

    reason: str
    detail: str


def is_text(kind: pa.DataType) -> bool:
    """Whether the values of a type are text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def values_of(column: pa.Array) -> list[Any]:
    """The values of a column as JSON would have them."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _of_dictionary(column)
    if is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.to_pylist()
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = [_safely(scalar.as_py) for scalar in column]
    except (ValueError, OverflowError):
        # A date before the year 1, or after 9999.
        values = [_safely(scalar.as_py) for scalar in column]
    return [_plain_or_problem(value) for value in values]


def _safely(value: Callable[[], Any]) -> Any:
    try:
        return value()
    except UnicodeDecodeError as error:
        return Problem("encoding", f"0x{error.object[error.start]:02x} at byte {error.start} is no utf-8")
    except (ValueError, OverflowError) as error:
        return Problem("not-finite", f"a date that cannot be: {error}")


def _of_dictionary(column: pa.DictionaryArray) -> list[Any]:
    """Values that stand in several rows are made once."""
    indices = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, places = np.unique(indices, return_inverse=True)
    is_null = used < 0
    distinct = values_of(column.dictionary.take(pa.array(used[~is_null])))
    known = [None] * int(is_null.sum()) + distinct
    return [known[place] for place in places.tolist()]


def _decoded(column: pa.Array) -> list[Any]:
    if is_text(column.type):
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            column = column.cast(pa.large_binary())
    return [value if value is None else _safely(value.decode) for value in column.to_pylist()]


def _plain_or_problem(value: Any) -> Any:
    try:
        return _plain(value)
    except _NotPlainError as problem:
        return Problem(*problem.args)


class _NotPlainError(Exception):
    """A value within a value cannot be used; its arguments are the reason code and the detail."""


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, bool, Problem):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise _NotPlainError("not-finite", f"{value} is no number")
        return value
    if type(value) is dict:
        return {key: _plain(inner) for key, inner in value.items()}
    if type(value) is list:
        # A map comes as a list of pairs.
        if value and type(value[0]) is tuple:
            return {str(key): _plain(inner) for key, inner in value}
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
