"""The only table of scripts that are written without spaces between words."""

from collections.abc import Iterable

SOUTHEAST_ASIAN = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))
"""First and last code point of Thai with Lao, of Burmese, and of Khmer."""

WITHOUT_SPACES = (
    *SOUTHEAST_ASIAN,
    # Kana and Han.
    *((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)
"""First and last code point of each script without spaces."""


def character_class(ranges: Iterable[tuple[int, int]] = WITHOUT_SPACES) -> str:
    """The regular expression of one character in some ranges of code points."""
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"
