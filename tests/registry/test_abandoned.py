"""What a register leaves in MLflow that is killed before there is a version: found, told and removed, and only that."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
import pytest
from test_versions import register

from tuneline.params import Params
from tuneline.processes import Identity
from tuneline.registry import abandoned, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Logged, Tracker


@pytest.fixture(scope="module")
def dead() -> Identity:
    """A process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        return Identity.of_process(process.pid)


@pytest.fixture
def leave(tracker: Tracker, project: Params) -> Callable[[Identity], Path]:
    """Leave what a process leaves that is killed before it has made a version: the folder with the files."""
    model, client = project.registry.model, mlflow.MlflowClient()

    def leave(maker: Identity) -> Path:
        tags = {"tuneline.maker": json.dumps(asdict(maker))}
        logged = client.create_logged_model(tracker._experiment(model), name=model, tags=tags)
        folder = Path(url2pathname(urlparse(logged.artifact_location).path))
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        return folder

    return leave


def found(tracker: Tracker, project: Params, **more: float) -> list[tuple[Path | None, str | None]]:
    return [(one.logged.folder, one.kept) for one in abandoned.find_abandoned(tracker, project.registry.model, **more)]


def test_the_next_register_removes_the_copy_of_a_killed_register(
    tracker: Tracker, project: Params, lineage: Lineage, leave: Callable[[Identity], Path], dead: Identity, store: Path
) -> None:
    register(tracker, project, lineage)
    left = leave(dead)
    assert store in left.parents
    assert found(tracker, project) == [(left, None)]
    done = register(tracker, project, lineage)
    assert done.notes == ("removed 1 copy of the model that a killed register had left in MLflow",)
    assert not left.exists()
    assert found(tracker, project) == []
    assert versions.find_damage(tracker, project.registry.model, done.version) is None
    assert register(tracker, project, lineage).notes == ()


def test_the_copy_of_a_running_register_is_kept(
    tracker: Tracker, project: Params, lineage: Lineage, leave: Callable[[Identity], Path]
) -> None:
    own = Identity.of_process()
    left = leave(own)
    [(_, why)] = found(tracker, project)
    assert why == f"process {own.pid} is writing it"
    register(tracker, project, lineage)
    assert left.is_dir()
    # Its id is in use again, by another process.
    other = leave(replace(own, started=own.started - 60))
    assert (other, None) in found(tracker, project)


def test_the_copy_of_a_process_of_another_machine_is_kept_for_a_day(
    tracker: Tracker, project: Params, leave: Callable[[Identity], Path], dead: Identity
) -> None:
    left = leave(replace(dead, machine="another", host="elsewhere"))
    [(_, why)] = found(tracker, project)
    assert why == "a process of elsewhere may be writing it, up to a day after its last change"
    assert found(tracker, project, now=time.time() + abandoned.LONGEST + 60) == [(left, None)]


def test_a_logged_model_that_a_version_of_any_model_uses_is_kept(
    tracker: Tracker, project: Params, lineage: Lineage, leave: Callable[[Identity], Path], dead: Identity
) -> None:
    client, model = mlflow.MlflowClient(), project.registry.model
    # Killed after the version was there, and before the logged model was told.
    folder = leave(dead)
    client.create_registered_model(f"{model}-copy")
    client.create_model_version(f"{model}-copy", f"models:/{folder.parent.name}")
    assert found(tracker, project) == []
    client.create_registered_model(f"{model}-third")
    client.copy_model_version(f"models:/{model}-copy/1", f"{model}-third")
    client.delete_model_version(f"{model}-copy", "1")
    assert found(tracker, project) == []
    register(tracker, project, lineage)
    assert folder.is_dir()


def test_the_logged_model_of_a_deleted_version_is_kept(tracker: Tracker, project: Params, lineage: Lineage) -> None:
    model = project.registry.model
    register(tracker, project, lineage)
    folder = versions.fetch_version(tracker, model, "1")
    mlflow.MlflowClient().delete_model_version(model, "1")
    [(place, why)] = found(tracker, project)
    assert place == folder
    assert why == "it was version 1, which was deleted; delete it in MLflow if you do not need it"
    assert register(tracker, project, lineage).version == "2"
    assert folder.is_dir()


def test_an_incomplete_copy_is_removed(
    tracker: Tracker, project: Params, lineage: Lineage, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    def full(_source: Path, target: Path) -> None:
        target.mkdir(parents=True)
        (target / "half").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuneline.core.files.copy_tree", full)
    with pytest.raises(OSError, match="No space left"):
        register(tracker, project, lineage)
    assert found(tracker, project) == []
    assert not list(store.rglob("half"))


KILLED = """
import os, signal, sys
from pathlib import Path
import mlflow
from test_versions import register
from tuneline import params
from tuneline.registry import tracking
from tuneline.registry.lineage import Lineage
whole = getattr(mlflow.MlflowClient, sys.argv[1])
def killed(*arguments, **more):
    if sys.argv[2] == "after":
        whole(*arguments, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(mlflow.MlflowClient, sys.argv[1], killed)
register(tracking.connect(), params.load(), Lineage(**eval(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "where", ["create_logged_model after", "finalize_logged_model before", "create_model_version before"]
)
def test_nothing_of_a_killed_register_is_left_after_the_next_register(
    tracker: Tracker, project: Params, lineage: Lineage, store: Path, where: str
) -> None:
    mine = Path(project.paths.finetuned) / "model.safetensors"
    mine.write_bytes(where.encode())
    command = [sys.executable, "-c", KILLED, *where.split(), repr(asdict(lineage))]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(versions.__file__).parents[2])])
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db", "PYTHONPATH": paths}
    killed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    [(left, why)] = found(tracker, project)
    assert why is None
    assert left is not None
    assert left.exists() == (not where.startswith("create_logged"))
    assert register(tracker, project, lineage).version == "1"
    assert not left.exists()
    copies = [one for one in store.rglob("model.safetensors") if one.read_bytes() == where.encode()]
    assert len(copies) == 1


def test_a_logged_model_on_a_server_is_kept_for_ten_minutes(dead: Identity) -> None:
    now = time.time()
    logged = Logged("m-1", json.dumps(asdict(dead)), now, None, None)
    assert abandoned.why_kept(logged, now + 60) is not None
    assert abandoned.why_kept(logged, now + 3600) is None
    assert abandoned.why_kept(replace(logged, maker="{}"), now) == "its tag does not say which process made it"
