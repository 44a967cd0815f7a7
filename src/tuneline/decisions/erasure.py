"""`tuneline forget`: remove rows from the raw sets and from all that was made from them, train again, and prove it.

An erasure has these steps, each of which may be repeated: a killed erasure is continued by the same command.

1. find: the rows, the versions that saw them, and the objects of DVC; the journal in work/ keeps what was found
2. erase: files of the sets, outputs, caches, files of versions and runs, aliases
3. train: `make run`
4. prove: search for the erased texts, write the receipt into the history
"""

import hashlib
import hmac
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuneline import git, params, processes
from tuneline.core import files
from tuneline.data.removing import cut_rows, found_rows
from tuneline.data.removing.found_rows import FoundRows, Selection
from tuneline.decisions import erased_search, last_decision, promotion, raw_history, sources
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import DataError, GitError, PipelineError
from tuneline.params import Params
from tuneline.pipeline import dvc_files, graph, objects, repro
from tuneline.proofs import claims, keys
from tuneline.registry import history, tracking, version_status, versions
from tuneline.registry.tracking import Tracker
from tuneline.training import checkpoints
from tuneline.work import WORK

JOURNAL = WORK / "forget.json"
"""What an unfinished erasure has found; deleted at its end."""
PREDICATE = "urn:tuneline:erasure:v1"
"""The type of the receipt."""
CLAIM = "claim.jsonl"
"""The name of the receipt among the files of an entry of the history."""
_REASON = "rows that it was made from were erased"
_LEAST_TEXT = 16
"""Characters of a text that is searched for at the end: shorter texts occur by chance."""
_MOST_TEXTS = 20
_NAMED = 5
# Made from the data, and made again when they are needed.
_CACHES = ("tokens", "scores", "models", "temporary", "rebuilt")


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


def forget(
    p: Params,
    asked: Asked,
    *,
    log: Callable[[str], None],
    dry_run: bool = False,
    remote: bool = False,
    unknown: bool = False,
) -> list[str]:
    """Erase rows, train again, and prove that the rows are gone.

    Args:
        p: the params.
        asked: the rows.
        log: called with each line about the progress.
        dry_run: only say what would be done.
        remote: also delete the objects in DVC's default remote.
        unknown: also erase versions of which nobody can say whether they saw the rows, because their raw sets are lost.

    Returns:
        The last lines: what was erased, and the receipt.

    Raises:
        DataError: no row is meant, or a file cannot be changed; nothing is changed.
        PipelineError: the training failed, or a text is still there; the same command continues.
        TrackingError: MLflow does not answer; the same command continues.
    """
    tracker = tracking.connect()
    with _alone(log):
        journal = _unfinished(asked)
        if journal is None:
            journal = _find(p, tracker, asked, unknown=unknown)
            for line in _describe(journal):
                log(line)
            if dry_run:
                return ["nothing is changed (--dry-run)"]
            journal.save()
        elif dry_run:
            raise PipelineError(f"{JOURNAL}: this erasure was begun and is not finished; run it without --dry-run")
        else:
            log("continuing the erasure that was begun")
        _erase(p, tracker, journal, log, remote=remote)
    log("training without the rows")
    _train()
    with _alone(log):
        return _prove(p, tracker, journal, log)


@contextmanager
def _alone(log: Callable[[str], None]) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(repro.hold_project(log))
        stack.enter_context(processes.exclusive(checkpoints.LOCK, "this project's training"))
        stack.enter_context(promotion.hold(log))
        yield


def unfinished() -> str | None:
    """A line about an erasure that was begun and is not finished; None if there is none."""
    if not JOURNAL.is_file():
        return None
    return "an erasure was begun and is not finished; run the same `tuneline forget …` again, which continues it"


def _unfinished(asked: Asked) -> Journal | None:
    if not JOURNAL.is_file():
        return None
    journal = Journal(**files.read_json(JOURNAL))
    if journal.asked != asked.digest():
        raise PipelineError(
            f"{JOURNAL}: another erasure is not finished; finish it first with the same `tuneline forget …`"
        )
    return journal


