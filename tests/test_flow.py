"""The flow's own doing, under Prefect's test harness, over small DVC projects: what is retried, and what is said."""

import importlib.util
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.sorting import FlowRunSort
from prefect.testing.utilities import prefect_test_harness
from projects import ROOT

from tuneline.decisions.promotion import Outcome, Step
from tuneline.decisions.verification import Check
from tuneline.errors import BusyError, DataError, ParamsError, PipelineError, SetupError
from tuneline.params import editing
from tuneline.pipeline import graph, repro


@pytest.fixture(scope="module")
def train() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("flows_train", ROOT / "flows" / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # As Python does for the script, and Prefect for the entrypoint of a deployment.
        patch.syspath_prepend(ROOT / "flows")
        spec.loader.exec_module(module)
    with prefect_test_harness(server_startup_timeout=180):
        yield module


@pytest.fixture
def promotion(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """flows/promotion.py, where Prefect's server runs."""
    monkeypatch.syspath_prepend(ROOT / "flows")
    spec = importlib.util.spec_from_file_location("flows_promotion", ROOT / "flows" / "promotion.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("action", "state", "name"),
    [("undone", "PromotionUndone", "mine: version 3 undone"), ("kept", "Completed", "mine: version 3 kept")],
)
def test_prefect_shows_what_became_of_a_promotion(
    promotion: ModuleType, action: str, state: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    monkeypatch.setattr(promotion, "emit_event", lambda event, **more: events.append((event, more)))
    champion = "1" if action == "undone" else "3"
    detail = "is worse [than](https://example.org) it"
    step = Step(action, "champion", "3", champion, "gate: is worse", (Check("gate", action == "kept", detail),))
    assert promotion.show(Outcome("mine", champion, (step,))) is None
    with get_client(sync_client=True) as client:
        [run, *_] = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        [artifact] = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        )
    assert str(artifact.data).endswith("gate: is worse \\[than\\](https\\://example.org) it")
    assert run.state
    assert (run.name, run.state.name) == (name, state)
    assert run.state.message == step.line()
    [(event, more)] = events
    assert event == f"tuneline.promotion.{action}"
    assert more["resource"]["prefect.resource.id"] == "tuneline.model.mine"
    assert more["payload"]["reason"] == "gate: is worse"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project of two stages, one of which fails."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    Path("data").mkdir()
    shutil.copyfile(ROOT / "data/checks.yaml", "data/checks.yaml")
    Path("bad.py").write_text(
        "open('tries', 'a').write('x'); print('error: x.jsonl:3: is broken'); raise SystemExit(1)"
    )
    Path("dvc.yaml").write_text(
        "stages:\n"
        "  good:\n    cmd: echo 1 > out\n    deps: [params.yaml]\n    outs: [out]\n"
        "  slow:\n    cmd: exec sleep 30\n    outs: [slowly]\n"
        "  lacking:\n    cmd: exec true\n    deps: [data/raw/no where]\n"
        "  bad:\n    cmd: exec python bad.py\n    deps: [out]\n    outs: [never]\n"
    )
    return tmp_path


def run(train: ModuleType, stage: str) -> BaseException | None:
    """Reproduce a stage as the flow does, its retries at once; what it raised."""

    @flow
    def one() -> None:
        train.reproduce.with_options(retry_delay_seconds=0.1)(stage, ["it was never made"])

    state = one(return_state=True)
    error = None if state.is_completed() else state.result(raise_on_failure=False)
    assert error is None or isinstance(error, BaseException)
    return error


def test_a_stage_is_made_and_is_then_not_stale(train: ModuleType, project: Path) -> None:
    assert graph.stage_names() == ["good", "slow", "lacking", "bad"]
    assert repro.stale_stages("good") == {"good": ["it was never made"]}
    assert run(train, "good") is None
    assert repro.stale_stages("good") == {}
    (project / "out").unlink()
    assert repro.stale_stages("good") == {"good": ["outs out deleted"]}
    assert repro.reproduce("good", lambda line: None) is False, "DVC restores it"
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text().replace("echo 1", "echo 2"))
    assert repro.reproduce("good", lambda line: None) is True


def test_a_failed_stage_is_not_tried_again_and_speaks_for_itself(train: ModuleType, project: Path) -> None:
    error = run(train, "bad")
    assert isinstance(error, PipelineError)
    assert error.problems == ("x.jsonl:3: is broken",)
    assert (project / "tries").read_text() == "x"


def test_in_prefects_log_each_problem_of_an_error_has_a_line(train: ModuleType) -> None:
    error = DataError("a.jsonl:3: first", "b.jsonl:4: second")
    record = logging.LogRecord(
        "prefect.flow_runs", logging.ERROR, "x", 1, "Encountered exception during execution: %r", (error,),
        (DataError, error, None),
    )  # fmt: skip
    assert train.flow_logs.LogFilter().filter(record)
    assert record.getMessage() == "Encountered exception during execution: \na.jsonl:3: first\nb.jsonl:4: second"
    assert record.exc_info is None


def test_the_problems_of_a_failed_run_are_printed_once_and_kept_in_its_state(
    train: ModuleType,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNELINE_ROOT", str(project))
    (project / "dvc.yaml").write_text("stages:\n  bad:\n    cmd: exec python bad.py\n    outs: [never]\n")
    states, original = [], train.train
    monkeypatch.setattr(train, "train", lambda **how: states.append(original(**how)) or states[0])
    with pytest.raises(SystemExit) as ended:
        train.run_here()
    assert ended.value.code == 1
    assert capsys.readouterr().err.endswith("\nx.jsonl:3: is broken\n")
    logged = [record.getMessage() for record in caplog.records]
    assert not [line for line in logged if "x.jsonl" in line]
    assert logged.count("Finished in state Failed") == 2
    assert "x.jsonl:3: is broken" in str(states[0].message)


def test_a_raw_set_that_is_not_there_is_named_with_the_remedy(train: ModuleType, project: Path) -> None:
    editing.set_values(project / "params.yaml", {"data.raw": "data/raw/no where"})
    error = run(train, "lacking")
    assert isinstance(error, PipelineError)
    assert str(error).startswith("data/raw/no where: is missing, and git does not know data/raw/no where.dvc either")
    assert str(error).endswith("or bring its files with: tuneline use PATH")


@pytest.mark.slow
def test_a_raw_set_that_dvc_knows_comes_back_from_where_it_is(project: Path) -> None:
    raw = project / "data/raw/no where"
    raw.mkdir(parents=True)
    (raw / "rows.txt").write_text("a")
    repro.add_to_dvc(Path("data/raw/no where"))
    shutil.rmtree(raw)
    with pytest.raises(PipelineError, match=r"get it back with: dvc checkout 'data/raw/no where.dvc'$"):
        repro.reproduce("lacking", lambda line: None)
    shutil.rmtree(project / ".dvc/cache")
    with pytest.raises(PipelineError, match="this clone has no remote to fetch it from"):
        repro.reproduce("lacking", lambda line: None)


def test_a_busy_dvc_is_tried_again_and_then_named(train: ModuleType, project: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro", "slow"], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        time.sleep(0.5)
        error = run(train, "slow")
        holder.kill()
    assert isinstance(error, BusyError)
    assert "another dvc holds the project" in str(error)


def test_params_that_are_not_there_fail_the_flow_in_words(
    train: ModuleType, project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNELINE_ROOT", str(project))
    (project / "params.yaml").unlink()
    state = train.train(return_state=True)
    assert isinstance(state.result(raise_on_failure=False), ParamsError)
    assert "no such file; run this in the project's root" in str(state.message)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_wrong_checks_fail_the_flow_before_its_first_stage(
    train: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNELINE_ROOT", str(project))
    (project / "data" / "checks.yaml").write_text("sft:\n- prompt: a\n  contains: b\n  serverity: warning\n")
    state = train.train(return_state=True)
    assert isinstance(state.result(raise_on_failure=False), DataError)
    assert "data/checks.yaml:4: sft.0.serverity: unknown key; did you mean severity?" in str(state.message)
    assert not (project / "out").exists()


def test_a_worker_that_was_started_elsewhere_is_told_how(train: ModuleType, project: Path) -> None:
    state = train.train(return_state=True)
    assert isinstance(state.result(raise_on_failure=False), SetupError)
    assert "`tuneline exec -- prefect worker start --pool tuneline`" in str(state.message)
