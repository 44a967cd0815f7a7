import math

import pytest
from transformers import PreTrainedTokenizerFast

from tuneline.evaluation import baselines, metrics


def test_unigram_is_add_one_over_the_training_completions(tokenizer: PreTrainedTokenizerFast) -> None:
    train = [{"prompt": "aaaaaaaa", "completion": "zq"}, {"prompt": "b", "completion": "z"}]
    test = [{"prompt": "q", "completion": "zj"}]
    # Seen: z twice, q once, end of text twice; of 320 tokens each counts once more.
    total = 5 + 320
    nll = math.log(total / 3) + math.log(total / 1) + math.log(total / 3)
    assert baselines.unigram(tokenizer, train, test, mode="plain") == {
        "token_loss": pytest.approx(nll / 3),
        "bits_per_byte": pytest.approx(nll / math.log(2) / 2),
        "perplexity": pytest.approx(math.exp(nll / 3)),
    }


def test_copying_scores_what_prompt_and_reference_share() -> None:
    assert baselines.copy(["the same", "xyz"], ["the same", "abc"]) == {"chrf": pytest.approx(50.0)}
    assert baselines.copy([], []) == {}


def test_chrf_is_that_of_sacrebleu_from_0_to_100() -> None:
    assert metrics.chrf(["Return the area."] * 3, ["Return the area.", "Return the areas of it.", "倒过来"]) == [
        100.0,
        pytest.approx(68.286314),
        0.0,
    ]


def test_a_chinese_answer_is_compared_by_character() -> None:
    near, far = metrics.chrf(["把字符串倒过来", "打开文件"], ["把一个字符串倒过来"] * 2)
    assert near > 40 > far


def test_a_hopeless_model_has_a_finite_perplexity() -> None:
    assert math.isfinite(metrics.likelihood_metrics(1e9, 1, 1)["perplexity"])
