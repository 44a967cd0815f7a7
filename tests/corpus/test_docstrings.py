"""Which definitions and docstrings become the built-in corpus, and how they are written."""

import ast
from pathlib import Path

import pytest

from tuneline.corpus import docstrings
from tuneline.errors import SetupError

SOURCE = '''"""A module that has a docstring which is long enough to be read."""


class Shelf(Base):
    """Hold books in the order of their titles.

    It is sorted.
    """

    @property
    def size(
        self,
        *,
        unit: str = "cm",  # or inch
    ) -> int:
        r\'\'\'
        The width of the shelf, e.g. for a
        table. More follows.
        \'\'\'

    async def load(self): "Read all books from the disk."

    def close(self):
        # without a docstring
        return """no docstring"""

    if sys.platform == "win32":
        def lock(self):
            """lock(self) -> None"""
'''


def corpus(folder: Path, source: str = SOURCE) -> tuple[list[docstrings.Pair], list[docstrings.Text]]:
    path = folder / "shelf.py"
    path.write_text(source, "utf-8")
    return docstrings.corpus([docstrings.Module("library.shelf", path)])


def test_pairs_are_definitions_as_written_and_first_sentences(tmp_path: Path) -> None:
    pairs, _ = corpus(tmp_path)
    assert [(pair.prompt, pair.completion) for pair in pairs] == [
        ('class Shelf(Base):\n    """', "Hold books in the order of their titles."),
        (
            "def size(\n    self,\n    *,\n    unit: str = \"cm\",  # or inch\n) -> int:\n    r'''",
            "The width of the shelf, e.g. for a table.",
        ),
        ('async def load(self): "', "Read all books from the disk."),
    ]
    assert {pair.module for pair in pairs} == {"library.shelf"}


def test_texts_are_complete_docstrings(tmp_path: Path) -> None:
    _, texts = corpus(tmp_path)
    assert [text.text for text in texts] == [
        "A module that has a docstring which is long enough to be read.",
        "Hold books in the order of their titles.\n\nIt is sorted.",
        "The width of the shelf, e.g. for a\ntable. More follows.",
    ]


def test_prompts_continue_as_python(tmp_path: Path) -> None:
    pairs, _ = corpus(tmp_path)
    for pair in pairs:
        quotes = next(quotes for quotes in ('"""', "'''", '"') if pair.prompt.endswith(quotes))
        (node,) = ast.parse(f"{pair.prompt}{pair.completion}{quotes}").body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        assert ast.get_docstring(node) == pair.completion


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the area of a rectangle.", "Return the area of a rectangle."),
        ("Return the\n    area, always.  It is\n    fast.", "Return the area, always."),
        ("Return the area\n\nof a rectangle.", "Return the area"),
        (
            "Read it, i.e. all of J. Doe's Python 3.11 files. Then stop.",
            "Read it, i.e. all of J. Doe's Python 3.11 files.",
        ),
        ("Is it really so? Yes.", "Is it really so?"),
        ("Too short.", None),
        ("Twowordsonly here.", None),
        ("area(width, height) -> the area of it.", None),
        (">>> area(1, 2) gives the area", None),
        (":param width: how wide the thing is", None),
        (".. deprecated:: 1.0 use another one instead", None),
        ("Parameters are the following::", None),
        ("Options ------- width: how wide it is.", None),
        ("See the other function for more about it.", None),
        ("A " + "very " * 60 + "long sentence.", None),
        ("0 1 2 3 4 5 6 7 8 9 is a row of numbers", None),
        ("", None),
    ],
)
def test_first_sentence_of_a_docstring(docstring: str, sentence: str | None) -> None:
    assert docstrings.first_sentence(docstring) == sentence


def test_the_corpus_has_no_repetitions(tmp_path: Path) -> None:
    path = tmp_path / "shelf.py"
    path.write_text(SOURCE)
    once, twice = (docstrings.corpus([docstrings.Module(f"m{n}", path) for n in range(count)]) for count in (1, 2))
    assert once == twice


@pytest.mark.parametrize("source", ["def broken(:\n", "# coding: latin-1\n" + SOURCE, "x = 1\0"])
def test_files_that_cannot_be_parsed_reliably_are_left_out(tmp_path: Path, source: str) -> None:
    assert corpus(tmp_path, source) == ([], [])


def test_source_is_never_run(tmp_path: Path) -> None:
    pairs, _ = corpus(tmp_path, 'raise SystemExit\n\ndef area(a, b):\n    """Return the area of it."""\n')
    assert len(pairs) == 1


def test_the_modules_of_the_standard_library_are_found() -> None:
    modules = docstrings.standard_library()
    names = [module.name for module in modules]
    assert {"ast", "json", "json.decoder", "asyncio.events"} <= set(names)
    assert names == sorted(names)
    assert not [name for name in names if name.split(".")[0] in ("test", "idlelib", "site-packages")]


def test_the_modules_of_a_library_are_found() -> None:
    names = {module.name for module in docstrings.library("numpy")}
    assert {"numpy", "numpy.linalg"} <= names
    assert not [name for name in names if "tests" in name.split(".")]


def test_a_library_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(
        SetupError, match=r"sample.libraries: no-such-library is not installed.*remove it from the list"
    ):
        docstrings.library("no-such-library")
