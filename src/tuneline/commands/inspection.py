"""What a file or a folder holds, read exactly as the pipeline would read it; nothing is changed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tuneline import environment, params
from tuneline.commands.use.open_set import ReadingArguments, reading_at, readings_of_sets
from tuneline.data.mapping import raw_set
from tuneline.data.mapping.choose import ShapeCounts, in_words, labels_by_file
from tuneline.data.mapping.convert import Shape
from tuneline.data.mapping.raw_set import Reading
from tuneline.data.preparing import long_rows
from tuneline.data.profiling.profile import Profile, Settings
from tuneline.data.reading import readers
from tuneline.data.reading.discover import printable
from tuneline.data.reading.grouped_messages import (
    MAX_NAMED,
    describe_excluded,
    first_names,
    group_messages,
    message_key,
)
from tuneline.data.reading.guards import damage
from tuneline.data.reading.raw_rows import FilePlan, Options, Portion, Rejected
from tuneline.data.records import field_texts, labels
from tuneline.data.records.record_form import Record, RecordForm
from tuneline.data.secrets import screening
from tuneline.errors import DataError
from tuneline.terminal import shortened

ACCEPTED, PARTLY, EMPTY, REFUSED = "accepted", "accepted with rows set aside", "empty", "refused"
"""The verdicts on a file."""

LISTED_ROWS = 1_000
"""Rows set aside that are listed for each file; all are counted."""

_SHOWN_ROWS = 5
_SHOWN_FILES = 20
_SHOWN_LABELS = 20
_BATCH, _BATCH_CHARACTERS = 1_000, 1_000_000
_NUMBERS = (1, 2)
"""Columns of the table that are numbers."""


@dataclass(frozen=True)
class How:
    """How files are read and measured: as the command line says, else as the project's params.yaml does."""

    options: Options = field(default_factory=Options)
    """How files are read that belong to no set."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of the record -> column of the files; empty where known shapes are to be recognised."""
    sets: Mapping[Path, Reading] = field(default_factory=dict)
    """How the files of a set are read, by its whole path; `columns` win over it."""
    settings: Settings = field(default_factory=Settings)


def as_in_project(asked: ReadingArguments) -> How:
    """How files are read where the command line does not say it: in a project, a set as its params.yaml says.

    Args:
        asked: what the command line says.

    Raises:
        ParamsError: params.yaml is wrong.
        DataError: data.reading is.
    """
    usual, columns = asked.over(Options()), asked.columns
    if not (environment.ENV_FILE.is_file() and Path(params.PARAMS_FILE).is_file()):
        return How(usual, columns)
    p = params.load()
    tokenizer = Path(p.paths.base, "tokenizer.json")
    settings = Settings(
        p.data.near_duplicates,
        p.finetune.max_length,
        tokenizer if tokenizer.is_file() else None,
        long_rows.bytes_per_token(p),
    )
    return How(usual, columns, readings_of_sets(p, asked), settings)


def inspect(paths: Sequence[Path], how: How) -> dict[str, Any]:
    """Read files and folders, each as a set of its own.

    Args:
        paths: of files or folders.
        how: they are read and measured.

    Returns:
        `files`, `sets` and `totals`, as docs/inspect.md describes them.
    """
    files: list[dict[str, Any]] = []
    sets: list[dict[str, Any]] = []
    problems: list[str] = []
    excluded: list[FilePlan] = []
    for path in paths:
        try:
            way = reading_at(path, how.sets) or Reading(how.options, {})
            plans = readers.plan(path, way.options)
        except DataError as error:
            files.append(_entry(printable(str(path)), message=str(error)))
            continue
        left_out = [replace(plan, name=_place(path, plan)) for plan in plans if plan.excluded]
        excluded += left_out
        plans = [plan for plan in plans if not plan.excluded]
        one = _Set(path, how.columns or way.columns, how.settings)
        of_set = [one.read(plan) for plan in plans]
        by_name = labels_by_file(plans)
        problems += _of_the_set(path, plans, one.columns, of_set, by_name)
        files += of_set
        sets += one.profiles(_rows_by_label(plans, of_set, by_name))
    totals = {
        "files": len(files),
        "refused": sum(file["verdict"] == REFUSED for file in files),
        "empty": sum(file["verdict"] == EMPTY for file in files),
        "excluded": [plan.name for plan in excluded],
        "rows": sum(file["rows"] for file in files),
        "accepted": sum(file["accepted"] for file in files),
        "problems": problems,
        "warnings": [describe_excluded(excluded)] if excluded else [],
    }
    unused = [pattern for pattern in how.options.exclude if all(plan.excluded != pattern for plan in excluded)]
    totals["warnings"] += [f"{pattern}: leaves no file out" for pattern in unused]
    return {"files": files, "sets": sets, "totals": totals}


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
        "shapes": {},
        "rejected": [],
        "reasons": {},
        "damaged": {},
        "warnings": [],
        "verdict": REFUSED,
        "message": None,
    }
    return entry | found


