"""How much of a held-out row training rows leak."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from tuneline.core import files
from tuneline.data.preparing.decontamination import coverage, decontamination_index
from tuneline.data.preparing.text import grams


def compare(rows: Sequence[str], held_out: Sequence[str]) -> tuple[coverage.Overlap, np.ndarray]:
    """What each row leaks, and of each held-out row the share that rows leak together."""
    with files.temporary_folder() as folder:
        held, training = (grams.sketch(texts, near=False).tokens for texts in (held_out, rows))
        batch = decontamination_index.write_grams(folder / "grams.npy", held.hashes, held.starts)
        index = decontamination_index.build(folder, [batch])
        arrays = index.arrays()
        shared = coverage.find_shared(arrays, index.bits, training.hashes, training.starts)
        common = coverage.common_grams(coverage.rows_per_gram(arrays, shared), len(rows))
        counted = decontamination_index.count_outside(arrays, common)
        found, pieces = coverage.measure(arrays, counted, coverage.without_common(shared, common), len(rows))
        return found, coverage.joint_shares(arrays, counted, pieces)


def overlap(rows: Sequence[str], held_out: Sequence[str]) -> coverage.Overlap:
    return compare(rows, held_out)[0]


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
def test_coverage_is_the_share_of_tokens_in_shared_grams(row: str, share: float) -> None:
    found = overlap([row], [HELD])
    assert found.share.tolist() == [pytest.approx(share)]
    assert found.held_out.tolist() == [0 if share else -1]


def test_the_held_out_row_with_the_largest_coverage_is_named() -> None:
    found = overlap(["a b c d e f g h i j k", "x y"], ["a b c d e f g h 1 2 3 4", "d e f g h i j k 1", "a b c"])
    assert found.held_out.tolist() == [1, -1]
    assert found.share[0] == pytest.approx(8 / 9)


@pytest.mark.parametrize(
    "held_out",
    [
        pytest.param("聞道收宗廟鳴鑾自陝歸", id="Chinese"),
        pytest.param("ครูและนักเรียนอ่านหนังสือ", id="Thai"),
        pytest.param("ນັກຮຽນອ່ານປຶ້ມ", id="Lao"),
        pytest.param("ကျောင်းသားများစာဖတ်သည်", id="Burmese"),
        pytest.param("សិស្សអានសៀវភៅ", id="Khmer"),
    ],
)
def test_every_character_of_a_script_without_spaces_is_a_token(held_out: str) -> None:
    first, last = held_out[0], held_out[-1]
    assert overlap([f"{last}{held_out}{first}"], [held_out]).share.tolist() == [1.0]
    assert overlap([held_out[:7]], [held_out]).share.tolist() == [0.0]


def test_coverage_without_rows_or_without_grams_is_zero() -> None:
    assert overlap([], [HELD]).share.tolist() == []
    assert overlap([HELD], []).share.tolist() == [0.0]
    assert overlap(["a"], ["b"]).held_out.tolist() == [-1]


def test_the_wording_of_a_template_does_not_leak_and_leaks_are_still_found() -> None:
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


def test_coverage_is_the_same_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(1)
    rows = [" ".join(drawn.choices("abc", k=14)) for _ in range(300)]
    whole = overlap(rows[60:], rows[:60])
    monkeypatch.setattr("tuneline.data.preparing.decontamination.coverage._PAIRS_AT_ONCE", 3)
    portions = overlap(rows[60:], rows[:60])
    assert whole.share.max() > 0.5
    assert portions.share.tolist() == whole.share.tolist()
    assert portions.held_out.tolist() == whole.held_out.tolist()


def words(seed: object, count: int) -> list[str]:
    return [f"w{random.Random(f'{seed} {n}').randrange(10**9)}" for n in range(count)]


def test_wording_of_many_training_rows_does_not_leak_a_held_out_row_that_has_it() -> None:
    disclaimer = " ".join(words("disclaimer", 30))
    train = [f"{' '.join(words(n, 30))} {disclaimer if n < 40 else ''}" for n in range(300)]
    held = [f"{' '.join(words('held', 20))} {disclaimer}", *(" ".join(words(f"h{n}", 30)) for n in range(20))]
    assert overlap(train, held).share.max() == 0
    # Where few rows have it, it is as good as any other part of the row.
    assert overlap(train[34:], held).share.max() == pytest.approx(30 / 50)


def test_own_words_of_a_row_leak_it_despite_a_common_disclaimer() -> None:
    disclaimer = " ".join(words("disclaimer", 60))
    own = words("own", 20)
    train = [f"{' '.join(words(n, 30))} {disclaimer if n < 40 else ''}" for n in range(300)]
    train.append(" ".join([*words("leak", 50), *own[:15]]))
    found = overlap(train, [" ".join([*own, disclaimer]), "a b c d e f g h i j"])
    assert (found.share > 0.5).nonzero()[0].tolist() == [300]
    assert found.share[300] == pytest.approx(15 / 20)


def test_a_held_out_row_of_common_wording_alone_is_not_leaked() -> None:
    answer = " ".join(words("canned", 40))
    train = [f"{' '.join(words(n, 20))} {answer}" for n in range(200)]
    assert overlap(train, [answer, f"thanks jane {answer}"]).share.max() == 0


def test_pieces_in_several_training_rows_are_added_up() -> None:
    held = [words(f"held {n}", 50) for n in range(3)]
    train = [" ".join(words(n, 60)) for n in range(100)]
    for row, start in ((10, 0), (20, 16), (30, 33)):
        train[row] += " " + " ".join(held[0][start : start + 16])
    train[40] += " " + " ".join(held[1][:16])
    found, shares = compare(train, [" ".join(one) for one in held])
    assert found.share.max() == pytest.approx(16 / 50)
    assert shares.tolist() == [pytest.approx(48 / 50), pytest.approx(16 / 50), 0]


def test_short_phrases_are_not_pieces_of_a_held_out_row() -> None:
    held = words("held", 24)
    train = [" ".join([*words(n, 40), *held[start : start + 8]]) for n, start in enumerate((0, 8, 16))]
    assert compare(train, [" ".join(held)])[1].tolist() == [0]
