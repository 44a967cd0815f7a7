"""The flow of a search: draw a trial, train it, store what it measured, and so on; then compare and write the page.

`tuneline search` starts it through flows/run_search.py. Optuna knows the trials, DVC keeps them as experiments, Prefect
runs them beside each other, on this machine or on a Dask cluster. The trainer knows nothing of it: this process reads
the checkpoints of each trial and stops the trial if it is worse than the others.
"""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flow_logs
import foreground
import lost_prefect
from distributed import Future, KilledWorker
from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect_dask.task_runners import DaskTaskRunner  # pyright: ignore[reportMissingImports]

from tuneline import params, stopping
from tuneline.augmentation import preconditions
from tuneline.commands import crossvalidate
from tuneline.core import files
from tuneline.crossvalidation import cross_validation, folds
from tuneline.errors import SetupError, TrainingError, one_line
from tuneline.modeling import hardware
from tuneline.pipeline import graph, repro
from tuneline.progress import duration
from tuneline.registry import tracking
from tuneline.search import against_default, pictures, record, search_page, space, study
from tuneline.search.against_default import Compared
from tuneline.search.objective import Objective, objective_of
from tuneline.search.options import Options
from tuneline.search.record import Record
from tuneline.search.result import Result, best_of
from tuneline.search.trial_folder import Outcome, TrialFolder

# Seconds between two looks at the checkpoints of the running trials.
_EVERY = 0.5
# So often a trial may be killed from outside and goes on from its checkpoint, before the search goes on without it.
_MOST_KILLS = 3
_NEEDED = ("validate_clean", "base")


@task(task_run_name="trial {number}", cache_policy=NO_CACHE, retries=0)
def train_trial(begun: Record, number: int) -> Outcome:
    """Train a trial in its folder; a worker of Dask runs this."""
    return TrialFolder(begun, str(number)).train(lambda line: None)


@dataclass
class _Running:
    trial: Any
    folder: TrialFolder
    future: Any
    is_stopped: bool = False
    kills: int = 0


@dataclass
class _Run:
    """A search while it runs."""

    opened: study.Search
    begun: Record
    options: Options
    threads: int
    objective: Objective
    logger: logging.Logger | logging.LoggerAdapter
    running: list[_Running] = field(default_factory=list)

    def go(self) -> None:
        """Train trials until there are as many as wanted."""
        left = self.opened.unfinished()
        try:
            while True:
                while len(self.running) < self.options.workers and (left or self._count() < self.options.trials):
                    self._start(left.pop(0) if left else self.opened.draw())
                if not self.running:
                    return
                time.sleep(_EVERY)
                for one in list(self.running):
                    self._look_at(one)
                lost_prefect.end_if_lost()
        except BaseException:
            # Their processes die with this one; a worker of a cluster would go on.
            for one in self.running:
                one.folder.stop()
            raise

    def _count(self) -> int:
        return len(self.opened.results())

    def _start(self, trial: Any) -> None:
        values = self.opened.values(trial)
        shown = ", ".join(f"{key} {pictures.shown(value)}" for key, value in values.items())
        self.logger.info("trial %d: %s", trial.number, shown)
        folder = TrialFolder(self.begun, str(trial.number))
        folder.lay_out(values, self.threads)
        self.running.append(_Running(trial, folder, train_trial.submit(self.begun, trial.number)))

    def _look_at(self, one: _Running) -> None:
        is_over = one.future.wrapped_future.done()
        if not one.is_stopped and not is_over and self.opened.report(one.trial, one.folder.curve()):
            one.folder.stop()
            one.is_stopped = True
        if not is_over:
            return
        outcome = _outcome(one.future, self.options)
        if outcome.is_killed:
            self._try_again(one, outcome.why)
        else:
            self._end(one, outcome)
            self.running.remove(one)

    def _try_again(self, one: _Running, why: str) -> None:
        """Go on with a trial that was killed; after some kills without it, until the same command is run again."""
        number, one.kills = one.trial.number, one.kills + 1
        if one.kills < _MOST_KILLS:
            self.logger.warning("trial %d: %s; it goes on from its newest checkpoint", number, why)
            one.future = train_trial.submit(self.begun, number)
            return
        often = f"was killed {one.kills} times ({why})"
        if not number:
            raise TrainingError(f"the first trial, with today's values, {often}")
        self.logger.warning("trial %d: %s; the others go on", number, often)
        self.running.remove(one)

    def _end(self, one: _Running, outcome: Outcome) -> None:
        number = one.trial.number
        if outcome.why:
            if not number:
                raise TrainingError(f"the first trial, with today's values, has failed: {outcome.why}")
            self.opened.fail(one.trial, outcome.why)
            self.logger.warning("trial %d: failed: %s", number, outcome.why)
        elif one.is_stopped or self.opened.report(one.trial, outcome.curve):
            last = list(outcome.curve.values())[-1] if outcome.curve else None
            one.folder.save(last, is_complete=False)
            self.opened.prune(one.trial)
            self.logger.info("trial %d: stopped early", number)
        else:
            assert outcome.loss is not None
            one.folder.save(outcome.loss, is_complete=True)
            self.opened.finish(one.trial, outcome.loss)
            self.logger.info("trial %d: %s %.4f", number, self.objective.label, outcome.loss)
        one.folder.remove()


