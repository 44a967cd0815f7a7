"""What depends on the registry as it is now, and so is never cached: the gate, and registering.

Called by the flow and by hand (`tuneline gate`, `tuneline register`).
"""

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.core import files, identity
from tuneline.decisions import keeping
from tuneline.errors import BrokenVersionError, RegistryError
from tuneline.evaluation import comparison, results, score_table
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.gate import compatibility, next_steps
from tuneline.gate import decision as rules
from tuneline.pipeline import dvc_lock, intact, repro
from tuneline.registry import champions, lineage, tracking, versions
from tuneline.registry.champions import Champion
from tuneline.reporting import curves, report
from tuneline.work import WORK

_SCORES = WORK / "scores"
# What the evaluation has compared the candidate with; the champion is known to the gate alone.
_MEASURED = ("base", "baseline", "value")


@dataclass(frozen=True)
class Gate:
    """The gate's outcome, as gate.json holds it, and the run that it was written to."""

    verdict: str
    reasons: list[str]
    run_id: str
    page: Path
    link: str | None
    """Where the page opens in a browser, where MLflow is a server's."""
    next_steps: list[str]
    """What to do where it did not pass, in sentences."""
    remarks: tuple[str, ...] = ()
    """What is unusual about the champion, in sentences."""


def gate(p: params.Params) -> Gate:
    """Hold the candidate against the rules: versus base, baselines and values, and today's champion on the same rows.

    Writes gate.json and index.html into paths.reports, and both with the metrics into the MLflow run.

    Args:
        p: the params.

    Returns:
        The verdict with its reasons.

    Raises:
        DataError: what is to be judged is damaged, although DVC takes it for unchanged.
        RegistryError: it is not up to date, or not what was measured.
        TrackingError: MLflow does not answer.
    """
    _refuse_stale()
    intact.refuse_damage(dvc_lock.needed(), cache=False)
    origin = lineage.of_workspace(p)
    _refuse_unmeasured(p, origin)
    tracker = tracking.connect()
    reports = Path(p.paths.reports)
    evaluation = files.read_object(reports / "evaluation.json")
    rows, scores = score_table.split_columns(files.read_parquet(reports / "rows.parquet"))
    today = champions.look(tracker, p.registry.model)
    champions.remember(tracker, p.registry.model, today.version)
    champion = _champion(tracker, p, today, origin, rows, scores)
    intervals = results.read_intervals(files.read_object(reports / "intervals.json"))
    measures = {name: intervals.get(name, {}) for name in _MEASURED} | {"champion": champion.measures}
    verdict = rules.decide(p.rules, measures, absent={"champion": today.absent})
    # Measuring a champion may take minutes: what was read meanwhile must be what the evaluation has written.
    intact.refuse_damage(_reported(reports), cache=False)
    steps = next_steps.next_steps(verdict, _situation(p, rows.num_rows))
    remarks = [*today.remarks, *champion.remarks]
    value = verdict.as_dict() | {"champion": champion.summary, "asked": _asked(p, origin, today)}
    value |= {"next_steps": steps, "remarks": remarks}
    page = reports / "index.html"
    assembled = report.assemble(reports, p, gate=value, lineage=origin.tags(), champion_texts=champion.texts)
    files.write_text(page, report.render(assembled))
    # Last, with the hash of the page: what was killed between the two is asked again.
    files.write_json(reports / "gate.json", value | {"page_sha256": files.sha256_file(page)})
    run_id = _run(tracker, p, origin)
    decided = {"tuneline.verdict": verdict.verdict, _decided(reports): verdict.verdict}
    tracker.describe_run(run_id, _flat(evaluation), decided)
    tracker.attach(run_id, {reports / "evaluation.json": "reports", reports / "gate.json": "reports", page: "reports"})
    tracker.attach(run_id, {Path(params.PARAMS_FILE): "", Path("dvc.lock"): ""})
    link = tracker.page_of(run_id, f"reports/{page.name}")
    return Gate(verdict.verdict, [rule.reason for rule in verdict.rules], run_id, page, link, steps, tuple(remarks))


