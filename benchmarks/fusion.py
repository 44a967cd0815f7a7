"""Two models that were fine-tuned on halves of the training rows: each alone, merged, as an ensemble, and all rows.

    .venv/bin/python -m tuneline exec -- python benchmarks/fusion.py [--seed 0] [--methods linear ties] [--folder PATH]

Run it in a project whose clean data and base are there (`dvc repro validate_clean base`). The groups of the training
rows are drawn into two halves. Three models are fine-tuned with the params of the project: on each half, and on all
rows. The two are merged as `tuneline merge` merges, and averaged as `tuneline ensemble` averages, with equal weights
and with weights fitted on the validation rows. It prints tables in Markdown: the metrics on the test rows, and the
differences with the 95 % interval of a paired bootstrap by group. Nothing is registered.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE, read_form
from tuneline.errors import ModelError
from tuneline.evaluation import comparison
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.finetuning import tasks
from tuneline.fusion.ensembles.mixtures import MIXTURES, Outputs
from tuneline.fusion.merging import merge_recipe, merged_model
from tuneline.fusion.merging.merge_recipe import BASE, ROWS, SPARSE, Parent, Recipe
from tuneline.modeling import models
from tuneline.params.gate import METRICS_OF_TASK, metric

HALVES = ("half A", "half B")
ALL, UNIFORM = "all rows", "ensemble, uniform"


def train(p: params.Params, rows: pa.Table, folder: Path) -> Path:
    """Fine-tune on these rows of the training split, unless it is done, and return the folder of the model."""
    if (folder / "model").is_dir():
        return folder / "model"
    clean = Path(p.paths.clean)
    files.write_parquet(folder / "clean/train/part-00000.parquet", rows)
    shutil.copytree(clean / "validation", folder / "clean/validation")
    shutil.copyfile(clean / DATASET_FILE, folder / "clean" / DATASET_FILE)
    ready = tasks.prepare(p.task, folder / "clean", Path(p.paths.base), p.finetune, p.compute)
    trained = tasks.train(ready, p.finetune, p.compute, folder=folder / "checkpoints")
    models.save(trained.model, ready.tokenizer, folder / "model", ready.mode)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return folder / "model"


def merge(p: params.Params, parents: Mapping[str, Path], method: str, folder: Path) -> Path:
    """Merge models with equal weights, and return the folder of the merged model."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(Path(p.paths.base), source / BASE)
    weight = merge_recipe.default_weight(method, len(parents))
    named = []
    for number, parent in enumerate(parents.values(), start=1):
        shutil.copytree(parent, source / str(number))
        named.append(Parent(str(number), weight, files.sha256_path(source / str(number))))
    files.write_parquet(
        source / ROWS, pa.table({"id": pa.array([], pa.string()), "cluster": pa.array([], pa.string())})
    )
    density = merge_recipe.DENSITY if method in SPARSE else None
    recipe = Recipe(method, tuple(named), density, merge_recipe.SEED if method in merge_recipe.RANDOM else None)
    sealed = {"base_sha256": files.sha256_path(source / BASE), "rows_sha256": files.sha256_path(source / ROWS)}
    merge_recipe.write(replace(recipe, **sealed), source)
    merged_model.write(source, folder / "model")
    return folder / "model"


