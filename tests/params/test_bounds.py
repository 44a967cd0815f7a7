"""Numbers that a stage cannot compute with are errors that name their key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tuneline import params
from tuneline.errors import ParamsError
from tuneline.params import yaml_file


def numbers(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all numbers below a node."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from numbers(value, (*place, key))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield place


def with_numbers(text: str, file: Path, spelt: str, of: tuple[type, ...]) -> list[str]:
    """Put a number in place of all of some types; the keys that were changed."""
    yaml = YAML(typ="rt")
    document = yaml.load(text)
    # Of these the recipe gives no number.
    document["finetune"] |= {"max_steps": 1, "dataloader_num_workers": 1, "adam_beta1": 0.9, "eval_delay": 1.0}
    document["finetune"]["lora"] = {"r": 1, "lora_alpha": 1, "lora_dropout": 0.1, "runtime_config": None}
    del document["finetune"]["lora"]["runtime_config"]
    document["data"] |= {"mixture": {"pretraining": {"weight": 1.0, "max_examples": 1}}}
    changed = []
    for place in numbers(document):
        node = document
        for key in place[:-1]:
            node = node[key]
        if type(node[place[-1]]).__name__.replace("Scalar", "").lower().startswith(tuple(one.__name__ for one in of)):
            node[place[-1]] = "INSERTED"
            changed.append(".".join(map(str, place)))
    with file.open("w", encoding="utf-8") as out:
        yaml.dump(document, out)
    file.write_text(file.read_text("utf-8").replace("INSERTED", spelt), "utf-8")
    return changed


@pytest.mark.parametrize(
    ("spelt", "of"),
    [
        (".nan", (int, float)),
        (".inf", (int, float)),
        ("1e400", (int, float)),
        ("true", (int, float)),
        ("'1'", (int, float)),
        ("1" + "0" * 400, (int, float)),
        ("1" + "0" * 30, (int,)),
        ("-1" + "0" * 30, (int,)),
        ("0x" + "f" * 20, (int,)),
        ("1.5", (int,)),
    ],
)
def test_an_impossible_number_is_an_error_for_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str, spelt: str, of: tuple[type, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(yaml_file, "_NAMED", 1000)
    changed = with_numbers(params_text, Path("params.yaml"), spelt, of)
    assert len(changed) > 20
    with pytest.raises(ParamsError) as caught:
        params.load()
    named = [problem.split(": ")[1] for problem in caught.value.problems]
    # Shares and whole numbers of steps are one type.
    assert [key for key in changed if key not in named] == []
    assert all(len(problem) < 600 for problem in caught.value.problems)
