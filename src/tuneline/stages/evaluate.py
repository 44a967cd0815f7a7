"""Measure the candidate and its base on the test split, beside what costs nothing.

    python -m tuneline.stages evaluate

Reads paths.clean, paths.base and paths.finetuned; writes evaluation.json (metrics), rows.parquet (scores row by row)
and intervals.csv (a plot) into paths.reports. Nothing here depends on the registry: the comparison with the champion
belongs to the gate.
"""

from pathlib import Path

from tuneline import files, params
from tuneline.evaluation import baselines, comparison, measuring, results
from tuneline.training import models


def main(p: params.Params) -> None:
    """Run the stage."""
    models.use_threads(p.compute.threads)
    clean, reports, finetuned = Path(p.paths.clean), Path(p.paths.reports), Path(p.paths.finetuned)
    test, train = (
        comparison.Rows.of_split(files.read_parquet(clean / f"{name}.parquet"), p.task, p.evaluate)
        for name in ("test", "train")
    )
    scores = {
        name: measuring.measure(Path(folder), test, p.evaluate, max_length=p.finetune.max_length, name=name)
        for name, folder in (("candidate", p.paths.finetuned), ("base", p.paths.base))
    }
    asked = test.take([index for index, answered in enumerate(test.answered) if answered])
    costless = {
        "unigram": baselines.unigram(
            models.load_tokenizer(finetuned), train.records, test.records, mode=models.mode(finetuned)
        ),
        "copy": baselines.copy(asked.prompts, asked.references) if p.task == "sft" else {},
    }
    versus_base = comparison.compare(scores["candidate"], scores["base"], test.clusters, p.evaluate)
    files.write_parquet(reports / "rows.parquet", results.row_scores(test, scores))
    files.write_text(reports / "intervals.csv", results.interval_lines(versus_base))
    files.write_json(reports / "evaluation.json", results.evaluation(test, scores, costless, versus_base))
