"""Convert the values of one row to the fields of its record, for conversations and preferences."""

from dataclasses import dataclass
from typing import Any

from tuneline.data.mapping.chat.messages import (
    Message,
    check_order,
    messages_or_text,
    parse_calls,
    parse_json_text,
    parse_messages,
    parse_system,
    parse_tools,
    to_json,
)
from tuneline.data.mapping.convert import Fields, RowError, Values, checked_text, refuse_others
from tuneline.data.reading.formats.strict_json import describe_type

_LAST_TURN = "\n\nAssistant:"


def _filled(values: Values, column: str) -> Any:
    """The value of a column; None for a missing value or an empty text."""
    value = values.get(column)
    return None if value == "" else value


def _system(values: Values, column: str) -> list[Message]:
    value = _filled(values, column)
    return [] if value is None else parse_system(column, value)


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation in one column, or in several consecutive columns."""

    columns: tuple[str, ...]
    system: str
    tools: str

    def __call__(self, values: Values) -> Fields:
        """Messages and tools."""
        messages = _system(values, self.system)
        for column in self.columns:
            messages += parse_messages(column, values.get(column))
        check_order(self.columns[0], messages)
        tools = values.get(self.tools)
        return to_json(messages), parse_tools(self.tools, tools) if tools else ""


@dataclass(frozen=True, slots=True)
class Calls:
    """A question whose answer is tool calls."""

    question: str
    calls: str
    system: str
    tools: str

    def __call__(self, values: Values) -> Fields:
        """Messages and tools."""
        asked = checked_text(self.question, values.get(self.question))
        called = {"role": "assistant", "content": "", "tool_calls": parse_calls(self.calls, values.get(self.calls))}
        messages = [*_system(values, self.system), {"role": "user", "content": asked}, called]
        return to_json(messages), parse_tools(self.tools, values.get(self.tools))


@dataclass(frozen=True, slots=True)
class Alpaca:
    """An instruction, its input and its output, after a history of questions and answers."""

    instruction: str
    input: str
    output: str
    system: str
    history: str

    def __call__(self, values: Values) -> Fields:
        """Messages and no tools."""
        messages = _system(values, self.system) + self._past(_filled(values, self.history))
        given = _filled(values, self.input)
        if given is None:
            asked = checked_text(self.instruction, values.get(self.instruction))
        else:
            asked = checked_text(self.input, given)
            if (instruction := _filled(values, self.instruction)) is not None:
                asked = f"{checked_text(self.instruction, instruction)}\n{asked}"
        answer = values.get(self.output)
        if isinstance(answer, str) and not answer.strip():
            raise RowError("empty-answer", f"{self.output} is empty")
        messages += _turn(asked, checked_text(self.output, answer))
        return to_json(messages), ""

    def _past(self, history: Any) -> list[Message]:
        if history is None:
            return []
        column = self.history
        if isinstance(history, str):
            history = parse_json_text(column, history)
        if not isinstance(history, list):
            raise RowError("shape", f"{column} is {describe_type(history)}, not a list of [question, answer]")
        messages: list[Message] = []
        for index, pair in enumerate(history):
            if not isinstance(pair, list) or len(pair) != 2:
                raise RowError("shape", f"{column}[{index}] is not [question, answer]")
            question, answer = [checked_text(f"{column}[{index}][{side}]", pair[side]) for side in (0, 1)]
            messages += _turn(question, answer)
        return messages


def _turn(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@dataclass(frozen=True, slots=True)
class PreferredText:
    """A prompt, a chosen and a rejected answer, all text."""

    prompt: str
    """The column of the prompt; empty: the prompt is the common beginning of both texts."""
    chosen: str
    rejected: str
    context: str = ""
    """The column of a text before the prompt, followed by an empty line."""
    given: str = ""
    """The column of a text in the line after the prompt."""
    others: frozenset[str] = frozenset()

    def __call__(self, values: Values) -> Fields:
        """Prompt, chosen and rejected as text."""
        chosen = checked_text(self.chosen, values.get(self.chosen))
        rejected = checked_text(self.rejected, values.get(self.rejected))
        if chosen.strip() == rejected.strip():
            raise RowError("same-answers", f"{self.chosen} and {self.rejected} are the same")
        refuse_others(self.others, values)
        if self.prompt:
            return self._asked(values), chosen, rejected
        size = _prompt_size(chosen, rejected)
        if not chosen[:size].strip():
            raise RowError(
                "empty", f"{self.chosen} and {self.rejected} do not begin with the same text, which would be the prompt"
            )
        for column, answer in ((self.chosen, chosen), (self.rejected, rejected)):
            if not answer[size:].strip():
                raise RowError("empty-answer", f"{column} has no answer after the prompt")
        return chosen[:size], chosen[size:], rejected[size:]

    def _asked(self, values: Values) -> str:
        prompt = checked_text(self.prompt, values.get(self.prompt))
        if (context := _filled(values, self.context)) is not None:
            prompt = f"{checked_text(self.context, context)}\n\n{prompt}"
        if (given := _filled(values, self.given)) is not None:
            prompt = f"{prompt}\n{checked_text(self.given, given)}"
        return prompt


def _prompt_size(chosen: str, rejected: str) -> int:
    """The length of the common beginning; if it contains turns, up to the last turn of the assistant."""
    size = 0
    while size < min(len(chosen), len(rejected)) and chosen[size] == rejected[size]:
        size += 1
    turn = chosen.rfind(_LAST_TURN, 0, size)
    if turn >= 0:
        return turn + len(_LAST_TURN)
    # Do not cut words: two answers may begin with the same letters.
    while 0 < size < min(len(chosen), len(rejected)) and chosen[size - 1].isascii() and chosen[size - 1].isalnum():
        size -= 1
    return size


@dataclass(frozen=True, slots=True)
class PreferredMessages:
    """A chosen and a rejected answer as messages, or two conversations whose common beginning is the prompt."""

    prompt: str
    """The column of text or messages; empty if the file has none."""
    chosen: str
    rejected: str
    system: str

    def __call__(self, values: Values) -> Fields:
        """Prompt, chosen and rejected, each a JSON list of messages."""
        chosen = messages_or_text(self.chosen, values.get(self.chosen), "assistant")
        rejected = messages_or_text(self.rejected, values.get(self.rejected), "assistant")
        if chosen == rejected:
            raise RowError("same-answers", f"{self.chosen} and {self.rejected} are the same")
        shared = 0
        while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
            shared += 1
        if shared and shared == min(len(chosen), len(rejected)) and chosen[shared - 1]["role"] == "assistant":
            # One conversation continues the other: the last message of the shorter one is its answer.
            shared -= 1
        prompt = chosen[:shared]
        if chosen[0]["role"] == rejected[0]["role"] == "assistant":
            # Only answers: the prompt is in its own column.
            prompt, shared = self._asked(values), 0
        if not prompt:
            raise RowError(
                "order",
                f"{self.chosen} and {self.rejected} do not begin with the same message, which would be the prompt",
            )
        if prompt[0]["role"] != "system":
            prompt = _system(values, self.system) + prompt
        answers = chosen[shared:], rejected[shared:]
        for column, answer in zip((self.chosen, self.rejected), answers, strict=True):
            check_order(column, prompt + answer)
        return to_json(prompt), to_json(answers[0]), to_json(answers[1])

    def _asked(self, values: Values) -> list[Message]:
        if not self.prompt:
            raise RowError("missing", f"{self.chosen} contains only an answer, but the row has no prompt")
        return messages_or_text(self.prompt, values.get(self.prompt), "user")
