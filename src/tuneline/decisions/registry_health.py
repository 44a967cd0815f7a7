"""Whether every version in the registry is whole: its files, signature and sources; and the history of the model."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tuneline import params
from tuneline.decisions import signature_policy, source_commit, sources, trusted_history
from tuneline.errors import BrokenVersionError, TrackingError, TunelineError
from tuneline.proofs import keys
from tuneline.registry import addresses, history, ledger, tracking, version_status, versions
from tuneline.registry.history import History
from tuneline.registry.tracking import Tracker


@dataclass(frozen=True)
class Health:
    """What was found about a version, about the history, or about the registry itself."""

    subject: str
    """Such as `docstring-writer version 3 (champion)`."""
    found: tuple[str, ...]
    """What is as it should be, and what a person should know."""
    problems: tuple[str, ...] = ()
    """What is broken, each with its remedy."""


def examine(p: params.Params) -> Iterator[Health]:
    """Check every version of the model; every byte of its files is hashed, after a download from a server.

    Args:
        p: the params.

    Yields:
        One finding per version, the oldest first, and one about the history; one finding only, if the registry cannot
        be reached. Nothing, if there is no registry yet.
    """
    store = addresses.database_of(os.environ.get("MLFLOW_TRACKING_URI", ""))
    # To connect to a store that does not exist would make it.
    if store is not None and not store.exists():
        return
    model = p.registry.model
    try:
        tracker = tracking.connect()
        past = history.read(tracker, model, evidence=True)
        aliases: dict[str, list[str]] = {}
        for alias, version in tracker.aliases(model).items():
            aliases.setdefault(version, []).append(alias)
        for version in tracker.find_versions(model, {}):
            named = f" ({', '.join(sorted(aliases[version]))})" if version in aliases else ""
            yield _version(p, tracker, version, f"{model} version {version}{named}", past)
        if past.entries or past.problems:
            count = len(past.entries)
            yield Health(f"the history of {model}", (f"{count} {'entry' if count == 1 else 'entries'}",), past.problems)
        uses = history.read(tracker, model, evidence=True, book=ledger.BOOK)
        if uses.problems:
            yield Health(f"the ledger of {model}", (f"{len(uses.entries)} uses of test rows",), uses.problems)
    except TrackingError as error:
        yield Health("the registry", (), error.problems)


def _version(p: params.Params, tracker: Tracker, version: str, subject: str, past: History) -> Health:
    try:
        tags = tracker.version_tags(p.registry.model, version)
        is_told = any(entry.action == history.ERASED and entry.after == version for entry in past.entries)
        if is_told or version_status.ERASED in tags:
            return _erased(tracker, p.registry.model, version, subject, is_told=is_told)
        damage = versions.find_damage(tracker, p.registry.model, version)
        if damage is None:
            damage = trusted_history.read(tracker, p.registry.model, past).exchanged(version)
        if damage is not None:
            # Without files there is nothing to verify; the sources tell whether it can be made again.
            remedy = versions.suggest_instead(tracker, p, version)
            return Health(subject, (), (f"{damage}; {remedy}", *_sources(p, tracker, version, tags)[1]))
        signature, unsigned = _signature(tracker, p.registry.model, version, tags)
        sound, lost = _sources(p, tracker, version, tags)
    except TrackingError:
        raise
    except TunelineError as error:
        # It was deleted meanwhile, or a key in mlflow/keys cannot be read: the other versions are checked all the same.
        return Health(subject, (), error.problems)
    return Health(subject, ("files unchanged", *signature, *sound), (*unsigned, *lost))


def _erased(tracker: Tracker, model: str, version: str, subject: str, *, is_told: bool) -> Health:
    """The health of a version that is said to be erased: a tag alone could hide damage."""
    found = ("erased: rows that it was trained on were erased, so its files are gone",)
    problems = []
    if not is_told:
        problems.append(
            f"its tag {version_status.ERASED} says that it was erased, and the history does not; if `tuneline forget` "
            "was interrupted, run the same command again; else a person has set the tag: remove it in MLflow"
        )
    if tracker.has_files(model, version):
        problems.append(
            "it is erased, and MLflow still has files of it; if a `tuneline forget` was interrupted, run the same "
            "command again; else delete the version in MLflow"
        )
    return Health(subject, found, tuple(problems))


def _signature(
    tracker: Tracker, model: str, version: str, tags: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is found about the signature, and what is wrong with it."""
    if not keys.trusted_keys():
        return (), ()
    try:
        folder = versions.fetch_version(tracker, model, version)
    except BrokenVersionError as error:
        return (), error.problems
    if problem := signature_policy.wrong_signature(folder, tags):
        return (), (problem,)
    if signature_policy.signature_problem(folder, tags):
        return ("unsigned, as it was registered without a key",), ()
    return ("signed by a trusted key",), ()


def _sources(
    p: params.Params, tracker: Tracker, version: str, tags: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is found about the sources, and what is missing of them."""
    if source_commit.TAG not in tags and versions.COMMIT not in tags:
        return ("cannot be rebuilt, as an earlier release that kept no sources in git registered it",), ()
    lost = sources.problems(p, tracker, version)
    return ((), tuple(lost)) if lost else (("code and data complete",), ())
