import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tuneline import params
from tuneline.errors import ParamsError
from tuneline.params import Params, editing
from tuneline.params.section import Section
from tuneline.params.training import Schedule, Training


@pytest.fixture
def file(tmp_path: Path, params_text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(params_text, "utf-8")
    return path


def problems(file: Path) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        params.load(file)
    return [problem.replace(str(file), "params.yaml") for problem in caught.value.problems]


def line_of(file: Path, start: str) -> int:
    return next(n for n, line in enumerate(file.read_text("utf-8").splitlines(), 1) if line.strip().startswith(start))


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new), "utf-8")


def test_the_project_s_own_file_is_valid(file: Path) -> None:
    assert params.load(file).task == "sft"


def test_a_key_of_a_training_is_typed_once() -> None:
    # Lengths and batches have other bounds in a base that is made here.
    typed_again = set(params.Builtin.__annotations__) & set(Training.__annotations__)
    assert typed_again == {"max_length", "per_device_train_batch_size"}
    assert not typed_again & set(Schedule.__annotations__)
    assert not set(Schedule.__annotations__) & (set(Training.__annotations__) | set(params.Builtin.__annotations__))


def test_the_report_is_in_english_unless_the_file_names_another_language(file: Path) -> None:
    assert params.load(file).report.language == "en"
    text = file.read_text("utf-8").replace("# report:\n#   language: zh", "report:\n  language: zh")
    file.write_text(text, "utf-8")
    assert params.load(file).report.language == "zh"
    change(file, "language: zh", "language: fr")
    line = line_of(file, "language: fr")
    assert problems(file) == [f"params.yaml:{line}: report.language: 'fr': input should be 'en' or 'zh'"]


def test_a_number_in_scientific_notation_is_a_number(file: Path) -> None:
    editing.set_values(file, {"finetune.learning_rate": 0.5})
    change(file, "learning_rate: 0.5", "learning_rate: 3e-4")
    assert params.load(file).finetune.learning_rate == 0.0003


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"samples_per_prompt": 4}, "samples_per_prompt above 1"),
        ({"samples_per_prompt": 4, "top_p": 0.9}, "samples_per_prompt above 1 and top_p"),
        ({"samples_per_prompt": 4, "temperature": 0.7, "top_p": 0.9}, None),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_answers_are_drawn_only_with_a_temperature(file: Path, values: dict[str, float], wrong: str | None) -> None:
    editing.set_values(file, {f"evaluate.{name}": value for name, value in values.items()})
    if wrong is None:
        assert params.load(file).evaluate.answers_per_row == 5
    else:
        [problem] = problems(file)
        assert "evaluate" in problem and wrong in problem


MERGE = {"base.source": "merge", "base.input": "models/merge"}


def test_only_a_merged_model_may_be_trained_for_zero_epochs(file: Path) -> None:
    editing.set_values(file, {"finetune.num_train_epochs": 0.0})
    line = line_of(file, "num_train_epochs: 0.0")
    [problem] = problems(file)
    assert problem.startswith(f"params.yaml:{line}: finetune.num_train_epochs: 0 epochs train nothing")
    editing.set_values(file, MERGE)
    assert params.load(file).finetune.num_train_epochs == 0
    change(file, "  num_train_epochs: 0.0", "  num_train_epochs: 0")
    assert params.load(file).finetune.num_train_epochs == 0
    editing.set_values(file, {"gate.twins": [1]})
    [problem] = problems(file)
    assert "gate.twins: twins differ in the seed of their training" in problem


def test_a_builtin_base_is_trained_and_a_merge_has_a_folder(file: Path) -> None:
    editing.set_values(file, {"base.builtin.num_train_epochs": 0.0, "base.source": "merge"})
    assert "base.builtin.num_train_epochs: 0.0: input should be greater than 0" in problems(file)[0]
    editing.set_values(file, {"base.builtin.num_train_epochs": 1.0})
    [problem] = problems(file)
    assert "base.input: 'data/pretraining' does not fit base.source merge: set it to the folder that" in problem


