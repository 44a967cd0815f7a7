"""Explain one output of a registered version, or the labels that it gives the test rows, on an HTML page."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tuneline import params
from tuneline.commands.ask.served_version import Served
from tuneline.core import files
from tuneline.data.preparing.text import cleaning
from tuneline.decisions import version_rows
from tuneline.errors import DataError, ModelError, PipelineError, RegistryError
from tuneline.explanation import explain, nearest_rows
from tuneline.explanation.explain import Explanation, Loaded, RowsExplanation
from tuneline.explanation.nearest_rows import Nearest
from tuneline.modeling import models
from tuneline.progress import Progress
from tuneline.reporting import explanation_page

# Of random orders, samples and draws: the same text gives the same page.
_SEED = 0
_SHORT = 60


def explain_text(
    p: params.Params,
    served: Served,
    text: str,
    *,
    label: str | None,
    answer: str | None,
    max_new_tokens: int | None,
    output: Path | None,
) -> list[str]:
    """Explain what a version gives one text, and write the page.

    Args:
        p: the params.
        served: the version.
        text: the prompt or text.
        label: the label that is explained; None: the most probable one.
        answer: the answer that is explained; None: the model's own.
        max_new_tokens: most tokens of its own answer; None: as in params.
        output: the page; None: a file in the folder of reports.

    Returns:
        Lines about the explanation; the last is the path of the page.

    Raises:
        DataError: the text is blank.
        ModelError: the version cannot be loaded, or its output for this text cannot be explained.
    """
    text = cleaning.clean(text)
    if not text.strip():
        raise DataError("the text is empty; give a TEXT or PROMPT")
    loaded = _load(p, served)
    with Progress(f"{served.name}: explain", unit="steps", to=sys.stderr) as progress:
        done = iter(range(1, 100))
        found = explain.explain(
            loaded,
            text,
            label=label,
            answer=answer,
            max_new_tokens=max_new_tokens or p.evaluate.max_new_tokens,
            seed=_SEED,
            progress=lambda _: progress.update(next(done)),
        )
    nearest = _nearest(p, served, loaded, text)
    key = hashlib.sha256(repr((text, found.label, answer, max_new_tokens)).encode()).hexdigest()[:8]
    page = output or _page_path(p, served, key)
    page.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(page, explanation_page.render(served.name, found, nearest, p.report.language))
    return [*_lines(found), str(page)]


def explain_test(p: params.Params, served: Served, *, rows: int, output: Path | None) -> list[str]:
    """Add up the attributions of each word over the test rows of a version, and write the page.

    Args:
        p: the params.
        served: the version; a classifier or a regression.
        rows: most test rows, drawn at random.
        output: as for `explain_text`.

    Returns:
        Lines about the explanation; the last is the path of the page.

    Raises:
        DataError: the test rows are in neither DVC's cache nor a remote.
        PipelineError: dvc.lock of the version, or the remote, cannot be read.
        ModelError: the version cannot be loaded, or its outputs cannot be explained.
    """
    if not served.predicts:
        raise ModelError(
            f"{served.name} writes text, and --test explains labels or numbers; use: tuneline explain"
            f"{served.arguments()} PROMPT"
        )
    try:
        tables = list(version_rows.read(served.folder, p.paths.clean, ("test",)))
    except DataError as error:
        raise DataError(
            *(f"{served.name}: its test rows cannot be read: {problem}" for problem in error.problems)
        ) from None
    texts = [text for table in tables for text in table["text"].to_pylist()]
    clusters = [cluster for table in tables for cluster in table["cluster"].to_pylist()]
    if not texts:
        raise DataError(f"{served.name}: its data have no test rows, so --test has nothing to explain")
    places = explain.sample(len(texts), rows, _SEED)
    loaded = _load(p, served)
    with Progress(f"{served.name}: explain", always=True, to=sys.stderr) as progress:
        found = explain.explain_rows(
            loaded,
            [texts[place] for place in places],
            [clusters[place] for place in places],
            resamples=p.evaluate.bootstrap_resamples,
            seed=_SEED,
            progress=progress,
        )
    page = output or _page_path(p, served, "test")
    page.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(page, explanation_page.render_rows(served.name, found, len(texts), p.report.language))
    return [*_rows_lines(found), str(page)]


def _load(p: params.Params, served: Served) -> Loaded:
    models.use_threads(p.compute.threads)
    return explain.load(served.folder, served.mode, served.max_length)


def _page_path(p: params.Params, served: Served, key: str) -> Path:
    return Path(p.paths.reports) / explanation_page.FOLDER / f"v{served.version}-{key}.html"


def _nearest(p: params.Params, served: Served, loaded: Loaded, text: str) -> Nearest | str:
    def tables(progress: Progress) -> Iterator[pa.Table]:
        done = 0
        for table in version_rows.seen_by(p.registry.model, served.folder, p.paths.clean):
            yield table
            done += table.num_rows
            progress.update(done)

    try:
        with Progress(f"{served.name}: training rows", to=sys.stderr) as progress:
            return nearest_rows.nearest(loaded.model, loaded.tokenizer, text, tables(progress), loaded.max_length)
    except (DataError, ModelError, PipelineError, RegistryError) as error:
        return "; ".join(error.problems)


def _lines(found: Explanation) -> Iterator[str]:
    """What the page says, in a few lines."""
    if found.kind == "answer":
        yield f"answer: {found.answer!r}" if len(found.answer) <= _SHORT else f"answer: {found.answer[:_SHORT]!r} …"
    elif found.kind == "label":
        yield f"label: {found.label}, probability {found.shown:.3f}"
    else:
        yield f"number: {found.shown:g}"
    gradients = found.gradients
    order = sorted(range(len(found.words)), key=lambda at: -abs(gradients.words[at]))[:5]
    yield "words: " + ", ".join(f"{found.words[at].strip()} {gradients.words[at]:+.3f}" for at in order)
    complete = "complete" if gradients.is_complete else "NOT complete, so do not trust single effects"
    yield (
        f"completeness: the effects sum up to {gradients.total:+.4f}, the outputs differ by "
        f"{gradients.difference:+.4f}, error {gradients.error:.1e} after {gradients.steps} steps: {complete}"
    )
    if found.deletion is None:
        yield "faithfulness: not measured, because the text has too few words"
        return
    for one in found.deletion.methods:
        yield (
            f"faithfulness of {one.method}: area {one.removal.area:.3f}, random orders "
            f"{found.deletion.random.area:.3f}, gain {one.gain:+.3f} ({one.low:+.3f} to {one.high:+.3f}): "
            f"{_said(one.state)}"
        )


def _said(state: str) -> str:
    return {"better": "better than random", "worse": "worse than random"}.get(state, "not better than random")


def _rows_lines(found: RowsExplanation) -> Iterator[str]:
    for one in found.labels:
        words = ", ".join(f"{word.word} {word.mean:+.2f} ({word.texts})" for word in one.raising[:5])
        yield f"{one.label or 'number'}, {one.texts:,} texts: {words or 'no word is in enough texts'}"
    yield (
        f"completeness: largest error {found.largest_error:.1e} over {found.texts:,} texts; {found.incomplete:,} are "
        "not complete"
    )
    for one in found.methods:
        gain = one.gain
        bounds = "too few groups for an interval" if gain.low is None else f"{gain.low:+.3f} to {gain.high:+.3f}"
        yield (
            f"faithfulness of {one.method}: area {one.removal.area:.3f}, random orders {found.random.area:.3f}, gain "
            f"{gain.difference:+.3f} ({bounds}): {_said(one.state)}"
        )
