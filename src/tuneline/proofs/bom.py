"""bom.cdx.json: the bill of materials of a version, as a CycloneDX 1.7 ML-BOM (https://cyclonedx.org/capabilities/mlbom).

Its subject is the model, with its files, metrics and intervals. Its components are what the model was made from: the
base, the sets of data, and the packages that decide over the weights.
"""

import json
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import tuneline
from tuneline.core import files
from tuneline.fusion.merging.merge_recipe import Parent
from tuneline.proofs.facts import Facts, File, MetricFact, RawSet, inputs_and_outputs, metrics

FILE = "bom.cdx.json"
"""The file's name in the folder of a version."""
SPEC = "1.7"
_CLEAN = "data:clean"
_MODEL = "model"
_BASE = "base"


def ml_bom(facts: Facts) -> str:
    """The bill of materials as JSON; the same facts give the same text.

    Args:
        facts: about the version.
    """
    document: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "tuneline", "version": tuneline.__version__}]},
            "component": _model(facts),
        },
        "components": [_base(facts), *_parents(facts), _clean(facts), *_raw(facts), *_packages(facts)],
        "dependencies": _dependencies(facts),
    }
    # Another model or data set gives another number, the same version always the same one.
    number = uuid.uuid5(uuid.NAMESPACE_OID, files.digest(document))
    return json.dumps({"serialNumber": f"urn:uuid:{number}", **document}, ensure_ascii=False, indent=2) + "\n"


def _model(facts: Facts) -> dict[str, Any]:
    p, origin = facts.p, facts.lineage
    given, answered = inputs_and_outputs(facts)
    names = ("fingerprint", "model_sha256", "params_sha256", "dvc_lock_sha256", "environment_sha256", "git_commit")
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": p.registry.model,
        "version": origin.model_sha256,
        "description": f"Fine-tuned for the task {p.task} on {p.data.raw}"
        if facts.merge is None
        else f"For the task {p.task}: {facts.merge.describe()}",
        "components": _files(facts.model_files, _MODEL),
        "modelCard": {
            "modelParameters": {
                "approach": {"type": facts.approach},
                "task": p.task,
                "architectureFamily": str(facts.config.get("model_type", "unknown")),
                "modelArchitecture": facts.architecture,
                "datasets": [{"ref": ref} for ref in (_CLEAN, *_raw_refs(facts))],
                "inputs": [{"format": given}],
                "outputs": [{"format": answered}],
            },
            "quantitativeAnalysis": {"performanceMetrics": [_metric(one) for one in metrics(facts)]},
            "considerations": {
                "useCases": [f"{p.task}: {given} in, {answered} out"],
                "technicalLimitations": [
                    f"Trained on texts of at most {p.finetune.max_length} tokens; longer texts were cut, dropped or "
                    "split.",
                    f"Measured on {facts.evaluation['rows']} held-out rows of the same data; other text was not "
                    "measured.",
                ],
                "performanceTradeoffs": [rule["reason"] for rule in facts.gate["rules"]],
            },
        },
        "properties": _properties(
            {f"tuneline:{name}": getattr(origin, name) for name in names}
            | {"tuneline:gate": facts.gate["verdict"], "tuneline:parameters": facts.training.get("parameters")}
        ),
    }


def _metric(one: MetricFact) -> dict[str, Any]:
    found: dict[str, Any] = {"type": one.name, "value": _number(one.value)}
    if one.slice is not None:
        found["slice"] = f"label {one.slice}"
    if one.low is not None and one.high is not None:
        found["confidenceInterval"] = {"lowerBound": _number(one.low), "upperBound": _number(one.high)}
    return found


def _number(value: float) -> str:
    return f"{value:.6g}"


def _base(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _BASE,
        "name": facts.base_reference[0] if facts.base_reference else facts.p.base.input,
        "version": facts.base_reference[1] if facts.base_reference else facts.lineage.base_sha256,
        "description": f"The base that was fine-tuned: {facts.base_name}",
    }
    if facts.base_reference:
        name, revision = facts.base_reference
        found["purl"] = f"pkg:huggingface/{quote(name)}@{revision}"
    if facts.p.base.source == "builtin":
        found["name"] = "builtin"
    found["properties"] = _properties(
        {"tuneline:base_sha256": facts.lineage.base_sha256, "tuneline:parameters": facts.base.get("parameters")}
    )
    return found


