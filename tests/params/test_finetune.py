"""The keys of section finetune: its own keys, and every argument of the libraries."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import transformers
from ruamel.yaml import YAML
from transformers import TrainingArguments
from trl.trainer.dpo_config import DPOConfig

from tuneline import params
from tuneline.errors import ParamsError
from tuneline.params import Task, library_arguments
from tuneline.params.finetune import Dpo, Finetune, Lora, unfit
from tuneline.training import training_config
from tuneline.training.training_config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]


def section(text: str, **given: Any) -> str:
    """The project's params.yaml with more keys in its section finetune."""
    lines = "".join(f"  {key}: {value}\n" for key, value in given.items())
    kept = [line for line in text.splitlines(keepends=True) if not any(line.startswith(f"  {key}:") for key in given)]
    return "".join(kept).replace("\nfinetune:\n", f"\nfinetune:\n{lines}")


def load(tmp_path: Path, text: str) -> params.Params:
    (tmp_path / "params.yaml").write_text(text, "utf-8")
    return params.load(tmp_path / "params.yaml")


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        load(tmp_path, text)
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("made", "by"),
    [(Finetune, TrainingArguments), (Lora, peft.LoraConfig), (Dpo, DPOConfig)],
    ids=lambda kind: kind.__name__,
)
def test_every_argument_of_the_library_is_a_key(made: Any, by: Any) -> None:
    inherited = set().union(*(getattr(parent, "__annotations__", {}) for parent in by.__mro__[1:]))
    names = set(by.__dataclass_fields__) - (inherited if made is not Finetune else set())
    assert {name for name in names if not name.startswith("_")} <= set(made.model_fields)


def test_the_schema_is_that_of_the_installed_libraries() -> None:
    site_packages = Path(transformers.__file__).parents[1]
    script = [sys.executable, ROOT / "scripts" / "library_arguments.py", site_packages]
    made = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert made == Path(library_arguments.__file__).read_text("utf-8"), "run scripts/lock.sh, which writes it anew"
    assert {"cosine", "warmup_stable_decay", "reduce_lr_on_plateau"} <= set(library_arguments.SCHEDULERS)
    assert {"adamw_torch", "adafactor", "sgd"} <= set(library_arguments.OPTIMIZERS)


def test_keys_that_are_not_given_are_left_to_the_library(tmp_path: Path, params_text: str) -> None:
    text = section(params_text, adam_beta2=0.95, lr_scheduler_type="cosine_with_min_lr",
                   lr_scheduler_kwargs="{min_lr_rate: 0.1}", gradient_checkpointing="true",
                   neftune_noise_alpha=5.0,
                   lora="{r: 8, lora_alpha: 16, lora_dropout: 0.1, target_modules: [q_proj], use_rslora: true}",
                   )  # fmt: skip
    finetune = load(tmp_path, text).finetune
    config = TrainingConfig.from_params(finetune)
    made = training_config.arguments(config, tmp_path, evaluate=True)
    assert (made.adam_beta2, made.lr_scheduler_kwargs) == (0.95, {"min_lr_rate": 0.1})
    assert (made.activation_checkpointing, config.neftune_noise_alpha) == (True, 5.0)
    assert made.adam_beta1 == TrainingArguments("somewhere").adam_beta1
    assert finetune.lora is not None
    assert finetune.lora.model_dump() == {
        "r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["q_proj"], "use_rslora": True,
    }  # fmt: skip
    assert "bf16" not in finetune.model_dump()


