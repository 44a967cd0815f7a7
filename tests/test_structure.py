"""The house stays as it is drawn: who imports whom, a file for each outside tool, stages that name their code."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tuneline"

# Each may import from those above it, and from its own room.
ROOMS = [
    {"errors", "terminal", "work", "__init__"},
    {
        "boundedyaml",
        "files",
        "full_disk",
        "manifests",
        "environment",
        "limits",
        "prefect_login",
        "processes",
        "progress",
        "stopping",
        "worktree",
    },
    {"params"},
    {"data"},
    {"training"},
    {"evaluation"},
    {"registry"},
    {"dvcfiles", "dvclock", "intact", "outputs", "pipeline", "remedies"},
    {
        "basetext",
        "commands",
        "decisions",
        "doctor",
        "inspection",
        "keeping",
        "leftovers",
        "overlong",
        "preview",
        "rawparams",
        "rawreading",
        "rawsets",
        "services",
        "settled",
        "suggested",
    },
    {"stages"},
    {"cli"},
    {"__main__"},
]

# Tool -> the only files (or folders) that may import it.
OUTSIDE_TOOLS = {
    "great_expectations": ("src/tuneline/data/judging/datadocs.py", "src/tuneline/data/judging/expectations.py"),
    "mlflow": ("src/tuneline/registry/runs.py", "src/tuneline/registry/tracking.py"),
    "dvc": ("src/tuneline/dvcfiles.py", "src/tuneline/pipeline.py"),
    "prefect": ("flows",),
    "jinja2": ("src/tuneline/evaluation/report.py", "src/tuneline/training/rendering.py"),
    "click": ("src/tuneline/cli.py",),
    "peft": ("src/tuneline/training/adapters.py",),
    "trl": ("src/tuneline/training/preference.py",),
    "distributed": ("src/tuneline/data/preparing/scheduler.py",),
    "sklearn": ("src/tuneline/evaluation/textbaselines.py",),
    "ftfy": ("src/tuneline/data/reading/damage.py",),
    "stdnum": (
        "src/tuneline/data/preparing/named_numbers.py",
        "src/tuneline/data/preparing/secret_patterns.py",
    ),
}

# What observes cannot change a result, so a stage is not stale when it changes: errors and their words, the checks of
# params (their values are tracked one by one), how a process starts and ends, progress, tracking.
OBSERVERS = (
    "__init__.py",
    "errors.py",
    "terminal.py",
    "environment.py",
    "processes.py",
    "work.py",
    "params/",
    "stages/__main__.py",
    "registry/",
)
OBSERVING_MODULES = ("progress.py", "timing.py")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def imports(file: Path) -> tuple[str, ...]:
    """Every module that `file` imports, inside functions too; `from a import b` gives a and a.b."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            assert node.module
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def own_files(file: Path) -> Iterator[Path]:
    """The package's own files that `file` imports, with the packages on the way to them."""
    for name in imports(file):
        parts = name.split(".")
        if parts[0] != "tuneline":
            continue
        for depth in range(1, len(parts) + 1):
            place = PACKAGE.joinpath(*parts[1:depth])
            for candidate in (place / "__init__.py", place.with_suffix(".py")):
                if candidate.is_file():
                    yield candidate


def closure(stage: str) -> list[str]:
    """The source files that can change the result of a stage, as dvc.yaml must list them."""
    start = PACKAGE / "stages" / f"{stage}.py"
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        file = waiting.pop()
        relative = file.relative_to(PACKAGE).as_posix()
        if file in seen or relative.startswith(OBSERVERS) or file.name in OBSERVING_MODULES:
            continue
        seen.add(file)
        waiting += own_files(file)
    return sorted(file.relative_to(ROOT).as_posix() for file in seen if holds_code(file))


def grouped(files: list[str]) -> list[str]:
    """The same files, a folder standing for all that is in it where all of it is needed."""
    needed = set(files)
    for folder in sorted(path for path in PACKAGE.glob("*/*") if path.is_dir()):
        inside = {path.relative_to(ROOT).as_posix() for path in folder.rglob("*.py") if holds_code(path)}
        inside = {path for path in inside if Path(path).name not in OBSERVING_MODULES}
        if inside and inside <= needed:
            needed = needed - inside | {folder.relative_to(ROOT).as_posix()}
    return sorted(needed)


