"""docs/principles: the code of the pages runs, prints what the pages say, and is the same in both languages.

The cells of the notebook are executed with `exec` and not with nbclient: they are plain Python without a kernel's
magic, and Jupyter is not among the pinned packages.
"""

import ast
import builtins
import json
import math
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT
from transformers import GPT2Config, GPT2LMHeadModel

from tuneline.modeling import models

SCRIPT = runpy.run_path(str(ROOT / "scripts/principles.py"), run_name="principles")
PAGES, FOLDER, blocks = SCRIPT["PAGES"], SCRIPT["FOLDER"], SCRIPT["blocks"]
ENGLISH = {page: SCRIPT["english"](page).read_text("utf-8") for page in PAGES}
CHINESE = {page: SCRIPT["chinese"](page).read_text("utf-8") for page in PAGES}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
FORMULA = re.compile(r"^\$\$\n(.*?)^\$\$$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^```\w*\n.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")
INLINE = re.compile(r"\$([^$\n]+)\$")
TOLERANCE = 2e-3
each_page = pytest.mark.parametrize("page", PAGES)
each_text = pytest.mark.parametrize(
    "text", [*ENGLISH.values(), *CHINESE.values()], ids=[*PAGES, *map("zh-{}".format, PAGES)]
)


def cells() -> list[dict[str, Any]]:
    """The code of the notebook."""
    notebook = json.loads(SCRIPT["NOTEBOOK"].read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def is_close(printed: str, expected: str) -> bool:
    """Whether two numbers are equal but for the last digits that processors compute differently."""
    if printed == expected:
        return True
    # Counts.
    if printed.isdigit() and expected.isdigit() and float(expected) < 1000:
        return False
    return math.isclose(float(printed), float(expected), rel_tol=TOLERANCE, abs_tol=TOLERANCE * 1e-3)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_notebook_prints_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block also stops if its result is not that of the library. After a change: python scripts/principles.py."""
    monkeypatch.chdir(FOLDER)
    names: dict[str, Any] = {"__name__": "principles"}
    wrong = []
    for cell in cells():
        code = "".join(cell["source"])
        stored = "".join(line for output in cell["outputs"] for line in output["text"])
        printed = SCRIPT["run"](code, names)
        numbers, others = NUMBER.findall(stored), NUMBER.findall(printed)
        same_words = NUMBER.sub("#", stored) == NUMBER.sub("#", printed)
        if not same_words or not all(map(is_close, others, numbers)):
            wrong.append((code, stored, printed))
    assert wrong == []


def test_a_changed_number_is_noticed() -> None:
    assert is_close("0.9493", "0.9492")
    assert not is_close("0.9493", "0.9393")
    assert not is_close("19", "20")


def test_the_notebook_is_the_english_pages() -> None:
    assert SCRIPT["NOTEBOOK"].read_text("utf-8") == SCRIPT["notebook"](ENGLISH)


@each_page
def test_both_languages_have_the_same_code_outputs_formulas_and_links(page: str) -> None:
    english, chinese = ENGLISH[page], CHINESE[page]
    assert blocks(chinese) == blocks(english)
    assert SCRIPT["replaced"](english, blocks(english)) == english
    # Words within formulas are translated.
    formulas, others = (re.sub(r"\\text{[^}]*}", "", "".join(FORMULA.findall(text))) for text in (english, chinese))
    assert others == formulas
    assert len(re.findall("^#+ ", chinese, re.MULTILINE)) == len(re.findall("^#+ ", english, re.MULTILINE))
    external, others = (Counter(link for link in LINK.findall(text) if "://" in link) for text in (english, chinese))
    assert others == external
    # Without the links between the languages.
    internal, others = (sum("://" not in link for link in LINK.findall(text)) for text in (english, chinese))
    assert others == internal


@each_page
def test_a_page_needs_only_its_own_names_and_those_of_the_first_page(page: str) -> None:
    """So that its blocks give the same alone and in the notebook."""
    known = set(dir(builtins))
    for code, _ in blocks(ENGLISH[PAGES[0]]) + blocks(ENGLISH[page]):
        nodes = list(ast.walk(ast.parse(code)))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        known |= {node.id for node in names if not isinstance(node.ctx, ast.Load)}
        known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        known |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
        known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        assert {node.id for node in names} <= known


@each_page
def test_every_section_with_a_formula_computes_it_and_compares_it(page: str) -> None:
    for section in re.split("^## ", ENGLISH[page], flags=re.MULTILINE):
        if FORMULA.search(section):
            compared = [re.search(r"\b(same|compare|assert)\b", code) for code, _ in blocks(section)]
            assert any(compared), section.splitlines()[0]


@each_text
def test_every_number_of_the_text_is_printed_or_part_of_the_code(text: str) -> None:
    """But small whole numbers, years, and numbers in titles of sections of a paper."""
    code = set(NUMBER.findall(" ".join(CODE.findall(text))))
    prose = FORMULA.sub("", CODE.sub("", text))
    prose = re.sub(r"`[^`]*`|https?://[^\s)]+|\$[^$]*\$|GPT-2|UTF-8|sections?[ 0-9.and]+|第[ 0-9.和、]+节", "", prose)
    numbers = re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", prose)
    assert {number for number in numbers if not re.fullmatch(r"-?\d|20\d\d", number)} - code == set()


@each_text
def test_github_shows_its_formulas(text: str) -> None:
    """GitHub reads Markdown before math: it takes backslashes and pairs of _, and shows $ within words as such."""
    prose = re.sub(r"`[^`\n]*`", "", CODE.sub("", text))
    formulas = FORMULA.findall(prose)
    assert prose.count("$$") == 2 * len(formulas)
    between = FORMULA.sub("", prose)
    assert between.count("$") == 2 * len(INLINE.findall(between))
    for formula in [*formulas, *INLINE.findall(between)]:
        assert not re.search(r"\\[^a-zA-Z]|operatorname|[^a-zA-Z0-9]_|<|\*", formula), formula
    for found in INLINE.finditer(between):
        before, after = between[found.start() - 1], between[found.end()]
        assert before in " \n(" and after in " \n).,:;", found[0]


@each_text
def test_its_links_lead_to_files_and_titles_that_exist(text: str) -> None:
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = FOLDER / path
        assert target.exists(), link
        titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link


def test_the_contents_name_every_page() -> None:
    for texts, ending in ((ENGLISH, ""), (CHINESE, ".zh-CN")):
        for page in PAGES[1:]:
            assert f"]({page}{ending}.md)" in texts[PAGES[0]]


def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts/principles.py", *arguments], capture_output=True, text=True, check=False
    )


def test_the_script_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    for arguments, reason in (
        (("--model", tmp_path), "not the folder of a model: it has no config.json"),
        (("--model", tmp_path, "lost"), "lost: no such page; choose from attention, "),
        (("loss",), "PAGE goes with --model"),
    ):
        refused = script(*arguments)
        assert refused.returncode == 2
        assert reason in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_the_pages_run_with_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the model of the pages, saved and loaded; then one that the code does not fit."""
    monkeypatch.chdir(FOLDER)
    names: dict[str, Any] = {"__name__": "principles"}
    for code, _ in blocks(ENGLISH[PAGES[0]]):
        SCRIPT["run"](code, names)
    models.save(names["model"], names["tokenizer"], tmp_path / "model")
    shown = script("--model", tmp_path / "model")
    assert shown.returncode == 0, shown.stderr
    outputs = [output for page in PAGES[1:] for _, output in blocks(ENGLISH[page])]
    printed, position = NUMBER.sub("#", shown.stdout), 0
    for output in outputs:
        position = printed.find(NUMBER.sub("#", output), position)
        assert position >= 0, output
    other = GPT2Config(vocab_size=len(names["tokenizer"]), n_embd=32, n_layer=1, n_head=2, n_positions=128)
    models.save(GPT2LMHeadModel(other), names["tokenizer"], tmp_path / "other")
    refused = script("--model", tmp_path / "other", "attention")
    assert refused.returncode == 1
    assert "Queries, keys and values: the code does not fit" in refused.stderr
    assert "Traceback" not in refused.stderr
