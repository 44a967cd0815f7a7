"""The kinds of damage in a text, and the repaired text."""

import pytest

from tuneline.data.reading.guards import damage

GOOD = [
    "plain ASCII",
    "L’été à Zürich coûte 5 € – très cher",
    "“école” – « étude »",
    "Привет, мир… «да» — ё",
    "聞道收宗廟鳴鑾自陝歸了嗎",
    "茅台酒很好喝",
    "Mao 茅 said",
    "联通移动",
    "日本語のテキストです。",
    "한국어 텍스트입니다 여러분",
    "İstanbul’da güneş",
    "שלום \u200f(abc)",
    "می\u200cخواهم",
    "ថ្ងៃ\u200bសុក្រ ทดสอบ\u200bคำ",
    "👨\u200d👩\u200d👧 family 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
]


@pytest.mark.parametrize("text", GOOD)
def test_good_text_has_no_damage(text: str) -> None:
    assert damage.find_kinds(text) == ()
    assert damage.repair(text, damage.REPAIRED) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("It’s a naïve café", "cp1252"),
        ("L’été à Zürich coûte 5 € – très cher", "latin-1"),
        ("L’été à Zürich coûte 5 € – très cher", "cp1251"),
        ("Привет, мир и все остальные", "latin-1"),
        ("聞道收宗廟鳴鑾自陝歸了嗎", "latin-1"),
        ("聞道收宗廟鳴鑾自陝歸了嗎", "gb18030"),
        ("Привет, мир и все остальные", "gb18030"),
        ("It’s a naïve café, isn’t it", "gb18030"),
        ("It’s a naïve café", "cp932"),
    ],
)
def test_utf_8_read_as_another_encoding_is_recognised_and_repaired(text: str, encoding: str) -> None:
    read = text.encode().decode(encoding)
    assert damage.find_kinds(read) == ("mojibake",)
    assert damage.repair(read, ("mojibake",)) == text
    assert damage.repair(read, ("control", "direction", "invisible")) == read


def test_text_that_was_decoded_wrongly_twice_is_repaired() -> None:
    twice = "déjà vu – voilà".encode().decode("latin-1").encode().decode("latin-1")
    assert damage.find_kinds(twice) == ("mojibake",)
    assert damage.repair(twice, ("mojibake",)) == "déjà vu – voilà"


@pytest.mark.parametrize(
    ("text", "kinds", "repaired"),
    [
        ("a \x93quoted\x94 word\x85", ("control",), "a “quoted” word…"),
        ("pay \u202etxt.exe now", ("direction",), "pay txt.exe now"),
        ("zero\u200bwidth, soft\xadhyphen, \ufeffmark", ("invisible",), "zerowidth, softhyphen, mark"),
        ("a hidden \U000e0069\U000e0067 order", ("invisible",), "a hidden  order"),
        ("lost \ufffd here", ("replacement",), "lost \ufffd here"),
        ("锟斤拷 again", ("replacement",), "锟斤拷 again"),
        ("\u3000\u2800", ("blank",), "\u3000\u2800"),
        # Text in GB 18030 and in cp1251, read as Latin-1: the first is repaired, the second only found.
        ("ÖÐ¹úÈËÃñ", ("mojibake",), "中国人民"),
        ("Ïðèâåò ìèð", ("mojibake",), "Ïðèâåò ìèð"),
    ],
)
def test_each_kind_is_found_and_repaired(text: str, kinds: tuple[str, ...], repaired: str) -> None:
    assert damage.find_kinds(text) == kinds
    assert damage.repair(text, damage.REPAIRED) == repaired


def test_rows_are_counted_by_kind_with_the_first_of_each() -> None:
    count, first = damage.count_damaged_rows(
        ["a:1", "a:2", "a:3"], [("x", "caf\xc3\xa9"), ("\u200b\u200bx", "b\ufffd"), ("d\xc3\xa9", "")]
    )
    assert count == {"mojibake": 2, "invisible": 1, "replacement": 1}
    assert first["mojibake"] == "a:1: 'cafÃ©' is 'café'"
    assert first["invisible"] == "a:2: '\\u200b\\u200bx' is 'x'"
