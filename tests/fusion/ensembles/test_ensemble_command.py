"""`tuneline ensemble` on versions of a real registry, each measured in a process of its own."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from projects import entered
from registered_members import make, number

from tuneline import params
from tuneline.cli import cli
from tuneline.commands.ask import served_version
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS
from tuneline.fusion.ensembles.mixtures import MIXTURES
from tuneline.params import editing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    root = tmp_path_factory.mktemp("members 项目")
    make(root, store)
    return root


@pytest.fixture
def project(root: Path, store: Path) -> Iterator[params.Params]:
    with entered(root, MLFLOW_TRACKING_URI=f"sqlite:///{store}/mlflow.db"):
        before = Path("params.yaml").read_bytes()
        yield params.load()
        Path("params.yaml").write_bytes(before)


def run(*arguments: str) -> Result:
    ran = CliRunner().invoke(cli, ["ensemble", *arguments])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran


def test_an_ensemble_is_measured_by_its_definition(project: params.Params) -> None:
    ran = run(number("first"), number("second"), number("saw a test row"), "--json")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stderr.startswith(
        "3 models, one after the other, each on 8 validation rows and 19 test rows (left out: 1 "
    )
    found = json.loads(ran.stdout)
    assert found["rows"]["test"] == {"measured": 19, "left_out_trained": 1, "left_out_near": 0}

    # By hand, in this process.
    rows = (
        TASKS["sft"]
        .test_rows(
            files.read_parquet(Path(project.paths.clean) / "test"), project.evaluate, RecordForm("prompt-completion")
        )
        .slice(1)
    )
    assert "id-20" not in rows["id"].to_pylist()
    each = []
    for name in ("first", "second", "saw a test row"):
        served = served_version.serve(project, version=int(number(name)), alias="")
        model = ModelToScore(served.folder, name, project.finetune.max_length, models=0)
        each.append(np.exp(MIXTURES["sft"].measure(model, rows, project.evaluate).values[:, 0]))
    expected = {f"version {number}": one for number, one in zip("123", each, strict=True)}
    expected["uniform"] = np.mean(each, axis=0)
    expected["fitted"] = np.tensordot(found["fitted"]["weights"], each, 1)
    for name, probabilities in expected.items():
        assert found["metrics"][name]["token_loss"] == pytest.approx(-np.log(probabilities).mean(), abs=1e-6)
    assert sum(found["fitted"]["weights"]) == pytest.approx(1)
    assert found["fitted"]["loss"] <= found["fitted"]["uniform_loss"]

    said = run(number("first"), number("second"))
    assert said.exit_code == 0, said.stderr
    assert said.stdout.startswith(
        "members: versions 1 and 2 on 20 test rows of 20 groups\nfitted weights: version 1 0."
    )
    assert said.stdout.count("fitted − uniform: ") == 2
    page = Path(said.stdout.splitlines()[-1])
    assert page == Path("reports/ensembles/v1-2.html")
    assert "Measured on 20 test rows of 20 groups" in page.read_text("utf-8")
    absent = run("1", "2", "--output", "nowhere/page.html")
    assert (absent.exit_code, absent.stderr) == (1, "--output nowhere/page.html: nowhere is not a folder\n")


def test_the_cost_is_told_without_measuring(project: params.Params) -> None:
    ran = run(number("first"), number("second"), "--dry-run")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.startswith(
        "2 models, one after the other, each on 8 validation rows and 20 test rows: 56 rows in"
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["1"], ["has at least two members; give two or more versions"]),
        (["1", "v1"], ["version 1 is given twice"]),
        (["4", "1", "1", "99", "nobody"], ["version 1 is given twice", "99", "nobody", "version 4 has the mode"]),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused_with_all_reasons(
    names: list[str], expected: list[str], project: params.Params
) -> None:
    ran = run(*names)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == len(expected), ran.stderr
    for part, line in zip(expected, ran.stderr.splitlines(), strict=True):
        assert part in line


def test_preference_and_no_clean_data_are_refused(project: params.Params) -> None:
    path = Path("params.yaml")
    rules = [{"metric": "reward_accuracy", "direction": "higher", "versus": "base", "margin": 0.0}]
    values = {"task": "preference", "finetune.dpo": {"beta": 0.1, "loss_type": "sigmoid"}, "gate.rules": rules}
    before = path.read_bytes()
    editing.set_values(path, values)
    ran = run("1", "2")
    assert (ran.exit_code, "task preference has no ensembles" in ran.stderr) == (1, True), ran.stderr
    path.write_bytes(before)
    editing.set_values(path, {"paths.clean": "data/nowhere"})
    assert run("1", "2").stderr == "data/nowhere: does not hold clean data yet; run: dvc repro validate_clean\n"
