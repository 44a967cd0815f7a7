"""Tables of the values that `tuneline use` writes into params.yaml, by task, base and number of rows.

The tables hold every value that can be written. A value that is neither in a table nor in SHIPPED was set by hand.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tuneline.params import Task
from tuneline.params.evaluate import FEWEST_GROUPS
from tuneline.params.gate import METRICS

BaseKind = Literal["builtin", "model", "adapters"]
"""builtin: pretrained here, on the set's own text. model: a folder or a model of the hub, of which all weights are
trained. adapters: such a model with `finetune.lora`."""

_FEW, _MANY = 2_000, 20_000
"""The tables have three columns: fewer training rows than _FEW, fewer than _MANY, and _MANY or more."""


class Case(NamedTuple):
    """What the values depend on."""

    task: Task
    base: BaseKind
    rows: int
    """Number of training rows."""


SHIPPED: dict[str, Any] = {
    "finetune.num_train_epochs": 1.0,
    "finetune.learning_rate": 0.005,
    "finetune.per_device_train_batch_size": 8,
    "finetune.early_stopping_patience": 3,
    "base.builtin.num_train_epochs": 4.0,
    "base.builtin.learning_rate": 0.02,
    "base.builtin.adam_learning_rate": 0.08,
    "base.builtin.hidden_size": 96,
    "base.builtin.intermediate_size": 256,
    "base.builtin.num_hidden_layers": 4,
    "base.builtin.num_attention_heads": 3,
    "base.builtin.document_length": 128,
    "data.split.validation": 0.05,
    "data.split.test": 0.1,
}
"""The values of params.yaml as it is shipped, for the built-in corpus."""

_Columns = tuple[Any, Any, Any]

# The sizes of the shipped params.yaml. Documents are longer, because the answer is at the end of the text.
_SIZES_OF_LANGUAGE: dict[str, _Columns] = {
    "base.builtin.hidden_size": (96, 96, 96),
    "base.builtin.intermediate_size": (256, 256, 256),
    "base.builtin.num_hidden_layers": (4, 4, 4),
    "base.builtin.num_attention_heads": (3, 3, 3),
    "base.builtin.document_length": (256, 256, 256),
    "base.builtin.num_train_epochs": (4.0, 4.0, 4.0),
    "base.builtin.learning_rate": (0.02, 0.02, 0.02),
    "base.builtin.adam_learning_rate": (0.08, 0.08, 0.08),
    "finetune.per_device_train_batch_size": (8, 8, 8),
}
# The words of a text say most about its label: wide and flat is better than narrow and deep.
_SIZES_OF_LABELS: dict[str, _Columns] = {
    "base.builtin.hidden_size": (256, 256, 256),
    "base.builtin.intermediate_size": (512, 512, 512),
    "base.builtin.num_hidden_layers": (1, 1, 1),
    "base.builtin.num_attention_heads": (4, 4, 4),
    "base.builtin.document_length": (128, 128, 128),
    # Pretraining on a few hundred texts does not help to predict labels.
    "base.builtin.num_train_epochs": (1.0, 2.0, 4.0),
    "base.builtin.learning_rate": (0.02, 0.02, 0.02),
    "base.builtin.adam_learning_rate": (0.08, 0.08, 0.08),
    "finetune.per_device_train_batch_size": (16, 16, 16),
}

_RATE = "finetune.learning_rate"
_TUNED = ("finetune.num_train_epochs", _RATE, "finetune.early_stopping_patience")
"""The keys of every table. Only the tables of a builtin base have more."""


def _tuned(epochs: _Columns, rates: _Columns, patience: _Columns = (3, 3, 3)) -> dict[str, _Columns]:
    return dict(zip(_TUNED, (epochs, rates, patience), strict=True))


_LANGUAGE: dict[BaseKind, dict[str, _Columns]] = {
    "builtin": _tuned((4.0, 2.0, 1.0), (0.002, 0.002, 0.005)) | _SIZES_OF_LANGUAGE,
    "model": _tuned((3.0, 2.0, 1.0), (2e-5, 2e-5, 2e-5)),
    "adapters": _tuned((3.0, 2.0, 1.0), (2e-4, 2e-4, 2e-4)),
}
# A hundred validation rows are too few to choose the best weights.
_NUMBERS_BUILTIN = _tuned((5.0, 5.0, 2.0), (5e-4, 5e-4, 5e-4), (None, 3, 3)) | _SIZES_OF_LABELS
# High learning rates make the base's embeddings so large that a short fine-tuning hardly changes them.
_CLASSES_BUILTIN = (
    _tuned((3.0, 5.0, 2.0), (5e-4, 5e-4, 5e-4), (None, 3, 3))
    | _SIZES_OF_LABELS
    | {
        "base.builtin.learning_rate": (0.01, 0.02, 0.02),
        "base.builtin.adam_learning_rate": (0.01, 0.08, 0.08),
    }
)
_LABELS_MODEL = _tuned((10.0, 4.0, 2.0), (3e-5, 3e-5, 2e-5))
_LABELS_ADAPTERS = _tuned((10.0, 4.0, 2.0), (2e-4, 2e-4, 2e-4))

_TABLES: dict[Task, dict[BaseKind, dict[str, _Columns]]] = {
    "sft": _LANGUAGE,
    "language-modeling": _LANGUAGE,
    "classification": {"builtin": _CLASSES_BUILTIN, "model": _LABELS_MODEL, "adapters": _LABELS_ADAPTERS},
    "regression": {"builtin": _NUMBERS_BUILTIN, "model": _LABELS_MODEL, "adapters": _LABELS_ADAPTERS},
    "preference": {
        "builtin": _tuned((3.0, 2.0, 1.0), (1e-4, 1e-4, 5e-5)) | _SIZES_OF_LANGUAGE,
        "model": _tuned((2.0, 1.0, 1.0), (5e-6, 5e-6, 5e-6)),
        "adapters": _tuned((2.0, 1.0, 1.0), (1e-5, 1e-5, 1e-5)),
    },
}

_SPLIT: dict[str, _Columns] = {
    "data.split.validation": (0.1, 0.05, 0.05),
    "data.split.test": (0.2, 0.1, 0.1),
}
"""Small sets hold out a larger share, because a few dozen test rows decide nothing."""
SHARES = tuple(_SPLIT)
"""The keys of the shares that are held out."""


def _rule(metric: str, versus: str, margin: float, **more: float) -> dict[str, Any]:
    return {"metric": metric, "direction": METRICS[metric].better, "versus": versus, **more, "margin": margin}


def _rules_of_language(**of_base: float) -> list[dict[str, Any]]:
    return [
        _rule("bits_per_byte", "baseline", 0.0),
        _rule("bits_per_byte", "base", 0.0) | of_base,
        _rule("bits_per_byte", "champion", -0.02),
    ]


# Each task has a rule that an untrained candidate fails: better than its base, or better than chance.
_LABELS = [
    _rule("accuracy", "baseline", -0.05),
    _rule("matthews_corrcoef", "value", 0.0, value=0.0),
    _rule("accuracy", "champion", -0.02),
]
_NUMBERS = [
    _rule("spearman", "baseline", -0.05),
    _rule("spearman", "value", 0.0, value=0.0),
    _rule("spearman", "champion", -0.02),
]
_PREFERENCES = [
    _rule("reward_accuracy", "base", 0.0),
    _rule("reward_accuracy", "baseline", -0.05),
    _rule("bits_per_byte", "base", -0.1),
    _rule("reward_accuracy", "champion", -0.02),
]
# A builtin base was pretrained on the same answers, so a candidate that is not better than it need not fail.
_LANGUAGE_OF_BUILTIN = _rules_of_language(fails_below=-0.05)
_RULES: dict[Task, list[dict[str, Any]]] = {
    "sft": _rules_of_language(),
    "language-modeling": _rules_of_language(),
    "classification": _LABELS,
    "regression": _NUMBERS,
    "preference": _PREFERENCES,
}
_RULES_OF_BUILTIN = _RULES | {"sft": _LANGUAGE_OF_BUILTIN, "language-modeling": _LANGUAGE_OF_BUILTIN}
SHIPPED_RULES: list[dict[str, Any]] = [
    _rule("bits_per_byte", "baseline", 0.0),
    _rule("bits_per_byte", "base", 0.0),
    _rule("chrf", "base", 0.0),
    _rule("bits_per_byte", "champion", -0.01),
]
"""The rules of params.yaml as it is shipped."""


class Choice(NamedTuple):
    """Which values of params.yaml change, and which stay."""

    values: dict[str, Any]
    """Dotted key -> value to write."""
    kept: dict[str, tuple[Any, Any]]
    """Dotted key -> the value that was set by hand and stays, and the suggested value."""


def values_for(case: Case) -> dict[str, Any]:
    """The values of `finetune` and of a builtin base that suit a case."""
    return {key: columns[_column(case.rows)] for key, columns in _TABLES[case.task][case.base].items()}


def shares_for(rows: int) -> dict[str, Any]:
    """The shares of validation and test that suit a number of rows."""
    return {key: columns[_column(rows)] for key, columns in _SPLIT.items()}


def choose(present: Mapping[str, Any], case: Case, *, is_new: bool) -> Choice:
    """Decide which values of `finetune` and of a builtin base are written.

    Args:
        present: dotted key -> the value of params.yaml. Only these keys are written.
        case: what the values are for.
        is_new: whether the set or the task has changed. If not, the values stay, even if the number of rows has
            changed, unless they were written for another base or task.
    """
    own = _TABLES[case.task][case.base]
    if not is_new and not _are_for_another(present, case):
        return Choice({}, {})
    suggested = {key: value for key, value in values_for(case).items() if key in present}
    choice = _chosen(present, suggested, {} if is_new else own)
    if any(map(_is_size, choice.kept)):
        # The sizes of a model depend on each other: if one was set by hand, all of them stay.
        values = {key: value for key, value in choice.values.items() if not _is_size(key)}
        return choice._replace(values=values)
    return choice


def _is_size(key: str) -> bool:
    return key.startswith("base.builtin.") and key not in (
        "base.builtin.num_train_epochs",
        "base.builtin.learning_rate",
        "base.builtin.adam_learning_rate",
    )


def choose_shares(present: Mapping[str, Any], rows: int) -> Choice:
    """Decide which shares are held out of a new set."""
    return _chosen(present, shares_for(rows), {})


def rules_for(
    present: Sequence[Mapping[str, Any]], case: Case, before: Task
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rules of the gate for a case. Rules that were written by hand stay.

    Args:
        present: the rules of params.yaml, without keys that are null.
        case: what the rules are for.
        before: the previous task of params.yaml, to which rules without the key `task` belong.

    Returns:
        All rules to write, and those of them that belong to another task and apply when that task is chosen again.
    """
    of_task: dict[str, list[dict[str, Any]]] = {}
    for rule in present:
        bare = {key: value for key, value in rule.items() if key != "task"}
        of_task.setdefault(rule.get("task") or before, []).append(bare)
    own = of_task.pop(case.task, [])
    suggested = (_RULES_OF_BUILTIN if case.base == "builtin" else _RULES)[case.task]
    rules = own if own and not _are_suggested(own) else [dict(rule) for rule in suggested]
    waiting = [
        rule | {"task": task} for task, others in of_task.items() if not _are_suggested(others) for rule in others
    ]
    return [*rules, *waiting], waiting


