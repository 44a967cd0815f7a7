"""Finds phone numbers without a country code.

Nine or ten digits can be anything. So most numbers count only behind a word for phone, as in `móvil 612345678`. Numbers
that are written in the groups of a country's phone numbers count anywhere.
"""

import itertools
import re
from collections.abc import Iterator

_WORDS = (
    # English, Spanish, Portuguese, French, Italian, German, Chinese, Hindi.
    "phone|telephone|tel|mobile|mob|cell|cellphone|contact|landline|fax|whatsapp|call|dial|text_me"
    "|teléfono|TELÉFONO|telefono|tfno|tlfno|tlf|tfn|móvil|MÓVIL|movil|celular|llama|llame|llámame|llámeme|llamar"
    "|telefone|telemóvel|telemovel|ligue"
    "|téléphone|TÉLÉPHONE|portable|tél|TÉL|appelez|appeler|joignable"
    "|cellulare|chiamare|chiamami|chiamate|chiama"
    "|telefon|telefonnummer|handy|handynummer|mobil|mobilnummer|mobiltelefon|rufnummer|festnetz|anrufen|durchwahl"
    "|电话|手机|手机号|手机号码|联系电话|致电|来电|拨打|座机"
    "|फ़ोन|फोन|मोबाइल|दूरभाष"
)
_BETWEEN = (
    r"no|nr|number|núm|num|número|numero|numéro|nummer|is|es|est|ist|è|at|al|au|on|to|us|me|del|de|il|el|le|the|my|mi|mon"
    r"|mio|meine|unter|der|sul|is:|号码?|是|为|नंबर|पर|him|her|them|now|anytime"
)
_FORM = rb"(?:\(0?\d{1,5}\)[ ./-]{0,2})?\d(?:[ ./-]{0,2}\d){5,12}"
_NAMED = re.compile(
    (
        r"(?<![A-Za-z0-9_])(?:"
        + _WORDS.replace("_", "[ _-]")
        + r")(?![A-Za-z(\[])(?:[\s:#=.,'\"-]|\(0\)|：|，|(?:"
        + _BETWEEN
        + r")(?![A-Za-z])){1,8}+(?P<number>"
    ).encode()
    + _FORM
    + rb")(?![\w]|[.,:/]\d|-\w| \d)",
    re.IGNORECASE,
)
_BEFORE, _AFTER = 64, 24
_FEWEST_DIFFERENT = 3

_PLANS = re.compile(
    rb"[679]\d{8}|8[1-9]\d{7}"  # Spain
    rb"|0[1-9]\d{8}"  # France, and landlines of China
    rb"|0[1-9]\d{6,10}"  # Germany, Italy and the United Kingdom
    rb"|3[1-9]\d{7,8}"  # Italy, mobile
    rb"|[2-9]\d\d[2-9]\d{6}"  # North America
    rb"|[6-9]\d{9}"  # India
    rb"|1[3-9]\d{9}"  # China, mobile
)
"""Digits of the numbers that each country assigns."""

_GROUPED = re.compile(
    rb"(?<![\w.+$#/-])(?<!\d )(?:"
    # France: five pairs; Spain: three digits and three pairs.
    rb"0[1-9]([ .-])\d\d(?:\1\d\d){3}|[679]\d\d([ .-])\d\d(?:\2\d\d){2}"
    # The United Kingdom and Germany, mobile; with or without a space.
    rb"|07\d{3}[ ]?\d{3}[ ]?\d{3}|01[567]\d[ /-]?\d{7,8}"
    # India, mobile, with the leading 0. Without it two other numbers of five digits look the same.
    rb"|0[6-9]\d{4}[ -]\d{5}"
    # The United Kingdom: London, and other areas.
    rb"|\(?02\d\)?[ ]\d{4}[ ]\d{4}|\(01\d{3}\)[ ]?\d{6}|01\d{3}[ ]\d{6}"
    rb")(?![\w]|[.,:/]\d|-\w| \d|\.\w)"
)

# 00 instead of + before the country code.
_ABROAD = re.compile(
    rb"(?<![\w.,:/+-])(?<!\d )00(?:34|33|49|39|44|86|91|1)(?:[ -]?\(0\))?(?:[ -]?\d){8,12}(?![\w]|[.,:/]\d|-\w| \d)"
)


def national(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the phone numbers around a run of digits.

    Args:
        data: the text.
        start: of the run.
        stop: of the run.
    """
    for match in _NAMED.finditer(data, max(start - _BEFORE, 0), min(stop + _AFTER, len(data))):
        first, last = match.span("number")
        if first < stop and last > start and _is_assigned(match["number"]):
            yield first, last
    first, last = max(start - 4, 0), min(stop + 4, len(data))
    for pattern in (_GROUPED, _ABROAD):
        for match in pattern.finditer(data, first, last):
            if _is_varied(match.group()) and not _is_list(match.group()) and not _is_isbn(data, match.start()):
                yield match.span()


def _digits(number: bytes) -> bytes:
    return re.sub(rb"\D", b"", number)


def _is_assigned(number: bytes) -> bool:
    digits = _digits(number)
    return bool(_PLANS.fullmatch(digits)) and len(set(digits)) >= _FEWEST_DIFFERENT


def _is_varied(number: bytes) -> bool:
    return len(set(_digits(number))) >= _FEWEST_DIFFERENT


def _is_list(number: bytes) -> bool:
    """Return whether the groups of digits rise or fall evenly, as 01 02 03 04 05."""
    groups = [int(group) for group in re.findall(rb"\d+", number)]
    steps = {after - before for before, after in itertools.pairwise(groups)}
    return len(groups) > 2 and len(steps) == 1


def _is_isbn(data: bytes, start: int) -> bool:
    return b"isbn" in data[max(start - 12, 0) : start].lower()
