"""Whether answers are as a check expects. Neither a pattern nor a schema can take longer than a limit."""

import difflib
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jsonschema
import orjson
import referencing
import regex
from referencing.exceptions import Unresolvable

from tuneline import terminal
from tuneline.behaviour.check_file import MEMORY, SECONDS, LabelCheck, NumberCheck, WritingCheck
from tuneline.behaviour.check_results import Expectation
from tuneline.core import limits
from tuneline.errors import one_line

if TYPE_CHECKING:
    from tuneline.evaluation.generation import Answer

_SHOWN = 120
_TOO_MUCH = f"more than {SECONDS} s or {MEMORY // 2**20} MB"


def judge_text(check: WritingCheck, answers: "Sequence[Answer]", refusals: Sequence[str]) -> list[Expectation]:
    """Whether the answers to a check, the first wording first, are as it expects.

    An answer of white space alone is as expected only if the check's regex matches it: nothing else is shown by it.

    Args:
        check: the check.
        answers: to each of its wordings.
        refusals: phrases of which a refusal holds one.
    """
    answer = answers[0]
    text, found = answer.text, []
    if not text.strip() and check.regex is None:
        found.append(Expectation("answers", "the answer is empty"))
    found += [_contains(wanted, text) for wanted in check.contains or ()]
    found += [_contains_not(unwanted, text) for unwanted in check.not_contains or ()]
    if check.regex is not None:
        found.append(_matches(check.regex, text))
    if check.json_schema is not None:
        found.append(Expectation("is JSON that fits the schema", _schema_problem(check.json_schema, text)))
    if check.max_tokens is not None:
        found.append(_ends(check.max_tokens, answer))
    if check.refuses is not None:
        found.append(_refuses(text, refusals, wanted=check.refuses))
    for wording, other in zip(check.same_as or (), answers[1:], strict=True):
        is_same = _compared(other.text) == _compared(text)
        found.append(_same(wording, is_same, _quoted(other.text)))
    return found


def judge_labels(check: LabelCheck, answers: Sequence[Sequence[str]], names: Sequence[str]) -> list[Expectation]:
    """As `judge_text`, for the labels that a classifier gives to each wording.

    Args:
        check: the check.
        answers: the labels of each wording.
        names: all labels that the model knows.
    """
    given, found = answers[0], []
    for key, wanted in (("label", check.label), ("one_of", check.one_of)):
        if wanted is None:
            continue
        words = f"is {' and '.join(wanted)}" if key == "label" else f"is one of {', '.join(wanted)}"
        if unknown := [name for name in wanted if name not in names]:
            close = difflib.get_close_matches(unknown[0], names, n=1)
            hint = f"; did you mean {_quoted(close[0])}?" if close else ""
            found.append(Expectation(words, f"the model has no label {_quoted(unknown[0])}{hint}"))
            continue
        is_met = set(given) == set(wanted) if key == "label" else bool(given) and set(given) <= set(wanted)
        found.append(_met(words, is_met, f"is {_listed(given)}"))
    for wording, other in zip(check.same_as or (), answers[1:], strict=True):
        found.append(_same(wording, set(other) == set(given), _listed(other)))
    return found


def judge_numbers(check: NumberCheck, answers: Sequence[float]) -> list[Expectation]:
    """As `judge_text`, for the numbers that a regression gives to each wording."""
    number, found = answers[0], []
    if not math.isfinite(number):
        found.append(Expectation("answers", "the answer is not a finite number"))
    if check.between is not None:
        low, high = check.between
        found.append(_met(f"is between {low:g} and {high:g}", low <= number <= high, f"is {number:.6g}"))
    for wording, other in zip(check.same_as or (), answers[1:], strict=True):
        is_same = abs(other - number) <= (check.tolerance or 0.0)
        found.append(_same(wording, is_same, f"{other:.6g}"))
    return found


def _met(words: str, is_met: bool, otherwise: str) -> Expectation:
    return Expectation(words, None if is_met else f"the answer {otherwise}")


def _contains(wanted: str, text: str) -> Expectation:
    return _met(f"contains {_quoted(wanted)}", wanted in text, f"does not contain {_quoted(wanted)}")


def _contains_not(unwanted: str, text: str) -> Expectation:
    return _met(f"does not contain {_quoted(unwanted)}", unwanted not in text, f"contains {_quoted(unwanted)}")


def _same(wording: str, is_same: bool, other: str) -> Expectation:
    return Expectation(
        f"is the same for {_quoted(wording)}", None if is_same else f"the answer to {_quoted(wording)} is {other}"
    )


def _matches(pattern: str, text: str) -> Expectation:
    words = f"matches {_quoted(pattern)}"
    try:
        # The library's time limit does not bound memory, which a recursive pattern needs.
        limits.try_in_child(SECONDS, MEMORY, lambda: regex.search(pattern, text))
        return _met(
            words, regex.search(pattern, text, timeout=SECONDS) is not None, f"does not match {_quoted(pattern)}"
        )
    except (TimeoutError, MemoryError, ChildProcessError):
        return Expectation(words, f"the pattern takes {_TOO_MUCH} for this answer; write a simpler pattern")


def _schema_problem(schema: dict[str, object], text: str) -> str | None:
    """Why the text is not JSON that fits the schema; None if it is."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "the answer is not JSON"
    # An empty registry: the library would fetch a schema that is named by an address.
    validator = jsonschema.Draft202012Validator(schema, registry=referencing.Registry())

    def problem() -> str | None:
        error = next(validator.iter_errors(value), None)
        if error is None:
            return None
        place = ".".join(map(str, error.absolute_path))
        return (
            f"the answer does not fit the schema{f' at {place}' if place else ''}: {terminal.shortened(error.message)}"
        )

    return _within_limits(problem)


def _within_limits(problem: Callable[[], str | None]) -> str | None:
    try:
        # The library's patterns have no limit of their own.
        limits.try_in_child(SECONDS, MEMORY, problem)
        return problem()
    except (TimeoutError, MemoryError, ChildProcessError):
        return f"the schema takes {_TOO_MUCH} for this answer; write a simpler schema"
    except RecursionError:
        return "the schema or the answer nests too deep"
    except Unresolvable as error:
        return f"the schema's $ref {error.ref!r} names nothing in the schema"
    except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        # What the library raises where a $ref names a part that is no schema.
        return f"the schema cannot be used; does each $ref name a schema? ({type(error).__name__}: {one_line(error)})"


def _ends(most: int, answer: "Answer") -> Expectation:
    words = f"ends after at most {most} token{'s' if most > 1 else ''}"
    if answer.has_ended:
        return _met(words, answer.tokens <= most, f"has {answer.tokens} tokens")
    return Expectation(words, f"the answer has not ended after {answer.tokens} tokens")


def _refuses(text: str, refusals: Sequence[str], *, wanted: bool) -> Expectation:
    compared = _compared(text)
    phrase = next((one for one in refusals if _compared(one) in compared), None)
    if wanted:
        return _met("refuses", phrase is not None, "holds none of the phrases in `refusals`")
    return _met("does not refuse", phrase is None, f"holds {_quoted(phrase or '')}")


def _compared(text: str) -> str:
    """The text without differences in case, in white space and in the form of its characters and apostrophes."""
    return " ".join(unicodedata.normalize("NFKC", text).replace("’", "'").casefold().split())


def _listed(labels: Sequence[str]) -> str:
    return " and ".join(map(_quoted, labels)) or "no label"


def _quoted(text: str) -> str:
    return f"“{terminal.shortened(text.replace(chr(10), '↵'), _SHOWN)}”"
