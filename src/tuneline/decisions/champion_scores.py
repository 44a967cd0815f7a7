"""A candidate compared with the champion on the same rows: by the gate, and when a promotion is verified."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.decisions import kept_scores, near_duplicates, probe_scores
from tuneline.decisions.probe_scores import Found, Version
from tuneline.errors import BrokenVersionError
from tuneline.evaluation import comparison, slices
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.slices import Sliced
from tuneline.gate import compatibility
from tuneline.registry import versions
from tuneline.registry.tracking import Tracker


@dataclass(frozen=True)
class Candidate:
    """The model that is compared with the champion."""

    folder: Path
    made: Mapping[str, str | None]
    """The tags `versions.MADE` of its version: of the same model, trained on the same data, they are equal."""
    train_rows: Callable[[], pa.Table]
    """Returns the ids and clusters of the rows that it, or a version that it was merged from, was fine-tuned on."""
    compared_rows: Callable[[], pa.Table]
    """Returns those of the training rows that `prepare` has compared with the test rows."""


@dataclass(frozen=True)
class ChampionResult:
    """The champion on the candidate's rows; empty where no version is the champion."""

    summary: dict[str, Any] | None = None
    measures: Measures | None = None
    """How the candidate differs from the champion; None where no version is the champion."""
    texts: dict[str, str] = field(default_factory=dict)
    """Row id -> the champion's answer."""
    remarks: tuple[str, ...] = ()
    sliced: Sliced | None = None
    """How the candidate differs from the champion on each slice; None where they were not compared."""
    broken: str | None = None
    """Why the champion's files cannot be used; None where they can."""
    compared: pa.Table | None = None
    """`id` and `cluster` of the test rows on which both were compared; None where they were not."""
    model_sha256: str = ""
    """Of the champion's model."""
    is_candidate: bool = False
    """Whether the candidate is the champion."""


def compare_with_champion(
    tracker: Tracker,
    p: params.Params,
    version: str | None,
    candidate: Candidate,
    rows: pa.Table,
    scores: Mapping[str, pa.Table],
    probed: Found,
) -> ChampionResult:
    """How the candidate differs from the champion, on the test rows that the champion was not trained on.

    Args:
        tracker: the registry.
        p: the params.
        version: of the champion; None where the model has none.
        candidate: the model that is compared with it.
        rows: the test rows.
        scores: the score tables of `candidate` and, for a task that counts from its scores, `base`.
        probed: what the probes have measured of the candidate.

    Raises:
        ModelError: a model cannot be loaded.
        RegistryError: the registry does not have the version.
    """
    if version is None:
        return ChampionResult()
    model, other = p.registry.model, None
    tags = tracker.version_tags(model, version)
    near, unknown = frozenset[str](), ""
    is_candidate = _is_candidate(tracker, model, version, tags, candidate)
    if is_candidate:
        trained, measured = candidate.train_rows(), scores["candidate"]
    else:
        try:
            folder = versions.fetch_version(tracker, model, version)
            trained = versions.version_train_rows(folder)
        except BrokenVersionError as error:
            return _not_compared(p, version, f"is broken: {error.reason}", broken=error.reason)
        mismatch = compatibility.mismatch(candidate.folder, folder)
        if mismatch:
            return _not_compared(p, version, mismatch)
        sha256 = versions.registered_sha256(tracker, model, version)
        measured = kept_scores.score(p, folder, sha256, rows, scores.get("base"))
        other = Version(folder, sha256, trained)
        near, unknown = near_duplicates.near_to(p, folder, trained, candidate.compared_rows(), rows)
    kept = versions.unseen_rows(trained, rows["id"].to_pylist(), rows["cluster"].to_pylist())
    kept = kept[[rows["id"][place].as_py() not in near for place in kept.tolist()]]
    same, theirs = rows.take(kept), measured.take(kept)
    mine = scores["candidate"].take(kept)

    def compare(own: pa.Table, tables: slices.Scores) -> dict[str, Measures]:
        found = comparison.compare(own, p.task, tables["candidate"], tables["champion"], p.evaluate)
        return {"champion": found}

    answers = zip(rows["id"].to_pylist(), comparison.answers(measured), strict=True)
    return ChampionResult(
        summary={
            "version": version,
            "rows": len(kept),
            "near_duplicates": len(near),
            **comparison.summarise(same, p.task, theirs),
        },
        remarks=_left_out(version, len(near), unknown),
        measures={
            **comparison.compare(same, p.task, mine, theirs, p.evaluate),
            **slices.gaps(same, p.task, mine, theirs, p.evaluate),
            **probe_scores.versus_champion(p, probed, other),
        },
        sliced=slices.measure(same, p.task, {"candidate": mine, "champion": theirs}, compare),
        texts={row: text for row, text in answers if text is not None},
        compared=same.select(["id", "cluster"]),
        model_sha256=tags.get(versions.MADE[0], ""),
        is_candidate=is_candidate,
    )


def _is_candidate(tracker: Tracker, model: str, version: str, tags: Mapping[str, str], candidate: Candidate) -> bool:
    """Whether the candidate is the champion: its tags say so, and its files, where they are not broken.

    Whoever edits the champion's tags must not get a comparison of the candidate with itself.
    """
    if any(tags.get(name) != candidate.made.get(name) for name in versions.MADE):
        return False
    try:
        folder = versions.fetch_version(tracker, model, version)
    except BrokenVersionError:
        # The same model may take the place of its broken files.
        return True
    return versions.model_sha256(folder) == candidate.made[versions.MADE[0]]


def _left_out(version: str, near: int, unknown: str) -> tuple[str, ...]:
    if unknown:
        return (
            f"The training rows of the champion, version {version}, cannot be read, so test rows that are near "
            f"duplicates of them may have been compared: {unknown}.",
        )
    if near:
        what = "1 test row is" if near == 1 else f"{near:,} test rows are"
        return (
            f"{what} left out of the comparison with the champion: version {version} was trained on near duplicates.",
        )
    return ()


def _not_compared(p: params.Params, version: str, why: str, *, broken: str | None = None) -> ChampionResult:
    """A champion that cannot be scored: every rule versus it fails; without such a rule, a remark says so."""
    is_asked = any(rule.versus == "champion" for rule in p.rules)
    remarks = () if is_asked else (f"The champion, version {version}, {why}.",)
    reason = f"version {version} {why}"
    measures = {rule.metric: reason for rule in p.rules}
    return ChampionResult({"version": version, "rows": 0}, measures, remarks=remarks, broken=broken)
