"""The built-in corpus: docstrings of the installed Python and of installed libraries, read by `ast`, never imported.

Two kinds of rows: whole docstrings, and pairs of a definition as it is written up to the opening quotes of its
docstring, and the docstring's first sentence.
"""

import ast
import inspect
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tuneline.errors import SetupError

# Neither tests, nor programs that are no library, nor copies of other projects, whose docstrings come twice.
_TESTS = ("test", "tests", "testing", "conftest", "setup")
_COPIES = ("_vendor", "_vendored", "vendor", "externals", "site-packages", "dist-packages")
_PROGRAMS = ("idlelib", "lib2to3", "turtledemo")
_SKIPPED = frozenset((*_TESTS, *_COPIES, *_PROGRAMS, "__pycache__"))
_TEXT_CHARACTERS = (40, 6000)
_PROMPT_CHARACTERS = 600
_SUMMARY_CHARACTERS = (12, 200)
_SUMMARY_WORDS = 3
_END_OF_SENTENCE = re.compile(r"[.!?](?=\s|$)")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|Fig|Eq|Sec|Ref|No|al|approx|resp)|\b[A-Z]|^\s*\d+)$")
# A call spelt out, markup, a prompt of the interpreter, a field: what is no sentence.
_NO_SENTENCE = re.compile(
    r"^\W*[\w.]+\s*\(|^\s*(?:\.\.|>>>|:\w|@\w)|[-=*~#]{3}|[{}]|::?$|->|^(?:see|deprecated|dummy|todo|alias)\b",
    re.IGNORECASE,
)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module(NamedTuple):
    """One source file."""

    name: str
    path: Path


class Pair(NamedTuple):
    """A definition and what its docstring says first."""

    prompt: str
    completion: str
    module: str


class Text(NamedTuple):
    """A whole docstring."""

    text: str
    module: str


Rows = tuple[list[Pair], list[Text]]


def standard_library() -> list[Module]:
    """The modules of the standard library of the running Python, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = (path.relative_to(root) for path in root.rglob("*.py"))
    return _modules(root, (PurePosixPath(path) for path in paths))


def library(name: str) -> list[Module]:
    """The modules of an installed distribution, in the order of their names.

    Args:
        name: the distribution, as the package index spells it.

    Returns:
        The source files that its list of files names.

    Raises:
        SetupError: it is not installed here, or its installation lists no source files.
    """
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise SetupError(
            f"sample.libraries: {name} is not installed in this environment; take it off the list in params.yaml, or "
            "add it to requirements.lock and install it"
        ) from None
    root = Path(str(distribution.locate_file("")))
    modules = _modules(root, (PurePosixPath(file) for file in distribution.files or []))
    if not modules:
        raise SetupError(f"sample.libraries: {name} lists no Python source files; take it off the list in params.yaml")
    return modules


def _modules(root: Path, paths: Iterable[PurePosixPath]) -> list[Module]:
    modules = []
    for path in paths:
        parts = path.with_suffix("").parts
        if path.suffix != ".py" or ".." in parts or path.is_absolute() or not _SKIPPED.isdisjoint(parts):
            continue
        if parts[-1].startswith("test_") or not (root / path).is_file():
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        modules.append(Module(name, root / path))
    return sorted(modules)


def corpus(modules: Iterable[Module], each: Callable[..., Iterable[Rows]] = map) -> Rows:
    """All pairs and texts of some modules, each content once, as it first occurs.

    Args:
        modules: the source files.
        each: maps a function over the modules and keeps their order, as `map` or that of a pool of processes.

    Returns:
        The pairs and the texts, in the order of the modules and of their lines.
    """
    # A dict keeps the order of first occurrence.
    pairs: dict[tuple[str, str], Pair] = {}
    texts: dict[str, Text] = {}
    for new_pairs, new_texts in each(rows_of, modules):
        for pair in new_pairs:
            pairs.setdefault((pair.prompt, pair.completion), pair)
        for text in new_texts:
            texts.setdefault(text.text, text)
    return list(pairs.values()), list(texts.values())


def rows_of(module: Module) -> Rows:
    """The pairs and the texts of one module, in the order of its lines."""
    pairs: list[Pair] = []
    texts: list[Text] = []
    for source, node in _definitions(module.path):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is None:
            continue
        text = inspect.cleandoc(docstring)
        if is_text(text):
            texts.append(Text(text, module.name))
        if isinstance(node, ast.Module):
            continue
        prompt, completion = definition(source, node), first_sentence(text)
        if prompt and completion:
            pairs.append(Pair(prompt, completion, module.name))
    return pairs, texts


def _definitions(path: Path) -> Iterator[tuple[Sequence[bytes], ast.Module | _Definition]]:
    """The module and every function and class in it, in the order of their lines, with the file's lines."""
    source = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in somebody else's regular expression
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # a template, or a fixture in an older Python
    if source.startswith(b"\xef\xbb\xbf") or b"coding" in source.split(b"\n", 2)[0]:
        return  # columns of the tree would not fit the bytes
    lines = source.splitlines(keepends=True)
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Module | _Definition):
            yield lines, node
        # Definitions stand in statements only, which need not be looked for in expressions.
        blocks = (getattr(node, field, ()) for field in ("body", "orelse", "handlers", "finalbody", "cases"))
        stack.extend(reversed([child for block in blocks for child in block]))


