"""Personal numbers that hold letters: each has a shape of its own, and most a checksum.

`bare` is worth the shape and its checksum alone, `near` the same with a word that names it. Written in lower case
without such a word a number loses 0.15: identifiers in code are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module

from guardproxy.checks.pii import checksums
from guardproxy.checks.pii.scan import Judge, Recogniser, Scan
from guardproxy.types import Finding

_SEPARATORS = re.compile(r"[ \-./()]")


def _std(module: str) -> Callable[[str], bool]:
    valid: Callable[[str], bool] = import_module(f"stdnum.{module}").is_valid
    return valid


def _judge(label: str, valid: Callable[[str], bool] | None, bare: float, near: float) -> Judge:
    def judge(scan: Scan, start: int, end: int) -> Iterator[Finding]:
        written = scan.text[start:end]
        number = _SEPARATORS.sub("", written).upper()
        if valid is not None and not valid(number):
            return
        named = label in scan.near(start, end)
        score = near if named else bare - (0.15 if written != written.upper() else 0)
        if not named and (scan.text[start - 1 : start] in ("-", "_") or re.match(r"[-_]\w", scan.text[end : end + 2])):
            score -= 0.4  # a part of a longer identifier
        if score > 0:
            yield Finding(label, start, end, score)

    return judge


def _id(label: str, pattern: str, valid: Callable[[str], bool] | str | None, bare: float, near: float) -> Recogniser:
    check = _std(valid) if isinstance(valid, str) else valid
    return Recogniser(frozenset({label}), rf"(?i)\b{pattern}", _judge(label, check, bare, near))


def _hetu(number: str) -> bool:
    # The separator says the century, so it must not be taken away; temporary numbers are as good as others.
    module = import_module("stdnum.fi.hetu")
    try:
        module.validate(number, allow_temporary=True)
    except ValueError:
        return False
    return True


def _finnish(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    if _hetu(scan.text[start:end].upper()):
        near = "FI_PERSONAL_IDENTITY_CODE" in scan.near(start, end)
        yield Finding("FI_PERSONAL_IDENTITY_CODE", start, end, 0.97 if near else 0.92)


_MBI_LETTER = "[AC-HJKMNP-RT-Y]"
_MBI_ANY = "[0-9AC-HJKMNP-RT-Y]"
_OMOCODE = "[0-9LMNP-V]"  # Italian digits may be replaced by letters where two people would share a code

NATIONAL = (
    _id("UK_NINO", r"[A-CEGHJ-PR-TW-Z]{2}(?:[ \-]?\d{2}){3}[ \-]?[A-D]\b", checksums.uk_nino, 0.65, 0.9),
    _id("UK_DRIVING_LICENCE", r"[A-Z]{1,5}9{0,4}\d[0156]\d(?:[0-2]\d|3[01])\d[A-Z9]{2}[A-Z0-9]{3}\b",
        lambda number: len(number) == 16, 0.8, 0.9),
    _id("ES_NIF", r"\d{8}[ \-]?[A-Z]\b", "es.dni", 0.7, 0.95),
    _id("ES_NIE", r"[XYZ][ \-]?\d{7}[ \-]?[A-Z]\b", "es.nie", 0.85, 0.97),
    _id("IT_FISCAL_CODE", rf"[A-Z]{{6}}{_OMOCODE}{{2}}[A-EHLMPR-T]{_OMOCODE}{{2}}[A-Z]{_OMOCODE}{{3}}[A-Z]\b",
        "it.codicefiscale", 0.97, 0.98),
    _id("FR_NIR", r"[12] ?\d{2} ?\d{2} ?2[AB] ?\d{3} ?\d{3} ?\d{2}\b", "fr.nir", 0.97, 0.98),
    _id("DE_SOCIAL_SECURITY", r"\d{2} ?\d{6} ?[A-Z] ?\d{3}\b", checksums.de_social_security, 0.8, 0.95),
    _id("PT_CC", r"\d{8} ?\d ?[A-Z0-9]{2}\d\b", "pt.cc", 0.6, 0.95),
    _id("IE_PPS", r"\d{7}[A-W][ABHWTX]?\b", "ie.pps", 0.45, 0.95),
    Recogniser(frozenset({"FI_PERSONAL_IDENTITY_CODE"}), r"(?i)\b\d{6}[\-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]\b", _finnish),
    _id("CN_RIC", r"[1-9]\d{16}X\b", "cn.ric", 0.95, 0.98),
    _id("TW_ID", r"[A-Z][1289]\d{8}\b", checksums.tw_id, 0.6, 0.93),
    _id("HK_ID", r"[A-Z]{1,2}\d{6}\([0-9A]\)", checksums.hk_id, 0.9, 0.96),
    _id("SG_NRIC_FIN", r"[STFGM]\d{7}[A-Z]\b", checksums.sg_nric, 0.8, 0.95),
    _id("IN_PAN", r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]\b", None, 0.6, 0.88),
    _id("MX_CURP", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d\b", "mx.curp", 0.97, 0.98),
    _id("MX_RFC", r"[A-ZÑ&]{4}\d{6}[A-Z0-9]{3}\b", "mx.rfc", 0.7, 0.93),
    _id("CL_RUT", r"\d{1,2}\.\d{3}\.\d{3}-[0-9K]\b", "cl.rut", 0.85, 0.95),
    _id("CL_RUT", r"\d{7,8}-[0-9K]\b", "cl.rut", 0.45, 0.95),
    _id("US_MBI", rf"[1-9]{_MBI_LETTER}{_MBI_ANY}\d-?{_MBI_LETTER}{_MBI_ANY}\d-?{_MBI_LETTER}{{2}}\d{{2}}\b",
        None, 0.65, 0.88),
    _id("MEDICAL_LICENSE", r"[A-HJ-NP-UX][A-Z9]\d{7}\b", checksums.us_dea, 0.4, 0.9),
)  # fmt: skip
