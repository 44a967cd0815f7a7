"""setup.sh compares the installed packages with the lock files."""

import importlib.util
import tomllib
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from projects import ROOT


@pytest.fixture(scope="module")
def installed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("installed", ROOT / "scripts" / "installed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_pins_for_this_python_are_read(installed: ModuleType) -> None:
    lines = [
        "# made by",
        "Flask_Cors==6.0.5",
        "a==1 ; python_full_version >= '3.11'",
        "a==2 ; sys_platform == 'none'",
        "",
    ]
    assert installed.pins(lines) == {"flask-cors": "6.0.5", "a": "1"}


def test_every_package_that_differs_from_the_locks_is_listed(installed: ModuleType) -> None:
    pinned = {"a": "1.0", "b": "2.0", "c": "3.0", "torch": "2.13.0"}
    there = {
        "a": "1.0",
        "b": "2.1",
        "torch": "2.13.0+cpu",
        "pip": "9",
        "uv": "1",
        "tuneline": "0",
        "nvtx": "1",
        "x": "7",
    }
    *lines, remedy = installed.differences(pinned, there, {"torch", "nvtx"})
    assert lines == [
        "b: the locks pin 2.0, and 2.1 is installed",
        "c: the locks pin 3.0, and it is not installed",
        "x: 7 is installed, and the locks do not pin it",
    ]
    assert "pip uninstall x" in remedy
    assert list(installed.differences({"a": "1.0"}, {"a": "1.0", "pip": "9"}, set())) == []


def test_a_cuda_build_needs_its_own_packages_through_extras_too(installed: ModuleType) -> None:
    requires = {
        "torch": ["toolkit[cudart]==13; sys_platform != 'none'", "sympy", "opt; extra == 'opt'"],
        "toolkit": ["nvidia-cudart==13; extra == 'cudart'", "nvidia-nvtx==13; extra == 'nvtx'"],
        "nvidia-cudart": [],
        "nvidia-nvtx": [],
        "opt": [],
    }
    assert installed.needed_by("torch", requires) == {"torch", "toolkit", "nvidia-cudart"}


def test_every_extra_has_a_lock_that_fits_the_others(installed: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    common = installed.pins((ROOT / "requirements.lock").read_text("utf-8").splitlines())
    for name, wanted in project["optional-dependencies"].items():
        lock = (ROOT / f"requirements-{name}.lock").read_text("utf-8").splitlines()
        pinned = installed.pins(lock)
        assert {canonicalize_name(Requirement(one).name) for one in wanted} <= pinned.keys() | common.keys()
        assert {package: version for package, version in pinned.items() if package in common} == {
            package: common[package] for package in pinned.keys() & common.keys()
        }
