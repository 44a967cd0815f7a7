"""Which rows an erasure means: in the raw sets as they are, and as git and DVC know them from earlier."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneline.core import files
from tuneline.data.reading.raw_rows import Options
from tuneline.data.removing import found_rows
from tuneline.data.removing.found_rows import Selection
from tuneline.decisions import erasure_texts, raw_history
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import DataError
from tuneline.params import Params
from tuneline.pipeline import graph, repro
from tuneline.pipeline.graph import Recorded


@dataclass
class Past:
    """The rows of earlier raw sets that are meant."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    texts: dict[tuple[str, ...], None] = field(default_factory=dict)
    """What the pretraining text may hold of them."""
    ids: set[str] = field(default_factory=set)
    sets: int = 0
    """How many earlier sets were looked at."""
    unread: list[str] = field(default_factory=list)
    """The sets that hold such rows and cannot be read as records, each with the reason."""


def find_past(p: Params, raw: RawHistory, everywhere: Sequence[Recorded], present: Sequence[str]) -> Past:
    """The rows of all earlier raw sets that are meant.

    Args:
        p: the params.
        raw: answers whether raw sets hold the rows.
        everywhere: what the workspace and all commits record.
        present: the paths of the sets of the workspace, whose rows keep what is made from them.

    Raises:
        PipelineError: DVC's remote cannot be read.
    """
    found, digests = Past(), set()
    for path, md5 in _sets(everywhere, raw):
        count = raw.rows_in(path, md5, is_text=False)
        found.sets += count is not None
        if not count:
            continue
        with raw.copied(path, md5) as copy:
            if copy is None:
                continue
            for one in found_rows.find(copy, raw.options_of(path), raw.selection):
                new = [row for row in one.rows if found_rows.digest(row) not in digests]
                digests |= set(map(found_rows.digest, new))
                found.rows += new
            if path == p.data.raw:
                also = [Path(path)] if path in present else []
                try:
                    made = erasure_texts.traces(p, copy, raw.selection, also=also)
                except DataError as error:
                    found.unread.append(f"{path} with the md5 {md5}: {error.problems[0]}")
                    continue
                found.texts |= dict.fromkeys(made.texts)
                found.ids |= made.ids
    return found


def _sets(everywhere: Sequence[Recorded], raw: RawHistory) -> Iterator[tuple[str, str]]:
    """Path and md5 of every raw set that a commit or the workspace names, without the pretraining text."""
    found: dict[tuple[str, str], None] = {}
    for recorded in everywhere:
        data, mixture = recorded.values.get("data", {}), recorded.values.get("paths", {}).get("mixture")
        wanted = {data.get("raw"), *raw.options} - {raw_history.text_of(recorded), None}
        found |= dict.fromkeys(
            (path, md5)
            for path, md5 in _named(recorded)
            if path in wanted or (mixture and Path(mixture) in Path(path).parents)
        )
    texts = {raw_history.text_of(recorded) for recorded in everywhere}
    yield from (one for one in found if one[0] not in texts)


def in_other_sets(here: Recorded, options: Mapping[str, Options], selection: Selection) -> dict[str, int]:
    """The sets under DVC from which no row can be erased, because params.yaml does not name them.

    Args:
        here: what the workspace records.
        options: path of a set that params.yaml names -> how it is read.
        selection: the rows that are meant.

    Returns:
        Path -> how many of the rows it holds.
    """
    found = {}
    for path, _ in raw_history.of_pointers(here):
        if path in options or not Path(path).exists():
            continue
        try:
            count = sum(len(one.meant) for one in found_rows.find(Path(path), Options(), selection, is_text=True))
        except DataError:
            # It holds no rows, such as a base.
            continue
        found |= {path: count} if count else {}
    return found


def _named(recorded: Recorded) -> Iterator[tuple[str, str]]:
    yield from raw_history.of_pointers(recorded)
    for stage in recorded.locked.values():
        for dep in stage.get("deps", []):
            if dep.get("md5") and dep["path"] == recorded.values.get("data", {}).get("raw"):
                yield dep["path"], dep["md5"]


def selection(
    p: Params, groups: tuple[tuple[str, str], ...], names: tuple[str, ...], raw: RawHistory, everywhere: list[Recorded]
) -> Selection:
    """The rows that a person names.

    Args:
        p: the params.
        groups: columns with a value.
        names: ids of clean rows, or places as FILE:LINE.
        raw: answers for earlier sets.
        everywhere: what the workspace and all commits record.

    Raises:
        DataError: a name means no row.
        PipelineError: DVC's remote cannot be read.
    """
    if not names:
        return Selection(groups)
    place = Path(p.data.raw)
    options = raw.options.get(p.data.raw)
    if options is None:
        raise DataError(f"{place}: is not here; fetch it with: dvc pull {place}.dvc")
    if is_stale(p):
        raise DataError(
            f"{p.paths.clean}: was not made from {place} as it is now, so it does not tell which rows --row means; run "
            "`make run` first, or name the rows with --group COLUMN=VALUE"
        )
    places, lacking = _places(p, names)
    digests = set()
    for plan, row in found_rows.rows(place, options):
        at = f"{plan.name}:{row.line}"
        if at in places:
            digests.add(found_rows.digest(row.values))
            lacking.discard(at)
    for path, md5 in _sets(everywhere, raw) if lacking else ():
        if path != p.data.raw:
            continue
        with raw.copied(path, md5) as copy:
            try:
                earlier = erasure_texts.digests_of_ids(p, copy, lacking) if copy and lacking else {}
            except DataError:
                # It is of another task; what it holds cannot have this id.
                continue
            digests |= {one for of_id in earlier.values() for one in of_id}
            lacking -= earlier.keys()
    if lacking:
        raise DataError(
            *(
                f"--row {name}: neither the id of a row in {p.paths.clean} nor FILE:LINE in {place}, nor the id of a "
                "row that an earlier raw set held"
                for name in sorted(lacking)
            ),
            "a row that was taken out of the set before can be named by a value of it: --group COLUMN=VALUE",
        )
    return Selection(groups, frozenset(digests))


def is_stale(p: Params) -> bool:
    """Whether the clean data were made from another raw set, or from other rows of it."""
    pointer = Path(f"{p.data.raw}.dvc")
    entry = graph.read_locked_stages().get("prepare")
    if entry is None:
        return False
    known = {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}
    outs = graph.read_yaml(pointer).get("outs", []) if pointer.is_file() else []
    if p.data.raw not in known or any(out.get("md5") != known[p.data.raw] for out in outs):
        return True
    # A set that was changed by hand has its old pointer.
    return bool(outs) and bool(repro.stale_stages(pointer.as_posix()))


def _places(p: Params, names: Sequence[str]) -> tuple[set[str], set[str]]:
    """The places of the named rows in the raw set, with those of their exact duplicates; and the names to be found."""
    wanted, places, lacking = set(names), set(), set()
    clean = Path(p.paths.clean)
    for split in ("train", "validation", "test"):
        if (clean / split).is_dir():
            table = files.read_parquet(clean / split, ["id", "source"])
            for number, source in zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True):
                if number in wanted:
                    places.add(source)
                    wanted.discard(number)
    for name in wanted:
        places.add(name)
        lacking.add(name)
    quarantine = Path(p.paths.reports) / "quarantine.jsonl"
    if quarantine.is_file():
        for line in quarantine.read_text("utf-8").splitlines():
            dropped = json.loads(line)
            same = dropped["detail"].removeprefix("the same as ")
            if dropped["reason"] == "duplicate" and dropped["set"] == p.data.raw and same in places:
                places.add(dropped["source"])
    return places, lacking
