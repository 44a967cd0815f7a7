"""The probes of the last evaluation, measured of registered versions as far as rules ask for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.decisions import kept_scores
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.probes import probe_table
from tuneline.evaluation.probes.probe_table import CANARIES, COPIED, MEMORISED, PROBES, Probed
from tuneline.params.gate import is_of_harness
from tuneline.registry import versions

Found: TypeAlias = Mapping[str, Probed | str]
"""Probe -> what it has measured, or why it has measured nothing."""

_CHAMPION = "champion"
_NOT_MEASURED = "the last evaluation has not measured it; run: make run"
# The column that says on which rows a model was trained, and what these rows are called.
_TRAINED = {MEMORISED: ("trained", "sampled training rows"), CANARIES: ("planted", "canaries")}


@dataclass(frozen=True)
class Version:
    """A registered version that is measured."""

    folder: Path
    sha256: str
    """Of the folder."""
    trained: pa.Table
    """The ids and clusters of the rows that it was fine-tuned on."""


def read(table: Path, about: Path) -> Found:
    """What the probes have measured of the candidate and its base.

    Args:
        table: probes.parquet.
        about: probes.json.
    """
    return {
        **probe_table.from_table(files.read_parquet(table)),
        **files.read_object(about, "absent")["absent"],
    }


def versus_champion(p: params.Params, found: Found, champion: Version | None) -> Measures:
    """How a model differs from the champion in the metrics that a rule versus the champion names.

    Args:
        p: the params.
        found: what the probes have measured of the model.
        champion: the champion; None: it is the model itself.

    Raises:
        ModelError: the champion cannot be scored.
    """
    measures: dict[str, Interval | str] = {}
    for name in _named(p, _CHAMPION):
        one = found.get(name, _NOT_MEASURED)
        if isinstance(one, str):
            measures |= probe_table.compare({}, {name: one}, _CHAMPION, p.evaluate)
            continue
        theirs = one.scores["candidate"]
        if champion is not None:
            theirs = kept_scores.score(p, champion.folder, champion.sha256, one.rows, None, probe=name)
            kept = _unseen(one.rows, champion.trained)
            one = Probed(one.rows.take(kept), {"candidate": one.scores["candidate"].take(kept)})
            theirs = theirs.take(kept)
        both = Probed(one.rows, {**one.scores, _CHAMPION: theirs})
        measures |= probe_table.compare({name: both}, {}, _CHAMPION, p.evaluate)
    return measures


def of_version(p: params.Params, today: Found, version: Version) -> Found:
    """What the probes that rules name measure of a version that is not the model of the last evaluation.

    Args:
        p: the params.
        today: what they have measured of that model.
        version: the version.

    Returns:
        Probe -> its measures on the rows that are fit for this version.

    Raises:
        ModelError: the version cannot be scored.
    """
    found: dict[str, Probed | str] = {}
    for name in _named(p, "base", "value", _CHAMPION):
        one = today.get(name, _NOT_MEASURED)
        if isinstance(one, str):
            found[name] = one
        elif name == COPIED:
            found[name] = "only the stage evaluate searches the training rows, for the model that it measures"
        elif is_of_harness(name):
            found[name] = "only the stage evaluate runs lm-evaluation-harness, for the model that it measures"
        else:
            found[name] = _measured(p, one, version, name)
    return found


def compare(p: params.Params, found: Found) -> dict[str, Measures]:
    """`base` and `value` -> the measures of what `of_version` returns."""
    absent = {name: one for name, one in found.items() if isinstance(one, str)}
    probed = {name: one for name, one in found.items() if not isinstance(one, str)}
    return {
        name: probe_table.compare(probed, absent, other, p.evaluate)
        for name, other in (("base", "base"), ("value", None))
    }


def _measured(p: params.Params, today: Probed, version: Version, name: str) -> Probed | str:
    rows, unseen = today.rows, _unseen(today.rows, version.trained)
    kept = unseen
    if name in _TRAINED:
        column, what = _TRAINED[name]
        flags, trained = rows[column].to_pylist(), set(version.trained["id"].to_pylist())
        own = [place for place, row in enumerate(rows["id"].to_pylist()) if flags[place] and row in trained]
        if not own:
            return f"the version was not trained on any of today's {what}"
        kept = np.array(sorted([*own, *(place for place in unseen.tolist() if not flags[place])]))
    candidate = kept_scores.score(p, version.folder, version.sha256, rows, None, probe=name)
    scores = {model: table.take(kept) for model, table in {**today.scores, "candidate": candidate}.items()}
    return Probed(rows.take(kept), scores)


def _unseen(rows: pa.Table, trained: pa.Table) -> np.ndarray:
    return versions.unseen_rows(trained, rows["id"].to_pylist(), rows["cluster"].to_pylist())


def _named(p: params.Params, *versus: str) -> list[str]:
    """The probes whose metrics the rules name."""
    names = {rule.metric for rule in p.rules if rule.versus in versus}
    probes = [name for name, probe in PROBES.items() if names & set(probe.metrics)]
    return [*probes, *sorted(name for name in names if is_of_harness(name))]
