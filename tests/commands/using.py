"""A project without data, and `tuneline use` called in this process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recipe_samples import poem, words

from tuneline.commands.use import use_data
from tuneline.commands.use.open_set import ReadingArguments


@pytest.fixture(scope="module")
def empty_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty") / "project"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=root)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True, cwd=root)
    return root


@pytest.fixture(autouse=True)
def use_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str, empty_project: Path) -> Path:
    root = tmp_path / "my project"
    shutil.copytree(empty_project, root)
    monkeypatch.chdir(root)
    Path("params.yaml").write_text(params_text, "utf-8")
    return root


def faq_row(n: int) -> dict[str, Any]:
    return {"question": f"{words(f'q{n}', 6)}?", "answer": words(f"a{n}", 10), "customer": f"c{n % 30}"}


def pairs(tmp_path: Path, count: int = 60, *more: str) -> Path:
    path = tmp_path / "faq.jsonl"
    path.write_text("\n".join([*(json.dumps(faq_row(n)) for n in range(count)), *more]) + "\n")
    return path


_READ = ("columns", "encoding", "layout", "exclude")


def _arguments(more: dict[str, Any]) -> ReadingArguments:
    return ReadingArguments(**{key: more.pop(key) for key in _READ if key in more})


def use(path: Path, **more: Any) -> list[str]:
    return use_data.use(path, _arguments(more), **more)


def mix(path: Path, **more: Any) -> list[str]:
    return use_data.mix(path, _arguments(more), **more)


def verse(n: int) -> str:
    return "".join(poem(n)["paragraphs"])


def reviews(tmp_path: Path) -> Path:
    folder = tmp_path / "reviews"
    folder.mkdir()
    for label in ("pos", "neg"):
        (folder / f"{label}.txt").write_text("".join(f"{words(f'{label} {n}')}\n" for n in range(30)), "utf-8")
    return folder
