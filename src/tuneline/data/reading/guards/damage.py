"""Text that was damaged before it came here: which kinds of damage it shows, and what repairs them.

    mojibake      bytes of one encoding that were read in another, once or twice: `é` became `Ã©` or `茅`
    replacement   U+FFFD, which stands where a character was lost: nothing repairs it
    control       C1 control characters (U+0080 to U+009F): Windows' quotes and dashes, read as Latin-1
    direction     characters that override the direction of writing, or turn it where nothing runs from right to left
    invisible     zero-width characters, soft hyphens and tags, which people do not see and models learn
    blank         nothing but white space and characters that nobody sees

ASCII shows none of these. Mojibake of single-byte encodings is recognised and repaired by ftfy, whose heuristic is made
to be wrong about once in a million texts; what it does not know is recognised here.
"""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from tuneline.data.reading.guards import encodings
from tuneline.data.records.scripts import SOUTHEAST_ASIAN, character_class

KINDS = ("mojibake", "replacement", "control", "direction", "invisible", "blank")
REPAIRED = ("mojibake", "control", "direction", "invisible")
"""The kinds that can be repaired."""

_C1 = re.compile("[\x80-\x84\x86-\x9f]")
_MARKS = "\u200e\u200f\u061c\u202a-\u202c\u2066-\u2069"
_OVERRIDE = re.compile("[\u202d\u202e]")
_TURNS = re.compile(f"[{_MARKS}\u202d\u202e]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
# A tag belongs to a flag where it follows a black flag or another tag of it.
# Thai, Lao, Burmese and Khmer mark the ends of words by a space of no width.
_WITHOUT_SPACES = character_class(SOUTHEAST_ASIAN)
_INVISIBLE = re.compile(
    f"(?<!{_WITHOUT_SPACES})\u200b(?!{_WITHOUT_SPACES})|"
    "[\xad\u180e\u2060-\u2064\ufeff]|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0001-\U000e007f]+"
)
# White space, and what Unicode says is to be ignored where it is not known.
_UNSEEN = re.compile(
    "[\\s\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]*"
)
_LOST = "\ufffd"
# What is left of U+FFFD when its own bytes are read as Latin-1, Windows-1252 or GB 18030.
_LOST_AGAIN = re.compile("ï¿½|锟斤拷")
_SHOWN = re.compile("[\x80-\x9f\xad\u180e\u200b-\u200f\u061c\u202a-\u202e\u2060-\u2069\ufeff\U000e0001-\U000e007f]")

_SINGLE_BYTE = (
    "latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "macroman", "cp437",
)  # fmt: skip
_MULTI_BYTE = ("gb18030", "big5", "cp932", "cp949")
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef\ue000-\uf8ff]")
_WIDE_IN_WORD = re.compile(r"[A-Za-z][^\x00-\x7f]+|[^\x00-\x7f]+[A-Za-z]")
_NOT_ASCII = re.compile("[^\x00-\x7f]+")
_SURELY_WIDE = 6
_TRIED = 24
_LATIN = re.compile("[\xa0-\u017f\u2010-\u2026\u20ac\u2122]+")
_LATIN_1_RUN = re.compile("[\xa1-\xff]{4,}")
_LATIN_1_SHARE = 0.3
_AROUND = 16


def find_kinds(text: str) -> tuple[str, ...]:
    """The kinds of damage that a text shows, in the order of KINDS.

    Args:
        text: as it was read, or cleaned.
    """
    if text.isascii():
        return ()
    decoded = _redecoded(text)
    found = {"mojibake"} if decoded is not None else set[str]()
    # In mojibake these characters may be bytes of other ones, and go with it.
    is_known = decoded is None or decoded != text
    text = decoded or text
    if _LOST in text or _LOST_AGAIN.search(text):
        found.add("replacement")
    if is_known and _SHOWN.search(text):
        found |= {
            kind
            for kind, is_there in (
                ("control", _C1.search(text)),
                ("direction", _turned(text) != text),
                ("invisible", _INVISIBLE.search(text)),
            )
            if is_there
        }
    if is_blank(text):
        found.add("blank")
    return tuple(kind for kind in KINDS if kind in found)


def repair(text: str, wanted: Iterable[str]) -> str:
    """A text without some kinds of damage.

    Args:
        text: as it was read, before it is cleaned.
        wanted: which of REPAIRED; where a text shows none of them, it is returned as it is.
    """
    if text.isascii():
        return text
    wanted = set(wanted)
    decoded = _redecoded(text)
    if decoded is not None:
        # Every character of mojibake may be a byte of another one.
        if "mojibake" not in wanted or decoded == text:
            return text
        text = decoded
    if "control" in wanted and _C1.search(text):
        # What Windows-1252 does not know stands for nothing.
        text = _C1.sub("", _without_c1(text))
    if "direction" in wanted:
        text = _turned(text)
    if "invisible" in wanted:
        text = _INVISIBLE.sub("", text)
    return text


def example(text: str, kind: str) -> str:
    """Where a text shows a kind of damage, and what it is when it is repaired.

    Args:
        text: a text that shows it.
        kind: of KINDS.

    Returns:
        A few characters, with those that nobody sees as escapes: `'caf\\u200bé' is 'café'`.
    """
    if kind != "mojibake":
        text = _redecoded(text) or text
    fixed = repair(text, {kind} & {*REPAIRED})
    if fixed == text:
        shown = _LOST_AGAIN.search(text) or _SHOWN.search(text)
        first = max(0, text.find(_LOST) if _LOST in text else shown.start() if shown else 0)
        return _excerpt(text, first, len(text))
    first = next((at for at, (one, other) in enumerate(zip(text, fixed, strict=False)) if one != other), len(fixed))
    return f"{_excerpt(text, first, len(text))} is {_excerpt(fixed, first, len(fixed))}"


