"""Numbers made of digits alone: one pattern finds every run, a table keyed by its grouping says what it may be.

The grouping is written as the lengths of the groups and what stands between them: "3-2-4" is 078-05-1120, "9" the same
digits without separators. Digits spelled out one by one ("4 1 1 1 ...") count as ungrouped. What a rule is worth
depends on how much evidence there is: the bare digits, the customary grouping, or a word that names the number nearby.
A checksum that one number in ten or eleven passes by chance is no evidence by itself: such rules are worth nothing
without words or grouping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

from guardproxy.checks.pii import checksums
from guardproxy.checks.pii.finance import card
from guardproxy.checks.pii.phones import phones
from guardproxy.checks.pii.runs import Group, embedded, groups_of
from guardproxy.checks.pii.scan import Recogniser, Scan
from guardproxy.types import Finding

RUN = r"\d(?:[ \t\-./()]{0,3}\d){6,}"
_LONGEST = 19
_WIDEST = 10  # groups
_TIGHT = frozenset("-./")
_LETTER_BY_LETTER = 9  # this many lone digits in a row are one number spelled out


@dataclass(frozen=True, slots=True)
class Rule:
    """What digits in one of `forms` may be, if `valid`. Scores: `bare` digits, customarily `formed`, named `near`."""

    label: str
    forms: tuple[str, ...]
    valid: Callable[[str], bool]
    bare: float
    formed: float
    near: float


def _std(module: str) -> Callable[[str], bool]:
    valid: Callable[[str], bool] = import_module(f"stdnum.{module}").is_valid
    return valid


def _rule(label: str, forms: str, valid: Callable[[str], bool] | str, bare: float, formed: float, near: float) -> Rule:
    split = tuple(form.replace("_", " ") for form in forms.split())
    return Rule(label, split, _std(valid) if isinstance(valid, str) else valid, bare, formed, near)


# fmt: off
RULES = (
    _rule("CREDIT_CARD", "13 14 15 16 19 4-4-4-4 4_4_4_4 4.4.4.4 4-6-5 4_6_5 4-6-4 4_6_4 4_4_4_4_3 4-4-4-4-3 "
          "2_2_2_2_2_2_2_2 8_8 6_10", card, .85, .97, .99),
    _rule("US_SSN", "9 3-2-4 3_2_4 3.2.4 3/2/4", checksums.us_ssn, 0, .65, .88),
    _rule("US_ITIN", "9 3-2-4 3_2_4", "us.itin", 0, .6, .88),
    _rule("US_NPI", "10 4_3_3", checksums.us_npi, 0, 0, .88),
    _rule("ABA_ROUTING_NUMBER", "9 4-4-1", "us.rtn", 0, .5, .88),
    _rule("UK_NHS", "10 3-3-4 3_3_4", "gb.nhs", 0, .4, .9),
    _rule("CA_SIN", "9 3-3-3 3_3_3", "ca.sin", 0, .5, .9),
    _rule("AU_TFN", "9 3_3_3", "au.tfn", 0, .4, .9),
    _rule("AU_ABN", "11 2_3_3_3", "au.abn", .3, .85, .95),
    _rule("AU_MEDICARE", "10 11 4_5_1 4-5-1", checksums.au_medicare, 0, .75, .9),
    _rule("NZ_IRD", "9 3-3-3 2-3-3 3_3_3", "nz.ird", 0, .4, .9),
    _rule("IN_AADHAAR", "12 4_4_4 4-4-4", "in_.aadhaar", .3, .75, .95),
    _rule("PK_CNIC", "13 5-7-1", "pk.cnic", 0, .65, .88),
    _rule("KR_RRN", "13 6-7", "kr.rrn", .4, .95, .97),
    _rule("KR_RRN", "6-7", checksums.kr_rrn_shape, 0, .65, .88),
    _rule("TH_TNIN", "13 1-4-5-2-1 1_4_5_2_1", "th.pin", .35, .95, .95),
    _rule("JP_MY_NUMBER", "12 4_4_4 4-4-4", "jp.in_", 0, .4, .92),
    _rule("CN_RIC", "18", "cn.ric", .95, .95, .98),
    _rule("MY_NRIC", "12 6-2-4", "my.nric", 0, .8, .88),
    _rule("ID_NIK", "16", "id.nik", .4, .4, .88),
    _rule("DE_TAX_ID", "11 2_3_3_3", "de.idnr", .4, .8, .95),
    _rule("FR_NIR", "13 15 1_2_2_2_3_3 1_2_2_2_3_3_2 1.2.2.2.3.3.2 13_2", "fr.nir", .9, .97, .98),
    _rule("NL_BSN", "9 4.2.3 3_3_3 3.3.3", "nl.bsn", 0, .4, .92),
    _rule("BE_NN", "11 2.2.2-3.2 6-3.2 6_3_2 2_2_2_3_2 2.2.2.3-2", "be.nn", .75, .95, .97),
    _rule("PT_NIF", "9 3_3_3", "pt.nif", 0, .4, .9),
    _rule("SE_PERSONNUMMER", "10 12 6-4 8-4", checksums.se_personnummer, .3, .75, .95),
    _rule("SE_PERSONNUMMER", "12", checksums.se_personnummer, .6, .75, .95),
    _rule("DK_CPR", "10 6-4", "dk.cpr", 0, .5, .88),
    _rule("NO_FODSELSNUMMER", "11 6_5", "no.fodselsnummer", .75, .85, .97),
    _rule("IS_KENNITALA", "10 6-4", "is_.kennitala", .3, .7, .95),
    _rule("CH_AHV", "13 3.4.4.2", "ch.ssn", .85, .98, .98),
    _rule("AT_SVNR", "10 4_6 4-6", "at.vnr", .3, .6, .92),
    _rule("PL_PESEL", "11", "pl.pesel", .6, .6, .97),
    _rule("CZ_RODNE_CISLO", "10 6/4", "cz.rc", 0, .9, .95),
    _rule("RO_CNP", "13", "ro.cnp", .75, .75, .97),
    _rule("BG_EGN", "10", "bg.egn", .3, .3, .92),
    _rule("HR_OIB", "11", "hr.oib", 0, 0, .92),
    _rule("EE_IK", "11", "ee.ik", .4, .4, .95),
    _rule("LT_ASMENS_KODAS", "11", "lt.asmens", .4, .4, .95),
    _rule("GR_AMKA", "11", "gr.amka", .4, .4, .95),
    _rule("SI_EMSO", "13", "si.emso", .7, .7, .97),
    _rule("RU_INN", "12", "ru.inn", .3, .3, .92),
    _rule("RU_SNILS", "11 3-3-3_2 3-3-3-2", checksums.ru_snils, 0, .92, .95),
    _rule("UA_RNTRC", "10", "ua.rntrc", 0, 0, .9),
    _rule("TR_NATIONAL_ID", "11", "tr.tckimlik", .4, .4, .95),
    _rule("IL_ID", "9 8-1", "il.idnr", 0, .4, .88),
    _rule("AE_EMIRATES_ID", "15 3-4-7-1", checksums.ae_emirates_id, .8, .97, .97),
    _rule("SA_NATIONAL_ID", "10", checksums.sa_national_id, 0, 0, .88),
    _rule("ZA_ID_NUMBER", "13 6_4_2_1 6_4_3", "za.idnr", .6, .9, .97),
    _rule("BR_CPF", "11 3.3.3-2 3_3_3_2", "br.cpf", .4, .96, .97),
    _rule("AR_CUIT", "11 2-8-1", "ar.cuit", .3, .85, .93),
    _rule("DO_CEDULA", "11 3-7-1", "do.cedula", 0, .85, .92),
    _rule("EC_CEDULA", "10", "ec.ci", 0, 0, .88),
)
# fmt: on

_BY_FORM: dict[str, list[Rule]] = {}
for _each in RULES:
    for _form in _each.forms:
        _BY_FORM.setdefault(_form, []).append(_each)
_BEGINNINGS = frozenset(form[: match.end()] for form in _BY_FORM for match in re.finditer(r"\d+", form))
_LONE = frozenset(int(form) for form in _BY_FORM if form.isdigit())


def _candidates(text: str, groups: list[Group]) -> Iterator[tuple[str, int, int]]:
    """Every stretch of whole groups that has a form the table knows: the form, start, end."""
    for first, group in enumerate(groups):
        if group.gap in _TIGHT:
            continue  # joined to the group before: not the start of a number
        form, digits = "", 0
        for last in range(first, min(first + _WIDEST, len(groups))):
            size = groups[last].end - groups[last].start
            digits += size
            if digits > _LONGEST:
                break
            form += f"{groups[last].gap}{size}" if last > first else str(size)
            joined = last + 1 < len(groups) and groups[last + 1].gap in _TIGHT
            if form not in _BEGINNINGS:
                break
            if form in _BY_FORM and not joined:
                yield form, group.start, groups[last].end


def _spelled(groups: list[Group]) -> Iterator[tuple[str, int, int]]:
    """Stretches of lone digits, as if they were written together.

    More of them than any number has are a table or a sequence, in which some stretch passes every checksum by chance.
    """
    first = 0
    while first < len(groups):
        last = first
        while last < len(groups) and groups[last].end - groups[last].start == 1:
            last += 1
        count = last - first
        if _LETTER_BY_LETTER <= count <= _LONGEST:
            for length in _LONE:
                for begin in range(first, last - length + 1):
                    yield str(length), groups[begin].start, groups[begin + length - 1].end
        first = last + 1


def judge_numbers(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """What the numbers in a run of digits may be, phone numbers included."""
    text = scan.text
    groups = groups_of(text, start, end)
    yield from phones(scan, groups)
    candidates = list(_candidates(text, groups))
    if len(groups) >= _LETTER_BY_LETTER:
        candidates.extend(_spelled(groups))
    for form, begin, finish in candidates:
        digits = "".join(filter(str.isdigit, text[begin:finish]))
        rules = [rule for rule in _BY_FORM[form] if rule.valid(digits)]
        if rules:
            yield from _score(scan, rules, form, begin, finish)


def _score(scan: Scan, rules: list[Rule], form: str, start: int, end: int) -> Iterator[Finding]:
    near = scan.near(start, end)
    inside = embedded(scan.text, start, end)
    for rule in rules:
        score = rule.bare if form.isdigit() else rule.formed
        if inside:
            score -= 0.4
        if rule.label in near:
            score = rule.near
        if score > 0:
            yield Finding(rule.label, start, end, score)


NUMBERS = Recogniser(frozenset(rule.label for rule in RULES) | {"PHONE_NUMBER"}, rf"\b{RUN}\b", judge_numbers)
