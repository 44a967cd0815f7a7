"""Every test runs with the tools' telemetry off and away from what a developer's shell has set."""

import gc
import os
from pathlib import Path

import pytest
from projects import ROOT, Project, copy_project

# Half of the time of importing all tests and tools went into looking for garbage, of which they leave none.
gc.disable()

# Before any tool is imported: several read their switches at import.
for _name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "TUNELINE_ROOT"):
    os.environ.pop(_name, None)
os.environ |= {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.fixture
def params_text() -> str:
    """The text of the project's own params.yaml."""
    return (ROOT / "params.yaml").read_text("utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh project, nothing made yet, in a folder whose name has a space and Chinese characters."""
    return copy_project(tmp_path / "my project 项目")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with spaces and Chinese in its name; its migration is the slow part, so it is made once."""
    return tmp_path_factory.mktemp("store 仓库")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest modules first, so that no worker starts one of them at the end."""
    items.sort(
        key=lambda item: item.path.name not in ("test_two_months.py", "test_whole_run.py", "test_damaged_rows.py")
    )


def pytest_collection_finish() -> None:
    """What is imported by now stays, and need not be looked at again."""
    gc.freeze()
    gc.enable()
