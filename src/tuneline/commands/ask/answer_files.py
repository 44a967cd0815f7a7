"""Write answers as CSV, JSON lines or Parquet to a file or to standard output, and count unusable rows."""

import csv
import io
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tuneline.commands.ask.inputs import Input, InputRow, as_json
from tuneline.core import files
from tuneline.errors import DataError, SetupError
from tuneline.terminal import unguarded, visible

Format = Literal["csv", "jsonl", "parquet"]

_SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_SOURCE, _ERROR = "source", "error"
_OF_INPUT = "input_"
_NAMED = 5


class Writer(Protocol):
    """Writes rows in order."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows, each as column -> value."""
        ...


class Table:
    """The columns of the output: those of the input, then the model's, then `error`.

    A column of the input whose name the output needs is renamed to `input_NAME`.

    Args:
        given: the input rows.
        model_columns: the model's columns -> Arrow type.
    """

    def __init__(self, given: Input, model_columns: Mapping[str, pa.DataType]) -> None:
        text = pa.string()
        before = {_SOURCE: text} if given.has_sources else {}
        behind = {**model_columns, _ERROR: text} if given.has_sources else dict(model_columns)
        self._has_sources = given.has_sources
        self._taken = {*before, *behind}
        self._names: dict[str, str] = {}
        self.columns = before | {self._name(name): text for name in given.columns} | behind
        """Name -> Arrow type. Columns of the input are text; other values become JSON."""
        self._first = set(given.columns)
        self.unknown: Counter[str] = Counter()
        """Column that the first rows do not have -> number of rows that have it. Only JSON lines can hold it."""

    def _name(self, name: str) -> str:
        """The name of an input column in the output."""
        if name not in self._names:
            free = name
            while free in self._taken:
                free = f"{_OF_INPUT}{free}"
            self._taken.add(free)
            self._names[name] = free
        return self._names[name]

    def row(self, row: InputRow, answer: Mapping[str, Any]) -> dict[str, Any]:
        """One row of the output.

        Args:
            row: the input row.
            answer: the model's columns; empty if the row cannot be used.
        """
        self.unknown.update(row.values.keys() - self._first)
        found: dict[str, Any] = {_SOURCE: row.source} if self._has_sources else {}
        found |= {self._name(name): value for name, value in row.values.items()}
        found |= answer
        if row.problem:
            found[_ERROR] = row.problem
        return found


@dataclass
class RowCounts:
    """How many rows were used, unusable and cut."""

    rows: int = 0
    unusable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Code of the reason -> unusable rows."""
    first: list[str] = field(default_factory=list)
    undefined: int = 0
    """Number of rows for which the model's output is not a finite number."""
    cut: int = 0
    """Number of texts that were too long for the model."""

    def count(self, rows: Sequence[InputRow]) -> None:
        """Count rows, and unusable rows by reason."""
        self.rows += len(rows)
        for row in rows:
            if row.problem:
                self.unusable += 1
                self.reasons[row.problem.partition(":")[0]] += 1
                if len(self.first) < _NAMED:
                    self.first.append(f"{row.source}: {row.problem}")

    def lines(self, table: Table, form: Format, seen: str) -> Iterator[str]:
        """Warnings about the rows.

        Args:
            table: the columns of the output.
            form: the format of the output.
            seen: the limit of a text, and what the model did not see, in words.
        """
        if self.unusable:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.most_common())
            yield f"warning: {self.unusable:,} of {self.rows:,} rows cannot be used ({counts}); the first:"
            yield from (f"  {line}" for line in self.first)
        if self.undefined:
            yield (
                f"warning: {self.undefined:,} of {self.rows:,} rows have no answer, because the model's output is not "
                "a finite number; ask another version"
            )
        if self.cut:
            yield f"warning: {self.cut:,} of {self.rows:,} texts are longer than {seen}"
        if form != "jsonl":
            for name, count in table.unknown.items():
                yield (
                    f"warning: {count:,} rows have a column {name!r} that the first rows do not have; it is left out, "
                    "because only JSON lines can hold it"
                )

    def check(self) -> None:
        """Raise DataError if the input had no row, or no usable row."""
        if not self.rows:
            raise DataError("the input has no rows; give at least one")
        if self.unusable == self.rows:
            rows = "the only row cannot" if self.rows == 1 else f"none of the {self.rows:,} rows can"
            raise DataError(f"{rows} be used; correct the input, or name another column with --column")


