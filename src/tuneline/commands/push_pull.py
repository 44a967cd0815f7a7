"""`tuneline push` and `tuneline pull`: move what versions were made from between clones.

Each version has a git ref, which names its data by their md5 in DVC's cache. Git moves the refs, DVC moves the data.
"""

from collections.abc import Container, Iterable, Mapping

from tuneline import git
from tuneline.decisions import erasure_receipt, source_commit, sources
from tuneline.errors import GitError, PipelineError
from tuneline.params import Params
from tuneline.pipeline import dvc_files, objects
from tuneline.pipeline.graph import Output
from tuneline.pipeline.objects import Moved
from tuneline.registry.tracking import Tracker

_SHOWN = 3


def push(p: Params, tracker: Tracker, git_remote: str) -> list[str]:
    """Copy the data of all versions to DVC's default remote, and then their refs to a git remote.

    The data of erased versions stay where they are.

    Args:
        p: the params, which name the model.
        tracker: the registry, which knows the erased versions.
        git_remote: its name.

    Returns:
        What was moved, in lines.

    Raises:
        GitError: the git remote does not exist, does not answer or refuses; what was moved before stays there.
        PipelineError: DVC has no remote, or it cannot be written, or data are nowhere.
        TrackingError: MLflow does not answer.
    """
    _refuse_missing_remote(git_remote)
    refs = git.refs_below(f"{source_commit.REFS}/")
    if not refs:
        return [f"no version of this clone has a ref below {source_commit.REFS} yet: nothing to push"]
    erased = _erased_versions(p, tracker)
    outputs, problems = _outputs(refs, erased)
    _refuse_missing_storage()
    moved = objects.push(outputs)
    there = git.refs_of_remote(git_remote, source_commit.REFS)
    # A ref says that the data are there, so it goes last; and another version's ref of this name stays as it is.
    names = {name: source_commit.free_name(_short(name, commit), commit, there) for name, commit in refs.items()}
    new = {to: refs[name] for name, to in names.items() if to}
    lines = [*_left_out(erased), _data(moved, f"pushed to '{objects.remote_name()}'")]
    if new:
        try:
            git.push_refs(git_remote, new)
        except GitError as error:
            raise GitError(*lines, *error.problems) from None
    return _complete([*lines, _refs(new, refs, f"pushed to '{git_remote}'")], moved, problems)


def pull(p: Params, tracker: Tracker, git_remote: str) -> list[str]:
    """Fetch the refs of all versions from a git remote, and then their data from DVC's default remote.

    The data of erased versions are not fetched, even if the remote still has them.

    Args:
        p: the params, which name the model.
        tracker: the registry, which knows the erased versions.
        git_remote: its name.

    Returns:
        What was moved, in lines.

    Raises:
        GitError: the git remote does not exist or does not answer.
        PipelineError: DVC has no remote, or it cannot be read, or it lacks data.
        TrackingError: MLflow does not answer.
    """
    _refuse_missing_remote(git_remote)
    there = git.refs_of_remote(git_remote, source_commit.REFS)
    here = git.refs_below(f"{source_commit.REFS}/")
    names = {name: source_commit.free_name(_short(name, commit), commit, here) for name, commit in there.items()}
    new = {name: to for name, to in names.items() if to}
    if new:
        git.fetch_refs(git_remote, new)
    refs = git.refs_below(f"{source_commit.REFS}/")
    erased = _erased_versions(p, tracker)
    lines = [*_left_out(erased), _refs(new, there, f"fetched from '{git_remote}'")]
    if not refs:
        return lines
    outputs, problems = _outputs(refs, erased)
    _refuse_missing_storage(*lines)
    moved = objects.pull(outputs)
    return _complete([*lines, _data(moved, f"fetched from '{objects.remote_name()}'")], moved, problems)


def _erased_versions(p: Params, tracker: Tracker) -> dict[str, str]:
    """The commits of erased versions -> their numbers."""
    erased = erasure_receipt.erased_versions(tracker, p.registry.model)
    if not erased:
        return {}
    every = tracker.all_version_tags(p.registry.model)
    return {tags[source_commit.TAG]: one for one, tags in every.items() if one in erased and source_commit.TAG in tags}


def _left_out(erased: Mapping[str, str]) -> list[str]:
    if not erased:
        return []
    numbers = ", ".join(sorted(erased.values(), key=int))
    return [f"erased, so what only they were made from is neither pushed nor fetched: versions {numbers}"]


def _outputs(refs: Mapping[str, str], erased: Container[str]) -> tuple[list[Output], list[str]]:
    """The data of versions that are not erased, each set of bytes once; and a line for each ref that cannot be read."""
    found: dict[str, Output] = {}
    problems = []
    for name, commit in refs.items():
        if commit in erased:
            continue
        try:
            recorded = sources.read(commit)
        except (GitError, PipelineError) as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
            continue
        found |= {one.md5: one for one in (*recorded.outputs(), *recorded.inputs()) if one.is_cached}
    return list(found.values()), problems


def _short(name: str, commit: str) -> str:
    """The name of a ref without the sha that another clone has added to it."""
    return name.removesuffix(f"-{commit[:12]}")


def _refuse_missing_remote(name: str) -> None:
    if not git.has_remote(name):
        raise GitError(
            f"this clone has no git remote '{name}'; add it with: git remote add {name} URL, or name another one with "
            "--git-remote"
        )


def _refuse_missing_storage(*done: str) -> None:
    if not dvc_files.has_remote():
        raise PipelineError(
            *done,
            "DVC has no remote for the data; add one with: .venv/bin/dvc remote add --default storage URL",
        )


def _refs(new: Iterable[str], every: Iterable[str], what: str) -> str:
    named, count = list(new), len(list(every))
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    shown = f" ({', '.join(named[:_SHOWN])}{more})" if named else ""
    return f"refs: {len(named)} {what}{shown}, {count - len(named)} were there"


def _data(moved: Moved, what: str) -> str:
    return f"data: {moved.objects:,} objects of {moved.size / 1e6:,.1f} MB {what}, {moved.present:,} were there"


def _complete(lines: list[str], moved: Moved, problems: list[str]) -> list[str]:
    problems = [*problems, *(sources.lost_data(output, lost) for output, lost in moved.lost.items())]
    if problems:
        raise PipelineError(*lines, *problems)
    return lines
