"""A user's table of synonyms, and texts in which words of the table are replaced."""

import csv
import random
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from tuneline.augmentation import segmentation
from tuneline.core import bounded_yaml
from tuneline.errors import DataError, one_line

Table = Mapping[str, tuple[str, ...]]
"""A word in lower case -> its synonyms."""

_LARGEST = 64 << 20
_NAMED = 20
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_YAML = (".yaml", ".yml")


def read(path: Path) -> Table:
    """Read and check a table.

    Args:
        path: a CSV or TSV file with a word and its synonyms in each line, or a YAML file of `word: [synonym, ...]`.

    Raises:
        DataError: all problems, each with file and line.
    """
    ends = (*_DELIMITERS, *_YAML)
    if path.suffix.lower() not in ends:
        raise DataError(f"{path}: must end with {', '.join(ends[:-1])} or {ends[-1]}, which says how it is read")
    try:
        # A folder, and a pipe or a device, which has no end.
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is not a file; put the table there, or correct the path")
        if (size := path.stat().st_size) > _LARGEST:
            raise DataError(f"{path}: has {size:,} bytes, and at most {_LARGEST:,} are read; make it shorter")
        lines = list(_of_yaml(path) if path.suffix.lower() in _YAML else _of_lines(path))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file; put the table there, or correct the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from None
    except (YAMLError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None
    table: dict[str, tuple[str, ...]] = {}
    first: dict[str, int] = {}
    problems: list[str] = []
    for line, word, synonyms in lines:
        key = word.casefold()
        if problem := _problem(word, synonyms):
            problems.append(f"{path}:{line}: {problem}")
        elif key in table:
            problems.append(f"{path}:{line}: {word!r} is in line {first[key]} already; put its synonyms into one line")
        else:
            table[key], first[key] = tuple(dict.fromkeys(synonyms)), line
    if not lines:
        problems.append(f"{path}: holds no word; write lines such as `good,fine,nice`")
    if problems:
        more = [f"{path}: and {len(problems) - _NAMED:,} more problems"] if len(problems) > _NAMED else []
        raise DataError(*problems[:_NAMED], *more)
    return table


def _of_lines(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=_DELIMITERS[path.suffix.lower()], strict=True)
        for row in reader:
            cells = [_cell(cell) for cell in row]
            if any(cells):
                yield reader.line_num, cells[0], [cell for cell in cells[1:] if cell]


def _of_yaml(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    document: Any = bounded_yaml.load(path.read_text("utf-8"), "rt")
    if not isinstance(document, CommentedMap):
        raise DataError(f"{path}: must be a mapping of words, such as `good: [fine, nice]`")
    if document.merge:
        raise DataError(f"{path}:{document.lc.line + 1}: has the key <<; write the words themselves")
    for word, given in document.items():
        line = document.lc.key(word)[0] + 1
        synonyms = given if isinstance(given, list) else [] if given is None else [given]
        if any(isinstance(one, list | dict) for one in synonyms):
            raise DataError(f"{path}:{line}: the synonyms of {word!r} must be texts, such as [fine, nice]")
        yield line, _cell(str(word)), [_cell(str(one)) for one in synonyms if one is not None]


def _cell(text: str) -> str:
    # In the form that `prepare` gives the rows.
    return unicodedata.normalize("NFC", text).strip()


def _problem(word: str, synonyms: list[str]) -> str | None:
    """What is wrong with a line; None where nothing is."""
    if not word:
        return "the word is missing before its synonyms"
    if not synonyms:
        return f"{word!r} has no synonym; write one after it, or remove the line"
    if wrong := next((one for one in (word, *synonyms) if not one.isprintable()), None):
        return f"{wrong!r} has a control character or a line break; remove it"
    if any(one.casefold() == word.casefold() for one in synonyms):
        return f"{word!r} is a synonym of itself; remove it there"
    if not segmentation.is_one_word(word):
        return f"{word!r} is not one word, and only single words are looked up; remove the line"
    return None


class Replacer:
    """Replaces words of a table by synonyms.

    Args:
        table: from `read`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._cut = segmentation.chinese_cutter(table)

    def __call__(self, text: str, p: float, seed: int) -> str:
        """The text with each word of the table replaced with probability `p`; a capital at its beginning stays."""
        draw = random.Random(seed)
        return "".join(
            self._replaced(piece.text, p, draw) if piece.is_word else piece.text
            for piece in segmentation.pieces(text, self._cut)
        )

    def _replaced(self, word: str, p: float, draw: random.Random) -> str:
        synonyms = self._table.get(word.casefold())
        # Drawn for other words too, so that a longer table changes the old words as before.
        is_replaced = draw.random() < p
        choice = draw.random()
        if not synonyms or not is_replaced:
            return word
        synonym = synonyms[int(choice * len(synonyms))]
        return synonym[:1].upper() + synonym[1:] if word[:1].isupper() else synonym