class _Jsonl:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.write(b"".join(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE) for row in rows))


class _Csv:
    def __init__(self, file: Any, columns: Sequence[str]) -> None:
        self._file, self._columns = file, columns
        self._write([columns])

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._write([[_cell(row.get(name)) for name in self._columns] for row in rows])

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else as_json(value)


class _Parquet:
    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        schema = self._writer.schema
        columns = [pa.array([_typed(row.get(field.name), field.type) for row in rows], field.type) for field in schema]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _typed(value: Any, kind: pa.DataType) -> Any:
    return as_json(value) if value is not None and kind == pa.string() and not isinstance(value, str) else value


class _Screen:
    """Standard output as a file of bytes. Control characters are escaped on a terminal."""

    def write(self, data: bytes) -> None:
        if sys.stdout.isatty():
            show(data.decode())
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def show(text: str) -> None:
    """Write text to standard output at once. Control characters are escaped on a terminal."""
    screen = unguarded(sys.stdout)
    screen.write(visible(text) if screen.isatty() else text)
    screen.flush()


def format_of(output: Path | None, chosen: str | None) -> Format:
    """The output format, checked before anything is computed.

    Args:
        output: the file. None: standard output.
        chosen: the format from the command line. None: by the file's suffix; CSV on standard output.

    Raises:
        SetupError: the format is unknown, the file cannot be written, or Parquet would go to a terminal.
    """
    if output is not None:
        _check(output)
    form = next((name for name in get_args(Format) if name == chosen), None)
    if form is None and output is not None:
        form = _SUFFIXES.get(output.suffix.lower())
        if form is None:
            raise SetupError(
                f"--output {output}: its suffix is not one of {', '.join(_SUFFIXES)}; use one of them, or give --format"
            )
    if output is None and sys.stdout is None:
        raise SetupError("standard output is closed; give --output FILE")
    if output is None and form == "parquet" and sys.stdout.isatty():
        raise SetupError("--format parquet: cannot be printed; give --output FILE.parquet")
    return form or "csv"


def _check(output: Path) -> None:
    target = _target(output)
    if output.is_dir():
        raise SetupError(f"--output {output}: is a folder; name a file in it")
    if output.exists() and not output.is_file():
        raise SetupError(f"--output {output}: is not a regular file; leave out --output to write to standard output")
    if not target.parent.is_dir():
        folder = target.parent if output.is_symlink() else output.parent
        raise SetupError(f"--output {output}: the folder {folder} does not exist; create it first")
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=".writable"):
            pass
    except OSError as error:
        raise SetupError(
            f"--output {output}: cannot be written: {error.strerror}; name a file in a folder that you may write to"
        ) from None


def _target(output: Path) -> Path:
    """The file to write: the target of a link, so that the link stays."""
    return Path(os.path.realpath(output))


@contextmanager
def writing(output: Path | None, form: Format, table: Table) -> Iterator[Writer]:
    """A writer to a file, which appears when it is complete; or to standard output, row by row.

    Args:
        output: the file, or a link to it. None: standard output.
        form: the format.
        table: the columns.
    """
    if output is None:
        with _writer(_Screen(), form, table) as writer:
            yield writer
        return
    try:
        with (
            files.atomic_file(_target(output)) as temporary,
            temporary.open("wb") as file,
            _writer(file, form, table) as writer,
        ):
            yield writer
    except OSError as error:
        # The error of a write does not name the file.
        error.filename = error.filename or str(output)
        raise


@contextmanager
def _writer(file: Any, form: Format, table: Table) -> Iterator[Writer]:
    if form == "jsonl":
        yield _Jsonl(file)
    elif form == "csv":
        yield _Csv(file, list(table.columns))
    else:
        schema = pa.schema([pa.field(name, kind) for name, kind in table.columns.items()])
        # Writing Parquet needs seek(), which a pipe does not have.
        with tempfile.TemporaryFile() if isinstance(file, _Screen) else nullcontext(file) as seekable:
            with pq.ParquetWriter(seekable, schema, compression="zstd") as writer:
                yield _Parquet(writer)
            if isinstance(file, _Screen):
                seekable.seek(0)
                shutil.copyfileobj(seekable, file)