def register(p: params.Params) -> versions.Registration:
    """Register the candidate, if the gate has let it pass (or could not decide).

    Args:
        p: the params.

    Returns:
        The version; made now, or the one that stood for the same model, data and evaluation already.

    Raises:
        DataError: the model could not be made again from what is in the workspace and in DVC's cache, every byte of
            which is hashed.
        RegistryError: the gate failed or was not asked about this evaluation, or what is registered has changed while
            it was.
    """
    _refuse_stale()
    intact.refuse_damage(dvc_lock.needed(), cache=True)
    reports = Path(p.paths.reports)
    origin = lineage.of_workspace(p)
    _refuse_unmeasured(p, origin)
    decided = reports / "gate.json"
    tracker = tracking.connect()
    page = reports / "index.html"
    run_id = _run(tracker, p, origin)
    # Whoever edits the file does not change what the gate has told MLflow.
    is_of_gate = decided.is_file() and _decided(reports) in tracker.run_tags(run_id)
    value = files.read_object(decided, "asked", "verdict", "rules") if is_of_gate else {}
    is_of_page = page.is_file() and value.get("page_sha256") == files.sha256_file(page)
    if not is_of_page or value["asked"] != _asked(p, origin, champions.look(tracker, p.registry.model)):
        raise RegistryError(
            f"{decided}: is not what the gate has decided about this model, these rules, today's champion and the page "
            "beside it; run `tuneline gate` first"
        )
    if value["verdict"] == "failed":
        raise RegistryError(
            *(rule["reason"] for rule in value["rules"] if rule["verdict"] == "failed"),
            f"the gate failed, so nothing is registered; see {page}",
        )
    evaluation = files.read_object(reports / "evaluation.json")

    def check(folder: Path) -> None:
        copied = [files.sha256_file(folder / name) for name in (params.PARAMS_FILE, "dvc.lock", versions.REPORT)]
        is_same = copied == [origin.params_sha256, origin.dvc_lock_sha256, value["page_sha256"]]
        if not is_same or params.load() != p or lineage.of_workspace(p) != origin:
            raise RegistryError(
                "params.yaml, dvc.lock, the data, a model or a report has changed while the model was registered, so "
                "nothing is; run `make run`"
            )

    made = versions.register(tracker, p, origin, run_id, value, evaluation, check)
    if commit := keeping.commit(p):
        versions.add_commit(tracker, p.registry.model, made.version, commit, origin.dvc_lock_sha256)
    return made


def _decided(reports: Path) -> str:
    """The tag of a run that says that the gate has written gate.json as it is."""
    return f"tuneline.gate.{files.sha256_file(reports / 'gate.json')[:16]}"


def _reported(reports: Path) -> list[dvc_lock.Output]:
    return [output for output in dvc_lock.needed() if Path(output.path).parent == reports]


def _refuse_unmeasured(p: params.Params, origin: lineage.Lineage) -> None:
    """Raise where the numbers of the evaluation are of other bytes than those that lie here."""
    account = Path(p.paths.reports) / "measured.json"
    measured, now = files.read_object(account), origin.tags()
    places = {"model_sha256": p.paths.finetuned, "base_sha256": p.paths.base, "data_sha256": p.paths.clean}
    others = [name for name in places if measured.get(name) != now[f"tuneline.{name}"]]
    if others:
        raise RegistryError(
            *(
                f"{places[name]}: has the sha256 {now[f'tuneline.{name}'][:12]}…, and what was measured had "
                f"{str(measured.get(name))[:12]}… ({account})"
                for name in others
            ),
            "measure what is there now with: .venv/bin/dvc repro -f -s evaluate; then run the same command again",
        )


def _asked(p: params.Params, origin: lineage.Lineage, champion: Champion) -> dict[str, Any]:
    """What the gate was asked: another model, rule or champion wants another answer."""
    return {
        "model_sha256": origin.model_sha256,
        "evaluation_sha256": origin.evaluation_sha256,
        "rules": [rule.model_dump() for rule in p.rules],
        "champion": champion.version,
    }


def _situation(p: params.Params, test_rows: int) -> next_steps.Situation:
    training = Path(p.paths.reports) / "training.json"
    about = files.read_object(Path(p.paths.clean) / "dataset.json", "rows.train")
    return next_steps.Situation(
        task=p.task,
        base_source=p.base.source,
        epochs=p.finetune.num_train_epochs,
        learning_rate=p.finetune.learning_rate,
        train_rows=about["rows"]["train"],
        test_rows=test_rows,
        training=files.read_object(training) if training.is_file() else {},
    )


def _refuse_stale() -> None:
    stale = repro.stale()
    if stale:
        raise RegistryError(
            *(f"{stage}: {reason}" for stage, reasons in stale.items() for reason in reasons),
            # dvc alone would make again what only its cache has lost.
            "DVC's cache has lost what is to be judged; run `make run` first, which puts it back if it lies here"
            if len(repro.lost(stale)) == len(stale)
            else "what is to be judged is not what these files make; run `make run` (or `dvc repro`) first",
        )


