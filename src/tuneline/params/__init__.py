"""Read params.yaml into one frozen `Params`. The file has the values; this package has their types and bounds."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml.error import YAMLError

from tuneline.core import bounded_yaml
from tuneline.errors import ParamsError, one_line
from tuneline.params.base import Base, Builtin
from tuneline.params.compute import Compute
from tuneline.params.data import PRETRAINING, Data, Layout, MixtureSet, Secrets, SetReading, Split
from tuneline.params.evaluate import Evaluate, Probes
from tuneline.params.finetune import Finetune, unfit, unfit_to_shard
from tuneline.params.gate import Gate, Rule, problem_of_task
from tuneline.params.paths import OUTPUTS, Paths, overlaps
from tuneline.params.registry import Registry
from tuneline.params.report import Language, Report
from tuneline.params.sample import Sample
from tuneline.params.section import Section
from tuneline.params.slices import LABEL, closest, known_columns, split_gap, split_slice
from tuneline.params.task_keys import TASK_KEYS, Task

__all__ = [
    "MIXABLE",
    "PARAMS_FILE",
    "PRETRAINING",
    "TASK_KEYS",
    "Base",
    "Builtin",
    "Compute",
    "Data",
    "Evaluate",
    "Finetune",
    "Gate",
    "Language",
    "Layout",
    "MixtureSet",
    "Params",
    "Paths",
    "Probes",
    "Registry",
    "Report",
    "Rule",
    "Sample",
    "Secrets",
    "SetReading",
    "Split",
    "Task",
    "load",
]

PARAMS_FILE = "params.yaml"
# The most problems that an error names, and the most characters of each.
_NAMED = 50
_LINE = 500

MIXABLE = tuple(task for task, keys in TASK_KEYS.items() if keys.is_mixable)
"""Tasks that can be trained on several sets."""


class Params(Section):
    """All of params.yaml."""

    task: Task
    """sft: pairs of prompt and completion, or conversations; language-modeling: text; classification: text and label;
    regression: text and number; preference: a prompt with a chosen and a rejected answer."""
    paths: Paths
    data: Data
    sample: Sample
    compute: Compute
    base: Base
    finetune: Finetune
    evaluate: Evaluate
    gate: Gate
    registry: Registry
    report: Report = Report()

    @model_validator(mode="after")
    def _source_fits_input(self) -> "Params":
        is_pretraining_text = self.base.input == self.paths.pretraining
        if (self.base.source == "builtin") != is_pretraining_text:
            wanted = {
                "builtin": f"paths.pretraining ({self.paths.pretraining})",
                "path": "the folder of a model",
                "hub": "a YAML file with the model's id and full revision",
            }[self.base.source]
            raise PydanticCustomError(
                "source_and_input",
                "'{value}' does not fit base.source {source}: set it to {wanted}",
                {"at": ("base", "input"), "value": self.base.input, "source": self.base.source, "wanted": wanted},
            )
        return self

    @model_validator(mode="after")
    def _outputs_lie_apart(self) -> "Params":
        outputs = {f"paths.{key}": getattr(self.paths, key) for key in OUTPUTS}
        inputs = {
            "paths.expectations": self.paths.expectations,
            "paths.mixture": self.paths.mixture,
            "data.raw": self.data.raw,
            "data.pretraining": self.data.pretraining,
            "base.input": self.base.input,
        }
        for key, other in overlaps(outputs, inputs):
            raise PydanticCustomError(
                "overlap",
                "'{value}' overlaps {other} '{there}', and DVC deletes an output before a stage writes it again; use "
                "two separate paths",
                {
                    "at": tuple(key.split(".")),
                    "value": outputs[key],
                    "other": other,
                    "there": (outputs | inputs)[other],
                },
            )
        return self

    @model_validator(mode="after")
    def _rows_fit_the_base(self) -> "Params":
        if self.base.source == "builtin" and self.finetune.max_length > self.base.builtin.max_length:
            raise PydanticCustomError(
                "length_and_base",
                "{length} is more than base.builtin.max_length {seen}, the most tokens that the builtin base sees; "
                "raise base.builtin.max_length too",
                {
                    "at": ("finetune", "max_length"),
                    "length": self.finetune.max_length,
                    "seen": self.base.builtin.max_length,
                },
            )
        return self

    @model_validator(mode="after")
    def _finetune_fits_the_task(self) -> "Params":
        for key, problem in unfit(self.task, self.finetune):
            raise PydanticCustomError("finetune_and_task", "{problem}", {"at": ("finetune", key), "problem": problem})
        return self

    @model_validator(mode="after")
    def _mixture_fits_the_task(self) -> "Params":
        if self.data.mixture and self.task not in MIXABLE:
            raise PydanticCustomError(
                "mixture_and_task",
                "has no meaning for task {task}: only text, pairs and conversations can be mixed; set it to {empty}",
                {"at": ("data", "mixture"), "task": self.task, "empty": "{}"},
            )
        return self

    @model_validator(mode="after")
    def _probes_fit_the_task(self) -> "Params":
        general = self.data.general
        if general is not None and self.task not in MIXABLE:
            raise PydanticCustomError(
                "general_and_task",
                "has no meaning for task {task}, which reads no set of {mixture}; set it to null",
                {"at": ("data", "general"), "task": self.task, "mixture": self.paths.mixture},
            )
        if general in self.data.mixture:
            raise PydanticCustomError(
                "general_and_mixture",
                "'{general}' is in data.mixture, so the model is trained on it and it cannot show what is forgotten; "
                "name another set",
                {"at": ("data", "general"), "general": general},
            )
        if self.data.canaries and "canary_exposure" not in TASK_KEYS[self.task].probes:
            raise PydanticCustomError(
                "canaries_and_task",
                "has no meaning for task {task}, whose models are not trained to write a text; set it to 0",
                {"at": ("data", "canaries"), "task": self.task},
            )
        return self

    @model_validator(mode="after")
    def _weights_can_be_shared_out(self) -> "Params":
        if found := unfit_to_shard(self.task, self.finetune, torch_compile=self.compute.torch_compile):
            raise PydanticCustomError(
                "fsdp",
                "full_shard {problems}; or set fsdp to null",
                {"at": ("finetune", "fsdp"), "problems": "; it ".join(found)},
            )
        return self

    @property
    def rules(self) -> list[Rule]:
        """The rules of the gate for the task."""
        return [rule for rule in self.gate.rules if rule.task in (None, self.task)]

    @model_validator(mode="after")
    def _rules_can_be_measured(self) -> "Params":
        if not self.rules:
            raise PydanticCustomError(
                "no_rule",
                "no rule is for task {task}, only for other tasks; add a rule, or run `tuneline use` again",
                {"at": ("gate", "rules"), "task": self.task},
            )
        for index, rule in enumerate(self.gate.rules):
            if found := problem_of_task(rule, rule.task or self.task):
                key, message = found
                raise PydanticCustomError(
                    "rule_and_task", "{message}", {"at": ("gate", "rules", index, key), "message": message}
                )
        return self

    @model_validator(mode="after")
    def _slices_are_known(self) -> "Params":
        known, slices = known_columns(self.task, self.data.keep_columns), self.evaluate.slices
        for index, column in enumerate(slices):
            at = ("evaluate", "slices", index)
            if slices.index(column) != index:
                raise PydanticCustomError("slice_twice", "'{column}' is named twice", {"at": at, "column": column})
            if column not in known:
                why = f"records of task {self.task} have no label" if column == LABEL else "no column has this name"
                message = f"'{column}': {why}; {closest(column, known)}; other columns must be in data.keep_columns"
                raise PydanticCustomError("slice_column", "{message}", {"at": at, "message": message})
        for index, rule in enumerate(self.gate.rules):
            if rule.task not in (None, self.task):
                continue
            gap = split_gap(rule.metric)
            unknown_gap = gap is not None and gap[1] not in slices
            if not unknown_gap and (rule.slice is None or split_slice(rule.slice, slices)):
                continue
            key, written = ("metric", rule.metric) if unknown_gap else ("slice", rule.slice or "")
            column = gap[1] if gap else written.partition("=")[0]
            hint = closest(column, slices) if slices else "it is empty"
            message = f"'{written}': '{column}' is not in evaluate.slices; {hint}; add it there, or remove the rule"
            raise PydanticCustomError(
                "rule_and_slices", "{message}", {"at": ("gate", "rules", index, key), "message": message}
            )
        return self


def load(path: Path = Path(PARAMS_FILE)) -> Params:
    """Read and check a params file.

    Args:
        path: the params file.

    Returns:
        The frozen values.

    Raises:
        ParamsError: all problems, one per line, each with file, line and key.
    """
    # DVC reads YAML 1.2 with ruamel.yaml; PyYAML reads `3e-4` as text.
    try:
        document = bounded_yaml.load(path.read_text("utf-8"), "rt")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run this in the project's root, where {path.name} is") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: must be a mapping of the sections {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(_plain(document))
    except ValidationError as error:
        found = error.errors()
        more = [f"and {len(found) - _NAMED} more problems"] if len(found) > _NAMED else []
        named = (_describe(path, document, problem) for problem in found[:_NAMED])
        raise ParamsError(*map(_cut, named), *more) from None


def _cut(line: str) -> str:
    return line if len(line) <= _LINE else f"{line[:_LINE]}…"


def _plain(node: Any) -> Any:
    """ruamel's round-trip nodes as plain values, which strict validation needs."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _describe(path: Path, document: Any, problem: ErrorDetails) -> str:
    # A check of several sections names the key itself, because pydantic gives no location.
    location = problem["loc"] or problem.get("ctx", {}).get("at", ())
    place = f"{path}:{_line(document, location)}"
    key = ".".join(_keys(document, location))
    if problem["type"] == "extra_forbidden":
        known, required = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(required or known)}"
        return f"{place}: {key}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{place}: {key}: missing; add it"
    if not key:
        return f"{place}: {problem['msg']}"
    message = problem["msg"].removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], dict | list) else f"{problem['input']!r}: "
    return f"{place}: {key}: {value}{message[:1].lower()}{message[1:]}"


def _keys(document: Any, location: Sequence[Any]) -> list[str]:
    """The parts of a location that a person has written. pydantic also names the alternatives of a type."""
    keys: list[str] = []
    node = document
    for part in location:
        if isinstance(node, dict):
            keys.append(str(part))
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int):
            keys.append(str(part))
            node = node[part]
    return keys


def _line(document: Any, location: Sequence[Any]) -> int:
    """The line (from 1) of the deepest part of `location` that is in the file."""
    line = 1
    node: Any = document
    for part in location:
        try:
            line = (node.lc.item(part) if isinstance(part, int) else node.lc.key(part))[0] + 1
            node = node[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line


def _known_keys(location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """All keys of a section, and the required keys."""
    section: type[Section] = Params
    for part in location:
        known = section.model_fields.get(str(part))
        if known is None and not isinstance(part, int):
            # A name from the file, such as a set of a mixture.
            continue
        annotation = Rule if known is None else known.annotation
        inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        section = next((kind for kind in inner if issubclass(kind, Section)), section)
    fields = section.model_fields
    return list(fields), [name for name, field in fields.items() if field.is_required()]
