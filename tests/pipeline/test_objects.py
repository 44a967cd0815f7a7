"""DVC's objects are copied only if their bytes are those that their names tell."""

import hashlib
import json
from pathlib import Path

import pytest

from tuneline.errors import PipelineError
from tuneline.pipeline import objects
from tuneline.pipeline.graph import Output


def store(cache: Path, content: bytes, suffix: str = "") -> str:
    """Put an object into a cache; returns its md5."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    path = objects.place(cache, md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def folder(cache: Path, names: dict[str, bytes]) -> tuple[str, dict[str, str]]:
    listed = {name: store(cache, content) for name, content in names.items()}
    listing = json.dumps([{"md5": md5, "relpath": name} for name, md5 in listed.items()]).encode()
    return store(cache, listing, ".dir"), listed


def test_a_folder_is_copied_with_the_bytes_of_its_list(tmp_path: Path) -> None:
    md5, _ = folder(tmp_path / "cache", {"a.jsonl": b"1", "below/名.txt": b"2"})
    assert objects.copy_verified(Output("raw", md5, "raw.dvc"), [tmp_path / "cache"], tmp_path / "raw") == []
    assert (tmp_path / "raw/below/名.txt").read_bytes() == b"2"


def test_a_damaged_object_is_taken_from_the_next_cache(tmp_path: Path) -> None:
    caches = [tmp_path / "first", tmp_path / "second"]
    [(md5, listed), _] = [folder(cache, {"a": b"1", "b": b"2"}) for cache in caches]
    objects.place(caches[0], listed["b"]).write_bytes(b"3")
    output = Output("raw", md5, "raw.dvc")
    assert objects.copy_verified(output, caches, tmp_path / "raw") == []
    assert (tmp_path / "raw/b").read_bytes() == b"2"
    objects.place(caches[1], listed["b"]).unlink()
    assert objects.copy_verified(output, caches, tmp_path / "raw") == [listed["b"]]
    assert not (tmp_path / "raw/b").exists()


def test_a_damaged_or_missing_list_is_reported(tmp_path: Path) -> None:
    md5, _ = folder(tmp_path / "cache", {"a": b"1"})
    objects.place(tmp_path / "cache", md5).write_bytes(b"[]")
    output = Output("raw", md5, "raw.dvc")
    assert objects.copy_verified(output, [tmp_path / "cache"], tmp_path / "raw") == [md5]
    assert objects.copy_verified(output, [], tmp_path / "raw") == [md5]


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_list_cannot_name_files_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    md5, _ = folder(tmp_path / "cache", {name: b"1"})
    with pytest.raises(PipelineError, match="names a file outside the folder"):
        objects.copy_verified(Output("raw", md5, "raw.dvc"), [tmp_path / "cache"], tmp_path / "raw")


def test_a_list_of_another_form_is_no_traceback(tmp_path: Path) -> None:
    for content in (b"[1]", b"{}", b"\xff", b'[{"md5": "../../x"}]'):
        md5 = store(tmp_path / "cache", content, ".dir")
        output = Output("raw", md5, "raw.dvc")
        assert objects.copy_verified(output, [tmp_path / "cache"], tmp_path / "raw") == [md5]


@pytest.mark.slow
def test_a_folder_travels_through_a_remote_with_all_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clones = [tmp_path / "first", tmp_path / "第二"]
    for clone in clones:
        (clone / ".dvc").mkdir(parents=True)
        config = f"[core]\nno_scm = true\nremote = storage\n['remote \"storage\"']\nurl = {tmp_path}/storage\n"
        (clone / ".dvc/config").write_text(config)
    cache = clones[0] / ".dvc/cache/files/md5"
    md5, listed = folder(cache, {"a": b"1", "below/b": b"2"})
    outputs = [Output("raw", md5, "raw.dvc"), Output("metrics.json", "0" * 32, "evaluate", is_cached=False)]
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.chdir(clones[1])
    assert objects.find_missing(outputs) == {outputs[0]: [md5]}
    monkeypatch.chdir(clones[0])
    moved = objects.push(outputs)
    assert (moved.objects, moved.present, moved.lost) == (3, 0, {})
    assert objects.push(outputs).present == 3
    monkeypatch.chdir(clones[1])
    assert objects.find_missing(outputs) == {}
    moved = objects.pull(outputs)
    assert (moved.objects, moved.present, moved.lost) == (3, 0, {})
    assert objects.find_missing(outputs) == {}

    # Both copies of one file are lost; of another the remote has other bytes, and the clone none.
    stored = tmp_path / "storage/files/md5"
    for md5 in listed.values():
        objects.place(Path(".dvc/cache/files/md5"), md5).unlink()
    objects.place(stored, listed["a"]).unlink()
    objects.place(stored, listed["below/b"]).unlink()
    objects.place(stored, listed["below/b"]).write_bytes(b"3")
    assert objects.pull(outputs).lost == {outputs[0]: [listed["a"], listed["below/b"]]}
    assert not objects.place(Path(".dvc/cache/files/md5"), listed["below/b"]).exists()
