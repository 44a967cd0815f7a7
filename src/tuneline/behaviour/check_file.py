"""data/checks.yaml: what a model is asked, and what its answer must be. One list of checks for each task."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import regex
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from tuneline.core import limits
from tuneline.errors import DataError
from tuneline.params import Task, yaml_file
from tuneline.params.section import Positive, Section

Severity = Literal["error", "warning"]

SECONDS = 5
"""The most that a pattern or a schema may take, to be read and for one answer."""
MEMORY = 2**29
_LONGEST_PATTERN = 2_000
_REMEDY = "restore it with: git restore {path}; or make an empty file, which checks nothing"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _is_plain(value: str) -> str:
    # Markdown and HTML show it, in the description of a version for example.
    if not value.isprintable() or set(value) & set("<>[]()|`*_#\\"):
        raise ValueError("must be plain text, without < > [ ] ( ) | ` * _ # and \\")
    return value


def _is_phrase(value: str) -> str:
    if not value.strip():
        raise ValueError("is white space, which nearly every answer holds; write a phrase, or remove it")
    return value


def _is_pattern(value: str) -> str:
    if not value:
        raise ValueError("is empty, and an empty pattern is found in every answer; write a pattern, or remove regex")
    if len(value) > _LONGEST_PATTERN:
        raise ValueError(f"has more than {_LONGEST_PATTERN:,} characters")
    try:
        if "{" in value:
            # The library writes out what is repeated: a few characters can stand for billions.
            limits.try_in_child(SECONDS, MEMORY, lambda: regex.compile(value))
        regex.compile(value)
    except regex.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    except RecursionError:
        raise ValueError("nests too deep; write a simpler pattern") from None
    except (TimeoutError, MemoryError, ChildProcessError):
        raise ValueError(
            f"takes more than {SECONDS} s or {MEMORY // 2**20} MB to be read; repeat less, or write a simpler pattern"
        ) from None
    return value


def _is_schema(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        # YAML also has dates, bytes and NaN.
        raise ValueError(f"is not a JSON schema: it holds a value that JSON does not have: {error}") from None
    try:
        jsonschema.Draft202012Validator.check_schema(value)
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"is not a JSON schema: a pattern cannot be read: {error}") from None
    except jsonschema.SchemaError as error:
        place = ".".join(map(str, error.absolute_path))
        raise ValueError(f"is not a JSON schema: {f'{place}: ' if place else ''}{error.message}") from None
    if outside := next((one for one in _references(value) if not one.startswith("#")), None):
        raise ValueError(f"$ref {outside!r} is outside the schema, and nothing is loaded; write it under $defs")
    return value


def _references(value: Any) -> list[str]:
    """The targets of all `$ref` and `$dynamicRef` in a schema."""
    if isinstance(value, list):
        return [one for inner in value for one in _references(inner)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("$ref", "$dynamicRef") if isinstance(value.get(key), str)]
    return own + [one for inner in value.values() for one in _references(inner)]


Text = Annotated[str, Field(min_length=1, max_length=100_000)]
_ONE_OR_MORE = (BeforeValidator(_as_list), Field(min_length=1, max_length=100))
Texts = Annotated[list[Text], *_ONE_OR_MORE]
"""Texts; in the file also a single text."""


class Check(Section):
    """What all checks have."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_is_plain)] | None = None
    """For people."""
    severity: Severity = "error"
    """error: the gate fails if the check fails; warning: it is reported."""
    same_as: Texts | None = None
    """Other wordings, or the same with a typo, to which the model must give the same answer."""

    def wordings(self) -> list[Any]:
        """What is asked, and its other wordings."""
        raise NotImplementedError

    def expectations(self) -> tuple[str, ...]:
        """The keys that say what the answer must be, in their order."""
        return tuple(key for key in type(self).model_fields if key in _EXPECTATIONS and getattr(self, key) is not None)

    @model_validator(mode="after")
    def _expects_something(self) -> "Check":
        if not self.expectations():
            known = [key for key in type(self).model_fields if key in _EXPECTATIONS]
            raise ValueError(f"expects nothing; add one of {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _asks_in_other_words(self) -> "Check":
        asked, *others = self.wordings()
        if asked in others:
            raise ValueError(
                "same_as holds what is asked, and a model gives the same answer to the same words; write other words"
            )
        return self


class Message(Section):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class WritingCheck(Check):
    """A check of a model that writes text."""

    prompt: Text | None = None
    """The prompt as written; for a model trained on conversations one turn of the user."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=100)] | None = None
    """A conversation, which the model continues."""
    contains: Texts | None = None
    """All of them are in the answer."""
    not_contains: Texts | None = None
    """None of them is in the answer."""
    regex: Annotated[str, AfterValidator(_is_pattern)] | None = None
    """Found in the answer."""
    json_schema: Annotated[dict[str, Any], AfterValidator(_is_schema)] | None = None
    """The answer is JSON that fits this schema (draft 2020-12)."""
    max_tokens: Positive | None = None
    """The model ends its answer after at most so many tokens."""
    refuses: bool | None = None
    """Whether the answer holds one of `refusals`."""

    @property
    def asked(self) -> str:
        """The prompt, or all turns."""
        if self.messages is None:
            return self.prompt or ""
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.messages)

    @model_validator(mode="after")
    def _asks_once(self) -> "WritingCheck":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs either prompt or messages")
        if self.messages and self.messages[-1].role == "assistant":
            raise ValueError("messages end with the assistant's turn, which the model is to write; remove it")
        if self.same_as and self.messages and self.messages[-1].role != "user":
            raise ValueError("same_as replaces the user's last message, so messages must end with the user's turn")
        return self

    def wordings(self) -> list[Any]:
        """What is asked, and its other wordings: prompts, or records with messages."""
        if self.messages is None:
            return [self.prompt, *(self.same_as or ())]
        turns = [message.model_dump() for message in self.messages]
        others = [[*turns[:-1], {**turns[-1], "content": text}] for text in self.same_as or ()]
        return [{"messages": messages} for messages in (turns, *others)]


class TextCheck(Check):
    """A check of a model that gives labels or numbers."""

    text: Text

    @property
    def asked(self) -> str:
        """The text."""
        return self.text

    def wordings(self) -> list[str]:
        """The text, and its other wordings."""
        return [self.text, *(self.same_as or ())]


class LabelCheck(TextCheck):
    """A check of a classifier."""

    label: Texts | None = None
    """The label; for a model that gives several labels to a text, all of them."""
    one_of: Texts | None = None
    """Each label that is given is among these, and one is given."""


class NumberCheck(TextCheck):
    """A check of a regression."""

    between: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """The smallest and the largest number."""
    tolerance: Annotated[float, Field(ge=0.0)] | None = None
    """With same_as: how far the numbers may be apart."""

    @model_validator(mode="after")
    def _numbers_are_in_order(self) -> "NumberCheck":
        if self.between and self.between[0] > self.between[1]:
            raise ValueError(f"between: {self.between[0]:g} is more than {self.between[1]:g}; write the smaller first")
        if (self.tolerance is None) != (self.same_as is None):
            raise ValueError("same_as and tolerance belong together: how far may the numbers be apart?")
        return self


AnyCheck = WritingCheck | LabelCheck | NumberCheck
"""A check of one of the kinds, each of which says what is `asked`, and in which `wordings`."""

_EXPECTATIONS = (
    "contains",
    "not_contains",
    "regex",
    "json_schema",
    "max_tokens",
    "refuses",
    "label",
    "one_of",
    "between",
    "same_as",
)

_Writing = Annotated[list[WritingCheck], Field(max_length=1_000)] | None


class Checks(Section):
    """The whole file: one list for each task, of which only that of the project's task is used."""

    model_config = ConfigDict(validate_by_alias=True)

    refusals: Annotated[list[Annotated[Text, AfterValidator(_is_phrase)]], *_ONE_OR_MORE] | None = None
    """Phrases by which a refusal is recognised, in any case."""
    sft: _Writing = None
    language_modeling: Annotated[_Writing, Field(alias="language-modeling")] = None
    classification: Annotated[list[LabelCheck], Field(max_length=1_000)] | None = None
    regression: Annotated[list[NumberCheck], Field(max_length=1_000)] | None = None
    preference: _Writing = None

    def of_task(self, task: Task) -> Sequence[AnyCheck]:
        """The checks of a task."""
        return getattr(self, task.replace("-", "_")) or []

    @model_validator(mode="after")
    def _refusals_are_known(self) -> "Checks":
        for task in ("sft", "language-modeling", "preference"):
            for place, check in enumerate(self.of_task(task)):
                if isinstance(check, WritingCheck) and check.refuses is not None and not self.refusals:
                    raise PydanticCustomError(
                        "no_refusals",
                        "needs the list `refusals` at the beginning of the file: phrases such as I cannot",
                        {"at": (task, place, "refuses")},
                    )
        return self


def load(path: Path) -> Checks:
    """Read and check the file.

    Raises:
        DataError: all problems, one per line, each with file, line and key.
    """
    return yaml_file.read(path, Checks, DataError, _REMEDY)
