"""data/search.yaml is checked completely before anything runs."""

from pathlib import Path

import pytest

from tuneline import params
from tuneline.commands.use.suggested_values import Case, values_for
from tuneline.errors import ParamsError
from tuneline.params import Params
from tuneline.search import space
from tuneline.search.space import Dimension, Space


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Params:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    Path("data").mkdir()
    return params.load()


def read(p: Params, text: str) -> Space:
    space.FILE.write_text(text, "utf-8")
    return space.read(p)


def problems(p: Params, text: str) -> list[str]:
    with pytest.raises(ParamsError) as raised:
        read(p, text)
    return list(raised.value.problems)


def test_the_space_of_the_repository_can_be_searched(p: Params) -> None:
    found = read(p, (Path(__file__).parents[2] / space.FILE).read_text("utf-8"))
    assert space.defaults(found, p)["finetune.learning_rate"] == p.finetune.learning_rate


@pytest.mark.parametrize(
    ("key", "dimension", "wider"),
    [
        (
            "finetune.num_train_epochs",
            "{values: [2.0, 5.0]}",
            "finetune.num_train_epochs: {values: [1.0, 2.0, 5.0]}",
        ),
        (
            "finetune.learning_rate",
            "{low: 1.0e-6, high: 1.0e-4, log: true}",
            "finetune.learning_rate: {low: 0.0005, high: 0.05, log: true}",
        ),
        (
            "finetune.lr_scheduler_type",
            "{values: [linear, constant]}",
            "finetune.lr_scheduler_type: {values: [linear, constant, cosine]}",
        ),
    ],
)
def test_a_space_without_the_value_of_today_is_told_a_line_that_has_it(
    p: Params, key: str, dimension: str, wider: str
) -> None:
    (problem,) = problems(p, f"space:\n  {key}: {dimension}\n")
    assert problem.endswith(f"; for example: {wider}")
    assert read(p, f"space:\n  {wider}\n")


