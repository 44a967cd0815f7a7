"""Finds identity numbers behind a name, as in `PESEL 44051401359`, identity numbers with letters, and bank accounts.

A check digit proves little: one of ten numbers with eleven digits is a valid PESEL. So most numbers count only behind a
word that names them. Numbers with an unmistakable form count anywhere.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from stdnum import iban
from stdnum.util import get_cc_module

_OF_WORDS: dict[str, str] = {
    "pesel": "pl.pesel",
    "bsn burgerservicenummer sofinummer": "nl.bsn",
    "steuer-id steuerid steuer-idnr steueridentifikationsnummer idnr": "de.idnr",
    "svnr vnr vsnr sozialversicherungsnummer versicherungsnummer": "at.vnr ch.ssn",
    "ahv avs ahv-nummer": "ch.ssn",
    "rijksregisternummer rijksregister niss insz nn": "be.nn",
    "numéro_national": "be.nn",
    "numéro_de_sécurité_sociale nir insee": "fr.nir",
    "numéro_fiscal nif spi": "fr.nif es.dni es.nie pt.nif",
    "sin": "ca.sin",
    "ssn": "us.ssn us.itin ch.ssn at.vnr be.nn",
    "itin": "us.itin",
    "tfn": "au.tfn",
    "ird": "nz.ird",
    "pps ppsn": "ie.pps",
    "nhs": "gb.nhs",
    "aadhaar aadhar uid": "in.aadhaar",
    "vid": "in.vid",
    "pan": "in.pan",
    "epic": "in.epic",
    "my_number マイナンバー 個人番号": "jp.in_",
    "cpr cpr-nummer": "dk.cpr",
    "kennitala": "is.kennitala",
    "fødselsnummer fodselsnummer fnr": "no.fodselsnummer",
    "personnummer personnr": "se.personnummer no.fodselsnummer",
    "hetu henkilötunnus": "fi.hetu",
    "isikukood": "ee.ik",
    "asmens_kodas": "lt.asmens",
    "personas_kods": "lv.pvn",
    "egn егн": "bg.egn",
    "lnch pnf лнч": "bg.pnf",
    "cnp": "ro.cnp",
    "oib": "hr.oib",
    "emso emšo jmbg": "si.emso",
    "rodné_číslo rč": "cz.rc",
    "amka αμκα": "gr.amka",
    "tckn kimlik t.c._kimlik kimlik_no": "tr.tckimlik",
    "codice_fiscale": "it.codicefiscale",
    "dni nie": "es.dni es.nie ar.dni pe.cui",
    "cuil cuit": "ar.cuit",
    "rut run": "cl.rut",
    "cédula cedula ci": "do.cedula ec.ci",
    "curp": "mx.curp",
    "rfc": "mx.rfc",
    "cpf": "br.cpf",
    "nit": "co.nit",
    "cui": "pe.cui",
    "rif": "ve.rif",
    "carnet_de_identidad ni": "cu.ni",
    "cartão_de_cidadão cc": "pt.cc",
    "nik ktp": "id.nik",
    "nric mykad": "my.nric",
    "pin": "th.pin",
    "rrn": "kr.rrn be.nn",
    "cnic": "pk.cnic",
    "teudat_zehut ת.ז": "il.idnr",
    "рнокпп ипн іпн": "ua.rntrc",
    "инн": "ru.inn",
    "身份证 身份证号 身份证号码 公民身份号码": "cn.ric",
    "주민등록번호": "kr.rrn",
}
"""Words before a number, in any case, with _ for a space -> the modules of python-stdnum that validate the number."""

_OF_ANY = [
    "social_security",
    "social_insurance",
    "national_insurance",
    "national_identity",
    "national_identification",
    "national_id",
    "identity",
    "personal",
    "personal_identification",
    "identification",
    "id",
    "tax",
    "tax_id",
    "tax_file",
    "taxpayer",
    "taxpayer_identification",
    "health",
    "national_tax",
    "personal_identity",
    "personal_public_service",
    "identity_card",
    "permanent_account",
    "birth",
    "foreigner",
    "identity_document",
    "individual",
    "patient",
    "population_registry",
    "resident_registration",
    "health_card",
    "health_insurance",
    "voter",
    "voter_id",
    "citizen",
    "citizenship",
    "residence",
]
"""Words that, with `number`, `no.`, `nr.`, `code` or `card`, name an identity number of any country."""

_BEFORE, _AFTER = 72, 32
_SHORTEST = 7
_FEWEST_DIFFERENT = 4


def _pattern(words: str) -> str:
    return re.escape(words).replace("_", "[ -]").replace(r"\_", "[ -]")


def _cases(word: str) -> set[str]:
    """Return the spellings of a word: a pattern of bytes ignores the case of ASCII letters only."""
    return {word} if word.isascii() else {word, word.upper(), word.capitalize()}


_WORDS = {word.replace("_", " "): modules for words, modules in _OF_WORDS.items() for word in words.split()}
_NAMED = re.compile(
    (
        r"(?<![A-Za-z0-9])(?P<word>"
        + "|".join(_pattern(form) for words in _OF_WORDS for word in words.split() for form in _cases(word))
        + r"|(?P<any>(?:"
        + "|".join(map(_pattern, _OF_ANY))
        + r")[ -]?(?:numbers?|no\.?|ids?|nr\.?|codes?|card|identifier|#)))(?![A-Za-z])"
        # Between word and number: signs, and words such as `is`.
        r"(?:[\s:#=.,\"'()-]|：|号码?|は|is|was|no|nr|number|nummer|ist|es|est|code|card|n°|nº){0,12}+"
        r"(?P<number>(?-i:[A-Z]{1,5}[ -]?)?\d[0-9A-Za-z./ -]{4,26})"
    ).encode(),
    re.IGNORECASE,
)


@cache
def _modules(names: str) -> list[Any]:
    return [get_cc_module(*name.split(".")) for name in names.split()]


def named(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the identity numbers in a run of digits that a word before them names.

    Args:
        data: the text.
        start: of the run.
        stop: of the run.
    """
    for match in _NAMED.finditer(data, max(start - _BEFORE, 0), min(stop + _AFTER, len(data))):
        begin = match.start("number")
        if begin < stop and match.end() > start:
            names = " ".join(_OF_WORDS.values()) if match["any"] else _names_of(match["word"])
            # What looks like the number's prefix may be a word before the number.
            digit = begin + next(at for at, code in enumerate(match["number"]) if chr(code).isdigit())
            if found := _longest(data, begin, match.end(), names) or _longest(data, digit, match.end(), names):
                yield found


