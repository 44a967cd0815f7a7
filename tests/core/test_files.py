"""Files and folders are written completely or not at all, and a broken file is an error with a remedy."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tuneline import errors
from tuneline.core import files


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(path) == {"a": 1}
    assert [left.name for left in tmp_path.iterdir()] == ["report.json"]


def test_a_file_with_a_similar_name_is_kept(tmp_path: Path) -> None:
    theirs = tmp_path / ".made.txt.mine.partial"
    theirs.write_text("kept")
    files.write_text(tmp_path / "made.txt", "made")
    assert theirs.read_text() == "kept"


def test_a_folder_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with files.atomic_folder(folder) as temporary:
        (temporary / "old").write_text("1")
        assert not folder.exists()
    with pytest.raises(RuntimeError), files.atomic_folder(folder) as temporary:
        (temporary / "new").write_text("2")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old"]
    with files.atomic_folder(folder) as temporary:
        (temporary / "new").write_text("2")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [left.name for left in tmp_path.iterdir()] == ["model"]


def test_the_digest_of_a_folder_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("1")
    (tmp_path / "a" / "y").write_text("2")
    assert list(files.sha256_tree(tmp_path / "a")) == ["b/x", "y"]
    before = files.sha256_path(tmp_path / "a")
    (tmp_path / "a" / "y").rename(tmp_path / "a" / "z")
    assert files.sha256_path(tmp_path / "a") != before


def test_the_sha256_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert files.digest({"a": 1, "b": [2, "三"]}) == files.digest({"b": [2, "三"], "a": 1})


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "诗"] * 1000})
    for name in ("one", "two"):
        files.write_parquet(tmp_path / name, table)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert files.read_parquet(tmp_path / "one").equals(table)


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_a_copy_has_the_same_bytes_and_is_not_a_link(tmp_path: Path, size: int) -> None:
    source, link, target = tmp_path / "a", tmp_path / "link", tmp_path / "b"
    source.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    link.symlink_to(source)
    target.write_bytes(b"earlier content, which may be longer")
    files.copy(link, target)
    assert target.read_bytes() == source.read_bytes()
    assert not target.is_symlink()
    assert target.stat().st_nlink == 1
    target.write_bytes(b"changed")
    assert source.stat().st_size == size


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_copy_goes_from_one_file_system_to_another(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "a").write_text("text")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        files.copy_tree(tmp_path / "folder", Path(elsewhere))
        assert files.sha256_path(Path(elsewhere)) == files.sha256_path(tmp_path / "folder")


def test_the_error_of_a_full_disk_names_the_target(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    with pytest.raises(OSError, match="No space left") as caught:
        files.copy(tmp_path / "a", Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


def test_a_copy_onto_itself_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    (tmp_path / "link").symlink_to("a")
    for target in ("a", "link"):
        files.copy(tmp_path / "a", tmp_path / target)
        assert (tmp_path / "a").read_text() == "text"


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs a file with size 0 and content")
def test_a_file_of_the_kernel_with_size_0_is_copied(tmp_path: Path) -> None:
    files.copy(Path("/proc/self/stat"), tmp_path / "stat")
    assert (tmp_path / "stat").stat().st_size > 0


_KILLED_IN_THE_MIDDLE = """
import os, sys
from pathlib import Path
from tuneline.core import files
rename, left = Path.replace, [int(sys.argv[2])]
def killed(self, target):
    left[0] -= 1
    if left[0] < 0:
        os._exit(9)
    return rename(self, target)
Path.replace = killed
with files.atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "new").write_text("2")
"""


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path: Path, renames: int) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("1")
    command = [sys.executable, "-c", _KILLED_IN_THE_MIDDLE, str(folder), str(renames)]
    assert subprocess.run(command, check=False).returncode == 9
    with pytest.raises(RuntimeError), files.atomic_folder(folder):
        assert [path.name for path in folder.iterdir()] == ["old"]
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in folder.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "a/b: no space left on the disk; free some and run the same command again"),
        (errno.EROFS, "a/b: is on a read-only file system; mount it writable, and run the "),
        (errno.EACCES, "a/b: may not be read or written by this user; change its permissions or its owner, and run "),
        (errno.ENOENT, "None"),
    ],
)
def test_an_error_of_the_system_has_a_remedy(number: int, said: str) -> None:
    assert str(errors.as_setup_error(OSError(number, "text of the system", "a/b"))).startswith(said)


_WRITING = """
import sys
import tempfile
from pathlib import Path
from tuneline.core import files

