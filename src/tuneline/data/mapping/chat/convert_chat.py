"""The values of one row -> the fields of its record, for the shapes that are conversations or come from them."""

from dataclasses import dataclass
from typing import Any

from tuneline.data.mapping.chat.messages import (
    Message,
    calls_of,
    check_order,
    dump,
    messages_of,
    messages_or_text,
    parsed,
    system_of,
    tools_of,
)
from tuneline.data.mapping.convert import Fields, RowError, Values, refuse_others, text_of
from tuneline.data.reading.formats.strict_json import describe_type

_LAST_TURN = "\n\nAssistant:"


def _filled(values: Values, column: str) -> Any:
    """A value; None for an absent one and for empty text."""
    value = values.get(column)
    return None if value == "" else value


def _system(values: Values, column: str) -> list[Message]:
    value = _filled(values, column)
    return [] if value is None else system_of(column, value)


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation in one column, or in several that follow one another."""

    columns: tuple[str, ...]
    system: str
    tools: str

    def __call__(self, values: Values) -> Fields:
        """Messages and tools."""
        messages = _system(values, self.system)
        for column in self.columns:
            messages += messages_of(column, values.get(column))
        check_order(self.columns[0], messages)
        tools = values.get(self.tools)
        return dump(messages), tools_of(self.tools, tools) if tools else ""


@dataclass(frozen=True, slots=True)
class Calls:
    """A question that is answered by calls of tools."""

    question: str
    calls: str
    system: str
    tools: str

    def __call__(self, values: Values) -> Fields:
        """Messages and tools."""
        asked = text_of(self.question, values.get(self.question))
        called = {"role": "assistant", "content": "", "tool_calls": calls_of(self.calls, values.get(self.calls))}
        messages = [*_system(values, self.system), {"role": "user", "content": asked}, called]
        return dump(messages), tools_of(self.tools, values.get(self.tools))


@dataclass(frozen=True, slots=True)
class Alpaca:
    """An instruction with its input and output, after a history of questions and answers."""

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
            asked = text_of(self.instruction, values.get(self.instruction))
        else:
            asked = text_of(self.input, given)
            if (instruction := _filled(values, self.instruction)) is not None:
                asked = f"{text_of(self.instruction, instruction)}\n{asked}"
        answer = values.get(self.output)
        if isinstance(answer, str) and not answer.strip():
            raise RowError("empty-answer", f"{self.output} is empty")
        messages += _turn(asked, text_of(self.output, answer))
        return dump(messages), ""

    def _past(self, history: Any) -> list[Message]:
        if history is None:
            return []
        column = self.history
        if isinstance(history, str):
            history = parsed(column, history)
        if not isinstance(history, list):
            raise RowError("shape", f"{column} is {describe_type(history)}, not a list of [question, answer]")
        messages: list[Message] = []
        for index, pair in enumerate(history):
            if not isinstance(pair, list) or len(pair) != 2:
                raise RowError("shape", f"{column}[{index}] is no [question, answer]")
            question, answer = [text_of(f"{column}[{index}][{side}]", pair[side]) for side in (0, 1)]
            messages += _turn(question, answer)
        return messages


def _turn(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@dataclass(frozen=True, slots=True)
class PreferredText:
    """A chosen and a rejected text after a prompt."""

    prompt: str
    """Column; empty: the prompt is what both texts begin with."""
    chosen: str
    rejected: str
    context: str = ""
    """Column that stands before the prompt, with a blank line between them, where it is filled."""
    given: str = ""
    """Column that stands in the line below the prompt, where it is filled."""
    others: frozenset[str] = frozenset()

    def __call__(self, values: Values) -> Fields:
        """Prompt, chosen and rejected as text."""
        chosen = text_of(self.chosen, values.get(self.chosen))
        rejected = text_of(self.rejected, values.get(self.rejected))
        if chosen.strip() == rejected.strip():
            raise RowError("same-answers", f"{self.chosen} and {self.rejected} are the same")
        refuse_others(self.others, values)
        if self.prompt:
            return self._asked(values), chosen, rejected
        size = _prompt_size(chosen, rejected)
        if not chosen[:size].strip():
            raise RowError("empty", f"{self.chosen} and {self.rejected} share no beginning that could be the prompt")
        for column, answer in ((self.chosen, chosen), (self.rejected, rejected)):
            if not answer[size:].strip():
                raise RowError("empty-answer", f"{column} holds no answer after the prompt")
        return chosen[:size], chosen[size:], rejected[size:]

    def _asked(self, values: Values) -> str:
        prompt = text_of(self.prompt, values.get(self.prompt))
        if (context := _filled(values, self.context)) is not None:
            prompt = f"{text_of(self.context, context)}\n\n{prompt}"
        if (given := _filled(values, self.given)) is not None:
            prompt = f"{prompt}\n{text_of(self.given, given)}"
        return prompt


def _prompt_size(chosen: str, rejected: str) -> int:
    """Characters that both begin with; up to the assistant's last turn where turns are written out."""
    size = 0
    while size < min(len(chosen), len(rejected)) and chosen[size] == rejected[size]:
        size += 1
    turn = chosen.rfind(_LAST_TURN, 0, size)
    if turn >= 0:
        return turn + len(_LAST_TURN)
    # Words are not cut: two answers may begin with the same letters.
    while 0 < size < min(len(chosen), len(rejected)) and chosen[size - 1].isascii() and chosen[size - 1].isalnum():
        size -= 1
    return size


@dataclass(frozen=True, slots=True)
class PreferredMessages:
    """A chosen and a rejected answer as messages, or whole conversations whose common beginning is the prompt."""

    prompt: str
    """Column of text or messages; empty where there is none."""
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
            # One goes on where the other ends: what the shorter says last is its answer.
            shared -= 1
        prompt = chosen[:shared]
        if chosen[0]["role"] == rejected[0]["role"] == "assistant":
            # Only answers: their prompt stands in its own column.
            prompt, shared = self._asked(values), 0
        if not prompt:
            raise RowError("order", f"{self.chosen} and {self.rejected} share no first message, which is the prompt")
        if prompt[0]["role"] != "system":
            prompt = _system(values, self.system) + prompt
        answers = chosen[shared:], rejected[shared:]
        for column, answer in zip((self.chosen, self.rejected), answers, strict=True):
            check_order(column, prompt + answer)
        return dump(prompt), dump(answers[0]), dump(answers[1])

    def _asked(self, values: Values) -> list[Message]:
        if not self.prompt:
            raise RowError("missing", f"{self.chosen} holds only an answer, and there is no prompt")
        return messages_or_text(self.prompt, values.get(self.prompt), "user")
