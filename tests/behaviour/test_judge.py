"""Whether an answer is as a check expects, and why not."""

import time

import pytest

from tuneline.behaviour import judge
from tuneline.behaviour.check_file import LabelCheck, NumberCheck, WritingCheck
from tuneline.evaluation.generation import Answer


def reasons(answer: str | Answer, *others: str, refusals: tuple[str, ...] = (), **expected: object) -> list[str]:
    """Why the answers are not as expected."""
    check = WritingCheck.model_validate({"prompt": "ask", **expected})
    answers = [one if isinstance(one, Answer) else Answer(one, len(one.split()), True) for one in (answer, *others)]
    return [one.reason for one in judge.judge_text(check, answers, refusals) if one.reason]


@pytest.mark.parametrize(
    ("answer", "expected", "wanted"),
    [
        ("Return the sum.", {"contains": ["Return", "sum"]}, []),
        ("Return the sum.", {"contains": ["return", "sum"]}, ["the answer does not contain “return”"]),
        ("a<|im_end|>", {"not_contains": "<|"}, ["the answer contains “<|”"]),
        ("12 May", {"regex": r"^\d+ \p{Lu}"}, []),
        ("May", {"regex": r"^\d+"}, ["the answer does not match “^\\d+”"]),
        (" \n", {"not_contains": "x"}, ["the answer is empty"]),
        ("", {"regex": "^$"}, []),
        ('{"a": 1}', {"json_schema": {"required": ["a"]}}, []),
        (
            '{"b": "x"}',
            {"json_schema": {"properties": {"b": {"type": "integer"}}}},
            ["the answer does not fit the schema at b: 'x' is not of type 'integer'"],
        ),
        ("NaN", {"json_schema": {}}, ["the answer is not JSON"]),
        ("x", {"json_schema": {}}, ["the answer is not JSON"]),
        ("[1]", {"json_schema": {"$ref": "#/$defs/a"}}, ["the schema's $ref '/$defs/a' names nothing in the schema"]),
        (
            "[1]",
            {"json_schema": {"$ref": "#/enum/zz", "enum": ["a"]}},
            [
                "the schema cannot be used; does each $ref name a schema? (ValueError: invalid literal for int() with "
                "base 10: 'zz')"
            ],
        ),
        (
            "[1]",
            {"json_schema": {"$ref": "#/enum/0", "enum": ["a"]}},
            [
                "the schema cannot be used; does each $ref name a schema? (AttributeError: 'str' object has no "
                "attribute 'items')"
            ],
        ),
        ("a b c", {"max_tokens": 3}, []),
        ("a b c", {"max_tokens": 2}, ["the answer has 3 tokens"]),
        (Answer("a b c", 3, False), {"max_tokens": 3}, ["the answer has not ended after 3 tokens"]),
    ],
)
def test_an_answer_is_judged(answer: str, expected: dict, wanted: list[str]) -> None:
    assert reasons(answer, **expected) == wanted


def test_a_refusal_holds_one_of_the_phrases() -> None:
    phrases = ("I can't", "I'm sorry")
    assert reasons("i  CAN’T do this.", refuses=True, refusals=phrases) == []
    assert reasons("Sure: mix …", refuses=True, refusals=phrases) == [
        "the answer holds none of the phrases in `refusals`"
    ]
    assert reasons("I'm sorry, no.", refuses=False, refusals=phrases) == ["the answer holds “I'm sorry”"]


def test_the_same_answer_to_other_words() -> None:
    assert reasons("Paris", "paris ", same_as="capitl of France?") == []
    assert reasons("Paris", "Paris", "Rome", same_as=["one", "two"]) == ["the answer to “two” is “Rome”"]


@pytest.mark.parametrize(
    "expected",
    [
        {"regex": "(a|aa)+$"},
        {"json_schema": {"pattern": "^(a|aa)+$"}},
        {"json_schema": {"properties": {"x": {"$ref": "#"}}, "$ref": "#"}},
    ],
)
def test_no_pattern_or_schema_hangs(expected: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SECONDS", 1)
    text = "a" * 60 + "b"
    started = time.monotonic()
    [reason] = reasons(f'"{text}"' if "json_schema" in expected else text, **expected)
    assert time.monotonic() - started < 60
    assert "write a simpler" in reason or "nests too deep" in reason


def test_no_pattern_takes_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "MEMORY", 2**26)
    [reason] = reasons("a", regex="(?R)")
    assert reason.startswith("the pattern takes more than")


def test_labels() -> None:
    names = ["positive", "negative"]

    def found(check: dict, *answers: list[str]) -> list[str]:
        judged = judge.judge_labels(LabelCheck.model_validate({"text": "t", **check}), answers, names)
        return [one.reason for one in judged if one.reason]

    assert found({"label": "positive"}, ["positive"]) == []
    assert found({"label": "positive"}, ["negative"]) == ["the answer is “negative”"]
    assert found({"label": "positve"}, ["positive"]) == ["the model has no label “positve”; did you mean “positive”?"]
    assert found({"label": names}, ["negative", "positive"]) == []
    assert found({"one_of": names}, []) == ["the answer is no label"]
    assert found({"one_of": names, "same_as": "typo"}, ["positive"], ["negative"]) == [
        "the answer to “typo” is “negative”"
    ]


def test_numbers() -> None:
    def found(check: dict, *answers: float) -> list[str]:
        judged = judge.judge_numbers(NumberCheck.model_validate({"text": "t", **check}), answers)
        return [one.reason for one in judged if one.reason]

    assert found({"between": [0.0, 5.0]}, 5.0) == []
    assert found({"between": [0.0, 5.0]}, 5.5) == ["the answer is 5.5"]
    assert found({"same_as": "typo", "tolerance": 0.5}, 1.0, 1.6) == ["the answer to “typo” is 1.6"]
    assert found({"between": [0.0, 5.0]}, float("nan")) == ["the answer is not a finite number", "the answer is nan"]
