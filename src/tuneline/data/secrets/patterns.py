"""Finds the secrets and personal data at one place of a text, in UTF-8 with ASCII digits."""

import base64
import binascii
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from stdnum import luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.es import dni
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.kr import rrn
from stdnum.se import personnummer
from stdnum.us import itin, ssn
from stdnum.util import get_cc_module

from tuneline.data.secrets import named_numbers, national_phones

Place = tuple[Literal["email", "phone", "id_number", "card", "key"], int, int]
"""Kind, first byte, byte after the last."""

SHORTEST_TOKEN = 20
"""Least number of consecutive characters of [A-Za-z0-9_-] in a token. Providers document how their tokens begin."""

PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:[^\0-]{0,20000}-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
_TOKEN = re.compile(
    rb"(?<![A-Za-z0-9])(?:"
    rb"(?P<cloud>(?:AKIA|ASIA)[A-Z0-9]{16}|LTAI[A-Za-z0-9]{16,22}|AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28})"
    rb"|(?P<code>gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}|npm_[A-Za-z0-9]{36}"
    rb"|(?:glpat|gldt|glft|glsoat|glrt|glcbt|glimt|glptt|glagent|gloas)-[A-Za-z0-9_-]{20,}|GR1348941[A-Za-z0-9_-]{20,}"
    rb"|pypi-AgEI[A-Za-z0-9_-]{50,}|hf_[A-Za-z0-9]{34,})"
    rb"|(?P<service>xox[abeoprs]-[A-Za-z0-9-]{20,}|[sr]k_(?:live|test)_[A-Za-z0-9]{20,}|sq0[a-z]{3}-[A-Za-z0-9_-]{22,}"
    rb"|(?:AC|SK)[a-f0-9]{32}|[0-9a-f]{32}-us\d{1,2})"
    rb"|(?P<model>sk-[A-Za-z0-9_-]{20,})"
    rb"|(?P<jwt>eyJ[A-Za-z0-9_-]{17,})"
    rb")(?![A-Za-z0-9])"
)
# Tokens of several parts, and values behind a name such as AWS_SECRET_ACCESS_KEY=.
_PARTED = re.compile(
    rb"(?<![A-Za-z0-9])(?:SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}|[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}"
    rb"|\d{8,10}:[A-Za-z0-9_-]{35}|T[A-Z0-9]{7,12}/B[A-Z0-9]{7,12}/[A-Za-z0-9]{20,})(?![A-Za-z0-9_-])"
)
_ASSIGNED = re.compile(
    rb"(?i)(?:secret|token|passw(?:or)?d|pwd|credentials?|(?:api|access|account|auth|private|encryption)[_.-]?key)"
    rb"[A-Za-z0-9_]{0,16}[\"']?\s{0,2}(?:=>|:=|=|:)\s{0,2}[\"']?(?P<value>[A-Za-z0-9+/_.=~-]{20,200})"
)
_BEFORE_ASSIGNED = 48
_JWT = re.compile(rb"([A-Za-z0-9_-]+)\.eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{16,1024}")
_FEWEST_CHARACTERS, _FEWEST_DIFFERENT = 8, 12
_MIXED = re.compile(rb"(?=[A-Za-z0-9]*[0-9][A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{16,}")