def few_rows_advice(share: float) -> str:
    """How many rows are needed for the fewest test rows that decide a rule.

    Args:
        share: of the rows that is tested.
    """
    return (
        f"an interval needs at least {FEWEST_GROUPS} test rows with different prompts or texts, which are a share of "
        f"{share:g} (data.split.test), so bring {math.ceil(FEWEST_GROUPS / share):,} rows or more; "
        "docs/recipes/README.md says how many each task needs"
    )


def resolution(task: Task, rows: int, share: float) -> str:
    """A message about the smallest difference that this number of test rows can show.

    The half width of a 95 % interval is 1.96 standard errors. For the difference of two accuracies the standard error
    is sqrt(d / rows), where d is the share of rows on which exactly one of the two models is right, usually 0.2. For
    Spearman's correlation it is about (1 - r**2) / sqrt(rows), with r = 0.5. For bits per byte it was measured as 0.45
    / sqrt(rows), between a model and its base on the built-in corpus.

    Args:
        task: the task.
        rows: number of rows of the test split.
        share: of the rows that is tested.
    """
    if rows < FEWEST_GROUPS:
        return f"with {rows:,} test rows no rule is decided: {few_rows_advice(share)}"
    name, error = {
        "classification": ("accuracy", math.sqrt(0.2)),
        "preference": ("reward accuracy", math.sqrt(0.2)),
        "regression": ("Spearman's correlation", 0.75),
    }.get(task, ("bits per byte", 0.45))
    wanted = 0.02
    half = 1.96 * error / math.sqrt(max(rows, 1))
    needed = (1.96 * error / wanted) ** 2
    return (
        f"with {rows:,} test rows the 95 % interval of a difference in {name} is about ±{half:.2g}: a smaller "
        f"difference stays undecided; for ±{wanted:g} about {_rounded(needed):,} test rows are needed"
    )


