"""Which of several equal rows stays, and which rows are near duplicates."""

import random

import numpy as np
import pytest
from preparing import data, pair, prepare, sentence, some_pairs, some_texts

from tuneline.data.preparing import duplicates
from tuneline.data.preparing.text import cleaning, grams

ROWS = [sentence(n, 12 + n % 60) for n in range(400)]


def similarity(one: str, other: str) -> float:
    left, right = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (one, other))
    return len(left & right) / len(left | right)


def test_of_equal_rows_the_test_row_stays_then_the_lowest_number_then_the_first() -> None:
    ranks = np.array([2, 2, 0, 0, 1, 2, 2])
    numbers = np.array([1, 2, 9, 8, 0, 5, 5], np.uint64)
    preference = duplicates.Preference(ranks, numbers, np.zeros(7, np.uint64))
    keys = np.array([7, 3, 7, 7, 7, 3, 4], np.uint64)
    assert duplicates.representatives([keys], preference).tolist() == [3, 1, 3, 3, 3, 1, 6]
    assert duplicates.representatives([keys[:0]], preference.take(np.zeros(0, np.int64))).tolist() == []


def test_buckets_are_the_rows_that_share_a_key() -> None:
    found = duplicates.buckets(np.array([5, 9, 5, 1, 9, 9], np.uint32), np.array([0, 2, 3, 5, 7, 8]))
    assert (found.rows.tolist(), found.starts.tolist()) == ([0, 3, 2, 7, 8], [0, 2, 5])


