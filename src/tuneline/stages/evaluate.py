"""Score the candidate, its base and trivial baselines on the test split, and what fine-tuning did to the base.

    python -m tuneline.stages evaluate
    python -m tuneline.stages evaluate@7                  only the scores of a twin, in twins/7/scores.parquet
    python -m tuneline.stages evaluate@without/plain      and those of a training without some rows, in without/plain

Reads paths.clean, paths.base, paths.finetuned and the held-out part of paths.pretraining. Writes into paths.reports:
    evaluation.json: every metric and difference
    metrics.json: the few metrics that people compare
    intervals.json: every interval, for the gate
    intervals.csv: the intervals as a plot
    rows.parquet: the scores of every row
    slices.json: the metrics and intervals of each slice of evaluate.slices
    probes.parquet: the scores of the rows of probes, such as general text and training rows
    probes.json: what the probes were measured on, or why one was not measured
    measured.json: the sha256 of what was measured
The stage does not know the registry: the gate compares the candidate with the champion.
"""

from pathlib import Path

import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import read_form, read_kept_columns
from tuneline.encoding import token_cache
from tuneline.errors import ModelError
from tuneline.evaluation import comparisons, results, score_table, slices
from tuneline.evaluation.probes import harness, probe_rows, probe_table
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.modeling import hardware, models


def main(p: params.Params, item: str | None = None) -> None:
    """Run the stage.

    Args:
        p: the params.
        item: which training beside the candidate's, as for `Params.aside`; None: the candidate is measured.
    """
    hardware.check_portable(p.compute)
    models.use_threads(p.compute.threads)
    if item is not None:
        _measure_aside(p.aside(item), item)
        return
    clean, reports, finetuned = Path(p.paths.clean), Path(p.paths.reports), Path(p.paths.finetuned)
    inputs = {"model_sha256": finetuned, "base_sha256": Path(p.paths.base), "data_sha256": clean}
    measured = {name: files.sha256_path(path) for name, path in inputs.items()}
    task, form = TASKS[p.task], read_form(clean, p.task)
    of_split = {name: files.read_parquet(clean / name) for name in ("test", "train")}
    test, train = (task.test_rows(split, p.evaluate, form) for split in of_split.values())
    test = slices.add_columns(test, of_split["test"], p.evaluate.slices, form, read_kept_columns(clean))
    probes = probe_rows.find(p, form, of_split["train"], of_split["test"])
    probed: dict[str, dict[str, pa.Table]] = {}
    tasks, of_tasks = harness.run(p)
    of_train, of_test = token_cache.FOLDER / "evaluated-train", token_cache.FOLDER / "evaluated-test"
    length, scores = p.finetune.max_length, {}
    if params.TASK_KEYS[p.task].scores_base:
        # The estimate of the base's time is that of the candidate too, which is as large.
        base = ModelToScore(Path(p.paths.base), "base", length, encoded_as=finetuned, token_cache=of_test, models=2)
        scores["base"] = task.measure(base, test, p.evaluate)
        probed["base"] = probe_table.measure(base, probes.rows, p.evaluate)
    candidate = ModelToScore(finetuned, "candidate", length, base=scores.get("base"), token_cache=of_test, models=0)
    scores = {"candidate": task.measure(candidate, test, p.evaluate), **scores}
    probed["candidate"] = probe_table.measure(candidate, probes.rows, p.evaluate)
    found = probe_rows.complete(p, probes, of_split["train"], test, scores, probed)
    found |= {name: probe_table.Probed(*one) for name, one in tasks.items()}
    scores |= task.baselines(finetuned, train, test, p.evaluate, (of_train, of_test))
    versus = comparisons.compare_all(test, p.task, scores, p.evaluate)
    csv = results.intervals_csv(next(iter(versus.values())))
    for name, other in (("base", "base"), ("value", None)):
        if name in versus:
            versus[name] = {**versus[name], **probe_table.compare(found, probes.absent, other, p.evaluate)}
    sliced = comparisons.compare_slices(test, p.task, scores, p.evaluate)
    if changed := [str(path) for name, path in inputs.items() if files.sha256_path(path) != measured[name]]:
        raise ModelError(f"{' and '.join(changed)}: changed while it was measured; run the same command again")
    differences = {name: measures for name, measures in versus.items() if name != "value"}
    of_models = {name: probe_table.summarise(found, name) for name in probed}
    of_slices = slices.summary(sliced, versus["value"])
    evaluation = results.evaluation_json(test, p.task, scores, differences, of_slices, of_models)
    if count := evaluation.get("windowed_rows"):
        print(
            f"{count:,} of {test.num_rows:,} test rows are longer than the model sees at once and were scored in "
            f"overlapping windows; they hold {evaluation['windowed_share_of_bytes']:.0%} of the bytes",
            flush=True,
        )
    files.write_json(reports / "measured.json", measured)
    files.write_parquet(reports / "rows.parquet", score_table.join(test, scores))
    files.write_parquet(reports / "probes.parquet", probe_table.to_table(found))
    files.write_json(reports / "probes.json", {"absent": probes.absent, **probes.about, **of_tasks})
    files.write_text(reports / "intervals.csv", csv)
    files.write_json(reports / "intervals.json", results.intervals_json(versus))
    files.write_json(reports / "slices.json", slices.as_json(sliced))
    files.write_json(reports / "evaluation.json", evaluation)
    files.write_json(reports / "metrics.json", results.metrics_json(evaluation, p.task, train_rows=train.num_rows))


def _measure_aside(p: params.Params, item: str) -> None:
    """Write the score table of a model that was trained beside the candidate, with the ids of the test rows."""
    clean, finetuned = Path(p.paths.clean), Path(p.paths.finetuned)
    task = TASKS[p.task]
    test = task.test_rows(files.read_parquet(clean / "test"), p.evaluate, read_form(clean, p.task))
    of_test, length, base = token_cache.FOLDER / "evaluated-test", p.finetune.max_length, None
    if task.is_relative_to_base:
        asked = ModelToScore(Path(p.paths.base), "base", length, encoded_as=finetuned, token_cache=of_test)
        base = task.measure(asked, test, p.evaluate)
    name = f"twin with the seed {item}" if item.isdecimal() else item.replace("/", " ")
    scores = task.measure(ModelToScore(finetuned, name, length, base=base, token_cache=of_test), test, p.evaluate)
    written = score_table.join(test.select(["id"]), {"twin" if item.isdecimal() else "without": scores})
    files.write_parquet(Path(p.paths.reports) / "scores.parquet", written)
