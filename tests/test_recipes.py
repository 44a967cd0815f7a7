"""Recipes are complete params files with a page each, and prepare rows of the shape that the page shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT, TINY, Project, copy_project
from recipe_samples import FAMILIES, LEARNABLE, ROWS, SAMPLES, make_base
from ruamel.yaml import YAML

from tuneline import params
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options
from tuneline.data.records import record_form

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.yaml"))
NAMES = [path.stem for path in RECIPES]

RECORD_TYPES = {
    "classification-intent": "classification",
    "classification-sentiment": "classification",
    "continued-pretraining": "text",
    "dialogue": "messages",
    "instruction-tuning": "messages",
    "poems-chinese": "prompt-completion",
    "preference": "preference",
    "question-answering": "prompt-completion",
    "translation": "prompt-completion",
}

_FILE = re.compile(r"^(?:`([\w./-]+)`:?\n\n)?```(json|csv|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# The keys in which recipes differ from params.yaml, besides the rules of the gate. A new default of any other key must
# be written into every recipe.
DECIDED_BY_RECIPES = re.compile(
    r"task|data\.(raw|pretraining|frozen_pretraining|layout|near_duplicates|max_overlap|secrets\.\w+|split\.(group_by|validation))"
    r"|base\.(source|input|builtin\.(vocab_size|\w+_size|num_attention_heads|tie_word_embeddings|max_steps))"
    r"|finetune\.(num_train_epochs|learning_rate|lr_scheduler_type|weight_decay|per_device_train_batch_size|packing|lora"
    r"|gradient_accumulation_steps|max_length|overlong|class_weights)"
    r"|evaluate\.(batch_size|max_new_tokens)|gate\.rules|registry\.model"
)


def values(path: Path) -> dict[str, Any]:
    """Every key of a params file by its dotted name, with its value; `lora` and `dpo` are one value each."""

    def below(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not value or name in ("finetune.lora", "finetune.dpo"):
            return {name: value}
        return {key: each for inner in value for key, each in below(value[inner], f"{name}.{inner}".strip(".")).items()}

    return below(YAML(typ="safe").load(path.read_text("utf-8")), "")


def page(name: str) -> str:
    return (ROOT / "docs" / "recipes" / f"{name}.md").read_text("utf-8")


def literal_files(name: str) -> dict[str, str]:
    """The files that a page shows: a code block after a line with the file name in backticks."""
    return {found[1]: found[3] for found in _FILE.finditer(page(name)) if found[1]}


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_a_recipe_is_a_complete_params_file(path: Path) -> None:
    loaded = params.load(path)
    recipe, defaults = values(path), values(ROOT / "params.yaml")
    assert set(recipe) >= set(defaults), "a key of params.yaml is missing: add it to the recipe"
    differ = {key for key, value in recipe.items() if key not in defaults or defaults[key] != value}
    assert {key for key in differ if not DECIDED_BY_RECIPES.fullmatch(key)} == set(), "not the default of params.yaml"
    assert (loaded.data.raw, loaded.registry.model) == (f"data/raw/{path.stem}", path.stem)


def test_every_recipe_is_known_here_and_in_the_index() -> None:
    assert set(NAMES) == set(RECORD_TYPES)
    index = page("README")
    assert [name for name in NAMES if f"({name}.md)" not in index or f"({name}.yaml)" not in index] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_holds_the_commands_of_its_recipe(name: str) -> None:
    text = page(name)
    assert f"cp docs/recipes/{name}.yaml params.yaml" in text
    assert re.search(rf"tuneline use \S+ --name {name}$", text, re.MULTILINE)
    assert "\nmake run\n" in text


def drawn(found: raw_set.RawSet, record: record_form.Record) -> str:
    """A record as its page shows it: its source, and each field or message by name."""
    parts: list[tuple[str, str]] = []
    for field, value in zip(found.form.fields, record.values, strict=True):
        if field == "tools" and value:
            parts.append(("tools", ", ".join(tool["function"]["name"] for tool in json.loads(value))))
        elif field == "messages":
            for message in json.loads(value):
                calls = [call["function"] for call in message.get("tool_calls", ())]
                said = [message["content"]] if message["content"] else []
                called = [f"calls {call['name']} {json.dumps(call['arguments'])}" for call in calls]
                parts.append((message["role"], " ".join(said + called)))
        elif value:
            parts.append((field, value))
    lines = [f"{record.source}  {found.form.record_type}"]
    for name, value in parts:
        first, *rest = value.rstrip("\n").split("\n")
        lines += [f"  {name:<11}{first}".rstrip(), *(f"  {'':<11}{line}".rstrip() for line in rest)]
    return "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_that_a_page_shows_are_read_by_its_recipe(name: str, tmp_path: Path) -> None:
    shown = literal_files(name)
    assert shown, "the page shows no file"
    for file, text in shown.items():
        files.write_text(tmp_path / "set" / file, text)
    p = params.load(ROOT / "docs" / "recipes" / f"{name}.yaml")
    found = raw_set.open_set(
        tmp_path / "set",
        readers.plan(tmp_path / "set", Options(p.data.encoding, p.data.layout)),
        columns=p.data.columns,
        record_types=record_form.TYPES_OF_TASK[p.task],
        group_by=p.data.split.group_by,
        order_by=p.data.split.order_by,
    )
    assert found.form.record_type == RECORD_TYPES[name]
    rows = [row for portion, shape in found.portions for row in raw_set.read(portion, shape)]
    assert len(rows) >= 2
    assert [row for row in rows if not isinstance(row, record_form.Record)] == []
    pictures = "\n\n".join(drawn(found, row) for row in rows if isinstance(row, record_form.Record))
    assert f"```text\n{pictures}\n```" in page(name), f"the page must show:\n\n{pictures}"


# What follows runs the pipeline.


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("recipes") / "project")


# Smaller values, so that a run of the sample is short; the steps of the run stay the same.
SMALL = {key: value for key, value in TINY.items() if key.startswith(("sample", "compute", "base", "evaluate"))} | {
    "finetune.learning_rate": 0.001,
    "finetune.num_train_epochs": 1.0,
    "finetune.per_device_train_batch_size": 2,
    "finetune.gradient_accumulation_steps": 2,
    "finetune.warmup_steps": 2,
    "finetune.save_steps": 10,
    "finetune.eval_steps": 10,
    "finetune.logging_steps": 2,
}


def done(project: Project, *arguments: str) -> str:
    """The output of a command that must succeed."""
    made = project.tuneline(*arguments)
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_from_use_to_gate(name: str, project: Project, tmp_path: Path) -> None:
    sample = SAMPLES[name]()
    for file, text in sample.items():
        files.write_text(tmp_path / "mine" / file, text)
    files.write_text(project.root / "params.yaml", (ROOT / "docs" / "recipes" / f"{name}.yaml").read_text("utf-8"))
    # Before `use`, which writes the pretraining text of this split for a builtin base.
    project.set(data__split__test=0.2)
    before = params.load(project.root / "params.yaml").model_dump()
    done(project, "use", str(tmp_path / "mine"), "--name", name)
    assert params.load(project.root / "params.yaml").model_dump() == before, "the set was not read as the recipe says"

    if name in FAMILIES:
        make_base(FAMILIES[name], list(sample.values()), project.root / "models" / "mine")
        done(project, "exec", "--", "dvc", "add", "models/mine")
        project.set(base__source="path", base__input="models/mine")
    project.set(**{key.replace(".", "__"): value for key, value in SMALL.items()})
    done(project, "exec", "--", "dvc", "repro", "evaluate")
    dataset = files.read_json(project.root / "data" / "clean" / "dataset.json")
    assert dataset["record_type"] == RECORD_TYPES[name]
    assert sum(dataset["rows"].values()) == ROWS
    assert all(dataset["rows"][split] > 0 for split in ("train", "validation", "test"))
    reports = project.root / "reports"
    training = files.read_json(reports / "training.json")
    assert training["steps"] >= 3
    assert (training["data"]["rows"], training["data"]["rows_dropped"]) == (dataset["rows"]["train"], 0)

    decided = project.tuneline("gate")
    verdict = files.read_json(reports / "gate.json")
    assert decided.returncode == (verdict["verdict"] == "failed"), decided.stdout + decided.stderr
    for rule in verdict["rules"]:
        is_measured = rule["improvement"] is not None
        assert is_measured == (rule["versus"] != "champion"), rule["reason"]


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("learning") / "project")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_beats_the_trivial_baselines(name: str, learning: Project, tmp_path: Path) -> None:
    """On a thousand suitable rows, with a builtin base and the values that `use` writes for it."""
    for file, text in LEARNABLE[name]().items():
        files.write_text(tmp_path / "mine" / file, text)
    recipe = params.load(ROOT / "docs" / "recipes" / f"{name}.yaml")
    files.write_text(learning.root / "params.yaml", (ROOT / "docs" / "recipes" / f"{name}.yaml").read_text("utf-8"))
    learning.set(
        base__source="builtin",
        base__input="data/pretraining",
        finetune__lora=None,
        finetune__max_length=min(recipe.finetune.max_length, 256),
        finetune__per_device_train_batch_size=8,
        finetune__gradient_accumulation_steps=1,
        evaluate__generation_rows=50,
    )
    done(learning, "use", str(tmp_path / "mine"), "--name", name)
    done(learning, "exec", "--", "dvc", "repro", "evaluate")
    learning.tuneline("gate")
    reports = learning.root / "reports"
    evaluation, gate = (files.read_json(reports / f"{report}.json") for report in ("evaluation", "gate"))
    print(name, json.dumps({key: value for key, value in evaluation.items() if key != "recall"}))
    print("\n".join(rule["reason"] for rule in gate["rules"]))
    assert [rule["reason"] for rule in gate["rules"] if rule["verdict"] == "failed"] == []
    if recipe.task in ("sft", "language-modeling"):
        assert evaluation["versus_baseline"]["bits_per_byte"]["high"] < 0
        if recipe.task == "sft":
            assert evaluation["candidate"]["chrf"] > evaluation["copy"]["chrf"]
    elif recipe.task == "preference":
        assert evaluation["candidate"]["reward_accuracy"] > max(0.5, evaluation["longer"]["reward_accuracy"])
    else:
        assert evaluation["candidate"]["accuracy"] > evaluation["majority"]["accuracy"] + 0.2
        assert evaluation["candidate"]["accuracy"] > evaluation["tfidf"]["accuracy"] - 0.05
