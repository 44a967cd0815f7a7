"""Ask the candidate what data/checks.yaml asks, and judge its answers.

    python -m tuneline.stages check

Reads paths.checks and paths.finetuned. Writes checks.json into paths.reports. The model is loaded from its folder in a
process that has neither trained nor merged it. A failed check does not stop the stage: the gate reads checks.json.
"""

from pathlib import Path

from tuneline import params
from tuneline.behaviour import check_file, check_results
from tuneline.core import files
from tuneline.errors import ModelError


def main(p: params.Params) -> None:
    """Run the stage."""
    checks = check_file.load(Path(p.paths.checks))
    model_sha256, results = _ask(p, checks) if checks.of_task(p.task) else (None, [])
    files.write_json(Path(p.paths.reports) / check_results.FILE, check_results.as_json(model_sha256, results))
    for line in check_results.lines(results, p.paths.checks):
        print(line)


def _ask(p: params.Params, checks: check_file.Checks) -> tuple[str, list[check_results.CheckResult]]:
    """The digest of the candidate, and what it answers."""
    # Loads torch, which takes seconds.
    from tuneline.behaviour import asking
    from tuneline.modeling import hardware, models

    hardware.check_portable(p.compute)
    models.use_threads(p.compute.threads)
    finetuned = Path(p.paths.finetuned)
    model_sha256 = files.sha256_path(finetuned)
    results = asking.ask(finetuned, checks, p.task, asking.Limits.of(p), "candidate")
    if files.sha256_path(finetuned) != model_sha256:
        raise ModelError(f"{finetuned}: changed while it was asked; run the same command again")
    return model_sha256, results
