"""A classifier of 200 rows, with and without pseudo-labels for texts that nobody has labelled.

    .venv/bin/python -m tuneline exec -- python benchmarks/pseudo_labels.py --data FOLDER [--rows 200] [--seeds 3]

FOLDER has one file of lines per label, such as pos.txt and neg.txt. 200 rows are drawn for training, 100 for validation
and 1,000 as texts without labels; 1,000 others test. A copy of the project runs `tuneline use` and `dvc repro
validate_clean base`. Then the same base is fine-tuned once per seed on the rows alone; this model labels the texts, as
`tuneline pseudolabel` does; and the base is fine-tuned again with what it was sure of, for each confidence. Two more
trainings show what is possible: one with the true labels of all these texts, and one on the rows alone that takes about
as many steps. The table shows the share of right pseudo-labels, the measures on the test rows, the mean of the seeds,
and the differences with the 95 % interval of a paired bootstrap by group. No network is needed.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import augmentation
import pyarrow as pa
from tests.projects import copy_project

from tuneline import params
from tuneline.commands import pseudolabel
from tuneline.commands.ask.served_version import Served
from tuneline.commands.use.open_set import ReadingArguments
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.encoding.examples import CLASSIFICATION
from tuneline.evaluation import comparison
from tuneline.finetuning import mixture, tasks
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.registry import versions

VALIDATION, UNLABELLED, TEST = 100, 1_000, 1_000
TEXTS = Path("texts.jsonl")
PLAIN, LONGER, TRUE = "200 rows alone", "alone, as many steps", "with the true labels"


def prepare(data: Path, rows: int, root: Path) -> dict[str, str]:
    """Bring the rows into a copy of the project, and make its base; text -> true label of those without."""
    project = copy_project(root, {"compute.threads": 2, "sample.libraries": []})
    lines = [(line, path.stem) for path in sorted(data.glob("*.txt")) for line in path.read_text("utf-8").splitlines()]
    random.Random(0).shuffle(lines)
    taken, parts = iter(lines), {}
    for name, count in (("train", rows), ("validation", VALIDATION), ("texts", UNLABELLED), ("test", TEST)):
        parts[name] = [next(taken) for _ in range(count)]
    for name, part in parts.items():
        where = root / TEXTS if name == "texts" else root.parent / "rows" / f"{name}.jsonl"
        keys = ("text",) if name == "texts" else ("text", "label")
        written = (json.dumps(dict(zip(keys, row, strict=False)), ensure_ascii=False) for row in part)
        files.write_text(where, "\n".join(written) + "\n")
    augmentation.run(project, "use", str(root.parent / "rows"), "--task", "classification")
    augmentation.run(project, "exec", "--", "dvc", "repro", "validate_clean", "base")
    return dict(parts["texts"])


def train(p: params.Params, folder: Path) -> None:
    """Fine-tune the base on the rows, and on the set `pseudo` if the params name it."""
    clean, base = Path(p.paths.clean), Path(p.paths.base)
    ready = tasks.prepare(p.task, clean, base, p.finetune, p.compute, others=mixture.find_sources(p))
    trained = tasks.train(ready, p.finetune, p.compute, folder=folder / "checkpoints")
    models.save(trained.model, ready.tokenizer, folder / "model", ready.mode)


def label(p: params.Params, folder: Path, confidence: float) -> dict[str, str]:
    """The pseudo-labels that a model gives: text -> label."""
    trained = files.read_parquet(Path(p.paths.clean) / "train", ["id", "cluster"])
    files.write_parquet(folder / "model" / versions.TRAIN_ROWS, trained)
    served = Served(
        name="the model of the rows",
        folder=folder / "model",
        mode=CLASSIFICATION,
        max_length=p.finetune.max_length,
        columns={},
        version="1",
        alias=None,
    )
    target = Path(p.paths.mixture) / "pseudo"
    found = pseudolabel.pseudolabel(p, served, TEXTS, ReadingArguments(), target, {}, confidence=confidence)
    return {row["text"]: row["label"] for row in found.rows}


def write(p: params.Params, rows: dict[str, str]) -> None:
    """Put a set `pseudo` among the clean data."""
    clean = Path(p.paths.clean)
    table = pa.table({"source": [f"{n}" for n in range(len(rows))], "text": [*rows], "label": [*rows.values()]})
    files.write_parquet(clean / "mixture/pseudo/part-00000.parquet", table)
    about = files.read_object(clean / "dataset.json")
    about["mixture"] = {"pseudo": RecordForm("classification").as_json() | {"path": "mixture/pseudo"}}
    files.write_json(clean / "dataset.json", about)


def compare(true: dict[str, str], confidences: list[float], seeds: int, work: Path) -> None:
    """Train with every set and seed in the working directory, and print the tables."""
    began, file = time.monotonic(), Path("params.yaml")
    epochs = params.load().finetune.num_train_epochs
    kinds = [PLAIN, *(f"pseudo-labels from {one:g} on" for one in confidences), TRUE, LONGER]
    tables: dict[str, list[pa.Table]] = {kind: [] for kind in kinds}
    counts: dict[str, list[tuple[int, int]]] = {kind: [] for kind in kinds}
    for seed in range(seeds):
        first = work / f"seed-{seed}"
        for kind in kinds:
            values = {"finetune.seed": seed, "data.mixture": {}, "finetune.num_train_epochs": epochs}
            editing.set_values(file, values)
            p = params.load()
            models.use_threads(p.compute.threads)
            rows: dict[str, str] = {}
            if kind == TRUE:
                rows = true
            elif kind not in (PLAIN, LONGER):
                rows = label(p, first, confidences[kinds.index(kind) - 1])
            if rows:
                write(p, rows)
                editing.set_values(file, {"data.mixture": {"pseudo": {"weight": 1.0}}})
            elif kind == LONGER:
                editing.set_values(file, {"finetune.num_train_epochs": 4 * epochs})
            p = params.load()
            folder = first if kind == PLAIN else work / "one"
            # Or the training would go on from the checkpoints of the one before.
            shutil.rmtree(folder, ignore_errors=True)
            train(p, folder)
            model = comparison_model(p, folder)
            tables[kind].append(model)
            counts[kind].append((len(rows), sum(true[text] == given for text, given in rows.items())))
            print(f"seed {seed}, {kind}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    report(params.load(), tables, counts, seeds)


def comparison_model(p: params.Params, folder: Path) -> pa.Table:
    """The score table of a model on the test rows."""
    model = augmentation.ModelToScore(folder / "model", "candidate", p.finetune.max_length, models=0)
    return augmentation.TASKS[p.task].measure(model, augmentation.test_rows(p), p.evaluate)


def report(
    p: params.Params, tables: dict[str, list[pa.Table]], counts: dict[str, list[tuple[int, int]]], seeds: int
) -> None:
    """Print the table."""
    # Of one row all seeds are drawn together.
    every = pa.concat_tables([augmentation.test_rows(p)] * seeds)
    whole = {kind: pa.concat_tables(found) for kind, found in tables.items()}
    print("| | further rows | of them right | accuracy | calibration error | accuracy minus the rows alone |")
    print("|---|---:|---:|---:|---:|---|")
    for kind, table in whole.items():
        values = comparison.summarise(every, p.task, table)
        rows, right = (sum(one[at] for one in counts[kind]) for at in (0, 1))
        further = f"{rows / seeds:,.0f} | {right / rows:.1%}" if rows else " | "
        against = augmentation.difference(p, every, table, whole[PLAIN]) if kind != PLAIN else ""
        print(f"| {kind} | {further} | {values['accuracy']:.3f} | {values['ece']:.3f} | {against} |")


def main() -> None:
    """Prepare the project, train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with a file of lines for each label")
    parser.add_argument("--rows", type=int, default=200, help="to train on")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--confidence", type=float, action="append", help="of a pseudo-label; default: 0.8 and 0.95")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
        root = Path(temporary) / "project"
        true = prepare(given.data.resolve(), given.rows, root)
        os.chdir(root)
        compare(true, given.confidence or [0.8, 0.95], given.seeds, Path(temporary))


if __name__ == "__main__":
    main()