def holds_code(file: Path) -> bool:
    """Whether there is more in it than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(file.read_text("utf-8")).body)


def stages() -> dict[str, dict]:
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]


@pytest.mark.parametrize("stage", sorted(path.stem for path in (PACKAGE / "stages").glob("[!_]*.py")))
def test_a_stage_depends_on_the_code_that_can_change_its_result(stage: str) -> None:
    listed = [dep for dep in stages()[stage]["deps"] if dep.startswith("src/") and not dep.endswith(".jinja")]
    wanted = grouped(closure(stage))
    assert listed == wanted, "deps of the stage in dvc.yaml:\n" + "".join(f"      - {file}\n" for file in wanted)


def test_a_stage_replaces_its_shell_so_that_a_kill_reaches_it() -> None:
    assert {name: stage["cmd"] for name, stage in stages().items()} == {
        name: f"exec sh scripts/stage.sh {name}" for name in stages()
    }
    lines = (ROOT / "scripts/stage.sh").read_text("utf-8").splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines if "tuneline.stages" in line] == ["exec"] * 3


def room(file: Path) -> int:
    name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for number, names in enumerate(ROOMS):
        if name in names:
            return number
    raise AssertionError(f"{file}: in no room; draw it into ROOMS")


def test_a_room_imports_only_from_rooms_above_it() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {imported.relative_to(ROOT)}"
        for file in modules()
        for imported in own_files(file)
        if room(imported) > room(file)
    ]
    assert wrong == []


def test_nothing_imports_in_a_circle() -> None:
    def visit(file: Path, path: tuple[Path, ...]) -> None:
        if file in path:
            circle = [step.relative_to(PACKAGE).as_posix() for step in (*path[path.index(file) :], file)]
            raise AssertionError(" -> ".join(circle))
        if file not in done:
            for imported in own_files(file):
                # A package's __init__ is on the way to every module of it, which is no circle.
                if imported.name != "__init__.py" and imported != file:
                    visit(imported, (*path, file))
            done.add(file)

    done: set[Path] = set()
    for module in modules():
        visit(module, ())
    assert done


@pytest.mark.parametrize("tool", sorted(OUTSIDE_TOOLS))
def test_an_outside_tool_has_its_file(tool: str) -> None:
    allowed = {ROOT / place for place in OUTSIDE_TOOLS[tool]}
    users = [
        file.relative_to(ROOT).as_posix()
        for file in [*modules(), *(ROOT / "flows").rglob("*.py")]
        if any(name.split(".")[0] == tool for name in imports(file)) and not allowed & {file, *file.parents}
    ]
    assert users == []


def test_no_python_file_shadows_mlflow() -> None:
    assert [path.name for path in (ROOT / "mlflow").rglob("*.py")] == []


def test_the_versions_that_decide_over_a_model_are_those_of_the_locks() -> None:
    names = [
        "accelerate",
        "numpy",
        "peft",
        "safetensors",
        "scikit-learn",
        "scipy",
        "tokenizers",
        "torch",
        "transformers",
        "trl",
    ]
    locked = [(ROOT / name).read_text().splitlines() for name in ("requirements.lock", "requirements-torch.lock")]
    deciding = [line for lines in locked for line in lines if line.split("==")[0] in names]
    assert (ROOT / "requirements-training.lock").read_text().splitlines() == deciding


def test_only_the_few_metrics_that_people_compare_are_kept_out_of_the_cache() -> None:
    """With any other uncached output DVC trains again what it could restore; every count as a metric hides the few."""
    uncached = [out for stage in stages().values() for out in stage["outs"] if not isinstance(out, str)]
    assert uncached == []
    metrics = [metric for stage in stages().values() for metric in stage.get("metrics", [])]
    assert metrics == [{"${paths.reports}/metrics.json": {"cache": False}}]
