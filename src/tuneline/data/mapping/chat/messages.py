"""Parse the conversations of public data sets to messages of one format, and check their order.

A message is {role, content} with the roles system, user, assistant and tool. A message of assistant may have
tool_calls, whose arguments are objects; a message of tool may have tool_call_id and name. The reasoning before an
answer is at the beginning of its content, between <think> and </think>.
"""

from typing import Any

import orjson

from tuneline.data.mapping.chat import message_parts
from tuneline.data.mapping.convert import RowError, checked_text
from tuneline.data.reading.formats import strict_json
from tuneline.data.reading.formats.strict_json import describe_type

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
# Role -> the roles that may precede it; "" is the beginning, "call" a message of assistant with tool_calls.
_AFTER = {
    "system": ("",),
    "user": ("", "system", "assistant", "tool"),
    "assistant": ("user", "tool"),
    "tool": ("call", "tool"),
}


def parse_messages(column: str, value: Any) -> list[Message]:
    """The messages of a conversation, without a check of their order and without empty messages of system.

    Args:
        column: the name of the column, for errors.
        value: a message or a list of messages, each with role and content (or parts, or text) or with from and value; a
            list of items of OpenAI's Responses; or such a list as JSON text, or under `messages` in an object.

    Returns:
        At least one message.

    Raises:
        RowError: an item is not a message, or the list is empty.
    """
    if isinstance(value, str):
        value = parse_json_text(column, value)
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    if value is None:
        raise RowError("missing", f"{column} is missing")
    if not isinstance(value, list):
        raise RowError("shape", f"{column} is {describe_type(value)}, not a list of messages")
    messages: list[Message] = []
    was_call = False
    for index, item in enumerate(message_parts.merge_items(value)):
        role = _role(f"{column}[{index}]", item)
        made = _parse_message(f"{column}[{index}]", role, item)
        if was_call and role == "call":
            # Parallel calls, as ms-swift writes them.
            messages[-1]["tool_calls"] += made[0]["tool_calls"]
        else:
            messages += made
        was_call = role == "call"
    messages = [message for message in messages if message["role"] != "system" or message["content"]]
    if not messages:
        raise RowError("no-message", f"{column} has no messages")
    return messages


def messages_or_text(column: str, value: Any, role: str) -> list[Message]:
    """The messages of a conversation, or one message with a role if the value is plain text."""
    if isinstance(value, str) and not is_conversation(value):
        return [{"role": role, "content": checked_text(column, value)}]
    return parse_messages(column, value)


def parse_system(column: str, value: Any) -> list[Message]:
    """The system prompt as a message; an empty list if it is only white space.

    Args:
        column: the name of the column, for errors.
        value: text, parts of text, or a message.

    Raises:
        RowError: a part is not text.
    """
    if isinstance(value, dict):
        value = next((value[key] for key in _CONTENT if value.get(key) is not None), None)
    if isinstance(value, str):
        return [{"role": "system", "content": checked_text(column, value)}]
    text = message_parts.parse_content(column, value).text
    return [{"role": "system", "content": text}] if text.strip() else []


def parse_calls(column: str, value: Any) -> list[dict[str, Any]]:
    """Tool calls in one format.

    Args:
        column: the name of the column, for errors.
        value: a call or a list of calls, also as JSON text; each {name, arguments}, also under `function`.

    Raises:
        RowError: it is missing, or has another format.
    """
    if value is None:
        raise RowError("missing", f"{column} is missing")
    return _parse_calls(column, value)


def is_calls(value: Any) -> bool:
    """Whether a value is a list of tool calls, also as JSON text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value[:1] == "[" else value
        except orjson.JSONDecodeError:
            return False
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(call, dict)
        and isinstance(call.get("function", call), dict)
        and "arguments" in call.get("function", call)
        for call in value
    )


def is_conversation(value: Any) -> bool:
    """Whether a value is a message or a list of them, or such a list as JSON text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value[:1] == "[" else value
        except orjson.JSONDecodeError:
            return False
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, dict) and _is_message(item) for item in value)
    )


def _is_message(message: Message) -> bool:
    return (
        message.get("role") is not None or message.get("from") is not None or message.get("type") in message_parts.ITEMS
    )