def _excerpt(text: str, first: int, end: int) -> str:
    start, stop = max(0, first - _AROUND), min(end, first + 2 * _AROUND)
    shown = _SHOWN.sub(lambda match: match[0].encode("unicode-escape").decode(), text[start:stop])
    return "'" + "…" * (start > 0) + " ".join(shown.split()) + "…" * (stop < end) + "'"


def is_blank(text: str) -> bool:
    """Whether nobody sees anything of a text that is not empty."""
    return bool(text) and _UNSEEN.fullmatch(text) is not None


def is_mojibake(text: str) -> bool:
    """Whether a text was decoded wrongly."""
    return not text.isascii() and _redecoded(text) is not None


def _turned(text: str) -> str:
    """Without overrides of direction and, where nothing runs from right to left, without any mark of it."""
    if not _TURNS.search(text):
        return text
    return (_OVERRIDE if _RIGHT_TO_LEFT.search(text.replace("\ufeff", "")) else _TURNS).sub("", text)


def _redecoded(text: str) -> str | None:
    """What mojibake should have been, or the text itself where that is not known; None where it is no mojibake."""
    runs = _LATIN_1_RUN.findall(text)
    is_latin_1 = bool(runs) and sum(map(len, runs)) >= _LATIN_1_SHARE * sum(map(str.isalpha, text))
    if is_latin_1 and (fixed := _chinese_from_latin_1(text)):
        return fixed
    if _may_be_single_byte()(text) and (fixed := _fixed(text)) is not None:
        return fixed
    if (wide := _WIDE.search(text)) and (fixed := _from_multi_byte(text, wide.start())) is not None:
        return fixed
    # Words of Latin-1's letters beyond ASCII alone are another encoding, whichever it is.
    return text if is_latin_1 else None


def _fixed(text: str) -> str | None:
    """What ftfy makes of mojibake, or the text itself where it cannot tell; None where it is no mojibake."""
    import ftfy  # which takes long, and is needed for few texts
    from ftfy import badness

    if not badness.is_bad(text):
        return None
    fixed = ftfy.fix_encoding(text)
    if fixed == text or _C1.sub("", fixed) == _C1.sub("", _without_c1(text)):
        return None
    # A repair that loses characters is none.
    return fixed if fixed.count(_LOST) <= text.count(_LOST) else text


def _without_c1(text: str) -> str:
    """C1 control characters as the characters of Windows-1252 that they stand for."""
    from ftfy import fixes

    return fixes.fix_c1_controls(text)


@cache
def _may_be_single_byte() -> Callable[[str], object]:
    """A search for the bytes of one character in UTF-8 beyond ASCII, as single-byte encodings read them."""

    def letters(first: int, last: int) -> str:
        found = {bytes([byte]).decode(name, "replace") for name in _SINGLE_BYTE for byte in range(first, last + 1)}
        return "".join(sorted(re.escape(char) for char in found - {_LOST}))

    # Quotes and dashes stand before letters everywhere; only on old Macs they were first bytes.
    first_of_two = re.sub("[’‘“”«»–—…\xa0]", "", letters(0xC2, 0xDF))
    later = f"[{letters(0x80, 0xBF)}]"
    # The second byte of `à` is a no-break space, which many programs have made a plain one.
    two, three, four = f"[{first_of_two}]{later}|[ÃĂ] ", f"[{letters(0xE0, 0xEF)}]", f"[{letters(0xF0, 0xF4)}]"
    return re.compile(f"{two}|{three}{later}{{2}}|{four}{later}{{3}}").search


def _from_multi_byte(text: str, first: int) -> str | None:
    """UTF-8 that was read as an encoding of East Asia: its own bytes are UTF-8 again, which those of real text are not.

    Args:
        text: the text.
        first: where its first wide character is.
    """
    names = [name for name in _MULTI_BYTE if _is_utf8(text[max(0, first - 1) : first + _TRIED], name)]
    if not names:
        return None
    runs = _NOT_ASCII.findall(text)
    is_sure = sum(map(len, runs)) >= _SURELY_WIDE
    if not is_sure and len(_WIDE_IN_WORD.findall(text)) < len(runs):
        return None
    for name in names:
        try:
            fixed = text.encode(name).decode("utf-8")
        except UnicodeError:
            continue
        if is_sure or all(map(_LATIN.fullmatch, _NOT_ASCII.findall(fixed))):
            return fixed
    return None


def _is_utf8(text: str, encoding: str) -> bool:
    """Whether the bytes of a text in an encoding are UTF-8, but for a character that is cut at the end."""
    try:
        codecs.utf_8_decode(text.encode(encoding), "strict", False)
    except UnicodeError:
        return False
    return True


def _chinese_from_latin_1(text: str) -> str:
    """GB 18030 that was read as Latin-1; empty where it is not that."""
    try:
        written = text.encode("latin-1")
    except UnicodeError:
        return ""
    if not encodings.is_chinese(written):
        return ""
    try:
        written.decode("utf-8")
    except UnicodeError:
        return written.decode("gb18030")
    return ""


def count_damaged_rows(sources: Sequence[str], texts: Sequence[Sequence[str]]) -> tuple[Counter[str], dict[str, str]]:
    """The rows that show damage.

    Args:
        sources: where each row stands.
        texts: of each row.

    Returns:
        Kind -> how many rows show it, and kind -> the place of the first one with an example.
    """
    count: Counter[str] = Counter()
    first: dict[str, str] = {}
    for source, fields in zip(sources, texts, strict=True):
        shown = {kind: text for text in reversed(fields) for kind in find_kinds(text)}
        count.update(shown.keys())
        first |= {kind: f"{source}: {example(text, kind)}" for kind, text in shown.items() if kind not in first}
    return count, first
