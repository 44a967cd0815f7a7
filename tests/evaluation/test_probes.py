"""Probes: what fine-tuning has made a model forget and memorise."""

import copy
import math

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.data.records import canaries
from tuneline.data.records.record_form import RecordForm, RecordType
from tuneline.encoding import encode
from tuneline.encoding.examples import PLAIN
from tuneline.evaluation import likelihood
from tuneline.evaluation.generation import LoadedModel
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.probes import (
    canary_exposure,
    copied_text,
    drawn_rows,
    general_text,
    memorised_rows,
    probe_rows,
    probe_table,
)
from tuneline.evaluation.probes.probe_table import Probed
from tuneline.params.evaluate import FEWEST_GROUPS

EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=200)
PAIRS = RecordForm("prompt-completion")


def pairs(count: int, what: str = "row") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"id": f"{what}{row}", "source": f"a:{row}", "cluster": f"{what}{row // 2}"}
            | {"prompt": f"def f{row}(x):\n", "completion": f"Return the area {row}."}
            for row in range(count)
        ]
    )


@pytest.mark.parametrize(
    ("hits", "strength", "exact"),
    [
        ([True, True, True, True], 1.0, 1.0),
        ([True, False, True, True], 0.5, 0.75),
        ([True, True, True, False], 0.0, 0.75),
        ([False], 0.0, 0.0),
        ([True], 1.0, 1.0),
    ],
)
def test_extraction_strength_is_the_longest_end_without_a_miss(hits: list[bool], strength: float, exact: float) -> None:
    found = np.array(hits, float)
    assert memorised_rows.extraction_strength(found) == pytest.approx(strength)
    assert memorised_rows.exact_memorization(found) == pytest.approx(exact)