path = Path(sys.argv[1])
with files.atomic_folder(path / "model") as folder, files.atomic_file(path / "rows") as file, files.work_folder(path):
    with files.temporary_folder() as temporary:
        for made in (folder, temporary):
            (made / "half").write_text("a row")
        print(flush=True)
        input()
"""


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing temporary files and folders."""
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", _WRITING, str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def temporaries(root: Path) -> list[Path]:
    """The temporary files and folders below `root`."""
    return [*root.rglob("*.partial"), *(root / files.TEMPORARY).iterdir()]


def write_all(root: Path) -> None:
    """Write the same files as `writer`."""
    with files.atomic_folder(root / "data/model") as folder, files.atomic_file(root / "data/rows") as rows:
        (folder / "whole").touch()
        rows.write_text("1")
    with files.work_folder(root / "data"), files.temporary_folder():
        pass


def test_temporary_files_of_a_running_process_are_kept_and_those_of_a_killed_process_removed(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    theirs = temporaries(tmp_path)
    assert len(theirs) == 4
    assert not any(map(files.is_abandoned, theirs))
    write_all(tmp_path)
    assert sorted(temporaries(tmp_path)) == sorted(theirs)
    writer.kill()
    writer.wait()
    assert all(map(files.is_abandoned, theirs))
    write_all(tmp_path)
    assert temporaries(tmp_path) == []
    assert (tmp_path / "data/model/whole").is_file()


def test_temporary_files_named_by_a_process_id_are_removed(tmp_path: Path) -> None:
    """The id may be in use again, by this process (in a container) or by another one."""
    for owner in (os.getpid(), os.getppid(), 1):
        left = tmp_path / f".model.{owner}.partial"
        left.mkdir()
        (left / "half").touch()
        (tmp_path / f".model.{owner}.replaced.partial").mkdir()
    (tmp_path / f".model.other.{'a' * 12}.replaced.partial").mkdir()
    with files.atomic_folder(tmp_path / "model") as folder:
        (folder / "whole").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".model.other.{'a' * 12}.replaced.partial", "model"]


def test_two_threads_write_one_file(tmp_path: Path) -> None:
    with files.atomic_file(tmp_path / "a") as first:
        first.write_text("first")
        files.write_text(tmp_path / "a", "second")
        assert first.read_text() == "first"
    assert (tmp_path / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b'{"rows": {"train": 3}, "fi', "is not JSON in UTF-8: "),
        (b'{"rows": "caf\xe9"}', "is not JSON in UTF-8: "),
        (b"[" * 100_000, "nests too deep, so this project did not write it"),
        (b" " * (1 << 26) + b"{}", "is larger than 67,108,864 bytes"),
        (b'["rows"]', "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"rows": {"test": 3}}', "lacks 'rows.train', 'fingerprint'"),
        (b'{"rows": 3, "fingerprint": 1}', "lacks 'rows.train'"),
        (None, "does not exist; run `make run`, which makes it again"),
    ],
)
def test_a_broken_json_file_is_an_error_with_a_remedy(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "account.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.UnreadableFileError) as caught:
        files.read_object(path, "rows.train", "fingerprint")
    [problem] = caught.value.problems
    assert problem.startswith(f"{path}: {said}")
    assert problem.endswith("run `make run`, which makes it again")
    # Callers that make the file again catch ValueError.
    assert isinstance(caught.value, ValueError)


def test_an_object_with_its_keys_is_read(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"rows": {"train": 0}, "none": None})
    assert files.read_object(tmp_path / "a.json", "rows.train", "none") == {"rows": {"train": 0}, "none": None}


def test_a_cut_off_parquet_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    files.write_parquet(path, pa.table({"a": list(range(1000))}))
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-100], whole[:200].ljust(len(whole) - 300, b"\0") + whole[-300:]):
        path.write_bytes(content)
        with pytest.raises(errors.UnreadableFileError, match=r"rows\.parquet: is not a complete parquet file"):
            files.read_parquet(path)
