"""Twins in a real run: they are stages of the graph, cached like any other, and the gate measures its noise floor."""

from pathlib import Path

import pytest
from projects import TINY, copy_project

from tuneline.core import files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RULE = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}


def test_twins_are_trained_once_and_bound_a_lucky_seed(tmp_path: Path) -> None:
    values = TINY | {"gate.twins": [7], "gate.rules": [RULE | {"beyond_twins": True}]}
    project = copy_project(tmp_path / "project", values)
    first = project.flow()
    printed = first.stdout + first.stderr
    assert "finetune_twin@7, evaluate_twin@7, evaluate" in printed, printed
    weights = [
        project.root / folder / "model.safetensors" for folder in ("models/finetuned", "models/finetuned-twins/7")
    ]
    candidate, twin = (files.sha256_file(path) for path in weights)
    assert candidate != twin
    rule = files.read_json(project.root / "reports/gate.json")["rules"][0]
    assert "the noise floor of the twins" in rule["reason"]
    again = project.flow()
    assert "rebuilt: nothing" in again.stdout + again.stderr
    # Without twins their stages are gone, and the candidate's stay as they are.
    project.set(gate__twins=[], gate__rules=[RULE])
    without = project.flow()
    assert "rebuilt: nothing" in without.stdout, without.stdout + without.stderr
    # Back from DVC's cache.
    project.set(gate__twins=[7])
    back = project.flow()
    assert "rebuilt: nothing" in back.stdout, back.stdout + back.stderr
    assert "Of this gain" in files.read_json(project.root / "reports/gate.json")["rules"][0]["reason"]
