"""One conversation, as people write it -> a list of messages in one form, whose order and parts are checked.

A message is {role, content} with the roles system, user, assistant and tool; an assistant's may have tool_calls, whose
arguments are objects; a tool's may have tool_call_id and name. What was thought before an answer stands at the
beginning of its content, between <think> and </think>.
"""

from typing import Any

import orjson

from tuneline.data.mapping.chat import message_parts
from tuneline.data.mapping.convert import RowError, text_of
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
# Role -> the roles of the message that may come before it; "" is the beginning, "call" an assistant's with tool_calls.
_AFTER = {
    "system": ("",),
    "user": ("", "system", "assistant", "tool"),
    "assistant": ("user", "tool"),
    "tool": ("call", "tool"),
}


def messages_of(column: str, value: Any) -> list[Message]:
    """The messages of a conversation, their order not yet checked.

    Args:
        column: its name, for errors.
        value: a list of messages (or one), each of role and content (or parts, or text) or of from and value; a list of
            the items of OpenAI's Responses; or such a list as JSON text, or under `messages` in an object.

    Returns:
        The messages in one form, at least one; empty messages of the system are left out.

    Raises:
        RowError: one of them is none.
    """
    if isinstance(value, str):
        value = parsed(column, value)
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    if value is None:
        raise RowError("missing", f"{column} is missing")
    if not isinstance(value, list):
        raise RowError("shape", f"{column} is {describe_type(value)}, not a list of messages")
    messages: list[Message] = []
    was_call = False
    for index, item in enumerate(message_parts.items(value)):
        role = _role(f"{column}[{index}]", item)
        made = _messages(f"{column}[{index}]", role, item)
        if was_call and role == "call":
            # Several calls at once, as ms-swift writes them.
            messages[-1]["tool_calls"] += made[0]["tool_calls"]
        else:
            messages += made
        was_call = role == "call"
    messages = [message for message in messages if message["role"] != "system" or message["content"]]
    if not messages:
        raise RowError("no-message", f"{column} holds no message")
    return messages


def messages_or_text(column: str, value: Any, role: str) -> list[Message]:
    """Messages as in `messages_of`, or one message of a role where the value is plain text."""
    if isinstance(value, str) and not is_conversation(value):
        return [{"role": role, "content": text_of(column, value)}]
    return messages_of(column, value)


def system_of(column: str, value: Any) -> list[Message]:
    """What a model is told beforehand, as a message; none where it is blank.

    Args:
        column: its name, for errors.
        value: text, parts of text, or a message of them.

    Raises:
        RowError: it holds what is not text.
    """
    if isinstance(value, dict):
        value = next((value[key] for key in _CONTENT if value.get(key) is not None), None)
    if isinstance(value, str):
        return [{"role": "system", "content": text_of(column, value)}]
    text = message_parts.said(column, value).text
    return [{"role": "system", "content": text}] if text.strip() else []


def calls_of(column: str, value: Any) -> list[dict[str, Any]]:
    """Calls of tools in one form.

    Args:
        column: its name, for errors.
        value: one call or a list, also as JSON text; each {name, arguments}, or that under `function`.

    Raises:
        RowError: it is missing, or none of these.
    """
    if value is None:
        raise RowError("missing", f"{column} is missing")
    return _calls(column, value)


