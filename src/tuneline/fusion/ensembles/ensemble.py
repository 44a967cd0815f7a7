"""An ensemble as a measurement: its members, their mean with equal and with fitted weights, on the same test rows.

It cannot be a candidate: a version is a folder that `from_pretrained` loads, and a mixture of models is not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from tuneline import params
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import ModelError
from tuneline.evaluation import comparison
from tuneline.evaluation.intervals import Interval
from tuneline.fusion.ensembles import ensemble_rows, fit_together, member_process
from tuneline.fusion.ensembles.ensemble_rows import Kept, Member
from tuneline.fusion.ensembles.mixture_weights import Fitted
from tuneline.fusion.ensembles.mixtures import MIXTURES, Outputs
from tuneline.params.gate import METRICS_OF_TASK

UNIFORM, FITTED = "uniform", "fitted"
# All weights but one are together below this: the mixture is one member.
_TRACE = 1e-6


@dataclass(frozen=True)
class Plan:
    """What will be measured."""

    members: tuple[Member, ...]
    validation: Kept
    test: Kept
    remarks: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Of both splits."""
        return self.validation.rows.num_rows + self.test.rows.num_rows


def plan(p: params.Params, form: RecordForm, members: Sequence[Member]) -> tuple[Plan | None, list[str]]:
    """What an ensemble of these versions would be measured on, and what forbids it.

    Args:
        p: the params; its task has ensembles.
        form: of the clean rows.
        members: at least one version.

    Returns:
        The plan, None where there is a problem; and all problems.

    Raises:
        BrokenVersionError: a version does not hold the ids of its training rows.
        ModelError: a tokenizer cannot be loaded.
    """
    problems = fit_together.problems(p, form, members)
    validation, test, unread = ensemble_rows.unseen(p, members, form)
    if not test.rows.num_rows:
        problems.append(_no_rows(test, p.paths.clean))
    elif not problems:
        both = pa.concat_tables([validation.rows, test.rows])
        problems += fit_together.tokenizer_problems(p, members, both)
    return (None if problems else Plan(tuple(members), validation, test, unread)), problems


def _no_rows(test: Kept, clean: str) -> str:
    if not (test.trained or test.near):
        return (
            f"{clean}/test holds no rows, so there is nothing to measure on; bring more rows, or raise data.split.test"
        )
    return (
        f"none of the {test.trained + test.near:,} test rows is left: a member was trained on {test.trained:,} of them "
        f"or on rows of their groups, and on near duplicates of {test.near:,}; give versions that were trained on the "
        "same split as today's"
    )


@dataclass(frozen=True)
class Difference:
    """How a mixture differs from a member or from another mixture, on the same test rows."""

    of: str
    versus: str
    measures: Mapping[str, Interval | str]
    """Metric -> the interval, or why it has none."""


@dataclass(frozen=True)
class Result:
    """What was measured."""

    model: str
    task: params.Task
    members: tuple[str, ...]
    """The versions."""
    plan: Plan
    fitted: Fitted | None
    """None: no validation row was left."""
    metrics: Mapping[str, Mapping[str, float]]
    """A version, UNIFORM or FITTED -> its metrics on the test rows."""
    differences: tuple[Difference, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        kept = {"validation": self.plan.validation, "test": self.plan.test}
        return {
            "model": self.model,
            "task": self.task,
            "versions": list(self.members),
            "rows": {
                name: {"measured": one.rows.num_rows, "left_out_trained": one.trained, "left_out_near": one.near}
                for name, one in kept.items()
            },
            "fitted": self.fitted and asdict(self.fitted),
            "metrics": {name: dict(found) for name, found in self.metrics.items()},
            "differences": [
                {
                    "of": one.of,
                    "versus": one.versus,
                    "metrics": {
                        name: asdict(found) if isinstance(found, Interval) else found
                        for name, found in one.measures.items()
                    },
                }
                for one in self.differences
            ],
            "remarks": list(self.plan.remarks),
        }


def measure(p: params.Params, made: Plan) -> Result:
    """Measure the members one after the other, fit the weights on the validation rows, and compare on the test rows.

    Args:
        p: the params.
        made: from `plan`.

    Raises:
        ModelError: a version cannot be loaded, or gives what is not a number.
        RegistryError: the process that measures a version was ended.
    """
    both = pa.concat_tables([made.validation.rows, made.test.rows])
    found = [member_process.measure(p, one.folder, f"version {one.version}", both) for one in made.members]
    return combine(p, made, found)


def combine(p: params.Params, made: Plan, found: Sequence[Outputs]) -> Result:
    """The result, from what each member gives for the validation rows and, after them, the test rows.

    Raises:
        ModelError: an output is not a finite number.
    """
    broken = [
        f"version {member.version}: its output is not a finite number for {count:,} of {made.rows:,} rows, so it "
        "cannot be a member; leave it out"
        for member, outputs in zip(made.members, found, strict=True)
        if (count := outputs.count_not_finite())
    ]
    if broken:
        raise ModelError(*broken)
    mixture, test, border = MIXTURES[p.task], made.test.rows, made.validation.rows.num_rows
    fitted = mixture.fit(made.validation.rows, [one.of_rows(0, border) for one in found])
    on_test = [one.of_rows(border, made.rows) for one in found]
    names = [f"version {member.version}" for member in made.members]
    tables = {name: mixture.scores(test, [one], [1.0]) for name, one in zip(names, on_test, strict=True)}
    tables[UNIFORM] = mixture.scores(test, on_test, [1 / len(found)] * len(found))
    if fitted is not None:
        best = max(range(len(names)), key=fitted.weights.__getitem__)
        # A member that adds nothing keeps a weight above 0: a trace of it would be told as a difference.
        alone = 1 - fitted.weights[best] < _TRACE
        tables[FITTED] = tables[names[best]] if alone else mixture.scores(test, on_test, fitted.weights)
    pairs = [(mixed, name) for mixed in tables if mixed in (UNIFORM, FITTED) for name in names]
    pairs += [(FITTED, UNIFORM)] if fitted is not None else []
    metrics = {name: comparison.summarise(test, p.task, table) for name, table in tables.items()}
    differences = []
    for one, other in pairs:
        compared = comparison.compare(test, p.task, tables[one], tables[other], p.evaluate)
        # A mixture writes no answers, so the metrics of answers are not there.
        wanted = [name for name in METRICS_OF_TASK[p.task] if name in metrics[one]]
        differences.append(Difference(one, other, {name: compared[name] for name in wanted}))
    members = tuple(member.version for member in made.members)
    return Result(p.registry.model, p.task, members, made, fitted, metrics, tuple(differences))


def cost(p: params.Params, made: Plan) -> str:
    """What it costs, in a sentence."""
    count, size = len(made.members), p.evaluate.batch_size
    parts = [
        f"{one.rows.num_rows:,} {name} rows{_left_out(one)}"
        for name, one in (("validation", made.validation), ("test", made.test))
    ]
    return (
        f"{count} models, one after the other, each on {' and '.join(parts)}: {count * made.rows:,} rows in at least "
        f"{count * math.ceil(made.rows / size):,} forward passes of up to {size} rows (evaluate.batch_size)"
    )


def _left_out(one: Kept) -> str:
    parts = [f"{one.trained:,} that a member was trained on"] if one.trained else []
    parts += [f"{one.near:,} near duplicates of such rows"] if one.near else []
    return f" (left out: {' and '.join(parts)})" if parts else ""
