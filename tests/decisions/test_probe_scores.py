"""Rules about probes, decided for registered versions."""

from pathlib import Path

import pyarrow as pa
import pytest
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.decisions import probe_scores
from tuneline.decisions.probe_scores import Version
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.probes import general_text, memorised_rows, probe_table
from tuneline.evaluation.probes.probe_table import COPIED, GENERAL, MEMORISED, Probed
from tuneline.evaluation.score_table import ModelToScore
from tuneline.modeling import models
from tuneline.params import Params
from tuneline.pretraining import pretrain

TEXTS = [f"The general text of number {row} is here." for row in range(24)]
CHAMPION = "{metric: general_bits_per_byte, direction: lower, versus: champion, margin: -0.05}"
STRENGTH = "{metric: extraction_strength, direction: lower, versus: value, value: 0.9, margin: 0.0}"
COPIES = "{metric: copied_share, direction: lower, versus: value, value: 0.9, margin: 0.0}"


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Params:
    """A project with rules about probes."""
    monkeypatch.chdir(tmp_path)
    head, tail = params_text.split("  rules:", 1)
    rules = "".join(f"    - {rule}\n" for rule in (CHAMPION, STRENGTH, COPIES))
    Path("params.yaml").write_text(f"{head}  rules:\n{rules}\nregistry:{tail.split('registry:')[1]}", "utf-8")
    return params.load()


def keys(name: str, count: int = 24) -> dict[str, list[str]]:
    return {key: [f"{name} {row}" for row in range(count)] for key in ("id", "source", "cluster")}


def general(nll: float) -> Probed:
    """General rows on which the candidate needs this much for each row."""
    evaluate = params.load().evaluate
    rows = general_text.draw_rows(pa.table(keys("text") | {"text": TEXTS}), 24, evaluate, RecordForm("text"))
    return Probed(rows, {"candidate": pa.table({"tokens": [9] * 24, "nll": [nll] * 24})})


def trained(*names: str) -> pa.Table:
    return pa.table({"id": list(names), "cluster": [f"of {name}" for name in names]})


@pytest.fixture
def version(p: Params) -> Version:
    """A model with random weights."""
    set_seed(0)
    tokenizer = pretrain.train_tokenizer(TEXTS, 280, 128)
    config = LlamaConfig(
        vocab_size=280, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    models.save(LlamaForCausalLM(config), tokenizer, Path("version"))
    return Version(Path("version"), files.sha256_path(Path("version")), trained("text 3"))


def test_a_champion_that_is_the_candidate_differs_by_nothing(p: Params) -> None:
    found = probe_scores.versus_champion(p, {GENERAL: general(5.0)}, None)
    assert found == {"general_bits_per_byte": Interval(0.0, 0.0, 0.0, 24)}


def test_what_was_not_measured_is_told_with_the_reason(p: Params) -> None:
    found = probe_scores.versus_champion(p, {GENERAL: "there is no general text"}, None)
    assert found == {"general_bits_per_byte": "there is no general text"}
    earlier = probe_scores.compare(p, probe_scores.of_version(p, {}, Version(Path("none"), "0", trained())))
    assert set(earlier["value"]) == {
        *probe_table.PROBES[GENERAL].metrics,
        *probe_table.PROBES[MEMORISED].metrics,
        "copied_share",
    }
    assert set(earlier["value"].values()) == {"the last evaluation has not measured it; run: make run"}


def test_a_version_that_was_not_trained_on_todays_rows_cannot_show_that_it_memorised_them(
    p: Params, version: Version
) -> None:
    pairs = pa.table(keys("train") | {"prompt": ["a"] * 24, "completion": TEXTS})
    rows = memorised_rows.draw_rows(pairs, pairs, 20, p.evaluate, RecordForm("prompt-completion"))
    today = {MEMORISED: Probed(rows, {}), COPIED: Probed(rows, {})}
    found = probe_scores.of_version(p, today, version)
    assert found[MEMORISED] == "the version was not trained on any of today's sampled training rows"
    assert str(found[COPIED]).startswith("only the stage evaluate searches the training rows")


@pytest.mark.slow
def test_another_champion_is_measured_on_the_general_rows_that_it_has_not_seen(p: Params, version: Version) -> None:
    """In a process of its own, and once: a file keeps the scores."""
    one, found = general(5.0), None
    for _ in range(2):
        found = probe_scores.versus_champion(p, {GENERAL: one}, version)["general_bits_per_byte"]
        assert isinstance(found, Interval)
        assert found.groups == 23
        assert len(list(Path("work/scores").glob("*.parquet"))) == 1
    scored = probe_table.measure(ModelToScore(version.folder, "here", 256), {GENERAL: one.rows}, p.evaluate)
    kept = [place for place in range(24) if place != 3]
    here = Probed(one.rows.take(kept), {"candidate": one.scores["candidate"].take(kept)})
    here.scores["champion"] = scored[GENERAL].take(kept)
    same = probe_table.compare({GENERAL: here}, {}, "champion", p.evaluate)["general_bits_per_byte"]
    assert isinstance(same, Interval)
    assert isinstance(found, Interval)
    assert found.difference == pytest.approx(same.difference)
