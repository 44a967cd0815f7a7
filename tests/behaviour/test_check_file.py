"""data/checks.yaml: what is read, and every problem with its line."""

from pathlib import Path

import pytest

from tuneline.behaviour import check_file
from tuneline.errors import DataError


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "checks.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError) as caught:
        check_file.load(path)
    return [problem.replace(str(path), "checks.yaml") for problem in caught.value.problems]


def test_all_problems_are_named_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
sft:
  - prompt: Hello
    contians: world
    max_tokens: 0
  - prompt: Who?
    messages: [{role: user, content: Who?}]
    contains: me
  - prompt: nothing
    refuses: yes
  - prompt: a
    regex: "(unclosed"
  - prompt: a
    json_schema: {type: objekt}
  - prompt: a
    json_schema: {$ref: "https://example.org/x.json"}
  - prompt: no expectation
classification:
  - text: good
    lable: positive
regression:
  - text: good
    between: [5, 1]
    same_as: gud
chess: []
"""
    assert problems(tmp_path, text) == [
        "checks.yaml:4: sft.0.max_tokens: 0: input should be greater than or equal to 1",
        "checks.yaml:3: sft.0.contians: unknown key; did you mean contains?",
        "checks.yaml:5: sft.1: needs either prompt or messages",
        "checks.yaml:9: sft.2.refuses: 'yes': write true or false",
        "checks.yaml:11: sft.3.regex: '(unclosed': is not a regular expression: missing ) at position 9",
        "checks.yaml:13: sft.4.json_schema: is not a JSON schema: type: 'objekt' is not valid under any of the given "
        "schemas",
        "checks.yaml:15: sft.5.json_schema: $ref 'https://example.org/x.json' is outside the schema, and nothing is "
        "loaded; write it under $defs",
        "checks.yaml:16: sft.6: expects nothing; add one of same_as, contains, not_contains, regex, json_schema, "
        "max_tokens, refuses",
        "checks.yaml:19: classification.0.lable: unknown key; did you mean label?",
        "checks.yaml:21: regression.0: between: 5 is more than 1; write the smaller first",
        "checks.yaml:24: chess: unknown key; known here: refusals, sft, language-modeling, classification, "
        "regression, preference",
    ]


def test_refuses_needs_the_phrases_of_a_refusal(tmp_path: Path) -> None:
    text = "sft:\n  - prompt: How is a bomb built?\n    refuses: true\n"
    [problem] = problems(tmp_path, text)
    assert problem.startswith("checks.yaml:3: sft.0.refuses: needs the list `refusals`")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("7", "must be a mapping of the sections refusals, sft, language-modeling"),
        ("- prompt: a", "must be a mapping of the sections"),
        ("sft: [", "cannot be read as YAML"),
        ("sft: {prompt: a}", "must be a list; write its items as [A, B]"),
        ("sft: [{prompt: 7, contains: a}]", "sft.0.prompt: 7: input should be a valid string"),
        ("classification: [{text: a, label: true}]", "must be a list; write its items as [A, B]"),
        ("sft: [{messages: [{role: user, content: a}, {role: assistant, content: b}], contains: a}]", "remove it"),
        ("sft: [{prompt: a, contains: a, name: '<b>x</b>'}]", "must be plain text"),
        ("sft: [{prompt: a, contains: a, severity: fatal}]", "input should be 'error' or 'warning'"),
        ("regression: [{text: a, same_as: b}]", "same_as and tolerance belong together"),
        (f"sft: [{{prompt: a, regex: '{'(' * 990}{')' * 990}'}}]", "nests too deep"),
        ("sft: [{prompt: a, json_schema: {pattern: 'a{99999999999}'}}]", "a pattern cannot be read"),
        (f"sft: [{{prompt: a, json_schema: {{pattern: '{'(' * 990}{')' * 990}'}}}}]", "a pattern cannot be read"),
        ("sft: [{prompt: a, json_schema: {const: 2024-01-31}}]", "a value that JSON does not have"),
        ("sft: [{prompt: a, json_schema: {multipleOf: .nan}}]", "a value that JSON does not have"),
        # What holds for every answer shows nothing.
        ("refusals: [I cannot, ' \u3000']", "refusals.1: ' \\u3000': is white space, which nearly every answer holds"),
        ("sft: [{prompt: a, regex: ''}]", "sft.0.regex: '': is empty, and an empty pattern is found in every answer"),
        ("sft: [{prompt: a, same_as: [b, a]}]", "sft.0: same_as holds what is asked"),
        ("sft: [{messages: [{role: user, content: a}], same_as: a}]", "sft.0: same_as holds what is asked"),
        ("classification: [{text: a, same_as: a}]", "classification.0: same_as holds what is asked"),
        ("regression: [{text: a, same_as: a, tolerance: 1}]", "regression.0: same_as holds what is asked"),
        ("regression: [{text: a, same_as: b, tolerance: .inf}]", "tolerance: inf: input should be a finite number"),
        ("#" * 2_000_001, "has 2,000,001 bytes, and at most 2,000,000 are read"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, wanted: str) -> None:
    [problem] = problems(tmp_path, text)
    assert wanted in problem


def test_a_pattern_that_stands_for_billions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_file, "MEMORY", 2**26)
    [problem] = problems(tmp_path, "sft: [{prompt: a, regex: '(?:(?:a{1000}){1000}){1000}'}]")
    assert "takes more than 5 s or 64 MB to be read; repeat less" in problem


def test_a_missing_file_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; restore it with: git restore"):
        check_file.load(tmp_path / "checks.yaml")


def test_a_single_text_is_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text("language-modeling:\n  - prompt: Once upon\n    contains: a time\nclassification:\n", "utf-8")
    [check] = check_file.load(path).of_task("language-modeling")
    assert isinstance(check, check_file.WritingCheck)
    assert check.contains == ["a time"]
    assert check.severity == "error"
    assert check_file.load(path).of_task("classification") == []
    assert check_file.load(path).of_task("sft") == []


def test_an_empty_file_has_no_checks(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text("# none\n", "utf-8")
    assert check_file.load(path).of_task("sft") == []
