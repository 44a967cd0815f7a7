"""Slices: the test rows that have the same value in a column, such as a language, and the metrics of each slice.

A column of slices is a column of the test rows whose name begins with `slice:`. It holds one text per row, or a list of
texts for a row that is in several slices at once.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from tuneline.data.records import field_texts, label_codec, scripts
from tuneline.data.records.record_form import DATASET_FILE, RecordForm
from tuneline.errors import DataError
from tuneline.evaluation import comparison, intervals, results
from tuneline.evaluation.intervals import FEWEST_GROUPS, Interval, Measures, Statistic
from tuneline.evaluation.score_table import SLICE
from tuneline.evaluation.task_table import TASKS
from tuneline.params import Evaluate, Task
from tuneline.params.gate import METRICS, METRICS_OF_TASK
from tuneline.params.slices import GAP, LABEL, LANGUAGE, LENGTH, SOURCE, split_gap

MOST_SLICES = 20
"""The values of a column that have a slice of their own: those with most rows. The rows of all others are one slice."""
_LONGEST_VALUE = 200
_MOST_FEW = 1_000
# Fixed, so that a band means the same next month.
_BANDS = (64, 256, 1_024, 4_096)
Scores = Mapping[str, pa.Table]
"""Model or baseline -> its score table."""


@dataclass(frozen=True)
class Slice:
    """The test rows with one value of a column, and how the candidate does on them."""

    value: str | None
    """Empty: these rows have no value. None: the rest, which is the rows of all values without a slice of their own."""
    rows: int
    groups: int
    """Independent groups; below `FEWEST_GROUPS` there is no interval."""
    metrics: Mapping[str, Mapping[str, float]]
    """Model -> its metrics."""
    versus: Mapping[str, Measures]
    """`base`, `baseline`, `value` or `champion` -> how the candidate differs."""


@dataclass(frozen=True)
class SlicedColumn:
    """The slices of one column, the largest first, and the rest last."""

    slices: tuple[Slice, ...]
    values: int
    """The different values of the test rows."""
    few: Mapping[str, tuple[int, int]]
    """Value without a slice of its own -> its rows and groups; at most 1,000 values, the largest first."""


Sliced = Mapping[str, SlicedColumn]
"""Column -> its slices."""


def add_columns(
    rows: pa.Table, split: pa.Table, columns: Sequence[str], form: RecordForm, kept: Mapping[str, str]
) -> pa.Table:
    """The test rows with a column for each column of slices.

    Args:
        rows: from `test_rows` of the task.
        split: the clean split that they come from.
        columns: `evaluate.slices`.
        form: of the records.
        kept: column that prepare has kept -> its name in the clean split.

    Raises:
        DataError: the clean split does not have a column.
    """
    computed = {LABEL, LANGUAGE, SOURCE, LENGTH}
    if lacking := [column for column in columns if column not in kept and column not in computed]:
        raise DataError(
            f"{DATASET_FILE}: prepare has not kept {', '.join(lacking)}, which evaluate.slices names; run `make run`, "
            "which prepares the data again"
        )
    for column in columns:
        values = split[kept[column]].to_pylist() if column in kept else _computed(column, split, form)
        is_list = any(isinstance(value, list) for value in values)
        rows = rows.append_column(SLICE + column, pa.array(values, pa.list_(pa.string()) if is_list else pa.string()))
    return rows


def _computed(column: str, split: pa.Table, form: RecordForm) -> list[Any]:
    if column == LABEL:
        labels = split["label"].to_pylist()
        return [list(label_codec.decode(one, multi_label=True)) for one in labels] if form.multi_label else labels
    if column == SOURCE:
        # The file of `file:line`.
        return [source.rpartition(":")[0] for source in split["source"].to_pylist()]
    fields = zip(*(split[name].to_pylist() for name in form.fields), strict=True)
    texts = [field_texts.texts(form, row) for row in fields]
    if column == LANGUAGE:
        # What the model must write is measured, not what it is asked.
        measured = {"prompt-completion": 1, "preference": 1}.get(form.record_type, 0)
        return [scripts.language(row[measured]) for row in texts]
    assert column == LENGTH, column
    read = 1 if form.labelled else 2
    return [length_band(sum(map(len, row[:read]))) for row in texts]


def length_band(characters: int) -> str:
    """The band of a row's length: `0-63`, `64-255`, `256-1023`, `1024-4095` or `4096+` characters."""
    for first, end in zip((0, *_BANDS), _BANDS, strict=False):
        if characters < end:
            return f"{first}-{end - 1}"
    return f"{_BANDS[-1]}+"


Compare = Callable[[pa.Table, Scores], Mapping[str, Measures]]
"""Rows and score tables of a slice -> name of another model -> how the candidate differs from it on them."""


