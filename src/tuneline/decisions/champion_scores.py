"""A candidate compared with the champion on the same rows: by the gate, and when a promotion is verified."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.core import files, identity
from tuneline.decisions import scoring
from tuneline.errors import BrokenVersionError
from tuneline.evaluation import comparison, score_table, slices
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.slices import Sliced
from tuneline.evaluation.task_table import TASKS
from tuneline.gate import compatibility
from tuneline.registry import versions
from tuneline.registry.tracking import Tracker
from tuneline.work import WORK

_SCORES = WORK / "scores"


@dataclass(frozen=True)
class Candidate:
    """The model that is compared with the champion."""

    folder: Path
    made: Mapping[str, str | None]
    """The tags `versions.MADE` of its version: of the same model, trained on the same data, they are equal."""
    train_rows: Callable[[], pa.Table]
    """Returns the ids and clusters of the rows that it was fine-tuned on."""


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


def compare_with_champion(
    tracker: Tracker,
    p: params.Params,
    version: str | None,
    candidate: Candidate,
    rows: pa.Table,
    scores: Mapping[str, pa.Table],
) -> ChampionResult:
    """How the candidate differs from the champion, on the test rows that the champion was not trained on.

    Args:
        tracker: the registry.
        p: the params.
        version: of the champion; None where the model has none.
        candidate: the model that is compared with it.
        rows: the test rows.
        scores: the score tables of `candidate` and, for a task that counts from its scores, `base`.

    Raises:
        ModelError: a model cannot be loaded.
        RegistryError: the registry does not have the version.
    """
    if version is None:
        return ChampionResult()
    model = p.registry.model
    tags = tracker.version_tags(model, version)
    if all(tags.get(name) == candidate.made.get(name) for name in versions.MADE):
        # The candidate is the champion. Its files in the registry are not read, because they may be broken.
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
        measured = score(p, folder, sha256, rows, scores.get("base"))
    kept = versions.unseen_rows(trained, rows["id"].to_pylist(), rows["cluster"].to_pylist())
    same, theirs = rows.take(kept), measured.take(kept)
    mine = scores["candidate"].take(kept)

    def compare(own: pa.Table, tables: slices.Scores) -> dict[str, Measures]:
        found = comparison.compare(own, p.task, tables["candidate"], tables["champion"], p.evaluate)
        return {"champion": found}

    answers = zip(rows["id"].to_pylist(), comparison.answers(measured), strict=True)
    return ChampionResult(
        summary={"version": version, "rows": len(kept), **comparison.summarise(same, p.task, theirs)},
        measures={
            **comparison.compare(same, p.task, mine, theirs, p.evaluate),
            **slices.gaps(same, p.task, mine, theirs, p.evaluate),
        },
        sliced=slices.measure(same, p.task, {"candidate": mine, "champion": theirs}, compare),
        texts={row: text for row, text in answers if text is not None},
    )


def _not_compared(p: params.Params, version: str, why: str, *, broken: str | None = None) -> ChampionResult:
    """A champion that cannot be scored: every rule versus it fails; without such a rule, a remark says so."""
    is_asked = any(rule.versus == "champion" for rule in p.rules)
    remarks = () if is_asked else (f"The champion, version {version}, {why}.",)
    reason = f"version {version} {why}"
    measures = {rule.metric: reason for rule in p.rules}
    return ChampionResult({"version": version, "rows": 0}, measures, remarks=remarks, broken=broken)


def score(
    p: params.Params,
    folder: Path,
    sha256: str,
    rows: pa.Table,
    base: pa.Table | None,
    *,
    answers_within: float | None = None,
) -> pa.Table:
    """The score table of a registered version. A file keeps it, named by the digest of model, rows, settings and code.

    Args:
        p: the params.
        folder: the version's files, hashed by the caller.
        sha256: of the folder.
        rows: the test rows.
        base: the scores of the base, which a task that counts from them needs.
        answers_within: as for `scoring.score`; a version whose scores are kept has to load and answer all the same.

    Raises:
        NoAnswerError: as for `scoring.score`.
        ModelError: the version cannot be loaded.
    """
    code = {"sources": identity.code_sha256(identity.code_deps("evaluate"))}
    code |= {name: metadata.version(name) for name in ("tokenizers", "torch", "transformers")}
    # Slices cut the same scores in other ways.
    rows = rows.select([name for name in rows.column_names if not name.startswith(score_table.SLICE)])
    settings = (
        p.evaluate.model_dump(exclude={"slices"}) | p.compute.model_dump() | {"max_length": p.finetune.max_length}
    )
    base = base if TASKS[p.task].is_relative_to_base else None
    tables = [table.to_pydict() for table in (rows, base) if table is not None]
    key = files.digest([sha256, tables, p.task, settings, code])
    cached = _SCORES / f"{key}.parquet"
    kept = _read_scores(cached)
    if kept is not None:
        if answers_within is not None:
            of_first = None if base is None else base.slice(0, 1)
            scoring.score(p, folder, rows.slice(0, 1), of_first, answers_within=answers_within)
        return kept
    found = scoring.score(p, folder, rows, base, answers_within=answers_within)
    files.write_parquet(cached, found)
    files.write_json(_checksum_file(cached), {"sha256": files.sha256_file(cached)})
    return found


def _read_scores(cached: Path) -> pa.Table | None:
    """The scores of this file; None where it does not exist or has changed since it was written."""
    try:
        if files.read_json(_checksum_file(cached)) == {"sha256": files.sha256_file(cached)}:
            return files.read_parquet(cached)
    except (OSError, ValueError):
        pass
    return None


def _checksum_file(cached: Path) -> Path:
    return cached.with_suffix(".json")