def test_an_unknown_key_is_named_with_its_line_and_the_key_that_was_meant(file: Path) -> None:
    change(file, "  max_grad_norm:", "  max_grad_nrom:")
    line = line_of(file, "max_grad_nrom")
    assert f"params.yaml:{line}: finetune.max_grad_nrom: unknown key; did you mean max_grad_norm?" in problems(file)


def test_all_problems_are_reported_at_once(file: Path) -> None:
    editing.set_values(
        file, {"task": "chess", "compute.threads": 0, "finetune.save_total_limit": 1, "paths.clean": "/etc"}
    )
    found = problems(file)
    assert len(found) == 4
    assert [problem.split(": ")[1] for problem in found] == [
        "task",
        "paths.clean",
        "compute.threads",
        "finetune.save_total_limit",
    ]
    assert "must be a path inside the project" in found[1]


NEWER = (
    "paths.checks",
    "paths.harness",
    "data.general",
    "data.augment",
    "data.canaries",
    "data.keep_columns",
    "compute.portable",
    "evaluate.samples_per_prompt",
    "evaluate.temperature",
    "evaluate.top_p",
    "evaluate.slices",
    "evaluate.harness",
    "gate.twins",
)
"""Keys that files of an earlier state do not have; without them a project did what their values here say."""


def test_an_older_file_is_told_every_line_that_it_lacks(file: Path) -> None:
    document = YAML(typ="safe").load(file.read_text("utf-8"))
    for key in (*NEWER, "evaluate.probes"):
        section, name = key.split(".")
        text = file.read_text("utf-8")
        block = rf"(\n{section}:\n(?:  .*\n|\n)*?)  {name}:.*\n(?:    .*\n)*"
        changed, found = re.subn(block, r"\1", text)
        assert found == 1, key
        file.write_text(changed, "utf-8")
    told = problems(file)
    assert len(told) == len(NEWER) + 1
    for key in NEWER:
        section, name = key.split(".")
        line = f"{name}: {editing.written(document[section][name])}"
        assert any(f": {key}: missing; add the line `{line}` to the section {section}" in one for one in told), key
    assert any("add the line `probes: null` to the section evaluate" in one for one in told)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "  threads: 2",
            "  # threads: 2",
            "compute.threads: missing; add a line `threads: NUMBER` to the section compute",
        ),
        (
            "  packing: true",
            "",
            "finetune.packing: missing; add a line `packing: true | false` to the section finetune",
        ),
        ("  layout: rows", "", "data.layout: missing; add a line `layout: rows | documents` to the section data"),
        ("sample:\n  lib", "samples:\n  lib", "sample: missing; add the section `sample:` with its keys libraries"),
        ("slices: []", "slices: label", "evaluate.slices: 'label': must be a list; write [label]"),
        ("slices: []", "slices: true", "evaluate.slices: True: must be a list; write its items as [A, B]"),
    ],
)
def test_what_is_missing_or_no_list_is_told_with_what_to_write(file: Path, old: str, new: str, said: str) -> None:
    change(file, old, new)
    assert any(said in problem for problem in problems(file))


