"""The test rows of which the champion was trained on a near duplicate.

A version holds the ids and groups of its training rows, not their texts. The texts are in DVC's cache or remote, under
the md5s that the version's own dvc.lock names. Rows that the candidate was trained on too need no look: `prepare` has
kept what is near to today's test rows out of the candidate's training rows.
"""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow as pa

from tuneline import params
from tuneline.data.preparing.near_rows import near_rows
from tuneline.decisions import version_rows
from tuneline.errors import DataError, PipelineError

_TEXTS = ("prompt", "completion", "reference", "chosen", "text", "messages")


def near_to(
    p: params.Params, folder: Path, trained: pa.Table, known: pa.Table, rows: pa.Table
) -> tuple[frozenset[str], str]:
    """The ids of the test rows that are near duplicates of rows that a version was trained on.

    Args:
        p: the params.
        folder: of the version.
        trained: ids and clusters of its training rows.
        known: ids and clusters of the candidate's training rows.
        rows: the test rows.

    Returns:
        The ids, and why nothing could be looked for; empty where it could.
    """
    threshold = p.data.near_duplicates
    unknown = set(trained["id"].to_pylist()) - set(known["id"].to_pylist())
    if threshold is None or not unknown:
        return frozenset(), ""
    try:
        others = [text for table in version_rows.read(folder, p.paths.clean) for text in _texts(_only(table, unknown))]
    except (DataError, PipelineError) as error:
        return frozenset(), "; ".join(error.problems)
    texts = _texts(rows)
    if others and texts and len(others[0]) < len(texts[0]):
        # The test rows of texts are cut in half.
        texts = [("".join(text),) for text in texts]
    filled = [place for place, text in enumerate(texts) if _is_filled(text)]
    is_near = near_rows([texts[place] for place in filled], list(filter(_is_filled, others)), threshold)
    ids = rows["id"].to_pylist()
    return frozenset(ids[place] for place, near in zip(filled, is_near.tolist(), strict=True) if near), ""


def _only(table: pa.Table, ids: set[str]) -> pa.Table:
    return table.filter(pa.array([one in ids for one in table["id"].to_pylist()], pa.bool_()))


def _texts(table: pa.Table) -> Sequence[tuple[str, ...]]:
    """The texts of each row: what is given, and what is to be learned."""
    names = [name for name in _TEXTS if name in table.column_names]
    if "messages" in names:
        return [_halves(one) for one in table["messages"].to_pylist()]
    columns = [[text or "" for text in table[name].to_pylist()] for name in names]
    return list(zip(*columns, strict=True))


def _is_filled(text: tuple[str, ...]) -> bool:
    return any(map(str.strip, text))


def _halves(messages: str) -> tuple[str, str]:
    """The messages before the first answer, and the rest."""
    listed = orjson.loads(messages)
    turn = next((place for place, one in enumerate(listed) if one["role"] == "assistant"), len(listed))
    halves = (listed[:turn], listed[turn:])
    return tuple("\n".join(str(one.get("content") or "") for one in half) for half in halves)  # type: ignore[return-value]
