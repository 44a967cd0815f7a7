"""data/search.yaml: the keys of params.yaml that a search varies, and their bounds; checked before anything runs."""

import difflib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tuneline import params, terminal
from tuneline.core import files
from tuneline.crossvalidation import folds
from tuneline.errors import ParamsError
from tuneline.params import Params, editing, yaml_file
from tuneline.params.section import Positive, Section, Seed

FILE = Path("data/search.yaml")
_REMEDY = (
    "name there the keys to search, for example: "
    "space: {{finetune.learning_rate: {{low: 1.0e-4, high: 1.0e-2, log: true}}}}"
)

Value = bool | int | float | str | None
"""What a key of params.yaml can be set to by a trial."""

_MOST_VALUES = 100
_MOST_STEPS = 1_000_000_000
_SECTION = "finetune"
_MIXTURE = "data.mixture"
_EPOCHS = f"{_SECTION}.num_train_epochs"
_OTHER_LOSS = "changes what eval_loss measures, so the trials could not be compared"
_OTHER_STEPS = "changes at which steps eval_loss is measured, so the trials could not be compared"
_NOT_WEIGHTS = "names the hardware or how often something is written, not how the model learns"
_REFUSED = {
    "seed": "is the luck of a training: the best of many seeds is not better on other rows",
    **dict.fromkeys(("class_weights", "label_smoothing_factor", "dpo", "max_length", "overlong"), _OTHER_LOSS),
    **dict.fromkeys(("eval_steps", "early_stopping_patience"), _OTHER_STEPS),
    **dict.fromkeys(
        (
            "nproc_per_node",
            "fsdp",
            "save_steps",
            "save_total_limit",
            "logging_steps",
            "dataloader_num_workers",
            "max_dropped_fraction",
            "max_truncated_fraction",
        ),
        _NOT_WEIGHTS,
    ),
}


def _is_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError("must be a finite number")
    return value


# A whole number stays whole.
_Number = Annotated[Any, AfterValidator(_is_number)]


class Dimension(Section):
    """The values that a trial may give a key: from `low` to `high`, or one of `values`."""

    low: _Number | None = None
    high: _Number | None = None
    log: bool = False
    """Whether values are drawn on a logarithmic scale, as for a learning rate."""
    step: _Number | None = None
    """The distance between two values."""
    values: Annotated[list[Value], Field(min_length=2, max_length=_MOST_VALUES)] | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> "Dimension":
        if problem := self._problem():
            key, message = problem
            raise PydanticCustomError("bound", "{message}", {"at": (key,) if key else (), "message": message})
        return self

    def _problem(self) -> tuple[str, str] | None:
        if self.values is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                return "values", "give either values, or low and high"
            if len({repr(value) for value in self.values}) < len(self.values):
                return "values", "a value is named twice"
            return None
        if self.low is None or self.high is None:
            return "", "give low and high, or values"
        if self.low >= self.high:
            return "low", f"{self.low:g}: low must be below high ({self.high:g})"
        if self.log and self.low <= 0:
            return "low", f"{self.low:g}: on a logarithmic scale low must be above 0"
        if self.step is None:
            return None
        if self.log:
            return "step", "a logarithmic scale has no step; remove log or step"
        if not 0 < self.step <= self.high - self.low:
            return "step", f"{self.step:g}: must be above 0, and at most high - low ({self.high - self.low:g})"
        if (self.high - self.low) / _MOST_STEPS > self.step:
            return "step", f"{self.step:g}: gives more than {_MOST_STEPS:,} values; raise it, or remove it"
        if self.is_whole and not isinstance(self.step, int):
            return "step", f"{self.step:g}: must be a whole number, as low and high are; or write low as {self.low}.0"
        return None

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> list[Value]:
        """The values that are tried against params: both ends, or all of `values`."""
        if self.values is not None:
            return self.values
        assert self.low is not None and self.high is not None
        return [self.low, self.high] if self.is_whole else [float(self.low), float(self.high)]

    def holds(self, value: Any) -> bool:
        """Whether a trial could have this value."""
        if self.values is not None:
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values)
        assert self.low is not None and self.high is not None
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.is_whole and value != int(value):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)


class Space(Section):
    """All of data/search.yaml."""

    seed: Seed = 0
    """The trials are drawn with it and with their own number."""
    sampler: Literal["tpe", "random"] = "tpe"
    """tpe: values near those of good trials; random: independent of all other trials."""
    pruner: Literal["median", "none"] = "median"
    """median: a trial is stopped where its best loss so far is worse than the median of the others there."""
    startup_trials: Positive = 5
    """The first trials, which are drawn at random and run to their end."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """A trial is measured by a cross-validation over so many folds; null: by eval_loss on the validation split."""
    warmup_measurements: Positive = 3
    """A trial is not stopped before it was measured so often: early losses say little about the last."""
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Key of params.yaml -> its values."""

    @property
    def sha256(self) -> str:
        """The digest of everything that decides which trials are drawn."""
        # As before there were folds, for the searches of that time.
        return files.digest(self.model_dump(exclude={"folds"} if self.folds is None else None))


def read(p: Params, path: Path = FILE) -> Space:
    """Read and check the file of the search space.

    Args:
        p: the params.
        path: the file.

    Raises:
        ParamsError: all problems: unknown keys, impossible bounds, values that params.yaml may not have.
    """
    space = yaml_file.read(path, Space, ParamsError, _REMEDY)
    if problems := list(_problems(space, p, path)):
        raise ParamsError(*problems)
    return space


