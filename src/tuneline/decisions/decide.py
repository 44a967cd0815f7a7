"""The gate and registering. Both depend on the registry as it is now, so DVC never caches them.

The flow calls them, and so do `tuneline gate` and `tuneline register`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.behaviour import check_results
from tuneline.core import files
from tuneline.data.records.record_form import DATASET_FILE
from tuneline.decisions import (
    champion_scores,
    git_steps,
    leaked_rows,
    near_duplicates,
    probe_scores,
    signature_policy,
    source_commit,
    spent_test_rows,
    twins,
    unchanged_weights,
    version_folder,
    without_rows,
)
from tuneline.decisions.champion_scores import Candidate, ChampionResult
from tuneline.decisions.probe_scores import Found
from tuneline.errors import GitError, RegistryError
from tuneline.evaluation import results, score_table, slices
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.slices import Sliced
from tuneline.gate import behaviour_rule, next_steps
from tuneline.gate import decision as rules
from tuneline.gate.explanation import Counts, explain
from tuneline.params.gate import METRICS, METRICS_OF_TASK
from tuneline.pipeline import graph, intact, repro
from tuneline.proofs import keys
from tuneline.proofs.provenance import Build
from tuneline.registry import lineage, measured, tracking, version_files, version_status, versions
from tuneline.registry.version_status import Champion
from tuneline.reporting import curves, report

# The evaluation compares the candidate with these; only the gate compares it with the champion.
_MEASURED: tuple[str, ...] = ("base", "baseline", "value")


@dataclass(frozen=True)
class Gate:
    """The outcome of the gate, as in gate.json, and the MLflow run that holds it."""

    verdict: str
    reasons: list[str]
    run_id: str
    """Empty after a dry run."""
    page: Path
    link: str | None
    """The report's address in a browser; None where MLflow is not a server."""
    next_steps: list[str]
    """What to do after a gate that has not passed, in sentences."""
    remarks: tuple[str, ...] = ()
    """What else a person should know, in sentences: what is unusual about the champion, what the ledger leaves, and
    warnings."""
    explanations: tuple[str, ...] = ()
    """What each rule asks for, and what would decide it."""