def definition(lines: Sequence[bytes], node: _Definition) -> str | None:
    """A definition as it is written, without the indentation that all of it has, up to the opening quotes.

    Args:
        lines: the file's lines.
        node: a definition with a docstring.

    Returns:
        The text, or None where it is too long, has quotes of an unusual kind or shares its line with other code.
    """
    literal = node.body[0]
    indentation = lines[node.lineno - 1][: node.col_offset]
    if indentation.strip():
        return None
    head = list(lines[node.lineno - 1 : literal.lineno - 1])
    opening = re.match(rb"[rRuU]?(\"\"\"|'''|\"|')", lines[literal.lineno - 1][literal.col_offset :])
    if opening is None:
        return None
    head.append(lines[literal.lineno - 1][: literal.col_offset + opening.end()])
    text = b"".join(line.removeprefix(indentation) for line in head).decode("utf-8", "replace")
    text = "\n".join(text.splitlines())
    return text if len(text) <= _PROMPT_CHARACTERS and "\ufffd" not in text else None


def first_sentence(text: str) -> str | None:
    """The first sentence of a docstring, on one line.

    Args:
        text: the docstring, its indentation removed.

    Returns:
        The sentence, or None where the docstring starts with something else or it has an odd length.
    """
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    end = next((match for match in _END_OF_SENTENCE.finditer(paragraph) if _ends(paragraph, match.start())), None)
    sentence = paragraph[: end.end()] if end else paragraph
    shortest, longest = _SUMMARY_CHARACTERS
    if not shortest <= len(sentence) <= longest or len(sentence.split()) < _SUMMARY_WORDS:
        return None
    if _NO_SENTENCE.search(sentence) or sum(map(str.isalpha, sentence)) < 0.6 * len(sentence):
        return None
    return sentence


def _ends(paragraph: str, position: int) -> bool:
    """Whether the stop at `position` ends a sentence: not so in "e.g. this" or "J. Doe"."""
    if paragraph[position] == "." and _ABBREVIATION.search(paragraph[max(0, position - 12) : position]):
        return False
    rest = paragraph[position + 1 :].lstrip()
    return not rest or not rest[0].islower()


def is_text(text: str) -> bool:
    """Whether a docstring is worth learning from: of a sensible length, and mostly words."""
    shortest, longest = _TEXT_CHARACTERS
    return shortest <= len(text) <= longest and sum(map(str.isalpha, text)) >= 0.4 * len(text)
