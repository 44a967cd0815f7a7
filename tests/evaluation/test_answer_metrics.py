import collections
import re
import string
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from evaluate_params import evaluate
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tuneline.evaluation import answer_metrics, comparison, words
from tuneline.evaluation.intervals import Statistic, paired_bootstrap
from tuneline.evaluation.tasks import causal

RANDOM = np.random.default_rng(7)
ENGLISH = ["the", "a", "cat", "sat", "on", "mat,", "and", "it's", "Return", "area.", "of", "x_1", "(big)", "42%"]
CHINESE = ["床前明月光", "疑是地上霜", "举头", "望明月", "，", "低头思故乡", "。", "GPU"]
THAI = ["สวัสดี", "ครับ", "ผม", "ชื่อ"]


def texts(vocabulary: Sequence[str], joint: str, count: int) -> list[str]:
    found = [joint.join(RANDOM.choice(vocabulary, RANDOM.integers(0, 14))) for _ in range(count - 2)]
    return ["", *found, vocabulary[0]]


def pairs(vocabulary: Sequence[str], joint: str, count: int = 60) -> tuple[list[str], list[str]]:
    """References, and answers of which some are right, some share a part and some are unlike."""
    wanted, others = texts(vocabulary, joint, count), texts(vocabulary, joint, count)
    return [
        one if row % 3 else f"{one}{joint}{two}" for row, (one, two) in enumerate(zip(wanted, others, strict=True))
    ], wanted


def values(statistic: Statistic) -> dict[str, float]:
    with np.errstate(all="ignore"):
        return statistic.values()


def drawn(statistic: Statistic, weights: np.ndarray) -> dict[str, float]:
    with np.errstate(all="ignore"):
        sums = (statistic.columns @ weights)[:, None]
        return dict(zip(statistic.names, statistic.of_sums(sums)[:, 0].tolist(), strict=True))


# SQuAD's own script, https://rajpurkar.github.io/SQuAD-explorer: evaluate-v2.0.py, in other words.
def squad(answer: str, reference: str) -> tuple[float, float]:
    def normal(text: str) -> str:
        kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())

    given, gold = normal(answer).split(), normal(reference).split()
    common = collections.Counter(given) & collections.Counter(gold)
    same = sum(common.values())
    if not given or not gold:
        return float(given == gold), float(given == gold)
    f1 = 0.0 if same == 0 else 2 * (same / len(given)) * (same / len(gold)) / (same / len(given) + same / len(gold))
    return float(normal(answer) == normal(reference)), f1


def test_exact_match_and_token_f1_are_those_of_squad() -> None:
    answers, references = pairs(ENGLISH, " ", 200)
    found = answer_metrics.closeness(answers, references, "13a")
    expected = [squad(*pair) for pair in zip(answers, references, strict=True)]
    assert [(one.exact, one.f1) for one in found] == [(exact, pytest.approx(f1)) for exact, f1 in expected]
    total = values(answer_metrics.close(found))
    assert total["exact_match"] == pytest.approx(np.mean([exact for exact, _ in expected]))
    assert 0 < total["exact_match"] < total["token_f1"] < 1


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("北京大学", "北京大学。", 1.0, 1.0),
        # Two of the three characters of the answer, two of the four of the reference.
        ("北京市", "北京大学", 0.0, 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),
        # A name in Latin letters stays one word among characters.
        ("GPU很快", "GPU快", 0.0, 0.8),
        ("“La Niña”", "la niña", 1.0, 1.0),
        ("The.", "an", 1.0, 1.0),
        ("", "Paris", 0.0, 0.0),
        ("🙂", "🙂!", 1.0, 1.0),
    ],
)
def test_characters_are_the_words_of_scripts_without_spaces(
    answer: str, reference: str, exact: float, f1: float
) -> None:
    [found] = answer_metrics.closeness([answer], [reference], "13a")
    assert (found.exact, found.f1) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("vocabulary", "joint", "tokenizer"), [(ENGLISH, " ", "13a"), (CHINESE, "", "zh"), (THAI, "", "char")]
)
def test_bleu_chrf_and_length_ratio_are_those_of_sacrebleu_also_in_a_draw(
    vocabulary: Sequence[str], joint: str, tokenizer: str
) -> None:
    answers, references = pairs(vocabulary, joint)
    assert words.tokenizer_for(references) == tokenizer
    statistic = answer_metrics.close(answer_metrics.closeness(answers, references, tokenizer))
    for weights in (np.ones(len(answers)), RANDOM.multinomial(len(answers), np.full(len(answers), 1 / len(answers)))):
        rows = np.repeat(np.arange(len(answers)), weights.astype(int))
        chosen = [answers[row] for row in rows], [[references[row] for row in rows]]
        found, bleu = drawn(statistic, weights), BLEU(tokenize=tokenizer).corpus_score(*chosen)
        assert found["bleu"] == pytest.approx(bleu.score)
        assert found["length_ratio"] == pytest.approx(bleu.sys_len / bleu.ref_len)
        assert found["chrf"] == pytest.approx(CHRF().corpus_score(*chosen).score)