def test_all_problems_of_the_section_are_reported_at_once(tmp_path: Path, params_text: str) -> None:
    text = section(params_text, optim="admaw_torch", lr_scheduler_type="cosin", adam_beta3=0.9, output_dir="there",
                   adam_beta2="fast", neftune_noise_alfa=5.0, eval_strategy="epoch", fsdp="shard_grad_op",
                   fsdp_config="{fsdp_version: 2}",
                   lora="{r: 8, lora_alpha: 16, lora_dropout: 0.0, target_module: [q_proj], use_qalora: true}",
                   l1_decay=-0.1, layerwise_lr_decay=1.1, dropout="{attention_dropout: 1.0}", freeze="{layers: [-1]}",
                   dpo="{beta: 0.1, loss_type: sigmod, sync_ref_model: true}")  # fmt: skip
    found = "\n".join(problems(tmp_path, text))
    for told in (
        "finetune.optim: 'admaw_torch': is unknown; did you mean adamw_torch?",
        "finetune.lr_scheduler_type: 'cosin': is unknown; did you mean cosine?",
        "finetune.adam_beta3: unknown key; did you mean adam_beta",
        "finetune.output_dir: 'there': is decided by this pipeline: checkpoints are in work/; remove it",
        "finetune.adam_beta2: 'fast': input should be a valid number",
        "finetune.neftune_noise_alfa: unknown key; did you mean neftune_noise_alpha?",
        "finetune.eval_strategy: 'epoch': is decided by this pipeline: set logging_steps, eval_steps",
        "finetune.fsdp: 'shard_grad_op': input should be 'full_shard'",
        "finetune.fsdp_config: is decided by this pipeline",
        "finetune.lora.target_module: unknown key; did you mean target_modules?",
        "finetune.lora.use_qalora: True: gives an adapter that cannot be merged",
        "finetune.l1_decay: -0.1: input should be greater than or equal to 0",
        "finetune.layerwise_lr_decay: 1.1: input should be less than or equal to 1",
        "finetune.dropout.attention_dropout: 1.0: input should be less than 1",
        "finetune.freeze.layers.0: -1: input should be greater than or equal to 0",
        "finetune.dpo.loss_type: 'sigmod': is unknown; did you mean sigmoid?",
        "finetune.dpo.sync_ref_model: True: would give other weights after a kill",
    ):
        assert told in found, f"{told}\n\nin\n{found}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"adam_learning_rate": 0.1}, "adam_learning_rate would do nothing under optim adamw_torch; remove it"),
        ({"optim": "muon", "adam_beta2": 0.9}, "adam_beta2 would do nothing under optim muon; remove it"),
        ({"freeze": "{}"}, "freezes nothing; name embeddings, layers or modules, or remove it"),
    ],
)
def test_a_key_that_would_do_nothing_is_refused(
    tmp_path: Path, params_text: str, given: dict[str, Any], told: str
) -> None:
    assert told in problems(tmp_path, section(params_text, **given))[0]


@pytest.mark.parametrize(
    ("task", "given", "keys"),
    [
        ("sft", {}, []),
        ("sft", {"class_weights": "balanced"}, ["class_weights"]),
        ("regression", {"label_smoothing_factor": 0.1}, ["label_smoothing_factor"]),
        ("preference", {"label_smoothing_factor": 0.1, "dpo": "null"}, ["dpo", "label_smoothing_factor"]),
        ("classification", {"label_smoothing_factor": 0.1, "class_weights": "balanced"}, []),
        ("sft", {"freeze": "{layers: [0]}", "lora": "{r: 1, lora_alpha: 1, lora_dropout: 0.0}"}, ["freeze"]),
        ("sft", {"dropout": "{x: 0.1}", "lora": "{r: 1, lora_alpha: 1, lora_dropout: 0.0}"}, []),
        ("preference", {"dropout": "{x: 0.1}"}, ["dropout"]),
        ("preference", {"dropout": "{x: 0.1}", "dpo": "{beta: 0.1, loss_type: sft, disable_dropout: false}"}, []),
        (
            "preference",
            {
                "dropout": "{x: 0.1}",
                "dpo": "{beta: 0.1, loss_type: sft, disable_dropout: false}",
                "lora": "{r: 1, lora_alpha: 1, lora_dropout: 0.0}",
            },
            ["dropout"],
        ),
    ],
)
def test_keys_without_a_meaning_for_the_task_are_named(
    params_text: str, task: Task, given: dict[str, Any], keys: list[str]
) -> None:
    finetune = Finetune.model_validate(YAML(typ="safe", pure=True).load(section(params_text, **given))["finetune"])
    assert [key for key, _ in unfit(task, finetune)] == keys
