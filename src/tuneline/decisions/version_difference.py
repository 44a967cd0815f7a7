"""How two versions differ: params, data with the rows that were added or removed, base, code, metrics, environment."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tuneline import git
from tuneline.data.records.record_form import SPLITS
from tuneline.decisions import about_version
from tuneline.decisions.about_version import About
from tuneline.errors import GitError
from tuneline.params.gate import METRICS
from tuneline.pipeline import dvc_files, objects
from tuneline.registry.lineage import ENVIRONMENT_LOCKS
from tuneline.registry.tracking import Tracker

_CODE = ("src", "flows", "scripts", "dvc.yaml", "pyproject.toml")
"""What makes a model, besides params, locks and data."""
_RAW_STAGE = "prepare"
_NULL = "null"
_NAMED = 20
"""The most rows of a split that are named."""


@dataclass(frozen=True)
class Change:
    """A value that differs; None where one of the versions does not have it."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class MetricChange:
    """A metric of both versions."""

    metric: str
    name: str
    before: float
    after: float
    is_better: bool | None
    """Whether the second version is better; None if both are equal."""


@dataclass(frozen=True)
class Rows:
    """The rows of a split that only one of the versions has."""

    split: str
    added: int
    removed: int
    added_sources: tuple[str, ...]
    """File and row of the first of them in the raw set; empty if DVC's cache does not hold the split."""
    removed_sources: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """How two versions of a model differ."""

    model: str
    before: str
    after: str
    params: tuple[Change, ...] | None
    """None, as for data and packages: not known, because a version does not have its files any more."""
    data: tuple[Change, ...] | None
    """Raw sets and mixed-in sets with their digests."""
    rows: tuple[Rows, ...]
    base: Change | None
    code: tuple[Change, ...]
    """The commits; then a line for each file: before and after are its states, such as `modified`."""
    code_is_known: bool
    """Whether this clone has both commits, so that `code` names every file that differs."""
    packages: tuple[Change, ...] | None
    metrics: tuple[MetricChange, ...]
    verdict: Change | None
    last_verdict: str
    """Of the second version; `none` if it does not have one."""
    same_model: bool
    """Whether the files of both models have the same bytes."""
    notes: tuple[str, ...]
    """What could not be compared, in sentences."""

    def as_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return asdict(self)


def compare(tracker: Tracker, one: About, other: About) -> Difference:
    """How `other` differs from `one`.

    Args:
        tracker: the registry.
        one: all about the first version.
        other: all about the second version.

    Raises:
        TrackingError: MLflow does not answer.
    """
    notes: list[str] = []
    first, second = (_read(tracker, about, notes) for about in (one, other))
    commits = [_commit(about) for about in (one, other)]
    if None not in (one.data["sha256"], other.data["sha256"]) and one.data["sha256"] != other.data["sha256"]:
        notes.append(
            "the clean data differ, so the metrics may be of different test rows; the gate compares versions on the "
            "same rows"
        )
    return Difference(
        model=one.model,
        before=one.version,
        after=other.version,
        params=tuple(_changes(first.params, second.params)) if first.params and second.params else None,
        data=tuple(_changes(_sets(first.lock), _sets(second.lock))) if first.lock and second.lock else None,
        rows=tuple(_rows(tracker, one, other, (first, second), notes)),
        base=_change("base", one.base, other.base),
        code=tuple(_code(commits, one, other, notes)),
        code_is_known=None not in commits,
        packages=_packages(one, other, notes),
        metrics=tuple(_metrics(one, other)),
        verdict=_change("verdict", one.verdicts[-1:], other.verdicts[-1:]),
        last_verdict=next(reversed(other.verdicts), "none"),
        same_model=bool(one.files["model_sha256"]) and one.files["model_sha256"] == other.files["model_sha256"],
        notes=tuple(dict.fromkeys([*one.notes, *other.notes, *notes])),
    )


@dataclass(frozen=True)
class _Files:
    """What two files in the folder of a version hold; None if it does not have them any more."""

    params: dict[str, Any] | None
    lock: dict[str, dict[str, Any]] | None


def _read(tracker: Tracker, about: About, notes: list[str]) -> _Files:
    return _Files(
        about_version.read_params(tracker, about.model, about.version, notes),
        about_version.read_lock(tracker, about.model, about.version, notes),
    )


def _change(name: str, before: Any, after: Any) -> Change | None:
    return None if before == after else Change(name, before, after)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    """The values that differ; of a key that holds a mapping in both, those of the mapping, as `key.inner`."""
    for name in [*before, *(name for name in after if name not in before)]:
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _changes(one, other, f"{prefix}{name}.")
        elif one != other or (name in before) != (name in after):
            # null is a value; None says that the key is missing.
            yield Change(f"{prefix}{name}", _said(before, name), _said(after, name))


