"""How much of a held-out row a training row gives away."""

import random

import pytest

from tuneline.data.preparing.contamination import overlap

HELD = "the quick brown fox jumps over the lazy dog today"


@pytest.mark.parametrize(
    ("row", "share"),
    [
        (HELD, 1.0),
        (f"he said {HELD} and left", 1.0),
        ("the quick brown fox jumps over the lazy cat", 0.8),
        ("the quick brown fox jumps over the", 0.0),
        (" ".join(reversed(HELD.split())), 0.0),
        ("the, quick (brown) fox; jumps over the lazy cat!", 0.8),
        (f"{HELD} {HELD}", 1.0),
        ("", 0.0),
    ],
)
def test_share_of_tokens_in_shared_grams(row: str, share: float) -> None:
    found = overlap([row], [HELD])
    assert found.share.tolist() == [pytest.approx(share)]
    assert found.held_out.tolist() == [0 if share else -1]


def test_the_held_out_row_that_is_covered_most_is_named() -> None:
    found = overlap(["a b c d e f g h i j k", "x y"], ["a b c d e f g h 1 2 3 4", "d e f g h i j k 1", "a b c"])
    assert found.held_out.tolist() == [1, -1]
    assert found.share[0] == pytest.approx(8 / 9)


def test_every_chinese_character_is_a_token() -> None:
    assert overlap(["他說聞道收宗廟鳴鑾自陝歸了"], ["聞道收宗廟鳴鑾自陝歸"]).share.tolist() == [1.0]
    assert overlap(["聞道收宗廟鳴鑾"], ["聞道收宗廟鳴鑾自陝歸"]).share.tolist() == [0.0]


def test_nothing_to_compare() -> None:
    assert overlap([], [HELD]).share.tolist() == []
    assert overlap([HELD], []).share.tolist() == [0.0]
    assert overlap(["a"], ["b"]).held_out.tolist() == [-1]


def test_the_wording_of_a_template_gives_nothing_away_and_leaks_are_still_found() -> None:
    drawn = random.Random(0)
    template = "Translate the following English sentence into French and be as exact as you can:"
    rows = [f"{template} {' '.join(f'w{drawn.randrange(9999)}' for _ in range(12))}" for _ in range(600)]
    held_out, train = rows[:100], rows[100:]
    train[7] = held_out[3]
    train[9] = held_out[4].rsplit(" ", 3)[0]
    found = overlap(train, held_out)
    assert (found.share > 0.3).nonzero()[0].tolist() == [7, 9]
    assert found.held_out[[7, 9]].tolist() == [3, 4]
    assert found.share[9] == pytest.approx(9 / 12)


def test_many_pairs_give_the_same_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(1)
    rows = [" ".join(drawn.choices("abc", k=14)) for _ in range(300)]
    whole = overlap(rows[60:], rows[:60])
    monkeypatch.setattr("tuneline.data.preparing.contamination._PAIRS_AT_ONCE", 3)
    portions = overlap(rows[60:], rows[:60])
    assert whole.share.max() > 0.5
    assert portions.share.tolist() == whole.share.tolist()
    assert portions.held_out.tolist() == whole.held_out.tolist()
