"""The built-in corpus: docstrings of the installed Python and of installed libraries, parsed by `ast`, never imported.

It has two sets of rows: complete docstrings; and pairs of a definition, up to the opening quotes of its docstring, and
the docstring's first sentence.
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

# Tests, programs that are not libraries, and copies of other projects, whose docstrings would come twice.
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
# Not a sentence: a call, markup, a prompt of the interpreter, a field.
_NOT_A_SENTENCE = re.compile(
    r"^\W*[\w.]+\s*\(|^\s*(?:\.\.|>>>|:\w|@\w)|[-=*~#]{3}|[{}]|::?$|->|^(?:see|deprecated|dummy|todo|alias)\b",
    re.IGNORECASE,
)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module(NamedTuple):
    """A source file."""

    name: str
    path: Path


class Pair(NamedTuple):
    """A definition and the first sentence of its docstring."""

    prompt: str
    completion: str
    module: str


class Text(NamedTuple):
    """A complete docstring."""

    text: str
    module: str


Rows = tuple[list[Pair], list[Text]]


def standard_library() -> list[Module]:
    """Return the modules of the running Python's standard library, sorted by name."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = (path.relative_to(root) for path in root.rglob("*.py"))
    return _modules(root, (PurePosixPath(path) for path in paths))


def library(name: str) -> list[Module]:
    """Return the modules of an installed distribution, sorted by name.

    Args:
        name: of the distribution, as the package index spells it.

    Raises:
        SetupError: the distribution is not installed, or its list of files names no source files.
    """
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise SetupError(
            f"sample.libraries: {name} is not installed in this environment; remove it from the list in params.yaml, "
            "or add it to requirements.lock and install it"
        ) from None
    root = Path(str(distribution.locate_file("")))
    modules = _modules(root, (PurePosixPath(file) for file in distribution.files or []))
    if not modules:
        raise SetupError(
            f"sample.libraries: {name} lists no Python source files; remove it from the list in params.yaml"
        )
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
    """Return all pairs and texts of some modules without repetitions, in the order of the modules and their lines.

    Args:
        modules: the source files.
        each: maps a function over the modules and keeps their order, like `map` or the `map` of a process pool.
    """
    pairs: dict[tuple[str, str], Pair] = {}
    texts: dict[str, Text] = {}
    for new_pairs, new_texts in each(rows_of, modules):
        for pair in new_pairs:
            pairs.setdefault((pair.prompt, pair.completion), pair)
        for text in new_texts:
            texts.setdefault(text.text, text)
    return list(pairs.values()), list(texts.values())


def rows_of(module: Module) -> Rows:
    """Return the pairs and the texts of one module, in the order of its lines."""
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
    """Yield the module and every function and class in it, in the order of their lines, with the file's lines."""
    source = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in a library's regular expression
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # a template, or a fixture in an older Python
    if source.startswith(b"\xef\xbb\xbf") or b"coding" in source.split(b"\n", 2)[0]:
        return  # the columns of the tree would not match the bytes
    lines = source.splitlines(keepends=True)
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Module | _Definition):
            yield lines, node
        # Only statements contain definitions, so expressions are not searched.
        blocks = (getattr(node, field, ()) for field in ("body", "orelse", "handlers", "finalbody", "cases"))
        stack.extend(reversed([child for block in blocks for child in block]))


def definition(lines: Sequence[bytes], node: _Definition) -> str | None:
    """Return the source of a definition up to the opening quotes of its docstring, without common indentation.

    Args:
        lines: the file's lines.
        node: a definition with a docstring.

    Returns:
        The text; None if it is too long, has an unusual kind of quotes or shares its line with other code.
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
    """Return the first sentence of a docstring, on one line.

    Args:
        text: the docstring without indentation.

    Returns:
        The sentence; None if the docstring begins with something else or the sentence is too short or too long.
    """
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    end = next((match for match in _END_OF_SENTENCE.finditer(paragraph) if _ends(paragraph, match.start())), None)
    sentence = paragraph[: end.end()] if end else paragraph
    shortest, longest = _SUMMARY_CHARACTERS
    if not shortest <= len(sentence) <= longest or len(sentence.split()) < _SUMMARY_WORDS:
        return None
    if _NOT_A_SENTENCE.search(sentence) or sum(map(str.isalpha, sentence)) < 0.6 * len(sentence):
        return None
    return sentence


def _ends(paragraph: str, position: int) -> bool:
    """Return whether the full stop at `position` ends a sentence. It does not in "e.g. this" and "J. Doe"."""
    if paragraph[position] == "." and _ABBREVIATION.search(paragraph[max(0, position - 12) : position]):
        return False
    rest = paragraph[position + 1 :].lstrip()
    return not rest or not rest[0].islower()


def is_text(text: str) -> bool:
    """Return whether a docstring is useful for training: of a sensible length, and mostly words."""
    shortest, longest = _TEXT_CHARACTERS
    return shortest <= len(text) <= longest and sum(map(str.isalpha, text)) >= 0.4 * len(text)
