"""What an erasure concerns: the rows, the versions that saw them, and all that was made from them.

The journal in work/ keeps what was found, so that a killed erasure is continued without asking again.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuneline import git
from tuneline.core import files
from tuneline.data.reading.raw_rows import Options
from tuneline.data.removing import cut_rows, found_rows
from tuneline.data.removing.found_rows import FoundRows, Selection
from tuneline.decisions import (
    erasure_sought,
    erasure_texts,
    erasure_versions,
    kept_trials,
    meant_rows,
    raw_history,
    returning_rows,
    source_commit,
)
from tuneline.decisions.erasure_texts import Traces
from tuneline.decisions.meant_rows import Past
from tuneline.decisions.raw_history import RawHistory
from tuneline.decisions.unfinished_erasure import JOURNAL
from tuneline.errors import DataError, PipelineError
from tuneline.params import PARAMS_FILE, Params
from tuneline.pipeline import dvc_files, graph, objects
from tuneline.pipeline.graph import Recorded
from tuneline.registry import history
from tuneline.registry.tracking import Tracker

_MOST_PLACES = 20


@dataclass(frozen=True)
class Asked:
    """The rows that a person names."""

    groups: tuple[tuple[str, str], ...] = ()
    """Columns with a value."""
    rows: tuple[str, ...] = ()
    """Ids of clean rows, or places as FILE:LINE."""

    def digest(self) -> str:
        """Identifies the question, without its text."""
        return files.digest([sorted(map(list, self.groups)), sorted(self.rows)])


@dataclass
class Journal:
    """What an erasure has found."""

    asked: str
    salt: str
    columns: list[list[str]]
    digests: list[str]
    texts: list[list[str]]
    proofs: list[str]
    """A salted digest of each erased row."""
    sought: list[str]
    """Texts of the rows that no other row holds."""
    counts: dict[str, int]
    """Set -> number of rows."""
    versions: dict[str, str]
    """Version -> what it saw, in words."""
    aliases: dict[str, str]
    """Alias -> version that loses it."""
    runs: list[str]
    made: list[str]
    """What DVC has recorded of sets that hold the rows, and of what was made from them, as md5s."""
    objects: list[str]
    """The objects of these, those that lists name included."""
    outputs: list[str]
    searches: dict[str, str] = field(default_factory=dict)
    """Search -> what its trials saw, in words."""
    files: dict[str, str | None] = field(default_factory=dict)
    """Changed file -> its sha256; None if no row of it was left."""
    in_remote: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    """The objects that were deleted from DVC's cache, or are about to be."""
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Version -> where its files are, which tuneline has not made and does not delete."""
    is_remote_done: bool = False
    last_entry: int = 0
    """The number of the last entry of the history when the erasure began."""
    places: list[str] = field(default_factory=list)
    """Set, file and line of the rows, without their texts."""
    commits: list[str] = field(default_factory=list)
    """The git commits that versions were made from, which no ref may keep."""
    key: str = ""
    """Of `returning_rows`."""
    marks: list[list[str]] = field(default_factory=list)
    """By which the rows are recognised when they come back."""
    unrecognisable: int = 0
    """The rows that cannot be recognised."""
    short: list[str] = field(default_factory=list)
    """Short texts of the rows that are no value of another row."""
    unsearched: int = 0
    """The rows of which no text is searched for."""
    answers: list[list[Any]] = field(default_factory=list)
    """What `RawHistory` has answered: a remote that holds earlier sets is not asked again."""
    merges: dict[str, list[str] | None] = field(default_factory=dict)
    """What `RawHistory` knows about folders of merged versions."""
    earlier: int = 0
    """The rows that only earlier raw sets hold."""
    notes: list[str] = field(default_factory=list)
    """What could not be looked at, in sentences."""
    is_remote_asked: bool = False
    """Whether the objects in the remote are to be deleted."""
    remote_problem: str = ""
    """Why it is not known what the remote holds."""
    maybe_in_remote: list[str] = field(default_factory=list)
    """The objects that the remote may hold, if that is not known."""

    @property
    def selection(self) -> Selection:
        """The rows."""
        columns = tuple((column, value) for column, value in self.columns)
        return Selection(columns, frozenset(self.digests), tuple(map(tuple, self.texts)))

    def raw_history(self, p: Params) -> RawHistory:
        """Answers whether raw sets hold the rows, as far as they were asked before anything was changed."""
        known = {(path, md5, is_text): count for path, md5, is_text, count in self.answers}
        options, seen = raw_history.set_options(p), frozenset(self.versions)
        return RawHistory(self.selection, options, known, needs_remote=False, merges=self.merges, seen=seen)

    def save(self) -> None:
        """Write the journal, readable by its owner only."""
        with files.atomic_file(JOURNAL) as temporary:
            temporary.touch()
            temporary.chmod(0o600)
            temporary.write_text(json.dumps(asdict(self)), "utf-8")


def read_unfinished(asked: Asked) -> Journal | None:
    """The journal of an erasure that was begun and is not finished; None if there is none.

    Raises:
        PipelineError: it is about other rows.
    """
    if not JOURNAL.is_file():
        return None
    journal = Journal(**files.read_json(JOURNAL))
    if journal.asked != asked.digest():
        raise PipelineError(
            f"{JOURNAL}: another erasure is not finished; finish it first with the same `tuneline forget …`"
        )
    return journal


def find(p: Params, tracker: Tracker, asked: Asked, *, unknown: bool) -> Journal:
    """Find all that an erasure concerns; nothing is changed.

    Args:
        p: the params.
        tracker: the registry.
        asked: the rows.
        unknown: whether that of which it is not known whether it saw the rows is concerned too.

    Raises:
        DataError: no row is meant, or a file cannot be changed, or it is not known whether a version saw the rows.
        PipelineError: DVC's remote cannot be read, and only it can tell whether a set holds the rows.
        TrackingError: MLflow does not answer.
    """
    _refuse_absent(p)
    options = raw_history.set_options(p)
    tags = tracker.all_version_tags(p.registry.model)
    named = [commit for own in tags.values() if source_commit.is_sha(commit := own.get(source_commit.TAG, ""))]
    here, commits = raw_history.workspace(), list(raw_history.commits(named))
    everywhere = [here, *commits]
    raw = RawHistory(Selection(), options, needs_remote=not unknown)
    selection = meant_rows.selection(p, asked.groups, asked.rows, raw, everywhere)
    raw.selection = selection
    text = p.data.pretraining if p.data.pretraining != p.data.raw else None
    found = {path: found_rows.find(Path(path), how, selection) for path, how in options.items() if path != text}
    rows = [row for of_set in found.values() for one in of_set for row in one.rows]
    past = meant_rows.find_past(p, raw, everywhere, [path for path in options if path != text])
    own = erasure_texts.traces(p, Path(p.data.raw), selection) if found.get(p.data.raw) else Traces()
    texts = tuple(dict.fromkeys([*own.texts, *past.texts])) if text in options else ()
    digests = {*selection.digests, *map(found_rows.digest, [*rows, *past.rows])}
    selection = Selection(selection.values, frozenset(digests), texts)
    if text in options:
        found[text] = found_rows.find(Path(text), options[text], selection, is_text=True)
    found = {path: of_set for path, of_set in found.items() if of_set}
    _refuse_unchangeable(p, found, meant_rows.in_other_sets(here, options, selection))
    raw = RawHistory(selection, options, raw.answers, needs_remote=not unknown)
    seen, lost = erasure_versions.find_versions(p, tracker, raw, own.ids | past.ids)
    unclear = [f"version {version}: {why}" for version, why in lost.items()]
    if not (found or seen or past.rows or (lost and unknown)):
        raise DataError(_nothing(options, past), *unclear)
    if lost and not unknown:
        raise DataError(
            *unclear,
            "so it is not known whether these versions saw the rows; fetch their data with `tuneline pull`, or erase "
            "them too with --erase-unknown",
        )
    seen |= lost
    raw.seen = frozenset(seen)
    _refuse_merge_folders(p, here, raw)
    made = raw_history.read_made(here, raw)
    dropped = made.dropped | raw_history.sets_with_rows(everywhere, raw)
    for recorded in commits:
        dropped |= raw_history.read_made(recorded, raw).dropped
    searches = kept_trials.that_saw(raw)
    dropped |= {md5 for name in searches for md5 in kept_trials.made_by(name)}
    # All that a remote must answer is asked before anything is changed.
    raw_history.kept_objects(here, commits, raw, made=dropped, is_trained=False)
    others = {path: how for path, how in options.items() if path != text or not p.data.frozen_pretraining}
    every = [*rows, *(row for row in past.rows if row not in rows)]
    sought = erasure_sought.choose(every, others, selection, text)
    kept = (row.values for path, how in options.items() if path != text for _, row in found_rows.rows(Path(path), how))
    known = returning_rows.recognisable(every, (row for row in kept if not selection.means(row)))
    key = returning_rows.known_key()
    salt = secrets.token_hex(32)
    return Journal(
        asked=asked.digest(),
        salt=salt,
        columns=[list(pair) for pair in selection.values],
        digests=sorted(digests),
        texts=[list(parts) for parts in texts],
        proofs=sorted({salted(salt, row) for row in every}),
        sought=sought.long,
        key=key,
        marks=returning_rows.marks(key, known),
        unrecognisable=sum(returning_rows.texts_of(row) not in known for row in every),
        short=sought.short,
        unsearched=sought.unsearched,
        counts={path: sum(len(one.meant) for one in of_set) for path, of_set in found.items()},
        versions=dict(sorted(seen.items(), key=lambda one: int(one[0]))),
        aliases={name: version for name, version in tracker.aliases(p.registry.model).items() if version in seen},
        runs=erasure_versions.find_runs(p, tracker, raw, seen),
        made=sorted(dropped),
        objects=sorted(objects.with_listed(dvc_files.cache_folder(), dropped)),
        outputs=list(made.paths),
        searches=searches,
        places=[f"{file_of(Path(path), one)}:{line}" for path, of in found.items() for one in of for line in one.lines],
        last_entry=max((entry.number for entry in history.read(tracker, p.registry.model).entries), default=0),
        commits=named,
        answers=[[*key, count] for key, count in raw.answers.items()],
        merges=raw.merges,
        earlier=len(every) - len(rows),
        notes=[f"{one}; the texts made from its rows are not found in the pretraining text" for one in past.unread],
    )


def _nothing(options: dict[str, Options], past: Past) -> str:
    """That no row is meant, with what was looked at."""
    columns = sorted({column for path, how in options.items() for column in found_rows.columns(Path(path), how)})
    named = f"; the columns are {', '.join(columns)}" if columns else ""
    earlier = f", nor of an earlier raw set that DVC still has (looked at: {past.sets})" if past.sets else ""
    return (
        f"no row of {', '.join(sorted(options)) or 'any raw set'} is meant{earlier}, and no version is known to have "
        f"seen such a row{named}"
    )


def _refuse_absent(p: Params) -> None:
    """Raise if a set is only in DVC's cache or remote: the training would fetch it with the rows."""
    mixture = (pointer.with_suffix("").as_posix() for pointer in Path(p.paths.mixture).glob("*.dvc"))
    sets = dict.fromkeys([p.data.raw, p.data.pretraining, *sorted(mixture)])
    absent = [path for path in sets if Path(f"{path}.dvc").is_file() and not Path(path).exists()]
    if absent:
        raise DataError(
            *(f"{path}: is under DVC and not here; fetch it with: .venv/bin/dvc pull {path}.dvc" for path in absent)
        )


