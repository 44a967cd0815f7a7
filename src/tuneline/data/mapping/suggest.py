"""Which columns of a file without a known shape are likely the fields of its records: a guess from names and values."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from tuneline.data.mapping.recognise import View, is_numeral

_ROWS_OF_A_LABEL = 10
_FEW = 12
_ASKED = (
    "question",
    "pergunta",
    "pregunta",
    "frage",
    "domanda",
    "câu hỏi",
    "cau hoi",
    "вопрос",
    "سؤال",
    "问题",
    "問題",
)
_ASKED += ("質問", "질문", "prompt", "instruction", "query")
_ANSWERED = ("answer", "resposta", "respuesta", "antwort", "risposta", "réponse", "reponse", "trả lời", "tra loi")
_ANSWERED += ("ответ", "جواب", "إجابة", "答案", "回答", "답변", "response", "reply", "completion")
_QUESTION_MARKS = ("?", "？", "؟")
# A date is short, and has two numbers.
_LONGEST_DATE = 40
_DATE = re.compile(r"\d+\D+\d")
_IN_CHINESE = str.maketrans({"年": "-", "月": "-", "日": " "})
# A text for a model has several words, or as many characters where words are not written apart.
_WORDS, _CHARACTERS = 3, 12
_FEWEST_DIFFERENT = 0.3


class Suggestion(NamedTuple):
    """The columns of a file that are likely the fields of its records."""

    pair: tuple[str, ...]
    """Prompt and completion, if two columns look like them; else empty."""
    text: str | None
    """The column of a text to label."""
    labels: tuple[str, ...]
    """Columns that may be its label, the likeliest last."""
    asks: bool
    """Whether the pair looks like questions and answers, and not like two parts of a labelled text."""
    texts: tuple[str, ...]
    """The columns that are neither dates, numbers, identifiers nor addresses, the longest two in their order."""


def suggest(view: View) -> Suggestion:
    """The likely columns of a file.

    Args:
        view: its first rows.
    """
    labels = [column for column in _repeating(view) if not _is_no_label(view, column)]
    usable = [column for column in view.columns if not _is_no_text(view, column)] or list(view.columns)
    written = [column for column in usable if column not in labels and _is_written(view, column)]
    pair = view.longest(written, 2) if len(written) > 1 else []
    asks = bool(pair) and any(_asks(view, column) or _answers(column) for column in pair)
    if pair and _asks(view, pair[1]) and not _asks(view, pair[0]):
        pair.reverse()
    others = [column for column in usable if column not in labels]
    text = next(iter(view.longest(others, 1)), None)
    names = [column for column in labels if not view.mostly(column, is_numeral)]
    ordered = [column for column in labels if column not in names] + names
    return Suggestion(tuple(pair), text, tuple(ordered), asks, tuple(view.longest(usable, 2)))


def _repeating(view: View) -> list[str]:
    """The columns of which each value occurs in ten rows or more on average, as labels do."""
    found: list[str] = []
    for column in view.columns:
        values = _values(view, column)
        if 2 <= len(set(values)) <= len(values) / _ROWS_OF_A_LABEL:
            found.append(column)
    return found


def _values(view: View, column: str) -> list[str]:
    return [str(row[column]) for row in view.rows if row.get(column) not in (None, "")]


def _is_no_label(view: View, column: str) -> bool:
    """Whether a column of repeated values holds dates, addresses, identifiers, or numbers with many values."""
    many = len(set(_values(view, column))) > _FEW
    return (
        _is_address(view, column)
        or _holds_dates(view, column)
        or (many and (view.mostly(column, is_numeral) or _most(view, column, _is_identifier)))
    )


def _is_no_text(view: View, column: str) -> bool:
    return (
        view.mostly(column, is_numeral)
        or _is_address(view, column)
        or _most(view, column, _is_identifier)
        or _holds_dates(view, column)
    )


def _most(view: View, column: str, test: Callable[[str], bool]) -> bool:
    values = _values(view, column)
    return bool(values) and 2 * sum(map(test, values)) > len(values)


def _is_address(view: View, column: str) -> bool:
    """Whether most values are addresses of the web, of mail or of files."""

    def is_one(value: str) -> bool:
        text = value.strip()
        if not text or any(map(str.isspace, text)):
            return False
        try:
            parts = urlsplit(text)
        except ValueError:
            return False
        is_mail = 0 < text.find("@") < text.rfind(".")
        return bool(parts.scheme and parts.netloc) or is_mail or text.startswith(("www.", "/", "./", "C:\\"))

    return _most(view, column, is_one)


def _is_identifier(value: str) -> bool:
    """Whether a value is a single word with a digit, as R-17, a UUID or a hash."""
    text = value.strip()
    return not any(map(str.isspace, text)) and any(map(str.isdigit, text)) and text.isascii()


def _holds_dates(view: View, column: str) -> bool:
    values = [value.strip().translate(_IN_CHINESE) for value in _values(view, column)]
    likely = [value for value in values if len(value) <= _LONGEST_DATE and _DATE.search(value)]
    if 2 * len(likely) <= len(values) or view.mostly(column, is_numeral):
        return False
    # Importing pandas takes half a second, and few files have no known shape.
    import pandas as pd

    parsed = pd.to_datetime(pd.Series(likely), format="mixed", errors="coerce", utc=True)
    return 2 * int(parsed.notna().sum()) > len(values)


def _is_written(view: View, column: str) -> bool:
    """Whether most values are texts of several words, and the rows differ in them."""
    values = _values(view, column)
    different = len(set(values)) >= max(_FEWEST_DIFFERENT * len(values), 2)
    return different and _most(view, column, _has_words)


def _has_words(value: str) -> bool:
    return len(value.split()) >= _WORDS or (not value.isascii() and len(value) >= _CHARACTERS)


def _asks(view: View, column: str) -> bool:
    """Whether a column holds questions, by its name or because most values end with a question mark."""
    return _is_named(column, _ASKED) or _most(view, column, lambda value: value.rstrip().endswith(_QUESTION_MARKS))


def _answers(column: str) -> bool:
    return _is_named(column, _ANSWERED)


def _is_named(column: str, names: Sequence[str]) -> bool:
    folded = re.sub(r"[_\W]+", " ", column.casefold())
    return any(name in folded for name in names)
