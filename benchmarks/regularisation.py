"""What each remedy against overfitting brings on 200 labelled rows, against the same training without any.

    .venv/bin/tuneline exec -- python benchmarks/regularisation.py --data FOLDER [--draws 6]

FOLDER has one file of lines per label, such as pos.txt and neg.txt. The rows are divided into draws that share no row;
each draw has 200 rows to learn, 60 of validation and 230 of test. One base is pretrained on all rows but those of test,
without labels. In each draw the base is fine-tuned once without a remedy and once with each; a remedy differs in the
keys that the table names, and its strength was not chosen by these rows. The interval is that of Student's t of the
differences of the draws, so it holds for other rows of the same kind. The benchmark needs no network.
"""

import argparse
import contextlib
import io
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from ruamel.yaml import YAML
from scipy import stats

from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.finetuning import tasks
from tuneline.modeling import models
from tuneline.params import Builtin, Compute, Finetune
from tuneline.pretraining import pretrain
from tuneline.training.objectives import Classification, batches

ROOT = Path(__file__).resolve().parents[1]
LEARNED, VALIDATION, TEST = 200, 60, 230
# Without a remedy: ten times over the rows, and the last weights.
PLAIN: dict[str, Any] = {
    "num_train_epochs": 10.0,
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "per_device_train_batch_size": 16,
    "packing": False,
    "max_length": 64,
    "save_steps": 0.5,
    "early_stopping_patience": None,
}
REMEDIES: dict[str, dict[str, Any]] = {
    "early_stopping_patience: 3": {"early_stopping_patience": 3},
    "early_stopping_patience: 3, by the loss": {"early_stopping_patience": 3, "metric_for_best_model": "loss"},
    "num_train_epochs: 3": {"num_train_epochs": 3.0},
    "weight_decay: 0.1": {"weight_decay": 0.1},
    "l1_decay: 0.1": {"l1_decay": 0.1},
    "dropout: {attention_dropout: 0.1}": {"dropout": {"attention_dropout": 0.1}},
    "label_smoothing_factor: 0.1": {"label_smoothing_factor": 0.1},
    "neftune_noise_alpha: 5": {"neftune_noise_alpha": 5.0},
    "freeze: {embeddings: true, layers: [0]}": {"freeze": {"embeddings": True, "layers": [0]}},
    "layerwise_lr_decay: 0.7": {"layerwise_lr_decay": 0.7},
    "lora: {r: 8, lora_alpha: 16, lora_dropout: 0.1}, learning_rate: 0.005": {
        "lora": {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": "all-linear"},
        "learning_rate": 0.005,
    },
}
MORE = "more data: 600 rows"
BASE: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
    "document_length": 64,
    "max_length": 64,
    "min_frequency": 4,
    "num_train_epochs": 8.0,
    "max_steps": 300,
    "learning_rate": 0.01,
    "adam_learning_rate": 0.01,
}
Row = tuple[str, str]
Measures = dict[str, float]


def read(folder: Path, seed: int) -> list[Row]:
    """The rows of all labels in a random order, each text once."""
    rows = {
        line.strip(): path.stem
        for path in sorted(folder.glob("*.txt"))
        for line in path.read_text("utf-8").splitlines()
        if line.strip()
    }
    shuffled = sorted(rows.items())
    random.Random(seed).shuffle(shuffled)
    return shuffled


def write(clean: Path, **splits: Sequence[Row]) -> None:
    """Clean splits as `prepare` writes them."""
    for name, rows in splits.items():
        table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
        files.write_parquet(clean / name / "part-00000.parquet", table)
    files.write_json(clean / "dataset.json", RecordForm("classification").as_json() | {"mixture": {}})


