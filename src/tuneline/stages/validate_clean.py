"""Validate the clean splits and the pretraining text with Great Expectations, before a model is trained on them.

python -m tuneline.stages validate_clean
"""

from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, SPLITS, RecordForm, read_form
from tuneline.data.validation.frames import CleanFrames
from tuneline.data.validation.validation_report import ValidationReport


def main(p: params.Params) -> None:
    """Validate all sets and write what was accepted."""
    report = ValidationReport()
    yaml = Path(p.paths.expectations) / "clean.yaml"
    clean, pretraining = Path(p.paths.clean), Path(p.paths.pretraining)
    form, mixture = read_form(clean), files.read_object(clean / DATASET_FILE, "mixture")["mixture"]
    report.validate(p.paths.clean, CleanFrames(clean, SPLITS, form), form.record_type, yaml, is_clean=True)
    texts = CleanFrames(pretraining, ("train", "validation"), RecordForm("text"))
    frozen = p.data.frozen_pretraining
    report.validate(p.paths.pretraining, texts, "text", yaml, is_clean=True, is_frozen=frozen)
    for described in mixture.values():
        path, form = clean / described["path"], RecordForm.from_json(described)
        rows = CleanFrames(path.parent, (path.name,), form)
        report.validate(path.as_posix(), rows, form.record_type, yaml, is_clean=True)
    accepted = {path.as_posix(): files.sha256_path(path) for path in (clean, pretraining)}
    report.write(Path(p.paths.reports), "clean", accepted)
