"""Trains on all folds but one and measures the model on this one, in a process of its own.

    python -m tuneline.crossvalidation.one_fold FOLDER NUMBER

FOLDER is that of the cross-validation in work/; its name is the digest of everything that determines the result. The
scores are written last: a fold that has them is done, and a killed training goes on at its last checkpoint.
"""

import shutil
import sys
from pathlib import Path

import pyarrow as pa

from tuneline import instruction_set, params, processes, terminal
from tuneline.core import files, identity
from tuneline.crossvalidation import folds
from tuneline.data.records.record_form import read_form
from tuneline.errors import TrainingError, TunelineError
from tuneline.evaluation import score_table
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.finetuning import mixture
from tuneline.modeling import hardware
from tuneline.work import WORK

FOLDER = WORK / "crossvalidation"
SCORES = "scores.parquet"
PROBLEMS = "problems.json"
_CLEAN, _AUGMENTED, _CHECKPOINTS, _MODEL = "clean", "augmented", "checkpoints", "model"


def digest(p: params.Params, count: int) -> str:
    """The digest of everything that determines the scores of a cross-validation.

    Args:
        p: the params.
        count: the number of folds.
    """
    others = mixture.find_sources(p)
    code = [*identity.code_deps("finetune"), *identity.code_deps("evaluate"), "src/tuneline/crossvalidation"]
    return identity.compute_fingerprint(
        identity.code_sha256(code),
        hardware.fingerprint(p.compute),
        folds=count,
        task=p.task,
        finetune=p.finetune.model_dump(),
        evaluate=p.evaluate.model_dump(),
        compute=p.compute.model_dump(),
        base=files.sha256_path(Path(p.paths.base)),
        data=files.sha256_path(Path(p.paths.clean)),
        mixture={other.name: [other.share.model_dump(), files.sha256_path(other.path)] for other in others},
    )


def place(folder: Path, number: int) -> Path:
    """The folder of one fold in that of the cross-validation."""
    return folder / f"fold-{number}"


def main(folder: Path, count: int, number: int) -> None:
    """Train and measure one fold.

    Args:
        folder: of the cross-validation.
        count: the number of folds.
        number: of the fold that is held out.

    Raises:
        TrainingError: nothing can be trained, or params, data or code have changed since the cross-validation began.
    """
    p = params.load()
    # It loads torch, which takes seconds.
    from tuneline.finetuning import estimate, tasks
    from tuneline.modeling import models
    from tuneline.training import checkpoints, training_run

    models.use_threads(p.compute.threads)
    if digest(p, count) != folder.name:
        raise TrainingError("params.yaml, the data or the code have changed meanwhile; run the same command again")
    own, base = place(folder, number), Path(p.paths.base)
    fold = folds.split(Path(p.paths.clean), count)[number]
    with processes.exclusive(checkpoints.LOCK, "this project's training"):
        folds.write(fold, Path(p.paths.clean), own / _CLEAN)
        others = folds.without_held_out(mixture.find_sources(p), own / _AUGMENTED, count, number)
        ready = tasks.prepare(p.task, own / _CLEAN, base, p.finetune, p.compute, others=others)
        tasks.check_truncated(ready, p)
        if not number:
            estimate.check(ready, p)
        training = tasks.train(ready, p.finetune, p.compute, folder=own / _CHECKPOINTS)
        models.save(training.model, ready.tokenizer, own / _MODEL, ready.mode)
        training_run.delete_checkpoints(own / _CHECKPOINTS)
    files.write_parquet(own / SCORES, _measure(p, fold, own, base))
    # Only the scores are kept.
    shutil.rmtree(own / _MODEL)
    shutil.rmtree(own / _CLEAN)
    shutil.rmtree(own / _AUGMENTED, ignore_errors=True)


def _measure(p: params.Params, fold: folds.Fold, own: Path, base: Path) -> pa.Table:
    """The rows of the fold with the scores of the model and of the baselines."""
    task, form, length = TASKS[p.task], read_form(own / _CLEAN, p.task), p.finetune.max_length
    train, rows = (task.test_rows(table, p.evaluate, form) for table in (fold.train, fold.held_out))
    of_base = None
    if task.is_relative_to_base:
        asked = ModelToScore(base, "base", length, encoded_as=own / _MODEL, models=0)
        of_base = task.measure(asked, rows, p.evaluate)
    candidate = ModelToScore(own / _MODEL, f"fold {fold.number}", length, base=of_base, models=0)
    scores = {"candidate": task.measure(candidate, rows, p.evaluate)}
    scores |= task.baselines(own / _MODEL, train, rows, p.evaluate)
    return score_table.join(rows, scores)


def _run(arguments: list[str]) -> None:
    folder, count, number = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    if params.load().compute.portable:
        instruction_set.restrict()
    try:
        main(folder, count, number)
    except TunelineError as error:
        files.write_json(place(folder, number) / PROBLEMS, list(error.problems))
        sys.exit(1)


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: _run(sys.argv[1:]))
