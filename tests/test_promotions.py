"""Promotions as people make them: by the request that the MLflow UI sends, to a real server, while the watch runs."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
import pytest
import torch
from clicked_pages import browser, set_alias
from projects import Project, copy_project, entered
from safetensors.torch import load_file, save_file
from test_attack_page import BROWSER
from test_schedule import background, free_port, wait_for

from tuneline.proofs import keys, signatures
from tuneline.registry import history, tracking, version_files
from tuneline.registry.runs import Dataset
from tuneline.registry.tracking import NewVersion, Tracker

MODEL = "docstring-writer"
# A model that is as good as the base is undecided, and a champion may not be beaten by a worse model.
RULES = [
    {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0, "fails_below": -0.05},
    {"metric": "bits_per_byte", "direction": "lower", "versus": "champion", "margin": -0.001},
]


def minute() -> float:
    """Seconds in which an unverified version must be gone; more where other programs use the cores."""
    return 60 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Registry:
    """The registry of a project with one version, which is good."""

    def __init__(self, project: Project, address: str, tmp_path: Path) -> None:
        self.project, self.address, self.tmp_path = project, address, tmp_path
        self.client = mlflow.MlflowClient(address)
        self.seconds: dict[str, float] = {}
        self.wrong: list[tuple[str, ...]] = []

    def tracker(self) -> Tracker:
        return tracking.connect()

    def post(self, method: str, path: str, **body: str) -> None:
        """What the UI sends."""
        request = urllib.request.Request(
            f"{self.address}/ajax-api/2.0/mlflow/{path}",
            json.dumps({"name": MODEL, **body}).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60):
            pass

    def promote(self, version: str, alias: str = "champion") -> None:
        self.post("POST", "registered-models/alias", alias=alias, version=version)

    def aliases(self) -> dict[str, str]:
        return self.tracker().aliases(MODEL)

    def stored(self, version: str) -> Path:
        source = str(self.client.get_model_version(MODEL, version).source)
        location = str(self.client.get_logged_model(source.removeprefix("models:/")).artifact_location)
        return Path(urllib.request.url2pathname(urllib.parse.urlparse(location).path))

    def make(self, change: Callable[[Path], None] | None = None, *, signed: bool = True, **tags: str) -> str:
        """Another version: a copy of the first one, changed, and registered as such."""
        folder = self.tmp_path / "made" / MODEL
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.stored("1"), folder)
        (folder / signatures.SIGNATURE).unlink()
        if change:
            change(folder)
        if signed:
            key = keys.signing_key()
            assert key
            signatures.sign(folder, key)
        sha256 = version_files.sha256(folder)
        first = self.client.get_model_version(MODEL, "1")
        own = {name: value for name, value in first.tags.items() if not name.startswith(("promotion.", history.HEAD))}
        made = (
            own | {"tuneline.files_sha256": sha256} | {name.replace("__", "."): value for name, value in tags.items()}
        )
        data = Dataset("clean", "0" * 64, "data/clean", "training")
        assert first.run_id
        return self.tracker().create_version(
            NewVersion(MODEL, first.run_id, folder, sha256, made, {}, data, lambda _: "")
        )

    def settled(self) -> bool:
        from tuneline.decisions import promotion

        return promotion.is_settled(self.tracker(), MODEL)

    def undone(
        self,
        name: str,
        version: str,
        reason: str,
        *,
        alias: str = "champion",
        champion: str = "1",
        promote: Callable[[str, str], None] | None = None,
    ) -> None:
        """Promote a version, and wait until the alias is back and the reason is told."""
        limit = minute()
        (promote or self.promote)(version, alias)
        began = time.monotonic()
        self._wait_until_back(name, alias, champion, began, limit)
        wait_for(self.settled, 120, self.tmp_path / "watch.log")
        tags = self.client.get_model_version(MODEL, version).tags
        told = tags["promotion.verdict"], tags["promotion.reason"]
        [*_, last] = history.read(self.tracker(), MODEL).entries
        # Collected, so that one wrong sentence does not hide the next promotions.
        if told[0] != "undone" or reason not in told[1]:
            self.wrong.append((name, *told))
        if (last.action, last.before) != ("undone", version) or reason not in last.reason:
            self.wrong.append((name, last.action, str(last.before), last.reason))

    def _wait_until_back(self, name: str, alias: str, champion: str, began: float, limit: float) -> None:
        while True:
            aliases = self.aliases()
            # Never two champions, whatever their spelling, once it is decided.
            if aliases == {"champion": champion}:
                break
            assert time.monotonic() - began < limit, (name, aliases, (self.tmp_path / "watch.log").read_text()[-3000:])
            time.sleep(0.5)
        self.seconds[name] = time.monotonic() - began
        print(f"{name}: undone after {self.seconds[name]:.1f} s", flush=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a key, and a version that passed its gate."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    project = copy_project(tmp_path / "my project 项目")
    project.set(gate__rules=RULES)
    assert project.tuneline("keys", "create", "--name", "ada").returncode == 0
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@contextmanager
def served(project: Project, tmp_path: Path) -> Iterator[str]:
    """An MLflow server of the project's store, which the project uses from now on."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = project.root / "mlflow/tuneline.env"
    own = "MLFLOW_TRACKING_URI=sqlite:///${TUNELINE_ROOT}/mlflow/store/mlflow.db"
    assert own in env.read_text()
    env.write_text(env.read_text().replace(own, f"MLFLOW_TRACKING_URI={address}\nMLFLOW_PORT={port}"))
    log = tmp_path / "server.log"

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
        return False

    with background(project, log, "exec", "--", "sh", "mlflow/server.sh"):
        wait_for(answers, 300, log)
        yield address


