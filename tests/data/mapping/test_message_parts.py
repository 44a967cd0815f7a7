"""Messages in the formats that the documentation of large providers shows: literal rows and the exact messages."""

from typing import Any

import pytest
from shaping import bot, call, result, shape, system, user

THOUGHT = "<think>\nhmm\n</think>\n\na"


def part(kind: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "text": text} | more


def asks(name: str, call_id: str = "", content: str = "", **arguments: Any) -> dict[str, Any]:
    made = call(name, **arguments) | ({"id": call_id} if call_id else {})
    return {"role": "assistant", "content": content, "tool_calls": [made]}


def gave(text: str, call_id: str = "", name: str = "") -> dict[str, Any]:
    made = {"role": "tool", "content": text}
    return made | ({"tool_call_id": call_id} if call_id else {}) | ({"name": name} if name else {})


FORMATS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "OpenAI chat: parts and a refusal": (
        {
            "messages": [
                {"role": "developer", "content": [part("text", "s")]},
                {"role": "user", "content": [part("text", "q"), part("text", " r")]},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
                user("t"),
                {"role": "assistant", "content": None, "refusal": "never", "weight": 1},
            ]
        },
        [system("s"), user("q r"), bot("no"), user("t"), bot("never")],
    ),
    "OpenAI chat: a call of the old kind": (
        {
            "messages": [
                user("q"),
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x":1}'}},
                {"role": "function", "name": "f", "content": "2"},
                bot("a"),
            ]
        },
        [user("q"), asks("f", x=1), gave("2", name="f"), bot("a")],
    ),
    "OpenAI assistants: text with a value": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": {"value": "q", "annotations": []}}]},
                bot("a"),
            ]
        },
        [user("q"), bot("a")],
    ),
    "OpenAI Responses: items": (
        {
            "input": [{"type": "message", "role": "user", "content": [part("input_text", "q")]}],
            "output": [
                {"type": "reasoning", "summary": [part("summary_text", "hmm")], "encrypted_content": None},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"x":1}'},
                {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "y"},
                {"type": "function_call_output", "call_id": "2", "output": "z"},
                {"type": "message", "role": "assistant", "content": [part("output_text", "a", annotations=[])]},
            ],
        },
        [
            user("q"),
            {
                "role": "assistant",
                "content": "<think>\nhmm\n</think>\n\n",
                "tool_calls": [call("f", x=1) | {"id": "1"}, call("g") | {"id": "2"}],
            },
            gave("y", "1"),
            gave("z", "2"),
            bot("a"),
        ],
    ),
    "Anthropic: blocks": (
        {
            "system": [part("text", "s", cache_control={"type": "ephemeral"})],
            "messages": [
                user("q"),
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hmm", "signature": "x"},
                        part("text", "I look."),
                        {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "1", "content": [part("text", "y")], "is_error": False},
                        part("text", "and now?"),
                    ],
                },
                {"role": "assistant", "content": [part("text", "a")]},
            ],
        },
        [
            system("s"),
            user("q"),
            asks("f", "1", "<think>\nhmm\n</think>\n\nI look.", x=1),
            gave("y", "1"),
            user("and now?"),
            bot("a"),
        ],
    ),
    "Gemini: contents and parts": (
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "s"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {
                    "role": "model",
                    "parts": [{"text": "hmm", "thought": True}, {"functionCall": {"name": "f", "args": {"x": 1}}}],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"y": "z"}}}]},
                {"role": "model", "parts": [{"text": "a"}]},
            ],
        },
        [
            system("s"),
            user("q"),
            asks("f", "", "<think>\nhmm\n</think>\n\n", x=1),
            gave('{"y":"z"}', name="f"),
            bot("a"),
        ],
    ),
    "Bedrock: keys as types": (
        {
            "schemaVersion": "bedrock-conversation-2024",
            "system": [{"text": "s"}],
            "messages": [
                {"role": "user", "content": [{"text": "q"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "hmm", "signature": "x"}}},
                        {"toolUse": {"toolUseId": "1", "name": "f", "input": {"x": 1}}},
                    ],
                },
                {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": [{"json": {"y": 2}}]}}]},
                {"role": "assistant", "content": [{"text": "a"}, {"cachePoint": {"type": "default"}}]},
            ],
        },
        [system("s"), user("q"), asks("f", "1", "<think>\nhmm\n</think>\n\n", x=1), gave('{"y":2}', "1"), bot("a")],
    ),
    "Mistral: thinking in a list": (
        {
            "messages": [
                user("q"),
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": [part("text", "hmm")]}, part("text", "a")],
                },
            ]
        },
        [user("q"), bot(THOUGHT)],
    ),
    "Qwen: parts without a type": (
        {"messages": [{"role": "user", "content": [{"text": "q"}]}, bot("a")]},
        [user("q"), bot("a")],
    ),
    "a parquet file's nulls within parts": (
        {
            "messages": [
                {"role": "user", "content": [part("text", "q", image_url=None)]},
                {"role": "assistant", "content": [part("text", "a", thinking=None)]},
            ]
        },
        [user("q"), bot("a")],
    ),
    "ms-swift: calls one after another": (
        {
            "messages": [
                user("q"),
                {"role": "tool_call", "content": '{"name":"f","arguments":{"x":1}}'},
                {"role": "tool_call", "content": '{"name":"g","arguments":{}}'},
                {"role": "tool_response", "content": '{"y":2}'},
                {"role": "tool_response", "content": "z"},
                bot("a"),
            ]
        },
        [
            user("q"),
            {"role": "assistant", "content": "", "tool_calls": [call("f", x=1), call("g")]},
            gave('{"y":2}'),
            gave("z"),
            bot("a"),
        ],
    ),
    "what a tool gave back is no text": (
        {"messages": [user("q"), asks("f"), {"role": "tool", "content": {"type": "celsius", "value": 3}}, bot("a")]},
        [user("q"), asks("f"), gave('{"type":"celsius","value":3}'), bot("a")],
    ),
    "content as an object of parts": (
        {"messages": [{"role": "user", "content": {"content_type": "text", "parts": ["q"]}}, bot("a")]},
        [user("q"), bot("a")],
    ),
    "messages with text": (
        {"messages": [{"role": "prompter", "text": "q"}, {"role": "assistant", "text": "a"}]},
        [user("q"), bot("a")],
    ),
    "reasoning that is written already": (
        {"messages": [user("q"), bot(THOUGHT) | {"reasoning_content": "hmm"}]},
        [user("q"), bot(THOUGHT)],
    ),
    "a system prompt beside a question": (
        {"system_prompt": "s", "question": "q", "response": "a"},
        [system("s"), user("q"), bot("a")],
    ),
    "xLAM: calls as the answer": (
        {"query": "q", "answers": '[{"name":"f","arguments":{"x":1}}]', "tools": '[{"name":"f","parameters":{}}]'},
        [user("q"), asks("f", x=1)],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_documented_format_is_parsed(name: str) -> None:
    row, messages = FORMATS[name]
    made = shape(row)
    assert (made.form.record_type, result(made, row)[0]) == ("messages", messages)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("value", ["hmm", "\nhmm\n", [{"type": "text", "text": "hmm"}], {"content": "hmm"}])
def test_reasoning_is_put_before_the_answer(key: str, value: Any) -> None:
    row = {"messages": [user("q"), bot("a") | {key: value}]}
    assert result(shape(row), row)[0] == [user("q"), bot(THOUGHT)]


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}],
        [{"functionDeclarations": [{"name": "f", "description": "d", "parameters": {"type": "object"}}]}],
        {"tools": [{"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object"}}}}]},
    ],
    ids=["Anthropic", "Responses", "Gemini", "Bedrock"],
)
def test_tools_of_every_provider_are_parsed(tools: Any) -> None:
    row = {"messages": [user("q"), bot("a")], "tools": tools}
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert result(shape(row), row)[1] == [{"type": "function", "function": function}]


