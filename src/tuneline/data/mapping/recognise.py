"""Recognise the shapes of a file by the names of its columns and by the values of most of its first rows."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuneline.data.mapping.chat.convert_chat import Alpaca, Calls, Messages, PreferredMessages, PreferredText
from tuneline.data.mapping.chat.messages import is_calls, is_conversation
from tuneline.data.mapping.convert import (
    Columns,
    Convert,
    Labelled,
    ManyLabelled,
    Numbered,
    Paths,
    Poem,
    Question,
    listed,
)
from tuneline.data.reading.formats.strict_json import describe_type
from tuneline.data.reading.grouped_messages import first_names
from tuneline.data.reading.raw_rows import FilePlan
from tuneline.data.records.record_form import RecordForm, RecordType
from tuneline.errors import DataError
from tuneline.terminal import shortened

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("prompt", "answer"),
    ("instruction", "response"),
    ("instruction", "completion"),
    ("instruction", "answer"),
    ("question", "answer"),
    ("question", "answers"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("source", "target"),
    ("src", "tgt"),
)
TEXTS = ("text", "content")
LABELLED = ("text", "sentence", "review", "content", "comment", "document", "utterance", "query", "title")
LABELS = ("label", "labels", "category", "class", "sentiment", "intent")
NUMBERS = ("label", "score", "rating", "stars", "value")
SYSTEMS = ("system", "system_prompt", "system_message", "systeminstruction", "system_instruction")
"""Names of the column of the system prompt."""
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")
_TITLES = (
    "title",
    "rhythmic",
    "poem_title",
    "poem title",
    "poem name",
    "poem_name",
    "题目",
    "題目",
    "标题",
    "標題",
    "诗名",
)
_AUTHORS = ("author", "poet", "poet_name", "poet name", "poem_author", "作者", "诗人", "詩人")
_LINES = (
    "paragraphs",
    "para",
    "lines",
    "verses",
    "poem",
    "poem_text",
    "stanzas",
    "content",
    "text",
    "内容",
    "內容",
    "正文",
)
# With one of these columns a title is the title of a poem, whatever the length of the lines.
_SURE_LINES = ("paragraphs", "para", "verses", "poem", "poem_text", "stanzas")
_SEPARATORS = ("|", " / ")
_LONGEST_LINE = 100
_FEW = 12
# Columns of a file.
_NAMED = 30
_DEEPEST = 4
_CODES = (
    "af ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu he hi hr hu hy is it ja ka kk km kn ko ky "
    "la lo lt lv mi mk ml mn mr ms mt my nb ne nl nn pa pl ps pt ro ru sd si sk sl so sq sr su sv sw ta te tg th tk tl "
    "tr tt ug uk ur uz vi yi yo zh zu lzh yue wyw"
)
_LANGUAGES = frozenset(_CODES.split())

TEXT, PAIR, NUMBER = RecordForm("text"), RecordForm("prompt-completion"), RecordForm("regression")
LABEL_FORM, LABELS_FORM = RecordForm("classification"), RecordForm("classification", multi_label=True)

MESSAGES = RecordForm("messages")
PREFERENCE = RecordForm("preference")
PREFERENCE_OF_MESSAGES = RecordForm("preference", conversational=True)

_CONVERSATIONS = (
    *("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "chat", "turns"),
    "contents",  # Gemini
)
_TOOLS = ("tools", "functions", "toolconfig", "tool_config")
_CALL_PAIRS = (("query", "answers"), ("question", "answers"), ("prompt", "answers"), ("instruction", "answers"))
# A prompt and an answer that are both messages; the second pair is the format of stored requests of OpenAI.
_MESSAGE_PAIRS = (("prompt", "completion"), ("input", "output"))
_PROMPTS = ("prompt", "question", "instruction", "input", "query")


@dataclass(frozen=True)
class Match:
    """One way to convert the rows of a file to records."""

    kind: str
    form: RecordForm
    convert: Convert
    columns: tuple[str, ...]
    """The columns of the file that it reads."""


class View:
    """The first rows of a file. Names of columns are compared without case and outer spaces."""

    def __init__(self, plan: FilePlan) -> None:
        self.plan = plan
        self.rows = [row.values for row in plan.first_rows]
        self.columns = list(plan.columns)
        self._usual = {_folded(column): column for column in reversed(plan.columns)}
        seen: dict[str, None] = {}
        for values in self.rows:
            seen.update(dict.fromkeys(values))
        self._seen = {_folded(column): column for column in reversed(seen)}

    def usual(self, *names: str) -> str | None:
        """The first of these columns that most rows have; None if they have none."""
        return next((self._usual[name] for name in names if name in self._usual), None)

    def optional(self, name: str) -> str:
        """A column that any of the rows has; else the name itself: a later row may have it."""
        return self._usual.get(name) or self._seen.get(name, name)

    @property
    def system(self) -> str:
        """The column of the system prompt; SYSTEMS[0] if no row has one."""
        return next((self.optional(name) for name in SYSTEMS if name in self._usual or name in self._seen), SYSTEMS[0])

    @property
    def parts(self) -> tuple[str, ...]:
        """Columns that are part of a question: without them the question is incomplete."""
        return "input", "context", "history", self.system

    def is_filled(self, name: str) -> bool:
        """Whether a column has values: in any row if most rows have the column, else in one of twenty."""
        column = name if name in self.columns else self.optional(name)
        filled = sum(bool(values.get(column)) for values in self.rows)
        return filled > 0 if column in self.columns else filled > 1 and 20 * filled > len(self.rows)

    def mostly(self, column: str, test: Callable[[Any], bool]) -> bool:
        """Whether most values of a column pass a test."""
        values = [row[column] for row in self.rows if row.get(column) is not None]
        return 2 * sum(map(test, values)) > len(values)

    def longest(self, columns: Sequence[str], count: int) -> list[str]:
        """The columns whose values are the longest on average, in the order of the file."""
        lengths = {column: sum(len(str(row.get(column) or "")) for row in self.rows) for column in columns}
        chosen = sorted(columns, key=lambda column: -lengths[column])[:count]
        return [column for column in columns if column in chosen]

    def media(self) -> tuple[str, ...]:
        """The columns of pictures, sound or films, or of lists of paths to them."""
        columns = [self._seen[name] for name in _MEDIA if name in self._seen]
        return tuple(
            column
            for column in columns
            if any(isinstance(values.get(column), list | dict | bytes) and values[column] for values in self.rows)
        )


def is_numeral(value: Any) -> bool:
    """Whether a cell is a number or empty; cells of CSV are text."""
    try:
        float(str(value).strip().replace(",", ".") or 0)
    except ValueError:
        return False
    return True


def _folded(column: str) -> str:
    return column.strip().casefold()


def matches(view: View) -> list[Match]:
    """The matches of a file, the most specific first.

    Args:
        view: the file.
    """
    found: list[Match] = []
    for read in (
        *(_preference, _messages, _calls, _alpaca),
        *(_pair, _poem, _translation, _labelled, _text, _numbered),
    ):
        found += read(view)
    return found


def chat_matches(view: View) -> list[Match]:
    """The matches that are conversations or come from them, the most specific first.

    Args:
        view: the file.
    """
    return [*_preference(view), *_messages(view), *_calls(view), *_alpaca(view)]


def _pair(view: View) -> list[Match]:
    for names in PAIRS:
        prompt, completion = map(view.usual, names)
        if prompt is None or completion is None:
            continue
        parts = [part for part in view.parts if part not in names]
        filled = [part for part in parts if view.is_filled(part)]
        if "history" in filled or view.system in filled or not view.mostly(prompt, _is_text):
            return []
        context = next(iter(filled), "context")
        if filled or names[1] == "answers" or view.mostly(completion, _is_answers) or "question" in names:
            column = view.optional(context)
            used = (column,) if filled else ()
            convert = Question(prompt, completion, column)
            return [Match("question", PAIR, convert, (*used, prompt, completion))]
        others = frozenset(map(view.optional, parts))
        pair = Columns((prompt, completion), others)
        return [Match("pair", PAIR, pair, (prompt, completion))]
    return []


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_answers(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and "text" in value)


def _poem(view: View) -> list[Match]:
    title, author = view.usual(*_TITLES), view.usual(*_AUTHORS)
    if title is None:
        return []
    name = next(
        (name for name in _LINES if (column := view.usual(name)) and _is_poem(view, name, column, author)), None
    )
    if name is None:
        return []
    lines = view.optional(name)
    author = author or next((view.optional(name) for name in _AUTHORS if view.is_filled(name)), _AUTHORS[0])
    columns = (title, author, lines)
    separator = next(
        (sign for sign in _SEPARATORS if view.mostly(lines, lambda value, sign=sign: _is_split(value, sign))), ""
    )
    return [
        Match("poem", PAIR, Poem(title, author, lines, separator, is_text=False), columns),
        Match("poem", TEXT, Poem(title, author, lines, separator, is_text=True), columns),
    ]


def _is_poem(view: View, name: str, column: str, author: str | None) -> bool:
    """Whether a column contains the lines of a poem: a list of lines, or text in short lines."""
    if view.mostly(column, _is_list_of_lines):
        return True
    if name in _SURE_LINES:
        return view.mostly(column, _is_text)
    # Articles have a title, an author and a content too, but no short lines.
    return author is not None and view.usual(*LABELS) is None and view.mostly(column, _is_verse)


def _is_list_of_lines(value: Any) -> bool:
    if isinstance(value, str) and value[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(line, str) or (isinstance(line, list) and all(map(_is_text, line))) for line in value)


def _is_verse(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    lines = [line for line in re.split(r"\n|\||\s/\s", value) if line.strip()]
    return len(lines) > 1 and max(map(len, lines)) <= _LONGEST_LINE


def _is_split(value: Any, separator: str) -> bool:
    return isinstance(value, str) and "\n" not in value and separator in value


def _translation(view: View) -> list[Match]:
    column = view.usual("translation")
    if column is not None and view.mostly(column, lambda value: isinstance(value, dict) and len(value) == 2):
        pairs = [tuple(row[column]) for row in view.rows if isinstance(row.get(column), dict)]
        pair = max(dict.fromkeys(pairs), key=pairs.count)
        return [Match("translation", PAIR, Paths(tuple((column, key) for key in pair)), (column,))]
    languages = [name for name in view.columns if _folded(name).replace("_", "-").split("-")[0] in _LANGUAGES]
    if len(languages) == 2:
        pair = Columns(tuple(languages))
        return [Match("translation", PAIR, pair, tuple(languages))]
    return []


def _labelled(view: View) -> list[Match]:
    text = view.usual(*LABELLED)
    if text is None:
        return []
    label = view.usual(*LABELS)
    return [] if label is None else [labelled(view, text, label)]


def labelled(view: View, text: str, label: str) -> Match:
    """A text with one label, or with a list of labels if most rows have a list."""
    if view.mostly(label, lambda value: isinstance(listed(value), list)):
        return Match("labels", LABELS_FORM, ManyLabelled(text, label), (text, label))
    return Match("label", LABEL_FORM, Labelled(text, label), (text, label))


def _text(view: View) -> list[Match]:
    text = view.usual(*TEXTS)
    if text is None or not view.mostly(text, _is_text):
        return []
    return [Match("text", TEXT, Columns((text,)), (text,))]


def _numbered(view: View) -> list[Match]:
    text, number = view.usual(*LABELLED), view.usual(*NUMBERS)
    if text is None or number is None or not view.mostly(number, _is_number):
        return []
    columns = (text, number)
    found = [Match("number", NUMBER, Numbered(*columns), columns)]
    # A few different whole numbers, such as stars, are labels unless the task is regression.
    different = {str(row.get(number)) for row in view.rows}
    if number != view.usual(*LABELS) and len(different) <= _FEW and all(value.isdecimal() for value in different):
        found.insert(0, Match("label", LABEL_FORM, Labelled(*columns), columns))
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            return math.isfinite(float(value))
        except ValueError:
            return False
    return isinstance(value, int | float) and not isinstance(value, bool)


def refuse_unpaired(view: View, file: str) -> None:
    """Raise an error if the rows are single answers marked as good or bad (KTO).

    Args:
        view: the file.
        file: the path of the file, for the error.

    Raises:
        DataError: most rows have a conversation, or a prompt and a completion, and a label that is true or false.
    """
    label = view.usual("label", "kto_tag", "desirable")
    is_answered = view.usual("prompt") and view.usual("completion", "response")
    if label is None or not (is_answered or _conversation(view)) or not view.mostly(label, _is_truth):
        return
    raise DataError(
        f"{file}: rows with one answer and {label} true or false (KTO) are not supported; put a good and a bad answer "
        "to the same prompt into columns prompt, chosen and rejected and set task: preference, or keep only the good "
        f"answers, without the column {label}, and set task: sft"
    )


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.strip().casefold() in ("true", "false"))


def _conversation(view: View) -> str | None:
    """The first column of which most values are conversations; None if there is none."""
    for name in _CONVERSATIONS:
        column = view.usual(name)
        if column is not None and view.mostly(column, is_conversation):
            return column
    return None


def _preference(view: View) -> list[Match]:
    chosen = view.usual("chosen", "chosen_response", "preferred_output")
    rejected = view.usual("rejected", "rejected_response", "non_preferred_output")
    if chosen is None or rejected is None:
        return []
    prompt = view.usual(*_PROMPTS) or _conversation(view) or ""
    return [_preferred(view, "preference", prompt, chosen, rejected)]


def _preferred(view: View, kind: str, prompt: str, chosen: str, rejected: str) -> Match:
    columns = tuple(column for column in (prompt, chosen, rejected) if column)
    system = view.system
    if any(view.mostly(column, is_conversation) for column in columns) or (
        kind != "columns" and prompt and view.is_filled(view.system)
    ):
        convert = PreferredMessages(prompt, chosen, rejected, system)
        return Match(kind, PREFERENCE_OF_MESSAGES, convert, columns)
    if kind == "columns":
        return Match(kind, PREFERENCE, PreferredText(prompt, chosen, rejected), columns)
    context, given = [
        column if prompt and column != prompt else "" for column in map(view.optional, ("context", "input"))
    ]
    parts = tuple(view.optional(part) for part in ("context", "input") if prompt and view.is_filled(part))
    others = frozenset(map(view.optional, view.parts)) - {prompt, chosen, rejected, context, given}
    convert = PreferredText(prompt, chosen, rejected, context, given, others)
    return Match(kind, PREFERENCE, convert, tuple(dict.fromkeys((*parts, *columns))))


def _messages(view: View) -> list[Match]:
    system, tools = view.system, _tools(view)
    used = tuple(column for column in (system, tools) if view.is_filled(column))
    column = _conversation(view)
    if column is not None:
        kind = "sharegpt" if view.mostly(column, _is_sharegpt) else "messages"
        return [Match(kind, MESSAGES, Messages((column,), system, tools), (*used, column))]
    for pair in _MESSAGE_PAIRS:
        prompt, completion = map(view.usual, pair)
        if prompt and completion and all(view.mostly(name, is_conversation) for name in (prompt, completion)):
            columns = (prompt, completion)
            return [Match("messages", MESSAGES, Messages(columns, system, tools), (*used, *columns))]
    return []


def _tools(view: View) -> str:
    """The column of the tools that the assistant may call; _TOOLS[0] if no row has one."""
    return next((view.optional(name) for name in _TOOLS if view.is_filled(name)), _TOOLS[0])


def _calls(view: View) -> list[Match]:
    """A question, the tool calls that answer it and the tools, as in xLAM."""
    tools = _tools(view)
    for names in _CALL_PAIRS:
        asked, calls = map(view.usual, names)
        if asked and calls and view.is_filled(tools) and view.mostly(calls, is_calls):
            return [Match("calls", MESSAGES, Calls(asked, calls, view.system, tools), (tools, asked, calls))]
    return []


def _is_sharegpt(value: Any) -> bool:
    if isinstance(value, str):
        return '"from"' in value and '"role"' not in value
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and value[0].get("from") is not None


def _alpaca(view: View) -> list[Match]:
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
        return [Match("alpaca", MESSAGES, convert, (*used, asked, answered))]
    return []


def mapped_matches(view: View, columns: Mapping[str, str], wanted: Sequence[RecordType] | None) -> list[Match]:
    """The matches that `data.columns` gives a file; empty where its fields are not those of a record.

    Args:
        view: the file.
        columns: field -> column; a dot leads into an object, as in `translation.zh`.
        wanted: the types of records that the task learns from; None: all.
    """
    return _mapped_chat(view, columns) or _mapped_text(view, columns, wanted)


def _mapped_chat(view: View, columns: Mapping[str, str]) -> list[Match]:
    system, tools = view.system, columns.get("tools") or _tools(view)
    names = tuple(columns.values())
    if "messages" in columns:
        return [Match("columns", MESSAGES, Messages((columns["messages"],), system, tools), names)]
    if "chosen" in columns:
        return [_preferred(view, "columns", columns.get("prompt", ""), columns["chosen"], columns["rejected"])]
    if set(columns) == {"prompt", "completion"}:
        pair = (columns["prompt"], columns["completion"])
        if all(name in view.columns and view.mostly(name, is_conversation) for name in pair):
            return [Match("columns", MESSAGES, Messages(pair, system, tools), names)]
    return []


def _mapped_text(view: View, columns: Mapping[str, str], wanted: Sequence[RecordType] | None) -> list[Match]:
    names = tuple(columns.values())
    fields = set(columns)
    if fields == {"text", "label"}:
        text, label = columns["text"], columns["label"]
        if wanted is not None and "regression" in wanted:
            return [Match("columns", NUMBER, Numbered(text, label), names)]
        return [replace(labelled(view, text, label), kind="columns")]
    form = TEXT if fields == {"text"} else PAIR
    order = form.fields
    if fields != set(order):
        return []
    ordered = tuple(columns[field] for field in order)
    if any(name not in view.columns for name in ordered):
        paths = tuple((name,) if name in view.columns else tuple(name.split(".")) for name in ordered)
        return [Match("columns", form, Paths(paths), names)]
    if form == PAIR and view.mostly(ordered[1], _is_answers):
        return [Match("columns", form, Question(*ordered, context=""), names)]
    return [Match("columns", form, Columns(ordered), names)]


def is_squad(view: View) -> bool:
    """Whether a row is an article of SQuAD, with the questions on all of its paragraphs."""
    column = view.usual("paragraphs")
    return column is not None and view.mostly(column, _holds_questions)


def _holds_questions(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "qas" in value[0]


def nested_paths(view: View) -> list[str]:
    """The paths, for jq, of lists of objects within the only object of a file.

    Args:
        view: the file.
    """
    found: list[str] = []
    waiting = [("", values) for values in view.rows] if len(view.rows) == 1 else []
    while waiting:
        path, values = waiting.pop(0)
        for key, value in values.items():
            inner = f"{path}.{key}" if key.isidentifier() and key.isascii() else f"{path or '.'}[{json.dumps(key)}]"
            if isinstance(value, dict) and path.count(".") < _DEEPEST:
                waiting.append((inner, value))
            elif isinstance(value, list) and path and value and all(isinstance(row, dict) for row in value):
                found.append(inner)
    return found


def describe_columns(view: View) -> str:
    """The names of the columns, each with its most frequent type if that is not text."""
    parts = []
    for column in view.columns:
        kinds = [describe_type(row[column]) for row in view.rows if row.get(column) is not None]
        kind = max(dict.fromkeys(kinds), key=kinds.count) if kinds else "text"
        parts.append(shortened(column) if kind == "text" else f"{shortened(column)} ({kind})")
    return first_names(parts, _NAMED)


def column_names(view: View) -> str:
    """The names of the columns."""
    return first_names([*map(shortened, view.columns)], _NAMED)
