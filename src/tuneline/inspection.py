"""What a file or a folder holds, read exactly as the pipeline would read it; nothing is changed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from tuneline import environment, params
from tuneline.data.mapping import fieldtexts, records
from tuneline.data.mapping.labelnames import label_names
from tuneline.data.mapping.records import Reading, Record
from tuneline.data.reading import damage, readers
from tuneline.data.reading.places import shown
from tuneline.data.reading.rows import FilePlan, Options, Rejected
from tuneline.errors import DataError

ACCEPTED, PARTLY, REFUSED = "accepted", "accepted with rows set aside", "refused"
"""The verdicts on a file."""

LISTED_ROWS = 1_000
"""Rows set aside that are listed for each file; all are counted."""

_SHOWN_ROWS = 5
_BATCH = 1_000
_NUMBERS = (1, 2)
"""Columns of the table that are numbers."""


def as_in_project(
    encoding: str | None, layout: Literal["rows", "documents"] | None
) -> tuple[Options, dict[Path, Reading]]:
    """How files are read where the command line does not say it: in a project, a set as its params.yaml says.

    Args:
        encoding: by Python's name; None: not said.
        layout: of plain text; None: not said.

    Returns:
        How files are read that belong to no set; and how each set is, by its whole path, for `inspect`.

    Raises:
        ParamsError: params.yaml is wrong.
        DataError: data.reading is.
    """
    usual = Options(encoding or Options().encoding, layout or Options().layout)
    if not (environment.ENV_FILE.is_file() and Path(params.PARAMS_FILE).is_file()):
        return usual, {}
    p = params.load()
    sets = records.readings(p, [name for name in p.data.reading if name != params.PRETRAINING])
    return usual, {
        Path(path).resolve(): Reading(
            replace(options, encoding=encoding or options.encoding, layout=layout or options.layout), columns
        )
        for path, (options, columns) in sets.items()
    }


def inspect(
    paths: Sequence[Path],
    options: Options,
    columns: Mapping[str, str],
    sets: Mapping[Path, Reading] | None = None,
) -> dict[str, Any]:
    """Read files and folders, each as a set of its own.

    Args:
        paths: of files or folders.
        options: how they are read that belong to no set.
        columns: field of the record -> column of the files; empty where known shapes are to be recognised.
        sets: how the files of a set are read, by its whole path; `columns` win over it.

    Returns:
        `files` and `totals`, as docs/inspect.md describes them.
    """
    files: list[dict[str, Any]] = []
    problems: list[str] = []
    for path in paths:
        try:
            way = _reading_of(path, sets or {}) or Reading(options, {})
            plans = readers.plan(path, way.options)
        except DataError as error:
            files.append(_entry(shown(str(path)), message=str(error)))
            continue
        mapping = columns or way.columns
        of_set = [_inspect(path, plan, mapping) for plan in plans]
        problems += _of_the_set(path, plans, mapping, of_set)
        files += of_set
    totals = {
        "files": len(files),
        "refused": sum(file["verdict"] == REFUSED for file in files),
        "rows": sum(file["rows"] for file in files),
        "accepted": sum(file["accepted"] for file in files),
        "problems": problems,
    }
    return {"files": files, "totals": totals}


def _reading_of(path: Path, sets: Mapping[Path, Reading]) -> Reading | None:
    """How the set is read that a path is, or that it lies in."""
    whole = path.resolve()
    return next((way for at, way in sets.items() if whole.is_relative_to(at)), None)


def is_usable(report: Mapping[str, Any]) -> bool:
    """Whether nothing was refused, neither a file nor a set as a whole."""
    return not report["totals"]["refused"] and not report["totals"]["problems"]


def _entry(path: str, **found: Any) -> dict[str, Any]:
    """A file's part of the report."""
    entry = {
        "path": path,
        "format": None,
        "encoding": None,
        "record_type": None,
        "rows": 0,
        "accepted": 0,
        "rejected": [],
        "reasons": {},
        "damaged": {},
        "warnings": [],
        "verdict": REFUSED,
        "message": None,
    }
    return entry | found


def _place(path: Path, plan: FilePlan) -> str:
    return shown(str(path / plan.name if path.is_dir() and not path.is_symlink() else path.parent / plan.name))


def _inspect(path: Path, plan: FilePlan, columns: Mapping[str, str]) -> dict[str, Any]:
    entry = _entry(
        _place(path, plan), format=plan.format or None, encoding=plan.encoding or None, warnings=list(plan.warnings)
    )
    if not plan.portions and not plan.refusal:
        return entry | {"verdict": ACCEPTED}
    try:
        opened = records.set_of(path, [plan], columns=columns, record_types=None, group_by=None)
        if plan.first_rows:
            entry["record_type"] = opened.record_type
        _read(opened, entry)
    except DataError as error:
        return entry | {"message": str(error), "verdict": REFUSED}
    if entry["rows"] and not entry["accepted"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in entry["reasons"].items())
        message = f"{entry['path']}: none of its {entry['rows']:,} rows can be used ({reasons}); mend them"
        return entry | {"message": message}
    if not entry["rows"]:
        entry["warnings"].append("holds no rows")
    return entry | {"verdict": PARTLY if entry["accepted"] < entry["rows"] else ACCEPTED}