def weights_changed(scale: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(
            {name: scale(tensor).contiguous() for name, tensor in load_file(path).items()}, path, {"format": "pt"}
        )

    return change


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(bytes(content))


@contextmanager
def away(path: Path) -> Iterator[None]:
    kept = path.with_name("away")
    path.rename(kept)
    try:
        yield
    finally:
        kept.rename(path)


@contextmanager
def rebuilds_asked(project: Project) -> Iterator[None]:
    """Params that ask for one rebuild of a version before it may be promoted."""
    params = project.root / "params.yaml"
    before = params.read_text("utf-8")
    assert "\n  # rebuilds: 1 " in before
    params.write_text(before.replace("\n  # rebuilds: 1 ", "\n  rebuilds: 1  "), "utf-8")
    try:
        yield
    finally:
        params.write_text(before, "utf-8")


def dvc_object(project: Project, name: str) -> Path:
    lines = (project.root / "dvc.lock").read_text().splitlines()
    [place] = [number for number, line in enumerate(lines) if line.strip() == f"- path: {name}"][-1:]
    md5 = next(line.split()[-1] for line in lines[place:] if line.strip().startswith("md5:"))
    return project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


@pytest.mark.slow
@pytest.mark.timeout(5400)  # Twenty-five promotions, each verified in a process that loads MLflow and torch.
def test_every_bad_promotion_is_undone_within_a_minute_with_its_reason(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "watch.log"
    with served(project, tmp_path) as address, entered(project.root, MLFLOW_TRACKING_URI=address):
        registry = Registry(project, address, tmp_path)
        with background(project, log, "watch", "--every", "2"):
            _good_and_bad(registry, project, log)
        assert log.read_text().rstrip().endswith("the watch has ended")
        entries = history.read(registry.tracker(), MODEL)
        assert entries.problems == ()
    took = sorted(registry.seconds.items(), key=lambda one: one[1])
    print("\n".join(f"{seconds:6.1f} s  {name}" for name, seconds in took))
    assert len(took) >= 20
    assert registry.wrong == []


def _good_and_bad(registry: Registry, project: Project, log: Path) -> None:
    def kept(version: str) -> None:
        registry.promote(version)
        wait_for(registry.settled, 400, log)
        assert registry.aliases() == {"champion": version}
        assert registry.client.get_model_version(MODEL, version).tags["promotion.verdict"] == "kept"

    kept("1")
    undone, make = registry.undone, registry.make

    def like_the_base(folder: Path) -> None:
        shutil.copyfile(project.root / "models/base/model.safetensors", folder / "model.safetensors")

    torch.manual_seed(0)
    noise = weights_changed(lambda tensor: tensor + 0.3 * torch.randn_like(tensor))
    slightly = weights_changed(lambda tensor: tensor + 0.02 * torch.randn_like(tensor))
    half = weights_changed(lambda tensor: tensor.half())
    endless = weights_changed(lambda tensor: tensor * float("nan"))
    # A good one is kept, and the next ones are compared with it; then the first one is champion again.
    kept(make())
    kept("1")
    undone("failed", make(noise), "gate: failed on")
    undone("like the base", make(like_the_base), "Bits per byte is the same as the base's")
    undone("worse than the champion", make(slightly), "worse than the champion's")
    registry.client.create_model_version(MODEL, "s3://nowhere/model")
    undone("not made by tuneline", _newest(registry), "registered: tuneline has not registered this version")
    undone("no verdict", _without_tags(registry), "registered:")
    for name, change in (
        ("tampered tensor", lambda folder: flip_a_byte(folder / "model.safetensors")),
        ("deleted files", shutil.rmtree),
        ("one file deleted", lambda folder: (folder / "config.json").unlink()),
        ("a file added", lambda folder: (folder / "more.txt").write_text("more")),
        ("tampered params", lambda folder: (folder / "params.yaml").write_text("{}")),
    ):
        version = make()
        change(registry.stored(version))
        undone(name, version, "files: its files")
    version = make()
    registry.client.set_model_version_tag(MODEL, version, "tuneline.files_sha256", "0" * 64)
    undone("another digest", version, "files: its files have the digest")
    version = make()
    source = str(registry.client.get_model_version(MODEL, version).source)
    registry.client.delete_logged_model(source.removeprefix("models:/"))
    undone("deleted logged model", version, "files: the logged model that holds its files")
    undone("unsigned", make(signed=False), "signature:")

    def signed_before(folder: Path) -> None:
        key = keys.signing_key()
        assert key
        signatures.sign(folder, key)
        flip_a_byte(folder / "model.safetensors")

    undone("changed after it was signed", make(signed_before, signed=False), "signature:")
    undone("another dtype", make(half), "size: the weights are not as registered: dtype is float16, not float32")
    undone("no numbers", make(endless), "loads: the model does not load")

    def broken_config(folder: Path) -> None:
        (folder / "config.json").write_text("{}")

    undone("does not load", make(broken_config), "loads: the model does not load and answer:")
    undone("missing git commit", make(tuneline__source_commit="0" * 40), "sources: the git commit 000000000000")
    with away(dvc_object(project, "data/clean")):
        undone("missing DVC object", make(), "sources: data/clean: objects of it are not in DVC's cache")
    with away(dvc_object(project, "reports/rows.parquet")):
        # Of the sources of the version too.
        undone("deleted DVC evaluation", make(), "reports/rows.parquet")
    for alias in ("Champion", "CHAMPION"):
        undone(f"alias {alias}", make(), "aliases differ by upper and lower case", alias=alias)
    with rebuilds_asked(project):
        undone("not rebuilt", make(), "rebuilds: 0 of 1 clones")
    for name, pause in (("deleted at once", 0.0), ("deleted during its verification", 3.0)):
        version, began = make(), time.monotonic()
        registry.promote(version)
        wait_for(lambda: history.read(registry.tracker(), MODEL).entries[-1].action == "moved", 200, log)
        time.sleep(pause)
        registry.post("DELETE", "model-versions/delete", version=version)
        registry._wait_until_back(name, "champion", "1", began, minute())
        wait_for(registry.settled, 120, log)
    if BROWSER is not None:
        with browser(registry.tmp_path / "chromium") as page:

            def click(version: str, alias: str) -> None:
                set_alias(page, registry.address, MODEL, version, alias)
                wait_for(lambda: registry.client.get_model_version(MODEL, version).aliases, 60, log)

            undone("failed, clicked", make(noise), "gate: failed on", promote=click)
            # The field takes "Champion" for the alias `champion`, so another spelling cannot be clicked.
            undone("unsigned, clicked", make(signed=False), "signature:", promote=click)
            tampered = make()
            flip_a_byte(registry.stored(tampered) / "model.safetensors")
            undone("tampered tensor, clicked", tampered, "files: its files have the digest", promote=click)
    # Two at once: the later one is decided, and the first one is never champion again.
    good, bad = make(), make(noise)
    registry.promote(good)
    registry.promote(bad)
    wait_for(lambda: registry.aliases() == {"champion": "1"} and registry.settled(), 400, log)
    kept(good)


def _newest(registry: Registry) -> str:
    return registry.tracker().find_versions(MODEL, {})[-1]


def _without_tags(registry: Registry) -> str:
    version = registry.make()
    registry.client.delete_model_version_tag(MODEL, version, "tuneline.evaluation_sha256")
    return version


@pytest.mark.slow
@pytest.mark.timeout(5400)  # Twenty kills, and as many runs that make them good.
def test_a_verifier_that_is_killed_at_any_moment_leaves_the_right_state_after_its_next_run(
    project: Project, tmp_path: Path
) -> None:
    chosen = random.Random(7)
    address = f"sqlite:///{project.root}/mlflow/store/mlflow.db"
    with entered(project.root):
        registry = Registry(project, address, tmp_path)
        client = registry.client
        client.set_registered_model_alias(MODEL, "champion", "1")
        began = time.monotonic()
        assert project.tuneline("verify").returncode == 0
        longest = time.monotonic() - began
        bad = registry.make(weights_changed(lambda tensor: tensor * 0.5))
        good = registry.make()
        states = []
        for _ in range(20):
            version = chosen.choice((bad, good))
            client.set_registered_model_alias(MODEL, "champion", "1")
            assert project.here("verify").returncode in (0, 1)
            client.set_registered_model_alias(MODEL, "champion", version)
            moment = chosen.uniform(0, longest)
            _killed_after(project, moment)
            states.append((round(moment, 1), registry.aliases().get("champion") == "1"))
            assert project.here("verify").returncode in (0, 1)
            assert registry.aliases() == {"champion": "1" if version == bad else good}
            assert registry.settled()
            assert history.read(registry.tracker(), MODEL).problems == ()
        print(states)


def _killed_after(project: Project, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tuneline", "verify"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
