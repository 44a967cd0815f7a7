"""Make the clean splits and the pretraining text from the raw sets, and say where every row went.

python -m tuneline.stages prepare
"""

from pathlib import Path
from typing import Any

from tuneline import files, params
from tuneline.data import preparation, records


def main(p: params.Params) -> None:
    """Read, prepare, write."""
    raw, pretraining = records.read_both(p)
    prepared = preparation.prepare(raw, pretraining, p.data)
    for name in ("raw", "pretraining"):
        for line in describe(prepared.accounts[name]):
            print(line)
    with files.atomic_folder(Path(p.paths.clean)) as folder:
        for split, table in prepared.clean.items():
            files.write_parquet(folder / f"{split}.parquet", table)
        rows = {split: table.num_rows for split, table in prepared.clean.items()}
        files.write_json(folder / "dataset.json", {"record_type": raw.record_type, "rows": rows})
    with files.atomic_folder(Path(p.paths.pretraining)) as folder:
        for split, table in prepared.pretraining.items():
            files.write_parquet(folder / f"{split}.parquet", table)
    reports = Path(p.paths.reports)
    files.write_json(reports / "prepare.json", prepared.accounts)
    files.write_jsonl(reports / "quarantine.jsonl", prepared.quarantine)
    print(f"every dropped row and why: {reports / 'quarantine.jsonl'}")


def describe(account: dict[str, Any]) -> list[str]:
    """The accounts of one set, for a person."""
    out = ", ".join(f"{split} {count:,}" for split, count in account["rows"].items())
    lines = [f"{account['set']}: {account['rows_in']:,} rows in, {account['rows_out']:,} out ({out})"]
    lines += [f"  dropped {count:,}: {reason}" for reason, count in account["dropped"].items()]
    return lines