def _problems(space: Space, p: Params, path: Path) -> Iterator[str]:
    values, known = p.model_dump(), _known_keys(p)
    lines = path.read_text("utf-8").splitlines()
    if space.folds and p.finetune.nproc_per_node > 1:
        yield (
            f"{path}:{_line(lines, 'folds')}: folds: {space.folds}: a cross-validation trains in one process; remove "
            f"folds, or set {_SECTION}.nproc_per_node to 1 in {params.PARAMS_FILE}"
        )
    if space.folds and (seen := folds.rows_seen(p)):
        yield f"{path}:{_line(lines, 'folds')}: folds: {space.folds}: {seen}; remove folds"
    if not p.finetune.num_train_epochs:
        yield f"{params.PARAMS_FILE}: {_EPOCHS} is 0, so no trial would train; set it above 0"
    for key, dimension in space.space.items():
        place = f"{path}:{_line(lines, key)}: {key}"
        if reason := _refusal(key):
            yield f"{place}: {reason}; remove it"
            continue
        try:
            today = _value(values, key)
        except KeyError:
            yield f"{place}: {_absent(key, known, p)}"
            continue
        if key not in known:
            yield f"{place}: {_absent(key, known, p)}"
            continue
        refused = list(_refused_values(key, dimension, p))
        yield from (f"{place}: {problem}" for problem in refused)
        if key == _EPOCHS and not refused and 0 in dimension.ends:
            yield f"{place}: with 0 epochs nothing is trained, so nothing can be compared; leave 0 out"
        if not refused and not dimension.holds(today):
            yield (
                f"{place}: {params.PARAMS_FILE} has {today!r}, which is not one of these values; widen them, because "
                "the first trial has the values of today, with which the others are compared"
                + _widened(key, dimension, today)
            )


def _widened(key: str, dimension: Dimension, today: Any) -> str:
    """The line of a dimension that also holds the value of today, where there is such a dimension."""
    if dimension.values is not None:
        values = [*dimension.values, today]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            values.sort()  # pyright: ignore[reportCallIssue]
        wider: dict[str, Any] = {"values": values}
    elif dimension.log and isinstance(today, int | float) and today > 0:
        # Around today's value, because bounds that are powers of ten away would waste most trials.
        wider = {"low": today / 10, "high": today * 10, "log": True}
    else:
        return ""
    return f"; for example: {key}: {editing.written(wider)}"


def _line(lines: list[str], key: str) -> int:
    return next((number for number, line in enumerate(lines, start=1) if key in line.partition("#")[0]), 1)


def _refusal(key: str) -> str | None:
    """Why a key may not be searched although params.yaml may have it."""
    section, _, name = key.partition(".")
    if section == _SECTION:
        return _REFUSED.get(name.partition(".")[0])
    if key.startswith(f"{_MIXTURE}.") or section not in Params.model_fields:
        return None
    return f"only keys of {_SECTION} and weights of {_MIXTURE} can be searched, because all trials share data and base"


def _known_keys(p: Params) -> set[str]:
    """The keys that can be searched: those of finetune, of its LoRA where it is used, and the weights of a mixture."""
    known = {f"{_SECTION}.{name}" for name in params.Finetune.model_fields if name not in ("lora", "dpo", *_REFUSED)}
    if p.finetune.lora:
        known |= {f"{_SECTION}.lora.{name}" for name in type(p.finetune.lora).model_fields}
    return known | {f"{_MIXTURE}.{name}.weight" for name in p.data.mixture}


def _absent(key: str, known: set[str], p: Params) -> str:
    """Why a key has no value in params.yaml."""
    if key.startswith(f"{_SECTION}.lora.") and not p.finetune.lora:
        return f"{_SECTION}.lora is null in {params.PARAMS_FILE}; set it there, or remove the key"
    if key in known:
        return f"is not in {params.PARAMS_FILE}; add it there with the value that the search is to be compared with"
    close = difflib.get_close_matches(key, known, n=1)
    return f"unknown key; did you mean {close[0]}?" if close else "unknown key; remove it"


def _value(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key.

    Raises:
        KeyError: params.yaml does not have it.
    """
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, Mapping):
            raise KeyError(key)
        node = node[part]
    return node


def _refused_values(key: str, dimension: Dimension, p: Params) -> Iterator[str]:
    """A sentence for each end of a dimension that params.yaml may not have."""
    for value in dimension.ends:
        try:
            with_values(p, {key: value})
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            shown = terminal.shortened(repr(value))
            yield f"{shown}: {params.PARAMS_FILE} may not have it: {message[:1].lower()}{message[1:]}"


def with_values(p: Params, values: Mapping[str, Value]) -> Params:
    """The params with some values replaced.

    Args:
        p: the params.
        values: dotted key -> value.

    Raises:
        ValidationError: pydantic's, where params.yaml may not have these values.
    """
    document = p.model_dump(exclude_unset=True)
    for key, value in values.items():
        *sections, name = key.split(".")
        node = document
        for section in sections:
            node = node[section]
        node[name] = value
    return Params.model_validate(document)


def defaults(space: Space, p: Params) -> dict[str, Value]:
    """The values of params.yaml, by key of the space."""
    values = p.model_dump()
    return {key: _value(values, key) for key in space.space}
