"""Versions that are to be merged: whether they fit together, and the base that all of them were fine-tuned from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from tuneline.core import files
from tuneline.decisions.verified_versions import VerifiedVersion
from tuneline.errors import BrokenVersionError, ModelError, PipelineError
from tuneline.fusion.merging import mismatches
from tuneline.modeling.model_folder import MERGED
from tuneline.params import Params
from tuneline.pipeline import dvc_files, graph, objects
from tuneline.pipeline.graph import Output
from tuneline.registry import versions

_SHARED_BASE = "only versions that were fine-tuned from one base can be merged"


@dataclass
class Bases:
    """The bases of some versions, out of DVC's cache or remote."""

    caches: list[Path]
    """Where their objects are."""
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    """Version -> relative path -> md5 of the files of its base, without a merged model in it."""
    problems: list[str] = field(default_factory=list)
    """Why a base cannot be had, in sentences with the remedy."""

    def copy(self, version: str, folder: Path) -> None:
        """Copy the base of a version, without a merged model in it, into a new folder.

        Raises:
            PipelineError: an object is damaged.
        """
        lost = [
            name
            for name, md5 in self.files[version].items()
            if objects.copy_verified(Output(name, md5, ""), self.caches, folder / name)
        ]
        if lost:
            raise PipelineError(
                f"version {version}: {', '.join(lost)} of its base is damaged in DVC's cache; delete the cache's copy "
                "and fetch it with: .venv/bin/tuneline pull"
            )


@contextmanager
def bases_of(found: Sequence[VerifiedVersion]) -> Iterator[Bases]:
    """The bases that versions were fine-tuned from; what is fetched from the remote is deleted after the block."""
    with files.temporary_folder() as temporary:
        fetched = temporary / "files" / "md5"
        bases = Bases([dvc_files.cache_folder(), fetched])
        for one in found:
            try:
                listed = _listing(_recorded_base(one), bases.caches, fetched)
            except PipelineError as error:
                bases.problems += [f"{one.name}: {problem}" for problem in error.problems]
                continue
            bases.files[one.version] = {name: md5 for name, md5 in listed.items() if not _is_merged(name)}
        yield bases


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _is_merged(name: str) -> bool:
    return name.startswith(f"{MERGED}/")


def _recorded_base(one: VerifiedVersion) -> Output:
    """The base as the version's own dvc.lock records it."""
    try:
        content = (one.folder / graph.LOCK).read_bytes()
        lock = graph.parse_yaml(content, f"{graph.LOCK} of {one.name}", "use another version")
        place = one.values["paths"]["base"]
        entries = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
        md5 = next((out["md5"] for out in entries if out["path"] == place), None)
    except (OSError, LookupError, TypeError, AttributeError):
        # Another program has made the version.
        md5, place = None, None
    if not isinstance(md5, str) or not objects.is_md5(md5) or not objects.is_folder(md5):
        raise PipelineError(f"its {graph.LOCK} names no base; use another version")
    return Output(str(place), md5, "base")


def _listing(output: Output, caches: Sequence[Path], fetched: Path) -> dict[str, str]:
    for cache in caches:
        listing = objects.read_listing(cache, output.md5)
        if listing and (foreign := [name for name in listing if not _is_inside(name)]):
            raise PipelineError(f"the list of its base names a file outside the folder ({foreign[0]})")
        if listing and all(any(objects.place(one, md5).is_file() for one in caches) for md5 in listing.values()):
            return listing
    if dvc_files.has_remote():
        objects.pull_objects([output.md5], into=fetched)
        listing = objects.read_listing(fetched, output.md5)
        if (
            listing
            and all(map(_is_inside, listing))
            and all(objects.place(fetched, md5).is_file() for md5 in listing.values())
        ):
            return listing
    where = "nor in the remote" if dvc_files.has_remote() else "and there is no remote"
    raise PipelineError(
        f"its base {output.path} with the md5 {output.md5[:12]}… is not in DVC's cache, {where}; run "
        "`.venv/bin/tuneline push` in the clone that trained it, and `.venv/bin/tuneline pull` here"
    )


def problems(p: Params, found: Sequence[VerifiedVersion], bases: Bases) -> list[str]:
    """Why versions cannot be merged, in sentences with the remedy; empty if they can.

    Args:
        p: the params.
        found: the versions, verified.
        bases: their bases.
    """
    told = list(bases.problems)
    told += [
        f"{one.name} was trained for the task {one.values.get('task')}, and params.yaml says {p.task}; name versions "
        "of this task, or set task"
        for one in found
        if one.values.get("task") != p.task
    ]
    for one in found:
        try:
            versions.version_train_rows(one.folder)
        except BrokenVersionError as error:
            told.append(f"{one.name}: {error.reason}; name another version")
    if not found:
        return told
    first, *others = found
    for other in others:
        if first.tags.get(versions.MADE[0]) == other.tags.get(versions.MADE[0]):
            told.append(f"{first.name} and {other.name} are the same model; name another version")
            continue
        try:
            unlike = mismatches.find(first.name, first.folder, other.name, other.folder)
        except ModelError as error:
            unlike = list(error.problems)
        told += [f"{reason}; name versions that agree in it" for reason in unlike]
        told += _other_base(first, other, bases)
    return told


def _other_base(first: VerifiedVersion, other: VerifiedVersion, bases: Bases) -> Iterator[str]:
    if first.version not in bases.files or other.version not in bases.files:
        return
    if bases.files[first.version] != bases.files[other.version]:
        told = [f"{one.name} {_described(one)}" for one in (first, other)]
        yield (
            f"{_SHARED_BASE}: {told[0]}, and {told[1]}; train from one of the two bases again (for a builtin base "
            "data.frozen_pretraining: true keeps it)"
        )


def _described(one: VerifiedVersion) -> str:
    base: Any = one.values.get("base")
    source = base.get("source") if isinstance(base, Mapping) else None
    return f"from {source} with the sha256 {one.tags.get('tuneline.base_sha256', 'unknown')[:12]}…"


def trained_rows(found: Sequence[VerifiedVersion]) -> pa.Table:
    """The ids and clusters of the rows that versions were fine-tuned on, each once."""
    tables = [versions.version_train_rows(one.folder) for one in found]
    every = pa.concat_tables(
        [table.cast(pa.schema([("id", pa.string()), ("cluster", pa.string())])) for table in tables]
    )
    return every.group_by(["id", "cluster"], use_threads=False).aggregate([]).sort_by("id")
