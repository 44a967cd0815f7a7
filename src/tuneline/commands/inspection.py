"""Report what files and folders contain, read as the pipeline reads them; nothing is changed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tuneline import environment, params
from tuneline.commands.use import suggested_values
from tuneline.commands.use.open_set import ReadingArguments, numbers_remark, reading_at, readings_of_sets
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
from tuneline.params.evaluate import FEWEST_GROUPS
from tuneline.terminal import shortened

ACCEPTED, PARTLY, EMPTY, REFUSED = "accepted", "accepted with rows set aside", "empty", "refused"
"""The verdicts on a file."""

LISTED_ROWS = 1_000
"""The number of rejected rows that are listed per file; all are counted."""

_SHOWN_ROWS = 5
_SHOWN_FILES = 20
_SHOWN_LABELS = 20
_BATCH, _BATCH_CHARACTERS = 1_000, 1_000_000
_ANSWER_IS_LAST = ("pair", "question", "alpaca")
"""Shapes whose last column becomes the completion, and whose others become the prompt."""
_LABELLED = ("label", "labels", "number")
"""Shapes of a column of texts and a column of labels or numbers."""
_NUMBERS = (1, 2)
"""Columns of the table that contain numbers."""


@dataclass(frozen=True)
class How:
    """How files are read and measured: by the command line, else by the params.yaml of the project."""

    options: Options = field(default_factory=Options)
    """How files outside the sets of the project are read."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of the record -> column of the files; if empty, the columns are recognised by their names."""
    sets: Mapping[Path, Reading] = field(default_factory=dict)
    """Absolute path of a set -> how its files are read; `columns` have precedence."""
    settings: Settings = field(default_factory=Settings)
    max_rejected: float | None = None
    """The share of rows of a set that may be unusable for `tuneline use`; None: there is no project."""


def reading_for_project(arguments: ReadingArguments) -> How:
    """How files are read: by the command line, else, for the sets of a project, by its params.yaml.

    Args:
        arguments: the command line.

    Raises:
        ParamsError: params.yaml is not valid.
        DataError: data.reading is not valid.
    """
    usual, columns = arguments.over(Options()), arguments.columns
    if not (environment.ENV_FILE.is_file() and Path(params.PARAMS_FILE).is_file()):
        return How(usual, columns)
    p = params.load()
    usual = replace(usual, likely=raw_set.encodings_of(p))
    tokenizer = Path(p.paths.base, "tokenizer.json")
    settings = Settings(
        p.data.near_duplicates,
        p.finetune.max_length,
        tokenizer if tokenizer.is_file() else None,
        long_rows.bytes_per_token(p),
    )
    return How(usual, columns, readings_of_sets(p, arguments), settings, p.data.max_rejected_fraction)


def inspect(paths: Sequence[Path], how: How) -> dict[str, Any]:
    """The report on files and folders; each is read as a set.

    Args:
        paths: of files or folders.
        how: how they are read and measured.

    Returns:
        `files`, `sets` and `totals`, as docs/inspect.md describes them.
    """
    files: list[dict[str, Any]] = []
    sets: list[dict[str, Any]] = []
    problems: list[str] = []
    few: list[str] = []
    too_many: list[str] = []
    excluded: list[FilePlan] = []
    for path in paths:
        try:
            way = reading_at(path, how.sets) or Reading(how.options, {})
            plans = readers.plan(path, way.options)
        except DataError as error:
            files.append(_entry(printable(str(path)), message=str(error)))
            continue
        left_out = [replace(plan, name=_path_of(path, plan)) for plan in plans if plan.excluded]
        excluded += left_out
        plans = [plan for plan in plans if not plan.excluded]
        read_set = _Set(path, how.columns or way.columns, how.settings)
        entries = [read_set.read(plan) for plan in plans]
        by_name = labels_by_file(plans)
        problems += _set_problems(path, plans, read_set.columns, entries, by_name)
        files += entries
        too_many += _too_many_rejected(path, entries, how.max_rejected)
        profiles = read_set.profiles(_rows_by_label(plans, entries, by_name))
        sets += profiles
        if not any(plan.split for plan in plans):
            few += filter(None, map(_few_rows, profiles))
    totals = {
        "files": len(files),
        "refused": sum(file["verdict"] == REFUSED for file in files),
        "empty": sum(file["verdict"] == EMPTY for file in files),
        "excluded": [plan.name for plan in excluded],
        "rows": sum(file["rows"] for file in files),
        "accepted": sum(file["accepted"] for file in files),
        "problems": problems,
        "warnings": [*([describe_excluded(excluded)] if excluded else []), *few, *too_many],
    }
    unused = [pattern for pattern in how.options.exclude if all(plan.excluded != pattern for plan in excluded)]
    totals["warnings"] += [f"--exclude {pattern}: matches no file" for pattern in unused]
    return {"files": files, "sets": sets, "totals": totals}


