"""A stage runs with the project's own Python, whatever PATH dvc has, and dies with dvc."""

import importlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from projects import ROOT, copy_project, entered

from tuneline.stages.__main__ import main


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell with another virtual environment, whose Python lacks the packages."""
    other = tmp_path / "other" / "bin"
    other.mkdir(parents=True)
    (other / "python").write_text("#!/bin/sh\necho 'No module named tuneline' >&2; exit 1\n")
    (other / "python").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNELINE_")}
    return kept | {"PATH": f"{other}:/usr/bin:/bin", "VIRTUAL_ENV": str(other.parent), "PYTHONPATH": str(ROOT / "src")}


def test_dvc_finds_the_projects_python_in_any_shell(shell: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "my project"
    for name in ("scripts/stage.sh", "mlflow/tuneline.env"):
        (root / name).parent.mkdir(parents=True)
        shutil.copyfile(ROOT / name, root / name)
    (root / ".venv").symlink_to(sys.prefix)
    (root / "dvc.yaml").write_text("stages:\n  unknown:\n    cmd: exec sh scripts/stage.sh unknown\n")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").touch()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=root, env=shell, capture_output=True, text=True, check=False
    )
    assert (
        "error: unknown: is not a stage; the stages are augment, back_translate, base, check, evaluate, finetune, "
        in done.stderr
    )


def test_an_experiment_in_a_temporary_copy_runs_its_own_code_under_the_projects_python(
    shell: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "my project"
    copy = project / ".dvc/tmp/exps/standalone/tmp1234"
    (copy / "src/tuneline").mkdir(parents=True)
    (copy / "src/tuneline/__init__.py").touch()
    (copy / "src/tuneline/stages.py").write_text("import sys\nprint('code of the copy', *sys.argv[1:])\n")
    (project / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/stage.sh"), "sample"],
        cwd=copy,
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("code of the copy sample\n", "")


def test_a_missing_environment_is_reported_with_the_remedy(shell: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/stage.sh"), "sample"],
        cwd=tmp_path,
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path}/.venv/bin/python is missing, and the python on the PATH does not have tuneline; "
        "run: make setup\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's guarantee is Linux's")
def test_a_stage_dies_with_a_killed_dvc(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    command = [sys.executable, "-m", "dvc", "repro", "sample"]
    environment = project.environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(command, cwd=project.root, env=environment, stdout=subprocess.DEVNULL) as dvc:
        stage = None
        # The stage makes this folder after it has bound itself to its parent.
        while not (project.root / "work").is_dir() or stage is None:
            assert dvc.poll() is None
            children = psutil.Process(dvc.pid).children(recursive=True)
            stage = next((one for one in children if "tuneline.stages" in one.cmdline()), None)
            time.sleep(0.01)
        assert stage.ppid() == dvc.pid, "a process between dvc and the stage would outlive dvc"
        dvc.kill()
    _, alive = psutil.wait_procs([stage], timeout=10)
    assert alive == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's guarantee is Linux's")
def test_a_stage_does_not_start_if_its_dvc_is_already_dead(tmp_path: Path) -> None:
    """If dvc is killed while its stage starts, the stage has another parent than expected."""
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    environment = os.environ | {"TUNELINE_PARENT": gone.stdout.decode().strip(), "PYTHONPATH": str(ROOT / "src")}
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/stage.sh"), "sample"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-9, b"", b"")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's guarantee is Linux's")
def test_the_processes_of_sample_die_with_it(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    command = [sys.executable, "-m", "tuneline.stages", "sample"]
    with subprocess.Popen(command, cwd=project.root, env=project.environment(), stdout=subprocess.DEVNULL) as stage:
        while not (workers := psutil.Process(stage.pid).children()):
            assert stage.poll() is None
            time.sleep(0.05)
        # Each process has bound itself before it takes its first modules.
        time.sleep(0.5)
        stage.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def test_a_killed_process_of_a_stage_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage(_: object) -> None:
        with ProcessPoolExecutor(1) as pool:
            pool.submit(os._exit, 1).result()

    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "mlflow").mkdir()
    shutil.copyfile(ROOT / "mlflow/tuneline.env", tmp_path / "mlflow/tuneline.env")
    with entered(tmp_path), pytest.raises(SystemExit) as ended:
        monkeypatch.setattr(importlib, "import_module", lambda _: SimpleNamespace(main=stage))
        main(["sample"])
    assert ended.value.code == 1
    told = "a worker process was killed, which happens if memory is short; run the same command again"
    assert capsys.readouterr().err == f"error: {told}\n"
