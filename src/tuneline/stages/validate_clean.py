"""Judge the clean splits and the pretraining text by Great Expectations, before anything is trained on them.

python -m tuneline.stages validate_clean
"""

from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, SPLITS, RecordForm, read_form
from tuneline.data.validation import validate
from tuneline.data.validation.frames import CleanFrames


def main(p: params.Params) -> None:
    """Judge both, and write what was accepted."""
    report = validate.Report()
    yaml = Path(p.paths.expectations) / "clean.yaml"
    clean, pretraining = Path(p.paths.clean), Path(p.paths.pretraining)
    form, mixture = read_form(clean), files.read_object(clean / DATASET_FILE, "mixture")["mixture"]
    report.judge(p.paths.clean, CleanFrames(clean, SPLITS, form), form.record_type, yaml, is_clean=True)
    texts = CleanFrames(pretraining, ("train", "validation"), RecordForm("text"))
    report.judge(p.paths.pretraining, texts, "text", yaml, is_clean=True)
    for described in mixture.values():
        path, form = clean / described["path"], RecordForm.from_json(described)
        rows = CleanFrames(path.parent, (path.name,), form)
        report.judge(path.as_posix(), rows, form.record_type, yaml, is_clean=True)
    accepted = {path.as_posix(): files.sha256_path(path) for path in (clean, pretraining)}
    report.finish(Path(p.paths.reports), "clean", accepted)
