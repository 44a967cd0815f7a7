"""What an erasure concerns: the rows, the versions that saw them, and all that was made from them.

The journal in work/ keeps what was found, so that a killed erasure is continued without asking again.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuneline import git
from tuneline.core import files
from tuneline.data.reading.raw_rows import Options
from tuneline.data.removing import cut_rows, found_rows
from tuneline.data.removing.found_rows import FoundRows, Selection
from tuneline.decisions import erasure_texts, raw_history, source_commit, sources
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import DataError, GitError, PipelineError
from tuneline.params import Params
from tuneline.pipeline import dvc_files, graph, objects, repro
from tuneline.registry import history, versions
from tuneline.registry.tracking import Tracker
from tuneline.work import WORK

JOURNAL = WORK / "forget.json"
"""What an unfinished erasure has found; deleted at its end."""
_LEAST_TEXT = 16
"""Characters of a text that is searched for at the end: shorter texts occur by chance."""
_MOST_TEXTS = 20
_MOST_PLACES = 20
_BEGINNING = 400
"""Characters of a longer text that are enough, if no other row begins with them."""


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
    files: dict[str, str | None] = field(default_factory=dict)
    """Changed file -> its sha256; None if no row of it was left."""
    in_remote: dict[str, str] = field(default_factory=dict)
    removed: int = 0
    """Objects that were deleted from DVC's cache."""
    is_remote_done: bool = False
    last_entry: int = 0
    """The number of the last entry of the history when the erasure began."""
    places: list[str] = field(default_factory=list)
    """Set, file and line of the rows, without their texts."""

    @property
    def selection(self) -> Selection:
        """The rows."""
        columns = tuple((column, value) for column, value in self.columns)
        return Selection(columns, frozenset(self.digests), tuple(map(tuple, self.texts)))

    def save(self) -> None:
        """Write the journal, readable by its owner only."""
        with files.atomic_file(JOURNAL) as temporary:
            temporary.touch()
            temporary.chmod(0o600)
            temporary.write_text(json.dumps(asdict(self)), "utf-8")


