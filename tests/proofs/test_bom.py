"""The bill of materials: another tool accepts it, and it names everything by digest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from made_up_facts import CASES, HOSTILE, facts_of

from tuneline.proofs import bom


@pytest.mark.parametrize("name", CASES)
def test_cyclonedx_accepts_the_bill_of_every_task(name: str, tmp_path: Path) -> None:
    text = bom.ml_bom(facts_of(CASES[name], tmp_path))
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    found = json.loads(text)
    refs = [found["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in found["components"])]
    assert len(set(refs)) == len(refs)
    # Every component is in the graph, and the graph names nothing else.
    assert {one["ref"] for one in found["dependencies"]} == set(refs)
    assert {ref for one in found["dependencies"] for ref in one.get("dependsOn", [])} <= set(refs)


def test_the_bill_holds_metrics_with_intervals_and_files_with_hashes(tmp_path: Path) -> None:
    found = json.loads(bom.ml_bom(facts_of(CASES["labels"], tmp_path)))
    model = found["metadata"]["component"]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    interval = {"lowerBound": "0.25", "upperBound": "0.75"}
    assert {"type": "accuracy", "value": "0.5", "confidenceInterval": interval} in metrics
    of_label = {"type": "recall", "value": "0.333333", "slice": f"label {HOSTILE}", "confidenceInterval": interval}
    assert of_label in metrics
    assert [file["name"] for file in model["components"]] == ["config.json", "model.safetensors"]
    assert model["components"][1]["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    purls = [one.get("purl") for one in found["components"]]
    assert "pkg:pypi/torch@2.13.0%2Bcpu" in purls


def test_a_base_from_the_hub_has_its_address(tmp_path: Path) -> None:
    found = json.loads(bom.ml_bom(facts_of(CASES["mixed"], tmp_path)))
    base = next(one for one in found["components"] if one["bom-ref"] == "base")
    assert base["purl"] == f"pkg:huggingface/owner/name@{'f' * 40}"


def test_a_merged_model_was_made_from_its_parents(tmp_path: Path) -> None:
    found = json.loads(bom.ml_bom(facts_of(CASES["merged"], tmp_path)))
    parents = {one["bom-ref"]: one for one in found["components"] if one["bom-ref"].startswith("parent:")}
    assert [(one["name"], one["version"]) for one in parents.values()] == [
        ("docstring-writer", "12"),
        ("docstring-writer", "4"),
    ]
    [needed] = [one["dependsOn"] for one in found["dependencies"] if one["ref"] == "model"]
    assert set(parents) <= set(needed)
    told = found["metadata"]["component"]["description"]
    assert told.endswith("versions 12 and 4 merged by dare_linear, weights 1, 0.5, density 0.25, seed 7")


def test_the_serial_number_follows_the_content(tmp_path: Path) -> None:
    facts = facts_of(CASES["pairs"], tmp_path)
    first = bom.ml_bom(facts)
    other = replace(facts, lineage=replace(facts.lineage, model_sha256="9" * 64))
    assert bom.ml_bom(facts) == first
    assert json.loads(bom.ml_bom(other))["serialNumber"] != json.loads(first)["serialNumber"]
