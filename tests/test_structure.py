"""The structure: which package imports from which, one file per outside tool, and stages that depend on packages."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tuneline.encoding import token_cache

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tuneline"

# They observe: no result depends on them, so no stage does. Params are tracked value by value.
OBSERVERS = (
    "terminal",
    "errors",
    "work",
    "git",
    "stopping",
    "progress",
    "processes",
    "instruction_set",
    "prefect_login",
    "environment",
)
# Each may import from those above it, and from itself.
PACKAGES = (
    *OBSERVERS,
    "core",
    "params",
    "corpus",
    "data/records",
    "data/reading",
    "data/mapping",
    "data/secrets",
    "data/preparing",
    "data/validation",
    "data/profiling",
    "data/removing",
    "augmentation",
    "encoding",
    "modeling",
    "training",
    "pretraining",
    "finetuning",
    "fusion/merging",
    "evaluation",
    "crossvalidation",
    "explanation",
    "behaviour",
    "gate",
    "reporting",
    "registry",
    "proofs",
    "pipeline",
    "decisions",
    "fusion/ensembles",
    "search",
    "stages",
    "commands",
    "pyfunc",
    "cli",
    "__main__",
)
# Stages do not depend on them either: `registry` is told what was measured and is never asked.
UNTRACKED = (*OBSERVERS, "params", "registry")
# Stages of which there is one for each name in data.augment.
OF_NAMES = ("augment", "replace_synonyms", "back_translate")
MOST_PACKAGES = 6

# Tool -> the only files (or folders) that may import it.
OUTSIDE_TOOLS = {
    "great_expectations": ("src/tuneline/data/validation/data_docs.py", "src/tuneline/data/validation/expectations.py"),
    "mlflow": ("src/tuneline/registry/runs.py", "src/tuneline/registry/tracking.py", "src/tuneline/pyfunc.py"),
    "dvc": (
        "src/tuneline/pipeline/dvc_files.py",
        "src/tuneline/pipeline/objects.py",
        "src/tuneline/pipeline/repro.py",
    ),
    "prefect": ("flows",),
    "jinja2": (
        "src/tuneline/reporting/report.py",
        "src/tuneline/encoding/chat/render.py",
        "src/tuneline/evaluation/probes/harness_run.py",
    ),
    "optuna": ("src/tuneline/search/study.py",),
    "prefect_dask": ("flows/search.py",),
    "click": ("src/tuneline/cli.py",),
    "glitchlings": ("src/tuneline/augmentation/text_noise.py",),
    "rjieba": ("src/tuneline/augmentation/segmentation.py",),
    "captum": ("src/tuneline/explanation/attributions.py",),
    "peft": ("src/tuneline/modeling/adapters.py", "src/tuneline/fusion/merging/merge_arithmetic.py"),
    "trl": ("src/tuneline/finetuning/dpo.py",),
    "distributed": ("src/tuneline/data/preparing/scheduler.py", "flows/search.py"),
    "lm_eval": ("src/tuneline/evaluation/probes/harness_run.py",),
    "sacrebleu": ("src/tuneline/evaluation/answer_metrics.py",),
    "sklearn": ("src/tuneline/augmentation/near_held_out.py", "src/tuneline/evaluation/tfidf.py"),
    "ftfy": ("src/tuneline/data/reading/guards/damage.py",),
    "model_signing": ("src/tuneline/proofs/signatures.py",),
    "in_toto_attestation": ("src/tuneline/proofs/claims.py",),
    "jsonschema": ("src/tuneline/behaviour/check_file.py", "src/tuneline/behaviour/judge.py"),
    "regex": (
        "src/tuneline/behaviour/check_file.py",
        "src/tuneline/behaviour/judge.py",
        "src/tuneline/evaluation/probes/copied_text.py",
    ),
    "stdnum": ("src/tuneline/data/secrets/named_numbers.py", "src/tuneline/data/secrets/patterns.py"),
}


@cache
def modules() -> tuple[Path, ...]:
    """All modules with more in them than a docstring."""
    found = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py"})
    return tuple(path for path in found if len(ast.parse(path.read_text("utf-8")).body) > 1)


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
    """The project's own modules that `file` imports."""
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "tuneline":
            place = PACKAGE.joinpath(*parts[1:])
            for candidate in (place / "__init__.py", place.with_suffix(".py")):
                if candidate.is_file() and candidate.parent != PACKAGE / "stages" and candidate in modules():
                    yield candidate


