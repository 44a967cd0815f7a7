"""`tuneline keys` and `tuneline verify-model`, by command."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from projects import ROOT, entered

from tuneline import environment
from tuneline.cli import cli
from tuneline.decisions import signature_policy
from tuneline.proofs import keys, signatures

VECTORS = ROOT / "tests/proofs/vectors"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project in the working directory, and a home folder beside it."""
    root = tmp_path / "project"
    (root / "mlflow").mkdir(parents=True)
    shutil.copyfile(ROOT / environment.ENV_FILE, root / environment.ENV_FILE)
    with entered(root, XDG_CONFIG_HOME=str(tmp_path / "config")):
        yield root


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_a_key_is_made_listed_and_never_shown(project: Path, tmp_path: Path) -> None:
    made = run("keys", "create", "--name", "ada")
    private = tmp_path / "config/tuneline/keys/ada.pem"
    assert made.exit_code == 0
    assert "git add mlflow/keys/ada.pub" in made.stdout
    assert private.read_text().splitlines()[1] not in made.output
    run("keys", "create", "--name", "bob")
    private.with_name("bob.pem").chmod(0o644)
    run("keys", "create", "--name", "eve")
    private.with_name("eve.pem").unlink()
    run("keys", "create", "--name", "old")
    (project / "mlflow/keys/old.pub").unlink()
    (project / "mlflow/keys/none.pub").write_text("none")
    listed = run("keys", "list")
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert [line.split(":")[0].rpartition("/")[2] for line in lines] == [
        "ada.pub",
        "bob.pub",
        "eve.pub",
        "none.pub",
        "old.pem",
    ]
    wanted = [
        "signs on this machine",
        "chmod 600",
        "is not on this machine",
        "is not a public key",
        "create --name old",
    ]
    assert all(words in line for words, line in zip(wanted, lines, strict=True))


def test_a_project_without_keys_says_how_to_make_one(project: Path) -> None:
    assert "make a key with: tuneline keys create" in run("keys", "list").stdout
    assert signature_policy.signature_problem(VECTORS / "v1.1.0") is None
    refused = run("keys", "create", "--name", "../ada")
    assert (refused.exit_code, "is not the name of a key" in refused.stderr) == (1, True)


def test_verify_model_needs_only_the_public_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(VECTORS / "v1.1.0", tmp_path / "model")
    good = run("verify-model", "model", "--key", VECTORS / "signing-key.pub")
    assert (good.exit_code, "signed by signing-key" in good.stdout) == (0, True)
    unknown = run("verify-model", "model")
    assert (unknown.exit_code, "with --key" in unknown.stderr) == (1, True)
    no_key = run("verify-model", "model", "--key", "model/signme-1")
    assert (no_key.exit_code, "is not a public key" in no_key.stderr) == (1, True)
    (folder / "registered_model_meta").write_text("x")
    beside = run("verify-model", "model", "--key", VECTORS / "signing-key.pub")
    assert (beside.exit_code, "not covered" in beside.stdout) == (0, True)
    (folder / "signme-1").write_text("other")
    bad = run("verify-model", "model", "--key", VECTORS / "signing-key.pub")
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert bad.stderr.splitlines() == [
        "model/signme-1: was changed since it was signed",
        "model: is not as it was signed; do not use this model; get it again from its source",
    ]


def test_with_a_key_in_the_project_a_version_must_be_signed(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(VECTORS / "v1.1.0", tmp_path / "version")
    run("keys", "create", "--name", "ada")
    key = keys.signing_key()
    assert key is not None
    assert "is not trusted; trusted: ada" in (signature_policy.signature_problem(folder) or "")
    (folder / "model.sig").unlink()
    assert "it is unsigned" in (signature_policy.signature_problem(folder) or "")
    assert signature_policy.wrong_signature(folder) is None
    signatures.sign(folder, key)
    assert signature_policy.signature_problem(folder) is None
    (folder / "signme-2").write_text("other")
    assert "signme-2: was changed" in (signature_policy.wrong_signature(folder) or "")
