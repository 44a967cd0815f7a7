"""Tasks of lm-evaluation-harness, which is not a dependency: a test with the library runs where it is installed."""

import importlib.util
import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from tuneline import params
from tuneline.errors import ModelError, ParamsError
from tuneline.evaluation.probes import harness, probe_table
from tuneline.evaluation.probes.probe_table import Probed
from tuneline.modeling import models
from tuneline.params import Params, editing
from tuneline.pretraining import pretrain

HAS_LIBRARY = importlib.util.find_spec("lm_eval") is not None
TASK = """task: colours
dataset_path: json
dataset_kwargs:
  data_files: {test: DATA}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: answer
doc_to_choice: ["red", "blue"]
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Params:
    """A project with a task of its own and two models with random weights."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    editing.set_values(Path("params.yaml"), {"evaluate.harness": ["colours"], "compute.threads": 1})
    Path("data/harness").mkdir(parents=True)
    rows = [{"question": f"What colour has thing {row}?", "answer": row % 2} for row in range(12)]
    Path("data/harness/colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    Path("data/harness/colours.yaml").write_text(TASK.replace("DATA", "data/harness/colours.jsonl"), "utf-8")
    tokenizer = pretrain.train_tokenizer([row["question"] for row in rows], 280, 128)
    for seed, folder in enumerate(("models/base", "models/finetuned")):
        set_seed(seed)
        config = LlamaConfig(
            vocab_size=280, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        models.save(LlamaForCausalLM(config), tokenizer, Path(folder))
    return params.load()


@pytest.mark.skipif(HAS_LIBRARY, reason="lm_eval is installed")
def test_without_the_library_a_sentence_says_how_to_get_it(p: Params) -> None:
    with pytest.raises(ModelError, match="colours needs lm-evaluation-harness, which is not installed; install it"):
        harness.run(p)


@pytest.mark.skipif(not HAS_LIBRARY, reason="lm_eval is not installed")
def test_a_task_of_the_project_has_a_score_per_document(p: Params) -> None:
    found, about = harness.run(p)
    assert about == {"harness:colours": {"metric": "acc"}}
    probed = {name: Probed(*one) for name, one in found.items()}
    assert probed["harness:colours"].rows["id"].to_pylist()[:2] == ["colours:0", "colours:1"]
    values = probe_table.summarise(probed, "candidate")
    assert 0.0 <= values["harness:colours"] <= 1.0
    versus = probe_table.compare(probed, {}, "base", p.evaluate)["harness:colours"]
    assert not isinstance(versus, str) and versus.groups == 12


@pytest.mark.skipif(not HAS_LIBRARY, reason="lm_eval is not installed")
def test_a_task_without_its_data_is_one_sentence(p: Params) -> None:
    Path("data/harness/colours.jsonl").unlink()
    with pytest.raises(ModelError, match=r"colours cannot be run, for example because the data of a task is not on"):
        harness.run(p)


@pytest.mark.skipif(not HAS_LIBRARY, reason="lm_eval is not installed")
def test_an_unknown_task_is_named(p: Params) -> None:
    editing.set_values(Path("params.yaml"), {"evaluate.harness": ["shapes"]})
    with pytest.raises(ModelError, match="shapes is not a task of lm-evaluation-harness or of data/harness"):
        harness.run(params.load())


def test_a_task_file_that_calls_python_is_refused(p: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/harness/colours.yaml").write_text(f"{TASK}process_docs: !function utils.process\n", "utf-8")
    if not HAS_LIBRARY:
        monkeypatch.syspath_prepend(str(Path.cwd()))
        Path("lm_eval.py").write_text("", "utf-8")
    with pytest.raises(ModelError, match=r"data/harness/colours.yaml: calls Python \(!function\)"):
        harness.run(p)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("evaluate.probes", None, "evaluate.harness: needs evaluate.probes"),
        ("evaluate.harness", ["../x"], "evaluate.harness"),
    ],
)
def test_params_that_contradict_each_other_are_refused(p: Params, key: str, value: object, message: str) -> None:
    editing.set_values(Path("params.yaml"), {key: value})
    with pytest.raises(ParamsError, match=message):
        params.load()


def test_a_rule_names_a_task_that_is_run(p: Params) -> None:
    text = Path("params.yaml").read_text("utf-8")
    rule = "    - {metric: 'harness:TASK', direction: higher, versus: base, margin: -0.05}\n"
    Path("params.yaml").write_text(text.replace("  rules:", "  rules:", 1), "utf-8")
    head, tail = text.split("\nregistry:")
    for task, is_known in (("colours", True), ("shapes", False)):
        lines = head.splitlines(keepends=True)
        place = next(at for at, line in enumerate(lines) if "metric: bits_per_byte" in line)
        lines.insert(place, rule.replace("TASK", task))
        Path("params.yaml").write_text("".join(lines) + "\nregistry:" + tail, "utf-8")
        if is_known:
            assert params.load().rules[0].metric == "harness:colours"
        else:
            with pytest.raises(ParamsError, match=r"'shapes' is not in evaluate\.harness"):
                params.load()