def main() -> None:
    """Train, merge, average, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the halves")
    parser.add_argument("--methods", nargs="+", default=["linear", "ties"], choices=merge_recipe.METHODS)
    parser.add_argument("--folder", type=Path, help="keeps the models, and takes those that it has")
    given = parser.parse_args()
    p = params.load()
    if p.task not in MIXTURES:
        raise ModelError(f"task {p.task} has no ensembles")
    models.use_threads(p.compute.threads)
    with tempfile.TemporaryDirectory() as temporary:
        compare(p, given.seed, given.methods, given.folder or Path(temporary))


def compare(p: params.Params, seed: int, methods: list[str], work: Path) -> None:
    """Train, merge, average, and print the tables.

    Args:
        p: the params.
        seed: of the draw of the halves.
        methods: of merging.
        work: where the models are written.
    """
    began, clean, mixture = time.monotonic(), Path(p.paths.clean), MIXTURES[p.task]
    task, form = TASKS[p.task], read_form(clean, p.task)
    rows = files.read_parquet(clean / "train")
    clusters = sorted(set(rows["cluster"].to_pylist()))
    chosen = set(np.random.default_rng(seed).permutation(clusters)[: len(clusters) // 2].tolist())
    is_first = np.array([cluster in chosen for cluster in rows["cluster"].to_pylist()])
    parts = {HALVES[0]: rows.filter(is_first), HALVES[1]: rows.filter(~is_first), ALL: rows}
    folders = {name: train(p, part, work / name.replace(" ", "-")) for name, part in parts.items()}
    halves = {name: folders[name] for name in HALVES}
    folders |= {f"merged, {method}": merge(p, halves, method, work / f"merged-{method}") for method in methods}
    validation, test = (
        task.test_rows(files.read_parquet(clean / name), p.evaluate, form) for name in ("validation", "test")
    )
    both, border = pa.concat_tables([validation, test]), validation.num_rows
    found = {
        name: mixture.measure(ModelToScore(folder, name, p.finetune.max_length), both, p.evaluate)
        for name, folder in folders.items()
    }
    on_test: dict[str, Outputs] = {name: one.of_rows(border, both.num_rows) for name, one in found.items()}
    tables = {name: mixture.scores(test, [one], [1.0]) for name, one in on_test.items()}
    members = [on_test[name] for name in HALVES]
    fitted = mixture.fit(validation, [found[name].of_rows(0, border) for name in HALVES])
    assert fitted is not None
    tables[UNIFORM] = mixture.scores(test, members, [0.5, 0.5])
    tables["ensemble, fitted"] = mixture.scores(test, members, fitted.weights)
    counts = ", ".join(f"{name} {part.num_rows:,} rows" for name, part in parts.items())
    groups = len(set(test["cluster"].to_pylist()))
    print(f"\n{p.registry.model}: {counts}; {test.num_rows:,} test rows of {groups:,} groups; seed {seed}")
    print(f"fitted weights: {fitted.weights[0]:.3f} and {fitted.weights[1]:.3f}, from {fitted.items:,} {mixture.item}")
    print(f"{time.monotonic() - began:.0f} s\n")
    print_tables(p, test, tables)


def print_tables(p: params.Params, test: pa.Table, tables: Mapping[str, pa.Table]) -> None:
    """Print the metrics of each model, and the differences, as tables in Markdown."""
    metrics = {name: comparison.summarise(test, p.task, table) for name, table in tables.items()}
    names = [name for name in METRICS_OF_TASK[p.task] if name in metrics[ALL]]
    against = (*HALVES, ALL, UNIFORM)
    print(f"| | {' | '.join(metric(name).name for name in metrics[ALL])} |")
    print(f"|---|{'---:|' * len(metrics[ALL])}")
    for model, values in metrics.items():
        shown = " | ".join(f"{values[name]:.{metric(name).digits}f}" for name in metrics[ALL])
        print(f"| {model} | {shown} |")
    for name in names:
        print(f"\n| {metric(name).name} | {' | '.join(f'minus {other}' for other in against)} |")
        print(f"|---|{'---|' * len(against)}")
        for model in (*HALVES, *(one for one in tables if one not in against), UNIFORM):
            cells = [
                _difference(p, test, name, tables[model], tables[other]) if _is_asked(model, other) else ""
                for other in against
            ]
            print(f"| {model} | {' | '.join(cells)} |")


def _is_asked(model: str, other: str) -> bool:
    """Whether the table shows this difference: those that the reverse would show, and of the halves, are left out."""
    return model != other and not (model in HALVES and other in (*HALVES, UNIFORM))


def _difference(p: params.Params, test: pa.Table, name: str, one: pa.Table, other: pa.Table) -> str:
    found = comparison.compare(test, p.task, one, other, p.evaluate)[name]
    if not isinstance(found, Interval) or found.low is None or found.high is None:
        return "not measured"
    digits = metric(name).digits
    return f"{found.difference:+.{digits}f} ({found.low:+.{digits}f} to {found.high:+.{digits}f})"


if __name__ == "__main__":
    main()
