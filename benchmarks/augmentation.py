"""A classifier of 200 rows, with and without variants of its training rows.

    .venv/bin/python -m tuneline exec -- python benchmarks/augmentation.py --data FOLDER [--rows 200] [--seeds 3]

FOLDER has one file of lines per label, such as pos.txt and neg.txt, in Chinese: the table of synonyms is. 200 rows
are drawn for training and 100 for validation; all others test. A copy of the project runs `tuneline use` and `dvc repro
validate_clean base`; then the same base is fine-tuned once per seed and kind of variants. A training with variants of
weight 1 sees twice as many rows, so there is also one without variants that takes as many steps. The tables show the
measures on the test rows, the mean of the seeds, and the differences with the 95 % interval of a paired bootstrap by
group. The interval is about the test rows; how much the seed changes, the accuracies of the seeds show. The benchmark
needs the extra `augment` and no network.
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
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa
from ruamel.yaml import YAML
from tests.projects import Project, copy_project

from tuneline import params
from tuneline.augmentation import preconditions, synonym_table, text_noise, variants
from tuneline.core import files
from tuneline.data.records.record_form import read_form
from tuneline.evaluation import comparison
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.finetuning import mixture, tasks
from tuneline.modeling import models
from tuneline.params import editing

VALIDATION = 100
TABLE = Path("data/words.csv")
WORDS = """好,不错,很棒
很好,非常好,挺好
不错,挺好,还好
差,糟,糟糕
太差,很差,太糟
漂亮,好看,美观
便宜,实惠,划算
贵,昂贵
喜欢,喜爱,中意
失望,不满意
满意,称心
方便,便利
舒服,舒适
干净,整洁
安静,清静
快,迅速
慢,缓慢
问题,毛病
质量,品质
价格,价钱
酒店,宾馆
房间,客房
服务员,店员
早餐,早饭
本本,笔记本
屏幕,显示屏
噪音,杂音
声音,响声
外观,外形,外型
性能,表现
速度,快慢
建议,提议
觉得,感觉
非常,十分,特别
比较,相对
可能,也许
但是,不过,可是
而且,并且
所以,因此
电池,电源
"""
PLAIN, LONGER, ALL = "no variants", "no variants, as many steps", "all three, a third each"
KINDS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    LONGER: {},
    "word_dropout": {"noise": {"word_dropout": {"weight": 1.0, "p": 0.1}}},
    "word_swap": {"noise": {"word_swap": {"weight": 1.0, "p": 0.1}}},
    "synonyms": {"synonyms": {"words": {"weight": 1.0, "p": 0.5, "table": str(TABLE)}}},
    ALL: {
        "noise": {"word_dropout": {"weight": 0.34, "p": 0.1}, "word_swap": {"weight": 0.33, "p": 0.1}},
        "synonyms": {"words": {"weight": 0.33, "p": 0.5, "table": str(TABLE)}},
    },
}
METRICS = ("accuracy", "macro_f1")


def prepare(data: Path, rows: int, changed: dict[str, Any], root: Path) -> None:
    """Bring the rows into a copy of the project, and make its base."""
    project = copy_project(root, {"compute.threads": 2, "sample.libraries": []})
    lines = [(line, path.stem) for path in sorted(data.glob("*.txt")) for line in path.read_text("utf-8").splitlines()]
    random.Random(0).shuffle(lines)
    parts = {"train": lines[:rows], "validation": lines[rows : rows + VALIDATION], "test": lines[rows + VALIDATION :]}
    for split, part in parts.items():
        written = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in part)
        files.write_text(root.parent / "rows" / f"{split}.jsonl", "\n".join(written) + "\n")
    run(project, "use", str(root.parent / "rows"), "--task", "classification")
    editing.set_values(root / "params.yaml", changed)
    run(project, "exec", "--", "dvc", "repro", "validate_clean", "base")


def run(project: Project, *arguments: str) -> None:
    """Run `tuneline ARGUMENTS…`, which must end well."""
    done = project.tuneline(*arguments)
    if done.returncode != 0:
        raise SystemExit(f"tuneline {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")


def train(p: params.Params, folder: Path) -> tuple[pa.Table, int]:
    """Fine-tune with the variants of the params; the score table of the test rows, and the steps."""
    shutil.rmtree(p.paths.augmented, ignore_errors=True)
    for name, _, settings in p.data.augment.variants():
        if isinstance(settings, params.Synonyms):
            noise = synonym_table.Replacer(synonym_table.read(TABLE))
            variants.make(p, name, variants.by_text(noise, settings.p))
        elif isinstance(settings, params.Noise):
            variants.make(p, name, variants.by_text(text_noise.NOISES[name], settings.p))
    clean, base = Path(p.paths.clean), Path(p.paths.base)
    ready = tasks.prepare(p.task, clean, base, p.finetune, p.compute, others=mixture.find_sources(p))
    trained = tasks.train(ready, p.finetune, p.compute, folder=folder / "checkpoints")
    models.save(trained.model, ready.tokenizer, folder / "model", ready.mode)
    task = TASKS[p.task]
    rows = test_rows(p)
    scores = task.measure(
        ModelToScore(folder / "model", "candidate", p.finetune.max_length, models=0), rows, p.evaluate
    )
    shutil.rmtree(folder)
    return scores, trained.steps


def test_rows(p: params.Params) -> pa.Table:
    """The test rows as they are measured."""
    clean = Path(p.paths.clean)
    return TASKS[p.task].test_rows(files.read_parquet(clean / "test"), p.evaluate, read_form(clean, p.task))


def compare(seeds: int, work: Path) -> None:
    """Train with every kind and seed in the working directory, and print the tables."""
    began = time.monotonic()
    text, p = Path("params.yaml").read_text("utf-8"), params.load()
    tables: dict[str, list[pa.Table]] = {kind: [] for kind in KINDS}
    steps: dict[str, int] = {}
    for seed in range(seeds):
        for kind, augment in KINDS.items():
            Path("params.yaml").write_text(text, "utf-8")
            epochs = params.load().finetune.num_train_epochs * (2 if kind == LONGER else 1)
            editing.set_values(
                Path("params.yaml"),
                {"data.augment": augment, "finetune.seed": seed, "finetune.num_train_epochs": epochs},
            )
            p = params.load()
            preconditions.check(p)
            models.use_threads(p.compute.threads)
            scores, steps[kind] = train(p, work / "one")
            tables[kind].append(scores)
    rows, trained = test_rows(p), files.read_object(Path(p.paths.clean) / "dataset.json")["rows"]["train"]
    # Of one row all seeds are drawn together.
    every = pa.concat_tables([rows] * seeds)
    whole = {kind: pa.concat_tables(found) for kind, found in tables.items()}
    print(
        f"\n{trained:,} training rows, {rows.num_rows:,} test rows, {seeds} seeds; {time.monotonic() - began:.0f} s\n"
    )
    print(f"| | steps | {' | '.join(METRICS)} | accuracy of each seed | minus '{PLAIN}' | minus '{LONGER}' |")
    print(f"|---|---:|{'---:|' * len(METRICS)}---|---|---|")
    for kind, table in whole.items():
        values = comparison.summarise(every, p.task, table)
        shown = " | ".join(f"{values[name]:.3f}" for name in METRICS)
        each = ", ".join(f"{comparison.summarise(rows, p.task, one)['accuracy']:.3f}" for one in tables[kind])
        against = [difference(p, every, table, whole[other]) if other != kind else "" for other in (PLAIN, LONGER)]
        print(f"| {kind} | {steps[kind]:,} | {shown} | {each} | {' | '.join(against)} |")


def difference(p: params.Params, rows: pa.Table, one: pa.Table, other: pa.Table) -> str:
    """The difference of the accuracies with its interval."""
    found = comparison.compare(rows, p.task, one, other, p.evaluate)["accuracy"]
    assert isinstance(found, Interval)
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def main() -> None:
    """Prepare the project, train, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with a file of lines for each label")
    parser.add_argument("--rows", type=int, default=200, help="to train on")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a param, for a try")
    given = parser.parse_args()
    pairs = (text.split("=", 1) for text in given.set)
    changed = {key: YAML(typ="safe").load(value) for key, value in pairs}
    print(f"load average {os.getloadavg()[0]:.2f}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
        root = Path(temporary) / "project"
        prepare(given.data.resolve(), given.rows, changed, root)
        os.chdir(root)
        files.write_text(TABLE, WORDS)
        compare(given.seeds, Path(temporary))


if __name__ == "__main__":
    main()
