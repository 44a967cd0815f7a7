"""The scores of registered versions, each kept in a file that the digest of all that decides them names."""

from importlib import metadata
from pathlib import Path

import pyarrow as pa

from tuneline import params
from tuneline.core import files, identity
from tuneline.decisions import scoring
from tuneline.evaluation import score_table
from tuneline.evaluation.task_table import TASKS
from tuneline.work import WORK

_SCORES = WORK / "scores"


def score(
    p: params.Params,
    folder: Path,
    sha256: str,
    rows: pa.Table,
    base: pa.Table | None,
    *,
    answers_within: float | None = None,
    probe: str | None = None,
    checks: Path | None = None,
) -> pa.Table:
    """The score table of a registered version. A file keeps it, named by the digest of model, rows, settings and code.

    Args:
        p: the params.
        folder: the version's files, hashed by the caller.
        sha256: of the folder.
        rows: the test rows.
        base: the scores of the base, which a task that counts from them needs.
        probe: the probe that measures these rows; None: they are test rows.
        answers_within: as for `scoring.score`; a version whose scores are kept has to load and answer all the same.
        checks: as for `scoring.score`.

    Raises:
        NoAnswerError: as for `scoring.score`.
        ModelError: the version cannot be loaded.
    """
    code = {"sources": identity.code_sha256(identity.code_deps("evaluate"))}
    code |= {name: metadata.version(name) for name in ("tokenizers", "torch", "transformers")}
    # Slices cut the same scores in other ways, and the rows of a probe are among the tables.
    rows = rows.select([name for name in rows.column_names if not name.startswith(score_table.SLICE)])
    settings = p.evaluate.model_dump(exclude={"slices", "probes"}) | p.compute.model_dump()
    settings |= {"max_length": p.finetune.max_length}
    base = base if TASKS[p.task].is_relative_to_base else None
    tables = [table.to_pydict() for table in (rows, base) if table is not None]
    key = files.digest([sha256, tables, probe or p.task, settings, code])
    cached = _SCORES / f"{key}.parquet"
    kept = _read_scores(cached)
    if kept is not None:
        if answers_within is not None:
            of_first = None if base is None else base.slice(0, 1)
            scoring.score(p, folder, rows.slice(0, 1), of_first, answers_within=answers_within, checks=checks)
        return kept
    found = scoring.score(p, folder, rows, base, answers_within=answers_within, probe=probe, checks=checks)
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
