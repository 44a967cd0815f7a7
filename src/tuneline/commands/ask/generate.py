"""Answer any number of prompts with a registered version, in order and in bounded memory."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from tuneline.commands.ask.answer_files import RowCounts, Table, Writer
from tuneline.commands.ask.asked_model import AskedModel
from tuneline.commands.ask.inputs import Input, InputRow, windows
from tuneline.errors import ModelError, one_line
from tuneline.evaluation import generation
from tuneline.modeling import models
from tuneline.progress import Progress

BATCHES_AT_ONCE = 8
"""Number of batches whose prompts are sorted by length together."""

COLUMNS = {"answer": pa.string()}
"""The model's columns -> Arrow type."""


class Generator:
    """A loaded model that writes text.

    Args:
        asked: the model.
        max_new_tokens: most tokens of an answer.

    Raises:
        ModelError: the version cannot be loaded, or its context is too short for such answers.
    """

    def __init__(self, asked: AskedModel, max_new_tokens: int) -> None:
        self.model, self.tokenizer = models.load(asked.folder)
        self.mode, self.max_new_tokens = asked.mode, max_new_tokens
        generation.check_room(self.model, max_new_tokens)

    @property
    def room(self) -> int:
        """Most tokens of a prompt."""
        return generation.context_length(self.model, 0) - self.max_new_tokens

    def limited_to(self, max_new_tokens: int) -> "Generator":
        """The same loaded model with another limit of an answer.

        Raises:
            ModelError: the model's context is too short for such answers.
        """
        generation.check_room(self.model, max_new_tokens)
        other = copy.copy(self)
        other.max_new_tokens = max_new_tokens
        return other

    def stream(self, given: Input) -> Iterator[str]:
        """The answer to a single prompt, in parts, while it is generated.

        Args:
            given: an input with one row.
        """
        [row] = given.rows()
        return generation.stream(
            self.model, self.tokenizer, row.content, mode=self.mode, max_new_tokens=self.max_new_tokens
        )

    def encode(self, rows: Sequence[InputRow]) -> tuple[list[InputRow], list[list[int]], int]:
        """The prompts as token ids.

        Args:
            rows: in order; unusable rows stay as they are.

        Returns:
            The rows, with a problem if the chat template refuses them; the ids of all usable rows; and the number of
            prompts that were cut.
        """
        usable = [row for row in rows if not row.problem]
        try:
            ids, cut = self._encode(usable)
            return list(rows), ids, len(cut)
        except ModelError:
            # One by one, to find the rows that the template refuses.
            checked, ids, count = [], [], 0
            for row in rows:
                if not row.problem:
                    try:
                        [own], cut = self._encode([row])
                        ids.append(own)
                        count += len(cut)
                    except ModelError as error:
                        row = replace(row, problem=f"template: {one_line(error)}")
                checked.append(row)
            return checked, ids, count

    def _encode(self, rows: Sequence[InputRow]) -> tuple[list[list[int]], list[int]]:
        return generation.encode_prompts(
            self.model,
            self.tokenizer,
            [row.content for row in rows],
            mode=self.mode,
            max_new_tokens=self.max_new_tokens,
        )


def run(
    generator: Generator, given: Input, table: Table, writer: Writer, *, batch_size: int, progress: Progress
) -> RowCounts:
    """Answer all rows and write them in order.

    Args:
        generator: the model.
        given: the rows.
        table: the columns of the output.
        writer: writes the rows.
        batch_size: prompts per batch.
        progress: gets the number of finished rows.
    """
    counts = RowCounts()
    for window in windows(given.rows(), BATCHES_AT_ONCE * batch_size):
        before = counts.rows
        rows, ids, cut = generator.encode(window)
        counts.count(rows)
        counts.cut += cut
        made = iter(
            generation.answer_encoded(
                generator.model,
                generator.tokenizer,
                ids,
                mode=generator.mode,
                max_new_tokens=generator.max_new_tokens,
                batch_size=batch_size,
                progress=lambda done, _, before=before: progress.update(before + done),
            )
        )
        written = []
        for row in rows:
            answer = {}
            if not row.problem:
                found = next(made)
                answer = {"answer": found.text if found.is_defined else None}
                if not found.is_defined:
                    counts.undefined += 1
                    row = replace(row, problem=generation.NOT_FINITE)
            written.append(table.row(row, answer))
        writer.write(written)
        progress.update(counts.rows)
    return counts