def to_json(messages: list[Message]) -> str:
    """Messages or tools as JSON text; raises RowError if JSON cannot represent them."""
    try:
        return orjson.dumps(messages).decode()
    except orjson.JSONEncodeError as error:
        raise RowError("arguments", f"cannot be written as JSON: {error}") from None


def parse_json_text(place: str, text: str) -> Any:
    """The value of a JSON text, or the text itself if it is not JSON.

    Args:
        place: the place of the text in its row, for errors.
        text: the text.

    Raises:
        RowError: the JSON has a repeated key, or is too deep.
    """
    try:
        return strict_json.parse(text)
    except strict_json.UnsoundError as error:
        raise RowError(error.reason, f"{place} as JSON text: {error.detail}") from None
    except ValueError:
        return text


def _role(place: str, item: Any) -> str:
    """The role of a message: a key of _AFTER, or `call`."""
    if type(item) is not dict:
        raise RowError("shape", f"{place} is {describe_type(item)}, not a message")
    written = item.get("role")
    if written is None:
        written = item.get("from")
    role = _ROLES.get(written) if isinstance(written, str) else None
    if role is not None:
        return role
    if not isinstance(written, str) or not written.strip():
        raise RowError("role", f"{place} has no role")
    role = _ROLES.get(written.strip().casefold())
    if role is None:
        raise RowError("role", f"{place}: {written[:50]!r} is not a known role; the roles are {', '.join(_ROLES)}")
    return role


def _parse_message(place: str, role: str, item: Message) -> list[Message]:
    """A message in one format; several messages if it contains results of tools."""
    content = next((item[key] for key in _CONTENT if item.get(key) is not None), None)
    if role == "call":
        return [{"role": "assistant", "content": "", "tool_calls": _parse_calls(place, content)}]
    if role == "assistant" and (item.get("weight") == 0 or item.get("train") is False):
        raise RowError(
            "weight", f"{place}: this answer is marked as not trained on, but every answer of a row is trained on"
        )
    calls = item.get("tool_calls") or item.get("function_call")
    if type(content) is str and not calls and not any(map(item.get, _OTHER_KEYS)):
        return [_with_names(item, {"role": role, "content": _checked_content(place, role, content)})]
    if role == "tool" and not _holds_results(content):
        content = message_parts.result_text(place, content)
    parsed = message_parts.parse_content(place, content)
    parsed.reasoning = parsed.reasoning or message_parts.parse_reasoning(place, item)
    parsed.text = parsed.text or (item["refusal"] if isinstance(item.get("refusal"), str) else "")
    parsed.calls += _call_list(place, calls) if calls else []
    _check_role(place, role, parsed)
    messages = [{"role": "tool", **result} for result in parsed.results]
    if parsed.calls:
        called = [_call(place, call) for call in parsed.calls]
        messages.append({"role": role, "content": parsed.with_reasoning(), "tool_calls": called})
    elif parsed.text or not parsed.results:
        _checked_content(place, role, parsed.text)
        messages.append({"role": role, "content": _checked_content(place, role, parsed.with_reasoning())})
    return [_with_names(item, messages[0])] if len(messages) == 1 else messages


_CONTENT = ("content", "value", "parts", "text")
_OTHER_KEYS = (*message_parts.REASONING_KEYS, "refusal")


def _check_role(place: str, role: str, parsed: message_parts.Content) -> None:
    """Raise RowError if a message contains parts that its role cannot have."""
    if parsed.calls and role != "assistant":
        raise RowError("role", f"{place}: {role} calls a tool; only assistant can")
    if parsed.reasoning and role != "assistant":
        raise RowError("role", f"{place}: {role} has reasoning; only assistant can")
    if parsed.results and role not in ("user", "tool"):
        raise RowError("role", f"{place}: {role} has the result of a tool; only user and tool can")


def _holds_results(content: Any) -> bool:
    """Whether the content of a message of tool contains results that name their calls."""
    return isinstance(content, list) and any(
        isinstance(part, dict) and message_parts.is_result(part) for part in content
    )