def _few_rows(profile: Mapping[str, Any]) -> str | None:
    """A warning if a set is too small to decide anything about a model that is trained on it."""
    rows = profile["rows"]
    share = suggested_values.shares_for(rows)["data.split.test"]
    if rows * share >= FEWEST_GROUPS:
        return None
    return f"{profile['path']}: {rows:,} rows are too few as a raw set: {suggested_values.few_rows_advice(share)}"


def _too_many_rejected(path: Path, entries: Sequence[Mapping[str, Any]], max_rejected: float | None) -> list[str]:
    """A warning if so many rows of a set are set aside that `tuneline use` refuses it."""
    read = [entry for entry in entries if entry["verdict"] in (ACCEPTED, PARTLY)]
    rows = sum(entry["rows"] for entry in read)
    aside = rows - sum(entry["accepted"] for entry in read)
    if max_rejected is None or not aside:
        return []
    reasons = sum((Counter(entry["reasons"]) for entry in read), Counter[str]())
    try:
        raw_set.check_rejected(printable(str(path)), rows, aside, reasons, (), max_rejected)
    except DataError as error:
        return [f"`tuneline use` would refuse this: {error.problems[0]}"]
    return []


def is_usable(report: Mapping[str, Any]) -> bool:
    """Whether neither a file nor a set was refused."""
    return not report["totals"]["refused"] and not report["totals"]["problems"]


def _entry(path: str, **found: Any) -> dict[str, Any]:
    """The part of the report on one file."""
    entry = {
        "path": path,
        "format": None,
        "encoding": None,
        "record_type": None,
        "rows": 0,
        "accepted": 0,
        "shapes": {},
        "columns": [],
        "rejected": [],
        "reasons": {},
        "damaged": {},
        "warnings": [],
        "verdict": REFUSED,
        "message": None,
    }
    return entry | found


def _path_of(path: Path, plan: FilePlan) -> str:
    return printable(str(path / plan.name if path.is_dir() and not path.is_symlink() else path.parent / plan.name))


