"""Payment cards, bank accounts and wallets: all of them carry checksums, and the checksum decides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import reduce

from stdnum import bitcoin, luhn

from guardproxy.checks.pii.keccak import keccak_256
from guardproxy.checks.pii.scan import Recogniser, Scan
from guardproxy.types import Finding

# Issuer prefixes: first and last prefix, lengths.
_ISSUERS = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 19)),  # Discover
    ("622", "622", (16, 17, 18, 19)),  # UnionPay
    ("62", "62", (16, 17, 18, 19)),
    ("644", "649", (16, 19)),
    ("65", "65", (16, 19)),
    ("300", "305", (14, 16)),  # Diners Club
    ("36", "36", (14, 16)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 19)),  # JCB
    ("50", "50", (16, 19)),  # Maestro
    ("56", "58", (16, 19)),
    ("6", "6", (16,)),
    ("2200", "2204", (16, 19)),  # Mir
)  # fmt: skip


def card(number: str) -> bool:
    """Whether an issuer has such numbers and the Luhn check digit is right."""
    length = len(number)
    if number[0] not in "23456" or len(set(number)) < 2:
        return False
    issued = any(length in lengths and low <= number[: len(low)] <= high for low, high, lengths in _ISSUERS)
    return issued and bool(luhn.is_valid(number))


# Lengths of the countries' account numbers (ISO 13616 registry).
_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE BI", "18": "DK FO FI GL NL SD FK", "19": "MK SI", "20": "AT BA EE KZ LT LU MN XK",
        "21": "HR LV LI CH", "22": "BH BG CR GE DE IE ME RS GB VA", "23": "IL TL AE GI IQ OM SO",
        "24": "AD CZ MD PK RO SA SK ES SE TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BF FR GR IT MC MR SM DJ",
        "28": "AL AZ BY CY DO GT HU LB PL SV NI", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC",
        "32": "LC", "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IBAN = r"(?i)\b[A-Z]{2}[ \-]?\d{2}(?:[ \-]?[A-Z0-9]){11}"
_IBAN_REST = re.compile(r"[A-Za-z0-9]{0,20}")
_IBAN_CHARACTER = re.compile(r"[ \-]?([A-Za-z0-9])")


def _iban(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    compact, finish = "", start
    wanted = _IBAN_LENGTHS.get(scan.text[start : start + 2].upper(), 0)
    while len(compact) < wanted and (match := _IBAN_CHARACTER.match(scan.text, finish)):
        compact += match[1].upper()
        finish = match.end()
    whole = wanted and len(compact) == wanted and not scan.text[finish : finish + 1].isalnum()
    if whole and int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1:
        yield Finding("IBAN_CODE", start, finish, 0.98)
    elif "iban" in scan.text[max(0, start - 20) : start].lower():
        # misspelt or made up, but meant as one
        rest = _IBAN_REST.match(scan.text, end)
        yield Finding("IBAN_CODE", start, finish if whole or rest is None else rest.end(), 0.5)


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32M = 0x2BC830A3  # BIP 350


def _is_bitcoin(address: str) -> bool:
    if address[:3].lower() != "bc1":
        return _is_base58(address)
    if address not in (address.lower(), address.upper()):
        return False
    data = [_BECH32.find(char) for char in address[3:].lower()]
    if min(data) < 0:
        return False
    prefix = [3, 3, 0, 2, 3]  # "bc", spread as BIP 173 says
    expected = 1 if data[0] == 0 else _BECH32M
    return bool(bitcoin.bech32_checksum(prefix + data) == expected)


def _is_base58(address: str) -> bool:
    value = reduce(lambda total, char: total * 58 + _BASE58.index(char), address, 0)
    try:
        raw = value.to_bytes(25, "big")
    except OverflowError:
        return False
    return hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def _bitcoin(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    if _is_bitcoin(scan.text[start:end]):
        yield Finding("CRYPTO", start, end, 0.98)


def _ethereum(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """EIP-55: a letter is upper case where the hash of the lower-case address has a digit of 8 or more."""
    address = scan.text[start + 2 : end]
    if address in (address.lower(), address.upper()):
        yield Finding("CRYPTO", start, end, 0.8)
        return
    if not scan.afford():
        yield Finding("CRYPTO", start, end, 0.5)
        return
    digits = keccak_256(address.lower().encode()).hex()
    right = all(
        char.isdigit() or char.isupper() == (digit >= "8") for char, digit in zip(address, digits, strict=False)
    )
    yield Finding("CRYPTO", start, end, 0.98 if right else 0.4)


FINANCE = (
    Recogniser(frozenset({"IBAN_CODE"}), _IBAN, _iban),
    Recogniser(
        frozenset({"CRYPTO"}),
        r"\b(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|(?i:bc1[02-9ac-hj-np-z]{11,87}))\b",
        _bitcoin,
    ),
    Recogniser(frozenset({"CRYPTO"}), r"\b0[xX][0-9a-fA-F]{40}\b", _ethereum),
)
