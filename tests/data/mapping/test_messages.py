"""Conversations and preferences of public data sets: literal rows and the exact messages."""

from typing import Any

import pytest
from shaping import bot, call, result, shape, system, user

from tuneline.data.records.record_form import RecordForm

ASKED = '{"name": "find", "arguments": {"city": "Köln"}}'

CONVERSATIONS: list[tuple[str, dict[str, Any], str, list[dict[str, Any]]]] = [
    ("alpaca", {"instruction": "i", "input": "x", "output": "a"}, "alpaca", [user("i\nx"), bot("a")]),
    ("alpaca without input", {"instruction": "i", "input": "", "output": "a"}, "alpaca", [user("i"), bot("a")]),
    (
        "alpaca with system and history",
        {"instruction": "i", "output": "a", "system": "s", "history": [["q1", "a1"], ["q2", "a2"]]},
        "alpaca",
        [system("s"), user("q1"), bot("a1"), user("q2"), bot("a2"), user("i"), bot("a")],
    ),
    (
        "a pair with a history",
        {"prompt": "q", "response": "a", "history": [["q1", "a1"]]},
        "alpaca",
        [user("q1"), bot("a1"), user("q"), bot("a")],
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        "sharegpt",
        [user("q"), bot("a")],
    ),
    (
        "sharegpt of other bots",
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "user", "value": "q"},
                {"from": "bard", "value": "a"},
                {"from": "Human", "value": "r"},
                {"from": "chatgpt", "value": "b"},
            ]
        },
        "sharegpt",
        [system("s"), user("q"), bot("a"), user("r"), bot("b")],
    ),
    (
        "sharegpt with a system column",
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        "sharegpt",
        [system("s"), user("q"), bot("a")],
    ),
    (
        "sharegpt that calls a tool",
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": ASKED},
                {"from": "observation", "value": "rain"},
                {"from": "gpt", "value": "a"},
            ]
        },
        "sharegpt",
        [
            user("q"),
            {"role": "assistant", "content": "", "tool_calls": [call("find", city="Köln")]},
            {"role": "tool", "content": "rain"},
            bot("a"),
        ],
    ),
    ("messages", {"messages": [user("q"), bot("a")]}, "messages", [user("q"), bot("a")]),
    (
        "messages as JSON text",
        {"messages": '[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]'},
        "messages",
        [user("q"), bot("a")],
    ),
    (
        "content in parts",
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "q "}, {"type": "text", "text": "r"}]},
                bot("a"),
            ]
        },
        "messages",
        [system("s"), user("q r"), bot("a")],
    ),
    (
        "nulls of a parquet file",
        {
            "messages": [
                {"role": "system", "content": "", "tool_calls": None, "name": None},
                {"role": "user", "content": "q", "tool_calls": None, "name": None},
                {"role": "assistant", "content": "a", "tool_calls": None, "name": None},
            ]
        },
        "messages",
        [user("q"), bot("a")],
    ),
    (
        "calls of tools",
        {
            "messages": [
                user("q"),
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"n": 1}'}},
                        {"id": "2", "type": "function", "function": {"name": "find", "arguments": {"n": 2}}},
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "x"},
                {"role": "tool", "tool_call_id": "2", "name": "find", "content": "y"},
                bot("a"),
            ]
        },
        "messages",
        [
            user("q"),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [call("find", n=1) | {"id": "1"}, call("find", n=2) | {"id": "2"}],
            },
            {"role": "tool", "content": "x", "tool_call_id": "1"},
            {"role": "tool", "content": "y", "tool_call_id": "2", "name": "find"},
            bot("a"),
        ],
    ),
    (
        "prompt and completion as messages",
        {"prompt": [user("q")], "completion": [bot("a")]},
        "messages",
        [user("q"), bot("a")],
    ),
]


@pytest.mark.parametrize(
    ("row", "kind", "messages"), [case[1:] for case in CONVERSATIONS], ids=[case[0] for case in CONVERSATIONS]
)
def test_conversations_become_messages(row: dict[str, Any], kind: str, messages: list[dict[str, Any]]) -> None:
    made = shape(row)
    assert (made.kind, made.form.record_type, result(made, row)) == (kind, "messages", (messages, ""))


@pytest.mark.parametrize(
    "tools",
    [
        '[{"name": "find", "parameters": {}}]',
        [{"name": "find", "parameters": {}}],
        [{"type": "function", "function": {"name": "find", "parameters": {}}}],
    ],
)
def test_tools_are_stored_in_one_format(tools: object) -> None:
    row = {"messages": [user("q"), bot("a")], "tools": tools}
    assert result(shape(row), row)[1] == [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    assert result(shape(row), row | {"tools": ""})[1] == ""
    assert result(shape(row), row | {"tools": "find"}) == ("shape", "tools is text, not a JSON list of tools")


PREFERENCES: list[tuple[str, dict[str, Any], bool, tuple[Any, ...]]] = [
    ("text", {"prompt": "q", "chosen": "a", "rejected": "b"}, False, ("q", "a", "b")),
    (
        "text with an input",
        {"instruction": "i", "input": "x", "chosen": "a", "rejected": "b"},
        False,
        ("i\nx", "a", "b"),
    ),
    (
        "text with a context",
        {"context": "c", "question": "q", "chosen": "a", "rejected": "b"},
        False,
        ("c\n\nq", "a", "b"),
    ),
    (
        "text without a prompt",
        {"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: yesterday"},
        False,
        ("\n\nHuman: q\n\nAssistant:", " yes", " yesterday"),
    ),
    ("words are not cut", {"chosen": "Say: good", "rejected": "Say: gone"}, False, ("Say: ", "good", "gone")),
    (
        "a prompt of text and answers as messages",
        {"prompt": "q", "chosen": bot("a"), "rejected": bot("b"), "system": "s"},
        True,
        ([system("s"), user("q")], [bot("a")], [bot("b")]),
    ),
    (
        "a prompt of messages and answers as text",
        {"prompt": [user("q")], "chosen": "a", "rejected": "b"},
        True,
        ([user("q")], [bot("a")], [bot("b")]),
    ),
    (
        "whole conversations beside the prompt",
        {"prompt": "q", "chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]},
        True,
        ([user("q")], [bot("a")], [bot("b")]),
    ),
    (
        "whole conversations",
        {
            "chosen": [user("q"), bot("x"), user("r"), bot("a")],
            "rejected": [user("q"), bot("x"), user("r"), bot("b")],
        },
        True,
        ([user("q"), bot("x"), user("r")], [bot("a")], [bot("b")]),
    ),
    (
        "answers to a sharegpt conversation",
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        True,
        ([user("q")], [bot("a")], [bot("b")]),
    ),
]


@pytest.mark.parametrize(
    ("row", "conversational", "fields"), [case[1:] for case in PREFERENCES], ids=[case[0] for case in PREFERENCES]
)
def test_preferences_become_prompt_and_two_answers(
    row: dict[str, Any], conversational: bool, fields: tuple[Any, ...]
) -> None:
    made = shape(row)
    assert (made.form, result(made, row)) == (RecordForm("preference", conversational), fields)
