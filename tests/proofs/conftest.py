"""A project in the working directory with a key, and a small model's folder."""

from pathlib import Path

import pytest

from tuneline.proofs import keys
from tuneline.proofs.keys import PrivateKey


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project in the working directory, and a folder for this user's private keys beside it."""
    project = tmp_path / "project 项目"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(keys.LOCATION, raising=False)
    monkeypatch.delenv(keys.PASSWORD, raising=False)
    return tmp_path


@pytest.fixture
def key(home: Path) -> PrivateKey:
    """The key of the project, named ada."""
    keys.create("ada")
    found = keys.signing_key()
    assert found is not None
    return found


@pytest.fixture
def model(home: Path) -> Path:
    """The folder of a model, outside the project."""
    folder = home / "model"
    for name in ("config.json", "model.safetensors", "adapter/adapter_model.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 100)
    return folder
