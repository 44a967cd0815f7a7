"""Validate the raw sets with Great Expectations, before they are prepared.

python -m tuneline.stages validate_raw
"""

from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.validation.frames import RawFrames
from tuneline.data.validation.validation_report import ValidationReport


def main(p: params.Params) -> None:
    """Validate the sets as `prepare` will read them, and write what was accepted."""
    report = ValidationReport()
    accepted: dict[str, str] = {}
    # A set may be data.raw and data.pretraining. It is validated once per record type.
    for raw in {(raw.path, raw.form.record_type): raw for raw in raw_set.open_all(p).all()}.values():
        rows = RawFrames(raw)
        yaml = Path(p.paths.expectations) / "raw.yaml"
        name = f"{raw.path} as {raw.form.record_type}" if raw.path in accepted else raw.path
        report.validate(name, rows, raw.form.record_type, yaml, is_clean=False)
        report.add_row_counts(rows, p.data.max_rejected_fraction)
        accepted[raw.path] = files.sha256_path(Path(raw.path))
    report.write(Path(p.paths.reports), "raw", accepted)
