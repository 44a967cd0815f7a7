"""How a version was made, as a SLSA provenance v1: its params, and all that went into it with digests."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneline import __version__
from tuneline.data.records import labelled_by
from tuneline.errors import SignatureError
from tuneline.proofs import claims
from tuneline.proofs.claims import Claim
from tuneline.proofs.facts import Facts

BUILD_TYPE = "urn:tuneline:build:v1"
"""The pipeline of this project: docs/registry.md describes the parameters."""
_EVALUATION = "evaluation.json"
BUILDER = "urn:tuneline:builder:local"
"""The machine of the person who trained: no service vouches for it, only the key that signs."""


@dataclass(frozen=True)
class Build:
    """The training that made a version."""

    run_id: str
    """Of the MLflow run."""
    started: str
    """In UTC, as RFC 3339."""
    finished: str
    """As `started`; empty where MLflow holds none."""
    source_commit: str
    """The git commit with the code as it was; empty where git holds none."""
    locks: Mapping[str, str]
    """The files that pin all libraries -> sha256."""


def predicate(facts: Facts, build: Build) -> dict[str, Any]:
    """The predicate of the provenance.

    Args:
        facts: about the version.
        build: the training.
    """
    compute = facts.p.compute.model_dump(mode="json")
    times = {"startedOn": build.started, "finishedOn": build.finished}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": facts.p.model_dump(mode="json"),
            "internalParameters": {
                "fingerprint": facts.lineage.fingerprint,
                **{name: compute[name] for name in ("threads", "device", "portable") if name in compute},
            },
            "resolvedDependencies": list(_dependencies(facts, build)),
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"tuneline": __version__}},
            "metadata": {"invocationId": build.run_id, **{name: time for name, time in times.items() if time}},
            "byproducts": [_by_digest(_EVALUATION, facts.lineage.evaluation_sha256)],
        },
    }


def _dependencies(facts: Facts, build: Build) -> Iterator[dict[str, Any]]:
    p, lineage = facts.p, facts.lineage
    for raw in facts.raw_sets:
        one: dict[str, Any] = {"name": raw.path}
        if raw.md5:
            # DVC's digest of a folder is the md5 of its own listing.
            kind = "dvcMd5Dir" if raw.md5.endswith(".dir") else "md5"
            one["digest"] = {kind: raw.md5.removesuffix(".dir")}
        if raw.labelled_by:
            one["annotations"] = {labelled_by.KEY: raw.labelled_by.as_json()}
        yield one
    yield _by_digest(f"{p.paths.clean}/", lineage.data_sha256)
    base = _by_digest(f"{p.paths.base}/", lineage.base_sha256)
    if facts.base_reference:
        name, revision = facts.base_reference
        base["uri"] = f"pkg:huggingface/{name}@{revision}"
    yield base
    for parent in facts.merge.parents if facts.merge else ():
        named = _by_digest(f"{p.registry.model}/{parent.version}/", parent.files_sha256)
        yield {**named, "annotations": {"weight": parent.weight, "source_commit": parent.source_commit}}
    yield {
        "name": "code",
        **({"digest": {"gitCommit": build.source_commit}} if build.source_commit else {}),
        # The commit holds uncommitted changes too; this is the person's own commit below them.
        "annotations": {"git_commit": lineage.git_commit, "git_dirty": lineage.git_dirty},
    }
    yield _by_digest("params.yaml", lineage.params_sha256)
    yield _by_digest("dvc.lock", lineage.dvc_lock_sha256)
    for name, sha256 in build.locks.items():
        yield _by_digest(name, sha256)


def _by_digest(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": claims.digest_of(name, sha256)}


def subject(facts: Facts) -> dict[str, str]:
    """What is claimed about: the files with weights, and the folder of the fine-tuned model -> sha256."""
    weights = {file.path: file.sha256 for file in facts.model_files if file.path.endswith(".safetensors")}
    return weights | {f"{facts.p.registry.model}/": facts.lineage.model_sha256}


def confirmed_tags(said: Sequence[Claim]) -> dict[str, str]:
    """The tags of a version that its claims confirm: MLflow's tags can be edited, and signed claims cannot.

    Args:
        said: the claims in the folder of the version.

    Returns:
        Name -> value; empty without a provenance.

    Raises:
        SignatureError: the provenance is valid, but lacks what this project writes.
    """
    made = next((claim for claim in said if claim.predicate_type == claims.PROVENANCE), None)
    if made is None:
        return {}
    try:
        values = _confirmed(made)
    except (KeyError, TypeError, AttributeError) as error:
        raise SignatureError(
            f"{claims.CLAIMS}: its provenance is not that of this project ({type(error).__name__} {error})"
        ) from None
    for claim in said:
        if claim.predicate_type == claims.TEST_RESULT:
            values["verdict"] = claims.VERDICTS.get(claim.predicate.get("result", ""), "")
    return {f"tuneline.{tag}": value for tag, value in values.items() if value}


def _confirmed(made: Claim) -> dict[str, str]:
    build, run = made.predicate["buildDefinition"], made.predicate["runDetails"]
    described = [*made.statement["subject"], *build["resolvedDependencies"], *run.get("byproducts", [])]
    digests = {one["name"]: next(iter(one.get("digest", {}).values()), "") for one in described}
    given = build["externalParameters"]
    names = {
        "model_sha256": f"{given['registry']['model']}/",
        "data_sha256": f"{given['paths']['clean']}/",
        "base_sha256": f"{given['paths']['base']}/",
        "evaluation_sha256": _EVALUATION,
        "params_sha256": "params.yaml",
        "dvc_lock_sha256": "dvc.lock",
        "source_commit": "code",
    }
    values = {tag: digests.get(name, "") for tag, name in names.items()}
    parent = re.compile(rf"{re.escape(given['registry']['model'])}/([0-9]+)/")
    parents = [match[1] for name in digests if (match := parent.fullmatch(name))]
    values["parents"] = ", ".join(sorted(parents, key=int))
    return values | {
        "run_id": run["metadata"]["invocationId"],
        "fingerprint": build["internalParameters"]["fingerprint"],
    }
