"""The first rows of a file -> the readings that are conversations, or come from them."""

from collections.abc import Mapping
from typing import Any

from tuneline.data.mapping.chat.convert_chat import Alpaca, Calls, Messages, PreferredMessages, PreferredText
from tuneline.data.mapping.chat.messages import is_calls, is_conversation
from tuneline.data.mapping.recognise import PAIRS, Reading, View
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import DataError

MESSAGES = RecordForm("messages")
PREFERENCE = RecordForm("preference")
PREFERENCE_OF_MESSAGES = RecordForm("preference", conversational=True)

_CONVERSATIONS = (
    *("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "chat", "turns"),
    "contents",  # Gemini
)
_TOOLS = ("tools", "functions", "toolconfig", "tool_config")
_CALL_PAIRS = (("query", "answers"), ("question", "answers"), ("prompt", "answers"), ("instruction", "answers"))
# A prompt and its answer where both are messages; the second is how OpenAI keeps requests and responses.
_MESSAGE_PAIRS = (("prompt", "completion"), ("input", "output"))
_PROMPTS = ("prompt", "question", "instruction", "input", "query")


def readings(view: View) -> list[Reading]:
    """The readings that fit, the most telling first.

    Args:
        view: the file.
    """
    return [*_preference(view), *_messages(view), *_calls(view), *_alpaca(view)]


def refuse_unpaired(view: View, place: str) -> None:
    """Stop at rows that say of one answer whether it is good.

    Args:
        view: the file.
        place: where it is, for the error.

    Raises:
        DataError: most rows have a conversation, or a prompt and a completion, and a label that is true or false.
    """
    label = view.usual("label", "kto_tag", "desirable")
    is_answered = view.usual("prompt") and view.usual("completion", "response")
    if label is None or not (is_answered or _conversation(view)) or not view.mostly(label, _is_truth):
        return
    raise DataError(
        f"{place}: rows with one answer and {label} true or false (KTO) are not trained on yet; pair a good and a bad "
        "answer to the same prompt as columns prompt, chosen and rejected with task: preference, or keep the good "
        f"answers alone, without the column {label}, with task: sft"
    )


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.strip().casefold() in ("true", "false"))


def _conversation(view: View) -> str | None:
    """The first column that mostly holds conversations."""
    for name in _CONVERSATIONS:
        column = view.usual(name)
        if column is not None and view.mostly(column, is_conversation):
            return column
    return None


def _preference(view: View) -> list[Reading]:
    chosen = view.usual("chosen", "chosen_response", "preferred_output")
    rejected = view.usual("rejected", "rejected_response", "non_preferred_output")
    if chosen is None or rejected is None:
        return []
    prompt = view.usual(*_PROMPTS) or _conversation(view) or ""
    return [_preferred(view, "preference", prompt, chosen, rejected)]


def _preferred(view: View, kind: str, prompt: str, chosen: str, rejected: str) -> Reading:
    columns = tuple(column for column in (prompt, chosen, rejected) if column)
    system = view.system
    if any(view.mostly(column, is_conversation) for column in columns) or (
        kind != "columns" and prompt and view.is_filled(view.system)
    ):
        convert = PreferredMessages(prompt, chosen, rejected, system)
        return Reading(kind, PREFERENCE_OF_MESSAGES, convert, columns)
    if kind == "columns":
        return Reading(kind, PREFERENCE, PreferredText(prompt, chosen, rejected), columns)
    context, given = [
        column if prompt and column != prompt else "" for column in map(view.optional, ("context", "input"))
    ]
    parts = tuple(view.optional(part) for part in ("context", "input") if prompt and view.is_filled(part))
    others = frozenset(map(view.optional, view.parts)) - {prompt, chosen, rejected, context, given}
    convert = PreferredText(prompt, chosen, rejected, context, given, others)
    return Reading(kind, PREFERENCE, convert, tuple(dict.fromkeys((*parts, *columns))))


def _messages(view: View) -> list[Reading]:
    system, tools = view.system, _tools(view)
    used = tuple(column for column in (system, tools) if view.is_filled(column))
    column = _conversation(view)
    if column is not None:
        kind = "sharegpt" if view.mostly(column, _is_sharegpt) else "messages"
        return [Reading(kind, MESSAGES, Messages((column,), system, tools), (*used, column))]
    for pair in _MESSAGE_PAIRS:
        prompt, completion = map(view.usual, pair)
        if prompt and completion and all(view.mostly(name, is_conversation) for name in (prompt, completion)):
            columns = (prompt, completion)
            return [Reading("messages", MESSAGES, Messages(columns, system, tools), (*used, *columns))]
    return []


def _tools(view: View) -> str:
    """The column of the tools that an assistant may call; its plain name where no row has one."""
    return next((view.optional(name) for name in _TOOLS if view.is_filled(name)), _TOOLS[0])


def _calls(view: View) -> list[Reading]:
    """A question and the calls that answer it, beside the tools, as in xLAM."""
    tools = _tools(view)
    for names in _CALL_PAIRS:
        asked, calls = map(view.usual, names)
        if asked and calls and view.is_filled(tools) and view.mostly(calls, is_calls):
            return [Reading("calls", MESSAGES, Calls(asked, calls, view.system, tools), (tools, asked, calls))]
    return []


def _is_sharegpt(value: Any) -> bool:
    if isinstance(value, str):
        return '"from"' in value and '"role"' not in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and value[0].get("from") is not None


def _alpaca(view: View) -> list[Reading]:
    for names in (("instruction", "output"), *PAIRS):
        asked, answered = map(view.usual, names)
        if asked is None or answered is None:
            continue
        filled = [part for part in view.parts if part not in names and view.is_filled(part)]
        if names != ("instruction", "output") and "history" not in filled and view.system not in filled:
            return []
        given = "" if "input" in names else view.optional("context" if "context" in filled else "input")
        convert = Alpaca(asked, given, answered, view.system, view.optional("history"))
        used = tuple(view.optional(part) for part in filled)
        return [Reading("alpaca", MESSAGES, convert, (*used, asked, answered))]
    return []


def mapped(view: View, columns: Mapping[str, str]) -> list[Reading]:
    """The readings that `data.columns` gives to conversations; empty where its fields are of plain text.

    Args:
        view: the file.
        columns: field -> column.
    """
    system, tools = view.system, columns.get("tools") or _tools(view)
    names = tuple(columns.values())
    if "messages" in columns:
        return [Reading("columns", MESSAGES, Messages((columns["messages"],), system, tools), names)]
    if "chosen" in columns:
        return [_preferred(view, "columns", columns.get("prompt", ""), columns["chosen"], columns["rejected"])]
    if set(columns) == {"prompt", "completion"}:
        pair = (columns["prompt"], columns["completion"])
        if all(name in view.columns and view.mostly(name, is_conversation) for name in pair):
            return [Reading("columns", MESSAGES, Messages(pair, system, tools), names)]
    return []
