"""Show the first batches of a training as the model sees them: every token, and whether it is supervised.

The batches are those of the trainer: the same examples, packing and collation. Secrets are masked, whatever
`data.secrets` does with them in the data.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE
from tuneline.data.secrets import screening
from tuneline.encoding import packing
from tuneline.encoding.examples import IGNORED, Preference, lengths
from tuneline.errors import DataError
from tuneline.finetuning import mixture, tasks
from tuneline.params import Params
from tuneline.terminal import shortened, visible
from tuneline.training import objectives

_STYLE = (Path(__file__).parent / "preview.css").read_text("utf-8")
_SUPERVISED, _FAINT, _PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"
# The longest source and label of a document that is shown.
_LONGEST_NAME = 300

_OF_LABELS = "each document is trained on its label or number as a whole; no single token is supervised"
_LEGEND = '<p class="legend"><mark>supervised</mark> <span>not supervised</span></p>'

HIDDEN = -1
"""Replaces the id of a token that is part of a secret."""


class Token(NamedTuple):
    """One token of a document."""

    id: int
    """HIDDEN if the token is part of a secret."""
    text: str
    """The token decoded alone: a replacement character if it holds part of a character."""
    is_supervised: bool


class Run(NamedTuple):
    """The text of neighbouring tokens that are all supervised, or all not."""

    text: str
    is_supervised: bool


@dataclass(frozen=True)
class Document:
    """One document, or one side of a preference, in a row."""

    source: str
    """File and line in the raw set."""
    note: str
    """Its label or number, or which answer of a preference it is."""
    tokens: list[Token]
    runs: list[Run]
    learns_label: bool = False
    """Whether the whole document is trained on the label or number in `note`, so that no token is supervised."""

    @property
    def supervised(self) -> int:
        """Number of supervised tokens."""
        return sum(token.is_supervised for token in self.tokens)

    @property
    def counts(self) -> str:
        """The number of tokens, and what is trained on."""
        return f"{len(self.tokens)} tokens, {self.note if self.learns_label else f'{self.supervised} supervised'}"


@dataclass(frozen=True)
class Row:
    """One row of a batch."""

    batch: int
    """Number of the batch, from 1."""
    number: int
    """Number of the row in its batch, from 1."""
    documents: list[Document]
    padding: int
    """Number of padding tokens."""

    def describe(self) -> str:
        """A line that says what the row holds."""
        tokens = sum(len(document.tokens) for document in self.documents)
        supervised = sum(document.supervised for document in self.documents)
        documents = f"{len(self.documents)} documents" if len(self.documents) > 1 else "1 document"
        trained = f"{supervised} supervised"
        if all(document.learns_label for document in self.documents):
            trained = ", ".join(document.note for document in self.documents)
        counts = f"{tokens} tokens, {visible(shortened(trained, _LONGEST_NAME))}, {self.padding} padding"
        return f"batch {self.batch}, row {self.number}: {documents}, {counts}"


@dataclass(frozen=True)
class Preview:
    """The first rows, and the counts of all rows."""

    title: str
    cut: list[str]
    """Messages about rows that are cut, or why `finetune` refuses them."""
    rows: list[Row]
    account: dict[str, Any]


def first_rows(p: Params, rows: int) -> Preview:
    """The first rows that `finetune` would train on.

    Args:
        p: the params.
        rows: number of rows.

    Raises:
        DataError: the clean data do not exist yet.
        TunelineError: `finetune` would refuse the data or the params. (Rows that are cut do not raise.)
    """
    clean, base = Path(p.paths.clean), Path(p.paths.base)
    if not (clean / DATASET_FILE).is_file():
        raise DataError(f"{clean}: does not hold clean data yet; run `make run`, or `dvc repro prepare base`, first")
    ready = tasks.prepare(p.task, clean, base, p.finetune, others=mixture.find_sources(p))
    config, make_objective = tasks.config_of(p.task, p.finetune), tasks.TASKS[p.task].objective
    objective = make_objective(ready, p.finetune, None) if make_objective else None
    planned = packing.plan(
        lengths(ready.examples) if objective else ready.examples.lengths.tolist(),  # pyright: ignore[reportAttributeAccessIssue]
        width=config.max_length,
        batch_size=config.per_device_train_batch_size,
        epochs=config.num_train_epochs,
        seed=config.seed,
        packed=bool(objective and objective.packed),
        # Whole batches, because the padding of a row depends on the other rows of its batch.
        limit=min(config.max_rows, rows + config.per_device_train_batch_size),
        of_epoch=ready.mixture.of_epoch if ready.mixture else None,
    )
    made: list[Row] = []
    for number, start in enumerate(range(0, len(planned), config.per_device_train_batch_size), 1):
        if len(made) >= rows:
            break
        batch = planned[start : start + config.per_device_train_batch_size]
        documents = [[ready.examples[place] for place in row] for row in batch]
        made += _rows(number, documents, objective, ready)
    packed = "packed rows" if objective and objective.packed else "one document per row"
    title = f"{p.paths.clean}/train as {p.paths.base} sees it: {p.task}, mode {ready.mode}, {packed}"
    refused = [f"finetune will stop: {problem}" for problem in tasks.refusals(ready, p)]
    if not p.finetune.num_train_epochs:
        refused = [tasks.UNTRAINED]
    told = [*tasks.describe_truncated(ready, p.finetune), *tasks.describe_regularisation(ready, p.finetune)]
    cut = refused or told
    return Preview(title, cut, made[:rows], ready.report.as_dict())


def _rows(
    batch: int, rows: list[list[Any]], objective: objectives.Objective | None, ready: tasks.Ready
) -> Iterator[Row]:
    tokenizer = ready.tokenizer
    if objective is None:
        for number, [pair] in enumerate(rows, 1):
            yield Row(batch, number, _sides(tokenizer, pair), 0)
        return
    made = {name: value.tolist() for name, value in objective.collate(rows).items()}
    for number, (row, ids) in enumerate(zip(rows, made["input_ids"], strict=True), 1):
        used = sum(len(example.input_ids) for example in row)
        if "position_ids" not in made:
            note = _target(made["targets"][number - 1], ready.model.config)
            document = _document(tokenizer, row[0].source, note, ids[:used], [False] * used)
            documents = [replace(document, learns_label=True)]
        else:
            # The target of a position is the next token.
            targets = [IGNORED, *made["targets"][number - 1]]
            positions = made["position_ids"][number - 1]
            starts = [place for place in range(used) if positions[place] == 0]
            documents = [
                _document(
                    tokenizer,
                    example.source,
                    "",
                    ids[start:stop],
                    [targets[place] != IGNORED for place in range(start, stop)],
                )
                for example, (start, stop) in zip(row, itertools.pairwise([*starts, used]), strict=True)
            ]
        yield Row(batch, number, documents, len(ids) - used)


def _sides(tokenizer: PreTrainedTokenizerBase, pair: Preference) -> list[Document]:
    """The prompt with the chosen answer, and with the rejected answer."""
    return [
        _document(
            tokenizer,
            pair.source,
            note,
            pair.prompt_ids + answer,
            [False] * len(pair.prompt_ids) + [True] * len(answer),
        )
        for note, answer in (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids))
    ]


def _target(target: Any, config: Any) -> str:
    if config.problem_type == "regression":
        return f"number {target:g}"
    chosen = [number for number, holds in enumerate(target) if holds] if isinstance(target, list) else [int(target)]
    return f"label {', '.join(config.id2label[number] for number in chosen)}"


def _document(
    tokenizer: PreTrainedTokenizerBase, source: str, note: str, ids: Sequence[int], supervised: Sequence[bool]
) -> Document:
    tokens = [
        Token(token, _text(tokenizer, [token]), is_supervised)
        for token, is_supervised in zip(ids, supervised, strict=True)
    ]
    runs: list[Run] = []
    done, before = 0, ""
    for is_supervised, group in itertools.groupby(supervised):
        start, done = done, done + len(list(group))
        # With some tokenizers, a run that is decoded alone loses its leading space.
        together = _text(tokenizer, ids[:done])
        runs.append(
            Run(
                together[len(before) :] if together.startswith(before) else _text(tokenizer, ids[start:done]),
                is_supervised,
            )
        )
        before = together
    found = screening.find_spans("".join(run.text for run in runs))
    if found:
        tokens, runs = _without(found, tokenizer, tokens), list(_masked(found, runs))
    return Document(source, note, tokens, runs)


def _masked(found: Sequence[screening.Span], runs: Sequence[Run]) -> Iterator[Run]:
    """The runs with a mark in the place of each secret."""
    start = 0
    for run in runs:
        parts, done, stop = [], start, start + len(run.text)
        for span in found:
            if span.start < stop and span.stop > start:
                parts.append(run.text[done - start : max(span.start - start, 0)])
                parts.append(screening.mark(span.kind) if span.start >= start else "")
                done = min(span.stop, stop)
        yield Run("".join([*parts, run.text[done - start :]]), run.is_supervised)
        start = stop


def _without(
    found: Sequence[screening.Span], tokenizer: PreTrainedTokenizerBase, tokens: Sequence[Token]
) -> list[Token]:
    """The tokens, without the text and id of those that are part of a secret."""
    ids = [token.id for token in tokens]
    ends = [len(_text(tokenizer, ids[:count])) for count in range(len(ids) + 1)]
    return [
        Token(HIDDEN, "▒", token.is_supervised)
        if any(span.start < stop and span.stop > start for span in found)
        else token
        for token, (start, stop) in zip(tokens, itertools.pairwise(ends), strict=True)
    ]


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def lines(preview: Preview, *, coloured: bool) -> Iterator[str]:
    """The rows as lines for a terminal.

    Args:
        preview: the rows.
        coloured: print supervised tokens in green and all others faint. Else supervised tokens are between ⟦ and ⟧.

    Yields:
        Lines without control characters, except for these colours.
    """
    yield visible(preview.title)
    yield from map(visible, preview.cut)
    marks = (
        f"{_SUPERVISED}supervised{_PLAIN} {_FAINT}not supervised{_PLAIN}" if coloured else "⟦supervised⟧ not supervised"
    )
    marks = _OF_LABELS if _learns_labels(preview) else marks
    yield f"{marks}; {', '.join(f'{name} {value}' for name, value in preview.account.items() if value)}"
    for row in preview.rows:
        yield ""
        yield f"── {row.describe()} " + "─" * 8
        for document in row.documents:
            named = shortened(_named(document), _LONGEST_NAME)
            yield f"┌ {visible(named)} · {visible(shortened(document.counts, _LONGEST_NAME))}"
            text = "".join(_marked(run, coloured) for run in document.runs)
            yield from (f"│ {line}" for line in text.split("\n"))
            yield "└"


def _learns_labels(preview: Preview) -> bool:
    return any(document.learns_label for row in preview.rows for document in row.documents)


def _named(document: Document) -> str:
    """The source and the note. A label is named beside the number of tokens."""
    parts = (document.source, "" if document.learns_label else document.note)
    return " · ".join(part for part in parts if part)


def _marked(run: Run, coloured: bool) -> str:
    text = visible(run.text)
    if not coloured:
        return f"⟦{text}⟧" if run.is_supervised else text
    # Each line alone, so that the border keeps its colour.
    colour = _SUPERVISED if run.is_supervised else _FAINT
    return "\n".join(f"{colour}{line}{_PLAIN}" for line in text.split("\n"))


def write_page(preview: Preview, path: Path) -> None:
    """Write the rows as one HTML page that loads nothing."""
    account = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(visible(_joined(value)))}</dd>"
        for name, value in preview.account.items()
    )
    rows = "".join(
        f"<section><h2>{escape(row.describe())}</h2>{''.join(map(_page_document, row.documents))}</section>"
        for row in preview.rows
    )
    files.write_text(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Preview</title><style>{_STYLE}</style></head><body><main><h1>What the model is trained on</h1>"
        f'<p class="lead">{escape(visible(preview.title))}</p>'
        f"{''.join(f'<p>{escape(visible(line))}</p>' for line in preview.cut)}"
        f"{f'<p>{_OF_LABELS}</p>' if _learns_labels(preview) else _LEGEND}"
        f"<dl>{account}</dl>{rows}</main></body></html>\n",
    )


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _page_document(document: Document) -> str:
    text = "".join(
        f"<mark>{escape(visible(run.text))}</mark>"
        if run.is_supervised
        else f"<span>{escape(visible(run.text))}</span>"
        for run in document.runs
    )
    named = _named(document)
    table = "".join(
        f"<tr{' class=supervised' if token.is_supervised else ''}><td>{place}</td>"
        f"<td>{'' if token.id == HIDDEN else token.id}</td>"
        f"<td><code>{escape(visible(token.text).replace(chr(10), chr(0x23CE)))}</code></td>"
        f"<td>{'supervised' if token.is_supervised else ''}</td></tr>"
        for place, token in enumerate(document.tokens)
    )
    return (
        f'<article><h3>{escape(visible(named))}</h3><p class="text">{text}</p>'
        f"<details><summary>{escape(visible(document.counts))}</summary>"
        f"<table><thead><tr><th>position</th><th>id</th><th>token</th><th>mask</th></tr></thead>"
        f"<tbody>{table}</tbody></table></details></article>"
    )