def measure(rows: pa.Table, task: Task, scores: Scores, compare: Compare) -> dict[str, SlicedColumn]:
    """The metrics and intervals of every slice of every column of slices.

    A slice of its own has the `MOST_SLICES` values with most rows, as far as they have enough independent groups for an
    interval. The intervals are those of the paired cluster bootstrap on the rows of the slice. The slices of a column
    share the test rows out, so a column costs about as much as two more comparisons of all rows.

    Args:
        rows: the test rows, with columns of slices.
        task: of the training.
        scores: the score tables; the metrics of each are summarised.
        compare: compares the candidate with the other models.
    """
    return {column: _measure_column(rows, column, task, scores, compare) for column in columns_of(rows)}


def _measure_column(rows: pa.Table, column: str, task: Task, scores: Scores, compare: Compare) -> SlicedColumn:
    def measured(value: str | None, places: np.ndarray, groups: int) -> Slice:
        own = rows.take(places)
        tables = {name: table.take(places) for name, table in scores.items()}
        return Slice(
            value,
            len(places),
            groups,
            {name: comparison.summarise(own, task, table) for name, table in tables.items()},
            compare(own, tables),
        )

    found = _places(rows, column)
    clusters = np.array(rows["cluster"].to_pylist(), dtype=object)
    sizes = {value: (len(places), len(set(clusters[places]))) for value, places in found.items()}
    own = _own_slices(sizes)
    others = [value for value in found if value not in own]
    slices = [measured(value, found[value], sizes[value][1]) for value in own]
    if others:
        rest = np.unique(np.concatenate([found[value] for value in others]))
        slices.append(measured(None, rest, len(set(clusters[rest]))))
    few = {value: sizes[value] for value in others if len(value) <= _LONGEST_VALUE}
    return SlicedColumn(tuple(slices), len(found), dict(list(few.items())[:_MOST_FEW]))


