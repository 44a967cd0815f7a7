"""The clean rows of a version come from DVC's cache, split by split."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest

from tuneline.core import files
from tuneline.decisions import version_rows
from tuneline.errors import DataError
from tuneline.params import Params
from tuneline.pipeline import objects


def put(content: bytes, end: str = "") -> str:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + end
    path = objects.place(Path(".dvc/cache/files/md5"), md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def lock(md5: str, path: str = "data/clean") -> Path:
    """The folder of a version with a dvc.lock that names this listing."""
    folder = Path("version")
    folder.mkdir(exist_ok=True)
    outs = [{"path": path, "hash": "md5", "md5": md5}]
    (folder / "dvc.lock").write_text(json.dumps({"stages": {"prepare": {"outs": outs}}}))
    return folder


def test_each_split_is_read_by_its_name(project: Params) -> None:
    listing = []
    for name in (
        "train/part-00000",
        "train/part-00001",
        "validation/part-00000",
        "test/part-00000",
        "other/part-00000",
    ):
        files.write_parquet(Path("part.parquet"), pa.table({"id": [name]}))
        listing.append({"relpath": f"{name}.parquet", "md5": put(Path("part.parquet").read_bytes())})
    listing.append({"relpath": "dataset.json", "md5": put(b"{}")})
    folder = lock(put(json.dumps(listing).encode(), ".dir"))

    def ids(*splits: str) -> list[str]:
        tables = version_rows.read(folder, "data/clean", splits) if splits else version_rows.read(folder, "data/clean")  # type: ignore[arg-type]
        return [name for table in tables for name in table["id"].to_pylist()]

    # A set that is trained in addition lies in a folder of its own.
    assert ids() == ["other/part-00000", "train/part-00000", "train/part-00001"]
    assert ids("test") == ["test/part-00000"]
    assert ids("test", "validation") == ["test/part-00000", "validation/part-00000"]


def test_a_lock_without_the_rows_is_told(project: Params) -> None:
    gone = "0" * 32
    with pytest.raises(DataError, match="names no data/other"):
        list(version_rows.read(lock(f"{gone}.dir"), "data/other"))
    for md5 in ("nothing", gone):
        with pytest.raises(DataError, match="names no data/clean"):
            list(version_rows.read(lock(md5), "data/clean"))
