"""The last pass: rows that stay -> parquet, split by split; rows that do not -> quarantine, each with its reason."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tuneline.data.preparing import first_pass
from tuneline.data.preparing.prepared_set import REASONS
from tuneline.data.preparing.store import Catalogue, Part, beginning, mapped, values_of
from tuneline.data.reading.raw_rows import Rejected
from tuneline.data.records.record_form import SPLITS
from tuneline.data.secrets import screening

GROUP = 64_000_000
"""Bytes that one process writes at a time, so of one parquet file of the training split."""


@dataclass(frozen=True)
class Output:
    """Some portions of a set, and where their rows go."""

    catalogues: tuple[Catalogue, ...]
    """Of all sets."""
    number: int
    """Which of the sets."""
    portions: range
    decisions: Path
    """Folder of `decisions-SET.npy` and `lines-SET.npy`."""
    folder: Path
    """Gets SPLIT/NAME."""
    splits: dict[str, str]
    """Split -> the split that it becomes."""
    quarantine: Path
    folds: int | None
    group: int


def write(job: Output) -> dict[str, int]:
    """Write some portions.

    Args:
        job: which, and where to.

    Returns:
        Split -> bytes of its texts.
    """
    catalogue = job.catalogues[job.number]
    decisions = mapped(job.decisions / f"decisions-{job.number}.npy")
    sizes = dict.fromkeys(job.splits.values(), 0)
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        quarantine = stack.enter_context(job.quarantine.open("wb"))
        for portion in job.portions:
            dropped = [
                Rejected(*row[:5], screening.hidden(row.row))
                for row in first_pass.rejected(catalogue.folder_of(portion))
            ]
            for part in catalogue.of_portion(portion):
                decided, batch = decisions[part.start : part.stop], part.batch()
                rows = part.array("rows")
                dropped += _dropped(job, part, decided, batch, rows, catalogue.files[portion])
                for split, target in job.splits.items():
                    kept = np.flatnonzero((decided["reason"] == 0) & (decided["split"] == SPLITS.index(split)))
                    if not len(kept):
                        continue
                    table = table_of(catalogue, batch, rows, kept, catalogue.files[portion], _folds(job, target))
                    sizes[target] += sum(table.column(name).nbytes for name in catalogue.form.fields)
                    if target not in writers:
                        place = job.folder / target / f"{job.group:06d}.parquet"
                        writers[target] = stack.enter_context(writer(place, table.schema))
                    writers[target].write_table(table)
            # The end of a file's name may hold what looks like a line, so the order is that of numbers.
            for row in sorted(dropped, key=lambda row: (row.line, row.offset)):
                quarantine.write(orjson.dumps(_quarantined(catalogue.path, row)) + b"\n")
    return sizes


def writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A parquet file to be filled.

    Args:
        path: of the file; its folder is made.
        schema: of the tables.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    few: Any = [name for name in ("cluster", "fold", "label") if name in schema.names]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=few, write_statistics=few)


def schema_of(catalogue: Catalogue, folds: bool) -> pa.Schema:
    """The columns of a prepared set: all text."""
    names = ["id", "source", "cluster", *["fold"] * folds, *catalogue.form.fields]
    return pa.schema([(name, pa.string()) for name in names])


def table_of(
    catalogue: Catalogue, batch: pa.RecordBatch, rows: np.ndarray, kept: np.ndarray, file: str, folds: int | None
) -> pa.Table:
    """The rows of a part that stay, as they are written."""
    numbers = rows[kept]
    taken = batch.take(pa.array(kept))
    columns: dict[str, Any] = {
        "id": pa.array(_hex(numbers["key_high"]), pa.string()),
        "source": pa.array([f"{file}:{line}" for line in numbers["line"].tolist()], pa.string()),
        "cluster": pa.array(_hex(numbers["cluster"]), pa.string()),
    }
    if folds:
        columns["fold"] = pa.array(list(map(str, (numbers["cluster"] % np.uint64(folds)).tolist())), pa.string())
    columns |= {name: taken.column(name) for name in catalogue.form.fields}
    return pa.table(columns, schema_of(catalogue, bool(folds)))


def _folds(job: Output, split: str) -> int | None:
    return None if split == "test" else job.folds


def _hex(numbers: np.ndarray) -> list[str]:
    text = numbers.astype(">u8").tobytes().hex()
    return [text[start : start + 16] for start in range(0, len(text), 16)]


def _dropped(
    job: Output, part: Part, decided: np.ndarray, batch: pa.RecordBatch, rows: np.ndarray, file: str
) -> Iterator[Rejected]:
    """The rows of a part that do not stay."""
    out = np.flatnonzero(decided["reason"])
    if not len(out):
        return
    lines = [mapped(job.decisions / f"lines-{number}.npy") for number in range(len(job.catalogues))]
    offsets = batch.column("offset").to_numpy()
    for row, values in zip(out.tolist(), values_of(batch, out), strict=True):
        _, reason, other_set, share, other = decided[row].tolist()
        catalogue = job.catalogues[other_set]
        place = catalogue.source(other, int(lines[other_set][other])) if other >= 0 else ""
        detail = _detail(REASONS[reason], place, f"{catalogue.path}/{place}", share)
        text = screening.hidden(beginning(values))
        yield Rejected(file, int(rows["line"][row]), int(offsets[row]), REASONS[reason], detail, text)


def _detail(reason: str, place: str, full: str, share: float) -> str:
    return {
        "duplicate": f"the same as {place}",
        "near-duplicate": f"nearly the same as {place}",
        "label-conflict": "its text stands in the set with more than one label",
        "held-out": f"the same text as {full}, which is held out",
        "overlap": f"holds {share:.0%} of {full}, which is held out",
        "pretraining": f"is held out, and {full}, which the base learns, holds {share:.0%} of it",
        "spread": f"holds a piece of {full}, which is held out; with the pieces in other rows it is {share:.0%}",
        "held-out-group": "its group is held out",
        "other-split": "its file says that it is for validation or test, and of this set only training rows are used",
    }[reason]


def _quarantined(path: str, row: Rejected) -> dict[str, Any]:
    return {
        "set": path,
        "source": f"{row.source}:{row.line}",
        "line": row.line,
        "offset": row.offset,
        "reason": row.reason,
        "detail": row.detail,
        "row": row.row,
    }