def test_preferences_of_openai_are_parsed() -> None:
    row = {"input": {"messages": [user("q")]}, "preferred_output": [bot("a")], "non_preferred_output": [bot("b")]}
    made = shape(row)
    assert (made.form.record_type, result(made, row)) == ("preference", ([user("q")], [bot("a")], [bot("b")]))


CHAT = {"messages": [user("q"), bot("a")]}


def asked(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}, bot("a")]}


@pytest.mark.parametrize(
    ("odd", "reason", "detail"),
    [
        (
            asked([{"type": "input_audio", "input_audio": {}}]),
            "not-text",
            "contains sound (a part of type 'input_audio')",
        ),
        (asked([{"type": "video", "video": "x"}]), "not-text", "contains a film (a part of type 'video')"),
        (
            asked([{"inlineData": {"mimeType": "image/png"}}]),
            "not-text",
            "contains a file (a part of type 'inlineData')",
        ),
        (asked([{"image": "x.png"}, {"text": "q"}]), "not-text", "contains a picture (a part of type 'image')"),
        (asked([{"type": "document", "source": {}}]), "not-text", "contains a file (a part of type 'document')"),
        (
            asked([{"type": "server_tool_use", "name": "x"}]),
            "not-text",
            "a part of type 'server_tool_use', which is not",
        ),
        (asked([{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "q"}]), "role", "user has reasoning"),
        (asked([{"type": "tool_use", "name": "f", "input": {}}]), "role", "user calls a tool; only assistant"),
        (
            {"messages": [user("q"), {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}]},
            "not-text",
            "a part of type 'redacted_thinking', which is not text",
        ),
        ({"messages": [user("q"), bot("") | {"reasoning": "hmm"}]}, "empty-answer", "the assistant's message is empty"),
        (
            {"messages": [user("q"), bot("a"), user("r"), bot("b") | {"weight": 0}]},
            "weight",
            "messages[3]: this answer is marked as not trained on",
        ),
        ({"messages": [user("q"), bot("a") | {"train": False}]}, "weight", "this answer is marked as not trained on"),
        (
            asked([{"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "1", "content": "y"}]),
            "order",
            "the result of a tool follows text",
        ),
    ],
)
def test_a_part_that_is_not_text_is_rejected_with_its_reason(odd: dict[str, Any], reason: str, detail: str) -> None:
    found = result(shape(CHAT, odd, CHAT), odd)
    assert found[0] == reason
    assert detail in found[1]


@pytest.mark.parametrize("row", [CHAT, {"question": "q", "answer": "a"}, {"instruction": "i", "output": "o"}])
def test_a_row_with_a_picture_in_another_column_is_rejected(row: dict[str, Any]) -> None:
    seen = row | {"images": ["a.png"]}
    made = shape(row, seen)
    assert result(made, seen) == (
        "not-text",
        "images contains a picture, sound or a film, but models are trained on text only",
    )
    assert result(made, row | {"images": []}) == result(shape(row), row)
