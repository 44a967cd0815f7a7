"""The clean rows that a version was made from, out of DVC's cache or remote.

The version's own dvc.lock names their md5s; the workspace may hold other rows by now. A merged version has seen the
rows of the versions that it was merged from.
"""

import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from tuneline.core import files
from tuneline.data.records.record_form import SplitName
from tuneline.errors import DataError, RegistryError
from tuneline.fusion.merging import merge_recipe
from tuneline.pipeline import dvc_files, graph, objects
from tuneline.registry import tracking, versions

_HELD_OUT: tuple[SplitName, ...] = ("validation", "test")


def read(folder: Path, clean: str, splits: Collection[SplitName] = ("train",)) -> Iterator[pa.Table]:
    """The clean rows of a version, file by file.

    Args:
        folder: of the version.
        clean: the path of the clean data, as dvc.lock names it.
        splits: which of them; rows of mixed-in sets are training rows.

    Raises:
        DataError: dvc.lock does not name them, or neither the cache nor a remote holds them.
        PipelineError: dvc.lock or the remote cannot be read.
    """
    lock = graph.parse_yaml((folder / graph.LOCK).read_bytes(), f"{graph.LOCK} of the version", "")
    outs = [one for stage in (lock.get("stages") or {}).values() for one in stage.get("outs", [])]
    md5 = next((one.get("md5") for one in outs if one.get("path") == clean), None)
    if not isinstance(md5, str) or not objects.is_md5(md5) or not objects.is_folder(md5):
        raise DataError(f"its dvc.lock names no {clean}")
    cache = dvc_files.cache_folder()
    with tempfile.TemporaryDirectory() as temporary:
        listing = objects.read_listing(cache, md5)
        if listing is None or not all(objects.place(cache, one).is_file() for one in listing.values()):
            cache = Path(temporary) / "files" / "md5"
            objects.pull_objects([md5], cache)
            listing = objects.read_listing(cache, md5)
        if listing is None:
            raise DataError(f"{clean} with the md5 {md5[:12]}… is in neither DVC's cache nor a remote")
        for name, one in sorted(listing.items()):
            if name.endswith(".parquet") and _split(name) in splits:
                if not objects.place(cache, one).is_file():
                    raise DataError(f"{clean}/{name} with the md5 {one[:12]}… is in neither DVC's cache nor a remote")
                yield files.read_parquet(objects.place(cache, one))


def seen_by(model: str, folder: Path, clean: str) -> Iterator[pa.Table]:
    """The clean rows that a version was trained on, or versions that it was merged from, file by file.

    Args:
        model: the registered model.
        folder: of the version.
        clean: as for `read`.

    Raises:
        DataError, PipelineError: as of `read`.
        RegistryError: a version that it was merged from is not whole any more.
        ModelError: its description of the merge cannot be read.
    """
    if not (folder / merge_recipe.FILE).is_file():
        yield from read(folder, clean)
        return
    ids = set(versions.version_train_rows(folder)["id"].to_pylist())
    yield from chosen([folder, *parents(model, folder)], clean, ids)


def chosen(folders: Iterable[Path], clean: str, ids: Collection[str]) -> Iterator[pa.Table]:
    """The training rows with these ids in the clean data of some versions, each row once.

    Args:
        folders: of the versions; the data of the first that has a row are taken.
        clean: as for `read`.
        ids: of the rows.

    Raises:
        DataError, PipelineError: as of `read`.
    """
    left = set(ids)
    for folder in folders:
        for table in read(folder, clean) if left else ():
            found = table.filter(pa.array([one in left for one in table["id"].to_pylist()], pa.bool_()))
            left -= set(found["id"].to_pylist())
            yield found


def parents(model: str, folder: Path) -> Iterator[Path]:
    """The folders of the versions that a folder says it was merged from, and of those that these were merged from.

    Args:
        model: the registered model.
        folder: of a version, or a merge folder; without the description of a merge it has none.

    Raises:
        RegistryError: one of the versions is not whole any more, or not in this registry.
        ModelError: a description cannot be read.
    """
    waiting, known, tracker = [folder], set[str](), None
    while waiting:
        one = waiting.pop()
        if not (one / merge_recipe.FILE).is_file():
            continue
        tracker = tracker or tracking.connect()
        for parent in merge_recipe.read(one).parents:
            if parent.version in known:
                continue
            known.add(parent.version)
            if versions.registered_sha256(tracker, model, parent.version) != parent.files_sha256:
                raise RegistryError(
                    f"version {parent.version} of this registry is not the version {parent.version} that was merged"
                )
            waiting.append(versions.fetch_version(tracker, model, parent.version))
            yield waiting[-1]


def _split(name: str) -> SplitName:
    for split in _HELD_OUT:
        if name.startswith(f"{split}/"):
            return split
    return "train"
