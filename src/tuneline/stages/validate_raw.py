"""Judge the raw sets by Great Expectations, before anything is made of them.

python -m tuneline.stages validate_raw
"""

from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.validation import frames, validate


def main(p: params.Params) -> None:
    """Read the sets as `prepare` will, judge them, and write what was accepted."""
    report = validate.Report()
    accepted: dict[str, str] = {}
    # One set may be both: judged once where both see the same records in it.
    for raw in {(raw.path, raw.form.record_type): raw for raw in raw_set.open_all(p).all()}.values():
        rows = frames.RawFrames(raw)
        yaml = Path(p.paths.expectations) / "raw.yaml"
        name = f"{raw.path} as {raw.form.record_type}" if raw.path in accepted else raw.path
        report.judge(name, rows, raw.form.record_type, yaml, is_clean=False)
        report.account(rows, p.data.max_rejected_fraction)
        accepted[raw.path] = files.sha256_path(Path(raw.path))
    report.finish(Path(p.paths.reports), "raw", accepted)
