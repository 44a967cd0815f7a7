"""Checking the encoding of files, and guessing it if it is wrong."""

import codecs
from collections.abc import Sequence

from charset_normalizer import from_bytes

from tuneline.data.reading.containers.byte_streams import RefusedError
from tuneline.data.reading.discover import FORMATS
from tuneline.errors import DataError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# An encoding by charset-normalizer's name -> a larger encoding that contains it.
_WIDER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz": "gb18030",
    "cp950": "big5",
    "euc_kr": "cp949",
    "johab": "cp949",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "shift_jisx0213": "cp932",
    "euc_jis_2004": "euc_jp",
    "euc_jisx0213": "euc_jp",
    "latin_1": "cp1252",
    "ascii": "cp1252",
}
_WESTERN = set("àâäáãåæçéèêëíìîïñóòôöõøœúùûüýÿßÀÂÄÁÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒÚÙÛÜÝ’‘“”«»‹›„–—…€£§°©®·¡¿ªº\xa0½¼²³±×")
_WIDE = tuple(name for name in ("utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be", "utf_7"))
_GUESSED_FROM = 65_536
# How much worse than the best an encoding of the project may fit, in the measures of charset-normalizer.
_MORE_CHAOS = 0.1
_COHERENT = 0.8
# Characters beyond ASCII: text in another encoding is valid UTF-8 by chance for a few characters only.
_SURELY_UTF8 = 8
_SAMPLE_LINES = 200
_SAMPLE_BYTES = 2_000
_CONTROLS = bytes(range(1, 9)) + bytes(range(14, 27)) + bytes(range(28, 32))


def read_mark(head: bytes) -> tuple[str, int]:
    """The encoding of a byte order mark by Python's name, and the length of the mark; ("", 0) without a mark.

    Args:
        head: the first bytes of a file.
    """
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding, len(mark)
    return "", 0


def is_wide(encoding: str) -> bool:
    """Whether an encoding has other line ends than ASCII, so that its files must be transcoded to find lines."""
    return "\n".encode(encoding) != b"\n"


def _guess(sample: bytes, likely: Sequence[str]) -> str:
    """The probable encoding of a text by Python's name; empty if no encoding fits.

    Args:
        sample: a part of the text.
        likely: encodings that are preferred if they fit about as well as the best.
    """
    sample = sample[:_GUESSED_FROM]
    best = from_bytes(sample, cp_exclusion=list(_WIDE)).best() if likely else None
    for encoding in likely:
        # In an encoding of another script the text is a mess, or resembles no language.
        found = from_bytes(sample, cp_isolation=[encoding]).best()
        if found and (
            not best or (found.chaos <= best.chaos + _MORE_CHAOS and found.coherence >= _COHERENT * best.coherence)
        ):
            return encoding
    # A single-byte encoding can decode any text; cp1252 is accepted if it gives Western letters and signs only.
    western = sample.decode("cp1252", "replace")
    if {char for char in western if not char.isascii()} <= _WESTERN:
        return "cp1252"
    if is_chinese(sample):
        return "gb18030"
    best = best or from_bytes(sample, cp_exclusion=list(_WIDE)).best()
    return "" if best is None else _WIDER.get(best.encoding, best.encoding)


def is_chinese(sample: bytes) -> bool:
    """Whether a text is GB 18030, by the share of frequent Chinese characters; works for short texts."""
    try:
        text = sample.decode("gb18030")
    except UnicodeDecodeError:
        return False
    leads = [
        char.encode("gb18030")[0] if len(char.encode("gb18030")) == 2 else 0 for char in text if not char.isascii()
    ]
    # The frequent characters are in rows 16 to 55 of GB 2312. Korean text in EUC-KR has only rows 16 to 40; signs and
    # kana are in rows before 16.
    frequent = sum(0xB0 <= lead <= 0xD7 for lead in leads)
    signs = sum(lead in (0xA1, 0xA3) for lead in leads)
    beyond_korean = sum(0xC9 <= lead <= 0xD7 for lead in leads)
    return frequent + signs >= 0.9 * len(leads) and 10 * beyond_korean >= frequent > 0


