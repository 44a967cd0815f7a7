"""kill -9 at any instant, the same command again: the same bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tuneline import files

WRITTEN = {"base": ("models/base", "reports/base.csv"), "finetune": ("models/finetuned", "reports/training.csv")}


def made_by(what: str, place: Path) -> list[str]:
    return [files.sha256_path(place / name) for name in WRITTEN[what]]


@pytest.mark.parametrize("what", ["base", "finetune"])
def test_killed_again_and_again_it_ends_in_the_same_bytes(
    workplace: Path, killed_at: Callable[[str, Path, int], bool], what: str
) -> None:
    assert not killed_at(what, workplace, 0)
    expected = made_by(what, workplace)
    for name in WRITTEN[what]:
        path = workplace / name
        path.rename(path.with_name(f"{path.name}.uninterrupted"))

    # Each run gets a little further: in the middle of the first checkpoint, of its commit, of a later one, after all.
    for event in (3, 12, 30, 45):
        assert killed_at(what, workplace, event), f"{what} touches no checkpoint {event} times"
        assert not (workplace / WRITTEN[what][1]).exists()
    assert not killed_at(what, workplace, 0)
    assert made_by(what, workplace) == expected
    # What was for going on is gone, and nothing half-written lies about.
    assert not [path for path in (workplace / "work").iterdir() if path.is_dir()]
    assert not list(workplace.rglob("*.partial"))