def salted(salt: str, row: dict[str, Any]) -> str:
    """The digest of a row in a receipt: with the salt, which only the person who asked has, it proves which row it was.

    Args:
        salt: as hexadecimal digits.
        row: its values.
    """
    content = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hmac.new(bytes.fromhex(salt), content.encode(), hashlib.sha256).hexdigest()


def _refuse_merge_folders(p: Params, here: Recorded, raw: RawHistory) -> None:
    """Raise if the workspace holds copies of versions that are erased: a training would begin from them again."""
    found = [path for path, md5 in raw_history.of_pointers(here) if raw.seen_versions_in(path, md5, here)]
    if not found:
        return
    chosen = "set base.source, base.input and finetune.num_train_epochs to what they were before the merge, then "
    raise DataError(
        *(
            f"{path}: holds versions that saw the rows, as `tuneline merge` copied them; "
            f"{chosen if p.base.source == 'merge' and path == p.base.input else ''}delete it with: rm -r {path} "
            f"{path}.dvc"
            for path in found
        ),
        "nothing is changed",
    )


def _refuse_unchangeable(p: Params, found: dict[str, list[FoundRows]], others: Mapping[str, int]) -> None:
    problems = [
        f"{path}: holds {count} of the rows, and {PARAMS_FILE} does not name this set; if nothing needs it, delete it "
        f"with: rm -r {path} {path}.dvc"
        for path, count in others.items()
    ]
    stages = {out["path"] for entry in graph.read_locked_stages().values() for out in entry.get("outs", [])}
    imported = {pointer.with_suffix("").as_posix() for pointer in graph.imported_sets(p)}
    for path, of_set in found.items():
        if path in stages or path in (p.paths.sample, p.paths.sample_text):
            problems.append(f"{path}: a stage of dvc.yaml makes this set, and would write the rows again")
            continue
        if path in imported:
            problems.append(
                f"{path}: is imported, and its source still holds the rows; delete them there, then run "
                f"`dvc update {path}.dvc`, "
                "and this again: it erases what was made from them"
            )
            continue
        if git.ask("ls-files", "--", path):
            problems.append(
                f"{path}: git holds the files of this set, and keeps every row in its history; move the set to DVC "
                f"(git rm -r --cached {path}; dvc add {path}), and remove it from git's history with git filter-repo"
            )
        problems += filter(None, (cut_rows.refusal(one, file_of(Path(path), one)) for one in of_set))
        if not problems and _is_emptied(Path(path), of_set):
            problems.append(f"{path}: no row would be left, so nothing could be trained; delete the set by hand")
    if problems:
        raise DataError(*problems, "nothing is changed")


