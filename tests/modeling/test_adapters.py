"""LoRA adapters are put on the named modules, trained alone, saved and merged."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tiny_models import classifier, documents, labelled, tiny, training_config

from tuneline.errors import TrainingError
from tuneline.modeling import adapters
from tuneline.training import training_run
from tuneline.training.objectives import Classification

LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q_proj", "down_proj"]}


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor]) -> set[str]:
    assert start.keys() == end.keys()
    return {name for name in start if not torch.equal(start[name], end[name])}


@pytest.mark.parametrize("optim", ["adamw_torch", "muon"])
def test_only_target_modules_change_and_the_saved_adapter_equals_the_merged_model(tmp_path: Path, optim: str) -> None:
    saved = []
    for run in ("first", "second"):
        model = tiny("llama")
        start = state(model)
        how = training_config(optim=optim, learning_rate=1e-2, num_train_epochs=4.0, save_steps=99)
        made = training_run.train(model, documents(), how, pad=1, folder=tmp_path / run / "work", lora=LORA)
        end = state(made.model)
        assert moved(start, end) == {name for name in start if "q_proj" in name or "down_proj" in name}
        assert made.history.lines[-1]["loss"] < made.history.lines[0]["loss"]
        assert made.adapter is not None
        made.adapter.save(tmp_path / run / "adapter")
        saved.append([path.read_bytes() for path in sorted((tmp_path / run / "adapter").iterdir())])
    assert saved[0] == saved[1]
    put_on = peft.PeftModel.from_pretrained(tiny("llama"), str(tmp_path / "first/adapter"))
    ids = torch.tensor([documents(1)[0].input_ids])
    with torch.no_grad():
        torch.testing.assert_close(put_on(input_ids=ids).logits, made.model(input_ids=ids).logits, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("family", "target", "head"), [("llama", "q_proj", "score"), ("bert", "query", "classifier")])
def test_a_classifier_s_head_is_trained_with_it(tmp_path: Path, family: str, target: str, head: str) -> None:
    model, examples = classifier(family), labelled()
    start = state(model)
    how, lora = training_config(packing=False, save_steps=99), LORA | {"target_modules": [target]}
    objective = Classification.for_examples(examples, pad=1, labels=3, multi_label=False)
    made = training_run.train(model, examples, how, pad=1, folder=tmp_path, lora=lora, objective=objective)
    assert type(made.model) is type(classifier(family))
    assert moved(start, state(made.model)) == {
        name for name in start if name.startswith(head) or f"{target}.weight" in name
    }


@pytest.mark.parametrize("targets", ["all-linear", r".*\.(q|k)_proj", None])
def test_target_modules_may_be_all_linear_a_pattern_or_peft_s_default(tmp_path: Path, targets: str | None) -> None:
    lora = {key: value for key, value in LORA.items() if key != "target_modules"}
    made = training_run.train(
        tiny("llama"), documents(4), training_config(max_steps=1, warmup_steps=0), pad=1, folder=tmp_path,
        lora=lora | ({"target_modules": targets} if targets else {}),
    )  # fmt: skip
    assert made.adapter is not None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target_modules": ["q_proj", "v_porj"]}, r"target_modules: v_porj matches no module; did you mean v_proj"),
        ({"target_modules": ["c_attn"]}, r"target_modules: c_attn matches no module; the modules are .*q_proj"),
        ({"target_modules": r".*\.attention"}, r"target_modules: .* matches no module"),
        ({"target_modules": "("}, r"target_modules: '\(' is not a regular expression"),
        ({"modules_to_save": ["head"]}, r"modules_to_save: head matches no module"),
        ({"bias": "some"}, r"finetune.lora: "),
    ],
)
def test_names_that_match_no_module_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        adapters.wrap(tiny("llama"), LORA | changed, seed=0)
