"""Measure the candidate and its base on the test split, beside trivial baselines.

    python -m tuneline.stages evaluate

Reads paths.clean, paths.base and paths.finetuned; writes evaluation.json (every number), metrics.json (the few that
people compare), rows.parquet (scores row by row), intervals.csv (a plot) and measured.json (the sha256 of what was
measured) into paths.reports. Nothing depends on the registry: the comparison with the champion belongs to the gate.
"""

from pathlib import Path

from tuneline import params
from tuneline.core import files
from tuneline.encoding import token_cache
from tuneline.errors import ModelError
from tuneline.evaluation import baselines, comparison, results, score, score_table
from tuneline.modeling import models


def main(p: params.Params) -> None:
    """Run the stage."""
    models.use_threads(p.compute.threads)
    clean, reports, finetuned = Path(p.paths.clean), Path(p.paths.reports), Path(p.paths.finetuned)
    judged = {"model_sha256": finetuned, "base_sha256": Path(p.paths.base), "data_sha256": clean}
    measured = {name: files.sha256_path(place) for name, place in judged.items()}
    account = clean / "dataset.json"
    dataset = files.read_object(account) if account.is_file() else {}
    test, train = (
        comparison.rows_of(files.read_parquet(clean / name), p.task, p.evaluate, dataset) for name in ("test", "train")
    )
    length, scores, versus = p.finetune.max_length, {}, {}
    tokens_in = token_cache.FOLDER / "evaluated-train", token_cache.FOLDER / "evaluated-test"
    # A base has no head that could give labels or numbers.
    if p.task not in ("classification", "regression"):
        scores["base"] = score.measure(
            Path(p.paths.base),
            test,
            p.task,
            p.evaluate,
            max_length=length,
            name="base",
            like=finetuned,
            tokens_in=tokens_in[1],
            # The base and the candidate, which is as large.
            count=2,
        )
    candidate = score.measure(
        finetuned,
        test,
        p.task,
        p.evaluate,
        max_length=length,
        name="candidate",
        base=scores.get("base"),
        tokens_in=tokens_in[1],
        count=0,
    )
    of_baselines = baselines.measure(finetuned, train, test, p.task, p.evaluate, tokens_in=tokens_in)
    scores = {"candidate": candidate, **scores, **of_baselines}
    if "base" in scores:
        versus["base"] = comparison.compare(test, p.task, candidate, scores["base"], p.evaluate)
    versus["baseline"] = comparison.versus_baselines(test, p.task, scores, p.evaluate)
    if changed := [str(place) for name, place in judged.items() if files.sha256_path(place) != measured[name]]:
        raise ModelError(f"{' and '.join(changed)}: changed while it was measured; run the same command again")
    files.write_json(reports / "measured.json", measured)
    files.write_parquet(reports / "rows.parquet", score_table.join(test, scores))
    files.write_text(reports / "intervals.csv", results.interval_lines(next(iter(versus.values()))))
    evaluation = results.evaluation(test, p.task, scores, versus)
    files.write_json(reports / "evaluation.json", evaluation)
    files.write_json(reports / "metrics.json", results.compared(evaluation, p.task, train_rows=train.num_rows))