def gate(p: params.Params, *, dry_run: bool = False) -> Gate:
    """Decide the rules: compare the candidate with base, baselines, values, and the current champion on the same rows.

    Writes gate.json and index.html into paths.reports, and both with the metrics into the MLflow run.

    Args:
        p: the params.
        dry_run: whether only to report: nothing is written, neither into the ledger of test rows nor elsewhere.

    Returns:
        The verdict with its reasons.

    Raises:
        DataError: a file of the data, a model or a report is damaged, although DVC takes it for unchanged.
        RegistryError: a stage is stale, or the evaluation measured other files.
        TrackingError: MLflow does not answer.
    """
    _refuse_stale(p)
    intact.refuse_damage([*graph.recorded_outputs(), *graph.aside_outputs()], cache=False)
    origin = lineage.read_lineage(p)
    _refuse_unmeasured(p, origin)
    tracker = tracking.connect()
    reports = Path(p.paths.reports)
    evaluation = files.read_object(reports / "evaluation.json")
    rows, scores = score_table.split_columns(files.read_parquet(reports / "rows.parquet"))
    today = version_status.read_champion(tracker, p.registry.model)
    if not dry_run:
        version_status.remember_champion(tracker, p.registry.model, today.version)
    probed = probe_scores.read(reports / "probes.parquet", reports / "probes.json")
    champion = _compare_with_champion(tracker, p, today, origin, rows, scores, probed, dry_run=dry_run)
    intervals = results.read_intervals(files.read_object(reports / "intervals.json"))
    measures: dict[str, Measures | None] = {name: intervals.get(name, {}) for name in _MEASURED}
    measures["champion"] = champion.measures
    sliced = slices.read(files.read_object(reports / "slices.json"))
    of_slices: dict[str, Sliced] = dict.fromkeys(_MEASURED, sliced)
    if champion.sliced is not None:
        of_slices["champion"] = champion.sliced
    why, unread = _unmeasurable(p, rows)
    if why:
        measures, of_slices = leaked_rows.unmeasured(why, p.rules, measures), {}
    model_sha256, checked = check_results.read(reports / check_results.FILE)
    if checked and model_sha256 != origin.model_sha256:
        raise RegistryError(f"{reports / check_results.FILE}: another model was checked; run `make run`")
    noise = twins.of_workspace(p, rows, scores["candidate"])
    compared = without_rows.of_workspace(p, rows, scores["candidate"])

    def decide_at(level: float) -> rules.Verdict:
        absent = {"champion": today.absent}
        found = rules.decide(p.rules, measures, absent, of_slices, level=level, noise=noise)
        return behaviour_rule.with_behaviour(found, behaviour_rule.decide(checked))

    # Scoring a champion may take minutes: the reports must still be those that the evaluation wrote.
    intact.refuse_damage(_report_outputs(reports), cache=False)
    decided = spent_test_rows.decide(
        tracker, p, origin.model_sha256, champion, rows, decide_at, where="gate", dry_run=dry_run
    )
    verdict = decided.verdict
    steps = next_steps.next_steps(verdict, _situation(p, rows.num_rows, evaluation))
    remarks = [*today.remarks, *champion.remarks, *filter(None, [unread, behaviour_rule.remark(checked)])]
    if today.version is not None and champion.summary is not None:
        asked = [rule.metric for rule in p.rules if rule.versus == "champion" and rule.metric in METRICS]
        earlier = tracker.version_metrics(p.registry.model, today.version)
        remark = next_steps.remark_on_champion([*asked, *METRICS_OF_TASK[p.task]], earlier, champion.summary)
        remarks += [remark] if remark else []
    remarks += decided.remarks
    value = verdict.as_dict() | {"champion": champion.summary, "asked": _asked(p, origin, today)}
    value |= {"next_steps": steps, "remarks": remarks, "ledger": decided.facts}
    if compared:
        value[without_rows.KEY] = {name: one.as_json() for name, one in compared.items()}
    if champion.sliced:
        value["champion_slices"] = slices.as_json(champion.sliced)
    page = reports / "index.html"
    reasons = [rule.reason for rule in verdict.rules]
    counts = dict.fromkeys(_MEASURED, Counts(rows.num_rows, len(set(rows["cluster"].to_pylist()))))
    if champion.compared is not None:
        groups = set(champion.compared["cluster"].to_pylist())
        counts["champion"] = Counts(champion.compared.num_rows, len(groups))
    explanations = tuple(explain(p.rules, verdict.rules[: len(p.rules)], counts))
    if dry_run:
        return Gate(verdict.verdict, reasons, "", page, None, steps, tuple(remarks), explanations)
    assembled = report.assemble(reports, p, gate=value, lineage=origin.tags(), champion_texts=champion.texts)
    files.write_text(page, report.render(assembled))
    # gate.json comes last, with the hash of the page: a gate that was killed between the two is run again.
    files.write_json(reports / "gate.json", value | {"page_sha256": files.sha256_file(page)})
    run_id = _run(tracker, p, origin)
    tags = {"tuneline.verdict": verdict.verdict, _decided(reports): verdict.verdict}
    metrics = measured.run_metrics(evaluation | without_rows.as_evaluation(value))
    tracker.describe_run(run_id, metrics, tags)
    tracker.attach(run_id, {reports / "evaluation.json": "reports", reports / "gate.json": "reports", page: "reports"})
    tracker.attach(run_id, {Path(params.PARAMS_FILE): "", Path("dvc.lock"): ""})
    link = tracker.page_of(run_id, f"reports/{page.name}")
    return Gate(verdict.verdict, reasons, run_id, page, link, steps, tuple(remarks), explanations)


