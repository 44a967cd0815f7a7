"""`tuneline forget`: remove rows from the raw sets and from all that was made from them, train again, and prove it.

An erasure has these steps, each of which may be repeated: a killed erasure is continued by the same command.

1. find: the rows, the versions that saw them, and the objects of DVC; the journal in work/ keeps what was found
2. erase: files of the sets, outputs, caches, files of versions and runs, aliases
3. train: `make run`
4. prove: search for the erased texts, write the receipt into the history
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tuneline import params, processes
from tuneline.core import files
from tuneline.crossvalidation import cross_validation
from tuneline.data.removing import cut_rows, found_rows
from tuneline.decisions import (
    erased_search,
    erasure_plan,
    erasure_receipt,
    kept_trials,
    last_decision,
    promotion,
    raw_history,
    returning_rows,
    source_commit,
    sources,
    unfinished_erasure,
)
from tuneline.decisions.erasure_plan import Asked, Journal
from tuneline.errors import BusyError, DataError, PipelineError
from tuneline.params import Params
from tuneline.pipeline import dvc_files, objects, repro
from tuneline.proofs import claims, keys
from tuneline.registry import abandoned, history, tracking, version_status
from tuneline.registry.chain import Entry
from tuneline.registry.tracking import Tracker
from tuneline.reporting import explanation_page
from tuneline.training import checkpoints
from tuneline.work import WORK

STOPPED = "stopped; run the same `tuneline forget …` again: it begins again, or continues the erasure that was begun"
"""The line after Ctrl-C."""
_REASON = "rows that it was made from were erased"
_REASON_OF_REMOTE = "what was made from erased rows was deleted in DVC's remote"
_BEGUN = WORK / "forget-remote.json"
"""The objects that `forget_in_remote` deletes, until its receipt is written."""
_PATIENCE = 5.0
"""Seconds in which other commands may end."""
# Made from the data, and made again when they are needed.
_CACHES = ("tokens", "scores", "models", "temporary", "rebuilt", "crossvalidation")


def forget(
    p: Params,
    asked: Asked,
    *,
    log: Callable[[str], None],
    dry_run: bool = False,
    remote: bool = False,
    unknown: bool = False,
) -> None:
    """Erase rows, train again, and prove that the rows are gone.

    A remote of DVC that does not answer does not keep the rows here: the receipt then names what it may still hold. It
    does if the remote is to be erased too, which is told before anything is changed.

    Args:
        p: the params.
        asked: the rows.
        log: called with each line about the progress, and at the end about what was erased.
        dry_run: only say what would be done.
        remote: also delete the objects in DVC's default remote.
        unknown: also erase versions of which it is not known whether they saw the rows, as their raw sets are lost.

    Raises:
        BusyError: another command works with the data.
        DataError: no row is meant, or a file cannot be changed; nothing is changed.
        PipelineError: the training failed, or a text is still there: the same command continues. Or DVC's remote, which
            was to be erased too, does not answer.
        SignatureError: the key that would sign the receipt cannot be used; nothing is changed.
        TrackingError: MLflow does not answer; the same command continues.
    """
    # The receipt is signed at the end, after a training.
    keys.signing_key()
    tracker = tracking.connect()
    with _alone(log):
        if not dry_run:
            _refuse_neighbours()
        journal = erasure_plan.read_unfinished(asked)
        if journal is None:
            try:
                journal = erasure_plan.find(p, tracker, asked, unknown=unknown)
            except DataError as error:
                later = ["what an earlier erasure has left in DVC's remote is deleted with: tuneline forget --remote"]
                raise DataError(*error.problems, *(later if remote else [])) from None
            _ask_remote(journal, log, remote=remote)
            for line in erasure_plan.describe(journal):
                log(line)
            if dry_run:
                for line in erasure_plan.describe_rows(p, journal):
                    log(line)
                log("nothing is changed (--dry-run)")
                return
            # Until the sets are changed: what the new ones share with the old ones is needed.
            journal.in_remote = {}
            journal.save()
        elif dry_run:
            raise PipelineError(
                f"{unfinished_erasure.JOURNAL}: this erasure was begun and is not finished; run it without --dry-run"
            )
        else:
            log("continuing the erasure that was begun")
        # A command that has begun meanwhile; the next ones see the journal.
        _refuse_neighbours()
        journal.is_remote_asked |= remote
        _erase(p, tracker, journal, log)
    log("training without the rows")
    _train()
    with _alone(log):
        _prove(p, tracker, journal, log)


def _ask_remote(journal: Journal, log: Callable[[str], None], *, remote: bool) -> None:
    """Ask DVC's remote what it holds, before anything is changed."""
    try:
        journal.in_remote = objects.in_remote(journal.objects)
    except PipelineError as error:
        if remote:
            raise PipelineError(
                *error.problems,
                "nothing is changed; run this again when the remote answers, or without --remote: then everything else "
                "is erased, and `tuneline forget --remote` deletes in the remote later",
            ) from None
        journal.remote_problem = error.problems[0]
        log(f"{error.problems[0]}; the receipt will name what the remote may still hold")