def test_a_model_whose_output_is_not_a_number_is_not_measured(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """It hits no token and ranks no canary high, so it would pass rules on memorisation."""
    broken = copy.deepcopy(model)
    for parameter in broken.parameters():
        parameter.data.fill_(math.nan)
    loaded = LoadedModel(broken, tokenizer, PLAIN, 64)
    rows = {
        "memorised": memorised_rows.draw_rows(pairs(12), pairs(12, "test"), 12, EVALUATE, PAIRS),
        "canaries": canary_exposure.make_rows(canaries.draw(12, "a"), 20, EVALUATE, PAIRS),
    }
    for name, of_probe in rows.items():
        probe = probe_table.PROBES[name]
        assert probe.measure
        scores = {"candidate": probe.measure(loaded, of_probe, EVALUATE, "candidate")}
        found = probe_table.compare({name: Probed(of_probe, scores)}, {}, None, EVALUATE)
        assert all(isinstance(one, str) for one in found.values()), found


def test_the_gap_compares_training_rows_with_held_out_rows() -> None:
    rows = pa.table({"trained": [True, True, True, False, False]})
    model = pa.table({"strength": [1.0, 0.5, math.nan, 0.25, 0.25], "exact": [1.0, 1.0, math.nan, 0.5, 0.75]})
    found = probe_table.comparison.summarise_by(memorised_rows.statistics, rows, model)
    assert found == {
        "extraction_strength": 0.75,
        "extraction_strength_gap": 0.5,
        "exact_memorization": 1.0,
        "exact_memorization_gap": 0.375,
    }


def test_recalled_tokens_are_those_that_greedy_search_writes(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """With windows and without, token by token."""
    examples = [one for [one] in encode.encode_records(tokenizer, pairs(5).to_pylist())]
    for length in (64, 9):
        found = likelihood.recall(model, examples, max_length=length, batch_size=2)
        assert [len(hits) for hits in found] == [sum(label >= 0 for label in one.labels) for one in examples]
    import torch

    whole = likelihood.recall(model, examples, max_length=64, batch_size=2)
    for example, hits in zip(examples, whole, strict=True):
        logits = model(torch.tensor([example.input_ids])).logits[0]
        wanted = [int(logits[place - 1].argmax()) == label for place, label in enumerate(example.labels) if label >= 0]
        assert hits.tolist() == [float(hit) for hit in wanted]


def test_as_many_training_rows_are_drawn_as_test_rows() -> None:
    rows = memorised_rows.draw_rows(pairs(30), pairs(8, "test"), 10, EVALUATE, PAIRS)
    assert rows["trained"].to_pylist() == [True] * 8 + [False] * 8
    assert rows["reference"][0].as_py().startswith("Return the area")


def test_a_text_is_measured_in_full_as_the_answer_to_nothing(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    split = pa.table({"id": ["a"], "source": ["a:1"], "cluster": ["a"], "text": ["Open a file. 面积"]})
    rows = general_text.draw_rows(split, 9, EVALUATE, RecordForm("text"))
    assert rows["bytes"].to_pylist() == [19]
    loaded = LoadedModel(model, tokenizer, PLAIN, 64)
    found = general_text.measure(loaded, rows, EVALUATE, "candidate")
    [[example]] = encode.encode_records(tokenizer, [{"text": "Open a file. 面积"}])
    [score] = likelihood.score(model, [example], max_length=64, batch_size=1)
    assert (found["nll"][0].as_py(), found["tokens"][0].as_py()) == (pytest.approx(score.nll), score.tokens)


def test_exposure_is_the_rank_among_references() -> None:
    references = np.arange(1.0, 16.0)
    found = canary_exposure.exposure(np.array([0.0, 3.5, 3.0, 20.0]), references)
    assert found.tolist() == [4.0, 2.0, 2.0, 0.0]


def test_an_unseen_canary_has_an_exposure_of_about_1_44_bits() -> None:
    random = np.random.default_rng(0)
    found = canary_exposure.exposure(random.normal(size=20_000), random.normal(size=5_000))
    assert found.mean() == pytest.approx(1 / math.log(2), abs=0.05)


@pytest.mark.parametrize("record_type", ["text", "prompt-completion", "messages"])
def test_canaries_are_drawn_by_the_seed_and_their_references_are_others(record_type: RecordType) -> None:
    planted = canaries.draw(12, "canaries 0")
    assert planted[:5] == canaries.draw(5, "canaries 0") != canaries.draw(5, "canaries 1")
    form = RecordForm(record_type)
    rows = canary_exposure.make_rows(planted, 40, EVALUATE, form)
    assert rows["planted"].to_pylist() == [True] * 12 + [False] * 40
    assert len(set(rows["id"].to_pylist())) == 52
    assert all(planted[0] in text for text in [rows["reference"][0].as_py()])


def test_copies_are_found_with_their_longest_span_and_its_row() -> None:
    trained = [
        ("a:1", "Return the number of rows in the table that match the filter, or zero."),
        ("a:2", "return the number of ROWS in the table which match"),
        ("a:3", "返回与给定条件完全匹配的所有行的数量"),
    ]
    answers = [
        "It will return the number of rows, in the table that match the name.",
        "Nothing of this is anywhere else in the training rows of this set.",
        "函数返回与给定条件完全匹配的所有行的名称",
        "",
        "Return the number of rows in the",
    ]
    found = copied_text.find_copies(answers, trained)
    first = found[0]
    assert (first.longest, first.source) == (11, "a:1")
    assert first.text == "return the number of rows, in the table that match the"
    assert (first.units, int(first.copied.sum())) == (14, 11)
    assert [one.longest for one in found[1:]] == [0, 16, 0, 0]
    assert found[2].text == "返回与给定条件完全匹配的所有行的"
    values = probe_table.comparison.summarise_by(copied_text.statistics, pa.table({}), copied_text.score_table(found))
    assert values["copied_share"] == pytest.approx(27 / sum(one.units for one in found))


def test_marks_are_part_of_words_in_copied_text() -> None:
    """In pieces between the vowel signs, this answer of five words would have more than eight units."""
    answers = ["यह हिन्दी में लिखा है", "यह एक दो तीन चार पाँच छह सात", "cafe\u0301 e\u0301te\u0301", "ภาษาไทยนี้"]
    found = copied_text.find_copies(answers, [("hi.csv:2", " ".join(answers[:2])), ("th.csv:2", "ภาษาไทยนี้")])
    assert [one.units for one in found] == [5, 8, 2, 10]
    assert [int(one.copied.sum()) for one in found] == [0, 8, 0, 10]
    assert found[1].text == answers[1]


def test_probes_parquet_gives_back_what_was_written() -> None:
    rows = general_text.draw_rows(pairs(12), 12, EVALUATE, PAIRS)
    general = Probed(rows, {"candidate": pa.table({"tokens": [3] * 12, "nll": [1.5] * 12})})
    copied = Probed(
        rows.select(["id", "source", "cluster"]).slice(0, 2),
        {"candidate": copied_text.score_table(copied_text.find_copies(["a", "b"], []))},
    )
    found = probe_table.from_table(probe_table.to_table({"general": general, "copied": copied}))
    assert list(found) == ["general", "copied"]
    assert found["general"].rows.equals(general.rows)
    assert found["general"].scores["candidate"].equals(general.scores["candidate"])
    assert probe_table.summarise(found, "candidate")["copied_share"] == 0.0
    assert probe_table.from_table(probe_table.to_table({})) == {}


def test_an_absent_probe_says_why() -> None:
    found = probe_table.compare({}, {"canaries": "no canary was planted"}, "base", EVALUATE)
    assert found == {"canary_exposure": "no canary was planted"}


def test_measures_have_intervals_over_clusters() -> None:
    rows = general_text.draw_rows(pairs(24), 24, EVALUATE, PAIRS)
    scores = {"candidate": pa.table({"nll": [2.0] * 24}), "base": pa.table({"nll": [1.0] * 24})}
    found = probe_table.compare({"general": Probed(rows, scores)}, {}, "base", EVALUATE)["general_bits_per_byte"]
    assert isinstance(found, Interval)
    assert found.low is not None and 0 < found.low <= found.difference
    assert found.groups == 12


def long_rows(count: int, characters: int) -> pa.Table:
    rows = [{"id": str(row), "source": f"a:{row}", "cluster": str(row), "prompt": "a"} for row in range(count)]
    return pa.Table.from_pylist([row | {"completion": f"{row} " + "é" * characters} for row in rows])


def test_probes_read_fewer_rows_where_the_rows_are_long() -> None:
    """The rows are the first of the same draw, so that more rows are never other rows."""
    long, few = long_rows(40, drawn_rows.MOST_READ // 20), long_rows(40, 10)
    read = general_text.draw_rows(long, 30, EVALUATE, PAIRS)
    assert read.num_rows == 19
    assert set(read["id"].to_pylist()) < set(general_text.draw_rows(few, 30, EVALUATE, PAIRS)["id"].to_pylist())
    for train, test in ((long, few), (few, long)):
        both = memorised_rows.draw_rows(train, test, 30, EVALUATE, PAIRS)
        assert both["trained"].to_pylist() == [True] * 19 + [False] * 19
    books = long_rows(12, drawn_rows.MOST_READ)
    assert general_text.draw_rows(books, 30, EVALUATE, PAIRS).num_rows == FEWEST_GROUPS
    assert probe_rows.draw_searched(long, count=30, seed=1).num_rows == 30
    assert drawn_rows.count_within([drawn_rows.MOST_SEARCHED // 15] * 40, drawn_rows.MOST_SEARCHED) == 15


def test_characters_are_those_that_the_model_reads_or_writes() -> None:
    pair = pa.table({"prompt": ["abc"], "completion": ["né"], "id": ["long id"]})
    assert drawn_rows.characters(pair).tolist() == [5]
    assert drawn_rows.characters(pair, only_written=True).tolist() == [2]
    chat = pa.table({"messages": ["[{}]"], "tools": pa.array([None], pa.string()), "prompt": ["shown to people"]})
    assert drawn_rows.characters(chat).tolist() == [4]


def test_the_search_for_copied_text_tells_how_far_it_is() -> None:
    told: list[tuple[float, float]] = []
    rows = probe_rows.reported([("a:1", "a"), ("a:2", "b")], 2, lambda *at: told.append(at))
    assert copied_text.find_copies(["a"], rows)[0].units == 1
    assert told == [(0, 2), (1, 2), (2, 2)]
