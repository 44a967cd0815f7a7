"""The rows that a user gives to `predict` or `generate`: a text, standard input, a file or a folder.

The pipeline's own readers read files, and texts are cleaned like the training texts. A row that cannot be used stays in
its place, with the reason.
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
from tuneline.data.mapping.chat.messages import parse_messages
from tuneline.data.mapping.convert import Columns, Convert, Paths, Poem, Question, RowError, Shape
from tuneline.data.mapping.raw_set import encodings_of
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
"""The path that means standard input."""

Content = str | dict[str, str]
"""The input of a model: a text or prompt, or a conversation with `messages` and `tools` as JSON."""

ReadContent = Callable[[Row], Content]
"""Returns the content of a row. Raises RowError if the row does not fit."""

_ANSWER = "."
"""Placeholder for the answer that a row of prompts need not have. No model sees it."""
_SPOOL = 1 << 20
_CHARACTERS_AT_ONCE = 8_000_000
_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".txt", ".gz", ".zst", ".zip", ".tar")


@dataclass(frozen=True)
class InputRow:
    """One row."""

    source: str
    """FILE:LINE. Empty for a text from the command line."""
    values: dict[str, Any]
    """Column -> value, as in the file."""
    content: Content
    problem: str = ""
    """Why the row cannot be used: a code and the detail. Empty if it can."""


@dataclass(frozen=True)
class Input:
    """All rows of one call of `predict` or `generate`."""

    columns: tuple[str, ...]
    """The columns of the first rows, in order of appearance."""
    has_sources: bool
    """Whether the rows come from a file or standard input."""
    rows: Callable[[], Iterator[InputRow]]
    files: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()
    csv_note: str = ""
    """How written CSV differs from the input, in words. Empty if it does not differ."""


def path_or_text(word: str) -> tuple[str | None, Path | None]:
    """A command-line argument as a text or a path: a path if a file or folder has this name, else a text.

    Returns:
        The text and the path; one of them is None. STDIN is a path.

    Raises:
        DataError: the argument looks like the name of a file that does not exist.
    """
    # Path("") would be the working directory.
    if word == STDIN or (word and _exists(Path(word))):
        return None, Path(word)
    if not any(map(str.isspace, word)) and PurePath(word).suffix.lower() in _SUFFIXES:
        raise DataError(f"{word}: no such file; to use this text itself, give --text {shlex.quote(word)}")
    return word, None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A text may be longer than the longest file name.
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
    """The rows of a text, of a path, or of standard input if neither is given.

    Args:
        text: from the command line.
        path: of a file or a folder, or STDIN.
        column: the column of a text from the command line in the output.
        options: how files and standard input are read.
        is_plain: read standard input as plain text, whatever its content looks like.
        find: see `read_path`.
        remedy: what to give if there is nothing to read.

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


def options_for(p: Params, path: Path | None, arguments: ReadingArguments) -> Options:
    """How the input is read: by the command line, else by params.yaml if `path` belongs to a set of the project.

    Args:
        p: all params.
        path: of a file or a folder. None for standard input or a text.
        arguments: the settings of the command line.

    Raises:
        DataError: data.reading is wrong.
    """
    way = reading_at(path, readings_of_sets(p, arguments)) if path is not None else None
    # For a wrong encoding, messages name the option --encoding instead of a param.
    return replace(way.options if way else arguments.over(Options(likely=encodings_of(p))), param="")


def read_path(path: Path, options: Options, find: Callable[[FilePlan, Path], ReadContent], *, shown: str = "") -> Input:
    """The rows of a file or a folder.

    Args:
        path: of the file or the folder.
        options: how it is read.
        find: returns the function that reads the content of a file's rows. Raises DataError if the columns do not
            show where the content is.
        shown: the name of the path in messages. Default: the path.

    Raises:
        DataError: a file cannot be read, or its columns are not known; all problems of all files.
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
        problems.append(f"{shown or path}: has no rows; give a file with one row per text")
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
    """The rows of standard input, whose format is detected as for a file. A temporary file holds it during the block.

    Args:
        options: how it is read.
        find: see `read_path`.
        is_plain: read it as plain text, whatever its content looks like.
        remedy: what to give if it is empty.

    Raises:
        DataError: standard input is closed or empty, or cannot be read.
    """
    with files.temporary_folder() as folder:
        path = folder / ("stdin.txt" if is_plain else "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(_stdin(remedy), file, _SPOOL)
        if not path.stat().st_size:
            raise DataError(f"standard input is empty; {remedy}")
        yield read_path(path, options, find, shown="standard input")


def text_of_stdin(encoding: str, remedy: str) -> str:
    """All of standard input as one text, without the final line break.

    Args:
        encoding: a Python name.
        remedy: what to give if it is empty.

    Raises:
        DataError: standard input is closed, empty or in another encoding.
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
    raise RowError("shape", "none of the first rows of this file could be read, so its columns are unknown")


