from pathlib import Path

import pytest

from tuneline import params
from tuneline.errors import ParamsError

RULES = "  twins: []"


def load(tmp_path: Path, text: str) -> params.Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return params.load(path)


def test_twins_are_seeds_and_have_places_of_their_own(tmp_path: Path, params_text: str) -> None:
    assert load(tmp_path, params_text).gate.twins == []
    p = load(tmp_path, params_text.replace(RULES, "  twins: [1, 2]"))
    twin = p.of_twin(2)
    assert (twin.finetune.seed, twin.paths.finetuned, twin.paths.reports) == (
        2,
        "models/finetuned-twins/2",
        "reports/twins/2",
    )
    assert p.finetune.seed == 0
    assert twin.model_copy(update={"finetune": p.finetune, "paths": p.paths}) == p


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            RULES,
            "  twins: [1, 0]",
            r"gate\.twins: .*0 is the seed of finetune\.seed, so this twin would be the same",
        ),
        (RULES, "  twins: [1, 1]", r"1 is the seed of another twin, so this twin would be the same model; use another"),
        (
            RULES,
            "  twins: [1, 0, 1]",
            r"0 is the seed of finetune\.seed and 1 is the seed of another twin",
        ),
        (RULES, "  twins: 3", r"gate\.twins: 3: must be a list; write \[3\]"),
        (RULES, "  twins: 1, 2", r"gate\.twins: '1, 2': must be a list; write \[1, 2\]"),
        (RULES, "  twins: true", r"gate\.twins: True: must be a list"),
        (RULES, "  twins: null", r"gate\.twins: None: must be a list"),
        (RULES, "  twins: [-1]", r"gate\.twins\.0: -1: input should be greater than or equal to 0"),
        (
            RULES,
            "  twins: [4294967296]",
            r"4294967296: input should be less than or equal to 4294967295",
        ),
        (RULES, f"  twins: [{'9' * 400}]", r"gate\.twins\.0: 9+…: input should be less than or equal to 4294967295"),
        (RULES, "  twins: [true]", r"gate\.twins\.0: True: input should be a valid integer"),
        (RULES, "  twins: [1.0]", r"gate\.twins\.0: 1\.0: input should be a valid integer"),
        (RULES, f"  twins: {list(range(1, 22))}", r"gate\.twins: list should have at most 20 items"),
        (
            "margin: -0.01}",
            "margin: -0.01, beyond_twins: true}",
            r"beyond_twins: .*set gate\.twins to one or more seeds",
        ),
    ],
)
def test_twins_that_could_not_help_are_refused(tmp_path: Path, params_text: str, old: str, new: str, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        load(tmp_path, params_text.replace(old, new, 1))
