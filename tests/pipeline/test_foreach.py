"""Stages with foreach as DVC makes them: over a list, over a group, and over a group that params.yaml lacks."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tuneline.pipeline import graph, repro

DVC = """
vars:
  - data: {augment: {noise: {}, translation: {}}}
stages:
  noise:
    foreach: ${data.augment.noise}
    do:
      cmd: noise ${key}
      params: ["data.augment.noise.${key}"]
      outs: ["${paths.clean}-augmented/${key}"]
  translate:
    foreach: ${data.augment.translation}
    do:
      cmd: translate ${key}
      deps: ["${item.model}"]
      outs: ["${paths.clean}-augmented/${key}"]
  finetune:
    cmd: finetune
    deps: ["${paths.clean}-augmented"]
    outs: [model]
  finetune_twin:
    foreach: ${gate.twins}
    do: {cmd: "finetune ${item}", outs: ["model/${item}"]}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(DVC)


def write(**values: object) -> None:
    YAML().dump({"paths": {"clean": "data/clean"}, "gate": {"twins": [7]}, **values}, Path("params.yaml"))


def test_a_group_that_params_lack_gives_no_stage() -> None:
    write(data={"augment": {}})
    assert graph.stage_names() == ["finetune", "finetune_twin@7"]
    write()
    assert graph.stage_names() == ["finetune", "finetune_twin@7"]


def test_each_key_gives_a_stage_with_key_and_item_in_their_places() -> None:
    write(data={"augment": {"noise": {"swap": {"p": 0.1}}, "translation": {"german": {"model": "models/de"}}}})
    stages = graph.read_stages()
    assert list(stages) == ["noise@swap", "translate@german", "finetune", "finetune_twin@7"]
    assert stages["noise@swap"]["outs"] == ["${paths.clean}-augmented/swap"]
    assert stages["translate@german"] == {
        "cmd": "translate german",
        "deps": ["models/de"],
        "outs": ["${paths.clean}-augmented/german"],
    }
    assert graph.aside_stages() == ["finetune_twin@7"]
    assert graph.variant_stages() == ["noise@swap", "translate@german"]


def test_the_stages_of_another_commit_are_those_of_its_own_params() -> None:
    """A version that was trained with variants is built again with them, whatever today's params say."""
    write(data={"augment": {}})
    values = {"paths": {"clean": "data/clean"}, "gate": {"twins": []}, "data": {"augment": {"noise": {"swap": {}}}}}
    stages = graph.expand(graph.read_yaml(graph.GRAPH), values)
    assert list(stages) == ["noise@swap", "finetune"]
    locked = {
        "noise@swap": {"outs": [{"path": "data/clean-augmented/swap", "hash": "md5", "md5": "1" * 32}]},
        "finetune": {
            "deps": [{"path": "data/clean-augmented", "hash": "md5", "md5": "2" * 32}],
            "outs": [{"path": "model", "hash": "md5", "md5": "3" * 32}],
        },
    }
    recorded = graph.Recorded(stages, locked, values, {}, ("data/clean-augmented/README.md",))
    assert recorded.stage_names() == ["noise@swap", "finetune"]
    assert [one.path for one in recorded.outputs()] == ["data/clean-augmented/swap", "model"]
    assert recorded.inputs() == []


def test_the_folder_that_such_stages_share_is_made_before_dvc_needs_it() -> None:
    write(paths={"clean": "data/own"})
    graph.make_shared_folders()
    assert graph.shared_folders() == ["data/own-augmented"]
    assert Path("data/own-augmented").is_dir()
    assert sorted(path.name for path in Path().iterdir()) == ["data", "dvc.yaml", "params.yaml"]


def test_what_a_stage_has_made_that_params_no_longer_name_is_removed() -> None:
    write(data={"augment": {"noise": {"swap": {"p": 0.1}}}})
    made = [Path(f"data/clean-augmented/{name}") for name in ("swap", "drop")]
    for path in made:
        path.mkdir(parents=True)
    locked = {f"noise@{path.name}": {"outs": [{"path": path.as_posix(), "md5": "0" * 32}]} for path in made}
    locked["finetune_twin@8"] = {"outs": [{"path": "model/8", "md5": "0" * 32}]}
    YAML().dump({"schema": "2.0", "stages": locked}, Path("dvc.lock"))
    said: list[str] = []
    repro.remove_left_outputs(said.append)
    repro.remove_left_outputs(said.append)
    assert said == ["data/clean-augmented/drop: removed, because params.yaml no longer names the stage that made it"]
    assert [path.exists() for path in made] == [True, False]