class _Set:
    """The files of one path; rows of the same form are measured together."""

    def __init__(self, path: Path, columns: Mapping[str, str], settings: Settings) -> None:
        self.path, self.columns, self._settings = path, columns, settings
        self._profiles: dict[RecordForm, Profile] = {}

    def profiles(self, by_name: Mapping[str, int]) -> list[dict[str, Any]]:
        """The profile of the rows of each form, with the labels in the names of files and their number of rows."""
        found = [{"path": printable(str(self.path)), **profile.as_json()} for profile in self._profiles.values()]
        for profile in found:
            if profile["record_type"] == "classification" and (remark := numbers_remark(profile["labels"])):
                profile["label_remarks"] = [*profile["label_remarks"], remark]
            if by_name and profile["record_type"] == "text":
                profile |= {
                    "labels": dict(by_name),
                    "label_remarks": [_BY_NAME, *labels.warnings_before_split(by_name)],
                }
        return found

    def read(self, plan: FilePlan) -> dict[str, Any]:
        """The part of the report on one file."""
        path = _path_of(self.path, plan)
        entry = _entry(path, format=plan.format or None, encoding=plan.encoding or None, warnings=list(plan.warnings))
        if not plan.portions and not plan.refusal:
            return entry | {"verdict": EMPTY, "message": _empty_message(path)}
        try:
            opened = raw_set.open_set(self.path, [plan], columns=self.columns, record_types=None, group_by=None)
            if plan.first_rows:
                entry["record_type"] = opened.form.record_type
            self._read(opened, plan, entry)
        except DataError as error:
            return entry | {"message": str(error), "verdict": REFUSED}
        if entry["rows"] and not entry["accepted"]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in entry["reasons"].items())
            message = f"{path}: none of its {entry['rows']:,} rows can be used ({reasons}); correct them"
            return entry | {"message": message}
        if not entry["rows"]:
            return entry | {"verdict": EMPTY, "message": _empty_message(path)}
        return entry | {"verdict": PARTLY if entry["accepted"] < entry["rows"] else ACCEPTED}

    def _read(self, opened: raw_set.RawSet, plan: FilePlan, entry: dict[str, Any]) -> None:
        """Count and measure the rows of a file."""
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
            f"{number:,} row(s) have damage ({kind}), such as {shown_examples[kind]}; data.damaged decides whether "
            "they are kept, repaired or dropped"
            for kind, number in entry["damaged"].items()
        ]
        entry["shapes"] = shapes.found() if entry["rows"] else {}
        entry["columns"] = list(opened.shapes[0].columns) if entry["rows"] else []
        if placeholders:
            entry["warnings"].append(
                f"{placeholders:,} row(s) contain an unfilled placeholder, such as {first[0]}; fill it, or the model "
                "learns to write it"
            )


_BY_NAME = "the labels are in the names of the files or folders; they are used with `task: classification`"


def _rows_by_label(
    plans: Sequence[FilePlan], entries: Sequence[Mapping[str, Any]], by_name: Mapping[str, str]
) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for plan, entry in zip(plans, entries, strict=True):
        if plan.name in by_name:
            counts[by_name[plan.name]] += entry["accepted"]
    return dict(counts.most_common())


def _empty_message(path: str) -> str:
    return f"{path}: has no rows; add rows, or exclude it with `--exclude`"


def _rows(portion: Portion, shape: Shape, shapes: ShapeCounts) -> Iterator[Record | Rejected]:
    for row in readers.rows(portion):
        if isinstance(row, Rejected):
            yield row
        else:
            shapes.add(row)
            yield shape.record(row)


def _batches(rows: Iterable[Record | Rejected]) -> Iterator[list[Record | Rejected]]:
    """The rows in lists of bounded size, at least one row per list."""
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


def _set_problems(
    path: Path,
    plans: Sequence[FilePlan],
    columns: Mapping[str, str],
    entries: Sequence[dict[str, Any]],
    by_name: Mapping[str, str],
) -> list[str]:
    """The problems of a set whose files can all be read."""
    for entry, plan in zip(entries, plans, strict=True):
        if plan.name in by_name:
            entry["warnings"].append(
                f"the label {by_name[plan.name]!r} in its name is used with `task: classification`"
            )
    if not any(entry["rows"] or entry["verdict"] == REFUSED for entry in entries):
        return [f"{printable(str(path))}: has no rows in its {len(plans)} file(s); add rows"]
    usable = [plan for plan, entry in zip(plans, entries, strict=True) if entry["verdict"] != REFUSED]
    if len(usable) < 2:
        return []
    try:
        raw_set.open_set(path, usable, columns=columns, record_types=None, group_by=None)
    except DataError as error:
        return list(error.problems)
    return []


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a report for people: a table of the files with their problems, warnings, and profiles of the rows.

    Args:
        report: from `inspect`.
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
    yield from _read_as(report["files"])
    # The message of an empty file says what its warnings say.
    not_empty = [file for file in report["files"] if file["verdict"] != EMPTY]
    warnings = [(file["path"], warning) for file in not_empty for warning in file["warnings"]]
    yield from (f"warning: {warning}" for warning in group_messages(warnings))
    for profile in report["sets"]:
        yield from _profile_lines(profile)
    totals = report["totals"]
    yield from (f"warning: {warning}" for warning in totals["warnings"])
    yield from totals["problems"]
    yield (
        f"{totals['files']:,} file(s), {totals['refused']:,} refused; {totals['rows']:,} rows, "
        f"{totals['rows'] - totals['accepted']:,} set aside"
    )


