"""Conversations of the data, and which of their turns are left out if not all fit into a row."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from tuneline.errors import ModelError

Message = dict[str, Any]


class Conversation(NamedTuple):
    """Messages, and the tools that the assistant may call."""

    messages: list[Message]
    tools: list[dict[str, Any]]
    source: str = ""

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Conversation":
        """The conversation of a record; `messages` and `tools` are JSON text or lists."""
        messages, tools = _parse(record["messages"]), _parse(record.get("tools") or [])
        return cls([_normalize(message) for message in messages], tools, record.get("source") or "")

    def up_to_answer(self, number: int) -> "Conversation":
        """The messages up to answer `number`, counted from 0."""
        return self._replace(messages=self.messages[: answer_indices(self.messages)[number] + 1])

    def with_arguments_as_text(self) -> "Conversation":
        """The conversation with the arguments of every tool call as JSON text."""
        return self._replace(messages=[_with_arguments_as_text(message) for message in self.messages])

    @property
    def prompt(self) -> "Conversation":
        """The messages before the last turn of the assistant; all messages without such a turn."""
        last = next((at for at in reversed(range(len(self.messages))) if is_assistant(self.messages[at])), None)
        return self if last is None else self._replace(messages=self.messages[:last])

    @property
    def answer(self) -> str:
        """The content of the last turn of the assistant."""
        turns = [message for message in self.messages if is_assistant(message)]
        return (turns[-1].get("content") or "") if turns else ""


def _parse(value: Any) -> list[Any]:
    return orjson.loads(value) if isinstance(value, str | bytes) else list(value)


def _normalize(message: Message) -> Message:
    """The message without absent values, with the arguments of tool calls as objects, as templates expect them."""
    present = {key: value for key, value in message.items() if value is not None}
    if calls := present.get("tool_calls"):
        present["tool_calls"] = [_with_arguments_as_object(call) for call in calls]
    return present


def _with_arguments_as_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        return call | {"function": function | {"arguments": orjson.loads(function["arguments"])}}
    except orjson.JSONDecodeError:
        return call


def _with_arguments_as_text(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
            call = call | {"function": function | {"arguments": orjson.dumps(function["arguments"]).decode()}}
        calls.append(call)
    return message | {"tool_calls": calls}


def is_assistant(message: Message) -> bool:
    """Whether the message is a turn of the assistant."""
    return message.get("role") == "assistant"


def answer_indices(messages: Sequence[Message]) -> list[int]:
    """The indices of the assistant's answers; a first message answers nothing."""
    return [index for index in range(1, len(messages)) if is_assistant(messages[index])]


def shorten(
    conversation: Conversation,
    fits: Callable[[Conversation], bool],
    fits_alone: Callable[[Conversation], bool] | None = None,
) -> Conversation:
    """A conversation that fits: without early turns, and if necessary without the beginning of the last question.

    Args:
        conversation: up to the last turn that matters.
        fits: whether a shortened conversation is short enough.
        fits_alone: whether a conversation without turns before the last question is short enough; None: `fits`.

    Returns:
        The system's turns, and the last turns. If nothing fits, the last question is empty.
    """
    messages, system, asked = conversation.messages, _first_after_system(conversation), _questions(conversation)

    def since(question: int) -> Conversation:
        start = asked[question] if question else system
        return conversation._replace(messages=messages[:system] + messages[start:])

    if not asked:
        return conversation
    first = _first(len(asked), lambda question: fits(since(question)))
    if first < len(asked):
        return since(first)
    question = messages[asked[-1]].get("content")
    if not isinstance(question, str):
        return since(len(asked) - 1)
    # The more characters are left out, the shorter the conversation, so that a binary search finds the first that fits.
    left_out = _first(
        len(question),
        lambda number: (fits_alone or fits)(last_exchange(conversation, len(question) - number)),
    )
    return last_exchange(conversation, len(question) - left_out)


def last_exchange(conversation: Conversation, characters: int) -> Conversation:
    """The system's turns, the last `characters` characters of the last question, and the messages after it."""
    messages, asked = conversation.messages, _questions(conversation)
    if not asked or not isinstance(messages[asked[-1]].get("content"), str):
        return conversation
    question = messages[asked[-1]]
    cut = question | {"content": question["content"][len(question["content"]) - characters :]}
    system = messages[: _first_after_system(conversation)]
    return conversation._replace(messages=[*system, cut, *messages[asked[-1] + 1 :]])


def has_question(conversation: Conversation) -> bool:
    """Whether the last question is more than white space; true for a conversation without a question."""
    asked = _questions(conversation)
    content = conversation.messages[asked[-1]].get("content") if asked else None
    return not isinstance(content, str) or bool(content.strip())


def _first_after_system(conversation: Conversation) -> int:
    """The index of the first message that is not the system's."""
    return next(
        (at for at, one in enumerate(conversation.messages) if one.get("role") not in ("system", "developer")), 0
    )


def _questions(conversation: Conversation) -> list[int]:
    """The indices of the user's messages after the system's."""
    messages = conversation.messages
    start = _first_after_system(conversation)
    return [at for at in range(start, len(messages)) if messages[at].get("role") == "user"]


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first number below `count` for which `holds` is true, else `count`; it stays true for larger numbers."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def check_complete(messages: list[Message], tools: list[dict[str, Any]], text: str, supervised: str) -> None:
    """Check that a rendered conversation has all answers, calls and tools; some templates leave them out.

    Args:
        messages: of the conversation.
        tools: that the assistant may call.
        text: the rendered conversation.
        supervised: the assistant's part of `text`.

    Raises:
        ModelError: names the first part that is left out.
    """
    for index in answer_indices(messages):
        message = messages[index]
        # Most templates leave out the thoughts before an answer on purpose.
        content = str(message.get("content") or "").rpartition("</think>")[2].strip()
        calls = [str(_function(call).get("name", "")) for call in message.get("tool_calls") or []]
        left_out = [part for part in (content, *calls) if part not in supervised]
        if left_out:
            raise ModelError(
                f"the chat template does not write what the assistant says in turn {index + 1}: {left_out[0][:40]!r}; "
                "use a base whose template writes it, or remove such rows"
            )
    unnamed = [name for name in (str(_function(tool).get("name", "")) for tool in tools) if name not in text]
    if unnamed:
        raise ModelError(
            f"the chat template does not write the tools, {unnamed[0]!r} first; use a base whose template writes them, "
            "or remove the tools from the rows"
        )


def _function(value: dict[str, Any]) -> dict[str, Any]:
    function = value.get("function")
    return function if isinstance(function, dict) else value
