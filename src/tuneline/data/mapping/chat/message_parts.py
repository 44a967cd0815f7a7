"""Parse the content of one message to its text, reasoning, tool calls and tool results.

The spellings are those of the documentation of OpenAI (Chat Completions and Responses), Anthropic (Messages), Google
(Gemini `contents`), Amazon (Bedrock Converse), Mistral and Qwen. A part that is not text, such as a picture, is
rejected.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from tuneline.data.mapping.convert import RowError
from tuneline.data.reading.formats.strict_json import describe_type

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")
"""Keys of a message under which data sets store the reasoning before an answer."""

ITEMS = ("function_call", "function_call_output", "reasoning")
"""Types of items of OpenAI's Responses that have no role."""

THINK_END = "</think>"

_TEXT = frozenset(("text", "input_text", "output_text", "summary_text", "reasoning_text"))
_REASONING = frozenset(("thinking", "reasoning", "think", "thought", "reasoningContent"))
_CALL = frozenset(("tool_use", "toolUse", "function_call", "functionCall", "tool_call", "tool-call"))
_RESULT = frozenset(
    ("tool_result", "toolResult", "function_response", "functionResponse", "function_call_output", "tool_response")
) | {"tool-result"}
_NAMED_BY_KEY = ("text", *_REASONING, *_CALL, *_RESULT, "json", "refusal")
_TEXT_KEYS = ("text", "value", "parts", "content", "reasoningText", *sorted(_REASONING))
_NO_CONTENT = frozenset(("cachePoint", "cache_control", "thoughtSignature", "thought_signature", "signature", "type"))
_MEDIA = {
    "image": "a picture",
    "img": "a picture",
    "picture": "a picture",
    "audio": "sound",
    "video": "a film",
    "file": "a file",
    "document": "a file",
    "inline": "a file",
}


@dataclass
class Content:
    """The content of a message."""

    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Each {name, arguments} and optionally {id}; or under `function`, as OpenAI writes them."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """Results of tools, each {content} and optionally {tool_call_id, name}."""

    def with_reasoning(self) -> str:
        """The text after its reasoning in `<think>`, as the templates of Qwen and DeepSeek read it."""
        thought = self.reasoning.strip("\n")
        if not thought.strip() or THINK_END in self.text:
            return self.text
        answer = self.text.lstrip("\n")
        return f"<think>\n{thought}\n{THINK_END}\n\n{answer}"


def parse_content(place: str, content: Any) -> Content:
    """The parsed content of a message.

    Args:
        place: the place of the message in its row, for errors.
        content: None, text, a part, or a list of parts.

    Raises:
        RowError: a part is not text and cannot become text.
    """
    found = Content()
    if content is None:
        return found
    if isinstance(content, str):
        found.text = content
        return found
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise RowError("not-text", f"{place}: content is {describe_type(content)}, not text")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        _add(place, part, found, texts, thoughts)
    found.text, found.reasoning = "".join(texts), "\n".join(thoughts)
    return found


def parse_reasoning(place: str, message: dict[str, Any]) -> str:
    """The reasoning under a key of a message; empty if it has none.

    Args:
        place: the place of the message, for errors.
        message: the message, not yet parsed.

    Raises:
        RowError: the reasoning is neither text nor parts of text.
    """
    for key in REASONING_KEYS:
        if value := message.get(key):
            return _plain(f"{place}.{key}", value)
    return ""


def result_text(place: str, content: Any) -> str:
    """The result of a tool as text; a value that is neither text nor parts of text becomes JSON text.

    Args:
        place: the place of the result, for errors.
        content: the content of the result.

    Raises:
        RowError: a part is not text, or JSON cannot represent the value.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if parts and all(isinstance(part, str) or (isinstance(part, dict) and _is_part(part)) for part in parts):
        return _plain(place, content)
    try:
        return orjson.dumps(content).decode()
    except orjson.JSONEncodeError as error:
        raise RowError("not-text", f"{place}: cannot be written as JSON: {error}") from None


def _add(place: str, part: Any, found: Content, texts: list[str], thoughts: list[str]) -> None:
    """Add one part of a content to the result."""
    if isinstance(part, str):
        texts.append(part)
        return
    if not isinstance(part, dict):
        raise RowError("not-text", f"{place}: content contains {describe_type(part)} instead of text")
    kind = _kind(part)
    if kind in _TEXT or kind == "refusal":
        text = _plain(place, _value(part, kind, "text", "content", "refusal", "parts"))
        # Gemini marks a text that is reasoning.
        (thoughts if part.get("thought") is True else texts).append(text)
    elif kind in _REASONING:
        value = _value(part, kind, "thinking", "reasoning", "text", "content", "summary")
        thoughts.append(_plain(place, value))
    elif kind in _CALL:
        found.calls.append(_call(_inner(part, kind)))
    elif kind in _RESULT:
        if texts:
            raise RowError("order", f"{place}: the result of a tool follows text in the same message")
        found.results.append(_result(place, _inner(part, kind)))
    elif kind == "json":
        texts.append(result_text(place, part["json"]))
    elif kind or set(part) - _NO_CONTENT:
        raise RowError(*_unlearnable(place, part))


