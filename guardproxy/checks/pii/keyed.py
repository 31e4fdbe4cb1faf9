"""What has no shape of its own and is known only by the words before it: dates of birth, passports, licences, accounts.

The automaton looks for the words; a short stretch behind each is then searched for the value. The machine-readable
lines of passports are here too; they have a shape, and check digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from guardproxy.checks.pii.checksums import is_day, mrz
from guardproxy.checks.pii.scan import Judge, Recogniser, Scan
from guardproxy.types import Finding

_REACH = 48

_MONTHS = {
    prefix: number
    for number, prefixes in enumerate(
        (
            "jan ene gen янв", "feb fév fev фев", "mar mär maerz mrt мар", "apr avr abr апр",
            "may mai mei mag maj мая май",
            "jun juin giu июн", "jul juil lug июл", "aug aoû aou ago авг", "sep set сен", "oct okt ott out окт",
            "nov ноя", "dec dez déc dic дек",
        ),
        1,
    )
    for prefix in prefixes.split()
}  # fmt: skip
_NUMERIC = re.compile(
    r"(?<!\d)(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)|(?<!\d)(\d{1,2})([-/. ])(\d{1,2})\6(\d{4}|\d{2})(?!\d)"
)
_WORDED = re.compile(
    r"(?<!\d)(\d{1,2})(?:st|nd|rd|th|er|\.|º)?(?: of| de|-)?[ \-]?([^\W\d_]{3,12})\.?,?"
    r"(?: de| del|-)?[ \-](\d{4}|\d{2})(?!\d)"
    r"|([^\W\d_]{3,12})\.? (\d{1,2})(?:st|nd|rd|th)?,? ?(\d{4})(?!\d)"
)
_ASIAN = re.compile(r"(\d{4}) ?[年년] ?(\d{1,2}) ?[月월] ?(\d{1,2}) ?[日일]")
_COMPACT = re.compile(r"(?<![\w-])(19\d\d|20[0-2]\d)(\d\d)(\d\d)(?![\w-])")
_SENTENCE_END = re.compile(r"[.!?;]\s")


def _month(word: str) -> int:
    lower = word.lower()
    return next((_MONTHS[lower[:size]] for size in (5, 4, 3) if lower[:size] in _MONTHS), 0)


def _year(digits: str) -> int:
    return int(digits) if len(digits) == 4 else 1900 + int(digits)


def _is_birthday(year: int, month: int, day: int) -> bool:
    return 1880 <= year <= 2035 and (is_day(year, month, day) or is_day(year, day, month))


def _date_in(stretch: str) -> re.Match[str] | None:
    """The first date in a short stretch of text."""
    found = []
    for match in _NUMERIC.finditer(stretch):
        a = match.groups()
        if _is_birthday(*((int(a[0]), int(a[2]), int(a[3])) if a[0] else (_year(a[7]), int(a[6]), int(a[4])))):
            found.append(match)
    for match in _WORDED.finditer(stretch):
        a = match.groups()
        day, month, year = (a[0], a[1], a[2]) if a[0] else (a[4], a[3], a[5])
        if _month(month) and _is_birthday(_year(year), _month(month), int(day)):
            found.append(match)
    for pattern in (_ASIAN, _COMPACT):
        found.extend(m for m in pattern.finditer(stretch) if _is_birthday(int(m[1]), int(m[2]), int(m[3])))
    return min(found, key=lambda match: match.start(), default=None)


def _birth(verb: bool) -> Judge:
    def judge(scan: Scan, _: int, end: int) -> Iterator[Finding]:
        match = _date_in(scan.text[end : end + _REACH])
        if match and not (verb and _SENTENCE_END.search(scan.text[end : end + match.start()])):
            yield Finding("DATE_OF_BIRTH", end + match.start(), end + match.end(), 0.8 if verb else 0.9)

    return judge


_PASSPORT_NUMBER = re.compile(
    r"(?<![\w-])(?:\d{2} ?\d{2} ?\d{6}|[A-Za-z]{0,3}\d{5,9}|[A-Za-z]\d[A-Za-z]\d{5,6}|\d{2}[A-Za-z]{2}\d{5})(?![\w-])"
)
_AMERICAN = re.compile(r"u\.?s\.?a?\b|america|united states", re.IGNORECASE)
_AMERICAN_NUMBER = re.compile(r"[A-Za-z]?\d{8,9}")


def _passport(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    match = _PASSPORT_NUMBER.search(scan.text, end, end + _REACH)
    if match is None or _SENTENCE_END.search(scan.text[end : match.start()]):
        return
    american = _AMERICAN_NUMBER.fullmatch(match[0]) and _AMERICAN.search(scan.text[max(0, start - 20) : end + 20])
    yield Finding("US_PASSPORT" if american else "PASSPORT", match.start(), match.end(), 0.75)


_LICENCE_NUMBER = re.compile(r"(?<![\w-])(?=(?:[A-Za-z\-]*\d){4})[A-Za-z0-9\-]{6,18}(?![\w-])")
_ACCOUNT_NUMBER = re.compile(r"^[^\d\n.;,]{0,16}?(?<![\w-])(\d(?:[ -]?\d){5,16})(?![\w-])")


def _licence(label: str) -> Judge:
    def judge(scan: Scan, _: int, end: int) -> Iterator[Finding]:
        match = _LICENCE_NUMBER.search(scan.text, end, end + _REACH - 8)
        if match and not _SENTENCE_END.search(scan.text[end : match.start()]):
            yield Finding(label, match.start(), match.end(), 0.7)

    return judge


def _account(scan: Scan, _: int, end: int) -> Iterator[Finding]:
    match = _ACCOUNT_NUMBER.match(scan.text[end : end + _REACH])
    if match:
        yield Finding("US_BANK_NUMBER", end + match.start(1), end + match.end(1), 0.65)


def _mrz(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """The second line of a passport (TD3): number, date of birth and date of expiry each have a check digit."""
    line = scan.text[start:end]
    fields = ((line[0:9], line[9]), (line[13:19], line[19]), (line[21:27], line[27]))
    if any(str(mrz(field)) != digit for field, digit in fields):
        return
    above = scan.text.rfind("P", max(0, start - 46), start - 40)
    if above >= 0 and re.fullmatch(r"P[A-Z<]{43}\s{1,2}", scan.text[above:start]):
        start = above
    yield Finding("PASSPORT", start, end, 0.98)


_BIRTH_NOUNS = (
    r"(?i)(?:date[ _-]?of[ _-]?birth|birth[ _-]?(?:date|day)|\bd\.?o\.?b\b|date de naissance"
    r"|geburts(?:datum|tag)|\bgeb\.|fecha[ _]de[ _]nacimiento|data di nascita|data de nascimento"
    r"|geboortedatum|data urodzenia|födelse(?:datum|dag)"
    r"|fødselsdato|syntymäaika|doğum tarihi|data nașterii|datum narození|születési|дата рождения|дата народження"
    r"|ημερομηνία γέννησης|出生日期|出生年月|生年月日|생년월일|تاريخ الميلاد|วันเกิด|जन्म तिथि|जन्मतिथि)"
)
_BIRTH_VERBS = (
    r"(?i)(?:\bborn\b|\bnée? le\b|\bné\(e\) le|\bgeboren\b|\bnacid[oa]\b|\bnat[oa] (?:il|a)\b|\bnascid[oa]\b"
    r"|\burodzon|\bur\. |\bfödd\b|\bfødt\b|\bdoğum|родил(?:ся|ась)|生まれ|出生于|출생)"
)
_PASSPORT_WORDS = (
    r"(?i)(?:passports?|passeport|reisepass|pasaporte|passaporto|passaporte|paspoort|paszport|pasaport|\bpass-?nr"
    r"|travel document|паспорт|διαβατήριο|护照|護照|パスポート|여권|جواز)"
)
_LICENCE_WORDS = r"(?i)(?:driv(?:er'?s?|ing)[ _-]?licen[cs]e|\bdl ?(?:#|no\b|number|:))"
_OTHER_LICENCE_WORDS = (
    r"(?i)(?:führerschein|permis de conduire|(?:carnet|licencia|permiso) de conducir|patente di guida|rijbewijs"
    r"|prawo jazdy|carteira de motorista|körkort)"
)
_ACCOUNT_WORDS = (
    r"(?i)(?:\bacc(?:oun)?t\.?[ _-]?(?:number|no\b|num\b|nr\b|#|:)|\bacct\b|\ba/c\b|bank account"
    r"|(?:checking|savings) account|kontonummer|konto-?nr"
    r"|numéro de compte|número de cuenta|numero di conto|número da conta|rekeningnummer|口座番号|账号)"
)

KEYED = (
    Recogniser(frozenset({"DATE_OF_BIRTH"}), _BIRTH_NOUNS, _birth(verb=False)),
    Recogniser(frozenset({"DATE_OF_BIRTH"}), _BIRTH_VERBS, _birth(verb=True)),
    Recogniser(frozenset({"PASSPORT", "US_PASSPORT"}), _PASSPORT_WORDS, _passport),
    Recogniser(
        frozenset({"PASSPORT"}),
        r"[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{14}[0-9<][0-9]",
        _mrz,
    ),
    Recogniser(frozenset({"US_DRIVER_LICENSE"}), _LICENCE_WORDS, _licence("US_DRIVER_LICENSE")),
    Recogniser(frozenset({"DRIVER_LICENSE"}), _OTHER_LICENCE_WORDS, _licence("DRIVER_LICENSE")),
    Recogniser(frozenset({"US_BANK_NUMBER"}), _ACCOUNT_WORDS, _account),
    Recogniser(frozenset({"US_BANK_NUMBER"}), r"(?i)(\baccount[ \t]{1,2}#?)\d", _account),
)
