"""The whole line with a key: the version is signed, its claims are read, and a wrong key or file is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from projects import Project, copy_project

from tuneline.core import files
from tuneline.decisions import signature_policy
from tuneline.proofs import claims, keys

MODEL = "docstring-writer"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signed 签名")


@pytest.fixture(scope="module")
def home(place: Path) -> dict[str, str]:
    """The environment of a user whose private keys are in a folder of the test."""
    return {"XDG_CONFIG_HOME": str(place / "config")}


@pytest.fixture(scope="module")
def project(place: Path, home: dict[str, str]) -> Project:
    """A project with a key after its first run."""
    project = copy_project(place / "my project")
    assert project.tuneline("keys", "create", "--name", "ada", **home).returncode == 0
    done = project.tuneline("exec", "--", "python", "flows/run.py", **home)
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def client(project: Project) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{project.root}/mlflow/store/mlflow.db")


def version_folder(project: Project) -> Path:
    (signature,) = (project.root / "mlflow/store/artifacts").rglob("model.sig")
    return signature.parent


def test_the_version_is_signed_and_a_copy_of_it_can_be_checked(project: Project, place: Path) -> None:
    assert client(project).get_model_version(MODEL, "1").tags["tuneline.signed"] == "ada"
    public = project.root / "mlflow/keys/ada.pub"
    copy = shutil.copytree(version_folder(project), place / "copy")
    checked = project.tuneline("verify-model", str(copy))
    assert (checked.returncode, "signed by ada" in checked.stdout) == (0, True)
    tool = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", str(public)]
    subprocess.run([*tool, "--signature", str(copy / "model.sig"), str(copy)], check=True)
    for path in sorted(copy.iterdir()):
        original = path.read_bytes()
        path.write_bytes(original + b" ")
        refused = project.here("verify-model", str(copy), "--key", str(public))
        assert (refused.returncode, path.name in refused.stderr) == (path.name != "model.sig", path.name != "model.sig")
        path.write_bytes(original)


def test_the_claims_are_about_the_files_of_the_version(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    folder = version_folder(project)
    tags = client(project).get_model_version(MODEL, "1").tags
    provenance, gate = claims.read(folder / claims.CLAIMS, keys.trusted_keys(project.root / keys.TRUSTED))
    assert (provenance.signer, gate.signer) == ("ada", "ada")
    assert provenance.statement["subject"] == gate.statement["subject"]
    assert {one["name"]: next(iter(one["digest"].values())) for one in gate.statement["subject"]} == {
        f"{MODEL}/": tags["tuneline.model_sha256"],
        "model.safetensors": files.sha256_file(folder / "model.safetensors"),
    }
    digests = {
        one["name"]: next(iter(one["digest"].values()))
        for one in provenance.predicate["buildDefinition"]["resolvedDependencies"]
    }
    assert digests["params.yaml"] == files.sha256_file(folder / "params.yaml")
    assert digests["dvc.lock"] == files.sha256_file(folder / "dvc.lock")
    assert digests["data/clean/"] == tags["tuneline.data_sha256"]
    assert digests["models/base/"] == tags["tuneline.base_sha256"]
    assert digests["code"] == tags["tuneline.source_commit"]
    assert provenance.predicate["runDetails"]["metadata"]["invocationId"] == tags["tuneline.run_id"]
    assert signature_policy.signature_problem(folder, tags) is None
    assert "tuneline.evaluation_sha256 is '0'" in (
        signature_policy.signature_problem(folder, tags | {"tuneline.evaluation_sha256": "0"}) or ""
    )
    assert (gate.predicate["result"], (folder / gate.predicate["url"]).is_file()) == ("PASSED", True)


def test_a_key_that_cannot_be_used_ends_the_registration_and_without_it_the_version_is_unsigned(
    project: Project, home: dict[str, str]
) -> None:
    (private,) = Path(home["XDG_CONFIG_HOME"]).rglob("*.pem")
    signed = client(project).get_model_version(MODEL, "1")
    client(project).delete_model_version(MODEL, "1")
    private.chmod(0o644)
    refused = project.tuneline("register", **home)
    assert (refused.returncode, f"chmod 600 {private}" in refused.stderr) == (1, True)
    assert client(project).search_model_versions(f"name = '{MODEL}'") == []
    private.chmod(0o600)
    unsigned = project.tuneline("register", XDG_CONFIG_HOME="/nowhere")
    assert unsigned.returncode == 0, unsigned.stderr
    assert "this version is unsigned: this machine does not have the private part of a key in mlflow/keys (ada)" in (
        unsigned.stdout
    )
    (made,) = client(project).search_model_versions(f"name = '{MODEL}'")
    assert "tuneline.signed" not in made.tags
    assert signed.version != made.version
    found = (project.root / "mlflow/store/artifacts").rglob(claims.CLAIMS)
    (plain,) = [path for path in found if not path.with_name("model.sig").exists()]
    assert [json.loads(line)["_type"] for line in plain.read_text("utf-8").splitlines()] == [
        "https://in-toto.io/Statement/v1"
    ] * 2
