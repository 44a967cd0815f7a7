"""What suits a task, a base and a number of rows: the values that `tuneline use` writes into params.yaml.

Every value that can be written stands in a table here. So whether a person has set a value by hand can be told from the
value alone: it is then none that the tables or SHIPPED hold.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tuneline.params import Task
from tuneline.params.gate import METRICS

BaseKind = Literal["builtin", "model", "adapters"]
"""builtin: pretrained here, on the set's own text; model: a folder or a model of the hub, all weights of it; adapters:
such a model with `finetune.lora`."""

_FEW, _MANY = 2_000, 20_000
"""Training rows below which there are few, and from which there are many: the three columns of the tables."""


class Case(NamedTuple):
    """What the values depend on."""

    task: Task
    base: BaseKind
    rows: int
    """That are learnt."""


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
"""What params.yaml says as it is shipped, for the built-in corpus."""

_Columns = tuple[Any, Any, Any]

# Texts are learnt whole, and the answer stands at their end; the sizes are those that params.yaml is shipped with.
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
# Which words stand in a text says most of its label: wide and flat is better than narrow and deep.
_SIZES_OF_LABELS: dict[str, _Columns] = {
    "base.builtin.hidden_size": (256, 256, 256),
    "base.builtin.intermediate_size": (512, 512, 512),
    "base.builtin.num_hidden_layers": (1, 1, 1),
    "base.builtin.num_attention_heads": (4, 4, 4),
    "base.builtin.document_length": (128, 128, 128),
    # What a base learns from a few hundred texts gives nothing to labels.
    "base.builtin.num_train_epochs": (1.0, 2.0, 4.0),
    "base.builtin.learning_rate": (0.02, 0.02, 0.02),
    "base.builtin.adam_learning_rate": (0.08, 0.08, 0.08),
    "finetune.per_device_train_batch_size": (16, 16, 16),
}

_RATE = "finetune.learning_rate"
_TUNED = ("finetune.num_train_epochs", _RATE, "finetune.early_stopping_patience")
"""Of every table; the others are only of those for a builtin base."""


def _tuned(epochs: _Columns, rates: _Columns, patience: _Columns = (3, 3, 3)) -> dict[str, _Columns]:
    return dict(zip(_TUNED, (epochs, rates, patience), strict=True))


_LANGUAGE: dict[BaseKind, dict[str, _Columns]] = {
    "builtin": _tuned((4.0, 2.0, 1.0), (0.002, 0.002, 0.005)) | _SIZES_OF_LANGUAGE,
    "model": _tuned((3.0, 2.0, 1.0), (2e-5, 2e-5, 2e-5)),
    "adapters": _tuned((3.0, 2.0, 1.0), (2e-4, 2e-4, 2e-4)),
}
# A hundred validation rows say too little of which weights are best.
_NUMBERS_BUILTIN = _tuned((5.0, 5.0, 2.0), (5e-4, 5e-4, 5e-4), (None, 3, 3)) | _SIZES_OF_LABELS
# At high rates the embeddings of a base grow, and then the few steps of a fine-tuning hardly turn them.
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
"""Of few rows a larger share is held out: what is measured on a few dozen rows decides nothing."""
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


# Each task has a rule that a candidate which has learnt nothing does not pass: better than its base, or than chance.
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
# A builtin base has read the same answers: that fine-tuning on them has not made it better is no failure.
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
    """What becomes of the values of params.yaml."""

    values: dict[str, Any]
    """Dotted key -> value, to be written."""
    kept: dict[str, tuple[Any, Any]]
    """Dotted key -> the value that was set by hand and stays, and the one that was suggested."""


def values_for(case: Case) -> dict[str, Any]:
    """The values of `finetune`, and of a builtin base, that suit a case."""
    return {key: columns[_column(case.rows)] for key, columns in _TABLES[case.task][case.base].items()}


def shares_for(rows: int) -> dict[str, Any]:
    """The shares of validation and test that suit a number of rows."""
    return {key: columns[_column(rows)] for key, columns in _SPLIT.items()}


def choose(present: Mapping[str, Any], case: Case, *, is_new: bool) -> Choice:
    """Decide which values of `finetune`, and of a builtin base, are written.

    Args:
        present: dotted key -> the value of params.yaml; a key that it leaves out is not written.
        case: what the values are for.
        is_new: whether the set or the task is another than before; else the values stay, also where the number of rows
            has changed, unless they were written for another base or task.
    """
    own = _TABLES[case.task][case.base]
    if not is_new and not _are_for_another(present, case):
        return Choice({}, {})
    suggested = {key: value for key, value in values_for(case).items() if key in present}
    choice = _chosen(present, suggested, {} if is_new else own)
    if any(map(_is_size, choice.kept)):
        # The sizes of a model fit each other: one that was set by hand keeps them all.
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
    """Decide which shares are held out of a set that is new."""
    return _chosen(present, shares_for(rows), {})


def rules_for(
    present: Sequence[Mapping[str, Any]], case: Case, before: Task
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rules of the gate for a case: no rule that a person has written is lost.

    Args:
        present: the rules of params.yaml, without the keys that are null.
        case: what the rules are for.
        before: the task that params.yaml has named, for which rules without the key `task` were.

    Returns:
        All rules to be written; and of them those for another task, which wait until that task is chosen again.
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


def resolution(task: Task, rows: int) -> str:
    """What a number of test rows can decide, in words.

    The half width of a 95 % interval is 1.96 standard errors. Of a difference of two shares of right rows the standard
    error is the root of d / rows, where d is the share of the rows in which just one of the two is right; 0.2 is usual.
    Of Spearman's correlation it is about (1 - r**2) / sqrt(rows), with r = 0.5. Of bits per byte it was measured: 0.45
    / sqrt(rows) between a model and its base on the built-in corpus.

    Args:
        task: what is learnt.
        rows: of the test split.
    """
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
    """Every value that a person has not set by hand."""
    tables = [table for kinds in _TABLES.values() for table in kinds.values()]
    return [SHIPPED[key], *(value for table in [*tables, _SPLIT] for value in table.get(key, ()))]


def _are_for_another(present: Mapping[str, Any], case: Case) -> bool:
    """Whether the values of `finetune` were written for another base, or for a task that was named before.

    They were where they have the learning rate of another table and are closer to one of its columns than to any of the
    case's own table. A rate that was set by hand may be another table's, too: then the values beside it are still the
    own ones.
    """
    now, own = present.get(_RATE), _TABLES[case.task][case.base]
    if now in own[_RATE]:
        return False

    def closeness(task: Task, column: Mapping[str, Any]) -> int:
        return (task == case.task) + sum(key in present and column[key] == present[key] for key in _TUNED)

    others = [
        closeness(task, column)
        for task, kinds in _TABLES.items()
        for table in kinds.values()
        for column in _columns(table)
        if column[_RATE] == now
    ]
    return max(others, default=0) > max(closeness(case.task, column) for column in _columns(own))


def _columns(table: Mapping[str, _Columns]) -> list[dict[str, Any]]:
    return [{key: columns[number] for key, columns in table.items()} for number in range(3)]


def _are_suggested(rules: Sequence[Mapping[str, Any]]) -> bool:
    return any(list(rules) == table for table in [SHIPPED_RULES, *_RULES.values(), *_RULES_OF_BUILTIN.values()])