def _place(path: Path, plan: FilePlan) -> str:
    return printable(str(path / plan.name if path.is_dir() and not path.is_symlink() else path.parent / plan.name))


class _Set:
    """The files of one path, whose rows are measured together where they are of one type."""

    def __init__(self, path: Path, columns: Mapping[str, str], settings: Settings) -> None:
        self.path, self.columns, self._settings = path, columns, settings
        self._profiles: dict[RecordForm, Profile] = {}

    def profiles(self, by_name: Mapping[str, int]) -> list[dict[str, Any]]:
        """The profile of the rows of each type; with the labels that the names of the files give, and their rows."""
        found = [{"path": printable(str(self.path)), **profile.found()} for profile in self._profiles.values()]
        for one in found:
            if by_name and one["record_type"] == "text":
                one |= {"labels": dict(by_name), "label_remarks": [_BY_NAME, *labels.warnings_before_split(by_name)]}
        return found

    def read(self, plan: FilePlan) -> dict[str, Any]:
        """Read a file."""
        place = _place(self.path, plan)
        entry = _entry(place, format=plan.format or None, encoding=plan.encoding or None, warnings=list(plan.warnings))
        if not plan.portions and not plan.refusal:
            return entry | {"verdict": EMPTY, "message": _of_empty(place)}
        try:
            opened = raw_set.open_set(self.path, [plan], columns=self.columns, record_types=None, group_by=None)
            if plan.first_rows:
                entry["record_type"] = opened.form.record_type
            self._read(opened, plan, entry)
        except DataError as error:
            return entry | {"message": str(error), "verdict": REFUSED}
        if entry["rows"] and not entry["accepted"]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in entry["reasons"].items())
            message = f"{place}: none of its {entry['rows']:,} rows can be used ({reasons}); mend them"
            return entry | {"message": message}
        if not entry["rows"]:
            return entry | {"verdict": EMPTY, "message": _of_empty(place)}
        return entry | {"verdict": PARTLY if entry["accepted"] < entry["rows"] else ACCEPTED}

    def _read(self, opened: raw_set.RawSet, plan: FilePlan, entry: dict[str, Any]) -> None:
        """Count the rows of a file, and measure them."""
        reasons: Counter[str] = Counter()
        placeholders = 0
        first: list[str] = []
        damaged: Counter[str] = Counter()
        examples: dict[str, str] = {}
        shapes = ShapeCounts(plan, opened.shapes[0])
        form = opened.form
        if form not in self._profiles:
            self._profiles[form] = Profile(form, self._settings)
        profile = self._profiles[form]
        for rows in _batches(row for portion, shape in opened.portions for row in _rows(portion, shape, shapes)):
            good = [row for row in rows if isinstance(row, Record)]
            rejected = [row for row in rows if isinstance(row, Rejected)]
            entry["rows"] += len(rows)
            entry["accepted"] += len(good)
            reasons.update(row.reason for row in rejected)
            entry["rejected"] += [
                {"line": row.line, "offset": row.offset, "reason": row.reason, "detail": row.detail}
                for row in rejected[: LISTED_ROWS - len(entry["rejected"])]
            ]
            texts = [field_texts.texts(form, row.values) for row in good]
            count, found = field_texts.placeholders([row.source for row in good], texts)
            placeholders += count
            first = first or found
            counts, example = damage.count_damaged_rows([row.source for row in good], texts)
            damaged.update(counts)
            examples = example | examples
            profile.add(good, entry["path"])
        entry["reasons"] = dict(reasons.most_common())
        entry["damaged"] = {kind: damaged[kind] for kind in damage.KINDS if damaged[kind]}
        shown_examples = {kind: screening.hidden(example) for kind, example in examples.items()}
        entry["warnings"] += [
            f"{number:,} row(s) show damage ({kind}), as {shown_examples[kind]}; data.damaged says what becomes of them"
            for kind, number in entry["damaged"].items()
        ]
        entry["shapes"] = shapes.found() if entry["rows"] else {}
        if placeholders:
            entry["warnings"].append(
                f"{placeholders:,} row(s) hold a placeholder that was left unfilled, as {first[0]}; fill them, or a "
                "model learns to write them"
            )


