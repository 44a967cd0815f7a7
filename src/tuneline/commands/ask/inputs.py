"""What a person hands to a model: a text, standard input, a file or a folder, as rows in their order.

Files are read by the pipeline's own readers, and texts are cleaned as those that the model was trained on. A row that
cannot be used is kept in its place with the reason.
"""

import difflib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import orjson

from tuneline.commands.use.open_set import ReadingArguments, reading_at, readings_of_sets
from tuneline.core import files
from tuneline.data.mapping import choose, recognise
from tuneline.data.mapping.chat.convert_chat import Alpaca, Calls, Messages
from tuneline.data.mapping.chat.messages import messages_of
from tuneline.data.mapping.convert import Columns, Convert, Paths, Poem, Question, RowError, Shape
from tuneline.data.mapping.recognise import PAIRS, View
from tuneline.data.preparing.text import cleaning
from tuneline.data.reading import readers
from tuneline.data.reading.guards import encodings
from tuneline.data.reading.raw_rows import FilePlan, Options, Rejected, Row
from tuneline.data.records import field_texts
from tuneline.data.records.record_form import RecordType
from tuneline.errors import DataError
from tuneline.params import Params

STDIN = "-"
"""What stands for standard input on the command line."""

Content = str | dict[str, str]
"""What a model is shown: a text or a prompt; or a conversation, as `messages` and `tools` in JSON."""

ReadContent = Callable[[Row], Content]
"""What is asked in a row of a file; raises RowError where the row does not fit."""

_ANSWER = "."
"""Stands for the answer that a row of prompts need not have; no model is shown it."""
_SPOOL = 1 << 20
_CHARACTERS_AT_ONCE = 8_000_000
_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".txt", ".gz", ".zst", ".zip", ".tar")


@dataclass(frozen=True)
class InputRow:
    """One row."""

    source: str
    """FILE:LINE; empty for a text of the command line."""
    values: dict[str, Any]
    """Column -> value, as it stands in the file."""
    content: Content
    problem: str = ""
    """Why it cannot be used: a code and the detail; empty where it can."""


@dataclass(frozen=True)
class Input:
    """All rows of one call."""

    columns: tuple[str, ...]
    """That the first rows have, in the order in which they were met."""
    has_sources: bool
    rows: Callable[[], Iterator[InputRow]]
    files: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()
    csv_note: str = ""
    """How CSV that is written differs from the files, in words; empty where it does not."""


def path_or_text(word: str) -> tuple[str | None, Path | None]:
    """What a word of the command line is: a file or a folder where one is called so, else a text.

    Args:
        word: as written.

    Returns:
        The text or the path; the other is None. STDIN is a path.

    Raises:
        DataError: it looks like the name of a file that is not there.
    """
    # The path of an empty word would be the working directory.
    if word == STDIN or (word and _exists(Path(word))):
        return None, Path(word)
    if not any(map(str.isspace, word)) and PurePath(word).suffix.lower() in _SUFFIXES:
        raise DataError(f"{word}: no such file; to have these letters themselves read, give --text {shlex.quote(word)}")
    return word, None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A text may be longer than a name can be.
        return False


@contextmanager
def open_input(
    text: str | None,
    path: Path | None,
    *,
    column: str,
    options: Options,
    is_plain: bool,
    find: Callable[[FilePlan, Path], ReadContent],
    remedy: str,
) -> Iterator["Input"]:
    """The rows of a text, of a path, or of standard input where there is neither.

    Args:
        text: of the command line.
        path: of a file or a folder, or STDIN.
        column: what a text of the command line is called in what is written.
        options: how files and standard input are read.
        is_plain: whether standard input is plain text, whatever its first lines look like.
        find: as for `read_path`.
        remedy: what to give where there is nothing to read.

    Raises:
        DataError: there is nothing to read, or it cannot be read.
    """
    if text is not None:
        clean = cleaning.clean(text)
        if not clean.strip():
            raise DataError(f"the text is empty; {remedy}")
        yield Input((column,), has_sources=False, rows=lambda: iter([InputRow("", {column: text}, clean)]))
    elif path is None or path == Path(STDIN):
        with read_stdin(options, find, is_plain=is_plain, remedy=remedy) as given:
            yield given
    else:
        yield read_path(path, options, find)


def options_for(p: Params, path: Path | None, asked: ReadingArguments) -> Options:
    """How the input is read: as the command line says, else as params.yaml says of the set in which it lies.

    Args:
        p: all params.
        path: of a file or a folder; None for standard input or a text.
        asked: what the command line says.

    Raises:
        DataError: data.reading is wrong.
    """
    way = reading_at(path, readings_of_sets(p, asked)) if path is not None else None
    # The remedy for an encoding that does not fit is the option, whoever has said it.
    return replace(way.options if way else asked.over(Options()), param="")


