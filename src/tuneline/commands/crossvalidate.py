"""Cross-validate the params: say what it costs, run it, write the result and record it in MLflow."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.crossvalidation import cross_validation, folds
from tuneline.crossvalidation.corrected_interval import FoldMean
from tuneline.crossvalidation.cross_validation import PREDICTIONS, RESULT, Plan, Result
from tuneline.data.records.record_form import DATASET_FILE
from tuneline.errors import DataError, PipelineError, TrackingError
from tuneline.evaluation.comparison import MODELS
from tuneline.params.gate import metric
from tuneline.pipeline import graph, repro
from tuneline.progress import duration
from tuneline.registry import lineage, versions
from tuneline.registry.runs import Dataset, Subject
from tuneline.registry.tracking import Tracker

_NEEDED = ("validate_clean", "base")


def plan(p: params.Params, number: int | None) -> Plan:
    """What the cross-validation will do.

    Args:
        p: the params.
        number: of folds; None: data.split.folds.

    Raises:
        DataError: the number of folds is not known, the clean data do not exist or do not suffice, or something that a
            training begins with has seen the rows of every fold.
        PipelineError: the clean data or the base are stale.
        TrainingError: the training needs several processes.
    """
    if seen := folds.rows_seen(p):
        raise DataError(f"{seen}, so a cross-validation would measure known rows; cross-validate without that")
    count = number or p.data.split.folds
    if count is None:
        raise DataError("data.split.folds is null, so the number of folds is not known; give it: --folds 5")
    if not (Path(p.paths.clean) / DATASET_FILE).is_file():
        raise DataError(f"{p.paths.clean}: does not hold clean data yet; run: dvc repro {' '.join(_NEEDED)}")
    names = graph.stage_names()
    later = names[names.index("finetune") :]
    if stale := {name: why for name, why in repro.stale_stages().items() if name not in later}:
        reasons = "; ".join(f"{name} ({', '.join(why)})" for name, why in stale.items())
        needed = " ".join((*_NEEDED, *graph.variant_stages()))
        raise PipelineError(f"the clean data or the base are not up to date: {reasons}; run: dvc repro {needed}")
    return cross_validation.plan(p, count)


def cost(p: params.Params, made: Plan, tracker: Tracker) -> str:
    """What the cross-validation costs, in a sentence.

    Args:
        p: the params.
        made: from `plan`.
        tracker: knows how long the last training took.
    """
    count, left = len(made.folds), len(made.folds) - len(made.done)
    largest = max(fold.held_out.num_rows for fold in made.folds)
    known = f"{count} trainings, which take about {made.trained_share:.1f} times as long as finetune"
    if seconds := last_training(p, tracker):
        known += f" ({duration(made.trained_share * seconds * left / count)}, because it took {duration(seconds)})"
    done = f"; {count - left} of them are done already" if made.done else ""
    return f"{known}{done}; each measures up to {largest:,} rows that it has not seen. Test rows take no part."


def last_training(p: params.Params, tracker: Tracker) -> float | None:
    """The seconds of the last `finetune`, as MLflow knows them."""
    report = Path(p.paths.reports) / "training.json"
    if not report.is_file():
        return None
    fingerprint = files.read_object(report, "fingerprint")["fingerprint"]
    run = tracker.find_run(Subject(fingerprint, p.registry.model, {}, {}, ()))
    started, finished = tracker.run_times(run.info.run_id) if run else ("", "")
    if not (started and finished):
        return None
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()


def crossvalidate(p: params.Params, made: Plan, tracker: Tracker) -> Result:
    """Run the cross-validation, write its result into paths.reports and record it in MLflow.

    Args:
        p: the params.
        made: from `plan`.
        tracker: where it is recorded.

    Raises:
        TrainingError: a training has failed.
        TrackingError: MLflow does not answer; the result is written.
    """
    cross_validation.run(made)
    result, reports = cross_validation.summarise(p, made), Path(p.paths.reports)
    files.write_parquet(reports / PREDICTIONS, result.predictions)
    files.write_json(reports / RESULT, {"digest": made.folder.name, **result.as_dict()})
    try:
        _record(p, made, result, tracker)
    except TrackingError as error:
        raise TrackingError(*error.problems, f"{reports / RESULT} holds the result") from error
    cross_validation.forget(made)
    return result


def _record(p: params.Params, made: Plan, result: Result, tracker: Tracker) -> None:
    git, reports = lineage.git_state(), Path(p.paths.reports)
    subject = Subject(
        fingerprint=made.folder.name,
        experiment=cross_validation.experiment(p),
        params={"folds": len(made.folds), "task": p.task, **p.finetune.model_dump()},
        tags={"mlflow.source.git.commit": git["git_commit"], "tuneline.git_dirty": git["git_dirty"]},
        inputs=(
            versions.clean_dataset(p, files.sha256_path(Path(p.paths.clean))),
            Dataset("base", files.sha256_path(Path(p.paths.base)), p.paths.base, "base model"),
        ),
    )
    run_id = tracker.ensure_run(subject, [])
    tracker.describe_run(run_id, _flat(result.metrics["candidate"]), {})
    tracker.attach(run_id, {reports / RESULT: "", reports / PREDICTIONS: ""})


def _flat(found: Mapping[str, FoldMean | str]) -> dict[str, float]:
    return {
        key: value
        for name, one in found.items()
        if isinstance(one, FoldMean)
        for key, value in ((name, one.mean), (f"{name}_low", one.low), (f"{name}_high", one.high))
    }


def lines(result: Result) -> list[str]:
    """The result for a person: each metric of the trained models with its interval, and the baselines' means."""
    names = list(result.metrics["candidate"])
    rows = [["metric", "mean", "95 % interval", "of each fold", *_others(result)]]
    for name in names:
        digits, found = metric(name).digits, result.metrics["candidate"][name]
        each = " ".join("-" if value is None else f"{value:.{digits}f}" for value in result.of_folds[name])
        own = (
            [f"{found.mean:.{digits}f}", f"{found.low:.{digits}f} to {found.high:.{digits}f}"]
            if isinstance(found, FoldMean)
            else ["-", found]
        )
        others = [result.metrics[model].get(name) for model in result.metrics if model != "candidate"]
        means = [f"{one.mean:.{digits}f}" if isinstance(one, FoldMean) else "-" for one in others]
        rows.append([metric(name).name, *own, each, *means])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _others(result: Result) -> list[str]:
    return [MODELS[model][0] for model in result.metrics if model != "candidate"]
