import random

from tuneline.augmentation.near_held_out import HeldOut, key
from tuneline.data.preparing import near_rows


def sentence(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices([f"word{n}" for n in range(400)], k=length))


def test_equal_and_near_texts_are_found_and_others_are_not() -> None:
    held_out = HeldOut([key(sentence(n)) for n in range(50)], 0.7)
    near = sentence(3).replace(" ", "  ").upper()
    shortened = " ".join(sentence(4).split()[:-3])
    assert held_out.near([key(near), key(shortened), key(sentence(99)), key("")]).tolist() == [True, True, False, False]


def test_without_a_threshold_only_equal_texts_are_found() -> None:
    held_out = HeldOut([key("A text.")], None)
    assert held_out.near([key("a  TEXT."), key("A text")]).tolist() == [True, False]


def test_without_held_out_texts_nothing_is_near() -> None:
    assert HeldOut([], 0.7).near([key("a text")]).tolist() == [False]


def test_texts_are_compared_as_prepare_compares_rows() -> None:
    """The threshold of data.near_duplicates has one meaning, in scripts without spaces too."""
    chinese = [
        "房间很干净，服务也不错，就是早餐太差，下次还会来住的。" * 2,
        "电池只能用五、六个小时，距离八小时差距较大。" * 2,
    ]
    texts = [*(sentence(n) for n in range(20)), *chinese]
    draw = random.Random(1)
    others = [
        "".join(letter for letter in text if draw.random() > share)
        for text in texts
        for share in (0.02, 0.05, 0.1, 0.2)
    ]
    found = HeldOut([key(text) for text in texts], 0.7).near([key(text) for text in others])
    expected = near_rows.near_rows([(text,) for text in others], [(text,) for text in texts], 0.7)
    assert 10 < expected.sum() < len(others) - 10
    assert found.tolist() == expected.tolist()
