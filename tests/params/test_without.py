"""`report.without`: trainings without some rows, which cost nothing while the section is left out."""

from pathlib import Path

import pytest

from tuneline import params
from tuneline.errors import ParamsError
from tuneline.params import editing
from tuneline.pipeline import graph

ROOT = Path(__file__).resolve().parents[2]
TRAINED = {
    "data.mixture": {"faq": {"weight": 1.0}, "chats": {"weight": 0.5}},
    "data.augment": {"noise": {"word_swap": {"weight": 0.5, "p": 0.1}, "word_dropout": {"weight": 1.0, "p": 0.1}}},
}


def write(tmp_path: Path, text: str, without: str, *, trained: bool = True) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(f"{text}\nreport:\n  without: {without}\n")
    if trained:
        editing.set_values(path, TRAINED)
    return path


def test_a_comparison_leaves_out_sets_and_variants_and_has_places_of_its_own(tmp_path: Path, params_text: str) -> None:
    p = params.load(write(tmp_path, params_text, "{plain: [mixture, augment], no_faq: [faq, word_swap]}"))
    assert p.left_out("without/plain") == {"faq", "chats", "word_swap", "word_dropout"}
    assert p.left_out("without/no_faq") == {"faq", "word_swap"}
    assert p.left_out("7") == p.left_out(None) == frozenset()
    aside = p.aside("without/no_faq")
    assert (aside.paths.finetuned, aside.paths.reports) == ("models/finetuned-without/no_faq", "reports/without/no_faq")
    assert [*aside.data.mixture] == ["chats"]
    assert [one.name for one in aside.data.augment.variants()] == ["word_dropout"]
    assert aside.model_copy(update={"data": p.data, "paths": p.paths}) == p
    assert p.aside("7") == p.of_twin(7)
    for item in ("plain", "without/other", "without/"):
        with pytest.raises(ParamsError, match="is neither the seed of a twin nor a comparison"):
            p.aside(item)


def test_a_file_without_the_section_makes_no_stage(tmp_path: Path, params_text: str) -> None:
    assert params.load(_written(tmp_path, params_text)).report.without == {}
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    stages = graph.read_stages(tmp_path / "dvc.yaml")
    assert not [name for name in stages if "_without" in name]
    write(tmp_path, params_text, "{plain: [mixture]}")
    stages = graph.read_stages(tmp_path / "dvc.yaml")
    assert "finetune_without@plain" in stages
    assert stages["evaluate_without@plain"]["outs"] == ["${paths.reports}/without/plain/scores.parquet"]
    assert "${paths.finetuned}-without/plain" in stages["evaluate_without@plain"]["deps"]


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("{plain: [fap]}", r"report\.without\.plain\.0: .*'fap' is not trained, .*did you mean faq\?"),
        ("{plain: [other]}", r"known here: mixture, faq, chats, augment, word_dropout, word_swap"),
        ("{plain: []}", r"report\.without\.plain: .*at least 1"),
        ("{plain: [faq, faq]}", r"report\.without\.plain: .*faq: name each once"),
        ('{"a b": [faq]}', r"report\.without\.a b"),
        ('{"../x": [faq]}', r"report\.without"),
        ("[faq]", r"report\.without: .*mapping|dictionary"),
        ("{plain: faq}", r"report\.without\.plain: 'faq': must be a list; write \[faq\]"),
    ],
)
def test_a_comparison_that_could_not_be_made_is_refused(
    tmp_path: Path, params_text: str, without: str, said: str
) -> None:
    with pytest.raises(ParamsError, match=said):
        params.load(write(tmp_path, params_text, without))


def test_a_comparison_needs_something_to_leave_out(tmp_path: Path, params_text: str) -> None:
    with pytest.raises(ParamsError, match=r"'mixture' is not trained, .*are empty; remove the comparison"):
        params.load(write(tmp_path, params_text, "{plain: [mixture]}", trained=False))


def test_a_merged_model_that_is_not_trained_has_no_comparison(tmp_path: Path, params_text: str) -> None:
    path = write(tmp_path, params_text, "{plain: [mixture]}")
    values = {"base.source": "merge", "base.input": "models/merge", "finetune.num_train_epochs": 0.0}
    editing.set_values(path, values)
    with pytest.raises(ParamsError, match=r"report\.without: .*num_train_epochs is 0; remove it"):
        params.load(path)
