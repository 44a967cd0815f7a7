"""Recipes: whole params files, each with a page; and each prepares rows of the shape that its page shows."""

import csv
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT, Project, copy_project
from ruamel.yaml import YAML

from tuneline import files, params
from tuneline.data.mapping import records
from tuneline.data.reading.rows import Options

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


def keys(path: Path) -> set[str]:
    """Every key of a YAML file, with those above it: `data.split.seed`."""

    def below(value: Any, name: str) -> set[str]:
        inner = value if isinstance(value, dict) else {}
        return {name} | {key for each in inner for key in below(inner[each], f"{name}.{each}".strip("."))}

    return below(YAML(typ="safe").load(path.read_text("utf-8")), "")


def page(name: str) -> str:
    return (ROOT / "docs" / "recipes" / f"{name}.md").read_text("utf-8")


def literal_files(name: str) -> dict[str, str]:
    """The files that a page shows: each a block after a line with the file's name in backticks."""
    return {found[1]: found[3] for found in _FILE.finditer(page(name)) if found[1]}


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_a_recipe_is_a_whole_params_file(path: Path) -> None:
    loaded = params.load(path)
    assert keys(path) >= keys(ROOT / "params.yaml"), "a key of params.yaml is missing: add it to the recipe"
    assert (loaded.data.raw, loaded.registry.model) == (f"data/raw/{path.stem}", path.stem)


def test_every_recipe_is_known_here_and_in_the_index() -> None:
    assert set(NAMES) == set(RECORD_TYPES)
    index = page("README")
    assert [name for name in NAMES if f"({name}.md)" not in index or f"({name}.yaml)" not in index] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_how_its_recipe_is_run(name: str) -> None:
    text = page(name)
    assert f"cp docs/recipes/{name}.yaml params.yaml" in text
    assert re.search(rf"tuneline use \S+ --name {name}$", text, re.MULTILINE)
    assert "\nmake run\n" in text


def drawn(found: records.RawSet, record: records.Record) -> str:
    """A record as its page shows it: where it stands, and each field or message by its name."""
    parts: list[tuple[str, str]] = []
    for field, value in zip(records.FIELDS[found.record_type], record.values, strict=True):
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
    lines = [f"{record.source}  {found.record_type}"]
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
    found = records.open_set(
        tmp_path / "set",
        Options(p.data.encoding, p.data.layout),
        columns=p.data.columns,
        record_types=records.TYPES_OF_TASK[p.task],
        group_by=p.data.split.group_by,
        order_by=p.data.split.order_by,
    )
    assert found.record_type == RECORD_TYPES[name]
    rows = [row for portion, shape in found.portions for row in records.read(portion, shape)]
    assert len(rows) >= 2
    assert [row for row in rows if not isinstance(row, records.Record)] == []
    pictures = "\n\n".join(drawn(found, row) for row in rows if isinstance(row, records.Record))
    assert f"```text\n{pictures}\n```" in page(name), f"the page must show:\n\n{pictures}"


# What follows runs the pipeline.

ROWS = 240


def words(seed: object, count: int = 14) -> str:
    """Words that no other seed gives."""
    rng = random.Random(str(seed))
    return " ".join("".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(3, 8))) for _ in range(count))


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


def conversation(n: int) -> dict[str, Any]:
    call = {"name": "find_order", "arguments": {"number": str(n)}}
    turns = [
        ("human", words(f"asked {n}")),
        ("function_call", json.dumps(call)),
        ("observation", json.dumps({"state": words(f"state {n}", 3)})),
        ("gpt", words(f"answered {n}")),
    ]
    tools = [{"type": "function", "function": {"name": "find_order", "parameters": {"type": "object"}}}]
    return {
        "conversations": [{"from": who, "value": text} for who, text in turns],
        "tools": json.dumps(tools),
        "customer": f"K{n % 80}",
    }


def poem(n: int) -> dict[str, Any]:
    rng = random.Random(f"poem {n}")

    def characters(count: int) -> str:
        return "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(count))

    verses = [f"{characters(5)}，{characters(5)}。" for _ in range(4)]
    return {"title": characters(4), "author": characters(2), "paragraphs": verses}


def question(n: int) -> dict[str, Any]:
    context = words(f"context {n // 2}", 60)
    return {"context": context, "question": words(f"question {n}", 8), "answers": {"text": [words(f"answer {n}", 4)]}}


SAMPLES: dict[str, Callable[[], dict[str, str]]] = {
    "classification-intent": lambda: {
        "intents.csv": table(["text", "intent"], [[words(n, 9), f"intent_{n % 6}"] for n in range(ROWS)])
    },
    "classification-sentiment": lambda: {
        f"{label}.txt": "".join(words(f"{label} {n}") + "\n" for n in range(ROWS // 2)) for label in ("pos", "neg")
    },
    "continued-pretraining": lambda: {
        f"part{n % 3}/{n}.txt": "\n\n".join(words(f"{n} {m}", 40) for m in range(3)) for n in range(ROWS)
    },
    "dialogue": lambda: {"chats.jsonl": lines([conversation(n) for n in range(ROWS)])},
    "instruction-tuning": lambda: {
        "instructions.jsonl": lines(
            [
                {"instruction": words(n), "input": words(f"in {n}") if n % 2 else "", "output": words(f"out {n}")}
                for n in range(ROWS)
            ]
        )
    },
    "poems-chinese": lambda: {"poems.json": json.dumps([poem(n) for n in range(ROWS)], ensure_ascii=False)},
    "preference": lambda: {
        "preferences.jsonl": lines(
            [{"prompt": words(n), "chosen": words(f"+ {n}"), "rejected": words(f"- {n}")} for n in range(ROWS)]
        )
    },
    "question-answering": lambda: {"questions.jsonl": lines([question(n) for n in range(ROWS)])},
    "translation": lambda: {
        "sentences.jsonl": lines(
            [{"translation": {"de": words(f"de {n}"), "en": words(f"en {n}")}} for n in range(ROWS)]
        )
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("recipes") / "project")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_prepares_rows_of_its_shape(name: str, project: Project, tmp_path: Path) -> None:
    for file, text in SAMPLES[name]().items():
        files.write_text(tmp_path / "mine" / file, text)
    files.write_text(project.root / "params.yaml", (ROOT / "docs" / "recipes" / f"{name}.yaml").read_text("utf-8"))
    project.set(sample__libraries=[])
    used = project.tuneline("use", str(tmp_path / "mine"), "--name", name)
    assert used.returncode == 0, used.stdout + used.stderr
    made = project.tuneline("exec", "--", "dvc", "repro", "validate_clean")
    assert made.returncode == 0, made.stdout + made.stderr
    dataset = files.read_json(project.root / "data" / "clean" / "dataset.json")
    assert dataset["record_type"] == RECORD_TYPES[name]
    assert sum(dataset["rows"].values()) == ROWS
    assert all(dataset["rows"][split] > 0 for split in ("train", "validation", "test"))
    before = params.load(ROOT / "docs" / "recipes" / f"{name}.yaml").model_dump()
    after = params.load(project.root / "params.yaml").model_dump()
    assert after == before | {"sample": {"libraries": []}}, "the set was not read as the recipe says"