def _rounded(number: float) -> int:
    """To two digits."""
    return round(round(number), 1 - math.floor(math.log10(number)))


def _column(rows: int) -> int:
    return 0 if rows < _FEW else 1 if rows < _MANY else 2


def _chosen(present: Mapping[str, Any], suggested: Mapping[str, Any], own: Mapping[str, _Columns]) -> Choice:
    choice = Choice({}, {})
    for key, value in suggested.items():
        now = present[key]
        if now == value or now in own.get(key, ()):
            continue
        if now in _written(key):
            choice.values[key] = value
        else:
            choice.kept[key] = (now, value)
    return choice


def _written(key: str) -> list[Any]:
    """Every value of a key that this module may have written."""
    tables = [table for kinds in _TABLES.values() for table in kinds.values()]
    return [SHIPPED[key], *(value for table in [*tables, _SPLIT] for value in table.get(key, ()))]


def _are_for_another(present: Mapping[str, Any], case: Case) -> bool:
    """Whether the values of `finetune` were written for another base or task.

    This is so if the learning rate is that of another table, and the values are closer to a column of that table than
    to every column of the case's own table. A learning rate that was set by hand may equal that of another table, but
    then the other values are still those of the own table.
    """
    rate, own = present.get(_RATE), _TABLES[case.task][case.base]
    if rate in own[_RATE]:
        return False

    def closeness(task: Task, column: Mapping[str, Any]) -> int:
        return (task == case.task) + sum(key in present and column[key] == present[key] for key in _TUNED)

    others = [
        closeness(task, column)
        for task, kinds in _TABLES.items()
        for table in kinds.values()
        for column in _columns(table)
        if column[_RATE] == rate
    ]
    return max(others, default=0) > max(closeness(case.task, column) for column in _columns(own))


def _columns(table: Mapping[str, _Columns]) -> list[dict[str, Any]]:
    return [{key: columns[number] for key, columns in table.items()} for number in range(3)]


def _are_suggested(rules: Sequence[Mapping[str, Any]]) -> bool:
    return any(list(rules) == table for table in [SHIPPED_RULES, *_RULES.values(), *_RULES_OF_BUILTIN.values()])
