"""The probes: what is measured on other rows than the test rows, one row per probe, and reports/probes.parquet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from tuneline.evaluation import comparison
from tuneline.evaluation.comparison import Statistics
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.probes import canary_exposure, copied_text, general_text, harness, memorised_rows
from tuneline.evaluation.score_table import ModelToScore, join, split_columns
from tuneline.params import Evaluate
from tuneline.params.gate import is_of_harness

if TYPE_CHECKING:
    from tuneline.evaluation.generation import LoadedModel

GENERAL, MEMORISED, CANARIES, COPIED = "general", "memorised", "canaries", "copied"
"""The names of the probes."""


class MeasureRows(Protocol):
    """Measures a model on the rows of a probe."""

    def __call__(self, model: "LoadedModel", rows: pa.Table, evaluate: Evaluate, name: str) -> pa.Table:
        """The score table of the model.

        Args:
            model: in memory.
            rows: of the probe.
            evaluate: the section of params.
            name: what the lines of progress call the model.
        """
        ...


@dataclass(frozen=True)
class Probe:
    """One probe."""

    metrics: tuple[str, ...]
    statistics: Statistics
    measure: MeasureRows | None = None
    """None: it is measured on what the models have written to the test rows."""


PROBES = {
    GENERAL: Probe(("general_bits_per_byte",), general_text.statistics, general_text.measure),
    MEMORISED: Probe(
        ("extraction_strength", "extraction_strength_gap", "exact_memorization", "exact_memorization_gap"),
        memorised_rows.statistics,
        memorised_rows.measure,
    ),
    CANARIES: Probe(("canary_exposure",), canary_exposure.statistics, canary_exposure.measure),
    COPIED: Probe(("copied_share",), copied_text.statistics),
}


def probe_of(name: str) -> Probe:
    """The probe of this name, which may be `harness:TASK`."""
    if is_of_harness(name):
        return Probe((name,), lambda _, scores: harness.statistics(name, scores))
    return PROBES[name]


@dataclass(frozen=True)
class Probed:
    """What a probe has measured."""

    rows: pa.Table
    scores: dict[str, pa.Table]
    """`candidate` and, where it can be measured, `base` -> score table."""


def measure(model: ModelToScore, rows: Mapping[str, pa.Table], evaluate: Evaluate) -> dict[str, pa.Table]:
    """Measure a model, which is loaded once, with some probes.

    Args:
        model: a causal language model.
        rows: probe -> its rows.
        evaluate: the section of params.

    Returns:
        Probe -> the model's score table.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    if not rows:
        return {}
    from tuneline.evaluation import generation

    loaded = generation.load(model)
    found = {}
    for name, of_probe in rows.items():
        run = probe_of(name).measure
        assert run is not None
        found[name] = run(loaded, of_probe, evaluate, model.name)
    return found


def summarise(probed: Mapping[str, Probed], model: str) -> dict[str, float]:
    """The metrics of one model, `candidate` or `base`."""
    found: dict[str, float] = {}
    for name, one in probed.items():
        if model in one.scores:
            found |= comparison.summarise_by(probe_of(name).statistics, one.rows, one.scores[model])
    return found


def compare(probed: Mapping[str, Probed], absent: Mapping[str, str], other: str | None, evaluate: Evaluate) -> Measures:
    """How the candidate differs in the metrics of all probes.

    Args:
        probed: probe -> what it has measured.
        absent: probe -> why it has measured nothing.
        other: the model that the candidate is compared with; None: the candidate's own metrics.
        evaluate: seed and number of resamples.

    Returns:
        Metric -> its interval, or the reason why it has none.
    """
    measures: dict[str, Interval | str] = {}
    for name, reason in absent.items():
        measures |= dict.fromkeys(probe_of(name).metrics, reason)
    for name, one in probed.items():
        probe = probe_of(name)
        theirs = None if other is None else one.scores[other]
        measures |= comparison.compare_by(
            probe.statistics, probe.metrics, one.rows, one.scores["candidate"], theirs, evaluate
        )
    return measures


def to_table(probed: Mapping[str, Probed]) -> pa.Table:
    """The table of probes.parquet: the rows of all probes with their scores; `probe` names the probe."""
    tables: list[pa.Table] = []
    for name, one in probed.items():
        table = join(one.rows, one.scores)
        tables.append(table.append_column("probe", pa.array([name] * table.num_rows, pa.string())))
    return pa.concat_tables([pa.table({"probe": pa.array([], pa.string())}), *tables], promote_options="default")


def from_table(table: pa.Table) -> dict[str, Probed]:
    """What `to_table` was made from."""
    found = {}
    names = table["probe"].to_pylist()
    for name in dict.fromkeys(names):
        own = table.filter(pa.array([one == name for one in names])).drop_columns(["probe"])
        filled: Sequence[str] = [column for column in own.column_names if own[column].null_count < own.num_rows]
        rows, scores = split_columns(own.select(filled))
        found[name] = Probed(rows, scores)
    return found
