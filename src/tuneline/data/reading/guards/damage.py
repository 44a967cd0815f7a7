"""Damage in text: finding its kinds, and repairing it.

    mojibake      text that was decoded in a wrong encoding, once or twice: `é` became `Ã©` or `茅`
    replacement   U+FFFD, the replacement for a lost character; it cannot be repaired
    control       C1 control characters (U+0080 to U+009F): quotes and dashes of Windows-1252, read as Latin-1
    direction     characters that override the direction of writing, or set it in a text without right-to-left letters
    invisible     zero-width characters, soft hyphens and tags, which people do not see and models learn
    blank         text of white space and invisible characters only

ASCII text has none of these. ftfy finds and repairs mojibake of single-byte encodings; it is designed to be wrong in
one of a million texts. Mojibake of East Asian encodings is found here.
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
"""The kinds that `repair` can repair."""

_C1 = re.compile("[\x80-\x84\x86-\x9f]")
_MARKS = "\u200e\u200f\u061c\u202a-\u202c\u2066-\u2069"
_OVERRIDE = re.compile("[\u202d\u202e]")
_TURNS = re.compile(f"[{_MARKS}\u202d\u202e]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
# In these scripts a zero-width space separates words.
_WITHOUT_SPACES = character_class(SOUTHEAST_ASIAN)
# Tag characters after a black flag or another tag are part of a flag.
_INVISIBLE = re.compile(
    f"(?<!{_WITHOUT_SPACES})\u200b(?!{_WITHOUT_SPACES})|"
    "[\xad\u180e\u2060-\u2064\ufeff]|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0001-\U000e007f]+"
)
# White space, and the characters that Unicode calls default ignorable.
_UNSEEN = re.compile(
    "[\\s\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]*"
)
_LOST = "\ufffd"
# The bytes of U+FFFD, read as Latin-1, Windows-1252 or GB 18030.
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
    """The kinds of damage in a text, in the order of KINDS."""
    if text.isascii():
        return ()
    decoded = _redecode(text)
    found = {"mojibake"} if decoded is not None else set[str]()
    # In mojibake that is not repaired, these characters may be bytes of other characters.
    is_known = decoded is None or decoded != text
    text = decoded or text
    if _LOST in text or _LOST_AGAIN.search(text):
        found.add("replacement")
    if is_known and _SHOWN.search(text):
        found |= {
            kind
            for kind, is_there in (
                ("control", _C1.search(text)),
                ("direction", _without_direction_marks(text) != text),
                ("invisible", _INVISIBLE.search(text)),
            )
            if is_there
        }
    if is_blank(text):
        found.add("blank")
    return tuple(kind for kind in KINDS if kind in found)


def repair(text: str, wanted: Iterable[str]) -> str:
    """The text without some kinds of damage.

    Args:
        text: as it was read, before it is cleaned.
        wanted: kinds of REPAIRED.
    """
    if text.isascii():
        return text
    wanted = set(wanted)
    decoded = _redecode(text)
    if decoded is not None:
        # Every character of mojibake may be a byte of another character.
        if "mojibake" not in wanted or decoded == text:
            return text
        text = decoded
    if "control" in wanted and _C1.search(text):
        # Control characters that Windows-1252 does not have are removed.
        text = _C1.sub("", _without_c1(text))
    if "direction" in wanted:
        text = _without_direction_marks(text)
    if "invisible" in wanted:
        text = _INVISIBLE.sub("", text)
    return text


def example(text: str, kind: str) -> str:
    """An excerpt of the damage in a text, and of the repaired text.

    Args:
        text: a text with this kind of damage.
        kind: of KINDS.

    Returns:
        For example `'caf\\u200bé' is 'café'`; invisible characters are escaped.
    """
    if kind != "mojibake":
        text = _redecode(text) or text
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
    """Whether a text that is not empty has white space and invisible characters only."""
    return bool(text) and _UNSEEN.fullmatch(text) is not None


def _without_direction_marks(text: str) -> str:
    """The text without direction overrides and, if it has no right-to-left letters, without any direction mark."""
    if not _TURNS.search(text):
        return text
    return (_OVERRIDE if _RIGHT_TO_LEFT.search(text.replace("\ufeff", "")) else _TURNS).sub("", text)


def _redecode(text: str) -> str | None:
    """The correct text of mojibake, or the text itself if that is unknown; None if the text is not mojibake."""
    runs = _LATIN_1_RUN.findall(text)
    is_latin_1 = bool(runs) and sum(map(len, runs)) >= _LATIN_1_SHARE * sum(map(str.isalpha, text))
    if is_latin_1 and (fixed := _chinese_from_latin_1(text)):
        return fixed
    if _may_be_single_byte()(text) and (fixed := _fix_with_ftfy(text)) is not None:
        return fixed
    if (wide := _WIDE.search(text)) and (fixed := _from_multi_byte(text, wide.start())) is not None:
        return fixed
    # Words of non-ASCII Latin-1 letters only are text in another encoding.
    return text if is_latin_1 else None


def _fix_with_ftfy(text: str) -> str | None:
    """The text that ftfy makes of mojibake, or the text itself if ftfy fails; None if the text is not mojibake."""
    import ftfy  # slow to import, and few texts need it
    from ftfy import badness

    if not badness.is_bad(text):
        return None
    fixed = ftfy.fix_encoding(text)
    if fixed == text or _C1.sub("", fixed) == _C1.sub("", _without_c1(text)):
        return None
    # A repair must not lose characters.
    return fixed if fixed.count(_LOST) <= text.count(_LOST) else text


def _without_c1(text: str) -> str:
    """The text with C1 control characters replaced by the Windows-1252 characters of the same bytes."""
    from ftfy import fixes

    return fixes.fix_c1_controls(text)


@cache
def _may_be_single_byte() -> Callable[[str], object]:
    """A search for the UTF-8 bytes of one non-ASCII character, decoded in a single-byte encoding."""

    def letters(first: int, last: int) -> str:
        found = {bytes([byte]).decode(name, "replace") for name in _SINGLE_BYTE for byte in range(first, last + 1)}
        return "".join(sorted(re.escape(char) for char in found - {_LOST}))

    # Quotes and dashes are before letters in many texts; they are first bytes in Mac encodings only.
    first_of_two = re.sub("[’‘“”«»–—…\xa0]", "", letters(0xC2, 0xDF))
    later = f"[{letters(0x80, 0xBF)}]"
    # The second byte of `à` is a no-break space, which many programs replace by a space.
    two, three, four = f"[{first_of_two}]{later}|[ÃĂ] ", f"[{letters(0xE0, 0xEF)}]", f"[{letters(0xF0, 0xF4)}]"
    return re.compile(f"{two}|{three}{later}{{2}}|{four}{later}{{3}}").search


def _from_multi_byte(text: str, first: int) -> str | None:
    """The text of UTF-8 that was decoded in an East Asian encoding, else None.

    Encoded again, such a text is valid UTF-8; real East Asian text is not.

    Args:
        text: the text.
        first: the index of its first wide character.
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
    """Whether the text encoded in `encoding` is valid UTF-8, except for a character that is cut off at the end."""
    try:
        codecs.utf_8_decode(text.encode(encoding), "strict", False)
    except UnicodeError:
        return False
    return True


def _chinese_from_latin_1(text: str) -> str:
    """The text of GB 18030 that was decoded as Latin-1; empty if it is another text."""
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
    """Count the rows with each kind of damage.

    Args:
        sources: the source of each row.
        texts: the texts of each row.

    Returns:
        Kind -> the number of rows with it, and kind -> the source of the first such row with an example.
    """
    count: Counter[str] = Counter()
    first: dict[str, str] = {}
    for source, fields in zip(sources, texts, strict=True):
        shown = {kind: text for text in reversed(fields) for kind in find_kinds(text)}
        count.update(shown.keys())
        first |= {kind: f"{source}: {example(text, kind)}" for kind, text in shown.items() if kind not in first}
    return count, first
