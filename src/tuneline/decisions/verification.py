"""The checks of a version to which a person has given the alias `champion`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.decisions import (
    champion_scores,
    checking,
    kept_scores,
    last_evaluation,
    leaked_rows,
    probe_scores,
    reproduction,
    scoring,
    signature_policy,
    source_commit,
    sources,
    spent_test_rows,
    trusted_history,
    twins,
)
from tuneline.decisions.champion_scores import Candidate
from tuneline.decisions.last_evaluation import LastEvaluation
from tuneline.decisions.probe_scores import Version
from tuneline.decisions.scoring import NoAnswerError
from tuneline.errors import BrokenVersionError, DataError, ModelError, ParamsError, TrackingError, TunelineError
from tuneline.evaluation import comparisons
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.slices import Sliced
from tuneline.evaluation.task_table import TASKS
from tuneline.gate import behaviour_rule
from tuneline.gate import decision as rules
from tuneline.proofs import keys
from tuneline.registry import history, version_status, versions, weights
from tuneline.registry.tracking import Tracker

REGISTERED, SOURCES, FILES, SIGNATURE = "registered", "sources", "files", "signature"
SIZE, REBUILDS, LOADS, BEHAVIOUR, GATE = "size", "rebuilds", "loads", "behaviour", "gate"
"""The names of the checks, in their order."""
_MODEL, _CHECKS = "model", "checks"
NOT_CHECKED = "not checked"
"""Stands for the checks that this machine could not make."""


@dataclass(frozen=True)
class Check:
    """One check of a version."""

    name: str
    passed: bool
    detail: str
    """What was found, in words; of a check that has not passed: why, as a sentence without a full stop."""
    is_damage: bool = False
    """Whether the version is not what was registered, so that no override covers it."""

    def line(self) -> str:
        """The check as a line for a person."""
        return f"{'passed' if self.passed else 'failed'}  {self.name}: {self.detail}"


def checks(
    p: params.Params,
    tracker: Tracker,
    version: str,
    champion: str | None,
    *,
    is_earlier: bool = False,
    replaces: str | None = None,
    complete: bool = False,
    dry_run: bool = False,
) -> list[Check]:
    """Check a version as a candidate for the alias `champion`; reads the test set from DVC's cache, takes no lock.

    A check that loads or scores the model is left out where an earlier check has failed: the outcome is clear. With
    `complete` only damage ends the checks.

    Args:
        p: the params.
        tracker: the registry.
        version: its number.
        champion: the version with which it is compared (`TrustedHistory.compared_with`); None where there is none.
        is_earlier: whether it may have been champion before promotions were verified: then it need not hold what
            earlier releases did not record.
        replaces: the champion that a rollback takes the alias from, with which the version is not compared.
        complete: whether a person wants to override checks that have failed, and must know of all of them.
        dry_run: whether the ledger of test rows is not written.

    Returns:
        The checks in their order, those that were left out excepted.

    Raises:
        RegistryError: the registry does not have the version (any more).
        TrackingError: MLflow does not answer.
    """
    tags = tracker.version_tags(p.registry.model, version)
    first = _check_registered(tags)
    if not first.passed:
        return [first]
    found = [first]
    try:
        with files.temporary_folder() as folder:
            found.append(_check_sources(p, tracker, version, tags, is_earlier=is_earlier))
            found += _check_bytes(p, tracker, version, tags, folder / _MODEL)
            found += _check_rebuilds(p, tracker, version)
            if all(check.passed or (complete and not check.is_damage) for check in found):
                found += _check_model(p, tracker, version, champion, tags, folder, replaces=replaces, dry_run=dry_run)
    except TrackingError:
        raise
    except TunelineError as error:
        # What cannot be checked has not passed, or an unverified version would stay champion until it is mended.
        if version not in tracker.find_versions(p.registry.model, {}):
            raise
        # No override covers it: the bytes may not have been looked at.
        found.append(Check(NOT_CHECKED, False, "; ".join(error.problems), is_damage=True))
    return found


def check_bytes(p: params.Params, tracker: Tracker, version: str) -> list[Check]:
    """The checks of what a version's files hold: every byte, the signature, and the size of the weights.

    Args:
        p: the params.
        tracker: the registry.
        version: its number.

    Raises:
        RegistryError: the registry does not have the version.
        TrackingError: MLflow does not answer.
    """
    tags = tracker.version_tags(p.registry.model, version)
    with files.temporary_folder() as folder:
        return list(_check_bytes(p, tracker, version, tags, folder / _MODEL))


def _check_registered(tags: Mapping[str, str]) -> Check:
    """Whether tuneline has made the version, and has not erased it."""
    if when := tags.get(version_status.ERASED):
        return Check(REGISTERED, False, versions.erased(when), is_damage=True)
    lacking = [name for name in (*versions.IDENTITY, versions.FILES) if name not in tags]
    if lacking:
        return Check(
            REGISTERED,
            False,
            f"tuneline has not registered this version: its tag {lacking[0]} is missing, so neither its files nor its "
            "verdict can be checked; register a model with: make run",
            is_damage=True,
        )
    return Check(REGISTERED, True, "tuneline has registered this version")


def _check_sources(
    p: params.Params, tracker: Tracker, version: str, tags: Mapping[str, str], *, is_earlier: bool
) -> Check:
    if is_earlier and source_commit.TAG not in tags and versions.COMMIT not in tags:
        return Check(SOURCES, True, "not checked: an earlier release, which kept no sources in git, registered it")
    problems = sources.problems(p, tracker, version)
    if problems:
        return Check(SOURCES, False, "; ".join(problems))
    return Check(SOURCES, True, "code, params, base and data are in git and in DVC's cache or remote")


def _check_bytes(
    p: params.Params, tracker: Tracker, version: str, tags: Mapping[str, str], folder: Path
) -> Iterator[Check]:
    try:
        versions.copy_version(tracker, p.registry.model, version, folder)
    except BrokenVersionError as error:
        yield Check(FILES, False, error.reason, is_damage=True)
        return
    if exchanged := trusted_history.read(tracker, p.registry.model).exchanged(version):
        yield Check(FILES, False, exchanged, is_damage=True)
        return
    yield Check(FILES, True, "every byte is as registered")
    problem = signature_policy.signature_problem(folder, tags)
    signed = "signed with a trusted key" if keys.trusted_keys() else "not asked for: mlflow/keys holds no public key"
    # An unsigned version may be what was registered; a wrong signature says that it is not.
    is_wrong = problem is not None and signature_policy.wrong_signature(folder, tags) is not None
    later = None if problem else signature_policy.later_verdicts(folder, tags)
    yield Check(SIGNATURE, problem is None, problem or "; ".join(filter(None, (signed, later))), is_damage=is_wrong)
    yield _check_size(tags, folder)


def _check_size(tags: Mapping[str, str], folder: Path) -> Check:
    now = weights.read_weights(folder)
    if now is None:
        return Check(SIZE, False, "the weights cannot be read: no whole safetensors file is there", is_damage=True)
    own = now.tags()
    changed = [
        f"{name.split('.')[-1]} is {own[name]}, not {tags[name]}"
        for name in own
        if tags.get(name, own[name]) != own[name]
    ]
    if changed:
        return Check(SIZE, False, f"the weights are not as registered: {'; '.join(changed)}", is_damage=True)
    return Check(SIZE, True, now.describe())


def _check_rebuilds(p: params.Params, tracker: Tracker, version: str) -> Iterator[Check]:
    model = p.registry.model
    if not p.registry.rebuilds:
        return
    found = reproduction.rebuilds_of(history.read(tracker, model), model, version, tracker)
    is_enough = found >= p.registry.rebuilds
    remedy = "" if is_enough else f"; in other clones, run: tuneline reproduce {version}"
    yield Check(
        REBUILDS,
        is_enough,
        f"{found} of {p.registry.rebuilds} clones (registry.rebuilds) have built the same bytes{remedy}",
    )


def _check_model(
    p: params.Params,
    tracker: Tracker,
    version: str,
    champion: str | None,
    tags: Mapping[str, str],
    folder: Path,
    *,
    replaces: str | None,
    dry_run: bool,
) -> Iterator[Check]:
    try:
        today = last_evaluation.read(p)
    except DataError as error:
        yield Check(GATE, False, f"today's test set cannot be read: {'; '.join(error.problems)}")
        return
    model = folder / _MODEL
    if mismatch := _task_mismatch(p, model):
        yield Check(LOADS, False, mismatch, is_damage=True)
        return
    own, answers = None, Check(LOADS, True, "the model loads in a new process and answers")
    checks, problem = folder / _CHECKS, None
    try:
        is_asked = checking.write_request(checks, p, "version")
    except DataError as error:
        is_asked, problem = False, Check(BEHAVIOUR, False, "; ".join(error.problems))
    try:
        own = _own_scores(p, tracker, version, model, today, checks if is_asked else None)
        yield answers
        if is_asked or problem:
            yield problem or _check_behaviour(checks)
        yield _check_gate(tracker, version, champion, tags, model, today, own, replaces=replaces, dry_run=dry_run)
    except NoAnswerError as error:
        yield Check(LOADS, False, f"the model {'; '.join(error.problems)}", is_damage=True)
    except ModelError as error:
        if own is None:
            yield answers
        yield Check(GATE, False, "; ".join(error.problems))


def _check_behaviour(checks: Path) -> Check:
    """Whether today's data/checks.yaml, which the process that scores the model has asked, passes."""
    try:
        return Check(BEHAVIOUR, *behaviour_rule.verify(checking.read_results(checks)))
    except (DataError, ModelError) as error:
        # What cannot be checked has not passed.
        return Check(BEHAVIOUR, False, "; ".join(error.problems))


