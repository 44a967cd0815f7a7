"""An ensemble on rows that no member has seen: who can be a member, fitted weights, and differences with intervals."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from member_models import make_tokenizer, save
from projects import ROOT
from registered_members import ROWS, SPLITS, TRAINED, write_clean

from tuneline import params
from tuneline.commands import ensemble as command
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import ModelError
from tuneline.evaluation.intervals import Interval
from tuneline.fusion.ensembles import ensemble, ensemble_rows, fit_together
from tuneline.fusion.ensembles.ensemble import FITTED, UNIFORM, Plan
from tuneline.fusion.ensembles.ensemble_rows import Member
from tuneline.fusion.ensembles.mixtures import Outputs
from tuneline.params import editing
from tuneline.pipeline import objects
from tuneline.registry import versions


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models, as those of registered versions."""
    root = tmp_path_factory.mktemp("models")
    for name, (kind, seed, size) in {"1": ("plain", 1, 300), "3": ("plain", 3, 260), "6": ("single", 1, 300)}.items():
        save(kind, seed, root / name, make_tokenizer(size))
        (root / name / "dvc.lock").write_text("schema: '2.0'\n")
    shutil.copytree(root / "1", root / "2")
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Params:
    """The params of a project with clean rows in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    editing.set_values(Path("params.yaml"), {"evaluate.batch_size": 3, "evaluate.bootstrap_resamples": 200})
    p = params.load()
    write_clean(p, SPLITS)
    return p


def member(models: Path, number: str, trained: Sequence[int] = TRAINED) -> Member:
    """A version that was trained on these rows."""
    rows = {"id": [f"id-{row}" for row in trained], "cluster": [f"group-{row}" for row in trained]}
    files.write_parquet(models / number / versions.TRAIN_ROWS, pa.table(rows))
    return Member(number, models / number)


def plan(p: params.Params, *members: Member) -> Plan:
    made, problems = ensemble.plan(p, ensemble_rows.clean_form(p), members)
    assert problems == []
    assert made is not None
    return made


def problems(p: params.Params, *members: Member) -> list[str]:
    made, found = ensemble.plan(p, ensemble_rows.clean_form(p), members)
    assert made is None
    return found


def drawn(made: Plan, *quality: float) -> list[Outputs]:
    """What members of each quality could give: three tokens for each row."""
    random = np.random.default_rng(0)
    rows = np.repeat(np.arange(made.rows), 3)
    common = -random.gamma(2, 1, len(rows))
    return [Outputs(rows, (common + good + random.normal(0, 0.5, len(rows)))[:, None], ("",)) for good in quality]


def test_rows_that_a_member_was_trained_on_are_left_out_and_counted(models: Path, project: params.Params) -> None:
    made = plan(project, member(models, "1"), member(models, "2", [*TRAINED, 20, 21]))
    assert (made.test.rows.num_rows, made.test.trained, made.test.near) == (18, 2, 0)
    assert not {"id-20", "id-21"} & set(made.test.rows["id"].to_pylist())
    assert made.validation.rows.num_rows == len(SPLITS["validation"])
    # 26 rows in batches of 3 are 9 forward passes.
    assert command.cost(project, made) == (
        "2 models, one after the other, each on 8 validation rows and 18 test rows (left out: 2 that a member was "
        "trained on): 52 rows in at least 18 forward passes of up to 3 rows (evaluate.batch_size)"
    )


def test_rows_that_are_near_to_what_a_member_was_trained_on_are_left_out(
    models: Path, project: params.Params, tmp_path: Path
) -> None:
    def put(content: bytes, end: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + end
        path = objects.place(tmp_path / ".dvc/cache/files/md5", md5)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    first, second = member(models, "1"), member(models, "2", [*TRAINED, 99])
    without = plan(project, first, second)
    # The training rows of version 2 are nowhere.
    assert without.test.near == 0
    [remark] = without.remarks
    assert remark.startswith(
        "the training rows of version 2 cannot be read, so rows that are near duplicates of them may"
    )
    seen = files.read_parquet(Path(project.paths.clean) / "test").slice(3, 1)
    files.write_parquet(tmp_path / "part.parquet", seen.set_column(0, "id", pa.array(["id-99"])))
    listing = [{"relpath": "train/part-00000.parquet", "md5": put((tmp_path / "part.parquet").read_bytes())}]
    outs = [{"path": project.paths.clean, "hash": "md5", "md5": put(json.dumps(listing).encode(), ".dir")}]
    folder = tmp_path / "2"
    shutil.copytree(second.folder, folder)
    (folder / "dvc.lock").write_text(json.dumps({"stages": {"prepare": {"outs": outs}}}))
    made = plan(project, first, replace(second, folder=folder))
    assert (made.test.trained, made.test.near, made.remarks) == (0, 1, ())
    assert made.test.rows["id"].to_pylist() == [f"id-{row}" for row in SPLITS["test"] if row != 23]
    assert "(left out: 1 near duplicates of such rows)" in command.cost(project, made)


def test_the_better_member_gets_the_weight_and_each_is_compared(models: Path, project: params.Params) -> None:
    made = plan(project, member(models, "1"), member(models, "2"))
    result = ensemble.combine(project, made, drawn(made, 0, -2))
    assert result.fitted is not None
    assert result.fitted.weights[0] > 0.9
    assert list(result.metrics) == ["version 1", "version 2", UNIFORM, FITTED]
    assert [(one.of, one.versus) for one in result.differences] == [
        *((UNIFORM, "version 1"), (UNIFORM, "version 2"), (FITTED, "version 1"), (FITTED, "version 2")),
        (FITTED, UNIFORM),
    ]
    [found] = [one.measures for one in result.differences if (one.of, one.versus) == (FITTED, "version 2")]
    # Answers are not measured: a mixture writes none.
    assert list(found) == ["token_loss", "bits_per_byte"]
    loss = found["token_loss"]
    assert isinstance(loss, Interval)
    assert loss.high is not None
    assert loss.high < 0
    assert loss.groups == len(SPLITS["test"])
    difference = result.metrics[FITTED]["token_loss"] - result.metrics["version 2"]["token_loss"]
    assert loss.difference == pytest.approx(difference)
    said = command.lines(result)
    assert any(line.startswith("fitted − version 2: Token loss -") and line.endswith(": better") for line in said)
    assert json.loads(json.dumps(result.as_dict()))["fitted"]["weights"] == list(result.fitted.weights)


def test_identical_members_make_no_difference(models: Path, project: params.Params) -> None:
    made = plan(project, member(models, "1"), member(models, "2"))
    [outputs] = drawn(made, 0)
    result = ensemble.combine(project, made, [outputs, outputs])
    assert result.fitted is not None
    assert result.fitted.weights == (0.5, 0.5)
    for one in result.differences:
        for found in one.measures.values():
            assert isinstance(found, Interval)
            assert (found.difference, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)
    assert not any(line.endswith((": better", ": worse")) for line in command.lines(result))


def test_a_member_that_adds_nothing_makes_no_difference(models: Path, project: params.Params) -> None:
    made = plan(project, member(models, "1"), member(models, "2"))
    [good] = drawn(made, 0)
    result = ensemble.combine(project, made, [good, replace(good, values=good.values - 5)])
    assert result.fitted is not None
    # Each member keeps a weight above 0.
    assert 0 < result.fitted.weights[1] < 1e-6
    same = [one.measures for one in result.differences if (one.of, one.versus) == (FITTED, "version 1")]
    for found in same[0].values():
        assert isinstance(found, Interval)
        assert (found.difference, found.low, found.high) == (0, 0, 0)
    said = [line for line in command.lines(result) if line.startswith("fitted − version 1")]
    assert not any(line.endswith((": better", ": worse")) for line in said)


def test_without_validation_rows_only_equal_weights_are_measured(models: Path, project: params.Params) -> None:
    made = plan(project, member(models, "1"), member(models, "2", [*TRAINED, *SPLITS["validation"]]))
    assert (made.validation.rows.num_rows, made.validation.trained) == (0, 8)
    result = ensemble.combine(project, made, drawn(made, 0, 0))
    assert (result.fitted, FITTED in result.metrics) == (None, False)
    assert "fitted weights: none, because no validation row is left" in "\n".join(command.lines(result))


def test_an_output_that_is_not_a_number_is_named(models: Path, project: params.Params) -> None:
    made = plan(project, member(models, "1"), member(models, "2"))
    good, bad = drawn(made, 0, 0)
    bad.values[5] = np.nan
    with pytest.raises(ModelError, match="version 2: its output is not a finite number for 1 of 28 rows"):
        ensemble.combine(project, made, [good, bad])


def test_members_of_other_tokens_tasks_and_labels_are_refused(models: Path, project: params.Params) -> None:
    first = member(models, "1")
    [found] = problems(project, first, member(models, "3"))
    assert found.startswith("version 3 has another tokenizer than version 1 (")
    assert found.endswith("; give versions of one base")
    one, other = problems(project, first, member(models, "6"), member(models, "2", range(ROWS)))
    assert one.startswith("version 6 has the mode classification, and the rows of data/clean (task sft) need the mode")
    assert other.startswith("none of the 20 test rows is left: a member was trained on 20 of them or on rows")

    labelled = project.model_copy(update={"task": "classification"})
    form = RecordForm("classification")
    six = models / "6"
    shutil.copytree(six, "7")
    config = files.read_json(six / "config.json")
    files.write_json(Path("7/config.json"), config | {"id2label": {"0": "refund", "1": "delivery", "2": "thanks"}})
    members = [Member("6", six), Member("7", Path("7"))]
    [found] = fit_together.problems(labelled, form, members)
    assert found == "version 7 has other labels than version 6: it lacks 'praise' and also has 'thanks'"
    assert fit_together.problems(labelled, form, members[:1] * 2) == []
    [found, _] = fit_together.problems(labelled, replace(form, multi_label=True), members)
    assert found.startswith("version 6 was trained for single_label_classification, and the rows of the clean data are")


def test_the_same_vocabulary_with_another_chat_template_is_refused(models: Path, project: params.Params) -> None:
    form = RecordForm("messages")
    messages = json.dumps([{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}])
    rows = pa.table({"id": ["a"], "messages": [messages], "tools": [None]})
    members = []
    for number, mark in (("1", "#"), ("2", "=")):
        tokenizer = make_tokenizer()
        tokenizer.chat_template = (
            "{% for one in messages %}{% if one.role == 'assistant' %}" + mark + "{% generation %}{{ one.content }}"
            "{{ eos_token }}{% endgeneration %}{% else %}{{ one.content }}{% endif %}{% endfor %}"
        )
        tokenizer.save_pretrained(number)
        files.write_json(Path(number) / "tuneline.json", {"mode": "chat"})
        members.append(Member(number, Path(number)))
    assert form.conversational
    [found] = fit_together.tokenizer_problems(project, members, rows)
    assert found.startswith("version 2 writes the rows in other tokens than version 1, although the vocabulary is the")
    assert fit_together.tokenizer_problems(project, members[:1] * 2, rows) == []
