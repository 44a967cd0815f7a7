"""The training flow: rebuild what is stale, stage by stage, then gate, then register.

    python flows/run.py                                                  by hand (`make run`)
    tuneline exec -- prefect --no-prompt deploy --all --prefect-file flows/prefect.yaml
                                                                         on a schedule, for a worker

The flow has no graph of its own: the only graph is dvc.yaml. The flow decides when stages run, runs them one at a time
and logs what happens.
"""

import logging
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import flow_logs
import foreground
import lost_prefect
import temporary_server
from prefect import Flow, State, flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Crashed, Failed

from tuneline import params, stopping
from tuneline.augmentation import preconditions
from tuneline.behaviour import check_file
from tuneline.commands import garbage
from tuneline.decisions import decide, git_steps, last_decision
from tuneline.errors import BusyError, SetupError, TunelineError
from tuneline.pipeline import graph, intact, repro


def _is_busy(_task: object, _run: object, state: State) -> bool:
    """Whether another process holds the project: only that is worth another try, never a failed validation or gate."""
    return isinstance(state.result(raise_on_failure=False), BusyError)


@task(task_run_name="update {imported}", cache_policy=NO_CACHE)
def update(imported: str) -> None:
    """Fetch the present content of the source of an imported raw set."""
    repro.update_imported(Path(imported), get_run_logger().info)


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=20, retry_condition_fn=_is_busy)
def reproduce(stage: str, reasons: list[str]) -> bool:
    """Rebuild one stage of dvc.yaml. Returns whether it ran: DVC may restore its outputs from its cache."""
    logger = get_run_logger()
    for reason in reasons:
        logger.info("stale: %s", reason)
    started = time.monotonic()
    ran = repro.reproduce(stage, logger.info)
    logger.info("done in %.0f s", time.monotonic() - started)
    return ran


@task(cache_policy=NO_CACHE, retries=0)
def gate() -> decide.Gate | State:
    """Decide by the rules whether the candidate may be registered.

    Returns:
        The decision; if the gate failed, a state of type Failed with the decision as its data.
    """
    decision = decide.gate(params.load())
    logger = get_run_logger()
    for reason in decision.reasons:
        logger.info(reason)
    for remark in decision.remarks:
        logger.info("note: %s", remark)
    for step in decision.next_steps:
        logger.info("next: %s", step)
    logger.info("gate: %s; report: %s", decision.verdict, decision.page)
    lines = "\n".join(f"- {line}" for line in _reason_lines(decision))
    create_markdown_artifact(f"**{decision.verdict}**\n\n{lines}", key="gate", description="The gate and its reasons")
    if decision.link:
        create_link_artifact(decision.link, link_text="report", key="report", description="The report, in MLflow")
    else:
        # A page of Prefect cannot open a file.
        where = f"`{decision.page.resolve()}` on {platform.node()}"
        create_markdown_artifact(where, key="report", description="Where the report is")
    if decision.verdict == "failed":
        return Failed(name=flow_logs.GATE_FAILED, message="\n".join(_reason_lines(decision)), data=decision)
    return decision


@task(cache_policy=NO_CACHE, retries=0)
def register() -> str:
    """Register the candidate, or find its version if it is registered already."""
    p = params.load()
    registration = decide.register(p)
    what = "registered" if registration.created else "is registered already"
    for note in registration.notes:
        get_run_logger().warning(note)
    line = f"{p.registry.model} version {registration.version} {what}"
    get_run_logger().info(line)
    create_markdown_artifact(line, key="version", description="The registered version")
    return registration.version


def _model() -> str:
    """The name of a run until the flow knows why it runs."""
    try:
        return params.load().registry.model
    except TunelineError:
        # The flow itself reports what is wrong.
        return "train"


@flow(name="train", flow_run_name=_model, persist_result=False, retries=0)
def train() -> State:
    """From raw data to a registered model.

    Returns:
        Completed; or, if the gate failed and nothing is registered, Failed with the name `GateFailed`. The last line of
        the message names the model, the version, the verdict and the rebuilt stages.
    """
    flow_logs.add_log_filter()
    flow_logs.silence_lost_server()
    # Prefect has installed its own handler of SIGTERM, which would call the run crashed.
    stopping.take_over()
    try:
        return _train(get_run_logger())
    except stopping.Stopped as stopped:
        return Cancelled(message=str(stopped), data=stopped)
    except lost_prefect.ERRORS as error:
        lost_prefect.end_if_caused(error)
        raise


@train.on_crashed
def _cancel(flow: Flow, flow_run: FlowRun, state: State) -> None:
    """Set the state Cancelled for a run that a person stopped just before Prefect began the flow."""
    del flow
    if stopping.is_active() and (state.message or "").startswith(flow_logs.ABORTED):
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run.id, Cancelled(message="stopped before its first step"), force=True)


