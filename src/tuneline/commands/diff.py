"""Print in words how two versions differ."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from tuneline.decisions.version_difference import Change, Difference, MetricChange, Rows
from tuneline.params.gate import METRICS, PROBED

_ACCEPTED = "raw.ok"
"""What validate_raw writes about the rows that it has accepted."""
_SHORT = 12
_NAMED = 5
"""The most rows, and the most files of code, that are printed by name."""


def lines(found: Difference) -> Iterator[str]:
    """What `tuneline diff` prints.

    Args:
        found: how the versions differ.
    """
    yield f"{found.model}: from version {found.before} to version {found.after}"
    if found.same_model:
        yield "  both are the same model, byte for byte"
    verdict = found.verdict
    has_other_rows = any(rows.split == "test" for rows in found.rows)
    yield from _section(
        "verdict",
        [f"was {_last(verdict.before)}, is {_last(verdict.after)}"] if verdict else [f"the same: {found.last_verdict}"],
    )
    yield from _section("params", _known(found.params, _param))
    yield from _section("data", _data(found))
    yield from _section("base", [_base(found.base)] if found.base else ["the same"])
    yield from _section("code", _code(found) if found.code else ["the same"])
    yield from _section("environment", _known(found.packages, _package))
    yield from _section("metrics", _metrics(found.metrics, has_other_rows))
    if found.notes:
        yield from _section("not compared", found.notes)


def _known(changes: Sequence[Change] | None, line: Callable[[Change], str]) -> Iterable[str]:
    if changes is None:
        return ["not known"]
    return map(line, changes) if changes else ["the same"]


def _section(title: str, content: Iterable[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from (f"  {line}" for line in content)


def _last(verdicts: Any) -> str:
    return verdicts[-1] if verdicts else "none"


def _param(change: Change) -> str:
    return _in_words(change.name, _value(change.before), _value(change.after), change)


def _in_words(name: str, before: str, after: str, change: Change) -> str:
    if change.before is None:
        return f"{name} was not set, is {after}"
    if change.after is None:
        return f"{name} was {before}, is not set"
    return f"{name} was {before}, is {after}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _data(found: Difference) -> Iterator[str]:
    if found.data is None:
        yield "not known"
    elif not found.data and not found.rows:
        yield "the same"
    for change in found.data or ():
        if change.before is None:
            yield f"{change.name} was added"
        elif change.after is None:
            yield f"{change.name} was removed"
        elif PurePath(change.name).name == _ACCEPTED:
            yield "the rows that validate_raw has accepted are others"
        else:
            yield f"{change.name} has changed"
    if found.rows:
        yield "(added: also rows that were dropped before, as repeats or held-out text; removed: also rows dropped now)"
    for rows in found.rows:
        yield from _rows(rows)


def _rows(rows: Rows) -> Iterator[str]:
    yield f"{rows.split}: {_count(rows.added)} added, {rows.removed:,} removed"
    for sign, count, sources in (("+", rows.added, rows.added_sources), ("−", rows.removed, rows.removed_sources)):
        yield from (f"  {sign} {source}" for source in sources[:_NAMED])
        if sources and count > _NAMED:
            yield f"  {sign} and {count - _NAMED:,} more"


def _count(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


def _base(change: Change) -> str:
    before, after = (
        f"{one['base']}, sha256 {one['sha256'][:_SHORT]}" if one["sha256"] else "not known"
        for one in (change.before, change.after)
    )
    return f"was {before}, is {after}"


def _code(found: Difference) -> Iterator[str]:
    commit, *files = found.code
    before, after = (str(one or "not known")[:_SHORT] for one in (commit.before, commit.after))
    yield f"was commit {before}, is {after}"
    yield from (f"{one.name} was {one.after or one.before}" for one in files[:_NAMED])
    if len(files) > _NAMED:
        yield f"and {len(files) - _NAMED} more files; all of them: git diff {commit.before} {commit.after}"
    if not files:
        yield "the code is the same" if found.code_is_known else "which files differ is not known"


def _package(change: Change) -> str:
    return _in_words(change.name, str(change.before), str(change.after), change)


def _metrics(changes: Sequence[MetricChange], has_other_rows: bool) -> Iterator[str]:
    if not changes:
        yield "none that both have"
    if has_other_rows and any(one.metric not in PROBED for one in changes):
        yield (
            "(the test rows differ: numbers about them cannot be compared and have no verdict; the others are measured "
            "on rows of their own, which may differ too)"
        )
    for one in changes:
        yield _metric(one, has_verdict=one.metric in PROBED or not has_other_rows)


def _metric(change: MetricChange, *, has_verdict: bool) -> str:
    digits, better = METRICS[change.metric].digits, METRICS[change.metric].better
    verdict = {True: "better", False: "worse", None: "the same"}[change.is_better]
    verdict = "neither better nor worse" if better == "neither" and change.before != change.after else verdict
    numbers = f"{change.name} was {change.before:.{digits}f}, is {change.after:.{digits}f}"
    return f"{numbers} ({verdict})" if has_verdict else numbers
