"""Judge the clean splits and the pretraining text by Great Expectations, before anything is trained on them.

python -m tuneline.stages validate_clean
"""

from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.data.records.splits import SPLITS
from tuneline.data.validation import validate
from tuneline.data.validation.frames import CleanFrames


def main(p: params.Params) -> None:
    """Judge both, and write what was accepted."""
    report = validate.Report()
    yaml = Path(p.paths.expectations) / "clean.yaml"
    clean, pretraining = Path(p.paths.clean), Path(p.paths.pretraining)
    about = files.read_object(clean / "dataset.json", "record_type", "conversational", "mixture")
    rows = CleanFrames(clean, SPLITS, about["record_type"], conversational=about["conversational"])
    report.judge(p.paths.clean, rows, about["record_type"], yaml, is_clean=True)
    texts = CleanFrames(pretraining, ("train", "validation"), "text")
    report.judge(p.paths.pretraining, texts, "text", yaml, is_clean=True)
    for one in about["mixture"].values():
        path, kind = clean / one["path"], one["record_type"]
        rows = CleanFrames(path.parent, (path.name,), kind, conversational=one["conversational"])
        report.judge(path.as_posix(), rows, kind, yaml, is_clean=True)
    accepted = {path.as_posix(): files.sha256_path(path) for path in (clean, pretraining)}
    report.finish(Path(p.paths.reports), "clean", accepted)