def _outcome(future: Any, options: Options) -> Outcome:
    """How a trial ended, once its future is done.

    Raises:
        SetupError: the cluster cannot train trials.
    """
    submitted = future.wrapped_future
    if not isinstance(submitted, Future) or submitted.status == "finished":
        return future.result()
    # Prefect's own errors come as states of a finished future.
    error: Any = submitted.exception() if submitted.status == "error" else None
    if isinstance(error, KilledWorker):
        return Outcome(None, {}, "Dask has lost the worker that trained it", is_killed=True)
    why = one_line(error)[:200] if error else f"the future is {submitted.status}"
    raise SetupError(
        f"{options.scheduler or 'Dask'}: the cluster cannot train a trial ({why}); scheduler and workers run in this "
        "project's folder with its libraries, as docs/search.md says; then run the same command again"
    )


@flow(name="search", persist_result=False, retries=0)
def search(options: Options) -> State:
    """Search for better params; nothing is registered."""
    flow_logs.add_log_filter()
    flow_logs.silence_lost_server()
    stopping.take_over()
    try:
        return _search(options, get_run_logger())
    except stopping.Stopped as stopped:
        return Cancelled(message=str(stopped), data=stopped)
    except lost_prefect.ERRORS as error:
        lost_prefect.end_if_caused(error)
        raise