def _own_slices(sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """The values that have a slice of their own."""
    large = [value for value, (_, groups) in sizes.items() if groups >= FEWEST_GROUPS and len(value) <= _LONGEST_VALUE]
    return large[:MOST_SLICES]


def columns_of(rows: pa.Table) -> list[str]:
    """The columns of slices that test rows have."""
    return [name.removeprefix(SLICE) for name in rows.column_names if name.startswith(SLICE)]


def _places(rows: pa.Table, column: str) -> dict[str, np.ndarray]:
    """Value -> its rows; the value with most rows first."""
    places: dict[str, list[int]] = defaultdict(list)
    for row, values in enumerate(rows[SLICE + column].to_pylist()):
        for value in values if isinstance(values, list) else [values]:
            places[value].append(row)
    ordered = sorted(places, key=lambda value: (-len(places[value]), value))
    return {value: np.array(places[value], np.int64) for value in ordered}


def gaps(rows: pa.Table, task: Task, candidate: pa.Table, other: pa.Table | None, evaluate: Evaluate) -> Measures:
    """`gap:METRIC:COLUMN`: the largest difference of each metric between two slices of each column of slices.

    Only slices with enough independent groups for an interval count, and not the rest, whose rows have nothing in
    common. All slices are drawn together: each draw of the bootstrap gives the metric of every slice, and so a gap.
    Chance alone makes a gap, so the gap of slices that do not differ is above zero, and falls with more rows.

    Args:
        rows: the test rows, with columns of slices.
        task: of the training.
        candidate: its score table.
        other: the other model's score table of the same rows; None: the candidate's own gaps with their intervals.
        evaluate: seed and number of resamples.
    """
    measures: dict[str, Interval | str] = {}
    for column in columns_of(rows):
        for name in METRICS_OF_TASK[task]:
            measures[f"{GAP}{name}:{column}"] = "fewer than two slices are large enough"
        found = _places(rows, column)
        clusters = np.array(rows["cluster"].to_pylist(), dtype=object)
        own = _own_slices({value: (len(places), len(set(clusters[places]))) for value, places in found.items()})
        parts = [_Part.of(rows, task, found[value], candidate, other) for value in own]
        for first in dict.fromkeys(first for part in parts for first in part.statistics):
            having = [part for part in parts if first in part.statistics]
            if missing := sum(part.missing[first] for part in having):
                names = having[0].statistics[first][0].names
                measures |= {f"{GAP}{name}:{column}": comparison.no_number(missing) for name in names}
            else:
                measures |= _gaps_of(having, first, clusters, evaluate, column)
        if other is not None and comparison.cut_differently(candidate, other):
            measures[f"{GAP}token_loss:{column}"] = comparison.OTHER_TOKENS
    return measures


@dataclass(frozen=True)
class _Part:
    """One slice with the statistics of both models on its rows."""

    places: np.ndarray
    statistics: Mapping[str, tuple[Statistic, Statistic | None]]
    """First name of a statistic -> of the candidate, and of the other model if there is one."""
    missing: Mapping[str, int]
    """First name of a statistic -> the rows for which the candidate has no number."""
    measured: Mapping[str, np.ndarray]
    """First name of a statistic -> which rows both models have a number for, bool."""

    @classmethod
    def of(cls, rows: pa.Table, task: Task, places: np.ndarray, candidate: pa.Table, other: pa.Table | None) -> "_Part":
        own, statistics, scored = rows.take(places), TASKS[task].statistics, candidate.take(places)
        both: dict[str, tuple[Statistic, Statistic | None]]
        both = {one.names[0]: (one, None) for one in statistics(own, scored)}
        if other is not None:
            theirs = {one.names[0]: one for one in statistics(own, other.take(places))}
            both = {first: (mine, theirs[first]) for first, (mine, _) in both.items() if first in theirs}
        missing = {first: comparison.count_unmeasured(*pair, scored) for first, pair in both.items()}
        of_other = None if other is None else other.take(places)
        measured = {
            first: comparison.defined_rows(mine)
            & (True if theirs is None else comparison.measured_rows(theirs, of_other))
            for first, (mine, theirs) in both.items()
        }
        return cls(places, both, missing, measured)


def _gaps_of(
    parts: Sequence[_Part], first: str, clusters: np.ndarray, evaluate: Evaluate, column: str
) -> dict[str, Interval | str]:
    """The gaps of the metrics of the statistic that every part has under this name."""
    names = [name for name in parts[0].statistics[first][0].names if name in METRICS]
    mine, theirs = [], []
    for part in parts:
        own, others = part.statistics[first]
        kept = part.measured[first]
        places = part.places[kept]
        if len(set(clusters[places])) < FEWEST_GROUPS:
            continue
        mine.append((comparison.select_rows(own, kept), places))
        if others is not None:
            theirs.append((comparison.select_rows(others, kept), places))
    if len(mine) < 2:
        return {f"{GAP}{name}:{column}": "fewer than two slices are large enough" for name in names}
    used = np.unique(np.concatenate([places for _, places in mine]))
    own = _gap_statistic(mine, names, used, column)
    found = intervals.paired_bootstrap(
        own,
        _gap_statistic(theirs, names, used, column) if theirs else [0.0] * len(names),
        groups=clusters[used].tolist(),
        resamples=evaluate.bootstrap_resamples,
        seed=evaluate.seed,
    )
    return {name: found.get(name, "it is not defined on these rows") for name in own.names}


def _gap_statistic(
    parts: Sequence[tuple[Statistic, np.ndarray]], names: Sequence[str], used: np.ndarray, column: str
) -> Statistic:
    """The gaps between the same statistic on the rows of several slices, as a statistic of all their rows."""
    blocks, formulas, start = [], [], 0
    for statistic, places in parts:
        rows = np.arange(len(places))
        to_used = sparse.csr_array(
            (np.ones(len(places)), (rows, np.searchsorted(used, places))), shape=(len(places), len(used))
        )
        block = sparse.csr_array(statistic.columns) @ to_used
        blocks.append(block)
        chosen = [statistic.names.index(name) for name in names]
        formulas.append((statistic.of_sums, chosen, start, start + block.shape[0]))
        start += block.shape[0]

    def of_sums(sums: np.ndarray) -> np.ndarray:
        values = np.stack([formula(sums[first:end])[chosen] for formula, chosen, first, end in formulas])
        return values.max(axis=0) - values.min(axis=0)

    return Statistic(tuple(f"{GAP}{name}:{column}" for name in names), sparse.csr_array(sparse.vstack(blocks)), of_sums)


def summary(sliced: Sliced, value: Measures) -> dict[str, Any]:
    """The entries of evaluation.json: rows and metrics of each slice but the rest, and the gaps between the slices.

    Args:
        sliced: the slices of each column.
        value: the candidate's own metrics on all rows, gaps included.
    """
    found = {
        column: {
            one.value: {"rows": one.rows, **one.metrics["candidate"]} for one in of.slices if one.value is not None
        }
        for column, of in sliced.items()
    }
    gaps: dict[str, dict[str, float]] = {}
    for name, measured in value.items():
        if (gap := split_gap(name)) and isinstance(measured, Interval):
            gaps.setdefault(gap[1], {})[gap[0]] = measured.difference
    return {name: entry for name, entry in (("slices", found), ("gaps", gaps)) if entry}


def as_json(sliced: Sliced) -> dict[str, Any]:
    """The value of slices.json, which the gate and the report read."""
    return {
        column: {
            "values": found.values,
            "slices": [asdict(one) | {"versus": results.intervals_json(one.versus)} for one in found.slices],
            "few": {value: list(sizes) for value, sizes in found.few.items()},
        }
        for column, found in sliced.items()
    }


def read(value: Mapping[str, Any]) -> dict[str, SlicedColumn]:
    """What `as_json` was made from.

    Raises:
        KeyError, TypeError: the value has other keys.
    """
    return {
        column: SlicedColumn(
            tuple(Slice(**one | {"versus": results.read_intervals(one["versus"])}) for one in found["slices"]),
            found["values"],
            {value: (sizes[0], sizes[1]) for value, sizes in found["few"].items()},
        )
        for column, found in value.items()
    }