def _refuse_neighbours() -> None:
    """Raise while another command, such as `tuneline reproduce`, holds a folder: it may write the rows again."""
    kept_trials.refuse_running()
    last = time.monotonic() + _PATIENCE
    while used := [path for path in sorted(files.TEMPORARY.glob("*")) if not files.is_abandoned(path)]:
        # The processes of a command that was killed end a moment later.
        if time.monotonic() < last:
            time.sleep(0.1)
            continue
        raise BusyError(
            f"{used[0]}: another command of this project, such as `tuneline reproduce`, is running and may hold the "
            "rows; wait until it has ended, then run this again"
        )


def forget_in_remote(p: Params, *, log: Callable[[str], None], dry_run: bool = False) -> None:
    """Delete what finished erasures have left in DVC's default remote.

    Args:
        p: the params.
        log: called with each line about what was done.
        dry_run: only name the objects.

    Raises:
        GitError: git fails, so it is not known what other versions need.
        PipelineError: an erasure is not finished, or the remote cannot be read or written.
        TrackingError: MLflow does not answer.
    """
    tracker, model = tracking.connect(), p.registry.model
    with _alone(log):
        if problem := unfinished_erasure.problem():
            raise PipelineError(problem)
        if not dvc_files.has_remote():
            raise PipelineError("DVC has no remote; see: .venv/bin/dvc remote list")
        left = erasure_receipt.left_in_remote(tracker, model, log)
        needed = _needed(tracker, model, log) if left else set()
        found = objects.in_remote(set(left) - needed, needed)
        # What a killed call has deleted already belongs to the receipt, which it has not written.
        if _BEGUN.is_file() and not dry_run:
            begun = files.read_json(_BEGUN)
            is_written = any(
                entry.number > begun["last"] and entry.reason == _REASON_OF_REMOTE
                for entry in history.read(tracker, model).entries
            )
            found |= {} if is_written else begun["objects"]
        for place in found.values():
            log(f"  {place}")
        where = f"DVC's remote '{objects.remote_name()}'"
        if not found:
            if not dry_run:
                _BEGUN.unlink(missing_ok=True)
            log(f"{where} holds no object that an erasure has left there")
            return
        if dry_run:
            log(f"{len(found)} objects would be deleted from {where}; nothing is changed (--dry-run)")
            return
        # The list of a folder names further objects.
        entries = [left[md5] for md5 in found if md5 in left] or list(left.values())
        claim = erasure_receipt.later_receipt(model, entries, len(found))
        evidence = {erasure_receipt.CLAIM: claims.as_line(claim, keys.signing_key())}
        last = max((entry.number for entry in history.read(tracker, model).entries), default=0)
        # First: what is deleted cannot be counted any more.
        files.write_json(_BEGUN, {"last": last, "objects": found})
        objects.remove_from_remote(found)
        history.append(tracker, model, action=history.ERASED, reason=_REASON_OF_REMOTE, evidence=evidence)
        _BEGUN.unlink()
        log(f"{len(found)} objects deleted from {where}")


def _needed(tracker: Tracker, model: str, log: Callable[[str], None]) -> set[str]:
    """The objects of the workspace, and of all versions that were not erased."""
    erased = erasure_receipt.erased_versions(tracker, model, log)
    of_versions = [
        sources.read(tags[source_commit.TAG])
        for version, tags in tracker.all_version_tags(model).items()
        if version not in erased and source_commit.is_sha(tags.get(source_commit.TAG, ""))
    ]
    named = [md5 for recorded in (raw_history.workspace(), *of_versions) for md5 in recorded.md5s()]
    return objects.with_listed(dvc_files.cache_folder(), named)


