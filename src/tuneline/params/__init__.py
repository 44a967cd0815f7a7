"""Read params.yaml into one frozen `Params`. The file has the values; this package has their types and bounds."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from tuneline.errors import ParamsError
from tuneline.params import yaml_file
from tuneline.params.augment import NOISE, Augment, BackTranslation, Noise, Synonyms, Variant
from tuneline.params.base import Base, Builtin
from tuneline.params.compute import Compute
from tuneline.params.data import OWN_TEXT, PRETRAINING, RAW, Data, Layout, MixtureSet, Secrets, SetReading, Split
from tuneline.params.evaluate import FEWEST_GROUPS, Evaluate, Probes
from tuneline.params.finetune import Finetune, unfit, unfit_to_shard
from tuneline.params.gate import (
    GENERAL,
    HARNESS,
    HARNESS_ROWS,
    ROWS_OF_PROBE,
    Gate,
    Rule,
    is_of_harness,
    problem_of_task,
)
from tuneline.params.paths import OUTPUTS, Paths, overlaps
from tuneline.params.registry import Registry
from tuneline.params.report import AUGMENT, MIXTURE, WITHOUT, Language, Report
from tuneline.params.sample import Sample
from tuneline.params.section import Section
from tuneline.params.slices import LABEL, LANGUAGE, LENGTH, closest, known_columns, one_of_known, split_gap, split_slice
from tuneline.params.task_keys import TASK_KEYS, Task

__all__ = [
    "MIXABLE",
    "NOISE",
    "OWN_TEXT",
    "PARAMS_FILE",
    "PRETRAINING",
    "READS_GENERAL",
    "TASK_KEYS",
    "WITHOUT",
    "Augment",
    "BackTranslation",
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
    "Noise",
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
    "Synonyms",
    "Task",
    "Variant",
    "load",
]

PARAMS_FILE = "params.yaml"

MIXABLE = tuple(task for task, keys in TASK_KEYS.items() if keys.mixes)
"""Tasks that can be trained on several sets."""

READS_GENERAL = tuple(task for task, keys in TASK_KEYS.items() if keys.reads_general)
"""Tasks with which `data.general` can name a set of general text."""

Problems = Iterator[PydanticCustomError]
"""What is wrong with values of several sections, each with the place `at` which a person mends it."""


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
    def _sections_fit_together(self) -> "Params":
        problems = [
            *self._source_fits_input(),
            *self._outputs_lie_apart(),
            *self._rows_fit_the_base(),
            *self._finetune_fits_the_task(),
            *self._nothing_is_trained_only_of_a_merged_model(),
            *self._mixture_fits_the_task(),
            *self._variants_fit_the_task(),
            *self._probes_fit_the_task(),
            *self._rules_of_probes_have_rows(),
            *self._weights_can_be_shared_out(),
            *self._twins_differ(),
            *self._comparisons_leave_out_what_is_trained(),
            *self._rules_can_be_measured(),
            *self._slices_are_known(),
        ]
        if problems:
            # pydantic takes the lines of this error for its own; with one exception a person would see one problem.
            lines: list[InitErrorDetails] = [{"type": problem, "input": {}} for problem in problems]
            raise ValidationError.from_exception_data("Params", lines)
        return self

    def _source_fits_input(self) -> Problems:
        is_pretraining_text = self.base.input == self.paths.pretraining
        if (self.base.source == "builtin") != is_pretraining_text:
            wanted = {
                "builtin": f"paths.pretraining ({self.paths.pretraining})",
                "path": "the folder of a model",
                "hub": "a YAML file with the model's id and full revision",
                "merge": "the folder that `tuneline merge` writes",
            }[self.base.source]
            yield PydanticCustomError(
                "source_and_input",
                "'{value}' does not fit base.source {source}: set it to {wanted}",
                {"at": ("base", "input"), "value": self.base.input, "source": self.base.source, "wanted": wanted},
            )

    def _outputs_lie_apart(self) -> Problems:
        outputs = {f"paths.{key}": getattr(self.paths, key) for key in OUTPUTS}
        inputs = {
            "paths.expectations": self.paths.expectations,
            "paths.checks": self.paths.checks,
            "paths.harness": self.paths.harness,
            "paths.mixture": self.paths.mixture,
            **{
                f"{key}.{name}": path
                for _, key, settings in self.data.augment.variants()
                for name, path in settings.model_dump(include={"table", "model", "back"}).items()
            },
            "data.raw": self.data.raw,
            "data.pretraining": self.data.pretraining,
            "base.input": self.base.input,
        }
        for key, other in overlaps(outputs, inputs):
            yield PydanticCustomError(
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
            # One wrong path may overlap several.
            return

    def _rows_fit_the_base(self) -> Problems:
        if self.base.source == "builtin" and self.finetune.max_length > self.base.builtin.max_length:
            yield PydanticCustomError(
                "length_and_base",
                "{length} is more than base.builtin.max_length {seen}, the most tokens that the builtin base sees; "
                "raise base.builtin.max_length too",
                {
                    "at": ("finetune", "max_length"),
                    "length": self.finetune.max_length,
                    "seen": self.base.builtin.max_length,
                },
            )

    def _finetune_fits_the_task(self) -> Problems:
        for key, problem in unfit(self.task, self.finetune):
            yield PydanticCustomError("finetune_and_task", "{problem}", {"at": ("finetune", key), "problem": problem})

    def _nothing_is_trained_only_of_a_merged_model(self) -> Problems:
        if self.finetune.num_train_epochs:
            return
        if self.base.source != "merge":
            yield PydanticCustomError(
                "no_epochs",
                "0 epochs train nothing, so the model would be its base; set it above 0 (0 is for base.source: merge)",
                {"at": ("finetune", "num_train_epochs")},
            )
        if self.gate.twins:
            yield PydanticCustomError(
                "no_epochs",
                "twins differ in the seed of their training, and finetune.num_train_epochs is 0; set it to []",
                {"at": ("gate", "twins")},
            )
        if self.report.without:
            yield PydanticCustomError(
                "no_epochs",
                "compares with trainings without some rows, and finetune.num_train_epochs is 0; remove it",
                {"at": ("report", "without")},
            )

    def _mixture_fits_the_task(self) -> Problems:
        if self.data.mixture and self.task not in MIXABLE:
            yield PydanticCustomError(
                "mixture_and_task",
                "has no meaning for task {task}, which is trained on one set; set it to {empty}",
                {"at": ("data", "mixture"), "task": self.task, "empty": "{}"},
            )
        elif PRETRAINING in self.data.mixture and self.task not in READS_GENERAL:
            yield PydanticCustomError(
                "pretraining_and_task",
                "is plain text, and task {task} is trained on texts with labels; remove it from data.mixture",
                {"at": ("data", "mixture", PRETRAINING), "task": self.task},
            )

    def _variants_fit_the_task(self) -> Problems:
        seen = {RAW: "data.raw", **{name: f"data.mixture.{name}" for name in self.data.mixture}}
        for name, key, settings in self.data.augment.variants():
            at = tuple(key.split("."))
            if name in seen:
                yield PydanticCustomError(
                    "variant_twice",
                    "'{name}' is the name of {other} too, and the report names what was trained; use another name",
                    {"at": at, "name": name, "other": seen[name]},
                )
            seen[name] = key
            if getattr(settings, "completion", False) and self.task != "sft":
                yield PydanticCustomError(
                    "variant_and_task",
                    "has no meaning for task {task}, whose rows have no completion; remove it",
                    {"at": (*at, "completion"), "task": self.task},
                )

    def _probes_fit_the_task(self) -> Problems:
        general = self.data.general
        if general is not None and self.task not in READS_GENERAL:
            yield PydanticCustomError(
                "general_and_task",
                "has no meaning for task {task}, whose models are not trained to write a text; set it to null",
                {"at": ("data", "general"), "task": self.task},
            )
        if general in self.data.mixture:
            yield PydanticCustomError(
                "general_and_mixture",
                "'{general}' is in data.mixture, so the model is trained on it and it cannot show what is forgotten; "
                "name another set",
                {"at": ("data", "general"), "general": general},
            )
        if self.evaluate.harness and not TASK_KEYS[self.task].probes:
            yield PydanticCustomError(
                "harness_and_task",
                "has no meaning for task {task}, whose models are not trained to write a text; set it to []",
                {"at": ("evaluate", "harness"), "task": self.task},
            )
        elif self.evaluate.harness and self.evaluate.probes is None:
            yield PydanticCustomError(
                "harness_and_probes",
                "needs evaluate.probes, which says how many documents are measured, and it is null",
                {"at": ("evaluate", "harness")},
            )
        for index, rule in enumerate(self.gate.rules):
            task = rule.metric.removeprefix(HARNESS)
            if is_of_harness(rule.metric) and rule.task in (None, self.task) and task not in self.evaluate.harness:
                yield PydanticCustomError(
                    "rule_and_harness",
                    "'{harness}' is not in evaluate.harness; add it there, or remove the rule",
                    {"at": ("gate", "rules", index, "metric"), "harness": task},
                )
        if self.data.canaries and "canary_exposure" not in TASK_KEYS[self.task].probes:
            yield PydanticCustomError(
                "canaries_and_task",
                "has no meaning for task {task}, whose models are not trained to write a text; set it to 0",
                {"at": ("data", "canaries"), "task": self.task},
            )
        elif 0 < self.data.canaries < FEWEST_GROUPS:
            yield PydanticCustomError(
                "few_canaries",
                "{canaries} canaries are too few: the interval of their exposure needs {fewest}; set it to {fewest} or "
                "more, or to 0",
                {"at": ("data", "canaries"), "canaries": self.data.canaries, "fewest": FEWEST_GROUPS},
            )

    def _rules_of_probes_have_rows(self) -> Problems:
        for index, rule in enumerate(self.gate.rules):
            if rule.task not in (None, self.task):
                continue
            if rule.metric == GENERAL and self.why_no_general_text:
                remedy = "remove the rule"
                if self.task in READS_GENERAL:
                    remedy = (
                        "remove the rule, bring a set of general text with `tuneline use PATH --general`, and add the "
                        "rule again"
                    )
                yield PydanticCustomError(
                    "rule_and_general",
                    "no general text is there to measure {metric} on: {why}; {remedy}",
                    {
                        "at": ("gate", "rules", index, "metric"),
                        "metric": GENERAL,
                        "why": self.why_no_general_text,
                        "remedy": remedy,
                    },
                )
            key = HARNESS_ROWS if is_of_harness(rule.metric) else ROWS_OF_PROBE.get(rule.metric)
            rows = getattr(self.evaluate.probes, key, FEWEST_GROUPS) if key else FEWEST_GROUPS
            if rows < FEWEST_GROUPS:
                yield PydanticCustomError(
                    "few_probe_rows",
                    "{rows} rows are too few to decide the rule on {metric}: its interval needs {fewest}; set it to "
                    "{fewest} or more, or remove the rule",
                    {
                        "at": ("evaluate", "probes", key),
                        "rows": rows,
                        "metric": rule.metric,
                        "fewest": FEWEST_GROUPS,
                    },
                )

    @property
    def why_no_general_text(self) -> str:
        """Why there is no general text on which forgetting can be measured, in words; empty where there is."""
        if self.data.general is not None:
            return ""
        if self.base.source != "builtin":
            return f"base.source is {self.base.source}, so no pretraining text was held out, and data.general is null"
        if self.data.pretrains_on_raw:
            return (
                f"the builtin base is pretrained on the text of the raw set itself ({self.data.pretraining}), and "
                "data.general is null"
            )
        return ""

    def _weights_can_be_shared_out(self) -> Problems:
        if found := unfit_to_shard(self.task, self.finetune, torch_compile=self.compute.torch_compile):
            yield PydanticCustomError(
                "fsdp",
                "full_shard {problems}; or set fsdp to null",
                {"at": ("finetune", "fsdp"), "problems": "; it ".join(found)},
            )

    def _twins_differ(self) -> Problems:
        twins = self.gate.twins
        same = [
            f"{seed} is the seed of {'finetune.seed' if seed == self.finetune.seed else 'another twin'}"
            for index, seed in enumerate(twins)
            if seed == self.finetune.seed or seed in twins[:index]
        ]
        if same:
            yield PydanticCustomError(
                "twin",
                "{same}, so this twin would be the same model; use another seed",
                {"at": ("gate", "twins"), "same": " and ".join(dict.fromkeys(same))},
            )
        for index, rule in enumerate(self.gate.rules):
            if rule.beyond_twins and not twins and rule.task in (None, self.task):
                yield PydanticCustomError(
                    "beyond_twins",
                    "needs twins to compare with; set gate.twins to one or more seeds, for example [1, 2]",
                    {"at": ("gate", "rules", index, "beyond_twins")},
                )

    def of_twin(self, seed: int) -> "Params":
        """The params with which a twin is trained: another seed, and places of its own for model and reports."""
        own = {"finetuned": f"{self.paths.finetuned}-twins/{seed}", "reports": f"{self.paths.reports}/twins/{seed}"}
        finetune = self.finetune.model_copy(update={"seed": seed})
        return self.model_copy(update={"finetune": finetune, "paths": self.paths.model_copy(update=own)})

    def _comparisons_leave_out_what_is_trained(self) -> Problems:
        variants = [variant.name for variant in self.data.augment.variants()]
        known = [MIXTURE, *self.data.mixture] if self.data.mixture else []
        known += [AUGMENT, *variants] if variants else []
        for comparison, names in self.report.without.items():
            for index, name in enumerate(names):
                if name not in known:
                    yield PydanticCustomError(
                        "without",
                        "'{name}' is not trained, so nothing could be compared; {hint}",
                        {
                            "at": ("report", "without", comparison, index),
                            "name": name,
                            "hint": closest(name, known)
                            if known
                            else "data.mixture and data.augment are empty; remove the comparison",
                        },
                    )

    def left_out(self, item: str | None) -> frozenset[str]:
        """The sets and variants that a training beside the candidate's leaves out: none for a twin, or for None."""
        comparison = (item or "").removeprefix(WITHOUT)
        named = self.report.without.get(comparison, []) if comparison != item else []
        sets = (name for name in self.data.mixture if name in named or MIXTURE in named)
        variants = (one.name for one in self.data.augment.variants() if one.name in named or AUGMENT in named)
        return frozenset([*sets, *variants])

    def aside(self, item: str) -> "Params":
        """The params of a training beside the candidate's, with places of its own for model and reports.

        Args:
            item: the seed of a twin, or WITHOUT and the name of a comparison of `report.without`.

        Raises:
            ParamsError: neither is meant.
        """
        if item.isdecimal():
            return self.of_twin(int(item))
        comparison = item.removeprefix(WITHOUT)
        if comparison == item or comparison not in self.report.without:
            raise ParamsError(f"{item}: is neither the seed of a twin nor a comparison of report.without")
        own = {
            "finetuned": f"{self.paths.finetuned}-without/{comparison}",
            "reports": f"{self.paths.reports}/without/{comparison}",
        }
        left = self.left_out(item)
        mixture = {name: settings for name, settings in self.data.mixture.items() if name not in left}
        data = self.data.model_copy(update={"mixture": mixture, "augment": self.data.augment.without(left)})
        return self.model_copy(update={"data": data, "paths": self.paths.model_copy(update=own)})

    @property
    def rules(self) -> list[Rule]:
        """The rules of the gate for the task."""
        return [rule for rule in self.gate.rules if rule.task in (None, self.task)]

    def _rules_can_be_measured(self) -> Problems:
        if not self.rules:
            yield PydanticCustomError(
                "no_rule",
                "no rule is for task {task}, only for other tasks; add a rule, or run `tuneline use` again",
                {"at": ("gate", "rules"), "task": self.task},
            )
        for index, rule in enumerate(self.gate.rules):
            if found := problem_of_task(rule, rule.task or self.task):
                key, message = found
                yield PydanticCustomError(
                    "rule_and_task", "{message}", {"at": ("gate", "rules", index, key), "message": message}
                )

    def _why_no_slice(self, column: str) -> str:
        """What a column is that cannot cut the test rows into slices."""
        field = next((field for field, mapped in self.data.columns.items() if mapped == column), None)
        if field == LABEL and TASK_KEYS[self.task].has_labels:
            return f"is the column of the labels (data.columns), which is called {LABEL} here; write {LABEL}"
        if field is not None:
            return (
                f"is the {field} of a record (data.columns), and almost every row has its own; {LENGTH} and {LANGUAGE} "
                "cut the rows by their texts"
            )
        if column == LABEL:
            return f"records of task {self.task} have no label"
        labels = f"; the column of the labels is called {LABEL} here" if TASK_KEYS[self.task].has_labels else ""
        return f"no column has this name; a column of {self.data.raw} must be in data.keep_columns{labels}"

    def _slices_are_known(self) -> Problems:
        known, slices = known_columns(self.task, self.data.keep_columns), self.evaluate.slices
        for index, column in enumerate(slices):
            at = ("evaluate", "slices", index)
            if slices.index(column) != index:
                yield PydanticCustomError("slice_twice", "'{column}' is named twice", {"at": at, "column": column})
            elif column not in known:
                message = f"'{column}': {self._why_no_slice(column)}; {one_of_known(column, known)}"
                yield PydanticCustomError("slice_column", "{message}", {"at": at, "message": message})
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
            yield PydanticCustomError(
                "rule_and_slices", "{message}", {"at": ("gate", "rules", index, key), "message": message}
            )


def load(path: Path = Path(PARAMS_FILE)) -> Params:
    """Read and check a params file.

    Args:
        path: the params file.

    Returns:
        The frozen values.

    Raises:
        ParamsError: all problems, one per line, each with file, line and key.
    """
    return yaml_file.read(path, Params, ParamsError)
