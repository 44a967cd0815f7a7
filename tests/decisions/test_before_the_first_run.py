"""What the gate and register say before anything was trained."""

from pathlib import Path

import pytest

from tuneline import params
from tuneline.decisions import decide
from tuneline.errors import RegistryError


def test_gate_and_register_say_in_one_sentence_that_a_run_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    for decision in (decide.gate, decide.register):
        with pytest.raises(RegistryError) as found:
            decision(params.load())
        assert found.value.problems == ("models/finetuned: no model was trained yet; run `make run` first",)