def _checked_content(place: str, role: str, content: str) -> str:
    """The content of a message without calls; raises RowError if user or assistant has only white space."""
    if content and not content.isspace():
        return content
    if role == "assistant":
        raise RowError("empty-answer", f"{place}: the assistant's message is empty")
    if role == "user":
        raise RowError("empty", f"{place}: the user's message is empty")
    return ""


def _with_names(item: Message, message: Message) -> Message:
    """The message with the id of its call and the name of its tool, if the item has them."""
    if message["role"] != "system":
        for name in ("tool_call_id", "name"):
            if isinstance(item.get(name), str):
                message[name] = item[name]
    return message


def _parse_calls(place: str, value: Any) -> list[dict[str, Any]]:
    """Tool calls in one format."""
    return [_call(place, call) for call in _call_list(place, value)]


def _call_list(place: str, value: Any) -> list[Any]:
    calls = parse_json_text(place, value) if isinstance(value, str) else value
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list) or not calls:
        raise RowError("arguments", f"{place}: the tool call is not JSON with name and arguments")
    return calls


def _call(place: str, call: Any) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise RowError("arguments", f"{place}: the tool call is {describe_type(call)}, not an object")
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowError("arguments", f"{place}: the tool call has no name")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = parse_json_text(f"{place}: the arguments of {function['name']}", arguments)
    if not isinstance(arguments, dict):
        raise RowError("arguments", f"{place}: the arguments of {function['name']} are not a JSON object")
    made: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(call.get("id"), str):
        made["id"] = call["id"]
    return made


def check_order(column: str, messages: list[Message]) -> None:
    """Check that the roles alternate and that the last message is from assistant.

    Args:
        column: the column of the conversation, for errors.
        messages: all messages.

    Raises:
        RowError: the order is wrong.
    """
    before = ""
    for index, message in enumerate(messages):
        role = message["role"]
        if before not in _AFTER[role]:
            place = {"": "comes first", "call": "follows a tool call"}.get(before, f"follows {before}")
            raise RowError("order", f"{column}[{index}]: {role} {place}")
        before = "call" if "tool_calls" in message else role
    if before not in ("assistant", "call"):
        raise RowError("order", f"{column}: the last message is from {before}; a conversation must end with an answer")


def parse_tools(column: str, value: Any) -> str:
    """The tools that the assistant may call, as a JSON list; empty text if there are none.

    Args:
        column: the name of the column, for errors.
        value: a list of tools, each {type, function} or {name, description, parameters}, in the spelling of OpenAI,
            Anthropic, Google or Amazon; or such a list as JSON text, or under `tools` in an object.

    Raises:
        RowError: it has another format.
    """
    if isinstance(value, str):
        value = parse_json_text(column, value) if value.strip() else None
    if isinstance(value, dict) and isinstance(value.get("tools"), list):
        value = value["tools"]
    if value is None or value == []:
        return ""
    if not isinstance(value, list):
        raise RowError("shape", f"{column} is {describe_type(value)}, not a JSON list of tools")
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(value):
        for function in _functions_of(tool):
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise RowError("shape", f"{column}[{index}] is not a tool with a name")
            tools.append({"type": "function", "function": _declaration(function)})
    return to_json(tools)


_DECLARATIONS = ("functionDeclarations", "function_declarations")
_SCHEMAS = ("parameters", "input_schema", "inputSchema")


def _functions_of(tool: Any) -> list[Any]:
    """The functions that a tool declares, or the tool itself."""
    if not isinstance(tool, dict):
        return [tool]
    for key in _DECLARATIONS:
        if isinstance(tool.get(key), list):
            return tool[key]
    return [next((tool[key] for key in ("function", "toolSpec") if isinstance(tool.get(key), dict)), tool)]


def _declaration(function: dict[str, Any]) -> dict[str, Any]:
    """A function with its schema under `parameters`, the key that chat templates read."""
    schema = next((function[key] for key in _SCHEMAS if function.get(key) is not None), None)
    if isinstance(schema, dict) and set(schema) == {"json"}:
        schema = schema["json"]
    kept = {key: value for key, value in function.items() if key not in (*_SCHEMAS, "type")}
    return kept if schema is None else kept | {"parameters": schema}
