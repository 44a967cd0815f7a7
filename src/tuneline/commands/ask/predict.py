"""Predict labels or numbers of any number of texts with a registered version, in order and in bounded memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline.commands.ask.answer_files import RowCounts, Table, Writer
from tuneline.commands.ask.asked_model import AskedModel
from tuneline.commands.ask.inputs import Input, windows
from tuneline.encoding.examples import REGRESSION
from tuneline.errors import ModelError
from tuneline.evaluation import generation, predictions
from tuneline.evaluation.predictions import EVEN
from tuneline.modeling import models
from tuneline.progress import Progress

ROWS_AT_ONCE = 1_024
"""Number of rows that are sorted by length together before they are divided into batches."""
_DIGITS = 6

_LABELS = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))


class Predictor:
    """A loaded classification or regression model.

    Args:
        asked: the model.
        top_k: how many labels with probabilities are written in addition to the answer. None: none; 0: all.
        threshold: with several labels per text, labels above this probability are given. None: 0.5.

    Raises:
        ModelError: the version cannot be loaded, or its task has no threshold or no labels.
    """

    def __init__(self, asked: AskedModel, *, top_k: int | None = None, threshold: float | None = None) -> None:
        self._model, self._tokenizer = models.load_classifier(asked.folder)
        self._is_number = asked.mode == REGRESSION
        self._names, self.several = ([], False) if self._is_number else predictions.label_names(self._model.config)
        self._top_k = len(self._names) if top_k == 0 else top_k
        self._threshold = EVEN if threshold is None else threshold
        if threshold is not None and not self.several:
            raise ModelError(f"--threshold: {asked.name} does not give several labels to a text")
        if top_k is not None and self._is_number:
            raise ModelError(f"--top-k, --all-labels: {asked.name} gives numbers, not labels")
        self.max_length = min(asked.max_length, generation.context_length(self._model, asked.max_length))

    def describe(self) -> str:
        """What the model gives, in words."""
        if self._is_number:
            return "a number"
        return f"any of {len(self._names)} labels" if self.several else f"one of {len(self._names)} labels"

    def columns(self) -> dict[str, pa.DataType]:
        """The model's columns -> Arrow type."""
        if self._is_number:
            return {"number": pa.float64()}
        label, probability = pa.string(), pa.float64()
        made = {"label": label, "probability": probability}
        if self.several:
            made = {"label": pa.list_(label), "probability": pa.list_(probability)}
        return made if self._top_k is None else made | {"labels": _LABELS}

    def predict(self, texts: Sequence[str], batch_size: int) -> tuple[list[dict[str, Any] | None], int]:
        """The model's columns of each text.

        Args:
            texts: cleaned texts.
            batch_size: texts per batch.

        Returns:
            The values of `columns` of each text, or None where the model's output is not a finite number; and the
            number of texts whose end was cut.
        """
        encoded, cut = predictions.encode(self._tokenizer, texts, self.max_length)
        found = predictions.outputs(
            self._model, encoded, pad=models.pad_token_id(self._tokenizer), batch_size=batch_size
        )
        made: list[dict[str, Any] | None] = [None] * len(texts)
        defined = np.flatnonzero(np.isfinite(found).all(axis=1)).tolist()
        rows = found[defined]
        values = rows if self._is_number else predictions.probabilities(rows, several=self.several)
        for place, row in zip(defined, values.tolist(), strict=True):
            made[place] = {"number": _rounded(row[0])} if self._is_number else self._columns_of(row)
        return made, len(cut)

    def _columns_of(self, probabilities: list[float]) -> dict[str, Any]:
        # The most probable label first; of equal ones, the first label.
        order = sorted(range(len(probabilities)), key=lambda index: (-probabilities[index], index))
        if self.several:
            given = [index for index in order if probabilities[index] > self._threshold]
            made: dict[str, Any] = {
                "label": [self._names[index] for index in given],
                "probability": [_rounded(probabilities[index]) for index in given],
            }
        else:
            made = {"label": self._names[order[0]], "probability": _rounded(probabilities[order[0]])}
        if self._top_k is not None:
            made["labels"] = [
                {"label": self._names[index], "probability": _rounded(probabilities[index])}
                for index in order[: self._top_k]
            ]
        return made


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)


def run(
    predictor: Predictor, given: Input, table: Table, writer: Writer, *, batch_size: int, progress: Progress
) -> RowCounts:
    """Predict all rows and write them in order.

    Args:
        predictor: the model.
        given: the rows.
        table: the columns of the output.
        writer: writes the rows.
        batch_size: texts per batch.
        progress: gets the number of finished rows.
    """
    counts = RowCounts()
    for window in windows(given.rows(), ROWS_AT_ONCE):
        counts.count(window)
        usable = [row for row in window if not row.problem]
        made, cut = predictor.predict([str(row.content) for row in usable], batch_size)
        counts.cut += cut
        answers, rows = iter(made), []
        for row in window:
            answer = {} if row.problem else next(answers)
            if answer is None:
                counts.undefined += 1
                row, answer = replace(row, problem=generation.NOT_FINITE), dict.fromkeys(predictor.columns())
            rows.append(table.row(row, answer))
        writer.write(rows)
        progress.update(counts.rows)
    return counts
