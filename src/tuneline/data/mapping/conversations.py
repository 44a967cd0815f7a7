"""One conversation, as people write it -> a list of messages in one form, whose order and parts are checked.

A message is {role, content} with the roles system, user, assistant and tool; an assistant's may have tool_calls, whose
arguments are objects; a tool's may have tool_call_id and name.
"""

from typing import Any

import orjson

from tuneline.data.mapping.mappings import RowError, text_of
from tuneline.data.reading import strictjson
from tuneline.data.reading.strictjson import kind_of

Message = dict[str, Any]

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "claude": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "function_call": "call",
    "tool_call": "call",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
# Role -> the roles of the message that may come before it; "" is the beginning, "call" an assistant's with tool_calls.
_AFTER = {
    "system": ("",),
    "user": ("", "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("call", "tool"),
}


def messages_of(column: str, value: Any) -> list[Message]:
    """The messages of a conversation, their order not yet checked.

    Args:
        column: its name, for errors.
        value: a list of messages (or one), each of role and content or of from and value; or such a list as JSON text.

    Returns:
        The messages in one form, at least one; empty messages of the system are left out.

    Raises:
        RowError: one of them is none.
    """
    if isinstance(value, str):
        value = parsed(column, value)
    if isinstance(value, dict):
        value = [value]
    if value is None:
        raise RowError("missing", f"{column} is missing")
    if not isinstance(value, list):
        raise RowError("shape", f"{column} is {kind_of(value)}, not a list of messages")
    messages = [_message(column, index, item) for index, item in enumerate(value)]
    messages = [message for message in messages if message["role"] != "system" or message["content"]]
    if not messages:
        raise RowError("no-message", f"{column} holds no message")
    return messages


def messages_or_text(column: str, value: Any, role: str) -> list[Message]:
    """Messages as in `messages_of`, or one message of a role where the value is plain text."""
    if isinstance(value, str) and not is_conversation(value):
        return [{"role": role, "content": text_of(column, value)}]
    return messages_of(column, value)


def is_conversation(value: Any) -> bool:
    """Whether a value is a message or a list of them, or such a list as JSON text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value[:1] == "[" else value
        except orjson.JSONDecodeError:
            return False
    if isinstance(value, dict):
        value = [value]
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and _speaks(one) for one in value)


def _speaks(message: Message) -> bool:
    return message.get("role") is not None or message.get("from") is not None


def dump(messages: list[Message]) -> str:
    """Messages, or tools, as JSON text; raises RowError where they are none that can be written."""
    try:
        return orjson.dumps(messages).decode()
    except orjson.JSONEncodeError as error:
        raise RowError("arguments", f"cannot be written as JSON: {error}") from None


def parsed(place: str, text: str) -> Any:
    """The JSON value that a text is, or the text itself where it is no JSON.

    Args:
        place: of the text in its row, for errors.
        text: of a field.

    Raises:
        RowError: it is JSON of which a reader would lose a part: a key stands twice, or it is too deep.
    """
    try:
        return strictjson.parse(text)
    except strictjson.UnsoundError as error:
        raise RowError(error.reason, f"{place} as JSON text: {error.detail}") from None
    except ValueError:
        return text


def _message(column: str, index: int, item: Any) -> Message:
    if type(item) is not dict:
        raise RowError("shape", f"{column}[{index}] is {kind_of(item)}, not a message")
    written = item.get("role")
    if written is None:
        written = item.get("from")
    role = _ROLES.get(written) if isinstance(written, str) else None
    if role is None:
        role = _role(f"{column}[{index}]", written)
    content = item.get("content")
    if content is None:
        content = item.get("value")
    if role == "call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(f"{column}[{index}]", content)}
    calls = item.get("tool_calls") or item.get("function_call")
    if type(content) is not str:
        content = _text(f"{column}[{index}]", content)
    message: Message = {"role": role, "content": content}
    if calls:
        if role != "assistant":
            raise RowError("role", f"{column}[{index}]: {written} calls a tool, which only an assistant does")
        message["tool_calls"] = _calls(f"{column}[{index}]", calls)
    elif not content or content.isspace():
        if role == "assistant":
            raise RowError("empty-answer", f"{column}[{index}]: the assistant's message is empty")
        if role == "user":
            raise RowError("empty", f"{column}[{index}]: the user's message is empty")
        message["content"] = ""
    if role != "system":
        for name in ("tool_call_id", "name"):
            if isinstance(item.get(name), str):
                message[name] = item[name]
    return message


def _role(place: str, written: Any) -> str:
    if not isinstance(written, str) or not written.strip():
        raise RowError("role", f"{place} has no role")
    role = _ROLES.get(written.strip().casefold())
    if role is None:
        raise RowError("role", f"{place}: {written[:50]!r} is no known role; known are {', '.join(_ROLES)}")
    return role


def _text(place: str, content: Any) -> str:
    """The content of a message that is not text: none, or a list of parts."""
    if content is None:
        return ""
    if not isinstance(content, list):
        raise RowError("not-text", f"{place}: content is {kind_of(content)}, not text")
    texts: list[str] = []
    for part in content:
        if isinstance(part, dict) and part.get("type", "text") == "text":
            part = part.get("text")
        elif isinstance(part, dict):
            raise RowError("shape", f"{place}: content holds a part of type {part.get('type')!r}, which is not text")
        if not isinstance(part, str):
            raise RowError("not-text", f"{place}: content holds {kind_of(part)} where text is expected")
        texts.append(part)
    return "".join(texts)


def _calls(place: str, value: Any) -> list[dict[str, Any]]:
    """Calls of tools: one or a list, also as JSON text; each {name, arguments}, or that under `function`."""
    calls = parsed(place, value) if isinstance(value, str) else value
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list) or not calls:
        raise RowError("arguments", f"{place}: the call of a tool is not JSON of name and arguments")
    return [_call(place, call) for call in calls]


def _call(place: str, call: Any) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise RowError("arguments", f"{place}: the call of a tool is {kind_of(call)}, not an object")
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowError("arguments", f"{place}: the call of a tool has no name")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = parsed(f"{place}: the arguments of {function['name']}", arguments)
    if not isinstance(arguments, dict):
        raise RowError("arguments", f"{place}: the arguments of {function['name']} are no JSON object")
    made: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(call.get("id"), str):
        made["id"] = call["id"]
    return made


def check_order(column: str, messages: list[Message]) -> None:
    """Check that people and assistant take turns, and that the assistant has the last word.

    Args:
        column: of the conversation, for errors.
        messages: all of it.

    Raises:
        RowError: the order is wrong, or there is no answer at the end.
    """
    before = ""
    for index, message in enumerate(messages):
        role = message["role"]
        if before not in _AFTER[role]:
            place = {"": "at the beginning", "call": "after a call of a tool"}.get(before, f"after {before}")
            raise RowError("order", f"{column}[{index}]: {role} {place}")
        before = "call" if "tool_calls" in message else role
    if before not in ("assistant", "call"):
        raise RowError("order", f"{column}: the last message is of {before}, so there is no answer to learn")


def tools_of(column: str, value: Any) -> str:
    """The tools that an assistant may call, as a JSON list; empty where there are none.

    Args:
        column: its name, for errors.
        value: a list of tools, each {type, function} or {name, description, parameters}; or such a list as JSON text.

    Raises:
        RowError: it is neither.
    """
    if isinstance(value, str):
        value = parsed(column, value) if value.strip() else None
    if value is None or value == []:
        return ""
    if not isinstance(value, list):
        raise RowError("shape", f"{column} is {kind_of(value)}, not a JSON list of tools")
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(value):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError("shape", f"{column}[{index}] is no tool with a name")
        tools.append({"type": "function", "function": function})
    return dump(tools)
