"""Judge the raw sets by Great Expectations, before anything is made of them.

python -m tuneline.stages validate_raw
"""

from pathlib import Path

from tuneline import files, params
from tuneline.data import records, validation


def main(p: params.Params) -> None:
    """Read both sets as `prepare` will, judge them, and write what was accepted."""
    report = validation.Report()
    accepted: dict[str, str] = {}
    for rows in {rows.path: rows for rows in records.read_both(p)}.values():
        print(f"{rows.path}: {rows.rows:,} rows of {rows.record_type}, {len(rows.rejected):,} set aside")
        for rejected in rows.rejected[:5]:
            print(f"  {rejected.describe()}")
        yaml = Path(p.paths.expectations) / "raw.yaml"
        report.judge(rows.path, validation.raw_frames(rows), rows.record_type, yaml, is_clean=False)
        accepted[rows.path] = files.sha256_path(Path(rows.path))
    report.finish(Path(p.paths.reports), "raw", accepted)