def detect_wide(head: bytes) -> str:
    """UTF-16 or UTF-32 without a byte order mark by Python's name, by the zero bytes between letters; else empty.

    Args:
        head: the first bytes of a file.
    """
    units = head[: len(head) // 4 * 4]
    if len(units) < 8:
        return ""
    zeros = [units[at::4].count(0) * 4 / len(units) for at in range(4)]
    for encoding, high, low in (
        ("utf-32-le", (1, 2, 3), (0,)),
        ("utf-32-be", (0, 1, 2), (3,)),
        ("utf-16-le", (1, 3), (0, 2)),
        ("utf-16-be", (0, 2), (1, 3)),
    ):
        wanted = 0.9 if "32" in encoding else 0.5
        if all(zeros[at] >= wanted for at in high[:2]) and all(zeros[at] < 0.05 for at in low):
            return encoding
    return ""


def check_codec(encoding: str) -> None:
    """Raise DataError unless Python has a text encoding of this name."""
    try:
        "\n".encode(encoding)
    except (LookupError, UnicodeError):
        raise DataError(
            f"encoding {encoding!r}: is not an encoding that Python knows; utf-8, gb18030 and cp1252 are examples"
        ) from None


def check_is_text(head: bytes) -> None:
    """Raise RefusedError for a binary file, which has many zero bytes or control characters.

    Args:
        head: the first bytes of a file, transcoded if its encoding is UTF-16 or UTF-32.
    """
    head = head[:_GUESSED_FROM]
    if head.count(0) >= 8 and 20 * head.count(0) > len(head):
        raise RefusedError(f"has many zero bytes, so it is not text; tuneline reads {FORMATS}")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls >= 8 and 20 * controls > len(head):
        raise RefusedError(f"has many control characters, so it is not text; tuneline reads {FORMATS}")


def check_head(head: bytes, encoding: str, param: str, likely: Sequence[str] = ()) -> None:
    """Check the encoding of a JSON file by its first bytes, because its lines are not rows.

    Args:
        head: its first bytes.
        encoding: that it should have, by Python's name.
        param: the param that sets the encoding; empty if only a command-line option sets it.
        likely: encodings of other files of the project.

    Raises:
        RefusedError: most of the characters beyond ASCII are not in the encoding.
    """
    if encoding != "utf-8" or head.isascii():
        return
    text = head.decode("utf-8", "surrogateescape")
    # Up to three wrong bytes may be a character that is cut off at the end.
    wrong = sum(1 for char in text if "\udc80" <= char <= "\udcff")
    if wrong > 3 and 2 * wrong > sum(1 for char in text if not char.isascii()):
        raise RefusedError(f"is not utf-8; {_describe_guess(_guess(bytes(head), likely), param, likely)}")


def _describe_guess(other: str, param: str, likely: Sequence[str]) -> str:
    if not other:
        setting = f"set `{param}` to it" if param else "give it as `--encoding`"
        return f"its encoding was not recognised: find out its encoding and {setting}, or correct the lines"
    known = ", as other files of this project" if other in likely else ""
    return f"it looks like {other}{known}: if that is right, {describe_setting(other, param)}"


def describe_setting(encoding: str, param: str) -> str:
    """The remedy that sets the encoding of files.

    Args:
        encoding: by Python's name.
        param: the param that sets the encoding; empty if only a command-line option sets it.
    """
    return f"set `{param}: {encoding}` (`--encoding {encoding}`)" if param else f"give `--encoding {encoding}`"


class EncodingCheck:
    """Counts the lines of a file that are not in its encoding.

    Args:
        encoding: that the file should have.
        param: the param that sets the encoding; empty if only a command-line option sets it.
        likely: encodings of other files of the project.
    """

    def __init__(self, encoding: str, param: str, likely: Sequence[str] = ()) -> None:
        self.encoding = encoding
        """By Python's name."""
        self._param, self._likely = param, likely
        self._lines = self._good = self._bad = 0
        self._sample: list[bytes] = []
        # Single-byte encodings decode UTF-8 too, to other characters than were written.
        self._utf8_characters = 0
        self._may_be_utf8 = encoding != "utf-8"

    def add_lines(self, data: bytes) -> None:
        """Count some complete lines."""
        if data.isascii() and self.encoding == "utf-8":
            self._lines += data.count(b"\n")
            return
        if self._may_be_utf8 and not data.isascii():
            self._count_utf8(data)
        try:
            data.decode(self.encoding)
        except UnicodeDecodeError:
            self._count(data)
            return
        lines = data.count(b"\n") or 1
        self._lines += lines
        self._good += lines

    def _count_utf8(self, data: bytes) -> None:
        try:
            self._utf8_characters += sum(not char.isascii() for char in data.decode("utf-8"))
        except UnicodeDecodeError:
            self._may_be_utf8 = False

    def _count(self, data: bytes) -> None:
        for line in data.splitlines():
            self._lines += bool(line.strip())
            if line.isascii() and self.encoding == "utf-8":
                continue
            try:
                line.decode(self.encoding)
            except UnicodeDecodeError:
                self._bad += 1
                if len(self._sample) < _SAMPLE_LINES:
                    self._sample.append(line[:_SAMPLE_BYTES])
            else:
                self._good += 1

    def finish(self) -> str:
        """A warning if some lines are in another encoding, else an empty text.

        Raises:
            RefusedError: the file is UTF-8 although it should not be, or most lines are in another encoding.
        """
        if self._may_be_utf8 and self._utf8_characters >= _SURELY_UTF8:
            raise RefusedError(
                f"is utf-8, not {self.encoding}: all files of a data set must have the same encoding; convert this "
                f"file to {self.encoding}, or the others to utf-8"
            )
        if not self._bad:
            return ""
        guessed = _guess(b"\n".join(self._sample), self._likely) if self.encoding == "utf-8" else ""
        remedy = _describe_guess(guessed, self._param, self._likely)
        many = 2 * self._bad > self._lines or (self._bad >= 5 and 10 * self._bad > self._lines)
        if self._bad > self._good and many:
            raise RefusedError(f"is not {self.encoding}; {remedy}")
        return f"{self._bad:,} line(s) are not {self.encoding}; {remedy}"
