"""Classification without a hub model: a base pretrained on the texts themselves, then a head for the labels.

    python benchmarks/classification.py --data FOLDER [--set KEY=VALUE …]

FOLDER has one file of lines per label, such as pos.txt and neg.txt. A copy of the project runs `tuneline use`, `dvc
repro evaluate` and `tuneline gate` on it. The table shows the measures on the test split; the linear model over TF-
IDF was trained on the same rows. The benchmark needs no network.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ruamel.yaml import YAML
from tests.projects import Project, copy_project

from tuneline.core import files
from tuneline.params import editing

RAW = "labelled"
RECIPE = {
    "compute.threads": 2,
    "sample.libraries": [],
    "data.pretraining": f"data/raw/{RAW}",
    "data.split.group_by": None,
    "data.split.test": 0.2,
    "base.builtin.vocab_size": 2048,
    "base.builtin.hidden_size": 128,
    "base.builtin.intermediate_size": 256,
    "base.builtin.num_hidden_layers": 2,
    "base.builtin.num_attention_heads": 4,
    "base.builtin.tie_word_embeddings": True,
    "base.builtin.max_steps": 300,
    "base.builtin.document_length": 64,
    "finetune.num_train_epochs": 4.0,
    "finetune.learning_rate": 0.0005,
    "finetune.lr_scheduler_type": "cosine",
    "finetune.warmup_steps": 50,
    "finetune.weight_decay": 0.1,
    "finetune.per_device_train_batch_size": 16,
    "finetune.packing": False,
    "finetune.max_length": 256,
    "finetune.eval_steps": 50,
    "finetune.save_steps": 50,
    "finetune.early_stopping_patience": 6,
    "gate.rules": [
        {"metric": "macro_f1", "direction": "higher", "versus": "baseline", "margin": 0.0},
        {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0},
    ],
}
_SHOWN = ("candidate", "tfidf", "majority")
_METRICS = ("accuracy", "macro_f1")


def measure(data: Path, changed: dict[str, Any], root: Path) -> None:
    """Run the line in `root`, and print what came out."""
    project = copy_project(root)
    run(project, "use", str(data), "--name", RAW, "--task", "classification")
    editing.set_values(root / "params.yaml", RECIPE | changed)
    started = time.monotonic()
    run(project, "exec", "--", "dvc", "repro", "evaluate")
    seconds = time.monotonic() - started
    decided = project.tuneline("gate")
    found = files.read_json(root / "reports" / "evaluation.json")
    trained = files.read_json(root / "data" / "clean" / "dataset.json")["rows"]["train"]
    print(f"{trained:,} rows to train on, {found['rows']:,} to test on; the whole line took {seconds:.0f} s\n")
    print(f"| | {' | '.join(_METRICS)} |\n|---|---:|---:|")
    for name in _SHOWN:
        print(f"| {name} | {' | '.join(f'{found[name][metric]:.3f}' for metric in _METRICS)} |")
    print(f"\n{decided.stdout}")


def run(project: Project, *arguments: str) -> None:
    """Run `tuneline ARGUMENTS…`, which must end well."""
    done = project.tuneline(*arguments)
    if done.returncode != 0:
        raise SystemExit(f"tuneline {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with a file of lines for each label")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a param, for a try")
    arguments = parser.parse_args()
    pairs = (text.split("=", 1) for text in arguments.set)
    changed = {key: YAML(typ="safe").load(value) for key, value in pairs}
    print(f"load average {os.getloadavg()[0]:.2f}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
        measure(arguments.data.resolve(), changed, Path(temporary) / "project")


if __name__ == "__main__":
    main()
