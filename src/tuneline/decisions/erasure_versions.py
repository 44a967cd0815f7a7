"""Which versions and runs saw the rows of an erasure: by their sources, and by what their files and claims say."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tuneline import params
from tuneline.crossvalidation import cross_validation
from tuneline.decisions import about_version, raw_history, signature_policy, source_commit, sources
from tuneline.decisions.raw_history import RawHistory
from tuneline.errors import BrokenVersionError, GitError, PipelineError, SignatureError
from tuneline.fusion.merging import merge_recipe
from tuneline.params import Params
from tuneline.pipeline import graph
from tuneline.pipeline.graph import Recorded
from tuneline.proofs import claims, keys, provenance
from tuneline.registry import history, versions
from tuneline.registry.tracking import Tracker

_HASHED = {params.PARAMS_FILE: "tuneline.params_sha256", "dvc.lock": "tuneline.dvc_lock_sha256"}
"""Files of a version -> the tag with their sha256."""
_CONFIRMED = (
    source_commit.TAG,
    versions.RUN,
    versions.PARENTS,
    *versions.MADE,
    "tuneline.base_sha256",
    *_HASHED.values(),
)
"""The tags by which it is known what a version saw."""
_OF_GATE = {"reports", *_HASHED}
"""What the gate keeps in a run."""


def find_versions(
    p: Params, tracker: Tracker, raw: RawHistory, ids: frozenset[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The versions that saw the rows, and those of which it is not known, each with what is known in words.

    The tags of a version name the commit that it was made from, and whoever can write to the registry can change them.
    So a version whose tags differ from its files or its claims is not believed.

    Args:
        p: the params.
        tracker: the registry.
        raw: answers whether raw sets hold the rows.
        ids: of the rows, as the training rows of a version name them.

    Raises:
        TrackingError: MLflow does not answer.
    """
    model = p.registry.model
    seen, lost = {}, {}
    erased = {entry.after for entry in history.read(tracker, model).entries if entry.action == history.ERASED}
    for version, tags in sorted(tracker.all_version_tags(model).items(), key=lambda one: int(one[0])):
        # The tag alone says nothing: a person can set it, and files can come back from a backup.
        if version in erased and not tracker.has_files(model, version):
            continue
        trained = _trained_rows(tracker, model, version, ids)
        wrong, signed = _compare(tracker, model, version, tags)
        found, unknown = _by_sources(raw, tags, source_commit.ref_name(model, version))
        if wrong and signed and not found:
            found, _ = _by_sources(raw, {**tags, **signed}, source_commit.ref_name(model, version))
        if trained:
            found = f"{found}; {trained}" if found else trained
        if found:
            seen[version] = found
        elif wrong:
            lost[version] = "; ".join(wrong)
        elif unknown:
            lost[version] = unknown
    _add_merged(tracker, model, seen, lost)
    return seen, lost


def _add_merged(tracker: Tracker, model: str, seen: dict[str, str], lost: dict[str, str]) -> None:
    """Add the versions that were merged from versions that saw the rows, or may have seen them."""
    every = tracker.all_version_tags(model)
    parents = {version: _parents(tracker, model, version, tags) for version, tags in every.items()}
    for found, others, why in (
        (seen, {}, "it was merged from version {}, which saw the rows"),
        (lost, seen, "it was merged from version {}, of which it is not known whether it saw the rows"),
    ):
        # A merged version may be a parent too.
        while new := {
            version: next(iter(sorted(of & found.keys(), key=int)))
            for version, of in parents.items()
            if of & found.keys() and version not in found and version not in others
        }:
            found |= {version: why.format(parent) for version, parent in new.items()}
    for version in seen:
        lost.pop(version, None)


def _parents(tracker: Tracker, model: str, version: str, tags: Mapping[str, str]) -> set[str]:
    """The versions that a version was merged from, as its tag or its file says."""
    named = {one for one in tags.get(versions.PARENTS, "").split(", ") if one.isdecimal()}
    try:
        content = tracker.read_file(model, version, merge_recipe.FILE)
        return named | set(merge_recipe.parse(json.loads(content)).versions if content else ())
    except BrokenVersionError:
        return named
    except (ValueError, TypeError, KeyError):
        # Somebody has changed the file; the tag is compared with the claims.
        return named


