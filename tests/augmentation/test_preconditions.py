"""What is missing is told before any stage runs."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tuneline import params
from tuneline.augmentation import preconditions
from tuneline.errors import SetupError
from tuneline.params import editing


def load(augment: dict[str, Any]) -> params.Params:
    editing.set_values(Path("params.yaml"), {"data.augment": augment})
    return params.load()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text)


def test_nothing_is_needed_while_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    preconditions.check(load({}))


def test_a_missing_library_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "find_spec", lambda name: None if name == "rjieba" else name)
    with pytest.raises(SetupError) as refused:
        preconditions.check(load({"noise": {"word_swap": {"weight": 1.0, "p": 0.1}}}))
    assert refused.value.problems == (
        "data.augment.noise.word_swap: needs rjieba, which is not installed; install it with: "
        "make setup EXTRAS=augment",
    )


def test_missing_tables_and_models_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "find_spec", lambda name: name)
    wanted = {"weight": 1.0}
    with pytest.raises(SetupError) as refused:
        preconditions.check(
            load(
                {
                    "synonyms": {"hotel": {**wanted, "p": 0.1, "table": "data/words.csv"}},
                    "back_translation": {"german": {**wanted, "model": "models/en-de", "back": "models/de-en"}},
                }
            )
        )
    assert [problem.partition(";")[0] for problem in refused.value.problems] == [
        "data.augment.synonyms.hotel.table: data/words.csv: no such file",
        "data.augment.back_translation.german.model: models/en-de is not the folder of a model (config.json)",
        "data.augment.back_translation.german.back: models/de-en is not the folder of a model (config.json)",
    ]