def _columns(plan: FilePlan) -> Iterator[str]:
    yield from plan.columns
    for row in plan.first_rows:
        yield from row.values


def _input_row(name: str, row: Row | Rejected, read_content: ReadContent) -> InputRow:
    if isinstance(row, Rejected):
        return InputRow(f"{row.source}:{row.line}", {}, "", f"{row.reason}: {row.detail}")
    source = f"{name}:{row.line}"
    try:
        return InputRow(source, row.values, read_content(row))
    except RowError as error:
        return InputRow(source, row.values, "", f"{error.reason}: {error.detail}")


def text_finder(columns: Mapping[str, str], trained: Mapping[str, str]) -> Callable[[FilePlan, Path], ReadContent]:
    """A function for `read_path` that finds the text of a row, for models that give labels or numbers.

    Args:
        columns: field -> column, from the command line; the only field is `text`.
        trained: field -> column, of the rows that the model was trained on.

    Raises:
        DataError: `columns` has another field.
    """
    _check_fields(columns, ("text",))

    def find(plan: FilePlan, path: Path) -> ReadContent:
        file, view = choose.file_path(path, plan), View(plan)
        if plan.format in ("text", "document"):
            column = "text"
        elif "text" in columns:
            column = _existing(view, file, columns["text"])
        else:
            usual = trained.get("text")
            column = usual if usual in plan.columns else view.usual(*recognise.LABELLED)
            if column is None and len(plan.columns) == 1:
                column = plan.columns[0]
            if column is None:
                raise DataError(_which(view, file, "text"))
        is_path = column not in plan.columns and "." in column
        return _Text(Paths((tuple(column.split(".")),)) if is_path else Columns((column,)))

    return find


@dataclass(frozen=True)
class _Text:
    """Reads the text of a row, and cleans it."""

    convert: Convert

    def __call__(self, row: Row) -> Content:
        """The text of the row. Raises RowError if it has none."""
        [text] = self.convert(row.values)
        return _not_blank(cleaning.clean(text))


def _not_blank(text: str) -> str:
    if not text or text.isspace():
        raise RowError("empty", "nothing is left of the text without its control characters")
    return text


def prompt_finder(
    columns: Mapping[str, str], trained: Mapping[str, str], *, chats: bool
) -> Callable[[FilePlan, Path], ReadContent]:
    """A function for `read_path` that finds the prompt or conversation of a row, for models that write text.

    The model does not see an answer that a row holds. It sees a conversation up to the assistant's last turn, or all of
    it if the user speaks last.

    Args:
        columns: field -> column, from the command line: prompt, messages, tools or text.
        trained: field -> column, of the rows that the model was trained on.
        chats: whether the model was trained on conversations.

    Raises:
        DataError: `columns` has another field.
    """
    _check_fields(columns, ("prompt", "messages", "tools", "text"))

    def find(plan: FilePlan, path: Path) -> ReadContent:
        file, view = choose.file_path(path, plan), View(plan)
        wanted: tuple[RecordType, ...] = ("messages", "prompt-completion") if chats else ("prompt-completion",)
        named = columns.get("prompt") or columns.get("text")
        if "messages" in columns:
            fields = {name: columns[name] for name in ("messages", "tools") if name in columns}
            shape = choose.shape_of(plan, path=path, columns=fields)
        elif plan.format in ("text", "document"):
            return _Text(Columns(("text",)))
        elif named:
            shape = _shape_of_prompts(plan, path, _existing(view, file, named), wanted)
        else:
            usual = trained.get("prompt") or trained.get("messages") or trained.get("text")
            shape = _recognised(plan, path, usual if usual in plan.columns else None, wanted)
            if shape is None and not chats and _holds_conversations(view):
                raise DataError(_conversations(file))
            if shape is None:
                column = view.usual(*recognise.TEXTS) or (plan.columns[0] if len(plan.columns) == 1 else None)
                if column is None:
                    raise DataError(_which(view, file, "prompt"))
                return _Text(Columns((column,)))
        if shape.form.record_type == "messages" and not chats:
            raise DataError(_conversations(file))
        return _Prompt(shape)

    return find