@contextmanager
def _alone(log: Callable[[str], None]) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(repro.hold_project(log))
        stack.enter_context(processes.exclusive(checkpoints.LOCK, "this project's training"))
        stack.enter_context(promotion.hold(log))
        yield


def _erase(p: Params, tracker: Tracker, journal: Journal, log: Callable[[str], None]) -> None:
    for path in journal.counts:
        _erase_from_set(p, Path(path), journal)
    by_hand = (
        *("gate.json", "index.html", explanation_page.FOLDER),
        *(cross_validation.RESULT, cross_validation.PREDICTIONS),
    )
    for output in [*journal.outputs, *(f"{p.paths.reports}/{name}" for name in by_hand)]:
        _delete(Path(output))
    for name in _CACHES:
        _delete(WORK / name)
    for folder in WORK.glob("[0-9a-f]" * 64):
        _delete(folder)
    for search in journal.searches:
        kept_trials.remove(search)
    kept = _erase_from_cache(p, journal, is_trained=False)
    for version in journal.versions:
        if elsewhere := tracker.erase_version_files(p.registry.model, version):
            journal.elsewhere[version] = elsewhere
            log(f"version {version}: its files are at {elsewhere}, where another tool has put them; delete them there")
        when = datetime.now(UTC).isoformat(timespec="seconds")
        tracker.update_version(p.registry.model, version, {version_status.ERASED: when})
    _erase_without_version(tracker, p.registry.model, log)
    _take_aliases(p, tracker, journal)
    for run in journal.runs:
        tracker.erase_run_files(run)
    _erase_from_remote(journal, kept, log)


def _erase_from_remote(journal: Journal, kept: Collection[str], log: Callable[[str], None]) -> None:
    """Delete the objects in DVC's remote, or note what it holds; if it does not answer, what it may hold."""
    if journal.is_remote_done:
        return
    concerned = set(journal.objects) - set(kept)
    try:
        # What an earlier call that was killed has deleted is counted too.
        journal.in_remote |= objects.in_remote(concerned, kept)
        if journal.is_remote_asked and journal.in_remote:
            # First: what is deleted cannot be counted any more.
            journal.save()
            objects.remove_from_remote(journal.in_remote)
            log(f"{len(journal.in_remote)} objects deleted from DVC's remote '{objects.remote_name()}'")
            journal.is_remote_done = True
        journal.remote_problem, journal.maybe_in_remote = "", []
    except PipelineError as error:
        journal.remote_problem, journal.maybe_in_remote = error.problems[0], sorted(concerned)
        log(f"{error.problems[0]}; the erasure goes on without the remote")
    journal.save()


def _erase_without_version(tracker: Tracker, model: str, log: Callable[[str], None]) -> None:
    """Delete the models that a deleted version or a killed `register` has left: what they saw cannot be known."""
    for one in abandoned.find_abandoned(tracker, model):
        if one.logged.was is None and one.kept is not None:
            log(f"{model} logged model {one.logged.id}: its files stay, because {one.kept}")
            continue
        tracker.erase_logged(one.logged)
        was = (
            f"version {one.logged.was}, which was deleted in MLflow"
            if one.logged.was
            else "a killed `tuneline register`"
        )
        log(f"{model} {was}: its files (logged model {one.logged.id}) are deleted")
    for folder in tracker.deleted_folders():
        log(f"{folder}: holds the files of a model that was deleted in MLflow; if it saw the rows, delete this folder")