def read_path(path: Path, options: Options, find: Callable[[FilePlan, Path], ReadContent], *, shown: str = "") -> Input:
    """The rows of a file or a folder.

    Args:
        path: of the file or the folder.
        options: how it is read.
        find: finds out what is asked in the rows of one file; raises DataError where the columns do not say it.
        shown: what the path is called in messages, where that is not its own name.

    Raises:
        DataError: a file cannot be read, or its columns are not understood; all problems of all files.
    """
    plans = readers.plan(path, options)
    problems = [plan.refusal for plan in plans if plan.refusal]
    readers_of: dict[str, ReadContent] = {}
    for plan in plans:
        if plan.refusal or not plan.portions:
            continue
        try:
            readers_of[plan.name] = find(plan, path) if plan.first_rows else _unknown_columns
        except DataError as error:
            problems += error.problems
    if not problems and not readers_of:
        problems.append(f"{shown or path}: holds no rows; give a file with one row per text")
    if problems:
        raise DataError(*(problem.replace(str(path), shown) if shown else problem for problem in problems))
    columns = dict.fromkeys(name for plan in plans for name in _columns(plan))

    def rows() -> Iterator[InputRow]:
        for plan in plans:
            for portion in plan.portions:
                for row in readers.rows(portion):
                    yield _input_row(plan.name, row, readers_of[plan.name])

    return Input(
        tuple(columns),
        has_sources=True,
        rows=rows,
        files=len(plans),
        bytes=sum(plan.bytes for plan in plans),
        notes=tuple(f"{choose.file_path(path, plan)}: {warning}" for plan in plans for warning in plan.warnings),
        csv_note=_csv_note(plans),
    )


def _csv_note(plans: Sequence[FilePlan]) -> str:
    portions = [portion for plan in plans for portion in plan.portions if portion.delimiter]
    encodings_of_files = dict.fromkeys(portion.encoding for portion in portions if portion.encoding != "utf-8")
    signs = dict.fromkeys(portion.delimiter for portion in portions if portion.delimiter != ",")
    said = [f"{sign!r} between columns" for sign in signs] + list(encodings_of_files)
    return f"the CSV that is written has commas and is UTF-8 (the input: {', '.join(said)})" if said else ""