def _own_scores(
    p: params.Params, tracker: Tracker, version: str, folder: Path, today: LastEvaluation, checks: Path | None
) -> pa.Table:
    """The scores of a version on today's test rows; it has to load and to answer, also where they are known.

    The same process asks what the request in the folder `checks` asks.

    Raises:
        NoAnswerError: it does not load or answer.
        ModelError: it cannot be scored.
    """
    base = today.scores.get("base") if TASKS[p.task].is_relative_to_base else None
    if versions.model_sha256(folder) == today.model_sha256:
        first = None if base is None else base.slice(0, 1)
        scoring.score(today.p, folder, today.rows.slice(0, 1), first, answers_within=scoring.SECONDS, checks=checks)
        return today.scores["candidate"]
    sha256 = versions.registered_sha256(tracker, p.registry.model, version)
    return kept_scores.score(today.p, folder, sha256, today.rows, base, answers_within=scoring.SECONDS, checks=checks)


def _task_mismatch(p: params.Params, folder: Path) -> str | None:
    try:
        task = params.load(folder / params.PARAMS_FILE).task
    except ParamsError:
        # Of another release; loading and scoring show whether it fits.
        return None
    return None if task == p.task else f"the model was trained for the task {task}, and today's task is {p.task}"


def _check_gate(
    tracker: Tracker,
    version: str,
    champion: str | None,
    tags: Mapping[str, str],
    folder: Path,
    today: LastEvaluation,
    own: pa.Table,
    *,
    replaces: str | None,
    dry_run: bool,
) -> Check:
    """Today's rules, decided about the version on today's test set, of which it has these scores."""
    p = today.p
    model_sha256 = versions.model_sha256(folder)
    is_candidate = model_sha256 == today.model_sha256
    trained = versions.version_train_rows(folder)
    if is_candidate:
        kept, scores = np.arange(today.rows.num_rows), today.scores
    else:
        kept = versions.unseen_rows(trained, today.rows["id"].to_pylist(), today.rows["cluster"].to_pylist())
        scores = {name: table.take(kept) for name, table in {**today.scores, "candidate": own}.items()}
    rows = today.rows if is_candidate else today.rows.take(kept)
    measures: dict[str, Measures | None] = dict(
        today.intervals if is_candidate else comparisons.compare_all(rows, p.task, scores, p.evaluate)
    )
    probed = today.probed
    if not is_candidate:
        sha256 = versions.registered_sha256(tracker, p.registry.model, version)
        probed = probe_scores.of_version(p, probed, Version(folder, sha256, trained))
        for name, found in probe_scores.compare(p, probed).items():
            measures[name] = {**(measures.get(name) or {}), **found}
    is_cut = any(rule.slice for rule in p.rules)
    sliced = comparisons.compare_slices(rows, p.task, scores, p.evaluate) if is_cut else {}
    of_slices: dict[str, Sliced] = dict.fromkeys(measures, sliced)
    # The tag of the model may be that of another version; these bytes are what is promoted.
    made = {name: tags[name] for name in versions.MADE} | {versions.MADE[0]: model_sha256}
    candidate = Candidate(folder, made, lambda: trained, lambda: trained)
    versus = champion_scores.compare_with_champion(tracker, p, champion, candidate, rows, scores, probed)
    absent = {} if champion else {"champion": why_not_compared(replaces)}
    if versus.sliced is not None:
        of_slices["champion"] = versus.sliced
    all_measures = {**measures, "champion": versus.measures}
    if is_candidate and (leak := leaked_rows.find(trained, rows, is_merged=versions.PARENTS in tags)):
        all_measures, of_slices = leaked_rows.unmeasured(leak, p.rules, all_measures), {}

    # Another version has no twins of its own: those of the last evaluation tell how much a seed changes.
    noise = rules.NO_TWINS
    if any(rule.beyond_twins for rule in p.rules):
        noise = twins.of_last_evaluation(p, today.rows, today.scores["candidate"])

    def decide_at(level: float) -> rules.Verdict:
        return rules.decide(p.rules, all_measures, absent, of_slices, level=level, noise=noise)

    decided = spent_test_rows.decide(
        tracker, p, model_sha256, versus, rows, decide_at, where="verification", dry_run=dry_run
    )
    verdict = decided.verdict
    where = f"on {len(kept)} rows of today's test set, " + (
        f"compared with version {champion}" if champion else "not compared with a champion"
    )
    counted = [rule.reason for rule in verdict.rules if verdict.verdict == "passed" or rule.verdict != "passed"]
    told = " ".join([*counted, *decided.warnings])
    return Check(GATE, verdict.verdict == "passed", f"{verdict.verdict} {where}: {told}".rstrip("."))


def why_not_compared(replaces: str | None) -> str:
    """Why a version is compared with no champion, in words.

    Args:
        replaces: the champion that a rollback takes the alias from; None: it is not a rollback.
    """
    if replaces is None:
        return "no other version was ever verified whose files are still there"
    return (
        f"a rollback is not compared with the champion that it replaces, version {replaces}: that it must go is "
        "decided by a person"
    )
