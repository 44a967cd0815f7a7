"""Plants canaries in the clean training split."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tuneline.data.preparing import output
from tuneline.data.preparing.store import Store
from tuneline.data.records import canaries


def plant(train: Path, store: Store, sequences: Sequence[str], folds: int | None) -> None:
    """Add a part with one row per canary to the training split.

    No other part changes, so the split without canaries has the same bytes in its other files.

    Args:
        train: the folder of the training split.
        store: of the set.
        sequences: from `canaries.draw`.
        folds: the number of folds; None without the column.
    """
    rows = [canaries.row(store.form, sequence, number) for number, sequence in enumerate(sequences, 1)]
    if folds:
        rows = [row | {"fold": str(int(row["cluster"], 16) % folds)} for row in rows]
    # As for a row without a value, a kept column has an empty text.
    rows = [row | dict.fromkeys(store.kept, "") for row in rows]
    schema = output.schema_of(store, bool(folds))
    path = train / f"part-{len(list(train.glob('part-*.parquet'))):05d}.parquet"
    with output.parquet_writer(path, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema))