def _parents(facts: Facts) -> list[dict[str, Any]]:
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": _parent_ref(parent),
            "name": facts.p.registry.model,
            "version": parent.version,
            "description": f"Merged with weight {parent.weight:g}",
            "properties": _properties(
                {"tuneline:files_sha256": parent.files_sha256, "tuneline:source_commit": parent.source_commit}
            ),
        }
        for parent in (facts.merge.parents if facts.merge else ())
    ]


def _parent_ref(parent: Parent) -> str:
    return f"parent:{parent.version}"


def _clean(facts: Facts) -> dict[str, Any]:
    rows = facts.dataset["rows"]
    return {
        "type": "data",
        "bom-ref": _CLEAN,
        "name": facts.p.paths.clean,
        "version": facts.lineage.data_sha256,
        "components": _files(facts.data_files, _CLEAN),
        "data": [
            {
                "type": "dataset",
                "name": facts.p.paths.clean,
                "description": f"Clean splits of {facts.form} records; train is trained on, validation chooses the "
                "weights, test measures them",
                "contents": {
                    "properties": _properties({f"tuneline:rows:{split}": count for split, count in rows.items()})
                },
            }
        ],
        "properties": _properties({"tuneline:data_sha256": facts.lineage.data_sha256}),
    }


def _raw(facts: Facts) -> list[dict[str, Any]]:
    sets: dict[str, list[RawSet]] = {}
    for one in facts.raw_sets:
        sets.setdefault(one.path, []).append(one)
    return [
        {
            "type": "data",
            "bom-ref": _raw_ref(uses[0]),
            "name": path,
            "version": uses[0].md5,
            "data": [_dataset(one) for one in uses],
            "properties": _properties({"dvc:md5": uses[0].md5}),
        }
        for path, uses in sets.items()
    ]


def _dataset(one: RawSet) -> dict[str, Any]:
    counts = one.counts
    return {
        "type": "dataset",
        "name": one.path,
        "description": f"Raw rows for {one.purpose}, before cleaning",
        "contents": {
            "properties": _properties(
                {
                    "tuneline:rows_in": counts.get("rows_in"),
                    "tuneline:rows_out": counts.get("rows_out"),
                    **{f"tuneline:dropped:{reason}": count for reason, count in counts.get("dropped", {}).items()},
                }
            )
        },
        "sensitiveData": [
            f"{count} rows with a value that looks like {kind}"
            for kind, count in counts.get("secrets", {}).items()
            if count
        ],
    }


def _raw_refs(facts: Facts) -> list[str]:
    return list(dict.fromkeys(map(_raw_ref, facts.raw_sets)))


def _raw_ref(one: RawSet) -> str:
    return f"data:raw:{one.path}"


def _packages(facts: Facts) -> list[dict[str, Any]]:
    return [
        {
            "type": "library",
            "bom-ref": _purl(name, version),
            "name": name,
            "version": version,
            "purl": _purl(name, version),
        }
        for name, version in facts.packages
    ]


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{quote(name)}@{quote(version)}"


def _dependencies(facts: Facts) -> list[dict[str, Any]]:
    packages = [_purl(*package) for package in facts.packages]
    raw = _raw_refs(facts)
    parents = [_parent_ref(parent) for parent in (facts.merge.parents if facts.merge else ())]
    made: dict[str, list[str]] = {
        _MODEL: [_BASE, *parents, _CLEAN, *packages],
        # Only the builtin base is trained here; any other comes as it is.
        _BASE: [*raw, *packages] if facts.p.base.source == "builtin" else [],
        _CLEAN: raw,
    }
    made |= {ref: [] for ref in (*parents, *raw, *packages)}
    return [{"ref": ref, "dependsOn": needed} if needed else {"ref": ref} for ref, needed in made.items()]


def _files(found: Iterable[File], of: str) -> list[dict[str, Any]]:
    return [
        {
            "type": "file",
            "bom-ref": f"{of}:{file.path}",
            "name": file.path,
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        }
        for file in found
    ]


def _properties(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": name, "value": str(value)} for name, value in values.items() if value is not None]
