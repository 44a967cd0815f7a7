"""docs/tour.md names functions and files that exist, and docs/architecture.md lists every package in order."""

import ast
import re

from projects import ROOT
from test_structure import OBSERVERS, PACKAGES

PACKAGE = ROOT / "src" / "tuneline"
TOUR = (ROOT / "docs" / "tour.md").read_text("utf-8")


def functions(module: str) -> set[str]:
    """Names of the functions of a module, methods as Class.method."""
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


def test_every_function_of_the_tour_exists() -> None:
    named = re.findall(r"^\| \d+ \| `([\w/]+\.py): ([\w.]+)`", TOUR, re.MULTILINE)
    assert len(named) >= 20
    assert [f"{module}: {name}" for module, name in named if name not in functions(module)] == []


def test_every_file_and_folder_of_the_tour_exists() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", TOUR)
    assert [path for path in named if not (PACKAGE / path).exists() and not (ROOT / path).exists()] == []


def test_the_table_of_packages_follows_the_order_of_imports() -> None:
    section = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("\n# Packages\n")[1].split("\n# ")[0]
    observers, *cells = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", observers)) == set(OBSERVERS)
    packages = [name for name in PACKAGES if name not in (*OBSERVERS, "__main__")]
    assert [cell.strip("`").removesuffix("/").removesuffix(".py") for cell in cells] == packages


def test_the_tour_names_every_file_that_a_new_task_changes() -> None:
    row = next(line for line in TOUR.splitlines() if line.startswith("| add a task |"))
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    tables = {path for path, source in sources.items() if '"language-modeling"' in source}
    assert set(re.findall(r"`([\w/]+\.py)`", row)) == tables
