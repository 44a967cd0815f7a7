"""Tables that would take too much memory are refused by the sizes in their headers, before they are unpacked."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneline.data.reading import readers
from tuneline.data.reading.guards import declared_memory
from tuneline.data.reading.raw_rows import FilePlan, Options


def count(plan: FilePlan) -> int:
    """The rows of a file."""
    return sum(1 for portion in plan.portions for _ in readers.rows(portion))


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_parquet_page_that_takes_too_much_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, version: str
) -> None:
    table = pa.table({"n": list(range(5000)), "text": [f"row {n} " * 9 for n in range(5000)]})
    pq.write_table(
        table,
        tmp_path / "a.parquet",
        compression=compression,
        data_page_version=version,
        data_page_size=20_000,
        use_dictionary=False,
        row_group_size=2000,
    )
    (whole,) = readers.plan(tmp_path / "a.parquet", Options())
    assert count(whole) == 5000
    monkeypatch.setattr(declared_memory, "MAX_PAGE_BYTES", 20_000)
    (one,) = readers.plan(tmp_path / "a.parquet", Options())
    assert "in the column 'text', which takes too much memory at once; write it again" in one.refusal


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize("is_dictionary", [True, False])
def test_an_arrow_batch_that_takes_too_much_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None, is_file: bool, is_dictionary: bool
) -> None:
    texts = pa.array([f"row {n} " * 9 for n in range(1000)])
    table = pa.table({"text": texts.dictionary_encode() if is_dictionary else texts})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with make(str(tmp_path / "a.arrow"), table.schema, options=options) as writer:
        writer.write_table(table)
    (whole,) = readers.plan(tmp_path / "a.arrow", Options())
    assert count(whole) == 1000
    monkeypatch.setattr(declared_memory, "MAX_BATCH_BYTES", 50_000)
    (one,) = readers.plan(tmp_path / "a.arrow", Options())
    assert "which takes too much memory at once; write it in smaller batches, or as Parquet" in one.refusal
