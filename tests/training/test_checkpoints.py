import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tuneline.training import checkpoints


def write(folder: Path, step: int, keep: int = 2) -> None:
    with checkpoints.writing(folder, step, keep) as beside:
        (beside / "weights").write_bytes(bytes([step]) * 100)
        (beside / "state").write_text(f"state of {step}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (5, 50, 100):
        write(tmp_path, step)
    assert names(tmp_path) == ["checkpoint-100", "checkpoint-50"]
    assert checkpoints.newest_good(tmp_path) == tmp_path / "checkpoint-100"
    assert names(tmp_path) == ["checkpoint-100"]


def test_the_oldest_checkpoint_is_deleted_first_and_a_needed_checkpoint_is_kept(tmp_path: Path) -> None:
    for step in (5, 10):
        write(tmp_path, step)
    with checkpoints.writing(tmp_path, 15, 2) as beside:
        assert names(tmp_path) == [beside.name, "checkpoint-10"]
        (beside / "weights").touch()
    with checkpoints.writing(tmp_path, 20, 2, best=15):
        pass
    # The weights of step 25 are the best so far, but until they are written only those of 15 are of use.
    with pytest.raises(KeyboardInterrupt), checkpoints.writing(tmp_path, 25, 2, best=25):
        assert names(tmp_path)[1:] == ["checkpoint-15", "checkpoint-20"]
        raise KeyboardInterrupt
    assert checkpoints.newest_good(tmp_path) == tmp_path / "checkpoint-20"
    with checkpoints.writing(tmp_path, 25, 2, best=25):
        pass
    # 20 still needs the weights of 15.
    assert names(tmp_path) == ["checkpoint-15", "checkpoint-20", "checkpoint-25"]
    with checkpoints.writing(tmp_path, 30, 1):
        assert names(tmp_path)[1:] == ["checkpoint-25"]


def test_if_the_newest_checkpoint_is_damaged_the_older_one_has_its_best_weights(tmp_path: Path) -> None:
    for step, best in ((15, 15), (20, 15), (25, 25)):
        with checkpoints.writing(tmp_path, step, 2, best=best) as temporary:
            (temporary / "weights").write_bytes(bytes([step]))
    (tmp_path / "checkpoint-25/weights").write_bytes(b"damaged")
    assert checkpoints.newest_good(tmp_path) == tmp_path / "checkpoint-20"
    assert names(tmp_path) == ["checkpoint-15", "checkpoint-20"]


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "added", "no manifest", "broken manifest"])
def test_a_broken_checkpoint_is_skipped_and_deleted(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 5)
    write(tmp_path, 10)
    newest = tmp_path / "checkpoint-10"
    match damage:
        case "cut":
            (newest / "weights").write_bytes(bytes([10]) * 50)
        case "changed":
            (newest / "weights").write_bytes(bytes([9]) * 100)
        case "missing":
            (newest / "state").unlink()
        case "added":
            (newest / "more").touch()
        case "no manifest":
            (newest / "manifest.json").unlink()
        case "broken manifest":
            (newest / "manifest.json").write_text('{"files": {')
    assert checkpoints.newest_good(tmp_path) == tmp_path / "checkpoint-5"
    assert names(tmp_path) == ["checkpoint-5"]


def test_a_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with pytest.raises(KeyboardInterrupt), checkpoints.writing(tmp_path, 10, 2) as beside:
        (beside / "weights").write_bytes(b"half")
        raise KeyboardInterrupt
    # What a kill leaves, which no `finally` cleans up.
    left = tmp_path / ".checkpoint-15.1234.partial"
    left.mkdir()
    (left / "weights").touch()
    assert checkpoints.newest_good(tmp_path) == tmp_path / "checkpoint-5"
    assert names(tmp_path) == ["checkpoint-5"]


def test_without_checkpoints_there_is_no_newest(tmp_path: Path) -> None:
    assert checkpoints.newest_good(tmp_path / "absent") is None


def test_a_full_disk_is_named_whatever_error_the_library_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, checkpoints.writing(tmp_path, 5, 2):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_other_errors_of_writing_are_not_changed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"), checkpoints.writing(tmp_path, 5, 2):
        raise RuntimeError("something else")
