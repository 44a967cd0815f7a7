"""The clean rows that a version was made from, out of DVC's cache or remote.

The version's own dvc.lock names their md5s; the workspace may hold other rows by now.
"""

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa

from tuneline.core import files
from tuneline.data.records.record_form import SplitName
from tuneline.errors import DataError
from tuneline.pipeline import dvc_files, graph, objects

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


def _split(name: str) -> SplitName:
    for split in _HELD_OUT:
        if name.startswith(f"{split}/"):
            return split
    return "train"