def is_result(part: dict[str, Any]) -> bool:
    """Whether a part is the result of a tool."""
    return _kind(part) in _RESULT


def _kind(part: dict[str, Any]) -> str:
    """The type of a part: the value of its key `type`, or the key of its value; empty if unknown."""
    kind = part.get("type", part.get("content_type"))
    if isinstance(kind, str) and kind:
        return kind
    return next((key for key in _NAMED_BY_KEY if part.get(key) is not None and part[key] is not True), "")


def _is_part(part: dict[str, Any]) -> bool:
    """Whether an object in the result of a tool is a part of a content, and not a value of the tool itself."""
    kind = _kind(part)
    is_media = any(word in kind for word in _MEDIA)
    return kind in _TEXT or is_media or (kind == "json" and set(part) == {"json"})


def _inner(part: dict[str, Any], kind: str) -> dict[str, Any]:
    """The object under the key of the type, as Google and Amazon write it; else the part itself."""
    inner = part.get(kind)
    return inner if isinstance(inner, dict) else part


def _value(part: dict[str, Any], *keys: str) -> Any:
    """The first value that is not null; None if all are null."""
    return next((part[key] for key in keys if part.get(key) is not None and part[key] is not True), None)


def _plain(place: str, value: Any) -> str:
    """The text of a text, of a part or of a list of parts: the reasoning of Mistral is a list."""
    waiting, texts = [value], []
    while waiting:
        current = waiting.pop()
        if isinstance(current, str):
            texts.append(current)
        elif isinstance(current, list):
            waiting += reversed(current)
        elif isinstance(current, dict) and (inner := _value(current, *_TEXT_KEYS)):
            waiting.append(inner)
        elif isinstance(current, dict) and "json" in current:
            texts.append(result_text(place, current["json"]))
        elif isinstance(current, dict) and set(current) - _NO_CONTENT:
            raise RowError(*_unlearnable(place, current))
        elif current is not None and not isinstance(current, dict):
            raise RowError("not-text", f"{place}: content contains {describe_type(current)} instead of text")
    return "".join(texts)


def _call(part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("function"), dict):
        return part
    call = {"name": part.get("name", part.get("toolName"))}
    call["arguments"] = next((part[key] for key in ("input", "arguments", "args") if part.get(key) is not None), {})
    return call | next(({"id": part[key]} for key in _IDS if isinstance(part.get(key), str)), {})


_IDS = ("id", "call_id", "toolUseId", "tool_use_id", "tool_call_id", "toolCallId")


def _result(place: str, part: dict[str, Any]) -> dict[str, Any]:
    content = next(
        (part[key] for key in ("content", "output", "response", "result") if part.get(key) is not None), None
    )
    made: dict[str, Any] = {"content": result_text(place, content)}
    for key in ("tool_use_id", "toolUseId", "call_id", "tool_call_id", "toolCallId", "id"):
        if isinstance(part.get(key), str):
            made["tool_call_id"] = part[key]
            break
    if isinstance(part.get("name"), str):
        made["name"] = part["name"]
    return made


def _unlearnable(place: str, part: dict[str, Any]) -> tuple[str, str]:
    """The reason and the detail of a part that is not text."""
    named = part.get("type", part.get("content_type"))
    name = named if isinstance(named, str) and named else next(_filled(part), "")
    what = next((words for key, words in _MEDIA.items() if key in name.casefold()), "")
    if what:
        return (
            "not-text",
            f"{place}: content contains {what} (a part of type {name[:50]!r}), but models are trained on text only",
        )
    return "not-text", f"{place}: content contains a part of type {name[:50]!r}, which is not text"


def _filled(part: dict[str, Any]) -> Iterator[str]:
    return (key for key, value in part.items() if value is not None and key not in _NO_CONTENT)


def merge_items(value: list[Any]) -> list[Any]:
    """Messages from items of OpenAI's Responses: the items between two messages of user become one message.

    Args:
        value: a list of messages; or of items, of which some have a type instead of a role.

    Returns:
        The messages; `value` itself if no item lacks a role.
    """
    if not any(isinstance(item, dict) and not _role(item) and item.get("type") in ITEMS for item in value):
        return value
    messages: list[Any] = []
    open_turn: dict[str, Any] | None = None
    for item in value:
        kind = item.get("type") if isinstance(item, dict) else None
        is_answer = kind in ("reasoning", "function_call") or (kind == "message" and item.get("role") == "assistant")
        if not isinstance(item, dict) or not (is_answer or kind == "function_call_output"):
            messages.append(item)
            open_turn = None
        elif kind == "function_call_output":
            messages.append({"role": "tool", "content": [item]})
            open_turn = None
        else:
            if open_turn is None:
                open_turn = {"role": "assistant", "content": []}
                messages.append(open_turn)
            inner = item.get("content") if kind == "message" else [item]
            open_turn["content"] = [*open_turn["content"], *(inner if isinstance(inner, list) else [inner])]
    return messages


def _role(item: dict[str, Any]) -> Any:
    return item.get("role") or item.get("from")
