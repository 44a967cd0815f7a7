"""Each objective gives the same as a plain loop in PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import classifier, documents, labelled, tiny, training_config
from torch import Tensor, nn
from torch.nn import functional

from tuneline.errors import TrainingError
from tuneline.training import objectives, training_run
from tuneline.training.objectives import Causal, Classification, Objective, Regression

SGD: dict[str, Any] = {
    "optim": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0,
    "packing": False, "logging_steps": 1,
}  # fmt: skip


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def alone(model: nn.Module, example: Any) -> Tensor:
    """Logits of one text without padding."""
    return model(input_ids=torch.tensor([example.input_ids])).logits[0]


def cross_entropy(model: nn.Module, examples: list[Any]) -> Tensor:
    return torch.stack([-alone(model, one).log_softmax(0)[one.target] for one in examples]).mean()


def weighted(model: nn.Module, examples: list[Any]) -> Tensor:
    counts = [sum(one.target == label for one in examples) for label in range(3)]
    weights = torch.tensor([1 / counts[one.target] for one in examples])
    each = torch.stack([-alone(model, one).log_softmax(0)[one.target] for one in examples])
    return (weights * each).sum() / weights.sum()


def smoothed(model: nn.Module, examples: list[Any]) -> Tensor:
    logs = [alone(model, one).log_softmax(0) for one in examples]
    parts = [-0.9 * log[one.target] - 0.1 * log.mean() for log, one in zip(logs, examples, strict=True)]
    return torch.stack(parts).mean()


def each_label(model: nn.Module, examples: list[Any]) -> Tensor:
    sure = torch.stack([alone(model, one).sigmoid() for one in examples])
    wanted = torch.tensor([one.target for one in examples])
    return -(wanted * sure.log() + (1 - wanted) * (1 - sure).log()).mean()


def squares(model: nn.Module, examples: list[Any]) -> Tensor:
    return torch.stack([(alone(model, one)[0] - one.target) ** 2 for one in examples]).mean()


def next_token(model: nn.Module, examples: list[Any], smoothing: float = 0.0) -> Tensor:
    logits = torch.cat([alone(model, one)[:-1] for one in examples])
    labels = torch.tensor([label for one in examples for label in one.labels[1:]])
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def smoothed_token(model: nn.Module, examples: list[Any]) -> Tensor:
    return next_token(model, examples, 0.1)


def single(**more: Any) -> Callable[..., Objective]:
    return lambda _, examples: Classification.for_examples(examples, pad=1, labels=3, multi_label=False, **more)


TASKS: dict[str, tuple[Any, Any, Any, Callable[..., Tensor]]] = {
    "causal": (tiny, documents, lambda m, e: Causal.for_model(m, e, pad=1, packing=False), next_token),
    "causal smoothed": (
        tiny, documents, lambda m, e: Causal.for_model(m, e, pad=1, packing=False, smoothing=0.1), smoothed_token,
    ),
    "single": (classifier, labelled, single(), cross_entropy),
    "single weighted": (classifier, labelled, single(class_weights="balanced"), weighted),
    "single smoothed": (classifier, labelled, single(smoothing=0.1), smoothed),
    "several": (
        classifier, lambda n: labelled(n, kind="several"),
        lambda _, e: Classification.for_examples(e, pad=1, labels=3, multi_label=True), each_label,
    ),
    "regression": (
        lambda family: classifier(family, labels=1), lambda n: labelled(n, kind="number"),
        lambda _, e: Regression(pad=1), squares,
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("accumulation", [1, 4])
def test_training_equals_a_plain_loop(tmp_path: Path, task: str, accumulation: int) -> None:
    make, make_examples, make_objective, plain_loss = TASKS[task]
    model, plain, examples = make("llama"), make("llama"), make_examples(8)
    how = training_config(**SGD, num_train_epochs=3.0, per_device_train_batch_size=8 // accumulation,
                 gradient_accumulation_steps=accumulation)  # fmt: skip
    made = training_run.train(
        model, examples, how, pad=1, folder=tmp_path, objective=make_objective(model, examples), validation=examples
    )
    losses = []
    for _ in range(3):
        plain.zero_grad()
        loss = plain_loss(plain, examples)
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for parameter in plain.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    assert [line["loss"] for line in made.history.lines] == pytest.approx(losses, abs=1e-6)
    torch.testing.assert_close(flat(model), flat(plain), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("family", "kind"),
    [("llama", "single"), ("gpt2", "single"), ("qwen3", "several"), ("bert", "several"), ("bert", "number")],
)
def test_every_family_learns_labels_moves_every_parameter_and_repeats(tmp_path: Path, family: str, kind: str) -> None:
    ends = []
    for run in ("first", "second"):
        model = classifier(family, labels=1 if kind == "number" else 3)
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        examples, validation = labelled(kind=kind), labelled(20, 1, kind=kind)
        objective: Objective = Regression(pad=1)
        if kind != "number":
            objective = Classification.for_examples(examples, pad=1, labels=3, multi_label=kind == "several")
        how = training_config(
            packing=False, num_train_epochs=6.0, learning_rate=5e-3, per_device_train_batch_size=8, save_steps=99
        )
        made = training_run.train(
            model, examples, how, pad=1, folder=tmp_path / run, objective=objective, validation=validation
        )
        ends.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        assert [name for name in start if torch.equal(start[name], ends[-1][name])] == []
        assert made.history.lines[-1]["loss"] < 0.8 * made.history.lines[0]["loss"]
        assert made.history.supervised_tokens == 6 * len(examples)
        assert ("eval_absolute_error" if kind == "number" else "eval_accuracy") in made.history.lines[-1]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_validation_counts_every_row_equally() -> None:
    model, examples = classifier("llama"), labelled(10)
    objective = Classification.for_examples(examples, pad=1, labels=3, multi_label=False)
    with torch.no_grad():
        said = objective.measure(model, objectives.batches(objective, examples, 4))
        right = [int(alone(model, one).argmax()) == one.target for one in examples]
        assert said["loss"][0] / said["loss"][1] == pytest.approx(cross_entropy(model, examples).item(), abs=1e-6)
    assert said["accuracy"] == (sum(right), len(right))


def test_label_smoothing_is_refused_for_several_labels() -> None:
    with pytest.raises(TrainingError, match="label_smoothing_factor: has no meaning if a text may have several"):
        Classification.for_examples(labelled(4, kind="several"), pad=1, labels=3, multi_label=True, smoothing=0.1)