@pytest.mark.parametrize(
    ("answer", "reference"), [("same same", "other"), ("", ""), ("a b", "a c"), ("a b c d e", "a")]
)
def test_bleu_and_chrf_of_few_words_are_those_of_sacrebleu(answer: str, reference: str) -> None:
    [one] = answer_metrics.closeness([answer], [reference], "13a")
    found = values(answer_metrics.close([one]))
    assert found["bleu"] == pytest.approx(BLEU().corpus_score([answer], [[reference]]).score)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score([answer], [[reference]]).score)
    assert answer_metrics.chrf_of(one) == pytest.approx(CHRF().sentence_score(answer, [reference]).score)


def test_self_bleu_is_the_sacrebleu_of_each_answer_against_all_others() -> None:
    answers = [text for text in texts(ENGLISH, " ", 30) if text]
    expected = [
        BLEU(effective_order=True).sentence_score(answer, answers[:place] + answers[place + 1 :]).score
        for place, answer in enumerate(answers)
    ]
    split = BLEU().tokenizer
    assert answer_metrics.self_bleu([split(text).split() for text in answers]) == pytest.approx(expected)
    assert answer_metrics.self_bleu([["alone"]]) == [None]
    assert answer_metrics.self_bleu([["same", "text"]] * 3) == pytest.approx([100.0] * 3)


def test_diversity_follows_its_published_definitions() -> None:
    answers = ["x y x y", "x y z", "a b c d a b c d a b c d", ""]
    found = values(answer_metrics.diverse([[text] for text in answers], list("1234"), "13a"))
    # Li et al.: different words, and different pairs of words, of all words.
    assert found["distinct_1"] == pytest.approx(7 / 19)
    assert found["distinct_2"] == pytest.approx(len({"xy", "yx", "yz", "ab", "bc", "cd", "da"}) / 19)
    # Welleck et al.: 9 sequences of four words, of which 4 differ; "x y x y" has one sequence; "x y z" has none.
    assert found["repetition"] == pytest.approx((0 + 0 + (1 - 4 / 9)) / 3)


def test_several_answers_to_a_prompt_are_compared_with_each_other() -> None:
    same = [["one two three four"] * 3, ["five six seven eight"] * 3]
    other = [["one two three four", "five six seven eight"], ["a b c d", "e f g h"]]
    alike, different = (values(answer_metrics.diverse(row, list("ab"), "13a")) for row in (same, other))
    assert alike["self_bleu"] == pytest.approx(100.0)
    assert different["self_bleu"] == 0.0
    assert alike["distinct_1"] == pytest.approx(8 / 24)
    assert different["distinct_1"] == 1.0


@pytest.mark.parametrize("answers", [[[""]] * 20, [["", " "]] * 20], ids=["greedy", "sampled"])
def test_the_diversity_of_a_model_that_answers_nothing_is_not_defined(answers: list[list[str]]) -> None:
    found = paired_bootstrap(
        answer_metrics.diverse(answers, [str(row) for row in range(20)], "13a"), [0.0] * 4, resamples=100, seed=0
    )
    assert found == {}


