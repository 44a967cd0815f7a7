"""Run the code of docs/principles, and write what it prints into the pages and the notebook.

The English pages are the source: their text, their formulas and their code are written by hand. This script writes the
outputs below the code, the code and outputs of the Chinese pages, and the notebook.

python scripts/principles.py
python scripts/principles.py --model models/finetuned generation
"""

import argparse
import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "principles"
NOTEBOOK = FOLDER / "principles.ipynb"
MODEL_PAGE = "README"
"""Its code makes the model that the code of all other pages uses."""
PAGES = (
    MODEL_PAGE,
    "attention",
    "loss",
    "optimizers",
    "regularisation",
    "finetuning",
    "evaluation",
    "generation",
    "imprecise",
)
_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def english(page: str) -> Path:
    """The file of a page."""
    return FOLDER / f"{page}.md"


def chinese(page: str) -> Path:
    """The file of the Chinese page."""
    return FOLDER / f"{page}.zh-CN.md"


def blocks(text: str) -> list[tuple[str, str]]:
    """The code of a page in its order, each block with the output below it."""
    return [(code, output or "") for code, output in _BLOCK.findall(text)]


def run(code: str, names: dict[str, Any]) -> str:
    """Execute a block of code.

    Args:
        code: the block.
        names: the variables of the blocks before it; the block adds its own.

    Returns:
        What it prints.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/principles", "exec"), names)
    return printed.getvalue()


def replaced(text: str, new: list[tuple[str, str]]) -> str:
    """The text of a page with other code and outputs.

    Raises:
        ValueError: the page has another number of blocks.
    """
    if len(blocks(text)) != len(new):
        raise ValueError(f"the page has {len(blocks(text))} blocks of code and not {len(new)}")
    following = iter(new)

    def block(_: re.Match[str]) -> str:
        code, output = next(following)
        return f"```python\n{code}```\n" + (f"\n```text\n{output}```\n" if output else "")

    return _BLOCK.sub(block, text)


def notebook(texts: dict[str, str]) -> str:
    """The notebook of some English pages, as the text of its file.

    Args:
        texts: by page, with outputs.
    """
    cells: list[dict[str, Any]] = []
    number = 0
    for page, text in texts.items():
        for place, part in enumerate(_parts(text)):
            cell: dict[str, Any] = {"id": f"{page}-{place}", "metadata": {}}
            if isinstance(part, str):
                cell |= {"cell_type": "markdown", "source": _lines(part)}
            else:
                number += 1
                code, output = part
                outputs = [{"name": "stdout", "output_type": "stream", "text": _lines(output, "\n")}] if output else []
                cell |= {"cell_type": "code", "execution_count": number, "outputs": outputs, "source": _lines(code)}
            cells.append(dict(sorted(cell.items())))
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    document = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _parts(text: str) -> Iterator[str | tuple[str, str]]:
    """The text between blocks of code, and the blocks."""
    end = 0
    for found in _BLOCK.finditer(text):
        if between := text[end : found.start()].strip():
            yield between
        yield found[1], found[2] or ""
        end = found.end()
    if rest := text[end:].strip():
        yield rest


def _lines(text: str, end: str = "") -> list[str]:
    return (text.rstrip("\n") + end).splitlines(keepends=True)


def write() -> None:
    """Run all blocks in one namespace, as the notebook does, and write pages and notebook."""
    names: dict[str, Any] = {"__name__": "principles"}
    texts = {}
    for page in PAGES:
        text = english(page).read_text("utf-8")
        made = [(code, run(code, names)) for code, _ in blocks(text)]
        texts[page] = replaced(text, made)
        english(page).write_text(texts[page], "utf-8")
        translated = chinese(page).read_text("utf-8")
        chinese(page).write_text(replaced(translated, made), "utf-8")
    NOTEBOOK.write_text(notebook(texts), "utf-8")


def show(pages: list[str], model: Path) -> None:
    """Print what the code of some pages prints with another model.

    Args:
        pages: names of pages.
        model: the folder of a causal model in the format of transformers.

    Raises:
        SystemExit: the code does not fit the model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names: dict[str, Any] = {"__name__": "principles"}
    for code, _ in blocks(english(MODEL_PAGE).read_text("utf-8")):
        run(code, names)
    names["model"] = AutoModelForCausalLM.from_pretrained(model, local_files_only=True).float().eval()
    names["tokenizer"] = AutoTokenizer.from_pretrained(model, local_files_only=True)
    names["base"] = replace(names["base"], model=names["model"], tokenizer=names["tokenizer"])
    title = ""
    for page in pages:
        for part in _parts(english(page).read_text("utf-8")):
            if isinstance(part, str):
                for title in re.findall(r"^## (.+)$", part, re.MULTILINE):
                    print(f"\n{page}: {title}")
                continue
            try:
                print(run(part[0], names), end="", flush=True)
            except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                what = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
                raise SystemExit(f"{english(page)}: {title}: the code does not fit {model}: {what}") from None


def main() -> None:
    """Write the pages, or show what they print with another model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="run the code with the model in this folder and print its outputs")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"of {', '.join(PAGES[1:])}; by default all of them")
    given = parser.parse_args()
    wrong = [page for page in given.pages if page not in PAGES[1:]]
    if wrong:
        parser.error(f"{', '.join(wrong)}: no such page; choose from {', '.join(PAGES[1:])}")
    if given.pages and not given.model:
        parser.error("PAGE goes with --model; without --model all pages are written")
    model = given.model and given.model.resolve()
    if model and not (model / "config.json").is_file():
        parser.error(f"{given.model}: not the folder of a model: it has no config.json")
    os.chdir(FOLDER)
    if model:
        show(given.pages or list(PAGES[1:]), model)
    else:
        write()


if __name__ == "__main__":
    main()