def _train(logger: logging.Logger | logging.LoggerAdapter) -> State:
    if os.environ.get("TUNELINE_ROOT") != str(Path.cwd()):
        raise SetupError(
            f"{Path.cwd()}: this process lacks the project's environment; start the worker in the project's root with "
            "`tuneline exec -- prefect worker start --pool tuneline`"
        )
    with repro.hold_project(logger.warning):
        if temporary_server.is_used():
            _mark_killed_runs()
        p = params.load()
        # The last stage reads it, after hours of training.
        check_file.load(Path(p.paths.checks))
        preconditions.check(p)
        repro.remove_left_outputs(logger.info)
        if grown := garbage.warning():
            logger.warning(grown)
        for imported in graph.imported_sets(p):
            update(imported.as_posix())
        stale = repro.stale_stages()
        if intact.refill_cache(stale, logger.warning):
            stale = repro.stale_stages()
        outcome = last_decision.load_if_current(p) if not stale else None
        if isinstance(outcome, last_decision.Outcome):
            _name_run(f"{p.registry.model}: nothing stale")
            logger.info("every stage is up to date, and the last decision of the gate still holds")
            if added := last_decision.add_commit(p, outcome):
                logger.info(added)
            return _final_state(outcome)
        _name_run(f"{p.registry.model}: {outcome or repro.describe_cause(stale, p)}")
        rebuilt, restored = _rebuild(stale, logger)
        inputs = last_decision.decision_inputs()
        decided = _decide(p)
        last_decision.save(p, inputs, decided)
        return _final_state(decided, rebuilt, restored)


def _decide(p: params.Params) -> last_decision.Outcome:
    """Run the gate, and register the candidate unless the gate failed."""
    state = gate(return_state=True)
    if state.name != flow_logs.GATE_FAILED:
        # Raises the error that kept the gate from deciding.
        state.result()
    decision = state.result(raise_on_failure=False)
    assert isinstance(decision, decide.Gate)
    version = register() if decision.verdict != "failed" else None
    return last_decision.Outcome(
        p.registry.model, decision.verdict, version, decision.run_id, tuple(_reason_lines(decision))
    )


def _reason_lines(decision: decide.Gate) -> list[str]:
    """The gate's reasons and next steps."""
    return [*decision.reasons, *(f"next: {step}" for step in decision.next_steps)]


def _final_state(outcome: last_decision.Outcome, rebuilt: Sequence[str] = (), restored: Sequence[str] = ()) -> State:
    message = outcome.message(rebuilt, restored)
    return Failed(name=flow_logs.GATE_FAILED, message=message) if outcome.is_failed else Completed(message=message)


def _mark_killed_runs() -> None:
    """Set the state Crashed for killed runs: while this run holds the project, no other run can be running."""
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=running):
            if run.id != UUID(flow_run.id):
                client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)


def _name_run(name: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name)


def _rebuild(
    stale: dict[str, list[str]], logger: logging.Logger | logging.LoggerAdapter
) -> tuple[list[str], list[str]]:
    """Rebuild the stale stages, in the order of dvc.yaml.

    After a stage was rebuilt, DVC is asked again about each later stage: its inputs may have changed.

    Returns:
        The names of the stages that ran, and of those whose outputs DVC has restored from its cache.
    """
    if not stale:
        logger.info("every stage is up to date")
        return [], []
    rebuilt: dict[str, list[str]] = {}
    restored: list[str] = []
    names, needed = graph.stage_names(), graph.needed_stages()
    for number, stage in enumerate(names, start=1):
        reasons = stale.get(stage) or (repro.stale_stages(stage).get(stage, []) if rebuilt else [])
        if not reasons:
            state = "up to date" if stage in needed else "not needed for this data"
            logger.info("[%d/%d] %s: %s", number, len(names), stage, state)
            continue
        logger.info("[%d/%d] %s", number, len(names), stage)
        # Otherwise hours of training on damaged bytes would end in a refusal. DVC itself hashes what is stale.
        unhashed = (read for read in graph.recorded_inputs(stage) if read.keeper not in stale or read.keeper in rebuilt)
        intact.refuse_damage(unhashed, cache=False)
        if not reproduce(stage, reasons):
            restored.append(stage)
        lost_prefect.end_if_lost()
        rebuilt[stage] = reasons
    report = "\n".join(f"- **{stage}**: {'; '.join(reasons)}" for stage, reasons in rebuilt.items())
    create_markdown_artifact(report, key="stale", description="What was stale, and why")
    return [stage for stage in rebuilt if stage not in restored], restored


def run_here() -> None:
    """Run the flow in this process and print how it ended; after a failure, exit with code 1 and the reason on stderr.

    Raises:
        stopping.Stopped: a person stopped the run; its state is Cancelled.
    """
    message = foreground.run(lambda: train(return_state=True))
    print("", *git_steps.keep_commands(params.load()), message, sep="\n")
