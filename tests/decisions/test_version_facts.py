"""The facts about a version, read from a workspace as the stages leave it."""

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from projects import ROOT

from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.decisions import version_facts
from tuneline.evaluation.intervals import Interval
from tuneline.params import Params
from tuneline.proofs import annex_iv, bom, croissant
from tuneline.proofs.facts import Facts, MetricFact, metrics
from tuneline.registry.lineage import Lineage

INTERVAL = {"difference": 2.5, "low": 2.25, "high": 2.75, "groups": 12, "other": ""}
SET = {"rows_in": 4, "rows_out": 3, "dropped": {"duplicate": 1}, "secrets": {"email": 0}}
EVALUATION: dict[str, Any] = {"rows": 3, "groups": 2, "candidate": {"bits_per_byte": 2.5, "perplexity": 9.0}}
LOCK = """schema: '2.0'
stages:
  prepare:
    deps:
    - {path: data/raw/python-docstrings, hash: md5, md5: 0123.dir}
    - {path: data/raw/python-text, hash: md5, md5: 4567.dir}
"""


def collected(p: Params, lineage: Lineage) -> Facts:
    reports, clean = Path(p.paths.reports), Path(p.paths.clean)
    shutil.copyfile(ROOT / "requirements-training.lock", "requirements-training.lock")
    Path("dvc.lock").write_text(LOCK)
    files.write_json(reports / "prepare.json", {"raw": SET, "pretraining": SET, "mixture": {}})
    files.write_json(reports / "intervals.json", {"value": {"bits_per_byte": INTERVAL, "chrf": "no answer was scored"}})
    for name in ("training.json", "base.json"):
        files.write_json(reports / name, {"parameters": 8})
    for name in ("raw", "clean"):
        files.write_json(reports / f"validate_{name}.json", {"success": True, "sets": []})
    described = RecordForm("prompt-completion").as_json()
    rows = {"train": 3, "validation": 1, "test": 1}
    files.write_json(clean / "dataset.json", described | {"rows": rows, "mixture": {}})
    return version_facts.collect(Path(p.paths.finetuned), p, lineage, {"verdict": "passed", "rules": []}, EVALUATION)


def test_the_facts_hold_digests_metrics_and_the_packages_that_are_installed(project: Params, lineage: Lineage) -> None:
    facts = collected(project, lineage)
    assert [(one.path, one.md5, one.purpose) for one in facts.raw_sets] == [
        ("data/raw/python-docstrings", "0123.dir", "fine-tuning"),
        ("data/raw/python-text", "4567.dir", "pretraining"),
    ]
    assert [file.path for file in facts.model_files] == ["config.json", "model.safetensors"]
    assert [file.path for file in facts.data_files] == ["train/part-00000.parquet"]
    assert metrics(facts) == [
        MetricFact("bits_per_byte", 2.5, 2.25, 2.75),
        MetricFact("perplexity", 9.0, None, None),
    ]
    assert facts.measures["value"]["bits_per_byte"] == Interval(2.5, 2.25, 2.75, 12)
    names = [name for name, _ in facts.packages]
    assert len(names) == len(set(names))
    assert dict(facts.packages)["numpy"] == metadata.version("numpy")


def test_the_same_facts_give_the_same_documents(project: Params, lineage: Lineage) -> None:
    first, second = collected(project, lineage), collected(project, lineage)
    for write in (bom.ml_bom, annex_iv.document, croissant.metadata):
        assert write(first) == write(second)
