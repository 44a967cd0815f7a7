"""Fine-tune the base on the clean training split; with zero epochs, take over the merged model as it is.

    python -m tuneline.stages finetune
    python -m tuneline.stages finetune@7                  a twin: the same training with the seed 7
    python -m tuneline.stages finetune@without/plain      the same training without what report.without.plain names

Reads paths.clean and paths.base, and paths.pretraining if data.mixture names it; writes paths.finetuned, and
training.csv (the log) and training.json (the counts) into paths.reports. Checkpoints are in work/<fingerprint>/:
after a kill the same command ends with the same bytes. With finetune.nproc_per_node above 1 this process only starts
the processes that run the stage together.
"""

from pathlib import Path

from tuneline import params, processes
from tuneline.core import files, identity
from tuneline.errors import ModelError
from tuneline.finetuning import estimate, mixture, tasks
from tuneline.modeling import hardware, model_folder, models
from tuneline.registry import lineage, tracking, versions
from tuneline.training import checkpoints, distributed, training_run
from tuneline.work import WORK


def main(p: params.Params, item: str | None = None) -> None:
    """Run the stage, or start the processes that run it.

    Args:
        p: the params.
        item: which training beside the candidate's, as for `Params.aside`; None: the candidate is trained.
    """
    count = p.finetune.nproc_per_node
    hardware.check(p.compute, count)
    if distributed.is_worker():
        with distributed.together(count, p.compute.device):
            _train(p, item)
        return
    with processes.exclusive(checkpoints.LOCK, "this project's training"):
        if count == 1:
            _train(p, item)
        else:
            failure = WORK / "training.failure"
            stage = "finetune" if item is None else f"finetune@{item}"
            distributed.launch(stage, count, threads=p.compute.threads, failure=failure)


def _train(p: params.Params, item: str | None) -> None:
    left = p.left_out(item)
    others = [one for one in mixture.find_sources(p) if one.name not in left]
    p = p if item is None else p.aside(item)
    models.use_threads(p.compute.threads)
    clean, base = Path(p.paths.clean), Path(p.paths.base)
    if p.base.source == "merge" and model_folder.start_of(base) == base:
        raise ModelError(f"{base}: has no folder {model_folder.MERGED}; make it with: .venv/bin/dvc repro -f -s base")
    ready = tasks.prepare(p.task, clean, base, p.finetune, p.compute, others=others)
    if p.finetune.num_train_epochs:
        tasks.check_truncated(ready, p)
    else:
        print(tasks.UNTRAINED, flush=True)
    sets = tasks.splits(clean) | {f"mixture/{other.name}": other.path for other in others}
    fingerprint = identity.compute_fingerprint(
        identity.code_sha256(identity.code_deps("finetune")),
        hardware.fingerprint(p.compute),
        task=p.task,
        finetune=p.finetune.model_dump(),
        compute=p.compute.model_dump(),
        base=files.sha256_path(base),
        data={name: files.sha256_path(path) for name, path in sets.items()},
        mixture={other.name: other.share.model_dump() for other in others},
    )
    folder = WORK / fingerprint
    # A resumed training has shown that it fits into the memory.
    if p.finetune.num_train_epochs and not distributed.rank() and not checkpoints.newest(folder):
        estimate.check(ready, p)
    if distributed.rank():
        tasks.train(ready, p.finetune, p.compute, folder=folder)
        return
    tracker = tracking.connect()
    subject = versions.training_subject(
        p,
        fingerprint=fingerprint,
        data_sha256=files.sha256_path(clean),
        base_sha256=files.sha256_path(base),
        git=lineage.git_state(),
    )
    with tracker.training_run(subject) as run:
        training = tasks.train(ready, p.finetune, p.compute, folder=folder, log=run.log)
    _write(p, ready, training, fingerprint)
    training_run.delete_checkpoints(folder)


def _write(p: params.Params, ready: tasks.Ready, training: training_run.Training, fingerprint: str) -> None:
    shown = {}
    if ready.mixture:
        assert training.times is not None
        shown = ready.mixture.realised(training.times)
    finetuned, reports = Path(p.paths.finetuned), Path(p.paths.reports)
    models.save(training.model, ready.tokenizer, finetuned, ready.mode)
    if training.adapter:
        training.adapter.save(finetuned / "adapter")
    files.write_text(reports / "training.csv", training.history.csv())
    files.write_json(
        reports / "training.json",
        {
            "fingerprint": fingerprint,
            # Where a rebuild ends in other bytes, the difference to its own surroundings says why.
            "surroundings": identity.surroundings(hardware.fingerprint(p.compute)),
            "parameters": models.count_parameters(training.model),
            **training.counts(),
            "data": ready.report.as_dict(),
            "mixture": shown,
            **tasks.regularised(ready, p.finetune),
        },
    )