def _read_as(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What becomes of the columns; one line for all files that are read alike."""
    ways = Counter((next(iter(file["shapes"])), tuple(file["columns"])) for file in files if file["columns"])
    for (kind, columns), count in ways.items():
        names = [printable(shortened(column)) for column in columns]
        said = f"from {', '.join(names)}"
        if kind in _ANSWER_IS_LAST and len(names) > 1:
            said = f"prompt from {', '.join(names[:-1])}; completion from {names[-1]}"
        elif kind in _LABELLED:
            said = f"text from {names[0]}; label from {names[1]}"
        yield f"{count:,} file{'s' if count > 1 else ''} read as {kind}: {said}"


def _folded(files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The files; more than three files with the same message are one line.

    This holds for refused and empty files always, and for accepted files only if there are many.
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
        line = dict(group[0])
        names = first_names([file["path"] for file in group])
        message = group_messages([(file["path"], file["message"]) for file in group]) if line["message"] else [None]
        line |= {"path": f"{len(group):,} files: {names}", "message": message[0] and message[0].partition("): ")[2]}
        line |= {key: sum(file[key] for file in group) for key in ("rows", "accepted")}
        folded.append(line)
    return folded


def _profile_lines(profile: Mapping[str, Any]) -> Iterator[str]:
    """The lines about the rows of a set."""
    if not profile["rows"]:
        return
    yield f"{profile['path']}: {profile['rows']:,} rows of {profile['record_type']}"
    repeated = profile["duplicates"]
    among = "" if repeated["rows"] == profile["rows"] else f" among the first {repeated['rows']:,} rows"
    near = (
        ""
        if repeated["threshold"] is None
        else f", {repeated['near']:,} near (similarity {repeated['threshold']:g} or more)"
    )
    yield f"  duplicates of earlier rows{among}: {repeated['exact']:,} exact{near}"
    for kind in ("exact", "near"):
        examples = [f"{example['row']} of {example['of']}" for example in repeated[f"{kind}_examples"]]
        if examples:
            yield f"    {kind}: {', '.join(examples)}"
    if lengths := profile["lengths"]:
        yield from _length_lines(lengths, profile["rows"])
    if profile["scripts"]:
        yield "  scripts: " + ", ".join(f"{script} {_share(share)}" for script, share in profile["scripts"].items())
    if profile["looked_at"] < profile["rows"]:
        yield f"  scripts and secrets: only the first {profile['looked_at']:,} rows were searched"
    for kind, found in profile["secrets"].items():
        places = ", ".join(f"{place['row']} {place['value']}" for place in found["places"])
        yield f"  secrets: {kind} {found['count']:,} in {found['rows']:,} rows: {places}"
    if counts := profile.get("labels"):
        most = ", ".join(f"{shortened(label)} {count:,}" for label, count in islice(counts.items(), _SHOWN_LABELS))
        more = f" and {len(counts) - _SHOWN_LABELS:,} more" if len(counts) > _SHOWN_LABELS else ""
        yield f"  {len(counts):,} labels: {most}{more}"
        yield from (f"    {remark}" for remark in profile["label_remarks"])


def _length_lines(lengths: Mapping[str, Any], rows: int) -> Iterator[str]:
    estimated = f"estimated at {lengths['bytes_per_token']} bytes of UTF-8 per token"
    how = f"counted by the tokenizer of {lengths['tokenizer']}" if lengths["tokenizer"] else estimated
    among = "" if lengths["rows"] == rows else f", of the first {lengths['rows']:,} rows"
    yield (
        f"  tokens per row ({how}; without the chat template{among}): median {lengths['median']:,}, 90 % of rows up to "
        f"{lengths['quantile_90']:,}, 99 % up to {lengths['quantile_99']:,}, longest {lengths['longest']:,}"
    )
    if over := lengths["over_max_length"]:
        yield (
            f"    {_share(over)} of the rows are longer than finetune.max_length {lengths['max_length']:,}; "
            f"{lengths['quantile_99']:,} is enough for 99 % of them"
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