def _read(opened: records.RawSet, entry: dict[str, Any]) -> None:
    """Count the rows of a file."""
    reasons: Counter[str] = Counter()
    placeholders = 0
    first: list[str] = []
    damaged: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for rows in _batches(row for portion, shape in opened.portions for row in records.read(portion, shape)):
        good = [row for row in rows if isinstance(row, Record)]
        rejected = [row for row in rows if isinstance(row, Rejected)]
        entry["rows"] += len(rows)
        entry["accepted"] += len(good)
        reasons.update(row.reason for row in rejected)
        entry["rejected"] += [
            {"line": row.line, "offset": row.offset, "reason": row.reason, "detail": row.detail}
            for row in rejected[: LISTED_ROWS - len(entry["rejected"])]
        ]
        texts = [records.texts(opened.record_type, opened.conversational, row.values) for row in good]
        count, named = fieldtexts.placeholders([row.source for row in good], texts)
        placeholders += count
        first = first or named
        count, named = damage.screen([row.source for row in good], texts)
        damaged.update(count)
        shown = named | shown
    entry["reasons"] = dict(reasons.most_common())
    entry["damaged"] = {kind: damaged[kind] for kind in damage.KINDS if damaged[kind]}
    entry["warnings"] += [
        f"{number:,} row(s) show damage ({kind}), as {shown[kind]}; data.damaged says what becomes of them"
        for kind, number in entry["damaged"].items()
    ]
    if placeholders:
        entry["warnings"].append(
            f"{placeholders:,} row(s) hold a placeholder that was left unfilled, as {first[0]}; fill them, or a model "
            "learns to write them"
        )


def _batches(rows: Iterator[Record | Rejected]) -> Iterator[list[Record | Rejected]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _of_the_set(
    path: Path, plans: Sequence[FilePlan], columns: Mapping[str, str], entries: Sequence[dict[str, Any]]
) -> list[str]:
    """What is wrong with a set though each of its files may be read."""
    labels = label_names(plans)
    for entry, plan in zip(entries, plans, strict=True):
        if plan.name in labels:
            entry["warnings"].append(
                f"its name gives the label {labels[plan.name]!r}, which is read with `task: classification`"
            )
    if not any(entry["rows"] or entry["verdict"] == REFUSED for entry in entries):
        return [f"{shown(str(path))}: holds no rows, in {len(plans)} file(s); put your text there"]
    usable = [plan for plan, entry in zip(plans, entries, strict=True) if entry["verdict"] != REFUSED]
    if len(usable) < 2:
        return []
    try:
        records.set_of(path, usable, columns=columns, record_types=None, group_by=None)
    except DataError as error:
        return list(error.problems)
    return []


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for a person: a table of the files, and under each what is to be said about it.

    Args:
        report: of `inspect`.

    Yields:
        Lines.
    """
    head = ("verdict", "rows", "set aside", "format", "encoding", "record type", "file")
    table = [head, *(_cells(file) for file in report["files"])]
    widths = [max(len(row[at]) for row in table) for at in range(len(head) - 1)]
    yield _line(head, widths)
    for file, cells in zip(report["files"], table[1:], strict=True):
        yield _line(cells, widths)
        if file["message"]:
            yield from (f"    {line}" for line in file["message"].splitlines())
        if len(file["reasons"]) > 1:
            yield "    set aside: " + ", ".join(f"{reason} {count:,}" for reason, count in file["reasons"].items())
        for row in file["rejected"][:_SHOWN_ROWS]:
            byte = f" (byte {row['offset']:,})" if row["offset"] >= 0 else ""
            yield f"    {file['path']}:{row['line']}{byte}: {row['reason']}: {row['detail']}"
        aside = file["rows"] - file["accepted"]
        if aside > _SHOWN_ROWS:
            yield f"    and {aside - _SHOWN_ROWS:,} more rows set aside"
        yield from (f"    warning: {warning}" for warning in file["warnings"])
    totals = report["totals"]
    yield from totals["problems"]
    yield (
        f"{totals['files']:,} file(s), {totals['refused']:,} refused; {totals['rows']:,} rows, "
        f"{totals['rows'] - totals['accepted']:,} set aside"
    )


def _cells(file: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (f"{file['rows']:,}", f"{file['rows'] - file['accepted']:,}") if file["rows"] else ("-", "-")
    return (
        file["verdict"],
        *counts,
        file["format"] or "-",
        file["encoding"] or "-",
        file["record_type"] or "-",
        file["path"],
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if at in _NUMBERS else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=False))
    )
    return "  ".join([*padded, cells[-1]])