def _erase_from_set(p: Params, path: Path, journal: Journal) -> None:
    options = raw_history.set_options(p)[path.as_posix()]
    is_text = path.as_posix() == p.data.pretraining != p.data.raw
    found = found_rows.find(path, options, journal.selection, is_text=is_text)
    changed = {erasure_plan.file_of(path, one): one for one in found}
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
            # Before the files change: afterwards their rows are gone, and nobody knows which files held them.
            journal.save()
    elif changed:
        with files.atomic_file(path) as temporary:
            cut_rows.without(changed[path], path, temporary)
            journal.files[path.as_posix()] = files.sha256_file(temporary)
            journal.save()
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
    here, commits = raw_history.workspace(), raw_history.commits(journal.commits)
    kept = raw_history.kept_objects(
        here, commits, journal.raw_history(p), made=set(journal.made), is_trained=is_trained
    )
    is_own = folder.resolve().is_relative_to(Path.cwd().resolve())
    waste = (set(objects.all_in_cache(folder)) if is_own else set(journal.objects)) - kept
    there = {md5: path for md5 in waste if (path := objects.place(folder, md5)).is_file()}
    # First: what is deleted cannot be counted any more.
    journal.removed = sorted({*journal.removed, *there})
    journal.save()
    for path in there.values():
        path.unlink()
    if is_own:
        # The run cache names objects that are gone.
        _delete(folder.parent.parent / "runs")
    return kept


def _take_aliases(p: Params, tracker: Tracker, journal: Journal) -> None:
    model = p.registry.model
    known = {(entry.alias, entry.before) for entry in _written(tracker, model, journal)}
    # A person may have given a version another alias since the erasure began.
    journal.aliases |= {name: number for name, number in tracker.aliases(model).items() if number in journal.versions}
    # First: what is taken cannot be seen any more.
    journal.save()
    for alias, version in journal.aliases.items():
        if tracker.version_by_alias(model, alias) == version:
            tracker.remove_alias(model, alias)
        if (alias, version) not in known:
            history.append(tracker, model, action=history.ERASED, alias=alias, before=version, reason=_REASON)


def _written(tracker: Tracker, model: str, journal: Journal) -> list[Entry]:
    """The entries of the history that this erasure has written."""
    past = history.read(tracker, model).entries
    return [entry for entry in past if entry.action == history.ERASED and entry.number > journal.last_entry]


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


def _prove(p: Params, tracker: Tracker, journal: Journal, log: Callable[[str], None]) -> None:
    model = p.registry.model
    kept = _erase_from_cache(p, journal, is_trained=True)
    if journal.remote_problem:
        _erase_from_remote(journal, kept, log)
    still, count = [], 0
    if journal.sought:
        log(f"searching for {len(journal.sought)} of the erased texts")
        still, count = erased_search.search(Path.cwd(), journal.sought, leave_out=_not_searched())
    short = _search_short(journal, log)
    if still:
        raise PipelineError(
            *(f"{name}: still holds an erased text" for name in still),
            "delete these files or take the text out of them, then run the same command again: it continues",
        )
    outcome = last_decision.load_if_current(p)
    made = outcome.version if isinstance(outcome, last_decision.Outcome) else None
    verdict = outcome.verdict if isinstance(outcome, last_decision.Outcome) else "unknown"
    claim = erasure_receipt.receipt(p, tracker, journal, searched=count, short=short, made=made, verdict=verdict)
    evidence = {erasure_receipt.CLAIM: claims.as_line(claim, keys.signing_key())}
    known = {entry.after for entry in _written(tracker, model, journal) if entry.alias is None}
    for after in journal.versions or [None]:
        if after not in known:
            history.append(tracker, model, action=history.ERASED, after=after, reason=_REASON, evidence=evidence)
    returning_rows.remember(journal.key, journal.marks, datetime.now(UTC).date().isoformat())
    # Before the journal goes: nothing else holds the key of the row digests.
    for line in erasure_receipt.summary(journal, count, made, verdict):
        log(line)
    unfinished_erasure.JOURNAL.unlink()
    if journal.is_remote_asked and journal.remote_problem:
        raise PipelineError(
            journal.remote_problem,
            "all that is here is erased, and the receipt names what the remote may still hold; delete it with: "
            ".venv/bin/tuneline forget --remote",
        )


def _search_short(journal: Journal, log: Callable[[str], None]) -> list[str]:
    """The files in which a short text of the rows is a value: it may be of another row, so a person must look."""
    if not journal.short:
        return []
    found = erased_search.find_values(Path.cwd(), journal.short, leave_out=_not_searched())
    for name in found:
        log(f"{name}: a value equals a short text of an erased row; it may be of another row: look at it")
    return found


def _not_searched() -> list[Path]:
    return [Path.cwd() / unfinished_erasure.JOURNAL]