def is_calls(value: Any) -> bool:
    """Whether a value is a list of calls of tools, also as JSON text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value[:1] == "[" else value
        except orjson.JSONDecodeError:
            return False
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(one, dict) and isinstance(one.get("function", one), dict) and "arguments" in one.get("function", one)
        for one in value
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
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and _speaks(one) for one in value)


def _speaks(message: Message) -> bool:
    return (
        message.get("role") is not None or message.get("from") is not None or message.get("type") in message_parts.ITEMS
    )


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
        RowError: it is JSON that cannot be parsed without loss: a key occurs twice, or it nests too deep.
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
        raise RowError("role", f"{place}: {written[:50]!r} is no known role; known are {', '.join(_ROLES)}")
    return role


def _messages(place: str, role: str, item: Message) -> list[Message]:
    """A message in one form; more than one where results of tools stand in it."""
    content = next((item[key] for key in _CONTENT if item.get(key) is not None), None)
    if role == "call":
        return [{"role": "assistant", "content": "", "tool_calls": _calls(place, content)}]
    if role == "assistant" and (item.get("weight") == 0 or item.get("train") is False):
        raise RowError("weight", f"{place}: says that this answer is not to be learnt; every answer of a row is")
    calls = item.get("tool_calls") or item.get("function_call")
    if type(content) is str and not calls and not any(map(item.get, _BESIDE)):
        return [_with_names(item, {"role": role, "content": _spoken(place, role, content)})]
    if role == "tool" and not _holds_results(content):
        content = message_parts.result_text(place, content)
    said = message_parts.said(place, content)
    said.reasoning = said.reasoning or message_parts.reasoning_of(place, item)
    said.text = said.text or (item["refusal"] if isinstance(item.get("refusal"), str) else "")
    said.calls += _parsed_calls(place, calls) if calls else []
    _check_role(place, role, said)
    messages = [{"role": "tool", **result} for result in said.results]
    if said.calls:
        called = [_call(place, call) for call in said.calls]
        messages.append({"role": role, "content": said.content(), "tool_calls": called})
    elif said.text or not said.results:
        _spoken(place, role, said.text)
        messages.append({"role": role, "content": _spoken(place, role, said.content())})
    return [_with_names(item, messages[0])] if len(messages) == 1 else messages


_CONTENT = ("content", "value", "parts", "text")
_BESIDE = (*message_parts.REASONING_KEYS, "refusal")


def _check_role(place: str, role: str, said: message_parts.Said) -> None:
    """Raise where a message holds what its role does not say."""
    if said.calls and role != "assistant":
        raise RowError("role", f"{place}: {role} calls a tool, which only an assistant does")
    if said.reasoning and role != "assistant":
        raise RowError("role", f"{place}: {role} has reasoning, which only an assistant has")
    if said.results and role not in ("user", "tool"):
        raise RowError("role", f"{place}: {role} gives the result of a tool, which only user and tool do")


def _holds_results(content: Any) -> bool:
    """Whether the content of a tool's message says of which call each part is the result."""
    return isinstance(content, list) and any(
        isinstance(part, dict) and message_parts.is_result(part) for part in content
    )


def _spoken(place: str, role: str, content: str) -> str:
    """The content of a message that calls nothing, empty where it is blank; raises RowError where that must not be."""
    if content and not content.isspace():
        return content
    if role == "assistant":
        raise RowError("empty-answer", f"{place}: the assistant's message is empty")
    if role == "user":
        raise RowError("empty", f"{place}: the user's message is empty")
    return ""


def _with_names(item: Message, message: Message) -> Message:
    """With the id of the call that it answers and the name of the tool, where the message has them."""
    if message["role"] != "system":
        for name in ("tool_call_id", "name"):
            if isinstance(item.get(name), str):
                message[name] = item[name]
    return message


def _calls(place: str, value: Any) -> list[dict[str, Any]]:
    """Calls of tools: one or a list, also as JSON text; each {name, arguments}, or that under `function`."""
    return [_call(place, call) for call in _parsed_calls(place, value)]


def _parsed_calls(place: str, value: Any) -> list[Any]:
    calls = parsed(place, value) if isinstance(value, str) else value
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list) or not calls:
        raise RowError("arguments", f"{place}: the call of a tool is not JSON of name and arguments")
    return calls


def _call(place: str, call: Any) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise RowError("arguments", f"{place}: the call of a tool is {describe_type(call)}, not an object")
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
        value: a list of tools, each {type, function} or {name, description, parameters}, as OpenAI, Anthropic, Google
            and Amazon spell them; or such a list as JSON text, or under `tools` in an object.

    Raises:
        RowError: it is none of these.
    """
    if isinstance(value, str):
        value = parsed(column, value) if value.strip() else None
    if isinstance(value, dict) and isinstance(value.get("tools"), list):
        value = value["tools"]
    if value is None or value == []:
        return ""
    if not isinstance(value, list):
        raise RowError("shape", f"{column} is {describe_type(value)}, not a JSON list of tools")
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(value):
        for function in _declared(tool):
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise RowError("shape", f"{column}[{index}] is no tool with a name")
            tools.append({"type": "function", "function": _declaration(function)})
    return dump(tools)


_DECLARATIONS = ("functionDeclarations", "function_declarations")
_SCHEMAS = ("parameters", "input_schema", "inputSchema")


def _declared(tool: Any) -> list[Any]:
    """The functions that a tool declares: itself, or those that it holds."""
    if not isinstance(tool, dict):
        return [tool]
    for key in _DECLARATIONS:
        if isinstance(tool.get(key), list):
            return tool[key]
    return [next((tool[key] for key in ("function", "toolSpec") if isinstance(tool.get(key), dict)), tool)]


def _declaration(function: dict[str, Any]) -> dict[str, Any]:
    """A function with its parameters under the one name that chat templates read."""
    schema = next((function[key] for key in _SCHEMAS if function.get(key) is not None), None)
    if isinstance(schema, dict) and set(schema) == {"json"}:
        schema = schema["json"]
    kept = {key: value for key, value in function.items() if key not in (*_SCHEMAS, "type")}
    return kept if schema is None else kept | {"parameters": schema}
