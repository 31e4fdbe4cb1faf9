"""Other people in the same sentences: marked entities replaced by invented ones, so that a model learns where names
stand and not which names there are.

The values are Faker's, of many countries. A replacement keeps the way in which the original was written (case, how many
words), and a row's equal values stay equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

from numpy.random import Generator

from guardproxy.evaluation.datasets import Row, Span

SHARE = 0.5  # of the rows that are changed at all
EACH = 0.7  # of the entities in such a row
LOCALES = (
    "en_US", "en_GB", "en_IN", "en_AU", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "pt_BR", "pt_PT",
    "sv_SE", "da_DK", "fi_FI", "no_NO", "cs_CZ", "hu_HU", "ro_RO", "tr_TR", "id_ID", "vi_VN", "ga_IE", "hr_HR",
)  # fmt: skip
_HOME = {"en": LOCALES[:4], "de": ("de_DE",), "fr": ("fr_FR",), "es": ("es_ES",), "it": ("it_IT",), "nl": ("nl_NL",)}


def augmented(row: Row, random: Generator) -> Row:
    """The row, or one with other entities. Rows without spans, or with nested ones, are left as they are."""
    spans = row.spans or ()
    if not spans or random.random() > SHARE or any(a.end > b.start for a, b in pairwise(spans)):
        return row
    text, moved, at = "", [], 0
    same: dict[tuple[str, str], str] = {}
    for span in spans:
        written = row.text[span.start : span.end]
        value = same.get((span.label, written))
        if value is None:
            value = _other(span, written, row.lang, random) if random.random() < EACH else written
            same[span.label, written] = value
        text += row.text[at : span.start]
        moved.append(Span(span.label, len(text), len(text) + len(value)))
        text += value
        at = span.end
    return replace(row, text=text + row.text[at:], spans=tuple(moved))


def _other(span: Span, written: str, lang: str, random: Generator) -> str:
    if span.label in ("ID_NUMBER", "BANK_ACCOUNT", "PHONE_NUMBER"):
        return "".join(str(random.integers(10)) if letter in "0123456789" else letter for letter in written)
    make = _MAKERS.get(span.label)
    if make is None:
        return written
    locales: Sequence[str] = LOCALES if random.random() < 0.4 else _HOME.get(lang, LOCALES)
    faker = _faker(str(random.choice(locales)))
    faker.seed_instance(int(random.integers(2**31)))
    return _as_written(make(faker, len(written.split()), random), written)


def _person(faker: Any, words: int, random: Generator) -> str:
    if words == 1:
        return str(faker.first_name() if random.random() < 0.75 else faker.last_name())
    return f"{faker.first_name()} {faker.last_name()}"


def _address(faker: Any, words: int, random: Generator) -> str:
    if words < 5:
        return str(faker.street_address().replace("\n", ", "))
    return str(faker.address().replace("\n", ", "))


_MAKERS: Mapping[str, Callable[[Any, int, Generator], str]] = {
    "PERSON": _person,
    "ADDRESS": _address,
    "ORGANIZATION": lambda faker, words, random: str(faker.company()),
    "LOCATION": lambda faker, words, random: str(faker.city() if random.random() < 0.8 else faker.country()),
    "USERNAME": lambda faker, words, random: str(faker.user_name()),
}


def _as_written(value: str, written: str) -> str:
    """The value in the other's case, and with its at sign."""
    value = f"@{value}" if written.startswith("@") else value
    if written.islower():
        return value.lower()
    return value.upper() if written.isupper() and len(written) > 3 else value


@cache
def _faker(locale: str) -> Any:
    from faker import Faker

    return Faker(locale)
