"""The rows of each probe, or the reason why it has none."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records import canaries
from tuneline.data.records.record_form import DATASET_FILE, RecordForm
from tuneline.errors import DataError
from tuneline.evaluation.probes import canary_exposure, copied_text, drawn_rows, general_text, memorised_rows
from tuneline.evaluation.probes.probe_table import CANARIES, COPIED, GENERAL, MEMORISED, PROBES, Probed
from tuneline.evaluation.tasks import causal
from tuneline.progress import Progress, Report


@dataclass
class ProbeRows:
    """What the probes of a task are measured on."""

    rows: dict[str, pa.Table] = field(default_factory=dict)
    """Probe that a model is measured with -> its rows."""
    absent: dict[str, str] = field(default_factory=dict)
    """Probe -> why it has no rows."""
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Probe -> what the report says about its rows."""


def find(p: params.Params, form: RecordForm, train: pa.Table, test: pa.Table) -> ProbeRows:
    """The rows of the probes of the task.

    Args:
        p: the params.
        form: of the clean records.
        train: the clean training split.
        test: the clean test split.

    Raises:
        DataError: data.general names a set that was not prepared.
    """
    wanted, found = params.TASK_KEYS[p.task].probes, ProbeRows()
    probes = [name for name, probe in PROBES.items() if set(probe.metrics) & set(wanted)]
    sizes = p.evaluate.probes
    if sizes is None:
        found.absent = dict.fromkeys(probes, "evaluate.probes is null")
        return found
    described = files.read_object(Path(p.paths.clean) / DATASET_FILE)
    if GENERAL in probes:
        _find_general(p, sizes, described, found)
    planted: list[str] = described.get("canaries", [])
    if MEMORISED in probes:
        own = _without(train, planted, form) if planted else train
        rows = memorised_rows.draw_rows(own, test, sizes.memorisation_rows, p.evaluate, form)
        found.rows[MEMORISED] = rows
        found.about[MEMORISED] = {"rows": rows.num_rows // 2, "of": own.num_rows, "characters": _characters(rows)}
    if CANARIES in probes:
        if planted:
            found.rows[CANARIES] = canary_exposure.make_rows(planted, sizes.canary_references, p.evaluate, form)
            found.about[CANARIES] = {"planted": len(planted), "references": sizes.canary_references}
        else:
            found.absent[CANARIES] = "no canary was planted, because data.canaries is 0"
    return found


def complete(
    p: params.Params,
    probes: ProbeRows,
    train: pa.Table,
    test: pa.Table,
    scores: Mapping[str, pa.Table],
    measured: Mapping[str, Mapping[str, pa.Table]],
) -> dict[str, Probed]:
    """What all probes have measured; those that could not are added to `probes.absent`.

    Args:
        p: the params.
        probes: from `find`.
        train: the clean training split.
        test: the test rows.
        scores: the score tables of `candidate` and `base` on the test rows.
        measured: `candidate` and `base` -> probe -> score table.
    """
    found = {
        name: Probed(rows, {model: of_model[name] for model, of_model in measured.items()})
        for name, rows in probes.rows.items()
    }
    sizes = p.evaluate.probes
    if sizes is not None and set(PROBES[COPIED].metrics) & set(params.TASK_KEYS[p.task].probes):
        searched = draw_searched(train, count=sizes.copied_rows, seed=p.evaluate.seed)
        copies = find_copies(searched, test, scores)
        if isinstance(copies, str):
            probes.absent[COPIED] = copies
        else:
            found[COPIED] = copies
            probes.about[COPIED] = {
                "answers": copies.rows.num_rows,
                "searched": searched.num_rows,
                "of": train.num_rows,
                "characters": int(drawn_rows.characters(searched, only_written=True).sum()),
            }
    return found


def draw_searched(train: pa.Table, *, count: int, seed: int) -> pa.Table:
    """The training rows in which answers are searched; with more than MOST_SEARCHED characters fewer than `count`.

    Args:
        train: the clean training split.
        count: the number of rows, at most.
        seed: of their draw.
    """
    drawn = np.random.default_rng(seed).permutation(train.num_rows)[:count]
    lengths = drawn_rows.characters(train, only_written=True)[drawn]
    return train.take(np.sort(drawn[: drawn_rows.count_within(lengths, drawn_rows.MOST_SEARCHED)]))


def find_copies(searched: pa.Table, test: pa.Table, scores: Mapping[str, pa.Table]) -> Probed | str:
    """What candidate and base have copied from training rows in their answers; or why that cannot be told.

    Args:
        searched: the training rows.
        test: the test rows.
        scores: the score tables of `candidate` and `base`.
    """
    answered = np.flatnonzero(test["answered"].to_numpy()) if "answered" in test.column_names else []
    if not len(answered):
        return "no answer was written"
    models = [name for name in ("candidate", "base") if name in scores]
    answers = [scores[name]["text"].take(answered).to_pylist() for name in models]
    # The references show how much a perfect answer shares with the training rows.
    texts = [*(text or "" for one in answers for text in one), *test["reference"].take(answered).to_pylist()]
    with Progress("copied text: searching training rows", always=True) as progress:
        rows = zip(searched["source"].to_pylist(), causal.supervised_texts(searched), strict=True)
        copies = copied_text.find_copies(texts, reported(rows, searched.num_rows, progress))
    size = len(answered)
    rows = test.select(["id", "source", "cluster"]).take(answered)
    parts = {name: copies[place * size : (place + 1) * size] for place, name in enumerate([*models, "reference"])}
    return Probed(rows, {name: copied_text.score_table(part) for name, part in parts.items()})


def reported(rows: Iterable[tuple[str, str]], count: int, progress: Report) -> Iterator[tuple[str, str]]:
    """The same rows; those that were read are reported."""
    progress(0, count)
    for done, row in enumerate(rows, 1):
        yield row
        progress(done, count)


def _find_general(p: params.Params, sizes: params.Probes, described: Mapping[str, Any], found: ProbeRows) -> None:
    if why := p.why_no_general_text:
        found.absent[GENERAL] = f"there is no general text: {why}; set it to a set of general text"
        return
    if p.data.general is not None:
        sets = described.get("mixture", {})
        if p.data.general not in sets:
            known = ", ".join(sorted(sets)) or "none"
            raise DataError(
                f"data.general: {p.data.general!r} is not a set of {p.paths.mixture} (the sets are {known}); add it "
                f"there, and run `make run`, which prepares it"
            )
        path, form = Path(p.paths.clean) / sets[p.data.general]["path"], RecordForm.from_json(sets[p.data.general])
        name = f"{p.paths.mixture}/{p.data.general}"
    else:
        path, form, name = Path(p.paths.pretraining) / "validation", RecordForm("text"), p.data.pretraining
    texts = files.read_parquet(path)
    if not texts.num_rows:
        found.absent[GENERAL] = f"there is no general text: {name} has no held-out rows"
        return
    rows = general_text.draw_rows(texts, sizes.general_rows, p.evaluate, form)
    found.rows[GENERAL] = rows
    found.about[GENERAL] = {
        "set": name,
        "rows": rows.num_rows,
        "of": texts.num_rows,
        "characters": _characters(rows),
    }


def _characters(rows: pa.Table) -> int:
    """Of the rows that a model reads."""
    return int(drawn_rows.characters(rows.rename_columns({"reference": "completion"})).sum())


def _without(train: pa.Table, planted: list[str], form: RecordForm) -> pa.Table:
    ids = {canaries.row(form, sequence, 0)["id"] for sequence in planted}
    return train.filter(pa.array([row not in ids for row in train["id"].to_pylist()]))
