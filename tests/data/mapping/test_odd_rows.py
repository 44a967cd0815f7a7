"""Rows that do not fit the shape of their file are rejected with the exact reason; other rows stay as they are."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shaping import bot, plan, result, shape, system, user

from tuneline.data.mapping.choose import shape_of
from tuneline.data.reading.raw_rows import Rejected, Row
from tuneline.errors import DataError

PAIR = {"prompt": "q", "completion": "a"}
CHAT = {"messages": [user("q"), bot("a")]}
ALPACA = {"instruction": "i", "input": "x", "output": "a", "history": []}
SQUAD = {"context": "c", "question": "q", "answers": {"text": ["a"]}}
POEM = {"title": "t", "author": "x", "paragraphs": ["a"]}
LABELLED = {"text": "t", "label": "x"}
MANY = {"text": "t", "labels": ["x"]}
PREFERRED = {"prompt": "q", "chosen": "a", "rejected": "b"}
PREFERRED_CHAT = {"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]}
TRANSLATED = {"translation": {"en": "a", "zh": "b"}}


def conversation(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def called(arguments: Any) -> dict[str, Any]:
    return conversation(
        user("q"), {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    )


ODD: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (PAIR, PAIR | {"completion": " \n"}, "empty", "completion is empty"),
    (PAIR, {"prompt": "q"}, "missing", "completion is missing"),
    (PAIR, PAIR | {"completion": 3}, "not-text", "completion is a number, not text"),
    (PAIR, PAIR | {"system": "s"}, "shape", "system has a value, but other rows of the file have none"),
    (PAIR, {"text": "another shape"}, "missing", "prompt is missing"),
    (SQUAD, SQUAD | {"answers": {"text": []}}, "empty-answer", "answers.text has no answer"),
    (SQUAD, SQUAD | {"context": ["c"]}, "not-text", "context is a list, not text"),
    (POEM, POEM | {"paragraphs": ["a", ""]}, "empty", "paragraphs[1] is empty"),
    (POEM, POEM | {"paragraphs": []}, "empty", "paragraphs is empty"),
    (TRANSLATED, {"translation": {"en": "a"}}, "missing", "translation.zh is missing"),
    (TRANSLATED, {"translation": "a"}, "shape", "translation is text, not an object"),
    (LABELLED, {"text": "t"}, "no-label", "label is empty"),
    (LABELLED, LABELLED | {"label": " "}, "no-label", "label is empty"),
    (LABELLED, LABELLED | {"label": ["x"]}, "shape", "label is a list; other rows of the file have one label"),
    (LABELLED, LABELLED | {"label": {"a": 1}}, "not-text", "label is an object, not text"),
    (LABELLED, LABELLED | {"text": ""}, "empty", "text is empty"),
    (MANY, MANY | {"labels": []}, "no-label", "labels is empty"),
    (MANY, MANY | {"labels": "x"}, "shape", "labels is text; other rows of the file have a list of labels"),
    (ALPACA, ALPACA | {"output": ""}, "empty-answer", "output is empty"),
    (ALPACA, ALPACA | {"instruction": "", "input": ""}, "empty", "instruction is empty"),
    (ALPACA, ALPACA | {"history": [["q"]]}, "shape", "history[0] is not [question, answer]"),
    (ALPACA, ALPACA | {"history": [["q", None]]}, "missing", "history[0][1] is missing"),
    (CHAT, {"messages": []}, "no-message", "messages has no messages"),
    (CHAT, {"messages": None}, "missing", "messages is missing"),
    (CHAT, {"messages": "hello"}, "shape", "messages is text, not a list of messages"),
    (CHAT, {"messages": ["hello"]}, "shape", "messages[0] is text, not a message"),
    (
        CHAT,
        conversation(user("q")),
        "order",
        "messages: the last message is from user; a conversation must end with an answer",
    ),
    (CHAT, conversation(bot("a")), "order", "messages[0]: assistant comes first"),
    (CHAT, conversation(user("q"), user("r"), bot("a")), "order", "messages[1]: user follows user"),
    (CHAT, conversation(user("q"), bot("a"), bot("b")), "order", "messages[2]: assistant follows assistant"),
    (CHAT, conversation(user("q"), system("s"), bot("a")), "order", "messages[1]: system follows user"),
    (
        CHAT,
        conversation(user("q"), {"role": "tool", "content": "x"}, bot("a")),
        "order",
        "messages[1]: tool follows user",
    ),
    (CHAT, conversation(user("q"), bot(" ")), "empty-answer", "messages[1]: the assistant's message is empty"),
    (CHAT, conversation(user(""), bot("a")), "empty", "messages[0]: the user's message is empty"),
    (CHAT, conversation({"content": "q"}, bot("a")), "role", "messages[0] has no role"),
    (
        CHAT,
        conversation(user("q"), {"role": "critic", "content": "a"}),
        "role",
        "messages[1]: 'critic' is not a known role",
    ),
    (
        CHAT,
        conversation({"role": "user", "content": 3}, bot("a")),
        "not-text",
        "messages[0]: content is a number, not text",
    ),
    (
        CHAT,
        conversation({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, bot("a")),
        "not-text",
        "messages[0]: content contains a picture (a part of type 'image_url'), but models are trained on text only",
    ),
    (CHAT, called("{broken"), "arguments", "messages[1]: the arguments of f are not a JSON object"),
    (CHAT, called("[1]"), "arguments", "messages[1]: the arguments of f are not a JSON object"),
    (
        CHAT,
        conversation(user("q"), {"from": "function_call", "value": "find(x)"}),
        "arguments",
        "messages[1]: the tool call is not JSON with name and arguments",
    ),
    (
        CHAT,
        conversation(user("q"), {"from": "function_call", "value": '{"arguments": {}}'}),
        "arguments",
        "messages[1]: the tool call has no name",
    ),
    (
        CHAT,
        called('{"id": 1, "id": 2}'),
        "repeated-key",
        "messages[1]: the arguments of f as JSON text: the key 'id' occurs twice in one object",
    ),
    (
        CHAT,
        called('{"id": 123456789012345678901}'),
        "arguments",
        "cannot be written as JSON: Integer exceeds 64-bit range",
    ),
    (
        CHAT,
        conversation(user("q"), {"from": "function_call", "value": '{"name": "f", "name": "g", "arguments": {}}'}),
        "repeated-key",
        "messages[1] as JSON text: the key 'name' occurs twice in one object",
    ),
    (
        CHAT,
        CHAT | {"tools": '[{"name": "f", "parameters": {"a": 1, "a": 2}}]'},
        "repeated-key",
        "tools as JSON text: the key 'a' occurs twice in one object",
    ),
    (
        CHAT,
        {"messages": '[{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]'},
        "repeated-key",
        "messages as JSON text: the key 'content' occurs twice in one object",
    ),
    (ALPACA, ALPACA | {"history": "[[" * 150 + "]]" * 150}, "too-deep", "history as JSON text: nested more than 200"),
    (PREFERRED, PREFERRED | {"rejected": "a "}, "same-answers", "chosen and rejected are the same"),
    (PREFERRED, PREFERRED | {"rejected": ""}, "empty", "rejected is empty"),
    (PREFERRED, {"chosen": "a", "rejected": "b"}, "missing", "prompt is missing"),
    (
        {"chosen": "Say: a", "rejected": "Say: b"},
        {"chosen": "a", "rejected": "b"},
        "empty",
        "chosen and rejected do not begin with the same text, which would be the prompt",
    ),
    (PREFERRED_CHAT, PREFERRED_CHAT | {"rejected": [user("q")]}, "order", "rejected: the last message is from user;"),
    (
        PREFERRED_CHAT,
        {"chosen": [user("q"), bot("a")], "rejected": [user("r"), bot("b")]},
        "order",
        "chosen and rejected do not begin with the same message, which would be the prompt",
    ),
    (
        PREFERRED_CHAT,
        PREFERRED_CHAT | {"rejected": PREFERRED_CHAT["chosen"]},
        "same-answers",
        "chosen and rejected are the same",
    ),
    (
        PREFERRED_CHAT,
        {"chosen": bot("a"), "rejected": bot("b")},
        "missing",
        "chosen contains only an answer, but the row",
    ),
]


@pytest.mark.parametrize(("usual", "odd", "reason", "detail"), ODD)
def test_an_odd_row_is_rejected_with_its_reason(
    usual: dict[str, Any], odd: dict[str, Any], reason: str, detail: str
) -> None:
    made = shape(usual, odd, usual)
    found = result(made, odd)
    assert (found[0], found[1][: len(detail)]) == (reason, detail)
    assert result(made, usual) == result(shape(usual), usual), "another row changed this row"


def test_arguments_that_json_cannot_represent_are_rejected() -> None:
    deep: Any = {}
    for _ in range(1000):
        deep = {"a": deep}
    made = shape(CHAT)
    assert result(made, called(deep)) == ("arguments", "cannot be written as JSON: Recursion limit reached")


# Words that the converters search for, so that random rows reach much of their code.
NAMES = (
    "role from content value user assistant tool gpt function_call text type name tool_calls function arguments en zh"
)
WORDS = st.sampled_from([*NAMES.split(), '{"name":"f","arguments":{}}', "[]", "[1]", "{", "", " "])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4))
FILES = [PAIR, CHAT, ALPACA, SQUAD, POEM, LABELLED, MANY, PREFERRED, PREFERRED_CHAT, TRANSLATED]


@pytest.mark.parametrize("usual", FILES)
def test_random_rows_are_converted_or_rejected_without_another_error(usual: dict[str, Any]) -> None:
    made = shape(usual)
    columns = st.sampled_from([*usual, "system", "history", "tools", "context", "input"])

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.dictionaries(columns, VALUES, max_size=5))
    def check(odd: dict[str, Any]) -> None:
        fields = made.record(Row(1, 0, usual | odd))
        assert isinstance(fields, Rejected) or all(isinstance(field, str) for field in fields.values)
        # Also as a first row, by which the shape is recognised.
        with suppress(DataError):
            shape_of(plan([usual | odd])).record(Row(1, 0, odd))

    check()