def _find(p: Params, tracker: Tracker, asked: Asked, *, unknown: bool) -> Journal:
    options = raw_history.set_options(p)
    selection = _selection(p, asked)
    text = p.data.pretraining if p.data.pretraining != p.data.raw else None
    found = {path: found_rows.find(Path(path), how, selection) for path, how in options.items() if path != text}
    rows = [row for of_set in found.values() for one in of_set for row in one.rows]
    texts = _texts(p, found)
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
        raise DataError(
            f"no row of {', '.join(sorted(options)) or 'any raw set'} is meant, and no version saw such a row; the "
            f"columns are {', '.join(columns)}"
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
        sought=_sought(rows, options, selection, text),
        counts={path: sum(len(one.meant) for one in of_set) for path, of_set in found.items()},
        versions=dict(sorted(seen.items(), key=lambda one: int(one[0]))),
        aliases={name: version for name, version in tracker.aliases(p.registry.model).items() if version in seen},
        runs=[run for run in tracker.all_runs(p.registry.model) if run not in kept_runs],
        made=sorted(dropped),
        objects=sorted(objects.with_listed(dvc_files.cache_folder(), dropped)),
        outputs=list(made.paths),
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


def _texts(p: Params, found: dict[str, list[FoundRows]]) -> tuple[tuple[str, ...], ...]:
    """For each row of data.raw the texts of its record, as they are in the pretraining text that was made from it."""
    of_raw = found.get(p.data.raw, [])
    places = {f"{one.plan.name}:{line}" for one in of_raw for line in one.lines}
    texts: dict[tuple[str, ...], None] = {}
    clean = Path(p.paths.clean)
    for split in ("train", "validation", "test"):
        if not (clean / split).is_dir():
            continue
        table = files.read_parquet(clean / split)
        names = [
            name for name in table.column_names if name not in ("id", "source", "cluster", "fold", "label", "labels")
        ]
        for row in table.to_pylist():
            if row["source"] in places:
                parts = tuple(part for name in names for part in _parts(row[name]))
                texts |= {parts: None} if parts else {}
    return tuple(texts)


def _parts(value: str) -> list[str]:
    """The texts in a field of a clean record: of messages, their contents."""
    try:
        messages = json.loads(value)
    except ValueError:
        return [value]
    if isinstance(messages, list) and all(isinstance(one, dict) for one in messages):
        return [str(one["content"]) for one in messages if one.get("content")]
    return [value]


def _sought(
    rows: Sequence[dict[str, Any]], options: dict[str, Any], selection: Selection, text: str | None
) -> list[str]:
    """Texts of the rows that no other row of a set holds, at most `_MOST_TEXTS`, the longest first."""
    longest = {max(found_rows.texts_of(row), key=len, default="")[:400].strip() for row in rows}
    found = sorted((one for one in longest if len(one) >= _LEAST_TEXT), key=len, reverse=True)[: 3 * _MOST_TEXTS]
    for path, how in options.items():
        if not found:
            break
        for _, row in found_rows.rows(Path(path), how):
            own = row.values.get("text") if path == text else None
            if selection.means(row.values) or (isinstance(own, str) and selection.means_text(own)):
                continue
            whole = "\n".join(found_rows.texts_of(row.values))
            found = [one for one in found if one not in whole]
    return found[:_MOST_TEXTS]


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
        problems += filter(None, (cut_rows.refusal(one, _file(Path(path), one)) for one in of_set))
        if not problems and _is_emptied(Path(path), of_set):
            problems.append(f"{path}: no row would be left, so nothing could be trained; delete the set by hand")
    if problems:
        raise DataError(*problems, "nothing is changed")


def _file(path: Path, found: FoundRows) -> Path:
    return path / found.plan.name if path.is_dir() else path


def _is_emptied(path: Path, of_set: list[FoundRows]) -> bool:
    emptied = {_file(path, one) for one in of_set if len(one.meant) == len(one.starts)}
    every = {file for file in path.rglob("*") if file.is_file()} if path.is_dir() else {path}
    return every <= emptied


def _versions(p: Params, tracker: Tracker, raw: RawHistory) -> tuple[dict[str, str], dict[str, str]]:
    """The versions that saw the rows, and those of which it is not known, each with what is known in words."""
    seen, lost = {}, {}
    for version, tags in tracker.all_version_tags(p.registry.model).items():
        if version_status.ERASED in tags:
            continue
        try:
            made = raw_history.read_made(sources.read(sources.commit_of(tags)), raw)
        except (GitError, PipelineError) as error:
            lost[version] = error.problems[0]
            continue
        if made.rows or made.texts:
            texts = f", its pretraining text {made.texts} texts made from them" if made.texts else ""
            seen[version] = f"its raw sets hold {made.rows} of the rows{texts}"
        elif made.unknown:
            lost[version] = f"{', '.join(made.unknown)} as it was then is neither in DVC's cache nor in the remote"
    return seen, lost


def _describe(journal: Journal) -> Iterator[str]:
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


def _erase(p: Params, tracker: Tracker, journal: Journal, log: Callable[[str], None], *, remote: bool) -> None:
    for path in journal.counts:
        _erase_from_set(p, Path(path), journal)
    journal.save()
    for output in [*journal.outputs, f"{p.paths.reports}/gate.json", f"{p.paths.reports}/index.html"]:
        _delete(Path(output))
    for name in _CACHES:
        _delete(WORK / name)
    for folder in WORK.glob("[0-9a-f]" * 64):
        _delete(folder)
    kept = _erase_from_cache(p, journal, is_trained=False)
    for version in journal.versions:
        tracker.erase_version_files(p.registry.model, version)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        tracker.update_version(p.registry.model, version, {version_status.ERASED: when})
    _take_aliases(p, tracker, journal)
    for run in journal.runs:
        tracker.erase_run_files(run)
    if not journal.is_remote_done:
        journal.in_remote = objects.in_remote(set(journal.objects) - kept)
        if remote and journal.in_remote:
            objects.remove_from_remote(journal.in_remote)
            log(f"{len(journal.in_remote)} objects deleted from DVC's remote '{objects.remote_name()}'")
            journal.is_remote_done = True
        journal.save()


def _erase_from_set(p: Params, path: Path, journal: Journal) -> None:
    options = raw_history.set_options(p)[path.as_posix()]
    is_text = path.as_posix() == p.data.pretraining != p.data.raw
    found = found_rows.find(path, options, journal.selection, is_text=is_text)
    changed = {_file(path, one): one for one in found}
    if path.is_dir() and changed:
        # All files of a set change at the same moment.
        with files.atomic_folder(path) as temporary:
            for file in sorted(path.rglob("*")):
                target = temporary / file.relative_to(path)
                if file.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                elif file in changed:
                    is_left = cut_rows.without(changed[file], file, target)
                    journal.files[file.as_posix()] = files.sha256_file(target) if is_left else None
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    files.copy(file, target)
    elif changed:
        with files.atomic_file(path) as temporary:
            cut_rows.without(changed[path], path, temporary)
        journal.files[path.as_posix()] = files.sha256_file(path)
    if Path(f"{path}.dvc").is_file():
        repro.add_to_dvc(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _erase_from_cache(p: Params, journal: Journal, *, is_trained: bool) -> set[str]:
    """Delete objects of DVC: in a cache of this project all that are not known to be without the rows.

    Returns:
        The objects that are kept.
    """
    folder = dvc_files.cache_folder()
    raw = RawHistory(journal.selection, raw_history.set_options(p))
    dropped, made_before = set(journal.objects), set(journal.made)

    def is_clean(path: str, md5: str) -> bool:
        return md5 not in made_before and (
            path not in raw.options or raw.rows_in(path, md5, is_text=_is_text(p, path)) == 0
        )

    kept: set[str] = set()
    here = raw_history.workspace()
    # Until it is trained again, dvc.lock names what was made from the rows.
    of_here = raw_history.read_made(here, raw).kept - (set() if is_trained else made_before)
    kept |= raw_history.objects_of(of_here, here.pointers, is_clean)
    for recorded in raw_history.commits():
        made = raw_history.read_made(recorded, raw)
        kept |= raw_history.objects_of(made.kept, recorded.pointers, is_clean)
    is_own = folder.resolve().is_relative_to(Path.cwd().resolve())
    waste = (set(objects.all_in_cache(folder)) if is_own else dropped) - kept
    for md5 in waste:
        path = objects.place(folder, md5)
        if path.is_file():
            path.unlink()
            journal.removed += 1
    if is_own:
        # The run cache names objects that are gone.
        _delete(folder.parent.parent / "runs")
    return kept


def _is_text(p: Params, path: str) -> bool:
    return path == p.data.pretraining != p.data.raw


def _take_aliases(p: Params, tracker: Tracker, journal: Journal) -> None:
    model = p.registry.model
    past = history.read(tracker, model).entries
    known = {(entry.alias, entry.before) for entry in past if entry.action == history.ERASED}
    for alias, version in journal.aliases.items():
        if tracker.version_by_alias(model, alias) == version:
            tracker.remove_alias(model, alias)
        if (alias, version) not in known:
            history.append(tracker, model, action=history.ERASED, alias=alias, before=version, reason=_REASON)


def _train() -> None:
    environment = {name: value for name, value in os.environ.items() if name != processes.PARENT}
    done = subprocess.run(
        processes.bound_command([sys.executable, "flows/run.py"]),
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    p = params.load()
    outcome = last_decision.load_if_current(p)
    if done.returncode and not (isinstance(outcome, last_decision.Outcome) and outcome.is_failed):
        raise PipelineError(
            "the rows are erased, but the training without them has not ended; see the lines above, then run the same "
            "command again: it continues"
        )


def _prove(p: Params, tracker: Tracker, journal: Journal, log: Callable[[str], None]) -> list[str]:
    model = p.registry.model
    _erase_from_cache(p, journal, is_trained=True)
    still, count = [], 0
    if journal.sought:
        log(f"searching for {len(journal.sought)} of the erased texts")
        still, count = erased_search.search(Path.cwd(), journal.sought, leave_out=[Path.cwd() / JOURNAL])
    if still:
        raise PipelineError(
            *(f"{name}: still holds an erased text" for name in still),
            "delete these files or take the text out of them, then run the same command again: it continues",
        )
    outcome = last_decision.load_if_current(p)
    made = outcome.version if isinstance(outcome, last_decision.Outcome) else None
    verdict = outcome.verdict if isinstance(outcome, last_decision.Outcome) else "unknown"
    claim = _receipt(p, tracker, journal, searched=count, made=made, verdict=verdict)
    evidence = {CLAIM: claims.as_line(claim, keys.signing_key())}
    past = history.read(tracker, model).entries
    known = {entry.after for entry in past if entry.action == history.ERASED and entry.alias is None}
    for version in journal.versions or {"": ""}:
        if not version or version not in known:
            after = version or None
            history.append(tracker, model, action=history.ERASED, after=after, reason=_REASON, evidence=evidence)
    JOURNAL.unlink()
    return list(_summary(journal, count, made, verdict))


def _receipt(
    p: Params, tracker: Tracker, journal: Journal, *, searched: int, made: str | None, verdict: str
) -> dict[str, Any]:
    model = p.registry.model
    tags = tracker.all_version_tags(model)
    digests = {
        f"{model}/{version}/": tags.get(version, {}).get(versions.FILES) for version in [*journal.versions, made]
    }
    subject = {name: sha256 for name, sha256 in digests.items() if sha256}
    if not subject:
        raw = Path(p.data.raw)
        subject = {f"{raw}/" if raw.is_dir() else str(raw): files.sha256_path(raw)}
    predicate = {
        "model": model,
        "erasedOn": datetime.now(UTC).isoformat(timespec="seconds"),
        "erasedBy": history.acting_user(),
        "rows": len(journal.proofs),
        "rowDigests": journal.proofs,
        "digestMethod": "HMAC-SHA256 of the row as JSON; the key was given to the person who asked and is not stored",
        "rowsBySet": journal.counts,
        "changedFiles": {name: sha256 for name, sha256 in journal.files.items() if sha256},
        "deletedFiles": sum(sha256 is None for sha256 in journal.files.values()),
        "erasedVersions": list(journal.versions),
        "erasedRuns": len(journal.runs),
        "deletedObjects": journal.removed,
        "remote": {"held": len(journal.in_remote), "deleted": journal.is_remote_done},
        "searched": {"files": searched, "texts": len(journal.sought), "found": 0},
        "trainedAgain": {"version": made, "verdict": verdict},
    }
    return claims.statement(PREDICATE, subject, predicate)


def _summary(journal: Journal, searched: int, made: str | None, verdict: str) -> Iterator[str]:
    rows = len(journal.proofs)
    without = ", ".join(journal.versions) or "none"
    yield f"{rows} {'row is' if rows == 1 else 'rows are'} erased; versions without files: {without}"
    if journal.sought:
        yield f"searched {searched} files for {len(journal.sought)} of their texts: none is left"
    if made:
        yield f"version {made} is trained without the rows ({verdict})"
    else:
        yield f"no version without the rows is registered: the gate says {verdict}"
    if journal.in_remote and not journal.is_remote_done:
        places = list(journal.in_remote.values())
        yield f"DVC's remote still holds {len(places)} objects made from the rows (--remote deletes them):"
        yield from (f"  {place}" for place in places)
    yield "the receipt is in the history (tuneline history); the key of its row digests is shown only here:"
    yield f"  {journal.salt}"
    yield "git holds only hashes of sets under DVC. Backups, other clones and copies of the files are not reached."