_BY_NAME = "they are in the names of the files or folders, and read with `task: classification`"


def _rows_by_label(
    plans: Sequence[FilePlan], entries: Sequence[Mapping[str, Any]], by_name: Mapping[str, str]
) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for plan, entry in zip(plans, entries, strict=True):
        if plan.name in by_name:
            counts[by_name[plan.name]] += entry["accepted"]
    return dict(counts.most_common())


def _of_empty(place: str) -> str:
    return f"{place}: holds no rows: put your text there, or leave it out with `--exclude`"


def _rows(portion: Portion, shape: Shape, shapes: ShapeCounts) -> Iterator[Record | Rejected]:
    for row in readers.rows(portion):
        if isinstance(row, Rejected):
            yield row
        else:
            shapes.add(row)
            yield shape.record(row)


def _batches(rows: Iterable[Record | Rejected]) -> Iterator[list[Record | Rejected]]:
    """Rows in lists of bounded size, at least one row in each."""
    batch: list[Record | Rejected] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += sum(map(len, row.values)) if isinstance(row, Record) else 0
        if len(batch) >= _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _of_the_set(
    path: Path,
    plans: Sequence[FilePlan],
    columns: Mapping[str, str],
    entries: Sequence[dict[str, Any]],
    by_name: Mapping[str, str],
) -> list[str]:
    """What is wrong with a set though each of its files may be read."""
    for entry, plan in zip(entries, plans, strict=True):
        if plan.name in by_name:
            entry["warnings"].append(
                f"its name gives the label {by_name[plan.name]!r}, which is read with `task: classification`"
            )
    if not any(entry["rows"] or entry["verdict"] == REFUSED for entry in entries):
        return [f"{printable(str(path))}: holds no rows, in {len(plans)} file(s); put your text there"]
    usable = [plan for plan, entry in zip(plans, entries, strict=True) if entry["verdict"] != REFUSED]
    if len(usable) < 2:
        return []
    try:
        raw_set.open_set(path, usable, columns=columns, record_types=None, group_by=None)
    except DataError as error:
        return list(error.problems)
    return []


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for a person: a table of the files, what is to be said about each, and what the rows are like.

    Args:
        report: of `inspect`.

    Yields:
        Lines.
    """
    files = _folded(report["files"])
    head = ("verdict", "rows", "set aside", "format", "encoding", "record type", "file")
    table = [head, *(_cells(file) for file in files)]
    widths = [max(len(row[at]) for row in table) for at in range(len(head) - 1)]
    yield _line(head, widths)
    for file, cells in zip(files, table[1:], strict=True):
        yield _line(cells, widths)
        if file["message"]:
            yield from (f"    {line}" for line in file["message"].splitlines())
        if len(file["shapes"]) > 1:
            yield f"    rows by shape: {in_words(file['shapes'])}"
        if len(file["reasons"]) > 1:
            yield "    set aside: " + ", ".join(f"{reason} {count:,}" for reason, count in file["reasons"].items())
        for row in file["rejected"][:_SHOWN_ROWS]:
            byte = f" (byte {row['offset']:,})" if row["offset"] >= 0 else ""
            yield f"    {file['path']}:{row['line']}{byte}: {row['reason']}: {row['detail']}"
        aside = file["rows"] - file["accepted"]
        if file["rejected"] and aside > _SHOWN_ROWS:
            yield f"    and {aside - _SHOWN_ROWS:,} more rows set aside"
    # What is wrong with an empty file stands in its message.
    spoken = [file for file in report["files"] if file["verdict"] != EMPTY]
    warnings = [(file["path"], warning) for file in spoken for warning in file["warnings"]]
    yield from (f"warning: {warning}" for warning in group_messages(warnings))
    for one in report["sets"]:
        yield from _profile(one)
    totals = report["totals"]
    yield from (f"warning: {warning}" for warning in totals["warnings"])
    yield from totals["problems"]
    yield (
        f"{totals['files']:,} file(s), {totals['refused']:,} refused; {totals['rows']:,} rows, "
        f"{totals['rows'] - totals['accepted']:,} set aside"
    )


def _folded(files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The files, or one line for all of which the same is to be said where they are more than three.

    Files that are refused or empty for the same reason are always folded; those that are accepted whole only where
    there are many.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for file in files:
        key: tuple[str, ...] = (file["path"],)
        if file["message"] and not file["rows"]:
            key = (file["verdict"], message_key(file["path"], file["message"]))
        elif file["verdict"] == ACCEPTED and len(file["shapes"]) < 2 and len(files) > _SHOWN_FILES:
            key = (file["verdict"], *_cells(file)[3:6])
        groups.setdefault(key, []).append(file)
    folded: list[dict[str, Any]] = []
    for group in groups.values():
        if len(group) <= MAX_NAMED:
            folded += map(dict, group)
            continue
        one = dict(group[0])
        names = first_names([file["path"] for file in group])
        message = group_messages([(file["path"], file["message"]) for file in group]) if one["message"] else [None]
        one |= {"path": f"{len(group):,} files: {names}", "message": message[0] and message[0].partition("): ")[2]}
        one |= {key: sum(file[key] for file in group) for key in ("rows", "accepted")}
        folded.append(one)
    return folded


def _profile(one: Mapping[str, Any]) -> Iterator[str]:
    """What the rows of a set are like."""
    if not one["rows"]:
        return
    yield f"{one['path']}: {one['rows']:,} rows of {one['record_type']}"
    repeated = one["duplicates"]
    among = "" if repeated["rows"] == one["rows"] else f" among the first {repeated['rows']:,} rows"
    near = (
        "" if repeated["threshold"] is None else f", {repeated['near']:,} nearly ({repeated['threshold']:g} and more)"
    )
    yield f"  the same as an earlier row{among}: {repeated['exact']:,} exactly{near}"
    for kind in ("exact", "near"):
        examples = [f"{example['row']} as {example['of']}" for example in repeated[f"{kind}_examples"]]
        if examples:
            yield f"    {'exactly' if kind == 'exact' else 'nearly'}: {', '.join(examples)}"
    if lengths := one["lengths"]:
        yield from _lengths(lengths, one["rows"])
    if one["scripts"]:
        yield "  scripts: " + ", ".join(f"{script} {_share(share)}" for script, share in one["scripts"].items())
    if one["looked_at"] < one["rows"]:
        yield f"  of secrets and scripts only the first {one['looked_at']:,} rows say something"
    for kind, found in one["secrets"].items():
        places = ", ".join(f"{place['row']} {place['value']}" for place in found["places"])
        yield f"  secrets: {kind} {found['count']:,} in {found['rows']:,} rows: {places}"
    if counts := one.get("labels"):
        most = ", ".join(f"{shortened(label)} {count:,}" for label, count in islice(counts.items(), _SHOWN_LABELS))
        more = f" and {len(counts) - _SHOWN_LABELS:,} more" if len(counts) > _SHOWN_LABELS else ""
        yield f"  {len(counts):,} labels: {most}{more}"
        yield from (f"    {remark}" for remark in one["label_remarks"])


def _lengths(lengths: Mapping[str, Any], rows: int) -> Iterator[str]:
    estimated = f"estimated, {lengths['bytes_per_token']} bytes of UTF-8 each"
    how = f"by the tokenizer of {lengths['tokenizer']}" if lengths["tokenizer"] else estimated
    among = "" if lengths["rows"] == rows else f", of the first {lengths['rows']:,} rows"
    yield (
        f"  tokens of a row ({how}; without those of a chat template{among}): median {lengths['median']:,}, 90 % up to "
        f"{lengths['quantile_90']:,}, 99 % up to {lengths['quantile_99']:,}, longest {lengths['longest']:,}"
    )
    if over := lengths["over_max_length"]:
        yield (
            f"    {_share(over)} of the rows are longer than finetune.max_length {lengths['max_length']:,}; "
            f"{lengths['quantile_99']:,} would hold 99 %"
        )


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


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
