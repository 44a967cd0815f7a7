"""Facts about versions that were never made: one per task and form of the records, with hostile names in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from projects import ROOT

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation.intervals import Interval
from tuneline.fusion.merging.merge_recipe import Parent, Recipe
from tuneline.params.gate import METRICS_OF_TASK
from tuneline.proofs.facts import Facts, File, Package, RawSet
from tuneline.registry.lineage import Lineage

HOSTILE = "a|b`c``](https://example.org) <script>alert(1)</script> \u202eevil\r\n# head"
"""A label that tries to leave its cell, its line and its code."""


@dataclass(frozen=True)
class Case:
    """A task with the records that it learns from."""

    task: params.Task
    form: RecordForm
    source: str = "builtin"
    mixture: Sequence[str] = ()
    labels: Sequence[str] = ()


CASES = {
    "pairs": Case("sft", RecordForm("prompt-completion")),
    "mixed": Case("sft", RecordForm("messages"), "hub", ("früh lese [a]", "general")),
    "merged": Case("sft", RecordForm("prompt-completion"), "merge"),
    "text": Case("language-modeling", RecordForm("text"), "path"),
    "labels": Case("classification", RecordForm("classification"), "path", labels=("refund", HOSTILE)),
    "several labels": Case("classification", RecordForm("classification", multi_label=True), labels=("a", "b")),
    "numbers": Case("regression", RecordForm("regression")),
    "preferences": Case("preference", RecordForm("preference")),
    "preferred answers": Case("preference", RecordForm("preference", conversational=True), "hub"),
}


PARENTS = (Parent("12", 1.0, "1" * 64, "2" * 64, "3" * 40), Parent("4", 0.5, "4" * 64, "5" * 64))
MERGE = Recipe("dare_linear", PARENTS, density=0.25, seed=7)


def facts_of(case: Case, folder: Path) -> Facts:
    """The facts of a case; the clean data are written into `folder`."""
    p = params.load(ROOT / "params.yaml")
    base = p.base.model_copy(update={"source": case.source, "input": "models/mine"})
    mixture = {name: params.MixtureSet(weight=0.5) for name in case.mixture}
    data = p.data.model_copy(update={"mixture": mixture})
    p = p.model_copy(update={"task": case.task, "base": base, "data": data})
    if case.source == "merge":
        p = p.model_copy(update={"finetune": p.finetune.model_copy(update={"num_train_epochs": 0.0})})
    train = _write(folder / "train", case.form, 3)
    _write(folder / "validation", case.form, 1)
    _write(folder / "test", case.form, 2)
    dataset: dict[str, Any] = case.form.as_json() | {"rows": {"train": train, "validation": 1, "test": 2}}
    dataset["mixture"] = {
        name: RecordForm("text").as_json()
        | {"rows": {"train": _write(folder / "mixture" / name, RecordForm("text"), 4)}, "path": f"mixture/{name}"}
        for name in case.mixture
    }
    if case.labels:
        dataset["labels"] = dict.fromkeys(case.labels, 3)
    own = dict.fromkeys(METRICS_OF_TASK[case.task], 0.5)
    recalls = dict.fromkeys(case.labels, 1 / 3)
    intervals = {name: Interval(0.5, 0.25, 0.75, 12) for name in (*own, *(f"recall:{label}" for label in recalls))}
    reason = f"Recall of “{HOSTILE}” is better than the required 0.5 by 0.1."
    counts = {"rows_in": 10, "rows_out": 6, "dropped": {"duplicate": 4}, "secrets": {"email": 2, "phone": 0}}
    found = sorted(folder.rglob("*.parquet"))
    return Facts(
        p=p,
        lineage=Lineage(**dict.fromkeys(Lineage.__annotations__, "a" * 64)),
        gate={"verdict": "passed", "rules": [{"verdict": "passed", "reason": reason}], "champion": None},
        evaluation={"rows": 2, "groups": 2, "candidate": own, "recall": recalls},
        measures={"value": intervals, "baseline": {name: Interval(0.1, None, None, 2, "majority") for name in own}},
        dataset=dataset,
        training={"parameters": 1000, "steps": 3, "tokens": 30, "data": {"rows": 3}},
        base={"source": case.source, "parameters": 1000},
        config={"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8},
        model_files=[File("config.json", "b" * 64, 20), File("model.safetensors", "c" * 64, 4000)],
        data_files=[
            File(path.relative_to(folder).as_posix(), files.sha256_file(path), path.stat().st_size) for path in found
        ],
        raw_sets=[
            RawSet(p.data.raw, "d" * 32 + ".dir", counts),
            # One set may serve both.
            *([RawSet(p.data.raw, "d" * 32 + ".dir", counts, "pretraining")] if case.source == "builtin" else []),
            *(RawSet(f"data/mixture/{name}", "e" * 32 + ".dir", counts) for name in case.mixture),
        ],
        packages=[Package("torch", "2.13.0+cpu"), Package("transformers", "5.24.0")],
        expectations={"raw": {"sets": [{"expectations": [{"success": True}]}]}},
        base_reference=("owner/name", "f" * 40) if case.source == "hub" else None,
        merge=MERGE if case.source == "merge" else None,
    )


def _write(folder: Path, form: RecordForm, rows: int) -> int:
    table = {name: [f"{folder.name} {row}" for row in range(rows)] for name in ("id", "source", "cluster")}
    fields = {
        name: ["1.5" if form.numeric and name == "label" else f"{name} {row}" for row in range(rows)]
        for name in form.fields
    }
    files.write_parquet(folder / "part-00000.parquet", pa.table({**table, **fields}))
    return rows
