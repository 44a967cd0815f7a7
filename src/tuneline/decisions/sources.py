"""Whether all that a version was made from still exists: its git commit, and its data in DVC's cache or remote."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tuneline import git, params
from tuneline.decisions import source_commit
from tuneline.errors import GitError, PipelineError, one_line
from tuneline.params import Params
from tuneline.pipeline import dvc_files, graph, objects
from tuneline.pipeline.graph import Output, Recorded
from tuneline.registry import versions
from tuneline.registry.tracking import Tracker

_SHOWN = 3
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_GRAPH, _LOCK = "dvc.yaml", "dvc.lock"


@dataclass(frozen=True)
class Source:
    """What a version was made from."""

    commit: str
    """The sha of the git commit."""
    recorded: Recorded
    """What its files record."""

    def downloaded_base(self) -> list[Output]:
        """The base, where a model hub gave it."""
        base = self.recorded.values.get("base", {})
        place = self.recorded.values.get("paths", {}).get("base")
        is_of_hub = base.get("source") == "hub"
        return [output for output in self.recorded.outputs() if is_of_hub and output.path == place]


def problems(p: Params, tracker: Tracker, version: str) -> list[str]:
    """What is missing of all that a version was made from; data are looked for and not downloaded.

    Args:
        p: the params of today, which name the model.
        tracker: the registry.
        version: the number of the version.

    Returns:
        One line per problem, with the remedy; empty if the version can be rebuilt.

    Raises:
        RegistryError: the registry does not have the version.
        TrackingError: MLflow does not answer.
    """
    tags, ref = tracker.version_tags(p.registry.model, version), source_commit.ref_name(p.registry.model, version)
    try:
        source = find(tags, ref)
        return [*_unkept(source.commit, ref), *missing_data(source)]
    except (GitError, PipelineError) as error:
        return list(error.problems)


def find(tags: Mapping[str, str], ref: str) -> Source:
    """What a version was made from, read from its git commit and compared with its tags.

    Args:
        tags: of the version.
        ref: its ref, for messages.

    Raises:
        GitError: the commit, or an object of it, is missing or damaged.
        PipelineError: its files are not those of the version, or cannot be read.
    """
    commit = commit_of(tags)
    if not git.has_commit(commit):
        raise GitError(
            f"the git commit {commit[:12]} with the version's sources is not in this clone; fetch it with: "
            ".venv/bin/tuneline pull (if that does not bring it: run `tuneline push` in the clone that registered the "
            "version)"
        )
    if lost := git.missing_objects(commit):
        raise GitError(
            f"the git commit {commit[:12]} with the version's sources is not complete: {len(lost)} of its objects are "
            f"missing ({', '.join(lost[:_SHOWN])}); fetch them with: git fetch --refetch origin {ref}"
        )
    if changed := source_commit.differences(commit, tags):
        raise PipelineError(
            *changed,
            "so this commit is not what the version was made from; compare the version's tags with the ref: "
            f"git show {ref}",
        )
    return Source(commit, read(commit))


def commit_of(tags: Mapping[str, str]) -> str:
    """The sha of a version's commit.

    Raises:
        GitError: the version has none; with the reason.
    """
    # Versions were registered before their sources were kept; a commit that holds all of them may have come later.
    for tag in (source_commit.TAG, versions.COMMIT):
        if tag in tags:
            if source_commit.is_sha(tags[tag]):
                return tags[tag]
            raise GitError(
                f"the tag {tag} is not a sha of git ({tags[tag]!r}); a person has changed it in the registry"
            )
    raise GitError(
        f"the version has no tag {source_commit.TAG}: it was registered before its sources were kept in git, or git "
        "failed then; train and register it again with: make run"
    )


def read(commit: str) -> Recorded:
    """What the files of DVC in a commit record.

    Raises:
        GitError: git fails.
        PipelineError: a file is missing or cannot be read.
    """
    names = git.files_of(commit)

    def value(name: str) -> dict:
        content = git.content_of(commit, name)
        if content is None:
            raise PipelineError(f"{name}: the commit {commit[:12]} does not hold it, so the version cannot be rebuilt")
        return graph.parse_yaml(content, f"{name} in the commit {commit[:12]}", "the version cannot be rebuilt from it")

    document, values = value(_GRAPH), value(params.PARAMS_FILE)
    stages = document.get("stages")
    locked = value(_LOCK).get("stages")
    if not isinstance(stages, dict) or not stages or not isinstance(locked, dict):
        raise PipelineError(
            f"{_GRAPH} or {_LOCK} in the commit {commit[:12]} holds no stages; the version cannot be rebuilt"
        )
    pointers = {name: value(name) for name in names if name.endswith(".dvc")}
    try:
        found = Source(commit, Recorded(graph.expand(document, values), locked, values, pointers, tuple(names)))
        # Another clone may have made the commit, and anything can be in it.
        for output in (*found.recorded.inputs(), *found.recorded.outputs(), *found.downloaded_base()):
            if not _MD5.fullmatch(output.md5):
                raise ValueError(f"the md5 of {output.path} is {output.md5!r}")
    except (PipelineError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise PipelineError(
            f"{_GRAPH}, {_LOCK}, {params.PARAMS_FILE} or a .dvc file in the commit {commit[:12]} is not as DVC and "
            f"tuneline write it ({type(error).__name__}: {one_line(error)}); the version cannot be rebuilt from it"
        ) from None
    return found.recorded


def _unkept(commit: str, ref: str) -> list[str]:
    if git.is_kept(commit):
        return []
    return [
        f"no ref keeps the git commit {commit[:12]} with the version's sources, so git will delete it; keep it with: "
        f"git update-ref {ref} {commit}"
    ]


def missing_data(source: Source) -> list[str]:
    """A line for each set or result of a version that DVC's cache and remote do not hold completely."""
    recorded = source.recorded
    try:
        missing = objects.find_missing([*recorded.inputs(), *recorded.outputs()])
    except PipelineError as error:
        return [f"whether DVC's cache and remote hold the data is unknown: {problem}" for problem in error.problems]
    return [lost_data(output, lost) for output, lost in missing.items()]


def lost_data(output: Output, lost: list[str]) -> str:
    """A line about objects of an output that are nowhere to be found, or whose bytes are damaged."""
    remote = objects.remote_name()
    folder = dvc_files.cache_folder()
    damaged = [str(path) for path in (objects.place(folder, md5) for md5 in lost) if path.is_file()]
    places = damaged or lost
    named = ", ".join(places[:_SHOWN]) + (f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else "")
    if damaged:
        elsewhere = f", and its remote '{remote}' does not have them undamaged" if remote else ""
        what = f"files of DVC's cache do not hold the bytes that their names tell{elsewhere}; remove them"
    elif remote:
        what = f"objects of it are neither in DVC's cache nor in its remote '{remote}'; they may be elsewhere"
    else:
        what = "objects of it are not in DVC's cache, and DVC has no remote; add one in the clone that has them"
    return (
        f"{output.path}: {what} ({named}): run `.venv/bin/tuneline push` in a clone that has them, then "
        "`.venv/bin/tuneline pull` here"
    )