@dataclass(frozen=True)
class _Compared:
    """What is known of today's champion on the candidate's rows; nothing where there is none."""

    summary: dict[str, Any] | None = None
    measures: Measures | None = None
    texts: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def _champion(
    tracker: tracking.Tracker,
    p: params.Params,
    today: Champion,
    origin: lineage.Lineage,
    rows: pa.Table,
    scores: dict[str, pa.Table],
) -> _Compared:
    version, model = today.version, p.registry.model
    if version is None:
        return _Compared()
    tags, own = tracker.version_tags(model, version), origin.tags()
    if all(tags.get(name) == own[name] for name in versions.MADE):
        # The candidate is the champion: its files need not be read, and may be what takes the place of broken ones.
        trained, measured = versions.train_rows(p), scores["candidate"]
    else:
        try:
            folder = versions.fetch(tracker, model, version)
        except BrokenVersionError as error:
            versions.tag_broken(tracker, model, version, error.reason)
            return _not_compared(p, version, f"is broken: {error.reason}")
        mismatch = compatibility.mismatch(Path(p.paths.finetuned), folder)
        if mismatch:
            return _not_compared(p, version, mismatch)
        trained = versions.trained_rows(folder)
        sha256 = versions.registered_sha256(tracker, model, version)
        measured = _scores(p, folder, sha256, rows, scores.get("base"))
    kept = versions.unseen(trained, rows["id"].to_pylist(), rows["cluster"].to_pylist())
    same, theirs = rows.take(kept), measured.take(kept)
    answers = zip(rows["id"].to_pylist(), comparison.answers(measured), strict=True)
    return _Compared(
        summary={"version": version, "rows": len(kept), **comparison.summarise(same, p.task, theirs)},
        measures=comparison.compare(same, p.task, scores["candidate"].take(kept), theirs, p.evaluate),
        texts={row: text for row, text in answers if text is not None},
    )


def _not_compared(p: params.Params, version: str, why: str) -> _Compared:
    """A champion that cannot be measured: every rule that asks for it fails, and where none does it is told."""
    is_asked = any(rule.versus == "champion" for rule in p.rules)
    remarks = () if is_asked else (f"The champion, version {version}, {why}.",)
    reason = f"version {version} {why}"
    return _Compared({"version": version, "rows": 0}, {rule.metric: reason for rule in p.rules}, remarks=remarks)


def _scores(p: params.Params, folder: Path, sha256: str, rows: pa.Table, base: pa.Table | None) -> pa.Table:
    """The champion's scores, kept by what they depend on: model, rows, settings and the code that scores."""
    code = {"sources": identity.code_sha256(identity.code_deps("evaluate"))}
    code |= {name: metadata.version(name) for name in ("tokenizers", "torch", "transformers")}
    settings = p.evaluate.model_dump() | p.compute.model_dump() | {"max_length": p.finetune.max_length}
    # What rewards are counted from.
    base = base if p.task == "preference" else None
    tables = [table.to_pydict() for table in (rows, base) if table is not None]
    key = files.digest([sha256, tables, p.task, settings, code])
    cached = _SCORES / f"{key}.parquet"
    kept = _kept(cached)
    if kept is not None:
        return kept
    # Loads torch and transformers, seconds that most calls need not spend.
    from tuneline.modeling import models

    models.use_threads(p.compute.threads)
    found = TASKS[p.task].measure(ModelToScore(folder, "champion", p.finetune.max_length, base=base), rows, p.evaluate)
    files.write_parquet(cached, found)
    files.write_json(_account(cached), {"sha256": files.sha256_file(cached)})
    return found


def _kept(cached: Path) -> pa.Table | None:
    """Scores that were measured before; None where there are none, or the file is not the one that was written."""
    try:
        if files.read_json(_account(cached)) == {"sha256": files.sha256_file(cached)}:
            return files.read_parquet(cached)
    except (OSError, ValueError):
        pass
    return None


def _account(cached: Path) -> Path:
    return cached.with_suffix(".json")


def _run(tracker: tracking.Tracker, p: params.Params, origin: lineage.Lineage) -> str:
    subject = versions.subject(
        p,
        fingerprint=origin.fingerprint,
        data_sha256=origin.data_sha256,
        base_sha256=origin.base_sha256,
        git={"git_commit": origin.git_commit, "git_dirty": origin.git_dirty},
    )
    return tracker.ensure_run(subject, curves.read(Path(p.paths.reports) / "training.csv"))


def _flat(evaluation: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """evaluation.json as metrics of a run: {"base": {"chrf": 1.0}} -> {"base.chrf": 1.0}.

    What is counted label by label stays out: MLflow refuses names with the characters that labels may have.
    """
    flat: dict[str, float] = {}
    for name, value in evaluation.items():
        if name == "recall":
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = float(value)
    return flat