@pytest.mark.parametrize("task", ["sft", "language-modeling", "classification", "regression"])
@pytest.mark.parametrize("rows", [500, 5_000, 50_000])
def test_the_space_of_the_repository_holds_what_use_suggests_for_a_builtin_base(
    p: Params, task: params.Task, rows: int
) -> None:
    found = read(p, (Path(__file__).parents[2] / space.FILE).read_text("utf-8"))
    suggested = values_for(Case(task, "builtin", rows))
    assert [key for key in found.space if key in suggested and not found.space[key].holds(suggested[key])] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("finetune.learning_rte: {low: 1.0e-4, high: 1.0e-2}", "unknown key; did you mean finetune.learning_rate?"),
        ("nonsense: {low: 1, high: 2}", "unknown key; remove it"),
        ("finetune.weight_decay: {low: -1.0, high: 0.1}", "-1.0: params.yaml may not have it: input should be greater"),
        ("finetune.optim: {values: [adamw_torch, adm]}", "'adm': params.yaml may not have it: is unknown"),
        ("finetune.seed: {low: 0, high: 9}", "is the luck of a training"),
        ("finetune.max_length: {low: 64, high: 256}", "changes what eval_loss measures"),
        ("finetune.dpo.beta: {low: 0.1, high: 0.5}", "changes what eval_loss measures"),
        ("finetune.save_steps: {low: 1, high: 5}", "names the hardware or how often something is written"),
        ("base.builtin.hidden_size: {low: 32, high: 64}", "all trials share data and base"),
        ("finetune.lora.r: {low: 4, high: 16}", "finetune.lora is null in params.yaml; set it there"),
        ("finetune.neftune_noise_alpha: {low: 1.0, high: 9.0}", "is not in params.yaml; add it there"),
        ("data.mixture.extra.weight: {low: 0.1, high: 1.0}", "unknown key"),
        ("finetune.learning_rate: {low: 1.0e-6, high: 1.0e-4}", "params.yaml has 0.005, which is not one of these"),
        ("finetune.learning_rate: {low: 1.0e-1, high: 1.0e-2}", "low must be below high (0.01)"),
        ("finetune.learning_rate: {low: 0.0, high: 1.0e-2, log: true}", "low must be above 0"),
        ("finetune.learning_rate: {low: 1.0e-4}", "give low and high, or values"),
        ("finetune.learning_rate: {low: 0.001, high: 0.01, step: 0.1}", "at most high - low (0.009)"),
        ("finetune.learning_rate: {low: 0.001, high: 0.01, step: 0.001, log: true}", "a logarithmic scale has no step"),
        ("finetune.learning_rate: {low: .nan, high: 0.01}", "nan: must be a finite number"),
        ("finetune.learning_rate: {low: small, high: 0.01}", "'small': must be a finite number"),
        ("finetune.optim: {values: [adamw_torch]}", "at least 2"),
        ("finetune.optim: {values: [adamw_torch, adamw_torch]}", "a value is named twice"),
        ("finetune.optim: {values: [adamw_torch, muon], low: 1}", "give either values, or low and high"),
        ("finetune.learning_rate: {low: 0.001, hig: 0.01}", "unknown key; did you mean high?"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence_with_its_line(p: Params, line: str, message: str) -> None:
    (problem,) = problems(p, f"space:\n  {line}\n")
    assert problem.startswith("data/search.yaml:2: ")
    assert message in problem


def test_all_problems_are_named_at_once(p: Params) -> None:
    text = "space:\n  finetune.seed: {low: 0, high: 9}\n  finetune.weight_decay: {low: -2.0, high: -1.0}\n"
    assert len(problems(p, text)) == 3


def test_a_merged_model_that_is_not_trained_cannot_be_searched(p: Params) -> None:
    base = p.base.model_copy(update={"source": "merge", "input": "models/merge"})
    merged = p.model_copy(update={"base": base})
    [of_folds, of_epochs] = sorted(
        problems(merged, "folds: 3\nspace:\n  finetune.num_train_epochs: {low: 0.0, high: 2.0}\n")
    )
    assert of_folds.startswith("data/search.yaml:1: folds: 3: the versions that were merged (base.source: merge)")
    assert of_epochs.startswith("data/search.yaml:3: finetune.num_train_epochs: with 0 epochs nothing is trained")
    still = merged.model_copy(update={"finetune": p.finetune.model_copy(update={"num_train_epochs": 0.0})})
    found = problems(still, "space:\n  finetune.learning_rate: {low: 1.0e-4, high: 1.0e-2}\n")
    assert found == ["params.yaml: finetune.num_train_epochs is 0, so no trial would train; set it above 0"]


def test_a_missing_or_empty_file_says_what_to_write(p: Params) -> None:
    with pytest.raises(ParamsError, match=r"data/search.yaml: no such file; name there the keys to search"):
        space.read(p)
    assert "at least 1 item" in problems(p, "space: {}\n")[0]


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        ("{low: 0, high: 1NINES}", ".high: 1999"),
        ("{low: -1NINES, high: 1}", ".low: -1999"),
        ("{low: 0, high: 1, step: 1NINES}", ".step: 1999"),
        ("{low: 0.0, high: 0.2, step: 1.0e-320}", ".step: 9.99989e-321: gives more than 1,000,000,000 values; raise"),
    ],
)
def test_numbers_that_no_float_can_be_and_steps_without_end_are_refused(p: Params, dimension: str, said: str) -> None:
    [problem] = problems(p, f"space: {{finetune.weight_decay: {dimension.replace('NINES', 400 * '9')}}}")
    assert said in problem
    assert len(problem) < 300


def test_a_value_of_hundreds_of_digits_is_told_in_short(p: Params) -> None:
    [problem] = problems(p, f"space: {{finetune.learning_rate: {{values: [0.01, {400 * '9'}]}}}}")
    assert "params.yaml may not have it" in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Dimension(low=1, high=8), [1, 8, 2.0], [0, 9, 1.5, True, "1", None]),
        (Dimension(low=0.0, high=0.2, step=0.05), [0.0, 0.15, 0.2], [0.01, 0.3]),
        (Dimension(values=["cosine", None, 1]), ["cosine", None, 1], ["linear", True, 0]),
    ],
)
def test_a_value_is_inside_or_outside(dimension: Dimension, inside: list, outside: list) -> None:
    assert [dimension.holds(value) for value in inside] == [True] * len(inside)
    assert [dimension.holds(value) for value in outside] == [False] * len(outside)