def _repeated(section: type[Section], values: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """The keys with a value in the file and a default in code."""
    for name, field in section.model_fields.items():
        value = values.get(field.alias or name)
        if isinstance(value, Mapping) and isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _repeated(field.annotation, value, f"{place}{name}.")
        # A training leaves keys out, as the libraries' arguments do, and null says the same.
        elif name in values and not field.is_required() and not issubclass(section, Schedule):
            yield f"{place}{name}"


def test_a_key_of_the_file_has_no_default_in_code(file: Path) -> None:
    assert list(_repeated(Params, YAML(typ="safe").load(file.read_text("utf-8")))) == []


def test_rows_longer_than_a_builtin_base_sees_are_refused_before_it_is_trained(file: Path) -> None:
    editing.set_values(file, {"finetune.max_length": 512})
    # That of the section finetune is the second.
    line = [n for n, text in enumerate(file.read_text("utf-8").splitlines(), 1) if "max_length:" in text][1]
    wanted = (
        "512 is more than base.builtin.max_length 256, the most tokens that the builtin base sees; "
        "raise base.builtin.max_length too"
    )
    assert problems(file) == [f"params.yaml:{line}: finetune.max_length: {wanted}"]
    editing.set_values(file, {"base.builtin.max_length": 512})
    assert params.load(file).finetune.max_length == 512


def test_a_string_is_not_a_number(file: Path) -> None:
    editing.set_values(file, {"finetune.learning_rate": "fast"})
    line = line_of(file, "learning_rate: fast")
    assert problems(file) == [f"params.yaml:{line}: finetune.learning_rate: 'fast': input should be a valid number"]


def test_a_rule_s_problem_names_the_rule_s_line(file: Path) -> None:
    change(file, "{metric: chrf, direction: higher, versus: base", "{metric: chrf, direction: up, versus: base")
    line = line_of(file, "- {metric: chrf")
    assert problems(file) == [f"params.yaml:{line}: gate.rules.2.direction: 'up': input should be 'lower' or 'higher'"]


@pytest.mark.parametrize(
    ("source", "input", "wanted"),
    [
        ("builtin", "models/mine", "set it to paths.pretraining (data/pretraining)"),
        ("path", "data/pretraining", "set it to the folder of a model"),
        ("hub", "data/pretraining", "set it to a YAML file with the model's id and full revision"),
    ],
)
def test_a_base_s_source_and_input_must_fit(file: Path, source: str, input: str, wanted: str) -> None:
    editing.set_values(file, {"base.source": source, "base.input": input})
    assert problems(file)[0].endswith(f"does not fit base.source {source}: {wanted}")


@pytest.mark.parametrize(
    "path",
    [
        "mlflow/store", "src", "work/x", "Models/base", ".git", "data/../mlflow/store", "/etc", "~/x", "", ".",
        "./models/base", "models//base", "models/base/", "models/\x1b[2Jbase", "models/a\nb",
    ],
)  # fmt: skip
def test_output_paths_outside_the_folders_for_outputs_are_refused(file: Path, path: str) -> None:
    for key in ("sample", "sample_text", "clean", "pretraining", "base", "finetuned", "reports"):
        editing.set_values(file, {f"paths.{key}": path})
    found = problems(file)
    assert len(found) == 7
    reasons = ("must be under data/, models/ or reports/, because", "must be a pl", "must be a path inside the pr")
    assert all(any(reason in problem for reason in reasons) and problem.isprintable() for problem in found)


@pytest.mark.parametrize(
    ("key", "path", "other"),
    [
        ("paths.finetuned", "models/base", "paths.base 'models/base'"),
        ("paths.finetuned", "models", "paths.base 'models/base'"),
        ("paths.finetuned", "models/base/tuned", "paths.base 'models/base'"),
        ("paths.finetuned", "models/BASE", "paths.base 'models/base'"),
        ("paths.reports", "data", "paths.sample 'data/raw/python-docstrings'"),
        ("paths.clean", "data/expectations", "paths.expectations 'data/expectations'"),
        ("paths.clean", "data/Expectations", "paths.expectations 'data/expectations'"),
        ("paths.clean", "data/mixture/mine", "paths.mixture 'data/mixture'"),
        ("paths.sample", "data/raw/mine/part", "data.raw 'data/raw/mine'"),
        ("paths.base", "models/mine", "base.input 'models/mine'"),
        ("paths.base", "models/mine/base", "base.input 'models/mine'"),
    ],
)
def test_outputs_overlap_neither_each_other_nor_what_a_person_has_brought(
    file: Path, key: str, path: str, other: str
) -> None:
    brought = {"data.raw": "data/raw/mine", "base.source": "path", "base.input": "models/mine"}
    editing.set_values(file, brought | {key: path})
    [found] = problems(file)
    assert f"{key}: '{path}' overlaps {other}, and DVC deletes" in found


def test_outputs_may_be_anywhere_in_the_folders_for_outputs(file: Path) -> None:
    editing.set_values(file, {"paths.finetuned": "models/a b/项目", "paths.reports": "reports/monthly"})
    assert params.load(file).paths.reports == "reports/monthly"


def test_a_missing_file_is_an_error_that_names_the_root(tmp_path: Path) -> None:
    found = problems(tmp_path / "params.yaml")
    assert "no such file; run this in the project's root" in found[0]


@pytest.mark.parametrize("text", ["task: [", "- a\n- b\n", ""])
def test_a_file_without_a_mapping_is_refused_in_one_line(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
    assert len(problems(file)) == 1


def test_editing_keeps_comments_and_every_other_line(file: Path) -> None:
    before = file.read_text("utf-8").splitlines()
    editing.set_values(file, {"data.raw": "data/raw/mine", "data.split.group_by": None})
    after = file.read_text("utf-8").splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.split("#")[0].rstrip() for _, new in changed] == ["  raw: data/raw/mine", "    group_by: null"]
    assert all("#" in new for _, new in changed)


def test_editing_a_list_writes_a_line_for_each_item_and_keeps_the_sections_apart(file: Path) -> None:
    rule = {"metric": "chrf", "direction": "higher", "versus": "base", "margin": 0.0}
    editing.set_values(file, {"gate.rules": [rule, rule]})
    text = file.read_text("utf-8")
    line = "    - {metric: chrf, direction: higher, versus: base, margin: 0.0}\n"
    assert f"{line}{line}    # slices: " in text
    assert "\n\nregistry:\n" in text
    assert [editing.written(value) for value in (None, [], {}, "诗", {"a": {"b": 0.5}})] == [
        "null",
        "[]",
        "{}",
        "诗",
        "{a: {b: 0.5}}",
    ]


def test_editing_refuses_a_key_that_is_not_there(file: Path) -> None:
    with pytest.raises(KeyError):
        editing.set_values(file, {"data.rwa": "x"})


def test_editing_a_list_keeps_the_comments_around_it(file: Path) -> None:
    rule = {"metric": "chrf", "direction": "higher", "versus": "base", "margin": 0.0}
    comments = [line for line in file.read_text("utf-8").splitlines() if line.lstrip().startswith("#")]
    assert any("gap:bits_per_byte:language" in line for line in comments)
    line = "    - {metric: chrf, direction: higher, versus: base, margin: 0.0}"
    for count in (1, 4, 6):
        editing.set_values(file, {"gate.rules": [rule] * count})
        lines = file.read_text("utf-8").splitlines()
        assert [one for one in lines if one.lstrip().startswith("#")] == comments
        last = max(place for place, one in enumerate(lines) if one == line)
        assert lines[last + 1].lstrip().startswith("# slices:")
        assert lines.count(line) == count
    file.write_text(file.read_text("utf-8").replace(f"{line}\n    # slices", f"{line}  # ours\n    # slices"), "utf-8")
    editing.set_values(file, {"gate.rules": [rule] * 7})
    lines = file.read_text("utf-8").splitlines()
    last = max(place for place, one in enumerate(lines) if one == line)
    assert lines[last + 1].lstrip().startswith("# slices:")
    assert sum("# ours" in one for one in lines) == 1


def test_problems_between_sections_are_named_at_once(tmp_path: Path) -> None:
    text = Path("params.yaml").read_text("utf-8").replace("task: sft", "task: preference", 1)
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("canaries: 0 ", "canaries: 20 ").replace("slices: [] ", "slices: [nothing] "), "utf-8")
    with pytest.raises(ParamsError) as caught:
        params.load(path)
    found = "\n".join(caught.value.problems)
    for key in ("data.canaries", "evaluate.slices.0", "gate.rules.2.metric"):
        assert key in found, found
