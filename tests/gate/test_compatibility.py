from pathlib import Path
from typing import Any

import pytest

from tuneline.core import files
from tuneline.errors import ModelError
from tuneline.gate import compatibility


def folder(path: Path, mode: str, labels: list[str] | None = None, **config: Any) -> Path:
    files.write_json(path / "tuneline.json", {"mode": mode})
    names = {str(place): label for place, label in enumerate(labels or [])}
    files.write_json(path / "config.json", {"id2label": names, "problem_type": "single_label_classification"} | config)
    return path


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (("classification", ["b", "a"], {}), None),
        (("plain", None, {}), "is of another task: its mode is plain, and the candidate's mode is classification"),
        (
            ("classification", ["a", "c"], {}),
            "has other labels than the candidate: it lacks 'b' and also has 'c'",
        ),
        (
            ("classification", ["a", "b"], {"problem_type": "multi_label_classification"}),
            "was trained for multi_label_classification, and the candidate for single_label_classification",
        ),
    ],
)
def test_models_of_other_tasks_or_labels_are_not_compatible(
    other: tuple[str, list[str] | None, dict[str, Any]], reason: str | None, tmp_path: Path
) -> None:
    mode, labels, more = other
    champion = folder(tmp_path / "champion", mode, labels, **more)
    assert compatibility.mismatch(folder(tmp_path / "candidate", "classification", ["a", "b"]), champion) == reason


def test_a_model_without_a_mode_is_plain_and_one_without_a_config_is_an_error(tmp_path: Path) -> None:
    assert compatibility.mismatch(folder(tmp_path / "candidate", "plain"), tmp_path / "nothing") is None
    files.write_json(tmp_path / "broken/tuneline.json", {"mode": "classification"})
    with pytest.raises(ModelError, match=r"broken/config\.json: missing"):
        compatibility.mismatch(folder(tmp_path / "one", "classification", ["a", "b"]), tmp_path / "broken")


@pytest.mark.parametrize("labels", [None, [], {"0": []}, {"0": 1}, "a"])
def test_labels_that_are_no_names_are_an_error(tmp_path: Path, labels: object) -> None:
    other = folder(tmp_path / "other", "classification", ["a", "b"])
    files.write_json(other / "config.json", {"id2label": labels})
    with pytest.raises(ModelError, match=r"other/config\.json: id2label does not name the labels"):
        compatibility.mismatch(folder(tmp_path / "one", "classification", ["a", "b"]), other)