def register(p: params.Params) -> versions.Registration:
    """Register the candidate, if its gate has passed or is undecided.

    Args:
        p: the params.

    Returns:
        The new version, or the existing version of the same model, data and evaluation.

    Raises:
        DataError: the workspace and DVC's cache, which are hashed, could not make the model again.
        RegistryError: the gate failed, gate.json is not about this evaluation, or a file changed meanwhile.
        SignatureError: this machine has a private key that signs for the project, but it cannot be used.
    """
    _refuse_stale(p)
    intact.refuse_damage(graph.recorded_outputs(), cache=True)
    reports = Path(p.paths.reports)
    origin = lineage.read_lineage(p)
    _refuse_unmeasured(p, origin)
    decided = reports / "gate.json"
    tracker = tracking.connect()
    page = reports / "index.html"
    run_id = _run(tracker, p, origin)
    # An edited gate.json does not have the hash that the gate wrote into MLflow.
    is_of_gate = decided.is_file() and _decided(reports) in tracker.run_tags(run_id)
    value = files.read_object(decided, "asked", "verdict", "rules") if is_of_gate else {}
    is_of_page = page.is_file() and value.get("page_sha256") == files.sha256_file(page)
    if not is_of_page or value["asked"] != _asked(p, origin, version_status.read_champion(tracker, p.registry.model)):
        raise RegistryError(
            f"{decided}: does not hold the gate's decision about the current model, rules, champion and report; run "
            "`tuneline gate` first"
        )
    if value["verdict"] == "failed":
        raise RegistryError(
            *(rule["reason"] for rule in value["rules"] if rule["verdict"] == "failed"),
            f"the gate failed, so the model is not registered; see {page}",
        )
    evaluation = files.read_object(reports / "evaluation.json")

    def check(folder: Path) -> None:
        copied = [files.sha256_file(folder / name) for name in (params.PARAMS_FILE, "dvc.lock", version_files.REPORT)]
        is_same = copied == [origin.params_sha256, origin.dvc_lock_sha256, value["page_sha256"]]
        # A person may commit meanwhile.
        if not is_same or params.load() != p or not lineage.read_lineage(p).is_same_but_for_git(origin):
            raise RegistryError(
                "params.yaml, dvc.lock, the data, a model or a report changed during the registration, so the model is "
                "not registered; run `make run`"
            )

    notes = []
    # First, because a key that cannot be used ends the registration.
    key = keys.signing_key()

    def complete(folder: Path) -> dict[str, str]:
        try:
            commit = source_commit.make(p, origin)
        except GitError as error:
            notes.extend(error.problems)
            commit = ""
        if not commit:
            notes.append("git does not keep what this version was made from, so `tuneline reproduce` cannot rebuild it")
        locks = {name: files.sha256_file(Path(name)) for name in lineage.ENVIRONMENT_LOCKS}
        build = Build(run_id, *tracker.run_times(run_id), source_commit=commit, locks=locks)
        tags = version_folder.complete(folder, p, origin, value, evaluation, build, key)
        if key is None and (trusted := keys.trusted_keys()):
            notes.append(signature_policy.unsigned_note(trusted))
        return tags | ({source_commit.TAG: commit} if commit else {})

    wrong = signature_policy.wrong_signature
    measures = evaluation | without_rows.as_evaluation(value)
    made = versions.register(tracker, p, origin, run_id, value, measures, complete, check, wrong)
    # A kill before this line leaves a version without its ref; the next call adds it.
    notes += source_commit.keep(tracker, p.registry.model)
    if commit := git_steps.full_commit(p):
        versions.add_commit(tracker, p.registry.model, made.version, commit, origin.dvc_lock_sha256)
    return replace(made, notes=(*made.notes, *notes))


def _unmeasurable(p: params.Params, rows: pa.Table) -> tuple[str | None, str]:
    """Why no number on the test rows would say anything about the candidate, and a remark on what is not known.

    Returns:
        A sentence without its end; None where the candidate can be measured. And a sentence, or an empty text.
    """
    trained, is_merged = versions.workspace_train_rows(p), p.base.source == "merge"
    why = leaked_rows.find(trained, rows, is_merged=is_merged) or unchanged_weights.find(p)
    if why or not is_merged:
        return why, ""
    near, unread = near_duplicates.near_to_parents(p, rows)
    return leaked_rows.near_to_parents(len(near), rows.num_rows), unread and (
        "The training rows of the versions that the candidate was merged from cannot be read, so test rows that are "
        f"near duplicates of them may have been measured: {unread}."
    )


def _decided(reports: Path) -> str:
    """The tag of a run by which the gate confirms that it wrote this gate.json."""
    return f"tuneline.gate.{files.sha256_file(reports / 'gate.json')[:16]}"


def _report_outputs(reports: Path) -> list[graph.Output]:
    return [output for output in graph.recorded_outputs() if Path(output.path).parent == reports]