@pytest.mark.parametrize("length", [12, 40, 400])
def test_similar_texts_share_a_band(length: int) -> None:
    drawn = random.Random(length)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < 500:
        words = sentence(f"{length} {drawn.random()}", length).split()
        for _ in range(drawn.randrange(1, 2 + length // 15)):
            words[drawn.randrange(length)] = "".join(drawn.choices("abcdefghij", k=5))
        one, other = sentence(f"{length} {drawn.random()}", length), " ".join(words)
        one = " ".join([*other.split()[:-1], "".join(drawn.choices("klmnop", k=5))])
        words = one.split()
        for _ in range(max(1, length // 40)):
            words[drawn.randrange(length)] = "".join(drawn.choices("abcdefghij", k=5))
        if 0.8 <= similarity(one, " ".join(words)) < 0.9:
            pairs.append((one, " ".join(words)))
    ones, others = (grams.sketch(column).bands for column in zip(*pairs, strict=True))
    assert (ones == others).any(axis=0).mean() >= 0.99


def test_unrelated_texts_rarely_share_a_band() -> None:
    drawn = random.Random(0)
    texts = [" ".join("".join(drawn.choices("etaoinsh", k=4)) for _ in range(60)) for _ in range(2000)]
    meetings = sum(len(duplicates.buckets(band, np.arange(len(texts))).rows) for band in grams.sketch(texts).bands)
    assert meetings < 10


@pytest.mark.parametrize(
    "text",
    ["abc", "a b c d e", "聞道收宗廟鳴鑾自陝歸", "廟鳴", "ab廟鳴鑾cd", "สวัสดีครับ ab", "សួស្តី", "é ß x²", sentence(3)],
)
def test_gram_sets_are_exact(text: str) -> None:
    expected = {
        text[i : i + size] for i in range(len(text)) if i + (size := 3 if text[i] >= "\u0e00" else 5) <= len(text)
    }
    other = text[:-1]
    sets = grams.gram_sets([text, other, text])
    assert len(sets[0]) == max(len(expected), 1)
    assert grams.jaccard(sets[0], sets[2]) == 1.0
    kept = {
        other[i : i + size] for i in range(len(other)) if i + (size := 3 if other[i] >= "\u0e00" else 5) <= len(other)
    }
    if expected and kept:
        assert grams.jaccard(sets[0], sets[1]) == pytest.approx(len(expected & kept) / len(expected | kept))


def test_linked_rows_are_one_cluster_in_a_large_bucket() -> None:
    rows = 300
    band = duplicates.Buckets(np.arange(rows), np.array([0, rows]))
    asked: list[int] = []

    def compare(pairs: np.ndarray) -> np.ndarray:
        asked.append(len(pairs))
        return pairs[:, 0] % 3 == pairs[:, 1] % 3

    found = duplicates.cluster_rows(rows, [band], compare)
    assert found.of_rows.tolist() == [n % 3 for n in range(rows)]
    assert (found.bounded, found.compared) == (rows, sum(asked))
    assert sum(asked) < 20 * rows


def planted() -> tuple[list[str], set[int]]:
    """Texts, and which of them (1-based) repeat another one exactly, in another form, or nearly."""
    drawn = random.Random(0)
    texts = list(ROWS)
    again: set[int] = set()
    for number in range(0, 400, 8):
        words = ROWS[number].split()
        forms = [
            ROWS[number],
            "\n".join(" ".join(words[i : i + 5]) for i in range(0, len(words), 5)),
            ROWS[number].upper().replace(" ", "   "),
            ROWS[number].translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}),
        ]
        while similarity(near := " ".join(words), ROWS[number]) == 1.0:
            words[drawn.randrange(len(words))] = "zzqzz"
        forms += [near] if similarity(near, ROWS[number]) >= 0.8 else []
        for form in forms:
            texts.append(form)
            again.add(len(texts))
    return texts, again


def test_all_planted_duplicates_are_found_and_nothing_else() -> None:
    texts, again = planted()
    prepared = prepare([{"text": text} for text in texts], some_texts(), data(group_by=None))
    dropped = {row["source"]: row for row in prepared.quarantine if row["set"] == "raw"}
    # The first of each cluster need not be the one that stays.
    assert len(dropped) == len(again)
    assert {row["reason"] for row in dropped.values()} == {"duplicate", "near-duplicate"}
    keys = [cleaning.key(text) for text in texts]
    for source, row in dropped.items():
        one, other = (keys[int(place.split(":")[1]) - 1] for place in (source, row["detail"].split()[-1]))
        assert similarity(one, other) >= 0.65


def test_near_duplicates_null_keeps_near_duplicates() -> None:
    texts, _ = planted()
    prepared = prepare([{"text": text} for text in texts], some_texts(), data(group_by=None, near_duplicates=None))
    assert set(prepared.report["raw"]["dropped"]) <= {"duplicate", "overlap"}


CONTEXT = "\n".join(sentence(f"context {n}", 15) for n in range(12))


def test_a_long_context_with_different_questions_or_answers_is_not_merged() -> None:
    asked = [
        pair(f"{CONTEXT}\n\nWho wrote the letter of 1792?", "Mary", "m"),
        pair(f"{CONTEXT}\n\nWhich town lay on the other bank?", "Mary", "m"),
        pair(f"{CONTEXT}\n\nWhich town lay on the other bank?", "a place called Upper Sandusky", "m"),
        pair(f"{CONTEXT}\n\nWhich town lay on the other bank?!", "a place called Upper Sandusky.", "m"),
    ]
    prepared = prepare([*asked, *some_pairs()], some_texts())
    near = [row["source"] for row in prepared.quarantine if row["reason"] == "near-duplicate"]
    assert len(near) == 1
    assert near[0] in ("a.jsonl:3", "a.jsonl:4")


def test_chinese_rows_are_compared_by_characters() -> None:
    poem = "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。空山不見人，但聞人語響。返景入深林，復照青苔上。"
    other = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。紅豆生南國，春來發幾枝。願君多采擷，此物最相思。"
    rows = [pair("寫一首詩", text, "m") for text in (poem, poem.replace("，", ","), poem[:-2] + "中。", other)]
    prepared = prepare([*rows, *some_pairs()], some_texts())
    assert prepared.report["raw"]["dropped"] == {"duplicate": 1, "near-duplicate": 1}
