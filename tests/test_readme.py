"""README.md and README.zh-CN.md say what is true, and the same."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from projects import ROOT
from ruamel.yaml import YAML

from tuneline import params
from tuneline.cli import cli

ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
both = pytest.mark.parametrize("name", [ENGLISH, CHINESE])


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, *kinds: str) -> list[str]:
    """The blocks of code of these kinds."""
    return [block for kind, block in BLOCK.findall(text(name)) if kind in kinds]


def spans(written: str) -> list[str]:
    """The code within sentences."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", BLOCK.sub("", written))]


def command_lines(name: str) -> Iterator[str]:
    """All that a reader may type."""
    for line in [line for block in blocks(name, "sh") for line in block.splitlines()] + spans(text(name)):
        yield re.sub(r"\s+#.*", "", line)


def sections(name: str) -> list[str]:
    return re.split(r"^## ", text(name), flags=re.MULTILINE)


@both
def test_its_commands_and_options_exist(name: str) -> None:
    typed = [found for line in command_lines(name) if (found := re.search(r"\btuneline ([a-z]+)\b(.*)", line))]
    assert len(typed) > 20
    wrong = []
    for found in typed:
        command: click.Command | None = cli.commands.get(found[1])
        if isinstance(command, click.Group):
            command = command.commands.get(found[2].split()[0])
        if command is None:
            wrong.append(found[0])
            continue
        known = {option for param in command.params for option in param.opts}
        wrong += [f"{found[1]} {option}" for option in re.findall(r"--[a-z-]+", found[2]) if option not in known]
    assert wrong == []


@both
def test_the_options_of_use_exist(name: str) -> None:
    known = {option for param in cli.commands["use"].params for option in param.opts}
    named = re.findall(r"^\| `(--[a-z-]+)", text(name), re.MULTILINE)
    assert len(named) == 7
    assert set(named) <= known


@both
def test_its_targets_of_make_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    read = "".join(path.read_text("utf-8") for path in [ROOT / "Makefile", *(ROOT / "scripts").glob("*.sh")])
    lines = [line for line in command_lines(name) if line.startswith("make ")]
    assert {line.split()[1] for line in lines} <= targets
    assert {word.split("=")[0] for line in lines for word in line.split()[2:]} <= set(re.findall(r"[A-Z]+", read))


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them from its titles."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@both
def test_its_links_lead_to_files_and_titles_that_exist(name: str) -> None:
    targets = [target for target in LINK.findall(text(name)) if "://" not in target]
    assert len(targets) > 15
    for target in targets:
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(ROOT / path), target


@both
def test_its_paths_exist(name: str) -> None:
    """Of the files that git holds: what a run makes is in other folders."""
    named = [span for span in spans(text(name)) if re.fullmatch(r"(docs|src|data/expectations|mlflow)/[\w./-]+", span)]
    assert [span for span in named if not (ROOT / span).exists()] == []


@both
def test_its_table_of_stages_is_the_graph(name: str) -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    assert set(re.findall(r"^\| `(\w+)` \|", text(name), re.MULTILINE)) == set(stages)
    graph = blocks(name, "mermaid")[0]
    assert set(stages) <= set(re.findall(r"\w+", graph))


@both
def test_its_params_are_keys_of_params_yaml(name: str) -> None:
    def check(values: dict[str, Any], section: type) -> None:
        for key, value in values.items():
            field = section.model_fields[key]  # type: ignore[attr-defined]
            if isinstance(value, dict):
                check(value, field.annotation)

    for block in blocks(name, "yaml"):
        check(YAML(typ="safe").load(block), params.Params)
    keys = [span.split(":")[0] for span in spans(text(name)) if re.fullmatch(r"[a-z]+\.[a-z_]+(: \w+)?", span)]
    sections_ = {key: params.Params.model_fields[key].annotation for key in params.Params.model_fields}
    named = [key.split(".") for key in keys if key.split(".")[0] in sections_]
    assert [key for key in named if key[1] not in getattr(sections_[key[0]], "model_fields", {})] == []
    assert len(named) > 3


def test_each_links_to_the_other() -> None:
    assert f"]({CHINESE})" in text(ENGLISH)[:100]
    assert f"]({ENGLISH})" in text(CHINESE)[:100]


def test_both_have_the_same_blocks_of_code() -> None:
    """But for the comments, and the labels of the graph."""

    def code(name: str) -> list[str]:
        lines = [re.sub(r"\s+#.*", "", line) for block in blocks(name, "sh", "yaml", "") for line in block.splitlines()]
        arrows = [line for block in blocks(name, "mermaid") for line in block.splitlines() if "[" not in line]
        return [*lines, *arrows]

    assert code(CHINESE) == code(ENGLISH)


def test_the_sections_of_both_have_the_same_code_links_and_numbers() -> None:
    english, chinese = sections(ENGLISH), sections(CHINESE)
    assert len(english) == len(chinese)
    for one, other in zip(english, chinese, strict=True):
        title = one.splitlines()[0]
        assert Counter(spans(one)) == Counter(spans(other)), title
        # A picture may show the same in Chinese.
        links, others = (
            [link.replace("-zh.png", ".png") for link in LINK.findall(part) if "README" not in link]
            for part in (one, other)
        )
        assert Counter(links) == Counter(others), title
        assert one.count("\n|") == other.count("\n|"), f"{title}: rows of tables"
        # Chinese counts in ten thousands.
        numbers = Counter(NUMBER.findall(one.replace("0.8 million", "80")))
        assert numbers - Counter(NUMBER.findall(other)) == Counter(), title