def _names_of(word: bytes) -> str:
    plain = word.decode("utf-8", "replace").casefold()
    return next((names for known, names in _WORDS.items() if known.casefold() in (plain, plain.replace("-", " "))), "")


_ACCOUNT = re.compile(rb"(?<![A-Za-z0-9])[A-Z]{2}\d\d(?: ?[A-Z0-9]{1,4}){3,9}")


def accounts(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the international bank account numbers (IBAN) around a run of digits.

    Args:
        data: the text.
        start: of the run.
        stop: of the run.
    """
    for match in _ACCOUNT.finditer(data, max(start - _AFTER, 0), min(stop + _AFTER, len(data))):
        if match.start() < stop and (found := _longest_valid(data, match.start(), match.end(), iban.is_valid)):
            yield found


# Maps every capital to A and every digit to 0, so that `bytes.find` finds the forms below.
_CAPITALS = bytes.maketrans(
    bytes(range(256)),
    bytes(ord("A") if 65 <= code < 91 else ord("0") if 48 <= code < 58 else code for code in range(256)),
)
# The beginning of a number -> the module that validates it, if no word has to name it.
_FORMS = {
    b"AAAAAA00A00A000A": "it.codicefiscale",
    b"AAAA000000AAAAAA": "mx.curp",
    b"A0000000A": "es.nie",
    b"A-0000000A": "es.nie",
    b"A-0000000-A": "es.nie",
    b"000000A000A": "fi.hetu",
    b"AAAAA0000A": "",
    b"AAA0000000": "",
    b"0000000A": "",
    b"AAAA000000": "",
    b"AAAA 000000": "",
    b"AAAA-000000": "",
}
_WHOLE = re.compile(rb"[A-Z]-\d{7}-?[A-Z]|[A-Z]{4}[ -]\d{6}[ -][A-Z0-9]{3}|[A-Za-z0-9]+")


def lettered(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of the identity numbers with letters and fewer than eight digits in a row."""
    plain = data.translate(_CAPITALS)
    for form, names in _FORMS.items():
        place = plain.find(form)
        while place >= 0:
            is_beginning = place == 0 or plain[place - 1 : place] not in (b"A", b"0")
            whole = _WHOLE.match(data, place) if is_beginning else None
            if whole and names and (found := _longest(data, place, whole.end(), names)):
                yield found
            elif whole and not names:
                yield from named(data, place, whole.end())
            place = plain.find(form, place + 1)


def _longest(data: bytes, start: int, stop: int, names: str) -> tuple[int, int] | None:
    modules = _modules(names)
    return _longest_valid(data, start, stop, lambda number: any(is_valid(module, number) for module in modules))


def is_valid(module: Any, number: str) -> bool:
    """Return whether a number is valid by a module of python-stdnum."""
    try:
        return bool(module.is_valid(number))
    except (LookupError, ValueError):
        # python-stdnum raises for codes that its tables of regions do not contain.
        return False


def _longest_valid(data: bytes, start: int, stop: int, test: Callable[[str], bool]) -> tuple[int, int] | None:
    """Return the longest valid number that begins at `start` and ends where a word ends."""
    for end in range(stop, start + _SHORTEST - 1, -1):
        number = data[start:end]
        ends = not data[end : end + 1].isalnum() and number[-1:].isalnum()
        if ends and number.isascii() and len(set(number)) >= _FEWEST_DIFFERENT and test(number.decode()):
            return start, end
    return None