@contextmanager
def read_stdin(
    options: Options, find: Callable[[FilePlan, Path], ReadContent], *, is_plain: bool, remedy: str
) -> Iterator[Input]:
    """The rows of standard input, read by content as a file is; it is kept in a temporary file while the block runs.

    Args:
        options: how it is read.
        find: as for `read_path`.
        is_plain: whether it is plain text, whatever its first lines look like.
        remedy: what to give instead where there is none.

    Raises:
        DataError: it is closed, empty or cannot be read.
    """
    with files.temporary_folder() as folder:
        path = folder / ("stdin.txt" if is_plain else "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(_stdin(remedy), file, _SPOOL)
        if not path.stat().st_size:
            raise DataError(f"standard input is empty; {remedy}")
        yield read_path(path, options, find, shown="standard input")


def text_of_stdin(encoding: str, remedy: str) -> str:
    """All of standard input as one text, without the line end behind it.

    Args:
        encoding: by Python's name.
        remedy: what to give instead where there is none.

    Raises:
        DataError: it is closed, empty or in another encoding.
    """
    encodings.check_codec(encoding)
    data = _stdin(remedy).read()
    if not data.strip():
        raise DataError(f"standard input is empty; {remedy}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input is not {encoding}: byte {error.start:,} is 0x{data[error.start]:02x}; name its encoding "
            "with --encoding"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


def _stdin(remedy: str) -> Any:
    if sys.stdin is None:
        raise DataError(f"standard input is closed; {remedy}")
    if sys.stdin.isatty():
        print("reading from the terminal; end with Ctrl-D", file=sys.stderr, flush=True)
    return sys.stdin.buffer


def _unknown_columns(row: Row) -> Content:
    raise RowError("shape", "no row at the beginning of this file could be read, so its columns are not known")


def _columns(plan: FilePlan) -> Iterator[str]:
    yield from plan.columns
    for row in plan.first_rows:
        yield from row.values


def _input_row(name: str, row: Row | Rejected, ask: ReadContent) -> InputRow:
    if isinstance(row, Rejected):
        return InputRow(f"{row.source}:{row.line}", {}, "", f"{row.reason}: {row.detail}")
    source = f"{name}:{row.line}"
    try:
        return InputRow(source, row.values, ask(row))
    except RowError as error:
        return InputRow(source, row.values, "", f"{error.reason}: {error.detail}")


def text_finder(columns: Mapping[str, str], trained: Mapping[str, str]) -> Callable[[FilePlan, Path], ReadContent]:
    """What finds the text in a row, for models that give labels or numbers.

    Args:
        columns: field -> column, from the command line; only `text` is known.
        trained: the same of the rows that the model was trained on.

    Raises:
        DataError: another field is named.
    """
    _check_fields(columns, ("text",))

    def find(plan: FilePlan, path: Path) -> ReadContent:
        place, view = choose.file_path(path, plan), View(plan)
        if plan.format in ("text", "document"):
            column = "text"
        elif "text" in columns:
            column = _existing(view, place, columns["text"])
        else:
            usual = trained.get("text")
            column = usual if usual in plan.columns else view.usual(*recognise.LABELLED)
            if column is None and len(plan.columns) == 1:
                column = plan.columns[0]
            if column is None:
                raise DataError(_which(view, place, "text"))
        is_path = column not in plan.columns and "." in column
        return _Text(Paths((tuple(column.split(".")),)) if is_path else Columns((column,)))

    return find


@dataclass(frozen=True)
class _Text:
    """The text of a row, cleaned."""

    convert: Convert

    def __call__(self, row: Row) -> Content:
        """The text; raises RowError where there is none."""
        [text] = self.convert(row.values)
        return _not_blank(cleaning.clean(text))


def _not_blank(text: str) -> str:
    if not text or text.isspace():
        raise RowError("empty", "nothing is left of the text without its control characters")
    return text


def prompt_finder(
    columns: Mapping[str, str], trained: Mapping[str, str], *, chats: bool
) -> Callable[[FilePlan, Path], ReadContent]:
    """What finds the prompt or the conversation in a row, for models that write text.

    A row may hold an answer or not: the model is not shown it. Of a conversation it is shown all before the assistant's
    last turn, or all where the user speaks last.

    Args:
        columns: field -> column, from the command line: prompt, messages, tools or text.
        trained: the same of the rows that the model was trained on.
        chats: whether the model was trained on conversations.

    Raises:
        DataError: another field is named.
    """
    _check_fields(columns, ("prompt", "messages", "tools", "text"))

    def find(plan: FilePlan, path: Path) -> ReadContent:
        place, view = choose.file_path(path, plan), View(plan)
        wanted: tuple[RecordType, ...] = ("messages", "prompt-completion") if chats else ("prompt-completion",)
        asked = columns.get("prompt") or columns.get("text")
        if "messages" in columns:
            fields = {name: columns[name] for name in ("messages", "tools") if name in columns}
            shape = choose.shape_of(plan, path=path, columns=fields)
        elif plan.format in ("text", "document"):
            return _Text(Columns(("text",)))
        elif asked:
            shape = _shape_of_prompts(plan, path, _existing(view, place, asked), wanted)
        else:
            usual = trained.get("prompt") or trained.get("messages") or trained.get("text")
            shape = _recognised(plan, path, usual if usual in plan.columns else None, wanted)
            if shape is None and not chats and _holds_conversations(view):
                raise DataError(_conversations(place))
            if shape is None:
                column = view.usual(*recognise.TEXTS) or (plan.columns[0] if len(plan.columns) == 1 else None)
                if column is None:
                    raise DataError(_which(view, place, "prompt"))
                return _Text(Columns((column,)))
        if shape.form.record_type == "messages" and not chats:
            raise DataError(_conversations(place))
        return _Prompt(shape)

    return find


def _holds_conversations(view: View) -> bool:
    return any(isinstance(reading.convert, Messages) for reading in recognise.chat_readings(view))


def _conversations(place: str) -> str:
    return (
        f"{place}: holds conversations, and this version was trained on plain prompts; name a column of plain text "
        "with --column prompt=COLUMN"
    )


def _recognised(plan: FilePlan, path: Path, usual: str | None, wanted: tuple[RecordType, ...]) -> Shape | None:
    """The shape by which the pipeline reads such rows, with or without an answer; None where it knows none."""
    view = View(plan)
    if usual is not None:
        return _shape_of_prompts(plan, path, usual, wanted)
    names = [("instruction", "output"), *PAIRS] if "messages" in wanted else [*PAIRS, ("instruction", "output")]
    answers = [(answer,) for asked, answer in names if view.usual(asked) and not view.usual(answer)]
    for added in ((), *answers):
        try:
            return choose.shape_of(_with_answer(plan, *added), path=path, record_types=wanted)
        except DataError:
            continue
    return None


def _shape_of_prompts(plan: FilePlan, path: Path, column: str, wanted: tuple[RecordType, ...]) -> Shape:
    """The shape of rows whose prompt, as text or as a conversation, is in a column."""
    view = View(plan)
    answer = next(name for name in _answer_names() if name not in plan.columns)
    with_answer = _with_answer(plan, answer)
    if column in plan.columns and view.mostly(column, _is_conversation):
        return choose.shape_of(plan, path=path, columns={"messages": column})
    return choose.shape_of(
        with_answer, path=path, columns={"prompt": column, "completion": answer}, record_types=wanted
    )


def _answer_names() -> Iterator[str]:
    number = 0
    while True:
        yield f"answer {number}"
        number += 1


def _is_conversation(value: Any) -> bool:
    try:
        return isinstance(value, list | dict | str) and bool(value) and bool(messages_of("", value))
    except RowError:
        return False


def _with_answer(plan: FilePlan, *answers: str) -> FilePlan:
    if not answers:
        return plan
    rows = tuple(row._replace(values=row.values | dict.fromkeys(answers, _ANSWER)) for row in plan.first_rows)
    return replace(plan, columns=(*plan.columns, *answers), first_rows=rows)


@dataclass(frozen=True)
class _Prompt:
    """The prompt or the conversation of a row, cleaned."""

    shape: Shape

    def __call__(self, row: Row) -> Content:
        """What the model is shown; raises RowError where the row does not fit."""
        shape = self.shape
        values = _answered(shape.convert, row.values)
        record = shape.record(row._replace(values=values))
        if isinstance(record, Rejected):
            raise RowError(record.reason, record.detail)
        fields = field_texts.map_texts(shape.form, record.values, cleaning.clean)
        if shape.form.record_type == "messages":
            return {"messages": fields[0], "tools": fields[1]}
        return _not_blank(fields[0])


def _answered(convert: Convert, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a row with some answer, as the pipeline's reading of it needs one; no model is shown it."""
    match convert:
        case Messages():
            column = convert.columns[-1]
            messages = messages_of(column, values.get(column))
            if messages[-1]["role"] != "assistant":
                messages = [*messages, {"role": "assistant", "content": _ANSWER}]
            return values | {column: messages}
        case Calls():
            return values | {convert.calls: [{"name": _ANSWER, "arguments": {}}]}
        case Alpaca():
            return values | {convert.output: _ANSWER}
        case Question():
            return values | {convert.answer: _ANSWER}
        case Poem():
            return values | {convert.lines: _ANSWER}
        case Columns():
            return values | {convert.columns[-1]: _ANSWER}
        case Paths():
            column, *rest = convert.paths[-1]
            outer = values.get(column)
            return values | {column: {**outer, rest[0]: _ANSWER} if rest and isinstance(outer, dict) else _ANSWER}
    raise AssertionError(convert)


def _check_fields(columns: Mapping[str, str], known: Sequence[str]) -> None:
    wrong = [field for field in columns if field not in known]
    if wrong:
        raise DataError(f"--column {wrong[0]}={columns[wrong[0]]}: the field must be {' or '.join(known)}")


def _existing(view: View, place: str, column: str) -> str:
    if column in view.columns or any(column in row for row in view.rows) or _leads_somewhere(view, column):
        return column
    close = difflib.get_close_matches(column, view.columns, n=1)
    hint = f"did you mean {close[0]}?" if close else f"columns found: {recognise.columns_found(view)}"
    raise DataError(f"{place}: has no column {column!r}, which --column names; {hint}")


def _leads_somewhere(view: View, name: str) -> bool:
    column, dot, _ = name.partition(".")
    return bool(dot) and column in view.columns and view.mostly(column, lambda value: isinstance(value, dict))


def _which(view: View, place: str, field: str) -> str:
    example = " ".join(["--column", shlex.quote(f"{field}={view.columns[0] if view.columns else '…'}")])
    return (
        f"{place}: columns found: {recognise.describe_types(view)}; say which of them holds the {field}, as in "
        f"{example}"
    )


def as_json(value: Any) -> str:
    """A value as JSON text; what JSON has no form for as text."""
    return orjson.dumps(value, default=str).decode()


def windows(rows: Iterable[InputRow], most: int) -> Iterator[list[InputRow]]:
    """The rows in their order, so many at once as memory holds.

    Args:
        rows: all of them.
        most: rows at once.
    """
    window: list[InputRow] = []
    characters = 0
    for row in rows:
        window.append(row)
        characters += sum(map(len, row.content.values())) if isinstance(row.content, dict) else len(row.content)
        if len(window) >= most or characters >= _CHARACTERS_AT_ONCE:
            yield window
            window, characters = [], 0
    if window:
        yield window
