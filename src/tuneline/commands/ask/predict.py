"""Labels or numbers of any number of texts by a registered version, in their order and in bounded memory."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tuneline.commands.ask.answer_files import RowCounts, Table, Writer
from tuneline.commands.ask.inputs import Input, windows
from tuneline.commands.ask.served_version import Served
from tuneline.encoding.examples import REGRESSION
from tuneline.errors import ModelError
from tuneline.evaluation import generation, predictions
from tuneline.evaluation.predictions import EVEN
from tuneline.modeling import models
from tuneline.progress import Progress

ROWS_AT_ONCE = 1_024
"""Rows that are sorted by their length before they are cut into batches."""
_DIGITS = 6

_LABELS = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))


class Predictor:
    """A classifier or a regression, loaded.

    Args:
        served: the version.
        top_k: how many labels are told with their probabilities beside the answer; None: none, 0: all.
        threshold: of several labels, the probability above which a text has one; None: even odds.

    Raises:
        ModelError: the version cannot be loaded, or has nothing to do with a threshold or with labels.
    """

    def __init__(self, served: Served, *, top_k: int | None = None, threshold: float | None = None) -> None:
        self._model, self._tokenizer = models.load_classifier(served.folder)
        self._is_number = served.mode == REGRESSION
        self._names, self.several = ([], False) if self._is_number else predictions.label_names(self._model.config)
        self._top_k = len(self._names) if top_k == 0 else top_k
        self._threshold = EVEN if threshold is None else threshold
        if threshold is not None and not self.several:
            raise ModelError(f"--threshold: {served.name} does not give several labels to a text")
        if top_k is not None and self._is_number:
            raise ModelError(f"--top-k, --all-labels: {served.name} gives numbers and no labels")
        self.max_length = min(served.max_length, generation.context_length(self._model, served.max_length))

    def describe(self) -> str:
        """What it gives, in words."""
        if self._is_number:
            return "a number"
        return f"any of {len(self._names)} labels" if self.several else f"one of {len(self._names)} labels"

    def columns(self) -> dict[str, pa.DataType]:
        """What it says of a text -> its Arrow type."""
        if self._is_number:
            return {"number": pa.float64()}
        label, probability = pa.string(), pa.float64()
        made = {"label": label, "probability": probability}
        if self.several:
            made = {"label": pa.list_(label), "probability": pa.list_(probability)}
        return made if self._top_k is None else made | {"labels": _LABELS}

    def predict(self, texts: Sequence[str], batch_size: int) -> tuple[list[dict[str, Any]], int]:
        """What the model says of each text.

        Args:
            texts: clean.
            batch_size: texts in a batch.

        Returns:
            Of each text the values of `columns`; and how many texts were too long, so that their end was not seen.
        """
        encoded, cut = predictions.encode(self._tokenizer, texts, self.max_length)
        found = predictions.outputs(
            self._model, encoded, pad=models.pad_token_id(self._tokenizer), batch_size=batch_size
        )
        if self._is_number:
            return [{"number": _rounded(value)} for value in found[:, 0].tolist()], len(cut)
        return [self._of(row) for row in predictions.probabilities(found, several=self.several).tolist()], len(cut)

    def _of(self, chances: list[float]) -> dict[str, Any]:
        # The likeliest first; of equals the first of the labels.
        order = sorted(range(len(chances)), key=lambda place: (-chances[place], place))
        if self.several:
            given = [place for place in order if chances[place] > self._threshold]
            made: dict[str, Any] = {
                "label": [self._names[place] for place in given],
                "probability": [_rounded(chances[place]) for place in given],
            }
        else:
            made = {"label": self._names[order[0]], "probability": _rounded(chances[order[0]])}
        if self._top_k is not None:
            made["labels"] = [
                {"label": self._names[place], "probability": _rounded(chances[place])} for place in order[: self._top_k]
            ]
        return made


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)


def run(
    predictor: Predictor, given: Input, table: Table, writer: Writer, *, batch_size: int, progress: Progress
) -> RowCounts:
    """Predict all rows and write them in their order.

    Args:
        predictor: the model.
        given: the rows.
        table: what is written.
        writer: where to.
        batch_size: texts in a batch.
        progress: told how many rows are done.

    Returns:
        What became of the rows.
    """
    account = RowCounts()
    for window in windows(given.rows(), ROWS_AT_ONCE):
        account.count(window)
        usable = [row for row in window if not row.problem]
        made, cut = predictor.predict([str(row.content) for row in usable], batch_size)
        account.cut += cut
        answers = iter(made)
        writer.write([table.row(row, {} if row.problem else next(answers)) for row in window])
        progress.update(account.rows)
    return account
