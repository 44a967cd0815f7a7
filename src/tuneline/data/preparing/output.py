"""The last pass: writes kept rows to parquet, split by split, and dropped rows to the quarantine with their reasons."""

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
from tuneline.data.preparing.store import KEPT, Store, mapped, values_of
from tuneline.data.reading.raw_rows import Rejected, excerpt
from tuneline.data.records.record_form import SPLITS
from tuneline.data.secrets import screening

GROUP = 64_000_000
"""Bytes of rows that one job writes, and so of a parquet file of the training split."""


@dataclass(frozen=True)
class Output:
    """Some portions of a set, and where their rows are written."""

    stores: tuple[Store, ...]
    """Of all sets."""
    number: int
    """Number of the set."""
    portions: range
    decisions: Path
    """Folder of `decisions-SET.npy` and `lines-SET.npy`."""
    folder: Path
    """Files are written to SPLIT/NAME in it."""
    splits: dict[str, str]
    """Split of a row -> name of the split that is written."""
    quarantine: Path
    folds: int | None
    group: int


def write(job: Output) -> dict[str, int]:
    """Write some portions; return split -> bytes of its texts."""
    store = job.stores[job.number]
    decisions = mapped(job.decisions / f"decisions-{job.number}.npy")
    sizes = dict.fromkeys(job.splits.values(), 0)
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        quarantine = stack.enter_context(job.quarantine.open("wb"))
        for portion in job.portions:
            dropped = [
                Rejected(*row[:5], screening.hidden(row.row)) for row in first_pass.rejected(store.folder_of(portion))
            ]
            for part in store.of_portion(portion):
                decided, batch = decisions[part.start : part.stop], part.batch()
                rows = part.array("rows")
                dropped += _dropped(job, decided, batch, rows, store.files[portion])
                for split, target in job.splits.items():
                    kept = np.flatnonzero((decided["reason"] == 0) & (decided["split"] == SPLITS.index(split)))
                    if not len(kept):
                        continue
                    folds = None if target == "test" else job.folds
                    table = _table(store, batch, rows, kept, store.files[portion], folds)
                    sizes[target] += sum(table.column(name).nbytes for name in store.form.fields)
                    if target not in writers:
                        path = job.folder / target / f"{job.group:06d}.parquet"
                        writers[target] = stack.enter_context(parquet_writer(path, table.schema))
                    writers[target].write_table(table)
            # Sort by numbers: the end of a file's name may look like a line number.
            for row in sorted(dropped, key=lambda row: (row.line, row.offset)):
                quarantine.write(orjson.dumps(_quarantined(store.path, row)) + b"\n")
    return sizes


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of a parquet file, and make the file's folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    few: Any = [name for name in ("cluster", "fold", "label") if name in schema.names]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=few, write_statistics=few)


def schema_of(store: Store, folds: bool) -> pa.Schema:
    """Return the schema of a clean split: all columns are text."""
    names = ["id", "source", "cluster", *["fold"] * folds, *store.form.fields, *store.kept]
    return pa.schema([(name, pa.string()) for name in names])


def _table(
    store: Store, batch: pa.RecordBatch, rows: np.ndarray, kept: np.ndarray, file: str, folds: int | None
) -> pa.Table:
    """Return the kept rows of a part as they are written."""
    keys = rows[kept]
    taken = batch.take(pa.array(kept))
    columns: dict[str, Any] = {
        "id": pa.array(_hex(keys["key_high"]), pa.string()),
        "source": pa.array([f"{file}:{line}" for line in keys["line"].tolist()], pa.string()),
        "cluster": pa.array(_hex(keys["cluster"]), pa.string()),
    }
    if folds:
        columns["fold"] = pa.array(list(map(str, (keys["cluster"] % np.uint64(folds)).tolist())), pa.string())
    columns |= {name: taken.column(name) for name in store.form.fields}
    columns |= {name: taken.column(f"{KEPT}{name}") for name in store.kept}
    return pa.table(columns, schema_of(store, bool(folds)))


def _hex(numbers: np.ndarray) -> list[str]:
    text = numbers.astype(">u8").tobytes().hex()
    return [text[start : start + 16] for start in range(0, len(text), 16)]


def _dropped(
    job: Output, decided: np.ndarray, batch: pa.RecordBatch, rows: np.ndarray, file: str
) -> Iterator[Rejected]:
    """Yield the dropped rows of a part."""
    dropped = np.flatnonzero(decided["reason"])
    if not len(dropped):
        return
    lines = [mapped(job.decisions / f"lines-{number}.npy") for number in range(len(job.stores))]
    offsets = batch.column("offset").to_numpy()
    for row, values in zip(dropped.tolist(), values_of(batch, dropped), strict=True):
        _, reason, other_set, share, other = decided[row].tolist()
        store = job.stores[other_set]
        source = store.source(other, int(lines[other_set][other])) if other >= 0 else ""
        detail = _detail(REASONS[reason], source, f"{store.path}/{source}", share)
        text = screening.hidden(excerpt(" | ".join(values)))
        yield Rejected(file, int(rows["line"][row]), int(offsets[row]), REASONS[reason], detail, text)


def _detail(reason: str, source: str, path: str, share: float) -> str:
    return {
        "duplicate": f"the same as {source}",
        "near-duplicate": f"nearly the same as {source}",
        "label-conflict": "its text occurs in the set with more than one label",
        "held-out": f"the same text as {path}, which is held out",
        "overlap": f"contains {share:.0%} of {path}, which is held out",
        "pretraining": f"is held out, but {path} contains {share:.0%} of it, and the base is trained on that text",
        "spread": f"contains a part of {path}, which is held out; several rows together contain {share:.0%} of it",
        "held-out-group": "its group is held out",
        "other-split": "its file is for validation or test, and only training rows of this set are used",
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
