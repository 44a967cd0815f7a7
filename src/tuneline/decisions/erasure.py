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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tuneline import params, processes
from tuneline.core import files
from tuneline.data.removing import cut_rows, found_rows
from tuneline.decisions import erased_search, erasure_plan, erasure_receipt, last_decision, promotion, raw_history
from tuneline.decisions.erasure_plan import Asked, Journal
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import PipelineError
from tuneline.params import Params
from tuneline.pipeline import dvc_files, objects, repro
from tuneline.proofs import claims, keys
from tuneline.registry import history, tracking, version_status
from tuneline.registry.tracking import Tracker
from tuneline.training import checkpoints
from tuneline.work import WORK

_REASON = "rows that it was made from were erased"
# Made from the data, and made again when they are needed.
_CACHES = ("tokens", "scores", "models", "temporary", "rebuilt")


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
        journal = erasure_plan.read_unfinished(asked)
        if journal is None:
            journal = erasure_plan.find(p, tracker, asked, unknown=unknown)
            for line in erasure_plan.describe(journal):
                log(line)
            if dry_run:
                return ["nothing is changed (--dry-run)"]
            journal.save()
        elif dry_run:
            raise PipelineError(
                f"{erasure_plan.JOURNAL}: this erasure was begun and is not finished; run it without --dry-run"
            )
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
        still, count = erased_search.search(Path.cwd(), journal.sought, leave_out=[Path.cwd() / erasure_plan.JOURNAL])
    if still:
        raise PipelineError(
            *(f"{name}: still holds an erased text" for name in still),
            "delete these files or take the text out of them, then run the same command again: it continues",
        )
    outcome = last_decision.load_if_current(p)
    made = outcome.version if isinstance(outcome, last_decision.Outcome) else None
    verdict = outcome.verdict if isinstance(outcome, last_decision.Outcome) else "unknown"
    claim = erasure_receipt.receipt(p, tracker, journal, searched=count, made=made, verdict=verdict)
    evidence = {erasure_receipt.CLAIM: claims.as_line(claim, keys.signing_key())}
    past = history.read(tracker, model).entries
    known = {entry.after for entry in past if entry.action == history.ERASED and entry.alias is None}
    for version in journal.versions or {"": ""}:
        if not version or version not in known:
            after = version or None
            history.append(tracker, model, action=history.ERASED, after=after, reason=_REASON, evidence=evidence)
    erasure_plan.JOURNAL.unlink()
    return list(erasure_receipt.summary(journal, count, made, verdict))
