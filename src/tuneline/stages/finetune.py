"""Teach the base the task of the clean training split.

    python -m tuneline.stages finetune

Reads paths.clean and paths.base; writes paths.finetuned, and training.csv (the curve) and training.json (the accounts)
into paths.reports. Checkpoints lie in work/<fingerprint>/: after a kill the same command ends in the same bytes.
"""

from pathlib import Path

from tuneline import files, params, processes
from tuneline.registry import lineage, tracking, versions
from tuneline.training import checkpoints, fingerprint, models, tasks, trainers


def main(p: params.Params) -> None:
    """Run the stage."""
    with processes.exclusive(checkpoints.LOCK, "this project's training"):
        tracker = tracking.connect()
        models.use_threads(p.compute.threads)
        clean, base, reports = Path(p.paths.clean), Path(p.paths.base), Path(p.paths.reports)
        ready = tasks.prepare(p.task, clean, base, p.finetune)
        identity = fingerprint.of(
            task=p.task,
            finetune=p.finetune.model_dump(),
            threads=p.compute.threads,
            base=files.sha256_path(base),
            data={name: files.sha256_path(path) for name, path in tasks.splits(clean).items()},
        )
        folder = checkpoints.WORK / identity
        subject = versions.subject(
            p,
            fingerprint=identity,
            data_sha256=files.sha256_path(clean),
            base_sha256=files.sha256_path(base),
            git=lineage.git_state(),
        )
        with tracker.training_run(subject) as run:
            training = tasks.train(ready, p.finetune, folder=folder, log=run.log)
        finetuned = Path(p.paths.finetuned)
        models.save(training.model, ready.tokenizer, finetuned, ready.mode)
        if training.adapter:
            training.adapter.save(finetuned / "adapter")
        files.write_text(reports / "training.csv", training.history.csv())
        files.write_json(
            reports / "training.json",
            {
                "fingerprint": identity,
                "parameters": models.count_parameters(training.model),
                **training.counts(),
                "data": ready.account.as_dict(),
            },
        )
        trainers.finished(folder)
