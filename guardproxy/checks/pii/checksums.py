"""Checks of numbers that python-stdnum does not know, and thin covers for those that it wants in a special form.

Each takes the bare number, upper case and without separators, and says whether it can be one. Algorithms are those
that the issuing authorities publish.
"""

from __future__ import annotations

from datetime import date

from stdnum import luhn
from stdnum.se import personnummer

_INVALID_NINO = frozenset({"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"})


def _digit_sum(number: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False))


def is_day(year: int, month: int, day: int) -> bool:
    """Whether there is such a day."""
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _yymmdd(digits: str) -> bool:
    year, month, day = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    return is_day(1900 + year, month, day) or is_day(2000 + year, month, day)


def us_ssn(number: str) -> bool:
    """Areas 000, 666 and 900-999, group 00 and serial 0000 were never issued."""
    area, group, serial = number[:3], number[3:5], number[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000" and len(set(number)) > 1


def us_npi(number: str) -> bool:
    """Luhn over the number with the prefix of US health identifiers, 80840."""
    return number[0] in "12" and bool(luhn.is_valid("80840" + number))


def au_medicare(number: str) -> bool:
    """Weighted sum of the first eight digits, modulo ten, is the ninth; the tenth is an issue number."""
    return (
        "2" <= number[0] <= "6"
        and _digit_sum(number, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(number[8])
        and number[9:10] != "0"
    )


def se_personnummer(number: str) -> bool:
    """Ten or twelve digits."""
    return bool(personnummer.is_valid(f"{number[:-4]}-{number[-4:]}"))


def ru_snils(number: str) -> bool:
    """Nine digits weighted nine to one, modulo 101, are the last two."""
    total = _digit_sum(number[:9], (9, 8, 7, 6, 5, 4, 3, 2, 1)) % 101 % 100
    return number > "00100199800" and total == int(number[9:])


def ae_emirates_id(number: str) -> bool:
    """784, year of birth, seven digits, Luhn."""
    return number.startswith("784") and "1900" <= number[3:7] <= "2100" and bool(luhn.is_valid(number))


def sa_national_id(number: str) -> bool:
    """Starts with 1 (citizen) or 2 (resident), Luhn."""
    return number[0] in "12" and bool(luhn.is_valid(number))


def kr_rrn_shape(number: str) -> bool:
    """Date of birth, then the digit for sex and century. Numbers issued since October 2020 have no check digit."""
    return "1" <= number[6] <= "4" and _yymmdd(number)


def sg_nric(number: str) -> bool:
    """Prefix S, T, F, G or M, seven digits, and a letter from the table of that prefix."""
    total = _digit_sum(number[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(number[0], 0)
    if number[0] == "M":
        return "KLJNPQRTUWX"[10 - total % 11] == number[8]
    return ("JZIHGFEDCBA" if number[0] in "ST" else "XWUTRQPNMLK")[total % 11] == number[8]


def uk_nino(number: str) -> bool:
    """Some prefixes are not used."""
    return number[:2] not in _INVALID_NINO


def de_social_security(number: str) -> bool:
    """Area, date of birth, initial, serial, check digit (sum of the digits of products, modulo ten)."""
    if not (is_day(1900 + int(number[6:8]), int(number[4:6]), int(number[2:4]) % 50 or 1)):
        return False
    digits = number[:8] + f"{ord(number[8]) - 64:02d}" + number[9:11]
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    total = sum(sum(divmod(int(digit) * weight, 10)) for digit, weight in zip(digits, weights, strict=True))
    return total % 10 == int(number[11])


def tw_id(number: str) -> bool:
    """The letter counts as a two-digit number; weights 1, 9 to 1, 1; the sum is a multiple of ten."""
    code = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(number[0]) + 10
    return (code // 10 + code % 10 * 9 + _digit_sum(number[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0


def hk_id(number: str) -> bool:
    """One or two letters, six digits and a check character; weights 9 to 1, modulo eleven."""
    body = number[:-1].rjust(8)
    values = [36 if char == " " else int(char, 36) for char in body]
    total = sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True))
    return (total + (10 if number[-1] == "A" else int(number[-1]))) % 11 == 0


def us_dea(number: str) -> bool:
    """Two letters and seven digits: the last is the last digit of d1+d3+d5+2*(d2+d4+d6)."""
    digits = [int(char) for char in number[2:]]
    return (sum(digits[0:5:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


def mrz(field: str) -> int:
    """The check digit of a field of a machine-readable travel document (ICAO 9303): weights 7, 3, 1."""
    return sum((0 if char == "<" else int(char, 36)) * (7, 3, 1)[at % 3] for at, char in enumerate(field)) % 10
