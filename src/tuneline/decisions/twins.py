"""The noise floor from the score tables of the twins, which DVC keeps like every other output."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.errors import DataError
from tuneline.evaluation import comparison, score_table
from tuneline.gate.noise_floor import NoiseFloor, noise_floor
from tuneline.pipeline import recorded_bytes

_SCORES = "scores.parquet"


def of_workspace(p: params.Params, rows: pa.Table, candidate: pa.Table) -> NoiseFloor:
    """The noise floor of the candidate in the workspace, whose twins are not stale.

    Args:
        p: the params.
        rows: the test rows.
        candidate: its score table.

    Raises:
        DataError: a table is about other rows.
    """
    paths = (Path(p.of_twin(seed).paths.reports) / _SCORES for seed in p.gate.twins)
    return _measure(p, rows, candidate, paths)


def of_last_evaluation(p: params.Params, rows: pa.Table, candidate: pa.Table) -> NoiseFloor:
    """The noise floor of the candidate of the last evaluation, from DVC's cache or remote.

    Raises:
        DataError: a twin was not measured, or on other rows, or its table is in neither cache nor remote.
    """
    with files.temporary_folder() as folder:
        records = [recorded_bytes.read_record(f"evaluate_twin@{seed}") for seed in p.gate.twins]
        paths = [recorded_bytes.locate(record, _SCORES, folder) for record in records]
        return _measure(p, rows, candidate, paths)


def _measure(p: params.Params, rows: pa.Table, candidate: pa.Table, paths: Iterable[Path]) -> NoiseFloor:
    found = []
    for path in paths:
        own, scores = score_table.split_columns(files.read_parquet(path))
        if not own["id"].equals(rows["id"]):
            raise DataError(f"{path}: the twin was measured on other test rows; run: make run")
        found.append(comparison.compare(rows, p.task, candidate, scores["twin"], p.evaluate))
    return noise_floor(found)
