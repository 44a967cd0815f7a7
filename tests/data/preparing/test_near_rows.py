import random

import numpy as np

from tuneline.data.preparing.near_rows import near_rows


def sentence(seed: int, words: int = 30) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(words))


def test_rows_with_a_few_other_words_are_near() -> None:
    texts = [(sentence(number),) for number in range(40)]
    changed = [(text.replace(text.split()[7], "another"),) for (text,) in texts[:5]]
    others = [*((sentence(number),) for number in range(1000, 1040)), *changed]
    assert np.flatnonzero(near_rows(texts, others, 0.7)).tolist() == [0, 1, 2, 3, 4]
    assert not near_rows(texts, others[:40], 0.7).any()
    assert not near_rows(texts, [], 0.7).any()
    assert near_rows([], others, 0.7).tolist() == []


def test_the_same_long_prompt_with_another_answer_is_not_near() -> None:
    prompt = sentence(1, 60)
    rows = [(prompt, sentence(2)), (prompt, sentence(3))]
    assert near_rows(rows, [(prompt, sentence(2) + " indeed")], 0.7).tolist() == [True, False]


def test_chinese_rows_are_compared_by_shorter_grams() -> None:
    poem = "床前明月光疑是地上霜举头望明月低头思故乡" * 3
    assert near_rows([(poem,)], [(poem.replace("霜", "雪", 1),)], 0.7).tolist() == [True]