def _said(values: Mapping[str, Any], name: str) -> Any:
    return _NULL if name in values and values[name] is None else values.get(name)


def _sets(lock: Mapping[str, Any]) -> dict[str, str]:
    """The data that `prepare` read: path -> md5."""
    deps = lock.get(_RAW_STAGE, {}).get("deps", [])
    return {one["path"]: one.get("md5", "") for one in deps if not one["path"].startswith("src/")}


def _commit(about: About) -> str | None:
    if not about.code["is_in_this_clone"]:
        return None
    return about.code["source_commit"] or about.code["kept_in_commit"]


def _code(commits: list[str | None], one: About, other: About, notes: list[str]) -> Iterable[Change]:
    first, second = (about.code["source_commit"] or about.code["commit"] for about in (one, other))
    if first == second:
        return
    yield Change("commit", first, second)
    if None in commits:
        return
    try:
        listed = git.ask(
            "diff-tree", "-r", "-z", "--no-renames", "--name-status", str(commits[0]), str(commits[1]), "--", *_CODE
        )
    except GitError as error:
        notes += error.problems
        return
    parts = listed.split("\0")
    for state, path in zip(parts[::2], parts[1::2], strict=False):
        before, after = {"A": (None, "added"), "D": ("removed", None)}.get(state, ("changed", "changed"))
        yield Change(path, before, after)


def _packages(one: About, other: About, notes: list[str]) -> tuple[Change, ...] | None:
    before, after = one.environment["packages"], other.environment["packages"]
    if before and after:
        return tuple(_changes(before, after))
    digests = (one.environment["sha256"], other.environment["sha256"])
    if None in digests:
        return None
    if digests[0] == digests[1]:
        return ()
    notes.append(f"{' or '.join(ENVIRONMENT_LOCKS)} differ; which packages is known where git has both commits")
    return None


def _metrics(one: About, other: About) -> Iterable[MetricChange]:
    before = {number.metric: number.value for number in one.numbers}
    for number in other.numbers:
        if number.metric in before:
            gain = METRICS[number.metric].sign * (number.value - before[number.metric])
            better = None if gain == 0 else gain > 0
            yield MetricChange(number.metric, number.name, before[number.metric], number.value, better)


def _rows(
    tracker: Tracker,
    one: About,
    other: About,
    read: tuple[_Files, _Files],
    notes: list[str],
) -> Iterable[Rows]:
    if None in (one.data["sha256"], other.data["sha256"]) or one.data["sha256"] == other.data["sha256"]:
        return
    before, after = map(_clean_splits, read)
    if before is not None and after is not None:
        for split in SPLITS:
            found = _differing(split, before.get(split, {}), after.get(split, {}))
            if found.added or found.removed:
                yield found
        return
    notes.append(
        "DVC's cache of this clone does not hold the clean data of both versions, so only the number of train rows is "
        "compared; to fetch them: .venv/bin/tuneline pull"
    )
    trained = [about_version.train_rows(tracker, about.model, about.version, notes) for about in (one, other)]
    if trained[0] is not None and trained[1] is not None:
        ids = [set(table["id"].to_pylist()) for table in trained if table is not None]
        yield Rows("train", len(ids[1] - ids[0]), len(ids[0] - ids[1]), (), ())


def _differing(split: str, before: Mapping[str, str], after: Mapping[str, str]) -> Rows:
    added = [source for row, source in after.items() if row not in before]
    removed = [source for row, source in before.items() if row not in after]
    return Rows(split, len(added), len(removed), tuple(added[:_NAMED]), tuple(removed[:_NAMED]))


def _clean_splits(read: _Files) -> dict[str, dict[str, str]] | None:
    """Split -> id -> source of its rows, from DVC's cache; None if the cache does not hold all of them."""
    paths = (read.params or {}).get("paths")
    clean = paths.get("clean") if isinstance(paths, dict) else None
    outs = [out for stage in (read.lock or {}).values() for out in stage.get("outs", [])]
    md5 = next((out.get("md5") for out in outs if out.get("path") == clean), None)
    if not isinstance(md5, str):
        return None
    cache = dvc_files.cache_folder()
    listing = objects.read_listing(cache, md5) if objects.is_folder(md5) else None
    if listing is None:
        return None
    found: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    columns = ["id", "source"]
    for name, part in sorted(listing.items()):
        split, _, file = name.partition("/")
        if split not in found or not file.endswith(".parquet"):
            continue
        try:
            table = pq.read_table(objects.place(cache, part), columns=columns).select(columns)
        except (OSError, pa.ArrowException, KeyError):
            return None
        found[split] |= dict(zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True))
    return found