def tokens(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the tokens in a run of token characters.

    Args:
        data: the text.
        start: of the run.
        stop: of the run. A JSON web token is longer than the run.
    """
    for match in _TOKEN.finditer(data, start, stop):
        if match["jwt"]:
            whole = _JWT.match(data, match.start())
            if whole and _is_header(whole[1]):
                yield whole.span()
        elif not _is_placeholder(match.group(), bool(match["model"])):
            yield match.span()


def parted(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of tokens with several parts, and of values behind a telling name, around a run.

    Args:
        data: the text.
        start: of the run.
        stop: of the run.
    """
    first, last = max(start - _BEFORE_ASSIGNED, 0), min(stop + _AFTER, len(data))
    for match in _PARTED.finditer(data, first, last):
        if match.start() < stop and match.end() > start and not _is_placeholder(match.group(), False):
            yield match.span()
    for match in _ASSIGNED.finditer(data, first, last):
        if match.start() < stop and match.end() > start and _is_random(match["value"]):
            yield match.span("value")


def _is_random(value: bytes) -> bool:
    """Return whether a value looks random: not like words, a path or the name of a variable."""
    if b"EXAMPLE" in value.upper() or len(set(value)) < _FEWEST_DIFFERENT or _PLACEHOLDERS.fullmatch(value):
        return False
    kinds = Counter(map(_kind, value))
    is_mixed = kinds[_DIGIT] > 1 or (kinds[_UPPER] > 2 and kinds[_LOWER] > 2)
    changes = sum(_kind(one) != _kind(other) for one, other in itertools.pairwise(value))
    return is_mixed and kinds[_UPPER] + kinds[_LOWER] > 3 and 4 * changes >= len(value)


def _kind(code: int) -> int:
    char = chr(code)
    return _DIGIT * char.isdigit() + _UPPER * char.isupper() + _LOWER * char.islower()


_DIGIT, _UPPER, _LOWER = 1, 2, 3


def _is_placeholder(token: bytes, is_model: bool) -> bool:
    """Return whether a token is an example of documentation, such as sk-xxxxxxxx… and AKIAIOSFODNN7EXAMPLE."""
    if b"EXAMPLE" in token.upper() or len(set(token[4:])) < _FEWEST_CHARACTERS:
        return True
    return is_model and not _MIXED.search(token, 3)


def _is_header(head: bytes) -> bool:
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return False


_BEFORE, _AFTER = 128, 256
_PASSWORD = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>\0]{0,64}:([^\s/@\"'<>\0]{3,100})\Z")
_HOST = re.compile(rb"\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_LOCAL_PART = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}\Z")
_PLACEHOLDERS = re.compile(
    rb"(?i)(?:my|your|the|db|user|some)?[_-]?(?:pass(?:wd|word|wort)?|pwd?|pw|secret|token|key|x+|\*+|\.+)"
    rb"|[\${%\[(].*|.*[}\])%]|port|changeme|foo|bar|baz"
)
# RFC 2606 and 6761 reserve these names for examples and tests.
_RESERVED = re.compile(
    rb"(?i)(?:.*\.)?(?:example|test|invalid|localhost|local)|(?:.*\.)?example\.(?:com|net|org|edu|cn|com\.cn)"
    rb"|127(?:\.\d+){3}|0\.0\.0\.0|\[::1?\]"
)
_TOP_LEVEL = frozenset(
    b"com net org edu gov mil int info biz name pro mobi asia cat jobs tel travel museum aero coop post xxx arpa app "
    b"dev online site website xyz top club shop store tech email live vip wang ren work cloud space fun ink ltd group "
    b"link world today life news blog page agency company center solutions systems network digital studio design media "
    b"academy university institute science social team zone berlin london paris nyc tokyo eus scot".split()
)
# Two letters are a country, except these endings of file names with an @, such as icon@2x.js.
_NO_COUNTRY = frozenset(b"js ts cc7 qq db xs fn dt df".split())


def address(data: bytes, place: int) -> Place | None:
    """Return the email around an @, or the password in a URL before it; None if it is neither.

    Args:
        data: the text.
        place: of the @.
    """
    host = _HOST.match(data, place + 1, place + 1 + _AFTER)
    if not host or _RESERVED.fullmatch(host.group()):
        return None
    before = data[max(place - _BEFORE, 0) : place]
    password = _PASSWORD.search(before) if b"://" in before else None
    if password:
        start = place - len(before) + password.start(1)
        return None if _PLACEHOLDERS.fullmatch(password[1]) else ("key", start, place)
    local = _LOCAL_PART.search(before)
    # A name behind :// is a user on a server: ssh://deploy@host.org.
    if not local or before[: local.start()].endswith(b"://"):
        return None
    name, labels = local.group(), host.group().split(b".")
    top = labels[-1].lower()
    is_country = len(top) == 2 and top.isalpha() and top not in _NO_COUNTRY
    if len(labels) < 2 or not all(labels) or not (is_country or top in _TOP_LEVEL):
        return None
    # Many digits and dots before the @ are a message id. A few digits are an address, as at qq.com.
    if name == b"git" or b".." in name or name.endswith(b".") or (len(name) > 15 and not re.search(rb"[A-Za-z]", name)):
        return None
    return "email", place - len(name), host.end()


DIGIT_RUN = re.compile(rb"0(?:[ ()-]{0,2}0){7,}+")
"""Eight or more digits, each mapped to 0, with at most two signs between any two."""

DOTTED = re.compile(
    rb"000\.000[.-]000|000\.0000\.0000\.00|00\.00\.00-000|0\.000\.000-|000000/000|0000\.00\.000"
    rb"|00(?:\.00){4}|000(?:\.00){3}|000\.0{7,}+|0{3,5}/0{5,}+"
)
"""The beginning of numbers that are written with dots and slashes."""

_NO_BEGINNING = frozenset(b"._ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# A number behind a name and a bracket is an argument of a call, such as the seed in `default_rng(348932549825235)`.
_ALONE = rb"(?<![\w.+$#/-])(?<!\d )(?<!\w\()"
_ENDS = rb"(?![\w]|[.,:/]\d|-\w)"

_IDS = re.compile(
    _ALONE + rb"(?:(?P<cn>[1-9]\d{16}[\dXx])|(?P<us>[0-8]\d\d-\d\d-\d{4})|(?P<br>\d{3}\.\d{3}\.\d{3}-\d\d)"
    rb"|(?P<kr>\d\d[01]\d[0-3]\d-[1-8]\d{6})|(?P<se>(?:19|20)?\d\d[01]\d[0-3]\d-\d{4})"
    rb"|(?P<fi>[0-3]\d[01]\d{3}[-+A][0-9]{3}[0-9A-Y])|(?P<fr>[12]\d\d[01]\d(?:\d\d|2[AB])\d{8}"
    rb"|[12] \d\d [01]\d \d[\dAB] \d{3} \d{3} \d\d)|(?P<es>\d{8}-?[A-Z])"
    rb"|(?P<ch>756\.\d{4}\.\d{4}\.\d\d)|(?P<be>\d\d\.[01]\d\.[0-3]\d-\d{3}\.\d\d)|(?P<cl>\d{1,2}\.\d{3}\.\d{3}-[\dK])"
    rb"|(?P<do>\d{3}-\d{7}-\d)|(?P<pk>\d{5}-\d{7}-\d)|(?P<my>\d\d[01]\d[0-3]\d-\d\d-\d{4})"
    rb"|(?P<cz>\d\d[0-8]\d[0-3]\d/\d{3,4})|(?P<lv>[0-3]\d[01]\d{3}-[012]\d{4})|(?P<th>\d-\d{4}-\d{5}-\d\d-\d)"
    rb"|(?P<is>[0-7]\d[01]\d{3}-\d{3}[089])|(?P<no>[0-7]\d[0-9]\d{3} \d{5})|(?P<us_itin>9\d\d-\d\d-\d{4}))" + _ENDS
)
_CHECKS = {
    "cn": ric,
    "us": ssn,
    "us_itin": itin,
    "br": cpf,
    "kr": rrn,
    "se": personnummer,
    "fi": hetu,
    "fr": nir,
    "es": dni,
    "ch": get_cc_module("ch", "ssn"),
    "be": get_cc_module("be", "nn"),
    "cl": get_cc_module("cl", "rut"),
    "do": get_cc_module("do", "cedula"),
    "pk": get_cc_module("pk", "cnic"),
    "my": get_cc_module("my", "nric"),
    "cz": get_cc_module("cz", "rc"),
    "lv": get_cc_module("lv", "pvn"),
    "th": get_cc_module("th", "pin"),
    "is": get_cc_module("is", "kennitala"),
    "no": get_cc_module("no", "fodselsnummer"),
}
_DATE = re.compile(rb"(?:19|20)\d\d[01]\d[0-3]\d|[0-3]\d[01]\d(?:19|20)\d\d")

_CARDS = re.compile(
    _ALONE + rb"(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|64[4-9]\d|65\d\d|35[2-8]\d|62\d\d)([ -]?)\d{4}\1\d{4}\1\d{4}"
    rb"|3[47]\d\d([ -]?)\d{6}\2\d{5}|3(?:0[0-5]|[68]\d)\d([ -]?)\d{6}\3\d{4}|62\d{15,17})" + _ENDS + rb"(?! \d)"
)

_COUNTRY = (
    rb"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    rb"|2(?:1[12368]|[2346]\d|5[0-8]|9[0178])|3[578]\d|42[013]|50\d|59\d|6[78]\d|69[0-2]|8(?:00|[578]\d)|9[679]\d)"
)
_PHONES = re.compile(
    # China, with or without the country code: mobile, then landline with a sign behind the area code.
    rb"(?:(?<![\w.+$#/-])|(?<=\+)|(?<=[^\w]00))(?:86[ -]?)?1[3-9]\d(?:\d{8}|([ -])\d{4}\1\d{4})"
    + _ENDS
    + rb"(?! \d{4}\b)"
    rb"|(?<![\w.+$#/-])(?:\(0(?:10|2[0-57-9]|[3-9]\d\d)\) ?|0(?:10|2[0-57-9]|[3-9]\d\d)[ -])[2-8]\d{6,7}"
    + _ENDS
    + rb"(?![ ]\d)"
    # With a country code: eight to fifteen digits in groups, or ten and more without groups.
    rb"|(?<![\w.+])\+"
    + _COUNTRY
    + rb"(?:\d{7,12}|(?:[ -]\(?\d{1,4}\)?|\(\d{1,4}\))(?:[ -]?\d{2,8}){1,6})"
    + _ENDS
    +
    # North America: area code and exchange begin with 2 to 9.
    rb"|(?<![\w.+$#/])(?<!\d[ -])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d([ .-]))[2-9]\d\d(?(2)\2|-)\d{4}"
    + _ENDS
    + rb"(?! \d)"
)
_FEWEST_DIGITS, _MOST_DIGITS, _FEWEST_WITHOUT_SIGNS = 8, 15, 10
_FICTION = re.compile(rb"555[ .-]?01\d\d\Z")
"""Numbers that North America reserves for films and books."""


def numbers(data: bytes, start: int, stop: int) -> Iterator[Place]:
    """Yield what a run of digits contains, the surest kind first.

    Args:
        data: the text.
        start: of the run.
        stop: of the run.
    """
    for found in named_numbers.accounts(data, start, stop):
        yield "card", *found
    for found in named_numbers.named(data, start, stop):
        yield "id_number", *found
    for found in national_phones.national(data, start, stop):
        yield "phone", *found
    if start and data[start - 1] in _NO_BEGINNING and data[start:stop].isdigit():
        return  # decimals, and numbers in names
    first, last = max(start - 3, 0), min(stop + 8, len(data))
    for match in _IDS.finditer(data, first, last):
        if match.lastgroup and _is_id(match.lastgroup, match.group()):
            yield "id_number", *match.span()
    for match in _CARDS.finditer(data, first, last):
        if luhn.is_valid(re.sub(rb"\D", b"", match.group()).decode()):
            yield "card", *match.span()
    for match in _PHONES.finditer(data, first, last):
        number = match.group()
        digits = re.sub(rb"\D", b"", number)
        fewest = _FEWEST_WITHOUT_SIGNS if number[1:].isdigit() else _FEWEST_DIGITS
        if fewest <= len(digits) <= _MOST_DIGITS and not _FICTION.search(number) and len(set(digits)) > 2:
            yield "phone", *match.span()


def _is_id(country: str, number: bytes) -> bool:
    # Eight digits and a letter can also be the beginning of a time: 20240131T.
    if country == "es" and _DATE.match(number):
        return False
    return named_numbers.is_valid(_CHECKS[country], number.decode())
