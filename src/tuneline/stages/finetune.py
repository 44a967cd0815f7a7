"""Teach the base the task of the clean training split.

    python -m tuneline.stages finetune

Reads paths.clean and paths.base; writes paths.finetuned, and training.csv (the curve) and training.json (the accounts)
into paths.reports. Checkpoints lie in work/<fingerprint>/: after a kill the same command ends in the same bytes.
"""

from pathlib import Path

from tuneline import files, params, processes
from tuneline.registry import lineage, tracking, versions
from tuneline.training import checkpoints, fingerprint, models, tokenization, trainers
from tuneline.training.recipes import Recipe


def main(p: params.Params) -> None:
    """Run the stage."""
    with processes.exclusive(checkpoints.LOCK, "this project's training"):
        tracker = tracking.connect()
        models.use_threads(p.compute.threads)
        clean, base, reports = Path(p.paths.clean), Path(p.paths.base), Path(p.paths.reports)
        model, tokenizer = models.load(base)
        models.check_length(model, p.finetune.max_length, "finetune.max_length")
        splits = {name: clean / f"{name}.parquet" for name in ("train", "validation")}
        (examples, account), (validation, _) = (
            tokenization.fit_split(tokenizer, path, p.task, models.mode(base), p.finetune) for path in splits.values()
        )
        identity = fingerprint.of(
            task=p.task,
            finetune=p.finetune.model_dump(),
            threads=p.compute.threads,
            base=files.sha256_path(base),
            data={name: files.sha256_file(path) for name, path in splits.items()},
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
            training = trainers.train(
                model,
                examples,
                Recipe.of(p.finetune),
                pad=models.pad(tokenizer),
                folder=folder,
                validation=validation,
                log=run.log,
            )
        models.save(model, tokenizer, Path(p.paths.finetuned), models.mode(base))
        files.write_text(reports / "training.csv", training.history.csv())
        files.write_json(
            reports / "training.json",
            {
                "fingerprint": identity,
                "parameters": models.count_parameters(model),
                **training.counts(),
                "data": account.as_dict(),
            },
        )
        trainers.finished(folder)