def unfinished() -> str | None:
    """A line about an erasure that was begun and is not finished; None if there is none."""
    if not JOURNAL.is_file():
        return None
    return "an erasure was begun and is not finished; run the same `tuneline forget …` again, which continues it"


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
        unknown: whether versions of which it is not known whether they saw the rows are concerned too.

    Raises:
        DataError: no row is meant, or a file cannot be changed, or it is not known whether a version saw the rows.
        TrackingError: MLflow does not answer.
    """
    _refuse_absent(p)
    options = raw_history.set_options(p)
    selection = _selection(p, asked)
    text = p.data.pretraining if p.data.pretraining != p.data.raw else None
    found = {path: found_rows.find(Path(path), how, selection) for path, how in options.items() if path != text}
    rows = [row for of_set in found.values() for one in of_set for row in one.rows]
    others = {path: how for path, how in options.items() if path != text or not p.data.frozen_pretraining}
    texts = erasure_texts.texts_of_rows(p, selection) if text in options and found.get(p.data.raw) else ()
    selection = Selection(selection.values, selection.digests, texts)
    if text in options:
        found[text] = found_rows.find(Path(text), options[text], selection, is_text=True)
    found = {path: of_set for path, of_set in found.items() if of_set}
    _refuse_unchangeable(p, found)
    raw = RawHistory(selection, options)
    here = raw_history.workspace()
    made = raw_history.read_made(here, raw)
    seen, lost = _versions(p, tracker, raw)
    if not found and not seen:
        columns = sorted({column for path, how in options.items() for column in found_rows.columns(Path(path), how)})
        named = f"; the columns are {', '.join(columns)}" if columns else ""
        raise DataError(
            f"no row of {', '.join(sorted(options)) or 'any raw set'} is meant, and no version saw such a row{named}"
        )
    if lost and not unknown:
        raise DataError(
            *(f"version {version}: {why}" for version, why in lost.items()),
            "so it is not known whether these versions saw the rows; fetch their data with `tuneline pull`, or erase "
            "them too with --erase-unknown",
        )
    seen |= lost
    dropped = set(made.dropped)
    for recorded in raw_history.commits():
        dropped |= raw_history.read_made(recorded, raw).dropped
    salt = secrets.token_hex(32)
    tags = tracker.all_version_tags(p.registry.model)
    kept_runs = {own.get(versions.RUN) for version, own in tags.items() if version not in seen}
    return Journal(
        asked=asked.digest(),
        salt=salt,
        columns=[list(pair) for pair in selection.values],
        digests=sorted({*selection.digests, *map(found_rows.digest, rows)}),
        texts=[list(parts) for parts in texts],
        proofs=sorted(salted(salt, row) for row in rows),
        sought=_sought(rows, others, selection, text),
        counts={path: sum(len(one.meant) for one in of_set) for path, of_set in found.items()},
        versions=dict(sorted(seen.items(), key=lambda one: int(one[0]))),
        aliases={name: version for name, version in tracker.aliases(p.registry.model).items() if version in seen},
        runs=[run for run in tracker.all_runs(p.registry.model) if run not in kept_runs],
        made=sorted(dropped),
        objects=sorted(objects.with_listed(dvc_files.cache_folder(), dropped)),
        outputs=list(made.paths),
        places=[f"{file_of(Path(path), one)}:{line}" for path, of in found.items() for one in of for line in one.lines],
        last_entry=max((entry.number for entry in history.read(tracker, p.registry.model).entries), default=0),
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


def _selection(p: Params, asked: Asked) -> Selection:
    if not asked.rows:
        return Selection(asked.groups)
    raw = Path(p.data.raw)
    options = raw_history.set_options(p).get(p.data.raw)
    if options is None:
        raise DataError(f"{raw}: is not here; fetch it with: dvc pull {raw}.dvc")
    if is_stale(p):
        raise DataError(
            f"{p.paths.clean}: was not made from {raw} as it is now, so it does not tell which rows --row means; run "
            "`make run` first, or name the rows with --group COLUMN=VALUE"
        )
    places, lacking = _places(p, asked.rows)
    digests = set()
    for plan, row in found_rows.rows(raw, options):
        place = f"{plan.name}:{row.line}"
        if place in places:
            digests.add(found_rows.digest(row.values))
            lacking.discard(place)
    if lacking:
        raise DataError(
            *(
                f"--row {name}: neither the id of a row in {p.paths.clean} nor FILE:LINE in {raw}"
                for name in sorted(lacking)
            )
        )
    return Selection(asked.groups, frozenset(digests))


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


def _sought(
    rows: Sequence[dict[str, Any]], options: dict[str, Options], selection: Selection, text: str | None
) -> list[str]:
    """Of each row the longest text that no other row holds, the longest first; the arguments are those of the next."""
    found = []
    candidates = [_candidates(row) for row in rows]
    own = set(_only_theirs([one for of_row in candidates for one in of_row], options, selection, text))
    for of_row in candidates:
        found += [one for one in of_row if one in own][:1]
    return sorted(set(found), key=lambda one: (-len(one), one))[:_MOST_TEXTS]


def _candidates(row: dict[str, Any]) -> list[str]:
    """The texts of a row, the longest first: its beginning, and the whole; those that occur by chance are left out."""
    texts = sorted(found_rows.texts_of(row), key=len, reverse=True)
    forms = [form.strip() for one in texts for form in (one[:_BEGINNING], one)]
    return [one for one in dict.fromkeys(forms) if len(one) >= _LEAST_TEXT]


def _only_theirs(
    texts: Sequence[str], options: dict[str, Options], selection: Selection, text: str | None
) -> list[str]:
    """The texts that no other row of the sets holds.

    Args:
        texts: of rows that are meant.
        options: path of a set -> how it is read.
        selection: the rows that are meant.
        text: the path of the pretraining text.
    """
    found = list(texts)
    for path, how in options.items():
        if not found:
            break
        for _, row in found_rows.rows(Path(path), how):
            own = row.values.get("text") if path == text else None
            if selection.means(row.values) or (isinstance(own, str) and selection.means_text(own)):
                continue
            whole = "\n".join(found_rows.texts_of(row.values))
            found = [one for one in found if one not in whole]
    return found


def _refuse_unchangeable(p: Params, found: dict[str, list[FoundRows]]) -> None:
    problems = []
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
    every = {file for file in path.rglob("*") if file.is_file()} if path.is_dir() else {path}
    return every <= emptied


def _versions(p: Params, tracker: Tracker, raw: RawHistory) -> tuple[dict[str, str], dict[str, str]]:
    """The versions that saw the rows, and those of which it is not known, each with what is known in words."""
    seen, lost = {}, {}
    past = history.read(tracker, p.registry.model)
    erased = {entry.after for entry in past.entries if entry.action == history.ERASED}
    for version, tags in tracker.all_version_tags(p.registry.model).items():
        # The tag alone says nothing: a person can set it, and files can come back from a backup.
        if version in erased and not tracker.has_files(p.registry.model, version):
            continue
        try:
            # Compared with the tags: a commit that somebody put into the tag would say that the version never saw them.
            source = sources.find(tags, source_commit.ref_name(p.registry.model, version))
            made = raw_history.read_made(source.recorded, raw)
        except (GitError, PipelineError) as error:
            lost[version] = error.problems[0]
            continue
        if made.rows or made.texts:
            texts = f", its pretraining text {made.texts} texts made from them" if made.texts else ""
            seen[version] = f"its raw sets hold {made.rows} of the rows{texts}"
        elif made.unknown:
            lost[version] = f"{', '.join(made.unknown)} as it was then is neither in DVC's cache nor in the remote"
    return seen, lost


def describe_rows(p: Params, journal: Journal) -> Iterator[str]:
    """The places of the rows, with the ids that the clean data give to them, and what a remote holds, in lines.

    Raises:
        PipelineError: DVC's remote cannot be read.
    """
    ids: dict[str, str] = {}
    raw = Path(p.data.raw)
    for split in () if is_stale(p) else ("train", "validation", "test"):
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
    if dvc_files.has_remote():
        count = len(objects.in_remote(journal.objects))
        yield f"DVC's remote '{objects.remote_name()}' holds {count} of these objects; --remote deletes them there too"


def describe(journal: Journal) -> Iterator[str]:
    """What will be done, in lines."""
    for path, count in journal.counts.items():
        yield f"{path}: {count} {'row' if count == 1 else 'rows'} to erase"
    if not journal.counts:
        yield "no present raw set holds the rows; what was made from them is erased"
    for version, why in journal.versions.items():
        names = [name for name, number in journal.aliases.items() if number == version]
        loses = f" and the alias {' and '.join(names)}" if names else ""
        yield f"version {version}: {why}; it loses its files{loses}"
    yield (
        f"made from them: {len(journal.objects)} objects of DVC, {len(journal.outputs)} outputs of stages, and the "
        f"files of {len(journal.runs)} runs in MLflow"
    )
