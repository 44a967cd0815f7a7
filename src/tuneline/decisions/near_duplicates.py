"""The test rows of which a version, or a version that it was merged from, was trained on a near duplicate.

A version holds the ids and groups of its training rows, not their texts. The texts are in DVC's cache or remote, under
the md5s that the version's own dvc.lock names; for rows of its parents, under those of the parents. Today's training
rows need no look: `prepare` has kept what is near to today's test rows out of them.
"""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.preparing.near_rows import near_rows
from tuneline.decisions import version_rows
from tuneline.errors import DataError, ModelError, PipelineError, RegistryError
from tuneline.fusion.merging import merge_recipe
from tuneline.registry import versions

_TEXTS = ("prompt", "completion", "reference", "chosen", "text", "messages")


def near_to(
    p: params.Params, folder: Path, trained: pa.Table, known: pa.Table, rows: pa.Table
) -> tuple[frozenset[str], str]:
    """The ids of the test rows that are near duplicates of rows that a version was trained on.

    Args:
        p: the params.
        folder: of the version.
        trained: ids and clusters of its training rows.
        known: ids and clusters of training rows that `prepare` has compared with these test rows.
        rows: the test rows.

    Returns:
        The ids, and why nothing could be looked for; empty where it could.
    """
    unknown = _unknown(p, trained, known)
    if not unknown:
        return frozenset(), ""
    try:
        folders = [folder, *version_rows.parents(p.registry.model, folder)]
        return _near(p, folders, unknown, rows), ""
    except (DataError, ModelError, PipelineError, RegistryError) as error:
        return frozenset(), "; ".join(error.problems)


def near_to_parents(p: params.Params, rows: pa.Table) -> tuple[frozenset[str], str]:
    """The ids of the test rows that are near duplicates of what a parent of the merged candidate was trained on.

    Args:
        p: the params; base.source is merge.
        rows: the test rows.

    Returns:
        As `near_to`.
    """
    source = Path(p.base.input)
    unknown = _unknown(p, files.read_parquet(source / merge_recipe.ROWS), versions.clean_train_rows(p))
    if not unknown:
        return frozenset(), ""
    try:
        return _near(p, list(version_rows.parents(p.registry.model, source)), unknown, rows), ""
    except (DataError, ModelError, PipelineError, RegistryError) as error:
        return frozenset(), "; ".join(error.problems)


def _unknown(p: params.Params, trained: pa.Table, known: pa.Table) -> set[str]:
    """The ids of the training rows that may be near to a test row."""
    if p.data.near_duplicates is None:
        return set()
    return set(trained["id"].to_pylist()) - set(known["id"].to_pylist())


def _near(p: params.Params, folders: Sequence[Path], unknown: set[str], rows: pa.Table) -> frozenset[str]:
    others = [text for table in version_rows.chosen(folders, p.paths.clean, unknown) for text in _texts(table)]
    texts = _texts(rows)
    if others and texts and len(others[0]) < len(texts[0]):
        # The test rows of texts are cut in half.
        texts = [("".join(text),) for text in texts]
    filled = [place for place, text in enumerate(texts) if _is_filled(text)]
    threshold = p.data.near_duplicates
    assert threshold is not None
    is_near = near_rows([texts[place] for place in filled], list(filter(_is_filled, others)), threshold)
    ids = rows["id"].to_pylist()
    return frozenset(ids[place] for place, near in zip(filled, is_near.tolist(), strict=True) if near)


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
    contents = [str(one.get("content") or "") for one in listed]
    return "\n".join(contents[:turn]), "\n".join(contents[turn:])