def _by_sources(raw: RawHistory, tags: Mapping[str, str], ref: str) -> tuple[str, str]:
    """What the commit of a version says: how it saw the rows, or why that is not known; both empty if it did not."""
    try:
        made = raw_history.read_made(sources.find(tags, ref).recorded, raw)
    except (GitError, PipelineError) as error:
        return "", error.problems[0]
    if made.rows or made.texts:
        texts = f", its pretraining text {made.texts} texts made from them" if made.texts else ""
        return f"its raw sets hold {made.rows} of the rows{texts}", ""
    if made.unknown:
        return "", f"{', '.join(made.unknown)} as it was then is neither in DVC's cache nor in the remote"
    return "", ""


def _trained_rows(tracker: Tracker, model: str, version: str, ids: frozenset[str]) -> str:
    table = about_version.train_rows(tracker, model, version, []) if ids else None
    count = len(ids & set(table["id"].to_pylist())) if table is not None else 0
    return f"its {versions.TRAIN_ROWS} names {count} of the rows" if count else ""


def _compare(tracker: Tracker, model: str, version: str, tags: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """How the tags of a version differ from its files and claims, in sentences; and the tags that the claims confirm.

    A version without files has nothing to compare with.
    """
    found: list[str] = []
    try:
        for name, tag in _HASHED.items():
            content = tracker.read_file(model, version, name)
            if content is not None and (sha256 := hashlib.sha256(content).hexdigest()) != tags.get(tag):
                found.append(
                    f"its file {name} has the sha256 {sha256[:12]}…, and its tag {tag} says "
                    f"{tags.get(tag, 'nothing')[:12]}…: somebody has changed one of them"
                )
        content = tracker.read_file(model, version, claims.CLAIMS)
        folder = tracker.local_folder(model, version)
    except BrokenVersionError:
        return found, {}
    trusted = keys.trusted_keys()
    try:
        said = list(claims.parse(content or b"", trusted, claims.CLAIMS))
        confirmed = provenance.confirmed_tags(said)
    except SignatureError as error:
        return [*found, *error.problems], {}
    found += [
        f"its tag {tag} is {tags.get(tag, 'missing')[:40]!r}, and {claims.CLAIMS} says {value[:40]!r}: somebody has "
        "changed one of them"
        for tag, value in confirmed.items()
        if tag in _CONFIRMED and tags.get(tag) != value
    ]
    if trusted and signature_policy.SIGNED in tags and not (said and all(one.is_signed for one in said)):
        found.append(f"it was signed when it was registered, and its {claims.CLAIMS} is unsigned or gone")
    elif folder and folder.is_dir() and not found and (problem := signature_policy.wrong_signature(folder, tags)):
        found.append(problem)
    return found, confirmed


def find_runs(p: Params, tracker: Tracker, raw: RawHistory, seen: Mapping[str, str]) -> list[str]:
    """The runs whose files are erased: those of versions that saw the rows, and those that no version tells about.

    A run without a version, such as after a failed gate, is kept if the dvc.lock among its files names raw sets that
    are known to be without the rows. Of cross-validations nothing says which raw sets they had, so none is kept.

    Args:
        p: the params.
        tracker: the registry.
        raw: answers whether raw sets hold the rows.
        seen: the versions that saw the rows.

    Raises:
        TrackingError: MLflow does not answer.
    """
    model = p.registry.model
    of_versions = {version: tags.get(versions.RUN) for version, tags in tracker.all_version_tags(model).items()}
    touched = {run for version, run in of_versions.items() if version in seen}
    kept = set(of_versions.values()) - touched
    found = [
        run
        for run in tracker.all_runs(model)
        if run in touched or (run not in kept and not _is_without_rows(tracker, run, raw))
    ]
    # Each holds every row that it measured.
    return [*found, *tracker.all_runs(cross_validation.experiment(p))]


def _is_without_rows(tracker: Tracker, run: str, raw: RawHistory) -> bool:
    if not set(tracker.artifact_names(run)) <= _OF_GATE:
        # Later reports about a version may be of other data.
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            lock, values = (
                graph.read_yaml(path) if (path := tracker.fetch_artifact(run, name, Path(folder))) else None
                for name in ("dvc.lock", params.PARAMS_FILE)
            )
            if lock is None or values is None:
                return False
            recorded = Recorded(graph.expand(graph.read_yaml(graph.GRAPH), values), lock["stages"], values, {}, ())
            # Without its .dvc files it is not known which sets were mixed in.
            if values["data"].get("mixture") or not lock["stages"].get("prepare"):
                return False
            made = raw_history.read_made(recorded, raw)
        except (PipelineError, LookupError, TypeError, AttributeError):
            # The files of a run are what somebody wrote there.
            return False
    return not made.dropped and not made.unknown