def package(file: Path) -> str:
    """The package that a module belongs to, as PACKAGES calls it."""
    name = file.relative_to(PACKAGE).with_suffix("").as_posix()
    found = [one for one in PACKAGES if name == one or name.startswith(f"{one}/")]
    assert found, f"{file}: its package is not in PACKAGES"
    return found[0]


def reached(waiting: list[Path]) -> list[str]:
    """The packages that some modules are in or import, each complete, without those that no stage depends on."""
    packages = set()
    while waiting:
        name = package(waiting.pop())
        if name not in packages and name not in UNTRACKED:
            packages.add(name)
            waiting += [one for file in modules() if package(file) == name for one in own_files(file)]
    return sorted(f"src/tuneline/{name}" for name in packages)


def needed(stage: str) -> list[str]:
    """What dvc.yaml must list of the code: the stage's own file, and every package that it reaches, each complete."""
    start = PACKAGE / "stages" / f"{stage}.py"
    return [*reached(list(own_files(start))), f"src/tuneline/stages/{stage}.py"]


def stages() -> dict[str, dict]:
    """The stages of dvc.yaml; of a stage with `foreach` the stage that DVC makes of each item."""
    found = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


def test_a_package_imports_only_from_those_above_it() -> None:
    rank = {name: number for number, name in enumerate(PACKAGES)}
    wrong = [
        f"{file.relative_to(ROOT)} imports {imported.relative_to(ROOT)}"
        for file in modules()
        for imported in own_files(file)
        if rank[package(imported)] > rank[package(file)]
    ]
    assert wrong == []


@pytest.mark.parametrize("tool", sorted(OUTSIDE_TOOLS))
def test_an_outside_tool_has_its_file(tool: str) -> None:
    allowed = {ROOT / place for place in OUTSIDE_TOOLS[tool]}
    users = [
        file.relative_to(ROOT).as_posix()
        for file in [*modules(), *(ROOT / "flows").rglob("*.py")]
        if any(name.split(".")[0] == tool for name in imports(file)) and not allowed & {file, *file.parents}
    ]
    assert users == []


@pytest.mark.parametrize("stage", sorted(path.stem for path in (PACKAGE / "stages").glob("[!_]*.py")))
def test_a_stage_depends_on_the_packages_that_it_reaches(stage: str) -> None:
    listed = [dep for dep in stages()[stage]["deps"] if dep.startswith("src/")]
    wanted = needed(stage)
    assert listed == wanted, "deps of the stage in dvc.yaml:\n" + "".join(f"      - {file}\n" for file in wanted)
    assert len(wanted) <= MOST_PACKAGES + 1


@pytest.mark.parametrize(("kind", "place"), [("twin", "-twins/${item}"), ("without", "-without/${key}")])
def test_other_models_are_trained_and_measured_by_what_the_candidate_is(kind: str, place: str) -> None:
    for name in ("finetune", "evaluate"):
        own, twin = stages()[name], stages()[f"{name}_{kind}"]
        assert [dep for dep in twin["deps"] if dep.startswith("src/")] == [
            dep for dep in own["deps"] if dep.startswith("src/")
        ]
        assert {*twin["params"]} <= {*own["params"], "report.without.${key}"}
        model = "${paths.finetuned}"
        assert {dep.replace(f"{model}{place}", model) for dep in twin["deps"]} <= set(own["deps"])


def test_the_token_cache_is_keyed_by_all_code_that_decides_over_tokens() -> None:
    # The training passes the label codec to the encoding.
    deciding = reached([PACKAGE / "encoding/encode.py", PACKAGE / "data/records/label_codec.py"])
    assert "src/tuneline/data/records" in deciding
    assert set(deciding) <= set(token_cache.deciding_code())


def test_a_stage_replaces_its_shell_so_that_a_kill_reaches_it() -> None:
    assert {name: stage["cmd"] for name, stage in stages().items()} == {
        name: f"exec sh scripts/stage.sh {name.replace('_twin', '@${item}').replace('_without', '@without/${key}')}"
        f"{'@${key}' * (name in OF_NAMES)}"
        for name in stages()
    }
    lines = (ROOT / "scripts/stage.sh").read_text("utf-8").splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines if "tuneline.stages" in line] == ["exec"] * 3


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


def test_every_test_module_has_a_name_of_its_own() -> None:
    """pytest imports them by their base names, so a second one of a name is an error as soon as both are collected."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