def _holds_conversations(view: View) -> bool:
    return any(isinstance(match.convert, Messages) for match in recognise.chat_matches(view))


def _conversations(file: str) -> str:
    return (
        f"{file}: holds conversations, but this version was trained on plain prompts; name a column with plain "
        "text: --column prompt=COLUMN"
    )


def _recognised(plan: FilePlan, path: Path, usual: str | None, wanted: tuple[RecordType, ...]) -> Shape | None:
    """The shape as which the pipeline reads such rows, with or without an answer. None if it knows none."""
    view = View(plan)
    if usual is not None:
        return _shape_of_prompts(plan, path, usual, wanted)
    names = [("instruction", "output"), *PAIRS] if "messages" in wanted else [*PAIRS, ("instruction", "output")]
    answers = [(answer,) for prompt, answer in names if view.usual(prompt) and not view.usual(answer)]
    for added in ((), *answers):
        try:
            return choose.shape_of(_with_answer(plan, *added), path=path, record_types=wanted)
        except DataError:
            continue
    return None


def _shape_of_prompts(plan: FilePlan, path: Path, column: str, wanted: tuple[RecordType, ...]) -> Shape:
    """The shape of rows whose prompt (a text or a conversation) is in `column`."""
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
        return isinstance(value, list | dict | str) and bool(value) and bool(parse_messages("", value))
    except RowError:
        return False


def _with_answer(plan: FilePlan, *answers: str) -> FilePlan:
    if not answers:
        return plan
    rows = tuple(row._replace(values=row.values | dict.fromkeys(answers, _ANSWER)) for row in plan.first_rows)
    return replace(plan, columns=(*plan.columns, *answers), first_rows=rows)


@dataclass(frozen=True)
class _Prompt:
    """Reads the prompt or conversation of a row, and cleans it."""

    shape: Shape

    def __call__(self, row: Row) -> Content:
        """The content of the row. Raises RowError if the row does not fit."""
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
    """The values of a row with a placeholder for its answer, which the pipeline's reading needs."""
    match convert:
        case Messages():
            column = convert.columns[-1]
            messages = parse_messages(column, values.get(column))
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


def _existing(view: View, file: str, column: str) -> str:
    if column in view.columns or any(column in row for row in view.rows) or _leads_somewhere(view, column):
        return column
    close = difflib.get_close_matches(column, view.columns, n=1)
    hint = f"did you mean {close[0]}?" if close else f"columns found: {recognise.column_names(view)}"
    raise DataError(f"{file}: has no column {column!r}, which --column names; {hint}")


def _leads_somewhere(view: View, name: str) -> bool:
    column, dot, _ = name.partition(".")
    return bool(dot) and column in view.columns and view.mostly(column, lambda value: isinstance(value, dict))


def _which(view: View, file: str, field: str) -> str:
    # The first column is often a number or a date.
    likely = [*view.longest(view.columns, 1), "…"][0]
    example = f"--column {shlex.quote(f'{field}={likely}')}"
    return (
        f"{file}: columns found: {recognise.describe_columns(view)}; name the column that holds the {field}, for "
        f"example {example}"
    )


def as_json(value: Any) -> str:
    """A value as JSON. Values that JSON cannot hold become strings."""
    return orjson.dumps(value, default=str).decode()


def windows(rows: Iterable[InputRow], most: int) -> Iterator[list[InputRow]]:
    """The rows in order, in lists of at most `most` rows and a bounded number of characters."""
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
