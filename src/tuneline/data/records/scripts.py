"""The only tables of scripts: those that are written without spaces between words, and the language that each tells."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable

SOUTHEAST_ASIAN = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))
"""First and last code point of Thai with Lao, of Burmese, and of Khmer."""

WITHOUT_SPACES = (
    *SOUTHEAST_ASIAN,
    # Letters and vowel signs of Tibetan, which has a mark between syllables.
    (0x0F40, 0x0FBC),
    # Kana and Han.
    *((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)
"""First and last code point of each script without spaces."""


def character_class(ranges: Iterable[tuple[int, int]] = WITHOUT_SPACES) -> str:
    """The regular expression of one character in some ranges of code points."""
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"


_LANGUAGES = {
    "zh": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
    "ja": ((0x3041, 0x309F), (0x30A1, 0x30FA), (0x31F0, 0x31FF), (0xFF66, 0xFF9D)),
    "ko": ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7FB)),
    "th": ((0x0E01, 0x0E4E),),
    "lo": ((0x0E81, 0x0EDF),),
    "my": ((0x1000, 0x109F),),
    "km": ((0x1780, 0x17FF),),
    "el": ((0x0370, 0x03FF), (0x1F00, 0x1FFF)),
    "he": ((0x0591, 0x05F4),),
    "hy": ((0x0531, 0x058A),),
    "ka": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF)),
    "ta": ((0x0B82, 0x0BFA),),
    "te": ((0x0C00, 0x0C7F),),
    "kn": ((0x0C80, 0x0CF3),),
    "ml": ((0x0D00, 0x0D7F),),
    "gu": ((0x0A81, 0x0AFF),),
    "si": ((0x0D81, 0x0DF4),),
    "or": ((0x0B01, 0x0B77),),
    "dv": ((0x0780, 0x07B1),),
    "ii": ((0xA000, 0xA48C),),
    "latin": ((0x0041, 0x005A), (0x0061, 0x007A), (0x00C0, 0x024F), (0x1E00, 0x1EFF), (0xFF21, 0xFF5A)),
    "cyrillic": ((0x0400, 0x052F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "arabic": ((0x0620, 0x06FF), (0x0750, 0x077F), (0x08A0, 0x08FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "devanagari": ((0x0900, 0x097F),),
    "bengali": ((0x0980, 0x09FB),),
    "gurmukhi": ((0x0A01, 0x0A76),),
    "ethiopic": ((0x1200, 0x139F),),
    "tibetan": ((0x0F00, 0x0FDA),),
    "mongolian": ((0x1800, 0x18AA),),
    "canadian": ((0x1400, 0x167F), (0x18B0, 0x18F5)),
    "cherokee": ((0x13A0, 0x13FD), (0xAB70, 0xABBF)),
    "tifinagh": ((0x2D30, 0x2D7F),),
    "nko": ((0x07C0, 0x07FD),),
    "syriac": ((0x0700, 0x074F),),
}
# A script that one language of today is written in has the code of this language (ISO 639-1). Han is Chinese unless
# kana stand beside it. A script of many languages keeps its own name: Latin letters do not say whether a text is
# English or German.
_RANGES = sorted((first, last, name) for name, ranges in _LANGUAGES.items() for first, last in ranges)
_FIRST = [first for first, _, _ in _RANGES]
_READ = 2_000
# A Chinese text may quote some kana; a Japanese text has more of them.
_KANA_IN_JAPANESE = 0.1
NO_LETTERS = "none"
"""The language of a text without letters of a known script."""


def language(text: str) -> str:
    """The language of a text where its script tells it, such as `zh`, else the name of its script, such as `latin`.

    Args:
        text: its first 2,000 characters are read; the script of most of its letters decides.
    """
    counts: Counter[str] = Counter()
    for character, count in Counter(text[:_READ]).items():
        place = bisect_right(_FIRST, ord(character)) - 1
        if place >= 0 and ord(character) <= _RANGES[place][1]:
            counts[_RANGES[place][2]] += count
    kana, han = counts["ja"], counts["zh"]
    if kana and kana >= _KANA_IN_JAPANESE * (kana + han):
        counts["ja"], counts["zh"] = kana + han, 0
    else:
        counts["zh"], counts["ja"] = kana + han, 0
    name, most = max(counts.items(), key=lambda item: (item[1], item[0]))
    return name if most else NO_LETTERS