def train(clean: Path, tested: Path, base: Path, finetune: Finetune, compute: Compute) -> Measures:
    """Fine-tune the base, and measure it on the rows that it learned and on those of test."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        ready = tasks.prepare("classification", clean, base, finetune, compute)
        training = tasks.train(ready, finetune, compute, folder=Path(folder))
        # As validation, so that its rows are encoded in the same way.
        rows = tasks.prepare("classification", tested, base, finetune, compute).validation
    objective = Classification(models.pad_token_id(ready.tokenizer), len(ready.model.config.id2label or ()), False)
    model = training.model.eval()
    with torch.no_grad():
        learned, held_out = (
            {
                name: value / weight
                for name, (value, weight) in objective.measure(model, batches(objective, part, 32)).items()
            }
            for part in (ready.examples, rows)
        )
    return {"learned": learned["loss"], "loss": held_out["loss"], "accuracy": held_out["accuracy"]}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean of the draws, and the half width of its 95 % interval."""
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(stats.t.ppf(0.975, len(values) - 1)) * spread


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.monotonic()
    rows = read(asked.data, asked.seed)
    each = LEARNED + VALIDATION + TEST
    if asked.draws < 3 or len(rows) < asked.draws * each:
        sys.exit(f"error: {len(rows)} rows are too few for {asked.draws} draws of {each} rows, or fewer than 3 draws")
    draws = [rows[number * each : (number + 1) * each] for number in range(asked.draws)]
    values = YAML(typ="safe").load(ROOT / "params.yaml")
    # The model is too small to gain from a second thread.
    compute = Compute(**(values["compute"] | {"threads": 1}))
    models.use_threads(compute.threads)
    found: dict[str, list[Measures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # The token cache is in the working directory.
        os.chdir(folder)
        place, base = Path(folder), Path(folder) / "base"
        known = [text for draw in draws for text, _ in draw[: LEARNED + VALIDATION]]
        with contextlib.redirect_stdout(io.StringIO()):
            made = pretrain.pretrain(
                known[60:],
                known[:60],
                Builtin(**(values["base"]["builtin"] | BASE)),
                compute,
                folder=place / "pretraining",
            )
            models.save(made.model, made.tokenizer, base)
        sys.stderr.write(f"base: {models.count_parameters(made.model):,} parameters, {made.training.steps} steps\n")
        plain = values["finetune"] | PLAIN
        for number, draw in enumerate(draws):
            clean, tested, larger = (place / f"{name}-{number}" for name in ("clean", "tested", "larger"))
            learned, checked, test = draw[:LEARNED], draw[LEARNED:-TEST], draw[-TEST:]
            write(clean, train=learned, validation=checked)
            write(tested, train=learned, validation=test)
            following = [draws[(number + more) % len(draws)] for more in (1, 2)]
            others = [row for other in following for row in other[:LEARNED]]
            write(larger, train=[*learned, *others], validation=checked)
            variants = [(name, clean, keys) for name, keys in ({"none": {}} | REMEDIES).items()]
            for name, rows_of, keys in [*variants, (MORE, larger, {})]:
                finetune = Finetune.model_validate(plain | keys)
                found.setdefault(name, []).append(train(rows_of, tested, base, finetune, compute))
            sys.stderr.write(f"draw {number + 1} of {asked.draws}: {time.monotonic() - started:.0f} s\n")
    none = found.pop("none")
    print(
        "| remedy | loss, learned rows | loss, test rows | accuracy | loss versus none | accuracy versus none, points |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    print(f"| none | {_means(none)} | | |")
    for name, measured in found.items():
        loss = interval([one["loss"] - two["loss"] for one, two in zip(measured, none, strict=True)])
        points = interval([100 * (one["accuracy"] - two["accuracy"]) for one, two in zip(measured, none, strict=True)])
        print(
            f"| `{name}` | {_means(measured)} | {loss[0]:+.2f} ± {loss[1]:.2f} | {points[0]:+.1f} ± {points[1]:.1f} |"
        )
    took = f"{time.monotonic() - started:.0f} s, {time.process_time():.0f} s of processor time"
    print(f"\n{asked.draws} draws of {LEARNED} rows, {TEST} test rows each; {took}")


def _means(measured: Sequence[Measures]) -> str:
    learned, loss, accuracy = (
        statistics.mean(one[name] for one in measured) for name in ("learned", "loss", "accuracy")
    )
    return f"{learned:.2f} | {loss:.2f} | {accuracy:.3f}"


if __name__ == "__main__":
    main()