def _refuse_unmeasured(p: params.Params, origin: lineage.Lineage) -> None:
    """Raise where the evaluation measured other bytes than the workspace holds."""
    path = Path(p.paths.reports) / "measured.json"
    measured, now = files.read_object(path), origin.tags()
    paths = {"model_sha256": p.paths.finetuned, "base_sha256": p.paths.base, "data_sha256": p.paths.clean}
    others = [name for name in paths if measured.get(name) != now[f"tuneline.{name}"]]
    if others:
        raise RegistryError(
            *(
                f"{paths[name]}: has the sha256 {now[f'tuneline.{name}'][:12]}…, but the evaluation measured "
                f"{str(measured.get(name))[:12]}… ({path})"
                for name in others
            ),
            "evaluate again with: .venv/bin/dvc repro -f -s evaluate; then run the same command again",
        )


def _compare_with_champion(
    tracker: tracking.Tracker,
    p: params.Params,
    today: Champion,
    origin: lineage.Lineage,
    rows: pa.Table,
    scores: dict[str, pa.Table],
    probed: Found,
    *,
    dry_run: bool,
) -> ChampionResult:
    """Compare the candidate in the workspace with today's champion, and tag a champion whose files are broken."""
    own = origin.tags()
    candidate = Candidate(
        folder=Path(p.paths.finetuned),
        made={name: own[name] for name in versions.MADE},
        train_rows=lambda: versions.workspace_train_rows(p),
        compared_rows=lambda: versions.clean_train_rows(p),
    )
    found = champion_scores.compare_with_champion(tracker, p, today.version, candidate, rows, scores, probed)
    if found.broken and today.version and not dry_run:
        version_status.tag_broken(tracker, p.registry.model, today.version, found.broken)
    return found


def _asked(p: params.Params, origin: lineage.Lineage, champion: Champion) -> dict[str, Any]:
    """What the verdict depends on: model, evaluation, checks, rules and champion."""
    return {
        "model_sha256": origin.model_sha256,
        "evaluation_sha256": origin.evaluation_sha256,
        "checks_sha256": files.sha256_file(Path(p.paths.reports) / check_results.FILE),
        "rules": [rule.model_dump() for rule in p.rules],
        "champion": champion.version,
        "twins": p.gate.twins,
        # Without comparisons as it was before there were any.
        **({without_rows.KEY: p.report.without} if p.report.without else {}),
    }


def _situation(p: params.Params, test_rows: int, evaluation: Mapping[str, Any]) -> next_steps.Situation:
    training = Path(p.paths.reports) / "training.json"
    about = files.read_object(Path(p.paths.clean) / DATASET_FILE, "rows.train")
    return next_steps.Situation(
        task=p.task,
        base_source=p.base.source,
        epochs=p.finetune.num_train_epochs,
        learning_rate=p.finetune.learning_rate,
        train_rows=about["rows"]["train"],
        test_rows=test_rows,
        training=files.read_object(training) if training.is_file() else {},
        evaluation=evaluation,
    )


def _refuse_stale(p: params.Params) -> None:
    if not Path(p.paths.finetuned).exists() and not (Path(p.paths.reports) / "evaluation.json").exists():
        raise RegistryError(f"{p.paths.finetuned}: no model was trained yet; run `make run` first")
    stale = repro.stale_stages()
    if stale:
        raise RegistryError(
            *(f"{stage}: {reason}" for stage, reasons in stale.items() for reason in reasons),
            # `dvc repro` would run the stages whose outputs only the cache has lost.
            "DVC's cache has lost these outputs; run `make run` first: it restores them from the workspace where they "
            "are intact"
            if len(repro.lost_outputs(stale)) == len(stale)
            else "these stages are stale, so the model does not belong to the current files; run `make run` (or "
            "`dvc repro`) first",
        )


def _run(tracker: tracking.Tracker, p: params.Params, origin: lineage.Lineage) -> str:
    subject = versions.training_subject(
        p,
        fingerprint=origin.fingerprint,
        data_sha256=origin.data_sha256,
        base_sha256=origin.base_sha256,
        git={"git_commit": origin.git_commit, "git_dirty": origin.git_dirty},
    )
    return tracker.ensure_run(subject, curves.read(Path(p.paths.reports) / "training.csv"))
