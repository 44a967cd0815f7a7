"""Tasks of lm-evaluation-harness, which is not a dependency: a test with the library runs where it is installed."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from tuneline import params
from tuneline.errors import ModelError, ParamsError
from tuneline.evaluation.probes import harness, harness_tasks, probe_table
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


HOSTILE = {
    "tag": (f"{TASK}process_docs: !function utils.process\n", r"colours.yaml:12: calls Python \(!function\)"),
    "tag behind an abbreviation": (
        f"%TAG !f! !func\n---\n{TASK}process_docs: !f!tion utils.process\n",
        r"colours.yaml:14: calls Python \(!function\)",
    ),
    "verbatim tag": (f"{TASK}process_docs: !<!function> utils.process\n", r"calls Python \(!function\)"),
    "object of Python": (f"{TASK}process_docs: !!python/name:os.system\n", r"calls Python .*python/name:os\.system"),
    "class": (f"{TASK}class: utils.Task\n", "colours.yaml: class: is code"),
    "code of a model": (f"{TASK}unsafe_code: true\n", "colours.yaml: unsafe_code: is code"),
    "metric of a file": (TASK.replace("metric: acc", "metric: ./acc.py, hf_evaluate: true"), "hf_evaluate of ./acc.py"),
    "pickled data": (TASK.replace("path: json", "path: pandas"), "dataset_path: 'pandas' is neither json, csv"),
    "folder as data": (TASK.replace("path: json", "path: data/harness"), "dataset_path: 'data/harness' is neither"),
    "included file": ("include: inner/_base.txt\ntask: colours\n", r"_base.txt:1: calls Python \(!function\)"),
    "included outside": ("include: ../base.yaml\ntask: colours\n", "data/base.yaml: lies outside of data/harness"),
    "included by its path": ("include: /etc/hostname\ntask: colours\n", "/etc/hostname: lies outside of"),
    "included twice": ("include: colours.yaml\ntask: colours\n", "colours.yaml: includes itself"),
    "included number": ("include: [3]\ntask: colours\n", "include: 3 is not the name of a file"),
    "included nothing": (
        "include: none.yaml\ntask: colours\n",
        "none.yaml: no such file, but colours.yaml includes it",
    ),
    "task in a group": ("group: all\ntask:\n- {task: x, class: y}\n", "colours.yaml: class: is code"),
    "not a mapping": ("- colours\n", "colours.yaml: must be a mapping"),
    "not YAML": ("task: [\n", "colours.yaml: cannot be read as YAML"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_task_file_with_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("data/harness")
    (folder / "inner").mkdir(parents=True)
    text, message = HOSTILE[kind]
    (folder / "colours.yaml").write_text(text, "utf-8")
    (folder / "inner/_base.txt").write_text("doc_to_text: !function utils.text\n", "utf-8")
    Path("data/base.yaml").write_text("task: other\n", "utf-8")
    with pytest.raises(ModelError, match=message):
        harness_tasks.load(folder)


def test_a_link_to_a_file_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "other.yaml").write_text("task: other\n", "utf-8")
    (tmp_path / "harness/other.yaml").symlink_to(tmp_path / "other.yaml")
    with pytest.raises(ModelError, match="lies outside of"):
        harness_tasks.load(tmp_path / "harness")


def test_the_library_reads_the_values_that_were_checked(tmp_path: Path) -> None:
    folder = tmp_path / "harness"
    (folder / "inner").mkdir(parents=True)
    (folder / "colours.yaml").write_text("include: inner/base.txt\ntask: colours\n", "utf-8")
    # The library reads YAML 1.1: yes is a boolean, and a number needs a point.
    base = {"task": "base", "task_list": [1], "doc_to_choice": ["yes", "1e-3", "é😀"], "metadata": {"a": 1e-7}}
    (folder / "inner/base.txt").write_text(json.dumps(base, ensure_ascii=False), "utf-8")
    harness_tasks.write(harness_tasks.load(folder), tmp_path / "copy")
    written = yaml.safe_load((tmp_path / "copy/colours.yaml").read_bytes())
    assert written == {"task": "colours", "doc_to_choice": base["doc_to_choice"], "metadata": {"a": 1e-7}}


@pytest.mark.skipif(not HAS_LIBRARY, reason="lm_eval is not installed")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"{{question}}"', '"{{question.__class__.__mro__}}"'), "SecurityError"),
        (("metric: acc", "metric: ./acc.py"), r"colours.yaml: metric_list: './acc.py' is not one of"),
    ],
)
def test_what_a_task_file_asks_of_the_library_is_confined(p: Params, change: tuple[str, str], message: str) -> None:
    path = Path("data/harness/colours.yaml")
    path.write_text(path.read_text("utf-8").replace(*change), "utf-8")
    with pytest.raises(ModelError, match=message):
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
