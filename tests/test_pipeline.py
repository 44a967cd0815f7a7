"""Why a run is needed, in the few words of its name."""

from pathlib import Path

import pytest

from tuneline import params, pipeline
from tuneline.params import Params


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Params:
    monkeypatch.chdir(tmp_path)
    text = params_text.replace("source: builtin", "source: path")
    text = text.replace("input: data/pretraining", "input: models/mine")
    Path("params.yaml").write_text(text.replace("raw: data/raw/python-docstrings", "raw: data/raw/mine"), "utf-8")
    return params.load()


@pytest.mark.parametrize(
    ("stale", "expected"),
    [
        ({"sample": ["it was never made"], "prepare": ["it was never made"]}, "first run"),
        ({"prepare": ["deps data/raw/mine modified"], "validate_raw": ["deps data/raw/mine modified"]}, "data changed"),
        ({"data/raw/mine.dvc": ["outs data/raw/mine modified"]}, "data changed"),
        ({"prepare": ["deps data/mixture modified"]}, "data changed"),
        ({"finetune": ["deps params.yaml finetune modified"]}, "params finetune changed"),
        (
            {"finetune": ["deps params.yaml finetune modified, task modified, a.b modified"]},
            "params finetune, task and 1 more changed",
        ),
        (
            {"prepare": ["deps data/raw/mine modified", "deps src/a.py modified"], "base": ["changed command"]},
            "data and code changed",
        ),
        ({"base": ["deps models/mine modified"]}, "base changed"),
        ({"validate_raw": ["deps data/expectations/raw.yaml modified"]}, "expectations changed"),
        ({"base": ["deps requirements-training.lock modified"]}, "libraries changed"),
        ({"finetune": ["outs models/mine deleted"], "evaluate": ["deps models/finetuned deleted"]}, "outputs missing"),
        ({"finetune": ["outs models/finetuned modified"]}, "outputs changed"),
        ({"prepare": ["it was never made"], "sample": ["outs data/raw/x modified"]}, "outputs changed"),
    ],
)  # fmt: skip
def test_the_cause_names_what_a_person_has_changed(p: Params, stale: dict[str, list[str]], expected: str) -> None:
    assert pipeline.cause(stale, p) == expected
