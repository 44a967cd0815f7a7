"""A project whose path a tool would misread is refused before anything else happens; others are used."""

import shutil
import subprocess
from pathlib import Path
from urllib.request import proxy_bypass

import pytest
from dotenv import dotenv_values
from projects import ROOT
from requests.utils import should_bypass_proxies

from tuneline import environment
from tuneline.errors import SetupError

UNFIT = ["a?b", "a%20b", "it's", "a$b", "a{b}", "a:b", "a\nb"]
FIT = ["a b", "a#b", "项目", "[a]", "a;b", 'a"b', "a&b", "a(b)", "a,b=c@d", "a*b", "~a"]


def refusal_of_setup(folder: Path) -> str:
    """What `scripts/setup.sh` says in a folder; it stops in either case, as the value of TORCH is wrong too."""
    script = folder / "scripts/setup.sh"
    script.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "scripts/setup.sh", script)
    done = subprocess.run(["sh", script], env={"TORCH": "x"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("proxy", ["http_proxy", "ALL_PROXY"])
def test_a_proxy_is_not_asked_for_a_server_of_this_machine(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(proxy, "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", dotenv_values(ROOT / environment.ENV_FILE)["NO_PROXY"] or "")
    for host in ("127.0.0.1:4200", "localhost:5000"):
        assert proxy_bypass(host)
        assert should_bypass_proxies(f"http://{host}/api", None)
    assert not proxy_bypass("mlflow.example:5000")


@pytest.mark.parametrize("name", UNFIT)
def test_a_path_that_tools_misread_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    assert "the path of a project must not contain" in refusal_of_setup(folder)
    (folder / environment.ENV_FILE).parent.mkdir()
    (folder / environment.ENV_FILE).touch()
    monkeypatch.chdir(folder)
    with pytest.raises(SetupError) as caught:
        environment.enter()
    (line,) = str(caught.value).splitlines()
    assert "the path of a project must not contain " in line
    assert not (folder / "work").exists()


@pytest.mark.parametrize("name", FIT)
def test_other_paths_are_fit(name: str, tmp_path: Path) -> None:
    assert environment.unfit_characters(f"/home/{name}") == ""
    assert "setup: TORCH=x: must be cpu or cuda" in refusal_of_setup(tmp_path / name)