def _search(options: Options, logger: logging.Logger | logging.LoggerAdapter) -> State:
    with repro.hold_project(logger.warning):
        p = params.load()
        wanted = space.read(p)
        preconditions.check(p)
        repro.remove_left_outputs(logger.info)
        for stage in (*_NEEDED, *graph.variant_stages()):
            repro.reproduce(stage, logger.info)
            if stage == "validate_clean" and wanted.folds:
                # It refuses too many, before the base is trained.
                folds.split(Path(p.paths.clean), wanted.folds)
        if wanted.folds:
            logger.info(_cost(p, wanted.folds, options))
        opened, begun = options.open(wanted, p)
        threads = max(1, min(p.compute.threads, hardware.cores() // options.workers))
        logger.info("%d at a time, each with %d of %d cores", options.workers, threads, hardware.cores())
        _check_space(p, options)
        objective = objective_of(p.task, wanted.folds)
        _Run(opened, begun, options, threads, objective, logger).go()
        results = opened.results()
        best = best_of(results)
        compared = _compare(options, p, begun, results, best, logger)
        page = search_page.Page(
            p.registry.model,
            begun.name,
            wanted,
            results,
            best,
            opened.importance(),
            compared,
            options.trials,
            threads,
            options.workers,
            objective,
        )
        path = Path(p.paths.reports) / "search.html"
        files.write_text(path, search_page.render(page, p.report.language))
        return Completed(message=_message(options, objective, results, best, path))


def _cost(p: params.Params, count: int, options: Options) -> str:
    """What a search with a cross-validation per trial costs, before it starts."""
    share = cross_validation.plan(p, count).trained_share
    known = f"{count} folds: a trial takes about {share:.1f} times as long as finetune, {options.trials} trials"
    known += f" {share * options.trials:.0f} times" + (", and the comparison twice" if options.compare else "")
    seconds = crossvalidate.last_training(p, tracking.connect())
    if seconds is None:
        return known
    whole = (share * options.trials + 2 * options.compare) * seconds / options.workers
    return f"{known}; in all about {duration(whole)}, because finetune took {duration(seconds)}"


def _check_space(p: params.Params, options: Options) -> None:
    """Raise where the models and checkpoints of the trials do not fit on the disk."""
    model = sum(path.stat().st_size for path in Path(p.paths.base).rglob("*") if path.is_file())
    # The cache keeps the model of each trial; a training has two checkpoints, each with weights and optimizer.
    needed = model * (options.trials + 8 * options.workers)
    free = shutil.disk_usage(Path.cwd()).free
    if free < needed:
        raise SetupError(
            f"{Path.cwd()}: {free / 1e9:,.1f} GB are free, and {options.trials} trials need about {needed / 1e9:,.1f} "
            "GB; free some, or ask for fewer trials"
        )


def _compare(
    options: Options,
    p: params.Params,
    begun: Record,
    results: Sequence[Result],
    best: Result | None,
    logger: logging.Logger | logging.LoggerAdapter,
) -> Compared | None:
    if best is None or best.number == 0 or not options.compare:
        return None
    logger.info("trial %d against today's values on the test split", best.number)
    return against_default.compare(p, tracking.connect(), begun, best, results[0], lambda line: None)


def _message(options: Options, objective: Objective, results: Sequence[Result], best: Result | None, page: Path) -> str:
    left = sum(result.state == "interrupted" for result in results)
    again = f"; unfinished, because killed: {left}; the same command goes on with them" if left else ""
    return f"{_found(options, objective, results, best)}{again}; {page}"


def _found(options: Options, objective: Objective, results: Sequence[Result], best: Result | None) -> str:
    if best is None:
        return "no trial has ended"
    default = results[0]
    if best.number == 0:
        return f"today's values have the lowest {objective.label} ({best.loss:.4f}) of {len(results)} trials"
    values = ", ".join(f"{key}: {pictures.shown(value)}" for key, value in best.values.items())
    applied = (
        f"written to {params.PARAMS_FILE}; next: make run" if options.apply else "to keep it: tuneline search --apply"
    )
    return (
        f"best of {len(results)}: trial {best.number}, {objective.label} {best.loss:.4f} (today's values: "
        f"{default.loss:.4f}); {values}; {applied}"
    )


def run_here(options: Options) -> None:
    """Run the flow in this process and print how it ended; after a failure, exit with code 1 and the reason on stderr.

    Raises:
        stopping.Stopped: a person stopped the search; its state is Cancelled.
    """
    flow = search.with_options(task_runner=_runner(options))
    print("", foreground.run(lambda: flow(options, return_state=True)), sep="\n")


def _runner(options: Options) -> TaskRunner[Any]:
    if options.workers == 1 and not options.scheduler:
        # A cluster for one trial would only take memory.
        return ThreadPoolTaskRunner(max_workers=1)
    # Which worker begins and ends is not for the person.
    for name in ("distributed", "prefect.task_runner.dask"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if options.scheduler:
        return DaskTaskRunner(address=options.scheduler)
    cluster = {
        "n_workers": options.workers,
        # Of Dask; the threads of a trial are in its params.
        "threads_per_worker": 1,
        "dashboard_address": None,
        "local_directory": str(record.folder_of(options.name).absolute() / "workers"),
    }
    return DaskTaskRunner(cluster_kwargs=cluster)