def test_the_interval_of_distinct_n_holds_its_value_although_draws_repeat_rows() -> None:
    answers = [[text] for text in texts([f"word{number}" for number in range(300)], " ", 80)]
    clusters = [f"module{row // 2}" for row in range(80)]
    statistic = answer_metrics.diverse(answers, clusters, "13a")
    found = paired_bootstrap(statistic, [0.0] * 4, groups=clusters, resamples=500, seed=0)
    for name in ("distinct_1", "distinct_2"):
        value = values(statistic)[name]
        low, high = found[name].low, found[name].high
        assert low is not None and high is not None
        assert low < value < high
    counted = [word for [text] in answers for word in BLEU().tokenizer(text).split()]
    assert values(statistic)["distinct_1"] == pytest.approx(len(set(counted)) / len(counted))


def test_of_many_answers_the_diversity_of_some_is_measured_the_same_rows_for_every_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_metrics, "MOST_COMPARED", 60)
    clusters = [str(row) for row in range(100)]
    one, other = (
        answer_metrics.diverse(
            [[text, text] if row % 2 else None for row, text in enumerate(texts(ENGLISH, " ", 100))], clusters, "13a"
        )
        for _ in range(2)
    )
    measured = comparison.defined_rows(one)
    assert measured.sum() == 30
    assert not measured[::2].any()
    assert (measured == comparison.defined_rows(other)).all()


def test_diversity_reads_the_beginning_of_very_long_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer has the same share of the words, so that the rows of two models stay the same."""
    monkeypatch.setattr(answer_metrics, "MOST_WORDS", 40)
    beginnings = [[" ".join(f"{row} {word}" for word in "abcde")] for row in range(4)]
    long = [[f"{text} and " + "the end " * 100] for [text] in beginnings]
    clusters = [str(row) for row in range(4)]
    found = answer_metrics.diverse(long, clusters, "13a")
    assert found.values() == answer_metrics.diverse(beginnings, clusters, "13a").values()
    assert not np.isnan(found.columns).any()  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_the_diversity_of_a_score_table_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    self_bleu = answer_metrics.self_bleu
    monkeypatch.setattr(answer_metrics, "self_bleu", lambda words: computed.append(len(words)) or self_bleu(words))
    split = pa.table(
        {name: [f"{name} {row}" for row in range(12)] for name in ("id", "source", "cluster", "prompt", "completion")}
    )
    settings = evaluate(seed=1, batch_size=4, generation_rows=12, max_new_tokens=6, samples=2, bootstrap_resamples=100)
    rows = causal.test_rows(split, settings)
    tables = [causal.scores(texts=[f"{model} says {row}" for row in range(12)]) for model in ("candidate", "base")]
    for scores in tables:
        comparison.summarise(rows, "sft", scores)
    comparison.compare(rows, "sft", tables[0], tables[1], settings)
    comparison.compare(rows, "sft", tables[0], None, settings)
    assert computed == [12, 12]


@pytest.mark.slow
def test_the_intervals_of_distinct_n_cover_the_expected_value_on_simulated_answers() -> None:
    def answers(seed: int) -> list[list[str]]:
        random = np.random.default_rng(seed)
        lengths = random.integers(4, 20, size=100)
        return [[" ".join(f"w{word}" for word in random.zipf(1.4, size=length) if word < 5000)] for length in lengths]

    clusters = [str(row) for row in range(100)]
    expected = np.mean(
        [values(answer_metrics.diverse(answers(10_000 + seed), clusters, "13a"))["distinct_2"] for seed in range(200)]
    )
    held = 0
    for seed in range(200):
        statistic = answer_metrics.diverse(answers(seed), clusters, "13a")
        found = paired_bootstrap(statistic, [0.0] * 4, groups=clusters, resamples=300, seed=seed)["distinct_2"]
        assert found.low is not None and found.high is not None
        held += found.low <= expected <= found.high
    assert held / 200 >= 0.935


@pytest.mark.parametrize(
    ("sample", "tokenizer"),
    [
        (["今天 is 很好"], "zh"),
        (["これは日本語の文です"], "char"),
        (["สวัสดีครับ"], "char"),
        (["service 服 in a long english sentence", "한국어 낱말"], "13a"),
        ([""], "13a"),
        ([], "13a"),
    ],
)
def test_the_script_decides_how_words_are_told_apart(sample: list[str], tokenizer: str) -> None:
    assert words.tokenizer_for(sample) == tokenizer
    assert words.is_unspaced(sample) == (tokenizer != "13a")
