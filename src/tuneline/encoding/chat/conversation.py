"""Conversations as they stand in the data, and which of their turns are left out where all do not fit."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from tuneline.errors import ModelError

Message = dict[str, Any]


class Conversation(NamedTuple):
    """Turns, and the tools that the assistant may call."""

    messages: list[Message]
    tools: list[dict[str, Any]]
    source: str = ""

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Conversation":
        """The conversation of a record whose `messages` and `tools` are JSON text, or lists already."""
        messages, tools = _parsed(record["messages"]), _parsed(record.get("tools") or [])
        return cls([_plain(message) for message in messages], tools, record.get("source") or "")

    def up_to_answer(self, number: int) -> "Conversation":
        """Up to the answer of this number, from 0."""
        return self._replace(messages=self.messages[: answered_at(self.messages)[number] + 1])

    def with_arguments_as_text(self) -> "Conversation":
        """The same with the arguments of every tool call as JSON text."""
        return self._replace(messages=[_as_text(message) for message in self.messages])

    @property
    def prompt(self) -> "Conversation":
        """All before the last turn of the assistant; everything where the assistant has said nothing."""
        last = next((at for at in reversed(range(len(self.messages))) if is_said(self.messages[at])), None)
        return self if last is None else self._replace(messages=self.messages[:last])

    @property
    def answer(self) -> str:
        """What the assistant says in its last turn."""
        said = [message for message in self.messages if is_said(message)]
        return (said[-1].get("content") or "") if said else ""


def _parsed(value: Any) -> list[Any]:
    return orjson.loads(value) if isinstance(value, str | bytes) else list(value)


def _plain(message: Message) -> Message:
    """Without absent values, and a tool call's arguments as an object, which is what templates write out."""
    plain = {key: value for key, value in message.items() if value is not None}
    if calls := plain.get("tool_calls"):
        plain["tool_calls"] = [_with_object(call) for call in calls]
    return plain


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        return call | {"function": function | {"arguments": orjson.loads(function["arguments"])}}
    except orjson.JSONDecodeError:
        return call


def _as_text(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
            call = call | {"function": function | {"arguments": orjson.dumps(function["arguments"]).decode()}}
        calls.append(call)
    return message | {"tool_calls": calls}


def is_said(message: Message) -> bool:
    """Whether it is the assistant's turn."""
    return message.get("role") == "assistant"


def answered_at(messages: Sequence[Message]) -> list[int]:
    """The places of the assistant's answers; what opens a conversation answers nothing."""
    return [place for place in range(1, len(messages)) if is_said(messages[place])]


def shortened(
    conversation: Conversation,
    fits: Callable[[Conversation], bool],
    fits_alone: Callable[[Conversation], bool] | None = None,
) -> Conversation:
    """A conversation that fits, if there is one: early turns go first, then the beginning of the last question.

    Args:
        conversation: up to the last turn that matters.
        fits: whether a shorter one is short enough.
        fits_alone: the same of one with no turns before the last question; None: as `fits`.

    Returns:
        With the system's turns and all that was said last; the shortest there is where none fits, its last question
        empty.
    """
    messages, system, asked = conversation.messages, _first_said(conversation), _asked(conversation)

    def since(exchange: int) -> Conversation:
        start = asked[exchange] if exchange else system
        return conversation._replace(messages=messages[:system] + messages[start:])

    if not asked:
        return conversation
    exchange = _first(len(asked), lambda number: fits(since(number)))
    if exchange < len(asked):
        return since(exchange)
    question = messages[asked[-1]].get("content")
    if not isinstance(question, str):
        return since(len(asked) - 1)
    # The more is left out, the shorter.
    left_out = _first(
        len(question),
        lambda number: (fits_alone or fits)(last_exchange(conversation, len(question) - number)),
    )
    return last_exchange(conversation, len(question) - left_out)


def last_exchange(conversation: Conversation, characters: int) -> Conversation:
    """The system's turns, the end of the last question in so many characters, and what was said after it."""
    messages, asked = conversation.messages, _asked(conversation)
    if not asked or not isinstance(messages[asked[-1]].get("content"), str):
        return conversation
    question = messages[asked[-1]]
    cut = question | {"content": question["content"][len(question["content"]) - characters :]}
    return conversation._replace(messages=[*messages[: _first_said(conversation)], cut, *messages[asked[-1] + 1 :]])


def is_asked(conversation: Conversation) -> bool:
    """Whether the last question, if there is one, is more than white space."""
    asked = _asked(conversation)
    content = conversation.messages[asked[-1]].get("content") if asked else None
    return not isinstance(content, str) or bool(content.strip())


def _first_said(conversation: Conversation) -> int:
    """The place of the first turn that is not the system's."""
    return next(
        (at for at, one in enumerate(conversation.messages) if one.get("role") not in ("system", "developer")), 0
    )


def _asked(conversation: Conversation) -> list[int]:
    """The places of the user's turns after the system's."""
    messages = conversation.messages
    return [at for at in range(_first_said(conversation), len(messages)) if messages[at].get("role") == "user"]


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first number below `count` from which on something holds, else `count`."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def refuse_left_out(messages: list[Message], tools: list[dict[str, Any]], text: str, learnt: str) -> None:
    """Refuse a text without what it should hold; some templates drop the calls and tools that they have no words for.

    Args:
        messages: the turns.
        tools: what the assistant may call.
        text: as a template has written the conversation.
        learnt: the assistant's part of it.

    Raises:
        ModelError: naming what is left out.
    """
    for at in answered_at(messages):
        message = messages[at]
        # What was thought before an answer, most templates leave out on purpose.
        content = str(message.get("content") or "").rpartition("</think>")[2].strip()
        calls = [str(_function(call).get("name", "")) for call in message.get("tool_calls") or []]
        left_out = [part for part in (content, *calls) if part not in learnt]
        if left_out:
            raise ModelError(
                f"the chat template does not write what the assistant says in turn {at + 1}: {left_out[0][:40]!r}; use "
                "a base whose template does, or leave such rows out"
            )
    unnamed = [name for name in (str(_function(tool).get("name", "")) for tool in tools) if name not in text]
    if unnamed:
        raise ModelError(
            f"the chat template does not write the tools, {unnamed[0]!r} first; use a base whose template does, or "
            "leave them out"
        )


def _function(value: dict[str, Any]) -> dict[str, Any]:
    function = value.get("function")
    return function if isinstance(function, dict) else value
