"""What a stage has made, read from DVC's cache while the workspace and dvc.lock may be changing."""

import hashlib
from pathlib import Path

import pytest

from tuneline.errors import DataError
from tuneline.pipeline import dvc_files, recorded_bytes

CONTENT = b"the scores"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
LOCK = f"""schema: '2.0'
stages:
  evaluate:
    cmd: true
    outs:
    - path: reports/rows.parquet
      hash: md5
      md5: {MD5}
      size: 10
"""


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The object of reports/rows.parquet in DVC's cache; the workspace holds other bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recorded_bytes, "_SECONDS", 0.0)
    Path(".dvc").mkdir()
    Path("dvc.lock").write_text(LOCK)
    Path("reports").mkdir()
    Path("reports/rows.parquet").write_bytes(b"half written")
    place = Path(".dvc/cache/files/md5") / MD5[:2] / MD5[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    return place


def read(tmp_path: Path) -> bytes:
    record = recorded_bytes.read_record("evaluate")
    return recorded_bytes.locate(record, "rows.parquet", tmp_path / "fetched").read_bytes()


def test_the_recorded_bytes_come_from_the_cache(cached: Path, tmp_path: Path) -> None:
    assert read(tmp_path) == CONTENT


def test_bytes_that_the_cache_lacks_come_from_the_remote_and_leave_the_cache_as_it_is(
    cached: Path, tmp_path: Path
) -> None:
    remote = tmp_path / "remote/files/md5" / MD5[:2] / MD5[2:]
    remote.parent.mkdir(parents=True)
    cached.rename(remote)
    Path(".dvc/config").write_text(
        f"[core]\n    remote = storage\n    no_scm = true\n['remote \"storage\"']\n    url = {tmp_path / 'remote'}\n"
    )
    assert read(tmp_path) == CONTENT
    assert not cached.exists()


@pytest.mark.parametrize("content", ["", LOCK[:30], LOCK[:40], LOCK[: LOCK.index("md5:")]])
def test_a_dvc_lock_that_is_being_written_does_not_matter(cached: Path, tmp_path: Path, content: str) -> None:
    (dvc_files.KEPT / "dvc.lock").parent.mkdir(parents=True)
    (dvc_files.KEPT / "dvc.lock").write_text(LOCK)
    Path("dvc.lock").write_text(content)
    assert read(tmp_path) == CONTENT


def test_lost_or_damaged_bytes_are_told_with_the_remedy(cached: Path, tmp_path: Path) -> None:
    cached.write_bytes(b"other bytes")
    with pytest.raises(
        DataError, match=r"reports/rows.parquet with the md5 .* is damaged in DVC's cache, and is not in"
    ):
        read(tmp_path)
    cached.unlink()
    with pytest.raises(
        DataError, match=r"is not in DVC's cache, and DVC has no remote; if the workspace has it, `make"
    ):
        read(tmp_path)
    Path("dvc.lock").unlink()
    with pytest.raises(DataError, match=r"dvc.lock: does not record the stage evaluate; run it with: make run"):
        read(tmp_path)
