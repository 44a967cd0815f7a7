from pathlib import Path
from typing import Any

import pytest

from tuneline import params
from tuneline.errors import ParamsError
from tuneline.params import editing
from tuneline.params.gate import metric
from tuneline.params.slices import split_gap, split_slice

RULE = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}


def problems(tmp_path: Path, text: str, slices: list[str], *rules: dict[str, Any]) -> list[str]:
    file = tmp_path / "params.yaml"
    file.write_text(text, "utf-8")
    editing.set_values(file, {"evaluate.slices": slices} | ({"gate.rules": list(rules)} if rules else {}))
    try:
        params.load(file)
    except ParamsError as error:
        return [problem.partition(": ")[2] for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("slices", "problem"),
    [
        (["language", "source", "length"], None),
        (
            ["langauge"],
            "'langauge': no column has this name; a column of data/raw/python-docstrings must be in "
            "data.keep_columns; did you mean language? known here: language, source, length",
        ),
        (["label"], "'label': records of task sft have no label; known here: language, source, length"),
        (["source", "source"], "'source' is named twice"),
    ],
)
def test_a_column_that_cannot_be_cut_by_is_refused(
    tmp_path: Path, params_text: str, slices: list[str], problem: str | None
) -> None:
    found = problems(tmp_path, params_text, slices)
    assert [problem in one for one in found] == [True] if problem else not found


@pytest.mark.parametrize(
    ("slices", "rule", "problem"),
    [
        (["language"], {"slice": "language=zh"}, None),
        (["language"], {"slice": "language"}, None),
        (
            [],
            {"slice": "language=zh"},
            "gate.rules.0.slice: 'language=zh': 'language' is not in evaluate.slices; it",
        ),
        (
            ["length"],
            {"slice": "lenght=0-63"},
            "'lenght' is not in evaluate.slices; did you mean length?; add",
        ),
        (["length"], {"metric": "gap:bits_per_byte:length"}, None),
        (
            ["length"],
            {"metric": "gap:bits_per_byte:source"},
            "gate.rules.0.metric: 'gap:bits_per_byte:source': ",
        ),
        (["length"], {"metric": "gap:accuracy:length"}, "gate.rules.0.metric: 'accuracy' is not measured for task sft"),
        (["length"], {"metric": "gap:acuracy:length"}, "no metric has this name"),
        (["length"], {"metric": "gap:chrf:length", "direction": "higher"}, "gap:chrf:length is better when lower"),
        (["length"], {"metric": "gap:chrf:length", "slice": "length"}, "so it has no slice of its own; remove slice"),
        (["length"], {"metric": "gap:chrf:length", "versus": "baseline"}, "use base, champion or value"),
        # A rule of another task waits until this task is chosen again.
        ([], {"metric": "accuracy", "direction": "higher", "slice": "shop", "task": "classification"}, None),
    ],
)
def test_a_rule_names_a_slice_that_is_measured(
    tmp_path: Path, params_text: str, slices: list[str], rule: dict[str, Any], problem: str | None
) -> None:
    versus = {"versus": "baseline"} if "task" in rule else {}
    found = problems(tmp_path, params_text, slices, RULE | versus | rule, RULE)
    assert [problem in one for one in found] == [True] if problem else not found


def test_names_with_the_signs_of_a_slice() -> None:
    assert split_slice("a=b=c", ["a", "a=b"]) == ("a=b", "c")
    assert split_slice("a=", ["a"]) == ("a", "")
    assert split_slice("a", ["b"]) is None
    assert split_gap("gap:chrf:my:column") == ("chrf", "my:column")
    assert split_gap("gap:chrf") is None
    assert metric("gap:chrf:language").name == "Gap in chrF between slices of language"


def test_a_mapped_column_is_told_by_the_name_that_it_has_here(tmp_path: Path, params_text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(params_text, "utf-8")
    columns = {"text": "nội dung", "label": "nhãn"}
    accuracy = {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}
    base = {"task": "classification", "data.columns": columns, "gate.rules": [accuracy]}
    for column, told in (
        ("nhãn", "'nhãn': is the column of the labels (data.columns), which is called label here; write label"),
        ("nội dung", "is the text of a record (data.columns), and almost every row has its own; length and language"),
        ("nguồn", "the column of the labels is called label here; known here: label, language, source, length"),
    ):
        editing.set_values(file, base | {"evaluate.slices": [column]})
        with pytest.raises(ParamsError) as found:
            params.load(file)
        assert told in str(found.value)