def file_of(path: Path, found: FoundRows) -> Path:
    """The file of found rows, which is in the set at `path` or is the set."""
    return path / found.plan.name if path.is_dir() else path


def _is_emptied(path: Path, of_set: list[FoundRows]) -> bool:
    emptied = {file_of(path, one) for one in of_set if len(one.meant) == len(one.starts)}
    # A hidden file holds no rows, such as the one that says which version has labelled a set.
    every = {file for file in path.rglob("*") if file.is_file() and file.name[0] != "."} if path.is_dir() else {path}
    return every <= emptied


def describe_rows(p: Params, journal: Journal) -> Iterator[str]:
    """The places of the rows, with the ids that the clean data give to them, and what a remote holds, in lines."""
    ids: dict[str, str] = {}
    raw = Path(p.data.raw)
    for split in () if meant_rows.is_stale(p) else ("train", "validation", "test"):
        folder = Path(p.paths.clean) / split
        if folder.is_dir():
            table = files.read_parquet(folder, ["id", "source"])
            base = raw if raw.is_dir() else raw.parent
            for number, source in zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True):
                ids[(base / source).as_posix()] = number
    for place in journal.places[:_MOST_PLACES]:
        yield f"  {place}{f' (id {ids[place]})' if place in ids else ''}"
    if len(journal.places) > _MOST_PLACES:
        yield f"  and {len(journal.places) - _MOST_PLACES} more rows"
    if dvc_files.has_remote() and not journal.remote_problem:
        yield (
            f"DVC's remote '{objects.remote_name()}' holds {len(journal.in_remote)} of these objects; --remote deletes "
            "them there too"
        )


def describe(journal: Journal) -> Iterator[str]:
    """What will be done, in lines."""
    for path, count in journal.counts.items():
        yield f"{path}: {count} {'row' if count == 1 else 'rows'} to erase"
    if not journal.counts:
        yield "no present raw set holds the rows; what was made from them is erased"
    if journal.earlier:
        yield f"{journal.earlier} more rows are only in earlier raw sets; what was made from them is erased"
    yield from journal.notes
    for version, why in journal.versions.items():
        names = [name for name, number in journal.aliases.items() if number == version]
        loses = f" and the alias {' and '.join(names)}" if names else ""
        yield f"version {version}: {why}; it loses its files{loses}"
    for name, why in journal.searches.items():
        yield f"search {name}: {why}; its trials are deleted, with their experiments in DVC"
    yield (
        f"made from them: {len(journal.objects)} objects of DVC, {len(journal.outputs)} outputs of stages, and the "
        f"files of {len(journal.runs)} runs in MLflow"
    )
