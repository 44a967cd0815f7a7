import re
from pathlib import Path

import pytest
import torch
from tiny_models import TRAINING, documents, tiny, training_config
from torch.optim.adamw import adamw

from tuneline.encoding.examples import IGNORED, Example
from tuneline.encoding.packing import collate
from tuneline.errors import TrainingError
from tuneline.modeling import forward
from tuneline.training import training_run


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("optim", ["adamw_torch", "muon"])
@pytest.mark.parametrize("packing", [True, False])
def test_training_learns_changes_every_parameter_and_is_reproducible(tmp_path: Path, optim: str, packing: bool) -> None:
    ends, logs = [], []
    how = training_config(
        optim=optim, packing=packing, num_train_epochs=2.0, learning_rate=5e-3, adam_learning_rate=5e-3, save_steps=20
    )
    for run in ("first", "second"):
        model = tiny("llama")
        start = weights(model)
        made = training_run.train(
            model, documents(), how, pad=1, folder=tmp_path / run, validation=documents(10, seed=1)
        )
        ends.append(weights(model))
        logs.append(made.history.csv())
        moved = [name for name, tensor in ends[-1].items() if not torch.equal(tensor, start[name])]
        assert moved == list(start)
        lines = made.history.lines
        assert lines[-1]["loss"] < lines[0]["loss"]
        assert made.packed is packing
        assert lines[-1]["step"] == made.steps
        assert lines[-1]["eval_loss"] > 0
    assert same(*ends)
    assert logs[0] == logs[1]


def test_one_step_of_adamw_equals_plain_code(tmp_path: Path) -> None:
    model, plain = tiny("llama"), tiny("llama")
    examples = documents(4)
    how = training_config(max_steps=1, warmup_steps=0, lr_scheduler_type="constant", max_grad_norm=0.0, max_length=128)
    training_run.train(model, examples, how, pad=1, folder=tmp_path)
    nll, count = forward.nll(plain, collate([[example] for example in examples], pad=1), packed=False, sparse=False)
    (nll / count).backward()
    for mine, parameter in zip(model.parameters(), plain.parameters(), strict=True):
        assert parameter.grad is not None
        moments = [torch.zeros_like(parameter)], [torch.zeros_like(parameter)]
        adamw(
            [parameter.data], [parameter.grad], *moments, [], [torch.zeros(())], foreach=False, amsgrad=False,
            beta1=0.9, beta2=0.999, lr=TRAINING["learning_rate"], weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip
        torch.testing.assert_close(mine, parameter, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 2), (2, 4), (1, 8)])
def test_accumulation_weights_tokens_and_not_batches(tmp_path: Path, batch: int, accumulation: int) -> None:
    ends = []
    # SGD, because Adam's first steps hang on the sign of gradients that are next to nothing.
    for size, parts in ((8, 1), (batch, accumulation)):
        model = tiny("llama")
        how = training_config(
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
            max_steps=2,
            optim="sgd",
            learning_rate=0.1,
            warmup_steps=0,
        )
        made = training_run.train(model, documents(), how, pad=1, folder=tmp_path / str(size))
        assert made.steps == 2
        ends.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*ends, atol=1e-6, rtol=0)


def test_the_log_callback_gets_every_line_and_tokens_without_padding(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    examples = documents()
    made = training_run.train(
        tiny("llama"),
        examples,
        training_config(),
        pad=1,
        folder=tmp_path,
        log=lambda step, measures: told.append((step, measures)),
    )
    assert made.history.tokens == 2 * sum(len(example.input_ids) for example in examples)
    assert made.history.supervised_tokens == 2 * sum(
        label != IGNORED for example in examples for label in example.labels
    )
    assert [step for step, _ in told] == [line["step"] for line in made.history.lines]
    assert set(told[0][1]) == {"tokens", "loss", "learning_rate", "grad_norm"}


def test_a_family_that_cannot_be_packed_is_trained_with_one_document_per_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = training_run.train(
        tiny("mamba"), documents(6), training_config(max_steps=1, warmup_steps=0), pad=1, folder=tmp_path
    )
    assert not made.packed
    assert "mamba does not keep packed documents apart" in capsys.readouterr().out


def test_the_progress_line_of_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = documents(10, seed=1)
    training_run.train(
        tiny("llama"), documents(), training_config(max_steps=3), pad=1, folder=tmp_path, validation=rows
    )
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("training: 3 of 3 steps, loss ")
    assert "tokens/s" in last
    assert "measuring" not in last
    assert re.search(r", in \d+\.\d s$", last)


def test_a_diverged_loss_stops_with_its_step(tmp_path: Path) -> None:
    model = tiny("llama")
    how = training_config(
        learning_rate=1e6, optim="sgd", max_grad_norm=0.0, warmup_steps=0, lr_scheduler_type="constant"
    )
    with pytest.raises(TrainingError, match=r"^step \d+: the loss is .* in the batch of training row \d+"):
        training_run.train(model, documents(), how, pad=1, folder=tmp_path)


def test_a_warm_up_longer_than_the_training_is_refused(tmp_path: Path) -> None:
    told = (
        r"^finetune.warmup_steps: the warm-up of 4 steps is longer than the whole training of 3 steps, so the learning "
        r"rate 0.003 is never reached; set it to a share"
    )
    with pytest.raises(TrainingError, match=told):
        training_run.train(
            tiny("llama"), documents(), training_config(max_steps=3, warmup_steps=4), pad=1, folder=tmp_path
        )
    assert not list(tmp_path.iterdir())


def test_steps_may_be_shares_of_a_training_of_any_length(tmp_path: Path) -> None:
    shares = {"warmup_steps": 0.5, "eval_steps": 0.25, "logging_steps": 0.5, "save_steps": 0.5}
    how = training_config(max_steps=8, lr_scheduler_type="constant_with_warmup", **shares)
    made = training_run.train(tiny("llama"), documents(), how, pad=1, folder=tmp_path, validation=documents(4, seed=1))
    lines = {line["step"]: line for line in made.history.lines}
    assert [step for step, line in lines.items() if "eval_loss" in line] == [2, 4, 6, 8]
    assert [step for step, line in lines.items() if "loss" in line] == [1, 4, 8]
    assert [lines[step]["learning_rate"] for step in (1, 4, 8)] == pytest.approx([0.0, 0.75 * 0.003, 0.003])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-8"]


def test_a_training_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training row has a label"):
        training_run.train(tiny("llama"), [], training_config(), pad=1, folder=tmp_path)


def test_delete_checkpoints_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    training_run.train(
        tiny("llama"), [Example([5, 6, 7], [IGNORED, 6, 7])], training_config(warmup_steps=0), pad=1, folder=folder
    )
    assert folder.is_dir()
    training_run.delete_checkpoints(folder)
    assert not folder.exists()
