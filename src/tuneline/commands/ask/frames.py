"""Answer the rows of a data frame as `generate` and `predict` answer the rows of a file."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from tuneline.commands.ask import generate, inputs, predict
from tuneline.commands.ask.answer_files import RowCounts, Table
from tuneline.commands.ask.asked_model import AskedModel, OwnParams
from tuneline.commands.ask.inputs import Input
from tuneline.core import files
from tuneline.data.reading.raw_rows import Options
from tuneline.errors import DataError
from tuneline.progress import Progress
from tuneline.registry.mlmodel import ERROR, MAX_NEW_TOKENS, MESSAGES, TEXT, TOOLS, columns_of


class FrameModel:
    """A loaded model that answers frames.

    Args:
        asked: the model.
        own: its params.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(self, asked: AskedModel, own: OwnParams) -> None:
        self._asked, self._own = asked, own
        self._predictor = predict.Predictor(asked) if asked.predicts else None
        self._generator = None if asked.predicts else generate.Generator(asked, own.max_new_tokens)

    def answer(self, frame: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The answers to the rows of a frame.

        Args:
            frame: has one of the columns that `mlmodel.columns_of` names.
            params: `max_new_tokens`, for models that write text.

        Returns:
            The model's columns and `error`, with the index of the frame. A row that cannot be used has no answer, and
            the reason in `error`.

        Raises:
            DataError: the frame has no such column, several of them, no row, values that are not text, or no row that
                can be used.
            ModelError: the model's context is too short for max_new_tokens.
        """
        column = self._column(frame)
        with self._opened(frame, column) as given, _threads(self._own.threads):
            if self._predictor is not None:
                columns = self._predictor.columns()
                counts, rows = self._collect(predict.run, self._predictor, given, columns)
            else:
                assert self._generator is not None
                limit = int((params or {}).get(MAX_NEW_TOKENS) or self._own.max_new_tokens)
                columns = generate.COLUMNS
                counts, rows = self._collect(generate.run, self._generator.limited_to(limit), given, columns)
        if counts.unusable == counts.rows:
            which = "the only row of the frame" if counts.rows == 1 else f"none of the {counts.rows:,} rows"
            raise DataError(
                f"{which} can{'not' if counts.rows == 1 else ''} be used: {rows[0][ERROR]}; correct the column {column}"
            )
        types = {name: "float64" if kind == pa.float64() else "object" for name, kind in columns.items()}
        table = {
            name: pd.Series([row.get(name) for row in rows], dtype=kind)
            for name, kind in {**types, ERROR: "object"}.items()
        }
        return pd.DataFrame(table).set_index(frame.index)

    def _collect(self, run: Any, model: Any, given: Input, columns: Any) -> tuple[RowCounts, list[Mapping[str, Any]]]:
        writer = _Rows()
        counts = run(
            model,
            given,
            Table(given, columns),
            writer,
            batch_size=self._own.batch_size,
            progress=Progress("answers"),
        )
        return counts, writer.rows

    def _column(self, frame: pd.DataFrame) -> str:
        known = columns_of(self._asked.mode)
        if not isinstance(frame, pd.DataFrame):
            raise DataError(
                f"the input is a {type(frame).__name__}, not a data frame; give a DataFrame with the column {known[0]}"
            )
        found = [name for name in known if name in frame.columns]
        listed = f"{', '.join(known[:-1])} or {known[-1]}"
        if not found:
            others = ", ".join(map(str, frame.columns))
            has = f" (it has: {others})" if others else ""
            raise DataError(f"the input has no column {listed}{has}; name the column that is asked {known[0]}")
        if len(found) > 1:
            raise DataError(f"the input has the columns {' and '.join(found)}; keep only the one that is asked")
        if frame.empty:
            raise DataError("the input has no rows; give at least one")
        if frame.columns.duplicated().any():
            raise DataError(f"the input has the column {found[0]} more than once; keep one")
        return found[0]

    @contextmanager
    def _opened(self, frame: pd.DataFrame, column: str) -> Iterator[Input]:
        names = [column, *([TOOLS] if column == MESSAGES and TOOLS in frame.columns else [])]
        texts = {name: [_text(value, name, row) for row, value in enumerate(frame[name], 1)] for name in names}
        if self._asked.predicts:
            find = inputs.text_finder({TEXT: column}, {})
        else:
            fields = {name: name for name in names} if column == MESSAGES else {"prompt": column}
            find = inputs.prompt_finder(fields, {}, chats=self._asked.chats)
        # The readers of the commands read files, and every rule about rows is theirs.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame.parquet"
            try:
                table = pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()})
            except UnicodeEncodeError as error:
                raise DataError(
                    f"the input has a text with the lone surrogate {error.object[error.start]!a}, which is not "
                    "Unicode text; decode the text again"
                ) from None
            files.write_parquet(path, table)
            yield inputs.read_path(path, Options(), find, shown="the input")


class _Rows:
    """Collects the rows that are written."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += rows


def _text(value: Any, column: str, row: int) -> str | None:
    """A value of the frame as the text that a file would hold; conversations become JSON."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, list | tuple | dict | np.ndarray):
        try:
            return json.dumps(value, default=_plain, ensure_ascii=False)
        except (TypeError, ValueError):
            pass
    raise DataError(
        f"row {row} of the input: {column} is {type(value).__name__}, not text; convert the column to strings"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute on as many threads as the commands do, because their number changes bits; then as the caller did."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
